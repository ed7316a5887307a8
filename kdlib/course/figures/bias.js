// @ts-check
// Chapter 4: a student that never saw one class, and one number added to that class's logit.

import {
  assemble,
  bars,
  change,
  curves,
  nearest,
  panel,
  percent,
  readout,
  signed,
  slider,
  tickValues,
  topClasses,
} from "./kit.js";

/**
 * @param {Host<
 *   { held_out: [number, number][], others: number[], other_count: number, held_out_class: number,
 *     classes: string[], biases: number[] },
 *   { bias: number }
 * >} host
 */
function render({ model, el }) {
  const state = model.get("state");
  const {
    held_out: heldOut,
    others,
    other_count: otherCount,
    held_out_class: missing,
    classes,
    biases: stops,
  } = state;
  /** @type {Limits} */
  const limits = [stops[0], stops[stops.length - 1]];
  const name = classes[missing];

  // An image becomes the held-out class's once the bias exceeds its margin: that class's distance to its best rival.
  /** @param {number} bias */
  const at = (bias) => {
    const recognised = heldOut.filter(([margin]) => bias > margin).length;
    const kept = others.filter((margin) => bias <= margin).length;
    return {
      recall: recognised / heldOut.length,
      rest: kept / otherCount,
      all: (recognised + kept) / (heldOut.length + otherCount),
    };
  };
  const table = stops.map((bias) => ({ bias, shares: at(bias) }));
  const best = table.reduce((top, row) => (row.shares.all > top.shares.all ? row : top)).bias;

  /** @param {number} bias */
  const answers = (bias) => {
    const counts = classes.map(() => 0);
    for (const [margin, rival] of heldOut) counts[bias > margin ? missing : rival] += 1;
    return counts.map((count) => count / heldOut.length);
  };

  const bias = slider({
    label: `Bias of ${name}`,
    spoken: `bias added to the logit of class ${name}`,
    stops,
    format: (b) => signed(b),
    onChange: change(model, "bias"),
  });

  const called = panel({
    title: `What it calls the images of ${name}`,
    legend: [["", `${heldOut.length} test images of a class it never saw`]],
    draw(width) {
      const shares = answers(model.get("bias"));
      const series = [
        { kind: classes.map((_, c) => (c === missing ? "kd-accent" : "kd-plain")), values: shares },
      ];
      const drawn = bars({
        width,
        labels: classes,
        series,
        domain: [0, 1],
        format: (v) => percent(v),
        bold: missing,
        ticks: [0, 0.5, 1],
      });
      return { ...drawn, summary: `Its answers to the images of ${name}: ${topClasses(shares, classes)}` };
    },
  });

  const shown = () => at(model.get("bias"));
  const curve = panel({
    title: "Recognised, against the bias",
    legend: [
      ["kd-accent", () => `${name}: ${percent(shown().recall)}`],
      ["kd-plain", () => `others: ${percent(shown().rest)}`],
      ["kd-strong", () => `all: ${percent(shown().all)}`],
    ],
    onPoint: (b) => change(model, "bias")(stops[nearest(stops, b)]),
    draw(width) {
      const { recall, rest, all } = shown();
      /** @type {(key: "recall" | "rest" | "all") => Point[]} */
      const pick = (key) => table.map(({ bias, shares }) => [bias, shares[key]]);
      const ticks = tickValues(...limits);
      const drawn = curves({
        width,
        height: 262,
        x: {
          domain: limits,
          ticks,
          format: (b) => String(b).replace("-", "\u2212"),
          label: `bias added to the logit of ${name}`,
        },
        y: { domain: [0, 1], ticks: [0, 0.25, 0.5, 0.75, 1], format: (v) => percent(v, 0) },
        lines: [
          { kind: "kd-plain", points: pick("rest") },
          { kind: "kd-strong", points: pick("all") },
          { kind: "kd-accent", points: pick("recall") },
        ],
        guides: [{ x: best, label: `best for all: ${signed(best)}` }],
        marker: {
          x: model.get("bias"),
          ys: [
            ["kd-plain", rest],
            ["kd-strong", all],
            ["kd-accent", recall],
          ],
        },
      });
      return {
        ...drawn,
        summary: `Share recognised: ${name} ${percent(recall)}, other classes ${percent(rest)}, all ${percent(all)}`,
      };
    },
  });

  const words = readout();
  const update = () => {
    const { recall, rest, all } = shown();
    bias.show(model.get("bias"));
    [called, curve].forEach((part) => part.show());
    words.show(
      `With ${signed(model.get("bias"))} added: ${percent(recall)} of the images of ${name} recognised, ` +
        `${percent(rest)} of the others, ${percent(all)} of all.`,
      { bias: model.get("bias"), recall, others: rest, accuracy: all, "best-bias": best },
    );
  };
  return assemble({
    model,
    el,
    name: `A student that never saw class ${name}, and the bias of that class`,
    traits: ["bias"],
    controls: [bias],
    panels: [called, curve],
    readout: words,
    update,
  });
}

export default { render };
