// @ts-check
// Chapter 6: the attention maps of a student and a teacher over one image, and the loss between them against p.

import {
  assemble,
  axisLimit,
  brushOf,
  change,
  choice,
  curves,
  decoded,
  fixed,
  html,
  nearest,
  panel,
  picture,
  range,
  readout,
  short,
  slider,
  text,
  thumbnails,
  tickValues,
} from "./kit.js";

// Orange stands out from black paper and from white ink alike.
const HEAT = [255, 122, 0];
const STRENGTH = 0.85;

/**
 * @param {Host<
 *   { images: Packed, names: string[], layers: string[], exponents: number[],
 *     maps: Packed[][], losses: { code: number[][][], paper: number[][][] } },
 *   { example: number, layer: number, p: number }
 * >} host
 */
function render({ model, el }) {
  const { images, names, layers, exponents, maps, losses } = model.get("state");
  const heats = maps.map((pair) => pair.map(({ shape, bytes }) => ({ shape, values: decoded(bytes) })));
  const now = () => {
    const [example, layer, p] = [model.get("example"), model.get("layer"), model.get("p")];
    const place = exponents.indexOf(p);
    const [code, paper] = [losses.code, losses.paper].map((form) => form[layer][place][example]);
    return { example, layer, p, place, code, paper };
  };

  const image = thumbnails({ label: "Image", images, names, onChange: change(model, "example") });
  const depth = choice({
    label: "Layer",
    kind: "segments",
    items: layers.map((name) => ({ content: html("span", {}, name), spoken: `layer ${name}` })),
    onChange: change(model, "layer"),
  });
  const exponent = slider({
    label: "Exponent p",
    spoken: "exponent p",
    stops: exponents,
    format: short,
    onChange: change(model, "p"),
  });

  const last = exponents[exponents.length - 1];
  const [, H, W] = images.shape;
  /** @param {number} network */
  const overlaid = (network) => {
    const { example, layer, place } = now();
    const { shape, values } = heats[layer][network];
    const [, count, height, width] = shape;
    const heat = values.subarray((place * count + example) * height * width);
    const canvas = picture(images, example);
    const brush = brushOf(canvas);
    const pixels = brush.getImageData(0, 0, W, H);
    for (let y = 0; y < H; y++)
      for (let x = 0; x < W; x++) {
        const cell = Math.floor((y * height) / H) * width + Math.floor((x * width) / W);
        const share = (STRENGTH * heat[cell]) / 255;
        for (let c = 0; c < 3; c++) {
          const i = 4 * (y * W + x) + c;
          pixels.data[i] = (1 - share) * pixels.data[i] + share * HEAT[c];
        }
      }
    brush.putImageData(pixels, 0, 0);
    return canvas.toDataURL();
  };

  const places = panel({
    title: "Where the two are active",
    legend: [["", () => `maps of ${heats[now().layer][0].shape.slice(2).join("\u2009×\u2009")} places`]],
    draw(width) {
      const { example, layer, p } = now();
      const [gap, head] = [12, 24];
      const side = Math.min((width - gap) / 2, 260);
      const shapes = ["Student", "Teacher"].flatMap(/** @returns {Shape[]} */ (name, network) => {
        const x = network * (side + gap);
        return [
          text("kd-name", x, 10, name),
          ["image", { href: overlaid(network), x, y: head, width: side, height: side }],
        ];
      });
      return {
        height: head + side,
        shapes,
        summary: `Attention maps of student and teacher, ${layers[layer]} at p = ${short(p)}, over a ${names[example]}`,
      };
    },
  });

  /** @type {PanelHead["legend"]} */
  const others = layers.length > 1 ? [["kd-plain", "the other layers"]] : [];
  const top = axisLimit(Math.max(...losses.paper.flat(2)));
  const curve = panel({
    title: "Loss against p (paper’s form)",
    legend: [["kd-accent", () => layers[now().layer]], ...others],
    onPoint: (p) => change(model, "p")(exponents[nearest(exponents, p)]),
    draw(width) {
      const { example, layer, p, paper } = now();
      /** @type {(l: number) => Point[]} */
      const points = (l) => exponents.map((at, i) => [at, losses.paper[l][i][example]]);
      const others = range(layers.length).filter((l) => l !== layer);
      const drawn = curves({
        width,
        height: 262,
        x: {
          domain: [exponents[0], last],
          ticks: range(last).map((i) => i + 1),
          format: String,
          label: "exponent p",
        },
        y: { domain: [0, top], ticks: tickValues(0, top), format: (v) => fixed(v, 1) },
        lines: [...others, layer].map((l) => ({
          kind: l === layer ? "kd-accent" : "kd-plain",
          points: points(l),
        })),
        marker: { x: p, ys: [["kd-accent", paper, fixed(paper, 2)]] },
      });
      return { ...drawn, summary: `Loss of ${layers[layer]} against p: ${fixed(paper, 3)} here` };
    },
  });

  const words = readout();
  const update = () => {
    const { example, layer, p, code, paper } = now();
    image.show(example);
    depth.show(layer);
    exponent.show(p);
    [places, curve].forEach((part) => part.show());
    words.show(
      `A ${names[example]}, ${layers[layer]}, p = ${short(p)}: the loss between the two maps is ` +
        `${fixed(code, 5)} in the code’s form and ${fixed(paper, 3)} in the paper’s.`,
      { example, layer, p, code, paper },
    );
  };
  return assemble({
    model,
    el,
    name: "Attention maps of student and teacher over one image",
    traits: ["example", "layer", "p"],
    controls: [image, depth, exponent],
    panels: [places, curve],
    readout: words,
    update,
  });
}

export default { render };
