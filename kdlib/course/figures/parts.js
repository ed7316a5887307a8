// @ts-check
// Chapter 8: the two parts of the soft-target loss, and what becomes of the second when the teacher is sure.

import {
  assemble,
  axisLimit,
  bars,
  change,
  clamp,
  curves,
  fixed,
  panel,
  range,
  ranked,
  readout,
  short,
  signed,
  slider,
  softmax,
  temperatureStops,
  thumbnails,
  topClasses,
} from "./kit.js";

/** @type {Limits} */
const HEAT = [1, 10];
/** @type {Limits} */
const SURER = [-10, 20];

/**
 * Softmax over all classes but the label, which gets 0.
 * @type {(logits: number[], label: number, temperature: number) => number[]}
 */
function amongOthers(logits, label, temperature) {
  const p = softmax(
    logits.filter((_, c) => c !== label),
    temperature,
  );
  return p.toSpliced(label, 0, 0);
}

/**
 * @param {Host<
 *   { student: number[][], teacher: number[][], labels: number[], classes: string[], images: Packed },
 *   { example: number, temperature: number, surer: number }
 * >} host
 */
function render({ model, el }) {
  const { student: students, teacher: teachers, labels, classes, images } = model.get("state");

  /** @param {number} surer */
  const raised = (surer) => {
    const example = model.get("example");
    return teachers[example].with(labels[example], teachers[example][labels[example]] + surer);
  };
  /** @param {number} surer */
  const weightAt = (surer) =>
    1 - softmax(raised(surer), model.get("temperature"))[labels[model.get("example")]];

  const now = () => {
    const [example, temperature] = [model.get("example"), model.get("temperature")];
    const surer = model.get("surer");
    const label = labels[example];
    const [student, teacher] = [students[example], raised(surer)];
    const [ps, pt] = [student, teacher].map((z) => softmax(z, temperature)[label]);
    const [asked, told] = [student, teacher].map((z) => amongOthers(z, label, temperature));
    const ofLabel = asked.map((a, c) => temperature * (c === label ? ps - pt : a * (pt - ps)));
    const ofOthers = asked.map((a, c) => temperature * (1 - pt) * (a - told[c]));
    return {
      temperature,
      surer,
      label,
      asked,
      told,
      weight: 1 - pt,
      gradient: { label: ofLabel, others: ofOthers, total: ofLabel.map((g, c) => g + ofOthers[c]) },
    };
  };

  const digits = thumbnails({
    label: "Image",
    images,
    names: labels.map((label) => classes[label]),
    onChange: change(model, "example"),
  });
  const sureness = slider({
    label: "Teacher’s logit of the label",
    spoken: "added to the teacher’s logit of the label",
    stops: range(121).map((i) => SURER[0] + i / 4),
    format: (a) => signed(a),
    onChange: change(model, "surer"),
  });
  const heat = slider({
    label: "Temperature",
    spoken: "temperature",
    stops: temperatureStops(...HEAT),
    format: short,
    onChange: change(model, "temperature"),
  });

  const others = panel({
    title: "The others among themselves",
    legend: [
      ["kd-accent", "teacher (numbers)"],
      ["kd-plain", "student"],
    ],
    draw(width) {
      const { asked, told, label } = now();
      const drawn = bars({
        width,
        labels: classes,
        bold: label,
        row: 27,
        series: [
          { kind: "kd-plain", values: asked },
          { kind: "kd-accent", values: told },
        ],
        domain: [0, 1],
        format: (v) => fixed(v, 3),
        ticks: [0, 0.5, 1],
      });
      return {
        ...drawn,
        summary: `Without the label, teacher: ${topClasses(told, classes)}. Student: ${topClasses(asked, classes)}`,
      };
    },
  });

  const curve = panel({
    title: "Weight of the others’ part, 1 − p",
    legend: [["", "drag the dot or the slider"]],
    onPoint: (a) => change(model, "surer")(clamp(Math.round(a * 4) / 4, ...SURER)),
    draw(width) {
      const { surer, weight } = now();
      const drawn = curves({
        width,
        height: 292,
        x: {
          domain: SURER,
          ticks: [-10, 0, 10, 20],
          format: (a) => signed(a, 0),
          label: "added to the teacher’s logit of the label",
        },
        y: { domain: [0, 1.1], ticks: [0, 0.5, 1], format: (v) => fixed(v, 1) },
        lines: [
          { kind: "kd-accent", points: range(121).map((i) => [SURER[0] + i / 4, weightAt(SURER[0] + i / 4)]) },
        ],
        marker: { x: surer, ys: [["kd-accent", weight, fixed(weight, 3)]] },
      });
      return { ...drawn, summary: `Weight of the others’ part: ${fixed(weight, 3)} where the slider stands` };
    },
  });

  const gradient = panel({
    title: "Gradient of soft targets",
    legend: [
      ["kd-plain", "label’s part"],
      ["kd-accent", "others’ part"],
      ["kd-strong", "both (numbers)"],
    ],
    draw(width) {
      const { gradient: g, label } = now();
      const far = axisLimit(Math.max(0.1, ...Object.values(g).flat().map(Math.abs)));
      const drawn = bars({
        width,
        labels: classes,
        bold: label,
        row: 27,
        series: [
          { kind: "kd-plain", values: g.label },
          { kind: "kd-accent", values: g.others },
          { kind: "kd-strong", values: g.total },
        ],
        domain: [-far, far],
        format: (v) => signed(v, 3),
        ticks: [-far, 0, far],
        ends: ["← raises z", "lowers z →"],
      });
      const c = ranked(g.total.map(Math.abs))[0];
      const parts = `label’s part ${signed(g.label[c], 3)}, others’ part ${signed(g.others[c], 3)}`;
      return { ...drawn, summary: `Gradient for the student’s logits, largest for ${classes[c]}: ${parts}` };
    },
  });

  const words = readout();
  const update = () => {
    const { temperature, surer, label, told, asked, weight, gradient: g } = now();
    digits.show(model.get("example"));
    sureness.show(surer);
    heat.show(temperature);
    [others, curve, gradient].forEach((part) => part.show());
    words.show(
      `Label ${classes[label]}, temperature ${short(temperature)}: the others’ part has the weight ` +
        `${fixed(weight, 3)}. Among themselves the teacher has ${topClasses(told, classes)}.`,
      {
        temperature,
        surer,
        weight,
        "others-student": asked,
        "others-teacher": told,
        "gradient-label": g.label,
        "gradient-others": g.others,
        "gradient-total": g.total,
      },
    );
  };
  return assemble({
    model,
    el,
    name: "The two parts of the soft-target loss",
    traits: ["example", "temperature", "surer"],
    controls: [digits, sureness, heat],
    panels: [others, curve, gradient],
    readout: words,
    update,
  });
}

export default { render };
