/**
 * Volumes cut into tiles for a network that sees only so far: exact, with no overlap averaged.
 *
 * Outputs of a local network depend on inputs within a halo. So a volume can go through it in one
 * piece, or in tiles that are given with this halo around them: the results are the same.
 */

/** Voxels of one axis, from the first to before the last. */
export interface Range {
  readonly start: number;
  readonly stop: number;
}

/** A part of a volume: what the network is given, and what is kept of its answer. */
export interface Tile {
  readonly read: readonly Range[];
  readonly write: readonly Range[];
}

const MOST_CUTS = 24; // of one axis, as far as plans go
const MOST_WORK = 8; // times the voxels of a volume: plans that compute more are none

/** Return the number of voxels that the network is given of a tile. */
export function sizeOf({ read }: Tile): number {
  return product(read.map(length));
}

export function length({ start, stop }: Range): number {
  return stop - start;
}

export function product(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a * b, 1);
}

/** Return sizes rounded up to multiples, and to the least size of each axis. */
export function paddedShape(
  shape: readonly number[],
  multiple: number,
  least: readonly number[],
): number[] {
  return shape.map((size, axis) => Math.max(roundUp(size, multiple), least[axis]));
}

/**
 * Cut a volume so that the fewest voxels are computed twice.
 *
 * What is kept of tiles covers each voxel once. Tiles begin and end at multiples, and are given
 * with the halo, rounded up to a multiple, as far as the volume goes. One tile, the whole volume,
 * where it has at most so many voxels; else the tiles of the plan with the fewest voxels in all,
 * or the smallest where none is small enough.
 *
 * @param shape Size of the volume in voxels: multiples.
 * @param halo How far outputs depend on inputs, along each axis, in voxels.
 * @param multiple Of which sizes are multiples.
 * @param most Voxels that one tile may have with its halo.
 */
export function planTiles(
  shape: readonly number[],
  halo: readonly number[],
  multiple: number,
  most: number,
): Tile[] {
  const axes = shape.map((size, axis) => cuts(size, halo[axis], multiple));
  const plans = combinations(axes)
    .map((cut) => ({ cut, largest: largest(cut), total: total(cut), count: tilesOf(cut) }))
    .filter((plan) => plan.total <= MOST_WORK * product(shape));
  const fitting = plans.filter((plan) => plan.largest <= most);
  const best = fitting.length
    ? first(fitting, (plan) => [plan.total, plan.count])
    : first(plans, (plan) => [plan.largest, plan.total]);
  return combinations(best.cut).map((parts) => ({
    read: parts.map(({ read }) => read),
    write: parts.map(({ write }) => write),
  }));
}

interface Part {
  readonly read: Range;
  readonly write: Range;
}

/** Return the ways to cut an axis into parts of equal length, as far as they differ. */
function cuts(size: number, halo: number, multiple: number): Part[][] {
  const blocks = size / multiple;
  const around = roundUp(halo, multiple);
  const lengths = new Set<number>();
  for (let n = 1; n <= Math.min(blocks, MOST_CUTS); n++) lengths.add(Math.ceil(blocks / n));
  return [...lengths].sort((a, b) => a - b).map((n) => partsOf(size, n * multiple, around));
}

function partsOf(size: number, length: number, around: number): Part[] {
  return Array.from({ length: Math.ceil(size / length) }, (_, i) => {
    const write = { start: i * length, stop: Math.min(size, (i + 1) * length) };
    const [start, stop] = [Math.max(0, write.start - around), Math.min(size, write.stop + around)];
    return { read: { start, stop }, write };
  });
}

function largest(cut: readonly Part[][]): number {
  return product(cut.map((parts) => Math.max(...parts.map(({ read }) => length(read)))));
}

function total(cut: readonly Part[][]): number {
  return product(cut.map((parts) => parts.reduce((sum, { read }) => sum + length(read), 0)));
}

function tilesOf(cut: readonly Part[][]): number {
  return product(cut.map((parts) => parts.length));
}

/** Return the first of the items whose two numbers are least, the first number counting first. */
function first<T>(items: readonly T[], numbers: (item: T) => readonly [number, number]): T {
  return items.reduce((best, item) => {
    const [[a, b], [c, d]] = [numbers(best), numbers(item)];
    return c < a || (c === a && d < b) ? item : best;
  });
}

/** Return one of each list in all ways, those of the last list varying fastest. */
function combinations<T>(lists: readonly (readonly T[])[]): T[][] {
  return lists.reduce<T[][]>(
    (made, list) => made.flatMap((start) => list.map((one) => [...start, one])),
    [[]],
  );
}

function roundUp(size: number, multiple: number): number {
  return Math.ceil(size / multiple) * multiple;
}
