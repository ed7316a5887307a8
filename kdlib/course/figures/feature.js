// @ts-check
// Chapter 5: one channel of a teacher's layer, and a regressor that learns to write the student's maps like it.

import {
  assemble,
  axisLimit,
  brushOf,
  change,
  curves,
  decoded,
  fixed,
  html,
  nearest,
  panel,
  range,
  readout,
  slider,
  text,
  thumbnails,
  tickValues,
} from "./kit.js";

/**
 * @param {Host<
 *   { images: Packed, names: string[], steps: number[], losses: number[], maps: Packed },
 *   { example: number, channel: number, moment: number }
 * >} host
 */
function render({ model, el }) {
  const { images, names, steps, losses, maps } = model.get("state");
  const [, examples, channels, height, width] = maps.shape;
  const values = decoded(maps.bytes);
  const now = () => {
    const [example, channel, moment] = [model.get("example"), model.get("channel"), model.get("moment")];
    return { example, channel, moment, loss: losses[moment] };
  };

  const image = thumbnails({ label: "Image", images, names, onChange: change(model, "example") });
  const which = slider({
    label: "Channel",
    spoken: "channel of the teacher",
    stops: range(channels),
    format: (c) => String(c + 1),
    onChange: change(model, "channel"),
  });
  const training = slider({
    label: "Training step",
    spoken: "step of the regressor's training",
    stops: range(steps.length),
    format: (m) => String(steps[m]),
    onChange: change(model, "moment"),
  });

  /** @param {number} place */
  const drawnMap = (place) => {
    const { example, channel } = now();
    const start = ((place * examples + example) * channels + channel) * height * width;
    const canvas = html("canvas", { width, height });
    const brush = brushOf(canvas);
    const pixels = brush.createImageData(width, height);
    for (let i = 0; i < height * width; i++) {
      pixels.data.fill(values[start + i], 4 * i, 4 * i + 3);
      pixels.data[4 * i + 3] = 255;
    }
    brush.putImageData(pixels, 0, 0);
    return canvas.toDataURL();
  };

  const beside = panel({
    title: "The same channel in both",
    legend: [["", () => `channel ${now().channel + 1} of ${channels}, bright where it is active`]],
    draw(room) {
      const { moment, channel } = now();
      const [gap, head] = [12, 24];
      const side = Math.min((room - gap) / 2, 260);
      const maps = [
        { name: "Teacher", place: 0 },
        { name: "Student, through the regressor", place: 1 + moment },
      ];
      const shapes = maps.flatMap(/** @returns {Shape[]} */ ({ name, place }, i) => [
        text("kd-name", i * (side + gap), 10, side < 200 ? name.split(",")[0] : name),
        [
          "image",
          {
            href: drawnMap(place),
            x: i * (side + gap),
            y: head,
            width: side,
            height: side,
            style: "image-rendering: pixelated",
          },
        ],
      ]);
      return {
        height: head + side,
        shapes,
        summary: `Channel ${channel + 1} of the teacher, and of the student through the regressor after ${steps[moment]} steps`,
      };
    },
  });

  const top = axisLimit(Math.max(...losses));
  const curve = panel({
    title: "Hint loss, all channels",
    legend: [["kd-accent", () => `after ${steps[now().moment]} steps: ${fixed(now().loss, 3)}`]],
    onPoint: (m) => change(model, "moment")(nearest(range(steps.length), m)),
    draw(room) {
      const { moment, loss } = now();
      const drawn = curves({
        width: room,
        height: 262,
        x: {
          domain: [0, steps.length - 1],
          ticks: range(steps.length),
          format: (m) => String(steps[m]),
          label: "step of the regressor's training",
        },
        y: { domain: [0, top], ticks: tickValues(0, top), format: (v) => fixed(v, 2) },
        lines: [{ kind: "kd-accent", points: losses.map((value, m) => [m, value]) }],
        marker: { x: moment, ys: [["kd-accent", loss, fixed(loss, 3)]] },
      });
      return { ...drawn, summary: `Hint loss ${fixed(loss, 3)} after ${steps[moment]} steps` };
    },
  });

  const words = readout();
  const update = () => {
    const { example, channel, moment, loss } = now();
    image.show(example);
    which.show(channel);
    training.show(moment);
    [beside, curve].forEach((part) => part.show());
    words.show(
      `After ${steps[moment]} steps of the regressor's training the hint loss is ${fixed(loss, 3)}. ` +
        `Shown: a ${names[example]}, channel ${channel + 1}.`,
      { example, channel, moment, loss },
    );
  };
  return assemble({
    model,
    el,
    name: "A channel of the teacher, and the student's attempt at it through a regressor",
    traits: ["example", "channel", "moment"],
    controls: [image, which, training],
    panels: [beside, curve],
    readout: words,
    update,
  });
}

export default { render };
