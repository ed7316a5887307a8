// @ts-check
// Chapter 13: paired differences of many seeds, seen as if there had been only the first few.

import {
  assemble,
  axisLimit,
  change,
  choice,
  curves,
  fixed,
  html,
  nearest,
  panel,
  percent,
  range,
  readout,
  signed,
  slider,
  sum,
  tickValues,
} from "./kit.js";

/**
 * @param {Host<
 *   { questions: string[], differences: number[][], reaches: number[], quantiles: number[],
 *     orders: number[][], wrong: number[][], clear: number[][] },
 *   { question: number, seeds: number, order: number }
 * >} host
 */
function render({ model, el }) {
  const { questions, differences, reaches, quantiles, orders, wrong, clear } = model.get("state");
  const most = differences[0].length;
  const counts = range(most - 1).map((i) => i + 2);

  /** @param {number} seeds */
  const interval = (seeds) => {
    const [values, order] = [differences[model.get("question")], orders[model.get("order")]];
    const drawn = order.slice(0, seeds).map((seed) => values[seed]);
    const mean = sum(drawn) / seeds;
    const variance = sum(drawn.map((value) => (value - mean) ** 2)) / (seeds - 1);
    const half = quantiles[seeds - 2] * Math.sqrt(variance / seeds);
    return { mean, low: mean - half, high: mean + half };
  };
  /** @param {number[][]} table */
  const share = (table) => table[model.get("question")][model.get("seeds") - 2];
  /** @param {number} value */
  const points = (value) => signed(value);

  const which = choice({
    label: "Difference",
    items: questions.map((name) => ({ content: html("span", {}, name), spoken: name })),
    onChange: change(model, "question"),
    kind: "words",
  });
  const seeds = slider({
    label: "Seeds",
    spoken: "number of seeds",
    stops: counts,
    format: String,
    onChange: change(model, "seeds"),
  });
  const order = slider({
    label: "Order",
    spoken: "order in which the seeds come",
    stops: range(orders.length),
    format: (i) => String(i + 1),
    onChange: change(model, "order"),
  });
  /** @param {number} x */
  const pick = (x) => change(model, "seeds")(counts[nearest(counts, x)]);
  /** @type {{ domain: Limits, ticks: number[] }} */
  const along = { domain: [2, most], ticks: [2, 3, 5, 10, 15, 20, 30, 40].filter((n) => n <= most) };

  const funnel = panel({
    title: "What the first seeds say",
    legend: [
      ["kd-accent", () => `mean: ${points(interval(model.get("seeds")).mean)} points`],
      ["kd-plain", "95\u202f% interval"],
    ],
    onPoint: pick,
    draw(width) {
      const all = counts.map((n) => ({ n, ...interval(n) }));
      const reach = axisLimit(reaches[model.get("question")]);
      const now = interval(model.get("seeds"));
      const drawn = curves({
        width,
        height: 262,
        x: { ...along, format: String, label: "number of seeds" },
        y: {
          domain: [-reach, reach],
          ticks: tickValues(-reach, reach),
          format: (v) => fixed(v, reach < 3 ? 1 : 0),
        },
        lines: [
          { kind: "kd-plain", points: all.map(({ n, low }) => [n, low]) },
          { kind: "kd-plain", points: all.map(({ n, high }) => [n, high]) },
          { kind: "kd-accent", points: all.map(({ n, mean }) => [n, mean]) },
        ],
        guides: [{ y: 0, label: "" }],
        marker: {
          x: model.get("seeds"),
          ys: [
            ["kd-plain", now.low],
            ["kd-plain", now.high],
            ["kd-accent", now.mean],
          ],
        },
      });
      return {
        ...drawn,
        summary:
          `With ${model.get("seeds")} seeds the mean is ${points(now.mean)} points, ` +
          `and its interval ${points(now.low)} to ${points(now.high)}`,
      };
    },
  });

  const chances = panel({
    title: "What groups of so many seeds say",
    legend: [
      ["kd-strong", () => `the other sign: ${percent(share(wrong), 0)}`],
      ["kd-plain", () => `interval leaves out 0: ${percent(share(clear), 0)}`],
    ],
    onPoint: pick,
    draw(width) {
      const question = model.get("question");
      const drawn = curves({
        width,
        height: 262,
        x: { ...along, format: String, label: "number of seeds" },
        y: { domain: [0, 1], ticks: [0, 0.25, 0.5, 0.75, 1], format: (v) => percent(v, 0) },
        lines: [
          { kind: "kd-plain", points: counts.map((n, i) => [n, clear[question][i]]) },
          { kind: "kd-strong", points: counts.map((n, i) => [n, wrong[question][i]]) },
        ],
        marker: {
          x: model.get("seeds"),
          ys: [
            ["kd-plain", share(clear)],
            ["kd-strong", share(wrong)],
          ],
        },
      });
      return {
        ...drawn,
        summary:
          `Of groups of ${model.get("seeds")} seeds, ${percent(share(wrong), 0)} have the other sign ` +
          `and ${percent(share(clear), 0)} an interval without 0`,
      };
    },
  });

  const words = readout();
  const update = () => {
    const now = interval(model.get("seeds"));
    which.show(model.get("question"));
    seeds.show(model.get("seeds"));
    order.show(model.get("order"));
    [funnel, chances].forEach((part) => part.show());
    const verdict = now.low > 0 || now.high < 0 ? "which leaves out 0" : "which holds 0";
    words.show(
      `${questions[model.get("question")]}, ${model.get("seeds")} seeds: ${points(now.mean)} points, ` +
        `from ${points(now.low)} to ${points(now.high)}, ${verdict}. ` +
        `Of groups of so many, ${percent(share(wrong), 0)} have the other sign than all ${most}.`,
      { ...now, seeds: model.get("seeds"), wrong: share(wrong), clear: share(clear) },
    );
  };
  return assemble({
    model,
    el,
    name: "A difference, and the number of seeds",
    traits: ["question", "seeds", "order"],
    controls: [which, seeds, order],
    panels: [funnel, chances],
    readout: words,
    update,
  });
}

export default { render };
