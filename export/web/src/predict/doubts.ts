/** Whether an image is like those that a network was trained on, as `segjax predict` says it. */
import { general } from "../io/numbers";
import type { Seen, Step } from "../model/metadata";
import {
  axesCosine,
  type Grid,
  orientationOf,
  spacingOf,
  turnedGrid,
  turnsTo,
} from "../prepare/grid";
import { percentiles } from "../prepare/percentiles";
import type { Message } from "../problem";
import type { Volume } from "../volume";

/** The 0.5th and the 99.5th percentile of the intensities of a channel. */
export type Span = readonly [number, number];

const FAR = 1.5; // times
const SAMPLE = 1_000_000; // voxels that percentiles are taken of, about
const STRAIGHT = 0.5; // degrees of a tilt that nobody need hear of

/** Return the span of a channel; of a large one from a sample of its voxels. */
export function intensitySpan({ data }: Pick<Volume, "data">): Span {
  const step = Math.max(1, Math.floor(data.length / SAMPLE));
  const sample = new Float32Array(Math.ceil(data.length / step));
  for (let n = 0; n < sample.length; n++) sample[n] = data[n * step];
  const [low, high] = percentiles(sample, [0.5, 99.5]);
  return [low, high];
}

/**
 * Say in what an image lies far, over 1.5 times, from those of the training, and whether it is
 * tilted.
 *
 * @param seen What the training's images were like, where the file tells.
 * @param given Its grid as it was on disk.
 * @param processed Its grid after the preprocessing.
 * @param spans Of each channel after the preprocessing; of one that is missing NaN.
 * @param axes Along which the network sees: 2 for one of slices.
 */
export function doubts(
  seen: Seen | null,
  given: Grid,
  processed: Grid,
  spans: readonly Span[],
  axes: number,
): Message[] {
  const tilted = tiltDoubt(given);
  if (seen === null) return [{ key: "doubtUnknownSpacing", values: {} }, ...tilted];
  return [
    ...spacingDoubt(seen, given, processed, axes),
    ...intensityDoubts(seen, spans),
    ...tilted,
  ];
}

/** Return what a file of an earlier version saw at least: the spacing that it resamples to. */
export function assumed(pipeline: readonly Step[], processed: Grid): Seen | null {
  const step = pipeline.findLast((one) => one.step === "resample");
  if (!step) return null;
  const spacing = (step.spacing ?? [1, 1, 1]) as readonly number[];
  const orientation = orientationOf(processed.affine);
  return { spacing, finest: spacing, coarsest: spacing, orientation, spans: [], widths: [] };
}

function spacingDoubt(seen: Seen, given: Grid, processed: Grid, axes: number): Message[] {
  if (seen.spacing.length !== 3) return [];
  const native = turnedGrid(given, turnsTo(given.affine, seen.orientation));
  const sizes = spacingOf(native.affine);
  const now = spacingOf(processed.affine).map((size, axis) => size / seen.spacing[axis]);
  const isResampled = now.every((ratio) => Math.abs(ratio - 1) <= 0.06);
  const within = (axis: number, bounds: readonly number[], pick: typeof Math.min) =>
    isResampled ? pick(bounds[axis], seen.spacing[axis]) : bounds[axis];
  const isFar = sizes.some((size, axis) => {
    if (axis >= axes || native.shape[axis] < 2) return false;
    const above = size / within(axis, seen.coarsest, Math.max);
    const below = within(axis, seen.finest, Math.min) / size;
    return Math.max(above, below, now[axis], 1 / now[axis]) > FAR;
  });
  if (!isFar) return [];
  const [low, high] = [times(seen.finest), times(seen.coarsest)];
  if (low === high) return [{ key: "doubtSpacing", values: { given: times(sizes), trained: low } }];
  return [{ key: "doubtSpacings", values: { given: times(sizes), low, high } }];
}

function intensityDoubts(seen: Seen, spans: readonly Span[]): Message[] {
  return seen.spans.flatMap(([lowest, highest], channel): Message[] => {
    if (channel >= spans.length) return [];
    const [low, high] = spans[channel];
    const width = highest - lowest;
    const slack = ((FAR - 1) / 2) * width;
    const isOdd = high - low > FAR * width || high - low < seen.widths[channel] / FAR;
    if (!isOdd && !(low < lowest - slack) && !(high > highest + slack)) return [];
    const [of, to] = [threeDigits(low), threeDigits(high)];
    const values = {
      low: of,
      high: to,
      lowest: threeDigits(lowest),
      highest: threeDigits(highest),
    };
    if (seen.spans.length === 1) return [{ key: "doubtIntensities", values }];
    return [{ key: "doubtIntensitiesOf", values: { channel, ...values } }];
  });
}

function tiltDoubt({ affine }: Grid): Message[] {
  const degrees = (Math.asin(axesCosine(affine)) * 180) / Math.PI;
  return degrees < STRAIGHT
    ? []
    : [{ key: "doubtTilted", values: { degrees: degrees.toFixed(1) } }];
}

function times(numbers: readonly number[]): string {
  return numbers.map(threeDigits).join(" × ");
}

function threeDigits(value: number): string {
  return general(value, 3);
}
