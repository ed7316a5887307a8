// @ts-check
// The pieces every live figure is made of. live.py joins this file with the figure's own into one ES module: a figure's
// import of this file is for linters and type checkers. Types are in figures.d.ts, colours in live.css.

// ---- numbers -------------------------------------------------------------------------------------------------

/** @param {number[]} values */
export const sum = (values) => values.reduce((total, value) => total + value, 0);
/** @param {number} count */
export const range = (count) => Array.from({ length: count }, (_, i) => i);
/** @type {(value: number, low: number, high: number) => number} */
export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** @param {number[]} logits */
export function logSoftmax(logits, temperature = 1) {
  const scaled = logits.map((z) => z / temperature);
  const largest = Math.max(...scaled);
  const logTotal = Math.log(sum(scaled.map((z) => Math.exp(z - largest))));
  return scaled.map((z) => z - largest - logTotal);
}

/** @param {number[]} logits */
export const softmax = (logits, temperature = 1) => logSoftmax(logits, temperature).map(Math.exp);

/**
 * The classes in falling order of their values.
 * @param {number[]} values
 */
export const ranked = (values) => range(values.length).sort((a, b) => values[b] - values[a]);

/**
 * The three most probable classes in words: "3 at 62.1 %, 8 at 20.3 %, 9 at 4.0 %".
 * @type {(p: number[], classes: string[]) => string}
 */
export const topClasses = (p, classes) =>
  ranked(p)
    .slice(0, 3)
    .map((c) => `${classes[c]} at ${percent(p[c])}`)
    .join(", ");

/** @param {number} value */
export const fixed = (value, digits = 2) => {
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "\u2212");
};
/** @param {number} value */
export const signed = (value, digits = 2) =>
  (Number(value.toFixed(digits)) > 0 ? "+" : "") + fixed(value, digits);
/** @param {number} fraction */
export const percent = (fraction, digits = 1) => `${fixed(100 * fraction, digits)}\u202f%`;
/**
 * A temperature or weight as a person writes it: 4.0, 1.05, 0.12.
 * @param {number} value
 */
export const short = (value) =>
  value.toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 2 });

/**
 * Round temperatures between two limits, almost evenly spread on a logarithmic scale: … 1, 1.05 … 4, 4.1 … 10 …
 * @type {(low: number, high: number) => number[]}
 */
export function temperatureStops(low, high) {
  const mantissas = range(75).map((i) => (i < 20 ? 1 + i / 20 : i < 50 ? i / 10 : 5 + (i - 50) / 5));
  const all = [0.1, 1, 10, 100].flatMap((decade) => mantissas.map((m) => Number((m * decade).toFixed(2))));
  return [...new Set(all)].filter((t) => t >= low && t <= high);
}

/**
 * About six round numbers between two limits.
 * @type {(low: number, high: number) => number[]}
 */
export function tickValues(low, high) {
  const step = niceAbove((high - low) / 6);
  const first = Math.ceil(low / step - 1e-9);
  return range(Math.floor(high / step + 1e-9) - first + 1).map((i) =>
    Number(((first + i) * step).toPrecision(6)),
  );
}

/**
 * The smallest round number that is not below the value: 1, 2 or 5 (or another mantissa) times a power of ten.
 * @param {number} value
 */
export function niceAbove(value, mantissas = [1, 2, 5, 10]) {
  const decade = 10 ** Math.floor(Math.log10(Math.max(value, 1e-9)));
  const mantissa = mantissas.find((m) => m * decade >= value * (1 - 1e-9)) ?? NaN;
  return Number((decade * mantissa).toPrecision(6));
}

/**
 * A limit for an axis: round, and close enough above the value to leave little room empty.
 * @param {number} value
 */
export const axisLimit = (value) => niceAbove(value, [1, 1.5, 2, 3, 4, 6, 8, 10]);

// ---- elements ------------------------------------------------------------------------------------------------

/** @type {<Node extends Element>(node: Node, attributes: Attributes) => Node} */
export function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
  }
  return node;
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} attributes
 * @param {...(Node | string)} children
 */
export function html(tag, attributes = {}, ...children) {
  const node = set(document.createElement(tag), attributes);
  node.append(...children);
  return node;
}

/**
 * Puts shapes into an SVG; keeps the nodes that fit, so that bars can glide in CSS.
 * @type {(svg: SVGElement, shapes: Shape[]) => void}
 */
function paint(svg, shapes) {
  shapes.forEach(([tag, attributes, text = ""], i) => {
    let node = svg.children[i];
    if (node?.tagName !== tag) {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      node ? svg.replaceChild(made, node) : svg.append(made);
      node = made;
    }
    for (const { name } of [...node.attributes]) if (!(name in attributes)) node.removeAttribute(name);
    set(node, attributes);
    if (node.textContent !== text) node.textContent = text;
  });
  while (svg.children.length > shapes.length) svg.children[shapes.length].remove();
}

