// @ts-check
// Part III: recorded runs by data set, sweep and metric, as curves over epochs and as a table.

import {
  assemble,
  change,
  choice,
  clamp,
  fixed,
  html,
  line,
  nearest,
  panel,
  readout,
  slider,
  sum,
  text,
  tickValues,
} from "./kit.js";

// Light and dark; the first is for what the others are measured against.
const SERIES = [
  ["#6b7480", "#a3adba"],
  ["#00835f", "#35c199"],
  ["#c45500", "#ff9150"],
  ["#0072b2", "#5fb0ff"],
  ["#b0508f", "#e79bc8"],
  ["#8a6a00", "#d6b03c"],
];

/**
 * The colour of one of several curves; where they are many, those after the first are along a spectrum.
 * @type {(place: number, count: number) => string}
 */
function seriesColour(place, count) {
  if (place === 0 || count <= SERIES.length) return `light-dark(${SERIES[place].join(", ")})`;
  const hue = Math.round(300 - (260 * (place - 1)) / (count - 2));
  return `light-dark(oklch(0.54 0.14 ${hue}), oklch(0.77 0.12 ${hue}))`;
}

/**
 * One of several, in a native menu: short on a phone, and with the keys of the system.
 * @param {{ label: string, onChange: (value: string) => void }} menu
 */
function menu({ label, onChange }) {
  const select = html("select", { "aria-label": label });
  select.addEventListener("change", () => onChange(select.value));
  const node = html("label", { class: "kd-menu" }, html("span", { class: "kd-label" }, label), select);
  /** @type {(items: [name: string, text: string][], value: string) => void} */
  const show = (items, value) => {
    items.forEach(([name, text], i) => {
      const option = select.options[i] ?? select.appendChild(html("option"));
      option.value = name;
      if (option.textContent !== text) option.textContent = text;
    });
    select.value = value;
  };
  return { node, show };
}

/**
 * The epochs of a curve, its seeds, and their mean and standard deviation at each of them.
 * @param {RunCurve} curve
 */
function unpack({ first, step, seeds }) {
  const n = seeds.length;
  return seeds[0].map((_, i) => {
    const values = seeds.map((values) => values[i]);
    const mean = sum(values) / n;
    const sd = n > 1 ? Math.sqrt(sum(values.map((value) => (value - mean) ** 2)) / (n - 1)) : 0;
    return { epoch: first + i * step, values, mean, sd };
  });
}

/**
 * Labels at the ends of lines, moved apart where they would overlap, from y to `at`.
 * @type {<End extends { y: number }>(ends: End[], top: number, bottom: number, gap: number) => (End & { at: number })[]}
 */
function spread(ends, top, bottom, gap) {
  const placed = ends.map((end) => ({ ...end, at: end.y }));
  const sorted = [...placed].sort((a, b) => a.y - b.y);
  sorted.forEach((end, i) => (end.at = i ? Math.max(end.y, sorted[i - 1].at + gap) : Math.max(end.y, top)));
  let limit = bottom;
  for (const end of sorted.reverse()) {
    end.at = Math.min(end.at, limit);
    limit = end.at - gap;
  }
  return placed;
}

/**
 * A label that fits, without its first word where it must: that is what methods of one sweep have in common.
 * @type {(label: string, most: number) => string}
 */
function trimmed(label, most) {
  const rest = label.length > most ? label.slice(label.indexOf(" ") + 1) : label;
  return rest.length > most ? `${rest.slice(0, most - 1)}…` : rest;
}

// With more curves than these, bands and single seeds hide the means.
const FEW = SERIES.length;
/** @param {RunLine[]} lines */
const withSpread = (lines) =>
  lines.filter(({ points }) => lines.length <= FEW && points[0].values.length > 1);

/**
 * How to read the curves.
 * @param {RunLine[]} lines
 */
function reading(lines) {
  const several = lines.some(({ points }) => points[0].values.length > 1);
  if (!several) return lines.length ? "one seed each" : "";
  return lines.length > FEW
    ? `line: mean of the seeds; spreads are drawn for ${FEW} curves or fewer`
    : "line: mean of the seeds; band: ± standard deviation; thin: each seed";
}

/**
 * Mean, band and single seeds of every method over epochs, with a marker at one of them.
 * @param {{ width: number, height: number, lines: RunLine[], epochs: number[], marker: number }} options
 */
