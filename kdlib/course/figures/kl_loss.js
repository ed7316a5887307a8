// @ts-check
// Chapter 3: the two terms of the loss, and what each asks of every logit, against temperature and weight.

import {
  assemble,
  axisLimit,
  bars,
  change,
  choice,
  curves,
  fixed,
  html,
  logSoftmax,
  nearest,
  niceAbove,
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
  tickValues,
  topClasses,
} from "./kit.js";

/** @type {Limits} */
const LIMITS = [0.5, 50];

/** @type {(teacher: number[], student: number[], temperature: number) => number} */
function divergence(teacher, student, temperature) {
  const [logp, logq] = [logSoftmax(teacher, temperature), logSoftmax(student, temperature)];
  return sum(logp.map((lp, c) => (lp > -700 ? Math.exp(lp) * (lp - logq[c]) : 0)));
}

/** @type {(teacher: number[], student: number[], temperature: number) => number} */
const softLoss = (teacher, student, temperature) =>
  temperature ** 2 * divergence(teacher, student, temperature);

/**
 * What T² · KL comes to as T grows: half the mean square of the logits' differences, each set of logits centred.
 * @type {(teacher: number[], student: number[]) => number}
 */
function matchingLimit(teacher, student) {
  const differences = teacher.map((z, c) => z - student[c]);
  const mean = sum(differences) / differences.length;
  return sum(differences.map((d) => (d - mean) ** 2)) / (2 * differences.length);
}

/**
 * @param {Host<
 *   { teacher_logits: number[], label: number, classes: string[] },
 *   { student_logits: number[], temperature: number, soft_weight: number, chosen_class: number }
 * >} host
 */
