// @ts-check
// Chapter 2: what the temperature does to the teacher's probabilities, their entropy, and the gradient they give.

import {
  assemble,
  axisLimit,
  bars,
  change,
  curves,
  fixed,
  logSoftmax,
  nearest,
  panel,
  range,
  ranked,
  readout,
  short,
  signed,
  slider,
  softmax,
  sum,
  temperatureStops,
  thumbnails,
  tickValues,
  topClasses,
} from "./kit.js";

/** @type {Limits} */
const LIMITS = [0.1, 50];

/** @type {(logits: number[], temperature: number) => number} */
const entropy = (logits, temperature) =>
  -sum(logSoftmax(logits, temperature).map((logp) => (logp > -700 ? logp * Math.exp(logp) : 0)));

/**
 * Gradient of KL(teacher || student) at this temperature for a student that says the same of every class.
 * @type {(logits: number[], temperature: number) => number[]}
 */
const gradientOfKL = (logits, temperature) =>
  softmax(logits, temperature).map((p) => (1 / logits.length - p) / temperature);

/**
 * @param {Host<
 *   { logits: number[][], names: string[], labels: number[], classes: string[], likeliest: number, images: Packed },
 *   { example: number, temperature: number }
 * >} host
 */
function render({ model, el }) {
  const { logits, names, labels, classes, likeliest, images } = model.get("state");
  const others = classes.length - likeliest;
  // The classes with bars of their own; all others share the last bar.
  const rows = logits.map((z) => (others ? ranked(z).slice(0, likeliest) : range(z.length)));
  /** @type {(values: number[]) => number[]} */
  const inRows = (values) => {
    const own = rows[model.get("example")].map((c) => values[c]);
    return others ? [...own, sum(values) - sum(own)] : own;
  };
  const rowNames = () => [
    ...rows[model.get("example")].map((c) => classes[c]),
    ...(others ? [`${others} others`] : []),
  ];
  const stops = temperatureStops(...LIMITS);
  const uniform = Math.log(classes.length);
  const now = () => {
    const [z, temperature] = [logits[model.get("example")], model.get("temperature")];
    const plain = gradientOfKL(z, temperature);
    return {
      z,
      temperature,
      label: labels[model.get("example")],
      probabilities: softmax(z, temperature),
      entropy: entropy(z, temperature),
      plain,
      scaled: plain.map((g) => temperature ** 2 * g),
    };
  };

  const digits = thumbnails({
    label: "Image",
    images,
    names,
    onChange: change(model, "example"),
  });
  const heat = slider({
    label: "Temperature",
    spoken: "temperature",
    stops,
    format: short,
    onChange: change(model, "temperature"),
  });

  const probabilities = panel({
    title: "Teacher’s probabilities",
    legend: labels.length ? [["", "bold: the label"]] : [],
    draw(width) {
      const { probabilities: p, label } = now();
      const series = [{ kind: "kd-accent", values: inRows(p) }];
      const drawn = bars({
        width,
        labels: rowNames(),
        series,
        domain: [0, 1],
        format: (v) => fixed(v, 3),
        bold: label,
        ticks: [0, 0.5, 1],
      });
      return { ...drawn, summary: `Probabilities: ${topClasses(p, classes)}` };
    },
  });

  const gradient = panel({
    title: "Gradient for an untrained student",
    legend: [
      ["kd-plain", "KL alone"],
      ["kd-accent", "T² · KL (numbers)"],
    ],
    draw(width) {
      const { z, plain, scaled, label } = now();
      const largest = Math.max(...stops.flatMap((t) => inRows(gradientOfKL(z, t)).map((g) => Math.abs(t * t * g))));
      const reach = axisLimit(largest);
      const series = [
        { kind: "kd-plain", values: inRows(plain) },
        { kind: "kd-accent", values: inRows(scaled) },
      ];
      const drawn = bars({
        width,
        labels: rowNames(),
        series,
        domain: [-reach, reach],
        format: (v) => signed(v, 3),
        bold: label,
        ticks: [-reach, 0, reach],
        ends: others ? [] : ["← raises z", "lowers z →"], // no room beside long names
      });
      const c = ranked(scaled.map(Math.abs))[0];
      const sizes = `${signed(plain[c], 3)} for KL alone, ${signed(scaled[c], 3)} times T squared`;
      return {
        ...drawn,
        summary: `Gradient with respect to the student's logits, largest for ${classes[c]}: ${sizes}`,
      };
    },
  });

  const curve = panel({
    title: "Entropy of the probabilities (nats)",
    legend: [["", "drag the dot or the slider"]],
    onPoint: (t) => change(model, "temperature")(stops[nearest(stops.map(Math.log), Math.log(t))]),
    draw(width) {
      const { z, temperature, entropy: h } = now();
      const drawn = curves({
        width,
        height: 262,
        x: {
          domain: LIMITS,
          log: true,
          ticks: [0.1, 0.3, 1, 3, 10, 50],
          format: String,
          label: "temperature",
        },
        y: {
          domain: [0, uniform * 1.12],
          ticks: tickValues(0, uniform),
          format: (v) => fixed(v, 1),
        },
        lines: [{ kind: "kd-accent", points: stops.map((t) => [t, entropy(z, t)]) }],
        guides: [{ y: uniform, label: `all classes equal: ${fixed(uniform)}` }],
        marker: { x: temperature, ys: [["kd-accent", h, fixed(h)]] },
      });
      return {
        ...drawn,
        summary: `Entropy against temperature: ${fixed(h)} nats here, at most ${fixed(uniform)}`,
      };
    },
  });

  const words = readout();
  const update = () => {
    const { temperature, probabilities: p, entropy: h, plain, scaled } = now();
    digits.show(model.get("example"));
    heat.show(temperature);
    [probabilities, gradient, curve].forEach((part) => part.show());
    words.show(
      `At temperature ${short(temperature)}: ${topClasses(p, classes)}; entropy ${fixed(h)} of ${fixed(uniform)} nats.`,
      {
        temperature,
        entropy: h,
        probabilities: p,
        "gradient-kl": plain,
        "gradient-scaled": scaled,
      },
    );
  };
  return assemble({
    model,
    el,
    name: "Temperature, the teacher's probabilities and the gradient they give",
    traits: ["example", "temperature"],
    controls: [digits, heat],
    panels: [probabilities, gradient, curve],
    readout: words,
    update,
  });
}

export default { render };