// ---- the figure and its parts --------------------------------------------------------------------------------

/**
 * Lays the parts out and keeps them true to the model: update() runs now and whenever one of the traits changes.
 * @template Traits
 * @param {Figure<Traits>} figure
 */
export function assemble({ model, el, name, traits, controls, panels, readout, update }) {
  const figure = html(
    "div",
    { class: "kd-fig", role: "group", "aria-label": name },
    html("div", { class: "kd-controls" }, ...controls.map((control) => control.node)),
    html("div", { class: `kd-panels kd-panels-${panels.length}` }, ...panels.map((panel) => panel.node)),
    readout.node,
  );
  // JupyterLab would take the arrow keys from the sliders, to walk between cells.
  figure.addEventListener("keydown", (event) => event.ctrlKey || event.metaKey || event.stopPropagation());
  el.append(figure);
  traits.forEach((trait) => model.on(`change:${trait}`, update));
  update();
  return () => {
    traits.forEach((trait) => model.off(`change:${trait}`, update));
    panels.forEach((panel) => panel.stop());
  };
}

/**
 * Hands a reader's choice to the model, which tells update() and, in a notebook, Python.
 * @type {<Traits, Name extends keyof Traits>(m: Model<Traits>, trait: Name) => (value: Traits[Name]) => void}
 */
export const change = (model, trait) => (value) => {
  model.set(trait, value);
  model.save_changes();
};

/**
 * A slider over a list of stops, so that evenly spaced keys and thumb serve any scale.
 * @param {Slider} slider
 */
export function slider({ label, stops, format, spoken, onChange }) {
  const input = html("input", {
    type: "range",
    min: 0,
    max: stops.length - 1,
    step: 1,
    "aria-label": spoken,
  });
  const shown = html("span", { class: "kd-value", "aria-hidden": "true" });
  input.addEventListener("input", () => onChange(stops[input.valueAsNumber]));
  const node = html(
    "label",
    { class: "kd-slider" },
    html("span", { class: "kd-label" }, label),
    input,
    shown,
  );
  /** @param {number} value */
  const show = (value) => {
    const i = nearest(stops, value);
    input.value = String(i);
    input.style.setProperty("--fill", `${(100 * i) / (stops.length - 1)}%`);
    input.setAttribute("aria-valuetext", `${spoken} ${format(value)}`);
    shown.textContent = format(value);
  };
  return { node, input, show };
}

/** @type {(stops: number[], value: number) => number} */
export const nearest = (stops, value) =>
  stops.reduce((best, stop, i) => (Math.abs(stop - value) < Math.abs(stops[best] - value) ? i : best), 0);

/**
 * One of several: native radio buttons, so that arrow keys and screen readers work as everywhere.
 * @param {Choice} choice
 */
export function choice({ label, items, onChange, kind }) {
  const group = `kd-${Math.random().toString(36).slice(2)}`;
  const inputs = items.map(({ spoken }, i) => {
    const input = html("input", { type: "radio", name: group, "aria-label": spoken });
    input.addEventListener("change", () => onChange(i));
    return input;
  });
  const options = items.map(({ content }, i) => html("label", { class: "kd-option" }, inputs[i], content));
  const row = html(
    "div",
    { class: `kd-choice kd-${kind}`, role: "radiogroup", "aria-label": label },
    ...options,
  );
  const node = html(
    "div",
    { class: "kd-field" },
    html("span", { class: "kd-label", "aria-hidden": "true" }, label),
    row,
  );
  /** @param {number} i */
  const show = (i) => void (inputs[i].checked = true);
  return { node, show };
}

/**
 * The images as thumbnails to choose from.
 * @param {Thumbnails} thumbnails
 */
export function thumbnails({ label, images, names, onChange }) {
  const items = names.map((name, i) => ({
    content: html("span", {}, picture(images, i)),
    spoken: `image ${i + 1}, labelled ${name}`,
  }));
  return choice({ label, items, onChange, kind: "thumbnails" });
}

/**
 * Image i on a canvas of its own pixels.
 * @type {(images: Packed, i: number) => HTMLCanvasElement}
 */
export function picture({ shape: [, height, width, channels], bytes }, i) {
  const canvas = html("canvas", { width, height, "aria-hidden": "true" });
  const pixels = decoded(bytes).subarray(i * height * width * channels);
  const data = new ImageData(width, height);
  for (let p = 0; p < width * height; p++) {
    for (let c = 0; c < 3; c++) data.data[4 * p + c] = pixels[p * channels + (channels === 3 ? c : 0)];
    data.data[4 * p + 3] = 255;
  }
  brushOf(canvas).putImageData(data, 0, 0);
  return canvas;
}

