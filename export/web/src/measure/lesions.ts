/** What a mask holds of each label: its volume, and its lesions with their sizes and places. */
import { componentsOf } from "../prepare/components";
import { placeOf, voxelSize } from "../prepare/grid";
import type { Affine, Shape } from "../volume";

/** A lesion: all voxels of a label that touch at faces, edges or corners. */
export interface Lesion {
  /** 1 is the largest one of its label. */
  readonly number: number;
  readonly voxels: number;
  /** mm³ */
  readonly volume: number;
  /** Mean of its voxels' places: mm to the patient's right, front and head. */
  readonly centre: readonly [number, number, number];
  /** Index of that voxel of the lesion which is nearest to its centre. */
  readonly nearest: readonly [number, number, number];
  /**
   * Longest distance between two points of its surface in mm, taken between the centres of the
   * faces of its border voxels, where meshes of marching cubes have their corners (the maximum 3D
   * diameter of pyradiomics): a single voxel of 1 mm has 1 mm.
   */
  readonly diameter: number;
}

export interface Load {
  readonly label: string;
  /** The label's value in the mask. */
  readonly value: number;
  /** ml */
  readonly volume: number;
  /** The largest first. */
  readonly lesions: readonly Lesion[];
}

type Point = readonly [number, number, number];

/** A line of voxels of a lesion along the last axis, `stop` not included. */
interface Run {
  readonly x: number;
  readonly y: number;
  readonly start: number;
  readonly stop: number;
}

/** Measure each label of a mask but the background. */
export function measure(
  mask: Uint8Array,
  shape: Shape,
  affine: Affine,
  labels: readonly string[],
): Load[] {
  return labels.slice(1).map((label, n) => {
    const value = n + 1;
    const lesions = lesionsOf(
      mask.map((one) => +(one === value)),
      shape,
      affine,
    );
    const voxels = lesions.reduce((sum, lesion) => sum + lesion.voxels, 0);
    return { label, value, volume: (voxels * voxelSize(affine)) / 1e3, lesions };
  });
}

function lesionsOf(mask: Uint8Array, shape: Shape, affine: Affine): Lesion[] {
  const [, ny, nz] = shape;
  const found = componentsOf(mask, shape, 26);
  const runs: Run[][] = Array.from({ length: found.count }, () => []);
  for (const [run, number] of found.numbers.entries()) {
    const line = Math.floor(found.starts[run] / nz);
    const [start, stop] = [found.starts[run] - line * nz, found.stops[run] - line * nz];
    runs[number].push({ x: Math.floor(line / ny), y: line % ny, start, stop });
  }
  return [...runs.keys()]
    .sort((one, other) => found.sizes[other] - found.sizes[one] || one - other)
    .map((component, n) => lesionOf(runs[component], n + 1, affine));
}

function lesionOf(runs: readonly Run[], number: number, affine: Affine): Lesion {
  const middle = middleOf(runs);
  const voxels = runs.reduce((sum, { start, stop }) => sum + stop - start, 0);
  return {
    number,
    voxels,
    volume: voxels * voxelSize(affine),
    centre: placeOf(affine, middle),
    nearest: nearestTo(middle, runs, affine),
    diameter: diameterOf(runs, affine),
  };
}

/** Return the mean index of the voxels of some runs. */
function middleOf(runs: readonly Run[]): Point {
  const sums = [0, 0, 0];
  let voxels = 0;
  for (const { x, y, start, stop } of runs) {
    const length = stop - start;
    sums[0] += x * length;
    sums[1] += y * length;
    sums[2] += ((start + stop - 1) / 2) * length;
    voxels += length;
  }
  return [sums[0] / voxels, sums[1] / voxels, sums[2] / voxels];
}

function nearestTo(middle: Point, runs: readonly Run[], affine: Affine): Point {
  const centre = placeOf(affine, middle);
  let [best, least]: [Point, number] = [middle, Number.POSITIVE_INFINITY];
  for (const { x, y, start, stop } of runs) {
    for (let z = start; z < stop; z++) {
      const distance = squaredDistance(placeOf(affine, [x, y, z]), centre);
      if (distance < least) [best, least] = [[x, y, z], distance];
    }
  }
  return best;
}

function diameterOf(runs: readonly Run[], affine: Affine): number {
  const ends = outerPoints(runs).map((point) => placeOf(affine, point));
  let longest = 0;
  for (let one = 0; one < ends.length; one++)
    for (let other = 0; other < one; other++)
      longest = Math.max(longest, squaredDistance(ends[one], ends[other]));
  return Math.sqrt(longest);
}

function squaredDistance(one: Point, other: Point): number {
  return (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2 + (one[2] - other[2]) ** 2;
}

/** Return the centres of faces among which the two that are farthest apart are. */
function outerPoints(runs: readonly Run[]): Point[] {
  const planes = new Map<number, [number, number][]>();
  const put = (x: number, y: number, z: number) => {
    const plane = planes.get(x);
    if (plane) plane.push([y, z]);
    else planes.set(x, [[y, z]]);
  };
  for (const { x, y, start, stop } of runs) {
    put(x, y, start - 0.5);
    put(x, y, stop - 0.5);
    for (const z of start === stop - 1 ? [start] : [start, stop - 1]) {
      for (const half of [-0.5, 0.5]) {
        put(x + half, y, z);
        put(x, y + half, z);
      }
    }
  }
  return [...planes].flatMap(([x, points]) => hullOf(points).map(([y, z]): Point => [x, y, z]));
}

/** Return the corners of the convex hull of points in a plane (A. Andrew's monotone chain, 1979). */
function hullOf(points: readonly [number, number][]): [number, number][] {
  const sorted = points.toSorted((a, b) => a[0] - b[0] || a[1] - b[1]);
  return [...chainOf(sorted), ...chainOf(sorted.toReversed())];
}

function chainOf(sorted: readonly [number, number][]): [number, number][] {
  const chain: [number, number][] = [];
  for (const point of sorted) {
    while (chain.length > 1 && !isLeftTurn(chain.at(-2)!, chain.at(-1)!, point)) chain.pop();
    chain.push(point);
  }
  return chain;
}

function isLeftTurn(a: readonly number[], b: readonly number[], c: readonly number[]): boolean {
  return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0]);
}