function drawRuns({ width, height, lines, epochs, marker }) {
  const most = width < 480 ? 12 : 20;
  const room = 22 + 7 * Math.max(...lines.map(({ label }) => trimmed(label, most).length));
  const [left, right, top, bottom] = [44, width - room, 10, height - 40];
  const several = withSpread(lines);
  const all = lines.flatMap(({ points }) =>
    points.flatMap(({ mean, sd, values }) => (several.length ? [mean - sd, mean + sd, ...values] : [mean])),
  );
  const [low, high] = padded(Math.min(...all), Math.max(...all));
  const [from, to] = [epochs[0], epochs[epochs.length - 1]];
  /** @param {number} epoch */
  const px = (epoch) => left + ((epoch - from) / Math.max(to - from, 1)) * (right - left);
  /** @param {number} value */
  const py = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
  /** @param {Point[]} points */
  const path = (points) =>
    points.map(([a, b], i) => `${i ? "L" : "M"}${px(a).toFixed(1)} ${py(b).toFixed(1)}`).join("");
  /** @param {Epoch[]} points */
  const band = (points) => {
    /** @type {(sign: 1 | -1) => Point[]} */
    const edge = (sign) => points.map(({ epoch, mean, sd }) => [epoch, mean + sign * sd]);
    return `${path([...edge(1), ...edge(-1).reverse()])}Z`;
  };
  const along = tickValues(from, to).filter(Number.isInteger);
  const levels = tickValues(low, high);
  const digits = Math.max(...levels.map((level) => (String(level).split(".")[1] ?? "").length));
  const ends = spread(
    lines.map(({ label, style, points }) => ({ label, style, y: py(points[points.length - 1].mean) })),
    top,
    bottom,
    14,
  );
  /** @type {Shape[]} */
  const shapes = [
    ...levels.flatMap((level) => [
      line("kd-grid", left, py(level), right, py(level)),
      text("kd-tick", left - 6, py(level), fixed(level, digits), "end"),
    ]),
    ...along.map((tick) => text("kd-tick", px(tick), bottom + 13, String(tick), "middle")),
    text("kd-tick", (left + right) / 2, bottom + 31, "epoch", "middle"),
    line("kd-axis", left, bottom, right, bottom),
    line("kd-guide", px(marker), top, px(marker), bottom),
    ...several.map(/** @returns {Shape} */ ({ style, points }) => [
      "path",
      { class: "kd-band", style, d: band(points) },
    ]),
    ...several.flatMap(({ style, points }) =>
      points[0].values.map(/** @returns {Shape} */ (_, s) => [
        "path",
        { class: "kd-seed", style, d: path(points.map(({ epoch, values }) => [epoch, values[s]])) },
      ]),
    ),
    ...lines.map(/** @returns {Shape} */ ({ style, points, dashed }) => [
      "path",
      {
        class: dashed ? "kd-mean kd-dashed" : "kd-mean",
        style,
        d: path(points.map(({ epoch, mean }) => [epoch, mean])),
      },
    ]),
    ...lines.flatMap(({ style, points }) =>
      points
        .filter(({ epoch }) => epoch === marker)
        .map(/** @returns {Shape} */ ({ mean }) => [
          "circle",
          { class: "kd-at", style, cx: px(marker), cy: py(mean), r: 4 },
        ]),
    ),
    ...ends.map(/** @returns {Shape} */ ({ style, y, at }) => [
      "path",
      { class: "kd-lead", style, d: `M${right + 2} ${y}L${right + 12} ${at}` },
    ]),
    ...ends.map(({ label, at }) => text("kd-name", right + 16, at, trimmed(label, most))),
  ];
  /** @param {number} pixel */
  const invert = (pixel) => from + clamp((pixel - left) / (right - left), 0, 1) * (to - from);
  return { height, shapes, invert };
}

/**
 * Limits of an axis with a little air; a line that does not move still has some.
 * @type {(low: number, high: number) => Limits}
 */
function padded(low, high) {
  const air = Math.max(0.04 * (high - low), 1e-3 * Math.abs(high), 1e-6);
  return [low - air, high + air];
}

const COLUMNS = ["last epoch", "Δ", "best on test", "published"];
const READING =
  "Δ: over the seeds that both have, with a 95\u202f% interval. Best on test: of the epoch that the test images " +
  "themselves chose, and so too high.";

/**
 * The figures of every method; a method's box shows and hides its curve.
 * @param {{ onToggle: (label: string, isShown: boolean) => void }} options
 */