function render({ model, el }) {
  const { teacher_logits: teacher, label, classes } = model.get("state");
  const stops = temperatureStops(...LIMITS);
  const reach = niceAbove(Math.max(...[...teacher, ...model.get("student_logits")].map(Math.abs)));

  const now = () => {
    const student = model.get("student_logits");
    const [temperature, weight] = [model.get("temperature"), model.get("soft_weight")];
    const [p, q] = [softmax(teacher, temperature), softmax(student, temperature)];
    const hard = softmax(student).map((s, c) => (1 - weight) * (s - Number(c === label)));
    const soft = q.map((s, c) => weight * temperature * (s - p[c]));
    const losses = { hard: -logSoftmax(student)[label], soft: softLoss(teacher, student, temperature) };
    return {
      student,
      temperature,
      weight,
      p,
      q,
      gradient: { hard, soft, total: hard.map((g, c) => g + soft[c]) },
      losses: { ...losses, total: (1 - weight) * losses.hard + weight * losses.soft },
    };
  };

  const heat = slider({
    label: "Temperature",
    spoken: "temperature",
    stops,
    format: short,
    onChange: change(model, "temperature"),
  });
  const weight = slider({
    label: "Soft weight",
    spoken: "soft weight",
    stops: range(101).map((i) => i / 100),
    format: (w) => fixed(w),
    onChange: change(model, "soft_weight"),
  });
  const chosen = choice({
    label: "Class",
    kind: "segments",
    items: classes.map((name) => ({ content: html("span", {}, name), spoken: `class ${name}` })),
    onChange: change(model, "chosen_class"),
  });
  const logit = slider({
    label: "Its logit",
    spoken: "student’s logit of the chosen class",
    stops: range(201).map((i) => Number((((i - 100) / 100) * reach).toFixed(4))),
    format: (z) => fixed(z),
    onChange: (z) => change(model, "student_logits")(now().student.with(model.get("chosen_class"), z)),
  });

  const rows = { labels: classes, bold: label, row: 27 };
  const probabilities = panel({
    title: "Probabilities at this temperature",
    legend: [
      ["kd-accent", "teacher"],
      ["kd-plain", "student (numbers)"],
    ],
    draw(width) {
      const { p, q } = now();
      const series = [
        { kind: "kd-accent", values: p },
        { kind: "kd-plain", values: q },
      ];
      const drawn = bars({
        ...rows,
        width,
        series,
        domain: [0, 1],
        format: (v) => fixed(v, 3),
        ticks: [0, 0.5, 1],
      });
      return { ...drawn, summary: `Teacher: ${topClasses(p, classes)}. Student: ${topClasses(q, classes)}` };
    },
  });

  const gradient = panel({
    title: "Gradient for the student’s logits",
    legend: [
      ["kd-plain", "hard"],
      ["kd-accent", "soft"],
      ["kd-strong", "total (numbers)"],
    ],
    draw(width) {
      const { hard, soft, total } = now().gradient;
      const far = axisLimit(Math.max(0.1, ...[...hard, ...soft, ...total].map(Math.abs)));
      const series = [
        { kind: "kd-plain", values: hard },
        { kind: "kd-accent", values: soft },
        { kind: "kd-strong", values: total },
      ];
      const drawn = bars({
        ...rows,
        width,
        series,
        domain: [-far, far],
        format: (v) => signed(v, 3),
        ticks: [-far, 0, far],
        ends: ["← raises z", "lowers z →"],
      });
      const c = ranked(total.map(Math.abs))[0];
      const parts = `hard ${signed(hard[c], 3)}, soft ${signed(soft[c], 3)}, total ${signed(total[c], 3)}`;
      return { ...drawn, summary: `Weighted gradient for each logit, largest for ${classes[c]}: ${parts}` };
    },
  });

  const curve = panel({
    title: "Soft loss against temperature",
    legend: [
      ["kd-accent", "T² · KL"],
      ["kd-plain", "KL alone"],
    ],
    onPoint: (t) => change(model, "temperature")(stops[nearest(stops.map(Math.log), Math.log(t))]),
    draw(width) {
      const { student, temperature, losses } = now();
      const scaled = stops.map(/** @returns {Point} */ (t) => [t, softLoss(teacher, student, t)]);
      const limit = matchingLimit(teacher, student);
      const top = axisLimit(1.15 * Math.max(0.01, limit, ...scaled.map(([, loss]) => loss)));
      const drawn = curves({
        width,
        height: 292,
        x: { domain: LIMITS, log: true, ticks: [0.5, 1, 3, 10, 50], format: String, label: "temperature" },
        y: { domain: [0, top], ticks: tickValues(0, top), format: String },
        lines: [
          { kind: "kd-plain", points: stops.map((t) => [t, divergence(teacher, student, t)]) },
          { kind: "kd-accent", points: scaled },
        ],
        guides: [{ y: limit, label: `logit matching: ${fixed(limit)}` }],
        marker: { x: temperature, ys: [["kd-accent", losses.soft, fixed(losses.soft)]] },
      });
      return {
        ...drawn,
        summary: `T squared times KL against temperature: ${fixed(losses.soft)} here, towards ${fixed(limit)}`,
      };
    },
  });

  const words = readout();
  const update = () => {
    const { student, temperature, weight: soft, gradient: g, losses } = now();
    heat.show(temperature);
    weight.show(soft);
    chosen.show(model.get("chosen_class"));
    logit.show(student[model.get("chosen_class")]);
    [probabilities, gradient, curve].forEach((part) => part.show());
    const products = `${fixed(1 - soft)} × ${fixed(losses.hard, 3)} + ${fixed(soft)} × ${fixed(losses.soft, 3)}`;
    words.show(
      `At temperature ${short(temperature)}: hard loss ${fixed(losses.hard, 3)}, soft loss ${fixed(losses.soft, 3)}; total ${products} = ${fixed(losses.total, 3)}.`,
      {
        temperature,
        "soft-weight": soft,
        "student-logits": student,
        "hard-loss": losses.hard,
        "soft-loss": losses.soft,
        "total-loss": losses.total,
        "gradient-hard": g.hard,
        "gradient-soft": g.soft,
        "gradient-total": g.total,
      },
    );
  };
  return assemble({
    model,
    el,
    name: "The loss of distillation and its gradient",
    traits: ["temperature", "soft_weight", "chosen_class", "student_logits"],
    controls: [heat, weight, chosen, logit],
    panels: [probabilities, gradient, curve],
    readout: words,
    update,
  });
}

export default { render };
