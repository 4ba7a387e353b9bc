/** The steps of a preprocessing, by their names in a file. */
import type { Step } from "../model/metadata";
import { Problem } from "../problem";
import type { Shape } from "../volume";
import { insideOf } from "./brain";
import {
  type Grid,
  isOrientation,
  movedGrid,
  spacingOf,
  turnedGrid,
  turnsBack,
  turnsTo,
} from "./grid";
import {
  clipped,
  clippedToPercentiles,
  rescaled,
  robustZScore,
  standardized,
  tissuePeak,
  WHERE,
  zScore,
} from "./intensity";
import { type Move, moved } from "./moves";
import { PEAKS, SIDES } from "./peak";

/** Channels on one grid; null where one is missing. */
export interface Stack {
  readonly grid: Grid;
  readonly channels: readonly (Float32Array | null)[];
}

/** A step with its fields: what it makes of an image, and the way back where voxels moved. */
export type Action = (image: Stack) => { readonly image: Stack; readonly back?: Move };

/** Voxels that are more than this page can hold. */
const MOST_VOXELS = 2 ** 29;
/** In voxels; a field of view that is this close to one more voxel holds it. */
const WHOLE = 1e-3;
/** Pixels that are off by no more than this fraction are as they should be. */
const SQUARE = 1e-6;
const LANDMARKS = 13;

/** Return why a step cannot run in a browser: its name, with its method; null where it can. */
export function unsupported({ step, method }: Step): string | null {
  if (step === "brain-extraction") {
    return method === "zero-background" ? null : `${step} (${method ?? "classical"})`;
  }
  return Object.hasOwn(STEPS, step) ? null : step;
}

/**
 * Return what a step does.
 *
 * @throws Problem A field is unknown, or its value out of range.
 */
export function actionOf(step: Step): Action {
  return STEPS[step.step](step);
}

