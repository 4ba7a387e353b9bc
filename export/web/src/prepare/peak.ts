/** Find a peak in the histogram of intensities, and how wide it is. */
import { CONSTANT, medianAndSpread, percentiles } from "./percentiles";

/** The largest peak, or the outermost ones that count. */
export const PEAKS = ["largest", "first", "last"] as const;
export type Peak = (typeof PEAKS)[number];
/** Of a peak, that its width is taken from. */
export const SIDES = ["both", "lower", "upper"] as const;
export type Side = (typeof SIDES)[number];

/** Full width at half the height of a normal distribution of deviation 1. */
const NORMAL_WIDTH = 2.3548200450309493;
/** Of the kernel that smooths a histogram, in robust deviations. */
const SMOOTHING = 0.15;
/** Bins of a robust deviation. */
const BINS = 64;
/** Of a histogram, to both sides of the median, in robust deviations. */
const REACH = 10;
/** Height of a peak that counts, of that of the largest. */
const LEAST_PEAK = 0.1;
/** Percentile beyond which no peak counts. */
const CUT = { first: 99, last: 96 };
/** Heights that differ by less, of the larger, are the same. */
const SAME = 1e-9;

/** Return where a peak lies, and the deviation of a normal distribution as wide as it. */
export function peakOf(data: Float32Array, peak: Peak, side: Side): [number, number] {
  const [median, spread] = medianAndSpread(data);
  if (spread <= CONSTANT * Math.abs(median)) return [median, spread];
  const values = Float64Array.from(data, (value) => (value - median) / spread);
  const deviation = smoothingOf(values);
  const { density, radius } = smoothed(values, deviation);
  const place = (bin: number) => (bin - radius + 0.5) / BINS - REACH;
  const limit = (percent: number) =>
    (percentiles(data, [percent], (difference) => difference)[0] - median) / spread;
  const furthest = peak === "largest" ? REACH : limit(CUT[peak]);
  const top = topOf(density, peak, (bin) => place(bin) <= furthest);
  const half = density[top] / 2;
  /** Return the distance from the top to where the density is half as high. */
  const halfWidth = (step: -1 | 1) => {
    let bin = top;
    while (density[bin] - half >= 0) bin += step;
    const [below, above] = [density[bin] - half, density[bin - step] - half];
    const share = -below / (above - below);
    return Math.abs(place(bin) + share * (place(bin - step) - place(bin)) - place(top));
  };
  const width = {
    both: () => halfWidth(-1) + halfWidth(1),
    lower: () => 2 * halfWidth(-1),
    upper: () => 2 * halfWidth(1),
  }[side]();
  const variance = Math.max((width / NORMAL_WIDTH) ** 2 - deviation ** 2, deviation ** 2);
  return [median + spread * place(top), spread * Math.sqrt(variance)];
}

/** Return how far to smooth: so far that of few distinct values none is a peak of its own. */
function smoothingOf(values: Float64Array): number {
  const near = values.filter((value) => Math.abs(value) < REACH).sort();
  const steps = near.reduce((count, value, n) => count + (n > 0 && value > near[n - 1] ? 1 : 0), 0);
  return Math.max(SMOOTHING, (near[near.length - 1] - near[0]) / Math.max(steps, 1));
}

/** Return how many values lie in each bin, smoothed by a Gaussian; `radius` bins more at each end. */
function smoothed(values: Float64Array, deviation: number) {
  const counts = new Float64Array(2 * REACH * BINS);
  for (const value of values) {
    if (Math.abs(value) > REACH) continue;
    counts[Math.min(Math.floor((value + REACH) * BINS), counts.length - 1)]++;
  }
  const radius = Math.ceil(6 * deviation * BINS);
  const kernel = Float64Array.from({ length: 2 * radius + 1 }, (_, n) =>
    Math.exp(-0.5 * ((n - radius) / (deviation * BINS)) ** 2),
  );
  const density = new Float64Array(counts.length + 2 * radius);
  counts.forEach((count, bin) => {
    if (count === 0) return;
    for (let n = 0; n < kernel.length; n++) density[bin + n] += count * kernel[n];
  });
  return { density, radius };
}

/** Return the bin of a peak: the first of equals. */
function topOf(density: Float64Array, peak: Peak, counts: (bin: number) => boolean): number {
  const most = density.reduce((one, other) => Math.max(one, other));
  const largest = density.findIndex((height) => height >= (1 - SAME) * most);
  if (peak === "largest") return largest;
  const tops: number[] = [];
  for (let bin = 1; bin < density.length - 1; bin++) {
    const [before, height, after] = density.subarray(bin - 1, bin + 2);
    if (height > before && height >= after && height >= LEAST_PEAK * density[largest])
      tops.push(bin);
  }
  const within = tops.filter(counts);
  return (peak === "first" ? within[0] : within[within.length - 1]) ?? largest;
}
