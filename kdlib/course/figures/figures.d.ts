// What the live figures' JavaScript handles, for `deno check` and for editors. Nothing of this file is served.

type Point = [x: number, y: number];
type Limits = [low: number, high: number];
type Attributes = Record<string, string | number>;
type Shape = [tag: string, attributes: Attributes, text?: string];

/** uint8 arrays of one shape, in base64; the shape of images is [K, H, W, channels]. */
interface Packed {
  shape: number[];
  bytes: string;
}

/** A notebook's widget, or what boot.js puts in its place where there is no kernel. */
interface Model<Traits> {
  get<Name extends keyof Traits>(name: Name): Traits[Name];
  set<Name extends keyof Traits>(name: Name, value: Traits[Name]): void;
  on(event: string, listener: () => void): void;
  off(event: string, listener: () => void): void;
  save_changes(): void;
}

/** What render() is called with; the state is constant, the other traits are the reader's choices. */
interface Host<State, Choices> {
  model: Model<{ state: State } & Choices>;
  el: HTMLElement;
}

/** A part of a figure that shows the model as it is now. */
interface Part {
  node: HTMLElement;
  show(): void;
  stop(): void;
}

interface Figure<Traits> {
  model: Model<Traits>;
  el: HTMLElement;
  name: string;
  traits: (keyof Traits & string)[];
  controls: { node: Element }[];
  panels: { node: Element; stop(): void }[];
  readout: { node: Element };
  update(): void;
}

interface Slider {
  label: string;
  stops: number[];
  format(value: number): string;
  spoken: string;
  onChange(value: number): void;
}

interface Choice {
  label: string;
  items: { content: Element; spoken: string }[];
  onChange(place: number): void;
  kind: string;
}

interface Thumbnails {
  label: string;
  images: Packed;
  names: string[];
  onChange(place: number): void;
}

/** Where the reader may point, a drawing says which value lies at a pixel. */
interface Drawing {
  height: number;
  shapes: Shape[];
  summary: string;
  invert?: (pixel: number) => number;
}

interface PanelHead {
  title: string | Element;
  legend: [kind: string, words: string | (() => string)][];
}

type Panel =
  & PanelHead
  & (
    | { draw(width: number): Drawing; onPoint?: undefined }
    | { draw(width: number): Required<Drawing>; onPoint(value: number): void }
  );

interface Bars {
  width: number;
  labels: string[];
  series: { kind: string | string[]; values: number[] }[];
  domain: Limits;
  format(value: number): string;
  bold?: number;
  ticks: number[];
  ends?: string[];
  row?: number;
}

interface Axis {
  domain: Limits;
  ticks: number[];
  format(value: number): string;
}

type Guide = { y: number; x?: undefined; label: string } | { x: number; y?: undefined; label: string };

interface Curves {
  width: number;
  height: number;
  x: Axis & { label: string; log?: boolean };
  y: Axis;
  lines: { kind: string; points: Point[] }[];
  marker: { x: number; ys: [kind: string, y: number, label?: string][] };
  guides?: Guide[];
}

/** Where a drawing's axes are, in pixels, and at which pixel a value lies. */
interface Frame {
  left: number;
  right: number;
  bottom: number;
  px(value: number): number;
  py(value: number): number;
}

/** The sweep explorer's state; of every method a row of its table and a curve for each metric. */
interface Runs {
  sweeps: string[];
  views: string[];
  metrics: { name: string; unit: string; note: string }[];
  data: Record<string, RunSweep[]>;
}

interface RunSweep {
  baseline: string;
  about: string[];
  commands: string[];
  methods: RunMethod[];
}

interface RunMethod {
  label: string;
  seeds: number[];
  rows: string[][];
  curves: (RunCurve | null)[];
}

interface RunCurve {
  first: number;
  step: number;
  seeds: number[][];
}

interface Epoch {
  epoch: number;
  values: number[];
  mean: number;
  sd: number;
}

interface RunLine {
  label: string;
  style: string;
  dashed: boolean;
  points: Epoch[];
}

interface RunsTable {
  key: string;
  title: string;
  chosen: RunSweep;
  metric: number;
  hidden: string[];
  about: string[];
}