function runsTable({ onToggle }) {
  // The roles are those of the elements, which lose them where a phone lays the table out as blocks.
  const caption = html("caption");
  const head = html("tr", { role: "row" });
  const body = html("tbody", { role: "rowgroup" });
  const whole = html("table", { role: "table" }, caption, html("thead", { role: "rowgroup" }, head), body);
  const notes = html("p", { class: "kd-notes" });
  const [asked, reason] = [html("code"), html("summary")];
  const missing = html("details", { class: "kd-missing" }, reason, html("pre", {}, asked));
  const node = html("div", { class: "kd-runs" }, whole, notes, missing);
  let shown = "";
  /** @type {[label: string, box: HTMLInputElement][]} */
  let boxes = [];

  /** @type {(method: RunMethod, figures: string[], columns: [string, number][], colour: string) => Element} */
  const row = (method, figures, columns, colour) => {
    const name = html("th", { scope: "row", role: "rowheader" });
    const swatch = html("span", { class: "kd-swatch", style: `--kd-s: ${colour}` });
    const box = html("input", { type: "checkbox", "aria-label": `curve of ${method.label}` });
    box.addEventListener("change", () => onToggle(method.label, box.checked));
    boxes.push([method.label, box]);
    const drawn = method.seeds.length > 0;
    if (drawn) name.append(html("label", { class: "kd-toggle" }, box, swatch, method.label));
    else name.append(html("span", { class: "kd-absent" }, method.label));
    const cells = columns.map(([column, place]) =>
      html(
        "td",
        { role: "cell", "data-label": column, class: figures[place] ? "" : "kd-empty" },
        figures[place],
      ),
    );
    return html("tr", { role: "row" }, name, ...cells);
  };
  /** @param {RunsTable} table */
  const show = ({ key, title, chosen, metric, hidden, about }) => {
    if (key !== shown) {
      shown = key;
      boxes = [];
      const rows = chosen.methods.map((method) => method.rows[metric]);
      /** @type {[string, number][]} */
      const all = COLUMNS.map((name, i) => [name === "Δ" ? `Δ to ${chosen.baseline}` : name, i]);
      const columns = all.filter(([, i]) => rows.some((figures) => figures[i]));
      caption.textContent = title;
      head.replaceChildren(
        ...["method", ...columns.map(([name]) => name)].map((name) =>
          html("th", { scope: "col", role: "columnheader" }, name),
        ),
      );
      body.replaceChildren(
        ...chosen.methods.map((method, i) =>
          row(method, rows[i], columns, seriesColour(i, chosen.methods.length)),
        ),
      );
      notes.textContent = about.join(" ");
      const none = chosen.methods.every((method) => !method.seeds.length);
      missing.hidden = !chosen.commands.length;
      missing.open = none;
      reason.textContent = none ? "Not run yet. To run it:" : "Not all is run yet. To run the rest:";
      asked.textContent = chosen.commands.join("\n");
    }
    for (const [label, box] of boxes) box.checked = !hidden.includes(label);
  };
  return { node, show };
}

/**
 * @param {Host<
 *   Runs,
 *   { data: string, sweep: string, metric: string, view: string, epoch: number, hidden: string[] }
 * >} host
 */