const STEPS: Readonly<Record<string, (step: Step) => Action>> = {
  reorient(step) {
    const { orientation } = read(step, { orientation: text("RAS", isOrientation) });
    return (image) => {
      const turns = turnsTo(image.grid.affine, orientation);
      const after = turnedGrid(image.grid, turns);
      const there: Move = { kind: "turn", from: image.grid.shape, turns };
      return through(image, after, there, {
        kind: "turn",
        from: after.shape,
        turns: turnsBack(turns),
      });
    };
  },
  resample(step) {
    const { spacing, tolerance } = read(step, {
      spacing: triple((mm) => mm > 0, [1, 1, 1]),
      tolerance: number(0, (share) => share >= 0 && share < 1),
    });
    return (image) => {
      const { grid } = image;
      const apart = spacingOf(grid.affine).map((old, axis) => Math.abs(old / spacing[axis] - 1));
      if (tolerance && Math.max(...apart) <= tolerance) return { image };
      return resampled(image, spacing);
    };
  },
  resize(step) {
    const { size } = read(step, {
      size: number(undefined, (pixels) => Number.isInteger(pixels) && pixels > 0),
    });
    return (image) => {
      const [rows, columns, slices] = spacingOf(image.grid.affine);
      const [height, width] = image.grid.shape;
      const pixel = Math.max(height * rows, width * columns) / size;
      const apart = [rows, columns].map((old) => Math.abs(old / pixel - 1));
      return Math.max(...apart) <= SQUARE ? { image } : resampled(image, [pixel, pixel, slices]);
    };
  },
  "crop-or-pad"(step) {
    const { shape } = read(step, {
      shape: triple((voxels) => Number.isInteger(voxels) && voxels > 0),
    });
    return (image) => {
      const start = image.grid.shape.map((old, axis) => {
        const half = Math.floor((Math.abs(shape[axis] - old) + 1) / 2);
        return old > shape[axis] ? half : -half;
      });
      return cutTo(image, start, shape);
    };
  },
  "crop-to-brain"(step) {
    const { margin } = read(step, { margin: number(5, (mm) => mm >= 0) });
    return (image) => {
      const box = boxAround(image);
      if (box === null) throw new Problem("stepNothingToCrop");
      const spacing = spacingOf(image.grid.affine);
      const more = spacing.map((mm) => Math.ceil(margin / mm - WHOLE));
      const start = box.map(([first], axis) => Math.max(first - more[axis], 0));
      const [i, j, k] = box.map(
        ([, last], axis) => Math.min(last + 1 + more[axis], image.grid.shape[axis]) - start[axis],
      );
      return cutTo(image, start, [i, j, k]);
    };
  },
  "z-score"(step) {
    const { where } = read(step, { where: oneOf(WHERE, "all") });
    return eachChannel((data) => zScore(data, where));
  },
  "robust-z-score"(step) {
    const { where } = read(step, { where: oneOf(WHERE, "nonzero") });
    return eachChannel((data) => robustZScore(data, where));
  },
  "tissue-peak"(step) {
    const { peak, side, where } = read(step, {
      peak: oneOf(PEAKS, "largest"),
      side: oneOf(SIDES, "both"),
      where: oneOf(WHERE, "nonzero"),
    });
    return eachChannel((data) => tissuePeak(data, peak, side, where));
  },
  "min-max"(step) {
    read(step, {});
    return eachChannel((data) => rescaled(data, 0, 1));
  },
  rescale(step) {
    const { low, high } = read(step, { low: number(-1), high: number(1) });
    if (low >= high) throw badField(step, "high");
    return eachChannel((data) => rescaled(data, low, high));
  },
  clip(step) {
    const { low, high } = read(step, { low: number(), high: number() });
    if (low >= high) throw badField(step, "high");
    return eachChannel((data) => clipped(data, Math.fround(low), Math.fround(high)));
  },
  "clip-percentiles"(step) {
    const isPercentile = (value: number) => value >= 0 && value <= 100;
    const { low, high } = read(step, {
      low: number(0.5, isPercentile),
      high: number(99.5, isPercentile),
    });
    if (low >= high) throw badField(step, "high");
    return eachChannel((data) => clippedToPercentiles(data, low, high));
  },
  "histogram-standardization"(step) {
    const { landmarks, where, cutoff } = read(step, {
      landmarks: landmarksOf,
      where: oneOf(WHERE, "all"),
      cutoff: cutoffOf,
    });
    return (image) => {
      if (landmarks.length !== image.channels.length) throw badField(step, "landmarks");
      return eachChannel((data, n) => standardized(data, landmarks[n], where, cutoff))(image);
    };
  },
  "brain-extraction"(step) {
    const { channel } = read(step, {
      method: text("classical"),
      channel: number(0, (n) => Number.isInteger(n) && n >= 0),
    });
    return (image) => {
      if (channel >= image.channels.length) throw badField(step, "channel");
      const inside = insideOf(image.channels[channel], image.grid.shape);
      return eachChannel((data) => data.map((value, n) => value * inside[n]))(image);
    };
  },
};

function eachChannel(change: (data: Float32Array, channel: number) => Float32Array): Action {
  return ({ grid, channels }) => {
    const changed = channels.map((data, n) => (data === null ? null : change(data, n)));
    return { image: { grid, channels: changed } };
  };
}

function through({ channels }: Stack, grid: Grid, there: Move, back: Move) {
  const arrived = channels.map((data) => (data === null ? null : moved(data, there)));
  return { image: { grid, channels: arrived }, back };
}

function cutTo(image: Stack, start: readonly number[], to: Shape) {
  const from = image.grid.shape;
  const back: Move = { kind: "cut", from: to, start: start.map((first) => -first), to: from };
  return through(image, movedGrid(image.grid, start, to), { kind: "cut", from, start, to }, back);
}

function resampled(image: Stack, spacing: readonly number[]): ReturnType<Action> {
  const { grid } = image;
  const after = gridOfSpacing(grid, spacing);
  const there: Move = { kind: "resample", from: grid, to: after };
  return through(image, after, there, { kind: "resample", from: after, to: grid });
}