/** @param {string} bytes */
export const decoded = (bytes) => Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));

/** @param {HTMLCanvasElement} canvas */
export function brushOf(canvas) {
  const brush = canvas.getContext("2d");
  if (!brush) throw new Error("this browser gives no canvas to draw on");
  return brush;
}

/** What the figure says in words; the numbers behind it are in its data- attributes, at full precision. */
export function readout() {
  const node = html("p", { class: "kd-readout", "aria-live": "polite", "aria-atomic": "true" });
  /** @type {(text: string, values: Record<string, unknown>) => void} */
  const show = (text, values) => {
    if (node.textContent !== text) node.textContent = text;
    for (const [name, value] of Object.entries(values))
      node.setAttribute(`data-${name}`, JSON.stringify(value));
  };
  return { node, show };
}

/**
 * A titled picture that is drawn in pixels of its real width, so that text keeps its size on a phone.
 * The legend is [[kind, words], …]; words of no kind ("") are a remark; a function's words are live.
 * @param {Panel} panel
 */
export function panel({ title, legend, draw, onPoint }) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("role", "img");
  const keys = legend.map(([kind]) => html("span", { class: kind && `kd-key ${kind}` }));
  const head = [html("p", { class: "kd-title" }, title), html("p", { class: "kd-legend" }, ...keys)];
  const node = html("div", { class: "kd-panel" }, ...head, svg);
  /** @type {((pixel: number) => number) | undefined} */
  let invert;
  const show = () => {
    legend.forEach(([, words], i) => (keys[i].textContent = typeof words === "function" ? words() : words));
    const width = Math.floor(node.clientWidth);
    if (!width) return;
    const drawn = draw(width);
    invert = drawn.invert;
    set(svg, {
      width,
      height: drawn.height,
      viewBox: `0 0 ${width} ${drawn.height}`,
      "aria-label": drawn.summary,
    });
    paint(svg, drawn.shapes);
  };
  if (onPoint) followPointer(svg, (x) => invert && onPoint(invert(x)));
  const observer = new ResizeObserver(show);
  observer.observe(node);
  return { node, svg, show, stop: () => observer.disconnect() };
}

/**
 * A second way to move a marker, for mouse and finger; the keyboard's way is the slider.
 * @type {(svg: SVGElement, onMove: (x: number) => void) => void}
 */
function followPointer(svg, onMove) {
  /** @param {PointerEvent} event */
  const move = (event) => onMove(event.clientX - svg.getBoundingClientRect().left);
  svg.classList.add("kd-pointable");
  svg.addEventListener("pointerdown", (event) => {
    svg.setPointerCapture(event.pointerId);
    move(event);
  });
  svg.addEventListener("pointermove", (event) => event.buttons && move(event));
}

// ---- drawings: numbers in, shapes out ------------------------------------------------------------------------

/** @type {(kind: string, x: number, y: number, content: string, anchor?: string) => Shape} */
export const text = (kind, x, y, content, anchor = "start") => [
  "text",
  { class: kind, x, y, "text-anchor": anchor, "dominant-baseline": "central" },
  content,
];
/** @type {(kind: string, x1: number, y1: number, x2: number, y2: number) => Shape} */
export const line = (kind, x1, y1, x2, y2) => ["line", { class: kind, x1, y1, x2, y2 }];

/**
 * Horizontal bars: a row for each label, and in it a bar for each series { kind, values }, where kind is one for all
 * rows or a list. The last series' values are written at the right; bold is the row to stress; ends are the words for
 * bars to the left and to the right. Bars beyond the domain end in an arrow head.
 * @param {Bars} options
 */