function render({ model, el }) {
  const { sweeps, views, metrics, data } = model.get("state");
  const metricPlace = () => metrics.findIndex(({ name }) => name === model.get("metric"));
  const isPercent = () => metrics[metricPlace()].unit === "%";
  const chosen = () => data[model.get("data")][sweeps.indexOf(model.get("sweep"))];
  const where = () => `${model.get("sweep")}, ${model.get("data")}`;

  /** Why nothing is drawn. */
  const absent = () => {
    const { methods } = chosen();
    const run = methods.filter(({ seeds }) => seeds.length);
    if (!methods.length) return "no recipe";
    if (!run.length) return "not run yet";
    return run.some(({ curves }) => curves[metricPlace()]) ? "all curves are hidden" : "not measured";
  };

  /**
   * What is drawn: every method that has this metric and is not hidden.
   * @type {(RunLine & { last: string })[]}
   */
  let drawn = [];
  const toDraw = () => {
    const { methods } = chosen();
    const all = methods.flatMap(({ label, curves, rows }, i) => {
      const curve = curves[metricPlace()];
      if (!curve || model.get("hidden").includes(label)) return [];
      const style = `--kd-s: ${seriesColour(i, methods.length)}`;
      // The last epoch is in the table as well, and must not be rounded twice.
      return [
        { label, style, dashed: i === 0, points: unpack(curve), last: rows[metricPlace()][0].split(" ")[0] },
      ];
    });
    const last = Math.max(...all.flatMap(({ points }) => points.map(({ epoch }) => epoch)));
    const from = model.get("view") === views[1] ? last / 2 : 0;
    return all
      .map((one) => ({ ...one, points: one.points.filter(({ epoch }) => epoch >= from) }))
      .filter(({ points }) => points.length);
  };
  const epochs = () =>
    [...new Set(drawn.flatMap(({ points }) => points.map(({ epoch }) => epoch)))].sort((a, b) => a - b);

  /** @type {(trait: "data" | "sweep" | "metric" | "view") => (value: string) => void} */
  const choose = (trait) => (value) => {
    model.set(trait, value);
    model.set("epoch", 0); // the last, however many there are
    model.save_changes();
  };
  const pickData = menu({ label: "Data, profile", onChange: choose("data") });
  const pickSweep = menu({ label: "Sweep", onChange: choose("sweep") });
  const pickMetric = menu({ label: "Metric", onChange: choose("metric") });
  const pickView = choice({
    label: "Show",
    items: views.map((name) => ({ content: html("span", {}, name), spoken: name })),
    onChange: (i) => choose("view")(views[i]),
    kind: "words",
  });
  const stops = [0];
  const pickEpoch = slider({
    label: "Epoch",
    spoken: "epoch",
    stops,
    format: String,
    onChange: change(model, "epoch"),
  });
  const epoch = () =>
    (model.get("epoch") ? stops[nearest(stops, model.get("epoch"))] : stops[stops.length - 1]);

  const title = html("span");
  const curves = panel({
    title,
    legend: [["", () => reading(drawn)]],
    onPoint: (x) => change(model, "epoch")(stops[nearest(stops, x)]),
    draw(width) {
      if (!drawn.length) {
        const height = 120;
        return {
          height,
          shapes: [
            ["rect", { class: "kd-ground", x: 0.5, y: 0.5, width: width - 1, height: height - 1, rx: 6 }],
            text("kd-tick", width / 2, height / 2, absent(), "middle"),
          ],
          invert: () => 0,
          summary: `${where()}, ${model.get("metric")}: ${absent()}`,
        };
      }
      const picture = drawRuns({
        width,
        height: width < 480 ? 260 : 320,
        lines: drawn,
        epochs: epochs(),
        marker: epoch(),
      });
      return { ...picture, summary: `${where()}: ${model.get("metric")} over epochs. ${said()}` };
    },
  });
  const said = () =>
    `Epoch ${epoch()} of ${stops.at(-1)}, ${model.get("data")}${isPercent() ? ", in\u00a0%" : ""}: ` +
    drawn
      .flatMap(({ label, points, last }) => {
        const point = points.find((each) => each.epoch === epoch());
        if (!point) return [];
        return `${label} ${point === points.at(-1) ? last : fixed(point.mean, isPercent() ? 1 : 3)}`;
      })
      .join(", ");

  const words = readout();
  const table = runsTable({
    onToggle(label, isShown) {
      const others = model.get("hidden").filter((name) => name !== label);
      change(model, "hidden")(isShown ? others : [...others, label]);
    },
  });
  const NONE = ": not run yet";
  /** @param {RunSweep} found */
  const progress = (found) => {
    const run = found.methods.filter(({ seeds }) => seeds.length).length;
    if (!found.methods.length) return ": no recipe";
    if (!run) return NONE;
    return run < found.methods.length ? `: ${run} of ${found.methods.length} run` : "";
  };

  const update = () => {
    drawn = toDraw();
    stops.splice(0, stops.length, ...(drawn.length ? epochs() : [0]));
    pickEpoch.input.max = String(stops.length - 1);
    pickEpoch.node.hidden = stops.length < 2;
    pickView.node.hidden = !drawn.length;
    pickData.show(
      Object.entries(data).map(([name, found]) => [
        name,
        name + (found.some(({ methods }) => methods.some(({ seeds }) => seeds.length)) ? "" : NONE),
      ]),
      model.get("data"),
    );
    pickSweep.show(
      sweeps.map((name, i) => [name, name + progress(data[model.get("data")][i])]),
      model.get("sweep"),
    );
    pickMetric.show(
      metrics.map(({ name, unit }) => [name, unit ? `${name} (${unit})` : name]),
      model.get("metric"),
    );
    pickView.show(views.indexOf(model.get("view")));
    pickEpoch.show(epoch());
    const { name, unit, note } = metrics[metricPlace()];
    const within = unit && `, in ${unit}`;
    title.textContent = `${where()}: ${name}${unit ? ` (${unit})` : ""}`;
    curves.show();
    table.show({
      key: [where(), name].join(),
      title: `After the last epoch, ${model.get("data")}${within}: mean ± standard deviation (seeds)`,
      chosen: chosen(),
      metric: metricPlace(),
      hidden: model.get("hidden"),
      about: [
        chosen().methods.some(({ seeds }) => seeds.length) ? READING : "",
        note,
        ...chosen().about,
      ].filter(Boolean),
    });
    words.show(drawn.length ? `${said()}.` : `${where()}, ${name}: ${absent()}.`, { epoch: epoch() });
  };
  return assemble({
    model,
    el,
    name: "Recorded sweeps",
    traits: ["data", "sweep", "metric", "view", "epoch", "hidden"],
    controls: [pickData, pickSweep, pickMetric, pickView, pickEpoch],
    panels: [curves],
    readout: { node: html("div", {}, words.node, table.node) },
    update,
  });
}

export default { render };
