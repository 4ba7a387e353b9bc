/** Normalise the intensities of one channel. */
import { Problem } from "../problem";
import { type Peak, peakOf, type Side } from "./peak";
import { CONSTANT, medianAndSpread, percentiles } from "./percentiles";

/** Voxels that statistics come from. */
export const WHERE = ["all", "nonzero", "above-mean"] as const;
export type Where = (typeof WHERE)[number];

const SMALLEST_FLOAT32 = 2 ** -126;
/** Numbers that are summed before they join the others, so that few digits are lost. */
const BLOCK = 4096;
/** Of 13 landmarks; the quartiles but the median are not used. */
const USED = [0, 1, 2, 4, 5, 6, 7, 8, 10, 11, 12];
/** Two percentiles that differ by less count as one. */
const FLAT = 1e-5;

/** Return the values of the voxels that `where` names; all of them as they are. */
function chosen(data: Float32Array, where: Where): Float32Array {
  if (where === "all") return data;
  const least = where === "above-mean" ? meanOf(data) : 0;
  const out = new Float32Array(data.length);
  let count = 0;
  for (const value of data) {
    if (where === "nonzero" ? value !== 0 : value > least) out[count++] = value;
  }
  return out.subarray(0, count);
}

function meanOf(data: Float32Array): number {
  let total = 0;
  for (let start = 0; start < data.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, data.length);
    let sum = 0;
    for (let n = start; n < end; n++) sum += data[n];
    total += sum;
  }
  return total / data.length;
}

/** Return the standard deviation of a population. */
function deviationOf(data: Float32Array, mean: number): number {
  let total = 0;
  for (let start = 0; start < data.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, data.length);
    let sum = 0;
    for (let n = start; n < end; n++) {
      const off = data[n] - mean;
      sum += off * off;
    }
    total += sum;
  }
  return Math.sqrt(total / data.length);
}

/** Return `(x - mean) / std`, both of the chosen voxels, of all where none is chosen. */
export function zScore(data: Float32Array, where: Where): Float32Array {
  return scaled(data, where, (used) => {
    const mean = meanOf(used);
    return [mean, deviationOf(used, mean)];
  });
}

/** Return `(x - median) / (IQR / 1.349)`, both of the chosen voxels. */
export function robustZScore(data: Float32Array, where: Where): Float32Array {
  return scaled(data, where, medianAndSpread);
}

/** Return `(x - mode) / width`, both of a peak in the histogram of the chosen voxels. */
export function tissuePeak(data: Float32Array, peak: Peak, side: Side, where: Where): Float32Array {
  return scaled(data, where, (used) => peakOf(used, peak, side));
}

/** Shift and scale by what is measured of the chosen voxels, of all where none is chosen. */
function scaled(
  data: Float32Array,
  where: Where,
  measure: (used: Float32Array) => readonly [number, number],
): Float32Array {
  const some = chosen(data, where);
  const [centre, spread] = measure(some.length ? some : data);
  const constant = spread <= Math.max(CONSTANT * Math.abs(centre), SMALLEST_FLOAT32);
  const [shift, scale] = [Math.fround(centre), constant ? 1 : Math.fround(spread)];
  const out = new Float32Array(data.length);
  for (let n = 0; n < data.length; n++) out[n] = Math.fround(data[n] - shift) / scale;
  return out;
}

/** Return intensities from `low`, the least one, to `high`; 0 everywhere in a constant channel. */
export function rescaled(data: Float32Array, low: number, high: number): Float32Array {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of data) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  const out = new Float32Array(data.length);
  if (most - least <= CONSTANT * Math.max(Math.abs(least), Math.abs(most))) return out;
  const factor = (high - low) / (most - least);
  for (let n = 0; n < data.length; n++) {
    out[n] = Math.min(Math.max((data[n] - least) * factor + low, low), high);
  }
  return out;
}

/** Return intensities from `low` to `high`, what is beyond as the nearer of both. */
export function clipped(data: Float32Array, low: number, high: number): Float32Array {
  return data.map((value) => Math.min(Math.max(value, low), high));
}

/** Return intensities between two of their percentiles. */
export function clippedToPercentiles(data: Float32Array, low: number, high: number): Float32Array {
  const [least, most] = percentiles(data, [low, high]);
  return clipped(data, least, most);
}

/**
 * Return intensities on a standard scale, after Nyúl and Udupa.
 *
 * Piecewise linear from the channel's percentiles to 13 landmarks; beyond the outermost ones the
 * outermost pieces go on.
 */
export function standardized(
  data: Float32Array,
  landmarks: readonly number[],
  where: Where,
  [first, last]: readonly [number, number],
): Float32Array {
  const deciles = [10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90];
  const some = chosen(data, where);
  if (!some.length) throw new Problem("stepNoVoxels", { step: "histogram-standardization" });
  const all = percentiles(some, [100 * first, ...deciles, 100 * last]);
  const found = USED.map((n) => all[n]);
  const marks = USED.map((n) => landmarks[n]);
  const range = found[10] - found[0];
  if (!(range > 0)) throw new Problem("stepFlatImage", { step: "histogram-standardization" });
  const slopes = new Float64Array(10);
  const intercepts = new Float64Array(10);
  for (let piece = 0; piece < 10; piece++) {
    const width = found[piece + 1] - found[piece];
    slopes[piece] =
      width < FLAT * Math.min(1, range) ? 0 : (marks[piece + 1] - marks[piece]) / width;
    intercepts[piece] = marks[piece] - slopes[piece] * found[piece];
  }
  return data.map((value) => {
    let piece = 0;
    while (piece < 9 && value >= found[piece + 1]) piece++;
    return slopes[piece] * value + intercepts[piece];
  });
}
