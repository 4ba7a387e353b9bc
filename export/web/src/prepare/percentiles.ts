/** Percentiles of many numbers, without sorting them. */

/** Relative spread that float32 cannot tell from none. */
export const CONSTANT = 2 ** -23;
/** Interquartile range of a normal distribution of deviation 1. */
const NORMAL_IQR = 1.3489795003921634;
const HALF = 2 ** 16;

/** Return the median, and the deviation of a normal distribution with these quartiles. */
export function medianAndSpread(data: Float32Array): [number, number] {
  const [low, median, high] = percentiles(data, [25, 50, 75], (difference) => difference);
  return [median, (high - low) / NORMAL_IQR];
}

/**
 * Return percentiles, linear between the two nearest ranks.
 *
 * @param data At least one number, none of them NaN.
 * @param wanted From 0 to 100.
 * @param round What NumPy does to a difference of two ranks: rounds it to float32.
 */
export function percentiles(
  data: Float32Array,
  wanted: readonly number[],
  round: (difference: number) => number = Math.fround,
): number[] {
  const places = wanted.map((percent) => (percent / 100) * (data.length - 1));
  const ranks = places.flatMap((place) => [Math.floor(place), Math.ceil(place)]);
  const values = valuesAt(data, ranks);
  return places.map((place, n) => {
    const [low, high] = [values[2 * n], values[2 * n + 1]];
    const share = place - Math.floor(place);
    const step = round(high - low);
    return share < 0.5 ? low + step * share : high - step * (1 - share);
  });
}

/** Return the values that have these ranks in ascending order, by their bits: 16 upper, 16 lower. */
function valuesAt(data: Float32Array, ranks: readonly number[]): number[] {
  const bits = new Uint32Array(data.buffer, data.byteOffset, data.length);
  const upper = new Uint32Array(HALF);
  for (const each of bits) upper[keyOf(each) >>> 16]++;
  const below = beginnings(upper);
  const halves = ranks.map((rank) => lastUpTo(below, rank));
  const lower = new Map(halves.map((half) => [half, new Uint32Array(HALF)]));
  const isWanted = new Uint8Array(HALF);
  for (const half of halves) isWanted[half] = 1;
  for (const each of bits) {
    const key = keyOf(each);
    if (isWanted[key >>> 16]) lower.get(key >>> 16)![key & 0xffff]++;
  }
  return ranks.map((rank, n) => {
    const half = halves[n];
    const rest = lastUpTo(beginnings(lower.get(half)!), rank - below[half]);
    return floatOf(half * HALF + rest);
  });
}

/** Return how many come before each bin. */
function beginnings(counts: Uint32Array): Uint32Array {
  const before = new Uint32Array(counts.length);
  for (let n = 1; n < counts.length; n++) before[n] = before[n - 1] + counts[n - 1];
  return before;
}

/** Return the last bin that begins at a rank or before it. */
function lastUpTo(before: Uint32Array, rank: number): number {
  let [low, high] = [0, before.length];
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if (before[middle] <= rank) low = middle;
    else high = middle;
  }
  return low;
}

/** Return a number that orders as the float32 of these bits does. */
function keyOf(bits: number): number {
  return (bits & 0x80000000 ? ~bits : bits | 0x80000000) >>> 0;
}

function floatOf(key: number): number {
  const bits = key & 0x80000000 ? key & 0x7fffffff : ~key;
  return new Float32Array(new Uint32Array([bits]).buffer)[0];
}
