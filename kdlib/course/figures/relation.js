// @ts-check
// Chapter 7: a student's map of the images, its distances beside the teacher's, and the loss that compares them.

import {
  assemble,
  brushOf,
  change,
  clamp,
  fixed,
  line,
  panel,
  picture,
  range,
  readout,
  slider,
  sum,
  text,
} from "./kit.js";

const NEIGHBOURS = 5;
// Both in units of the mean distance; what lies beyond is drawn at the edge.
const REACH = 1.5;
const FARTHEST = 2.6;

/**
 * @param {Host<
 *   { maps: Point[][], distances: number[], images: Packed, names: string[], colours: string[],
 *     moments: string[] },
 *   { moment: number, example: number, turn: number }
 * >} host
 */
function render({ model, el }) {
  const { maps, distances, images, names, colours, moments } = model.get("state");
  const count = names.length;
  const pairs = range(count).flatMap((i) => range(count - i - 1).map((k) => [i, i + k + 1]));

  /** @type {(a: Point, b: Point) => number} */
  const between = ([ax, ay], [bx, by]) => Math.hypot(ax - bx, ay - by);
  // As in RKD, each network's distances are in units of their own mean.
  /** @param {number[]} values */
  const inOwnUnit = (values) => {
    const mean = sum(values) / values.length;
    return values.map((value) => value / mean);
  };
  /** @param {number} gap */
  const huber = (gap) => (Math.abs(gap) < 1 ? (gap * gap) / 2 : Math.abs(gap) - 0.5);
  /** @type {(points: Point[], degrees: number) => Point[]} */
  const turned = (points, degrees) => {
    const [c, s] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
    return points.map(([x, y]) => [c * x - s * y, s * x + c * y]);
  };
  const now = () => {
    const points = turned(maps[model.get("moment")], model.get("turn"));
    const found = inOwnUnit(pairs.map(([i, j]) => between(points[i], points[j])));
    const loss = sum(found.map((d, p) => huber(d - distances[p]))) / pairs.length;
    return { points, found, loss, example: model.get("example") };
  };

  /**
   * The images nearest to one, by the distances of all pairs.
   * @type {(example: number, all: number[]) => number[]}
   */
  const nearestTo = (example, all) => {
    const own = pairs.flatMap(([i, j], p) =>
      i === example ? [[j, all[p]]] : j === example ? [[i, all[p]]] : [],
    );
    return own
      .sort((a, b) => a[1] - b[1])
      .slice(0, NEIGHBOURS)
      .map(([i]) => i);
  };

  const tiles = range(count).map((i) => inked(images, i, colours[i]));
  const training = slider({
    label: "Training",
    spoken: "moment of the training",
    stops: range(maps.length),
    format: (i) => moments[i],
    onChange: change(model, "moment"),
  });
  const image = slider({
    label: "Image",
    spoken: "image",
    stops: range(count),
    format: (i) => `${i + 1}`,
    onChange: change(model, "example"),
  });
  const turn = slider({
    label: "Turn",
    spoken: "turn of the map in degrees",
    stops: range(73).map((i) => 5 * i - 180),
    format: (degrees) => `${fixed(degrees, 0)}°`,
    onChange: change(model, "turn"),
  });

  /** @type {(point: Point) => Point} */
  const within = ([x, y]) => [clamp(x, -REACH, REACH), clamp(y, -REACH, REACH)];
  /** @type {(point: Point) => Point} */
  let toPixels;
  const map = panel({
    title: "The student’s map",
    legend: [["", () => `lines: to the ${NEIGHBOURS} images that the teacher finds nearest`]],
    draw(width) {
      const { points, example } = now();
      const [side, tile] = [Math.min(width, 400), 20];
      const scale = (side / 2 - tile / 2 - 2) / REACH;
      toPixels = (point) => {
        const [x, y] = within(point);
        return [width / 2 + scale * x, side / 2 - scale * y];
      };
      const places = points.map(toPixels);
      const [cx, cy] = places[example];
      /** @type {Shape[]} */
      const shapes = [
        ["rect", { class: "kd-ground", x: width / 2 - side / 2, y: 0, width: side, height: side, rx: 6 }],
        ...nearestTo(example, distances).map((i) => line("kd-link", cx, cy, ...places[i])),
        ...places.map(/** @returns {Shape} */ ([x, y], i) => [
          "image",
          { href: tiles[i], x: x - tile / 2, y: y - tile / 2, width: tile, height: tile },
        ]),
        ["ellipse", { class: "kd-ring", cx, cy, rx: 15, ry: 15 }],
      ];
      return { height: side, shapes, summary: `A map of ${count} images; ${neighbours()}` };
    },
  });
  /** @param {PointerEvent} event */
  const pick = (event) => {
    if (!(event.buttons || event.type === "pointerdown")) return;
    const box = map.svg.getBoundingClientRect();
    /** @type {Point} */
    const here = [event.clientX - box.left, event.clientY - box.top];
    const gaps = now().points.map((point) => between(toPixels(point), here));
    change(model, "example")(gaps.indexOf(Math.min(...gaps)));
  };
  map.svg.classList.add("kd-pickable");
  map.svg.addEventListener("pointerdown", pick);
  map.svg.addEventListener("pointermove", pick);

  const compared = panel({
    title: "Distances of all pairs",
    legend: [
      ["kd-plain", () => `all ${pairs.length}`],
      ["kd-accent", () => `those of image ${model.get("example") + 1}`],
      ["", () => `loss ${fixed(now().loss, 3)}`],
    ],
    draw(width) {
      const { found, loss, example } = now();
      const [side, left, below] = [Math.min(width - 44, 356), 40, 40];
      /** @type {((d: number) => number)[]} */
      const [x, y] = [(d) => left + (d / FARTHEST) * side, (d) => side - (d / FARTHEST) * side + 4];
      /** @param {number} d */
      const cap = (d) => Math.min(d, FARTHEST);
      /** @param {number[]} chosen */
      const dots = (chosen) =>
        chosen
          .map((p) => `M${x(cap(distances[p])).toFixed(1)} ${y(cap(found[p])).toFixed(1)}h0.01`)
          .join("");
      const own = range(pairs.length).filter((p) => pairs[p].includes(example));
      const ticks = [0, 1, 2];
      /** @type {Shape[]} */
      const shapes = [
        ...ticks.flatMap((t) => [
          line("kd-grid", left, y(t), left + side, y(t)),
          text("kd-tick", left - 6, y(t), String(t), "end"),
          text("kd-tick", x(t), side + 17, String(t), "middle"),
        ]),
        line("kd-guide", x(0), y(0), x(FARTHEST), y(FARTHEST)),
        ["path", { class: "kd-dots", d: dots(range(pairs.length)) }],
        ["path", { class: "kd-dots kd-accent", d: dots(own) }],
        text("kd-tick", left + side / 2, side + below - 4, "in the teacher’s features", "middle"),
        text("kd-tick kd-halo", left + 4, 12, "on the map"),
      ];
      return {
        height: side + below + 6,
        shapes,
        summary: `Distances of ${pairs.length} pairs, on the map and in the teacher’s features: loss ${fixed(loss, 3)}`,
      };
    },
  });

  const neighbours = () => {
    const { found, example } = now();
    /** @param {number[]} all */
    const named = (all) =>
      nearestTo(example, all)
        .map((i) => names[i])
        .join(", ");
    return `nearest to image ${example + 1}, a ${names[example]}, are ${named(distances)} for the teacher and ${named(found)} on the map`;
  };

  const words = readout();
  const update = () => {
    const { loss, found, example } = now();
    training.show(model.get("moment"));
    image.show(example);
    turn.show(model.get("turn"));
    [map, compared].forEach((part) => part.show());
    const moment = moments[model.get("moment")];
    words.show(
      `${moment[0].toUpperCase()}${moment.slice(1)}, turned by ${fixed(model.get("turn"), 0)}°: loss ${fixed(loss, 3)}. ` +
        `${neighbours().replace(/^n/, "N")}.`,
      { loss, distances: found.slice(0, 20), example },
    );
  };
  return assemble({
    model,
    el,
    name: "A student’s map of the images, and its distances beside the teacher’s",
    traits: ["moment", "example", "turn"],
    controls: [training, image, turn],
    panels: [map, compared],
    readout: words,
    update,
  });
}

/**
 * Image i as ink of one colour on nothing, so that it can be read on a light ground and on a dark one.
 * @type {(images: Packed, i: number, colour: string) => string}
 */
function inked(images, i, colour) {
  const canvas = picture(images, i);
  const brush = brushOf(canvas);
  const pixels = brush.getImageData(0, 0, canvas.width, canvas.height);
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  for (let p = 0; p < pixels.data.length; p += 4) pixels.data.set([red, green, blue, pixels.data[p]], p);
  brush.putImageData(pixels, 0, 0);
  return canvas.toDataURL();
}

export default { render };
