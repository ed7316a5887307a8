// @ts-check
// Chapter 1: what the label says about an image, beside what a teacher says.

import {
  assemble,
  bars,
  change,
  html,
  panel,
  percent,
  picture,
  readout,
  short,
  slider,
  softmax,
  temperatureStops,
  thumbnails,
  topClasses,
} from "./kit.js";

/**
 * @param {Host<
 *   { logits: number[][], labels: number[], classes: string[], images: Packed },
 *   { example: number, temperature: number }
 * >} host
 */
function render({ model, el }) {
  const { logits, labels, classes, images } = model.get("state");
  const now = () => {
    const [example, temperature] = [model.get("example"), model.get("temperature")];
    return {
      example,
      temperature,
      label: labels[example],
      probabilities: softmax(logits[example], temperature),
    };
  };

  const digits = thumbnails({
    label: "Image",
    images,
    names: labels.map((label) => classes[label]),
    onChange: change(model, "example"),
  });
  const heat = slider({
    label: "Temperature",
    spoken: "temperature",
    stops: temperatureStops(1, 10),
    format: short,
    onChange: change(model, "temperature"),
  });

  const large = {
    node: html("div", { class: "kd-panel kd-large" }),
    show: () => large.node.replaceChildren(picture(images, now().example)),
    stop() {},
  };

  /** @type {(title: string, remark: string, kind: string, values: () => number[], words: () => string) => Part} */
  const answer = (title, remark, kind, values, words) =>
    panel({
      title,
      legend: [["", remark]],
      draw(width) {
        const series = [{ kind, values: values() }];
        const drawn = bars({
          width,
          labels: classes,
          series,
          domain: [0, 1],
          format: (v) => percent(v),
          bold: now().label,
          ticks: [0, 0.5, 1],
        });
        return { ...drawn, summary: words() };
      },
    });
  const hard = answer(
    "The label",
    "one class, and nothing about the others",
    "kd-strong",
    () => classes.map((_, c) => Number(c === now().label)),
    () => `The label: ${classes[now().label]} and nothing else`,
  );
  const soft = answer(
    "The teacher’s answer",
    "what else the image looks like",
    "kd-accent",
    () => now().probabilities,
    () => `The teacher's probabilities: ${topClasses(now().probabilities, classes)}`,
  );

  const words = readout();
  const update = () => {
    const { example, temperature, label, probabilities } = now();
    digits.show(example);
    heat.show(temperature);
    [large, hard, soft].forEach((part) => part.show());
    words.show(
      `The label says ${classes[label]}. The teacher, at temperature ${short(temperature)}: ` +
        `${topClasses(probabilities, classes)}. All other classes than ${classes[label]} share ${percent(1 - probabilities[label])}.`,
      { temperature, probabilities },
    );
  };
  return assemble({
    model,
    el,
    name: "The label and the teacher's answer, for one image",
    traits: ["example", "temperature"],
    controls: [digits, heat],
    panels: [large, hard, soft],
    readout: words,
    update,
  });
}

export default { render };