/** Return the grid of another spacing over a field of view; its axes and centre stay. */
function gridOfSpacing({ shape, affine }: Grid, spacing: readonly number[]): Grid {
  const old = spacingOf(affine);
  const [i, j, k] = shape.map((size, axis) =>
    size === 1 ? 1 : Math.max(1, Math.floor((size * old[axis]) / spacing[axis] + WHOLE)),
  );
  const after: Shape = [i, j, k];
  if (i * j * k > MOST_VOXELS) {
    throw new Problem("stepTooManyVoxels", { shape: after.join(" × "), spacing: times(spacing) });
  }
  const rows = affine.map((row, r) => {
    if (r === 3) return row;
    const turned = spacing.map((mm, axis) => row[axis] * (mm / old[axis]));
    const shift = (sizes: Shape, steps: readonly number[]) =>
      steps.reduce((sum, step, axis) => sum + (axis < 3 ? (step * (sizes[axis] - 1)) / 2 : 0), 0);
    return [...turned, row[3] + (shift(shape, row) - shift(after, turned))];
  });
  return { shape: after, affine: rows };
}

/** Return the first and the last voxel along each axis that is not 0 in any channel. */
function boxAround({ grid, channels }: Stack): [number, number][] | null {
  const [nx, ny, nz] = grid.shape;
  const box: [number, number][] = grid.shape.map((size) => [size, -1]);
  const reach = (axis: number, first: number, last: number) => {
    box[axis] = [Math.min(box[axis][0], first), Math.max(box[axis][1], last)];
  };
  for (const data of channels) {
    if (data === null) continue;
    for (let line = 0; line < nx * ny; line++) {
      const [start, end] = [line * nz, (line + 1) * nz];
      let first = start;
      while (first < end && data[first] === 0) first++;
      if (first === end) continue;
      let last = end - 1;
      while (data[last] === 0) last--;
      reach(0, Math.floor(line / ny), Math.floor(line / ny));
      reach(1, line % ny, line % ny);
      reach(2, first - start, last - start);
    }
  }
  return box[0][1] < 0 ? null : box;
}

/** Return the value of a field, its default where it is left out, undefined where it is wrong. */
type Kind<V> = (value: unknown) => V | undefined;

function read<V extends object>(step: Step, kinds: { [K in keyof V]: Kind<V[K]> }): V {
  const unknown = Object.keys(step).find(
    (field) => field !== "step" && !Object.hasOwn(kinds, field),
  );
  if (unknown !== undefined) throw new Problem("stepField", { step: step.step, field: unknown });
  const values = Object.entries<Kind<unknown>>(kinds).map(([field, kind]) => {
    const value = kind(step[field]);
    if (value === undefined) throw badField(step, field);
    return [field, value];
  });
  return Object.fromEntries(values);
}

function badField(step: Step, field: string): Problem {
  const value = JSON.stringify(step[field]) ?? "–";
  return new Problem("stepValue", { step: step.step, field, value: value.slice(0, 100) });
}

function number(standard?: number, holds: (value: number) => boolean = () => true): Kind<number> {
  return (value = standard) => (isNumber(value) && holds(value) ? value : undefined);
}

function text(standard: string, holds: (value: string) => boolean = () => true): Kind<string> {
  return (value = standard) => (typeof value === "string" && holds(value) ? value : undefined);
}

function oneOf<V extends string>(words: readonly V[], standard: V): Kind<V> {
  return (value = standard) => words.find((word) => word === value);
}

function triple(holds: (value: number) => boolean, standard?: Shape): Kind<Shape> {
  return (value = standard) => {
    if (!isList(value) || value.length !== 3 || !value.every(holds)) return undefined;
    const [i, j, k] = value;
    return [i, j, k];
  };
}

function landmarksOf(value: unknown): readonly (readonly number[])[] | undefined {
  if (!Array.isArray(value) || value.length === 0) return undefined;
  const ascends = (row: unknown) =>
    isList(row) &&
    row.length === LANDMARKS &&
    row.every((mark, n) => n === 0 || mark >= row[n - 1]) &&
    row[0] < row[LANDMARKS - 1];
  return value.every(ascends) ? value : undefined;
}

function cutoffOf(value: unknown = [0.01, 0.99]): readonly [number, number] | undefined {
  if (!isList(value) || value.length !== 2) return undefined;
  const [low, high] = value;
  return low >= 0 && low <= 0.09 && high >= 0.91 && high <= 1 ? [low, high] : undefined;
}

function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

function isList(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every(isNumber);
}

function times(numbers: readonly number[]): string {
  return numbers.join(" × ");
}