export function bars(options) {
  const { width, labels, series, domain: [low, high], format, bold, ticks, ends = [], row = 24 } = options;
  const thickness = [0, 14, 8, 6][series.length];
  const numbers = series[series.length - 1].values;
  const left = Math.min(112, 10 + 7.5 * Math.max(...labels.map((label) => label.length)));
  const right = width - 58;
  /** @param {number} value */
  const x = (value) => left + ((clamp(value, low, high) - low) / (high - low)) * (right - left);
  const bottom = row * labels.length;
  const shapes = ticks.flatMap((tick) => [
    line("kd-grid", x(tick), 0, x(tick), bottom),
    text("kd-tick", x(tick), bottom + 11, short(tick).replace("-", "\u2212"), "middle"),
  ]);
  shapes.push(line("kd-axis", x(0), 0, x(0), bottom));
  ends.forEach((words, i) =>
    shapes.push(text("kd-tick", x([low, high][i]), bottom + 29, words, ["start", "end"][i])),
  );
  labels.forEach((label, i) => {
    const middle = (i + 0.5) * row;
    const name = label.length > 14 ? `${label.slice(0, 13)}…` : label;
    shapes.push(text(i === bold ? "kd-name kd-bold" : "kd-name", left - 8, middle, name, "end"));
    series.forEach(({ kind, values }, s) => {
      const y = middle + (s - series.length / 2) * (thickness + 1) + 0.5;
      const [from, to] = [Math.min(x(0), x(values[i])), Math.max(x(0), x(values[i]))];
      const colour = Array.isArray(kind) ? kind[i] : kind;
      shapes.push([
        "rect",
        { class: `kd-bar ${colour}`, x: from, y, width: Math.max(to - from, 0), height: thickness, rx: 1.5 },
      ]);
      if (values[i] > high) shapes.push(arrowHead(colour, right + 2, y, thickness, 1));
      if (values[i] < low) shapes.push(arrowHead(colour, left - 2, y, thickness, -1));
    });
    shapes.push(
      text(i === bold ? "kd-number kd-bold" : "kd-number", width, middle, format(numbers[i]), "end"),
    );
  });
  return { height: bottom + (ends.length ? 38 : 22), shapes };
}

/** @type {(kind: string, x: number, y: number, size: number, direction: 1 | -1) => Shape} */
const arrowHead = (kind, x, y, size, direction) => [
  "path",
  { class: `kd-bar ${kind}`, d: `M${x} ${y}l${direction * 6} ${size / 2}l${-direction * 6} ${size / 2}z` },
];

/**
 * Curves over one variable, with a marker at one of its values and guides, horizontal (y) or vertical (x).
 * @param {Curves} curves
 */
export function curves({ width, height, x, y, lines, marker, guides = [] }) {
  const [left, right, top, bottom] = [40, width - 12, 12, height - 40];
  const along = x.log ? Math.log : Number;
  const [x0, x1] = x.domain.map(along);
  /** @param {number} value */
  const px = (value) => left + ((clamp(along(value), x0, x1) - x0) / (x1 - x0)) * (right - left);
  /** @param {number} value */
  const py = (value) =>
    bottom - ((clamp(value, ...y.domain) - y.domain[0]) / (y.domain[1] - y.domain[0])) * (bottom - top);
  /** @param {number} pixel */
  const invert = (pixel) => {
    const value = x0 + clamp((pixel - left) / (right - left), 0, 1) * (x1 - x0);
    return x.log ? Math.exp(value) : value;
  };
  /** @type {Shape[]} */
  const shapes = [
    ...y.ticks.flatMap((tick) => [
      line("kd-grid", left, py(tick), right, py(tick)),
      text("kd-tick", left - 6, py(tick), y.format(tick), "end"),
    ]),
    ...x.ticks.map((tick) => text("kd-tick", px(tick), bottom + 13, x.format(tick), "middle")),
    text("kd-tick", (left + right) / 2, bottom + 31, x.label, "middle"),
    line("kd-axis", left, bottom, right, bottom),
    ...guides.map(({ x: at, y: level }) =>
      level === undefined
        ? line("kd-guide", px(at), top, px(at), bottom)
        : line("kd-guide", left, py(level), right, py(level)),
    ),
    line(
      "kd-guide",
      px(marker.x),
      Math.min(...marker.ys.map(([, value]) => py(value))),
      px(marker.x),
      bottom,
    ),
    ...lines.map(/** @returns {Shape} */ ({ kind, points }) => [
      "path",
      {
        class: `kd-line ${kind}`,
        d: points.map(([a, b], i) => `${i ? "L" : "M"}${px(a).toFixed(1)} ${py(b).toFixed(1)}`).join(""),
      },
    ]),
    ...guides.map((guide) => guideLabel(guide, { left, right, bottom, px, py })),
    ...marker.ys.flatMap(/** @returns {Shape[]} */ ([kind, value, label = ""]) => {
      const [cx, cy] = [px(marker.x), py(value)];
      const [at, anchor] = cx + 50 < right ? [cx + 9, "start"] : [cx - 9, "end"];
      return [
        ["circle", { class: `kd-dot ${kind}`, cx, cy, r: 5.5 }],
        text("kd-value-label", at, cy + 13, label, anchor),
      ];
    }),
  ];
  return { height, shapes, invert };
}

/** @type {(guide: Guide, frame: Frame) => Shape} */
function guideLabel({ x, y, label }, { left, right, bottom, px, py }) {
  if (y !== undefined) return text("kd-tick kd-halo", left + 4, py(y) - 9, label);
  const fits = px(x) + 7 * label.length < right;
  return text("kd-tick kd-halo", px(x) + (fits ? 5 : -5), bottom - 9, label, fits ? "start" : "end");
}
