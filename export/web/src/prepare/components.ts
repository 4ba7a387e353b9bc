/** Connected components of masks, kept as runs of voxels along the last axis. */
import type { Shape } from "../volume";

/** Voxels that touch at faces, or at faces, edges and corners. */
export type Neighbours = 6 | 26;

export interface Components {
  /** How many there are; they are numbered from 0 on, in the order of their first voxels. */
  readonly count: number;
  /** Voxels of each. */
  readonly sizes: Float64Array;
  /** First voxel of each run, and the one after its last, as places in the array. */
  readonly starts: Int32Array;
  readonly stops: Int32Array;
  /** The component of each run. */
  readonly numbers: Int32Array;
}

/** Number the connected components of what is not 0 in a mask, in C order. */
export function componentsOf(mask: Uint8Array, shape: Shape, neighbours: Neighbours): Components {
  const { starts, stops, lines } = runsOf(mask, shape);
  const roots = Int32Array.from(starts.keys());
  const [nx, ny, nz] = shape;
  const reach = neighbours === 26 ? 1 : 0;
  const earlier = reach
    ? [
        [1, 1],
        [1, 0],
        [1, -1],
        [0, 1],
      ]
    : [
        [1, 0],
        [0, 1],
      ];
  for (let line = 0; line < nx * ny; line++) {
    if (lines[line] === lines[line + 1]) continue;
    const [x, y] = [Math.floor(line / ny), line % ny];
    for (const [dx, dy] of earlier) {
      if (x < dx || y - dy < 0 || y - dy >= ny) continue;
      const other = line - dx * ny - dy;
      const shift = (line - other) * nz;
      let theirs = lines[other];
      for (let own = lines[line]; own < lines[line + 1]; own++) {
        while (theirs < lines[other + 1] && stops[theirs] + shift + reach <= starts[own]) theirs++;
        for (let n = theirs; n < lines[other + 1] && starts[n] + shift < stops[own] + reach; n++) {
          join(roots, own, n);
        }
      }
    }
  }
  return numbered(roots, starts, stops);
}

/** Say which components reach the border of the volume. */
export function reachingBorder(found: Components, [nx, ny, nz]: Shape): Uint8Array {
  const reaching = new Uint8Array(found.count);
  for (let run = 0; run < found.starts.length; run++) {
    const line = Math.floor(found.starts[run] / nz);
    const [x, y] = [Math.floor(line / ny), line % ny];
    const atSide = x === 0 || x === nx - 1 || y === 0 || y === ny - 1;
    const atEnd = found.starts[run] === line * nz || found.stops[run] === (line + 1) * nz;
    if (atSide || atEnd) reaching[found.numbers[run]] = 1;
  }
  return reaching;
}

/** Return the number of the largest component, the first of equals. */
export function largestOf({ sizes }: Components): number {
  return sizes.reduce((best, size, n) => (size > sizes[best] ? n : best), 0);
}

/** Return the runs of a mask, and which of them each line begins with. */
function runsOf(mask: Uint8Array, [nx, ny, nz]: Shape) {
  let starts = new Int32Array(1024);
  let stops = new Int32Array(1024);
  const lines = new Int32Array(nx * ny + 1);
  let count = 0;
  for (let line = 0; line < nx * ny; line++) {
    lines[line] = count;
    const end = (line + 1) * nz;
    for (let place = line * nz; place < end; place++) {
      if (mask[place] === 0) continue;
      if (count === starts.length) [starts, stops] = [doubled(starts), doubled(stops)];
      starts[count] = place;
      while (place < end && mask[place] !== 0) place++;
      stops[count++] = place;
    }
  }
  lines[nx * ny] = count;
  return { starts: starts.subarray(0, count), stops: stops.subarray(0, count), lines };
}

function doubled(numbers: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const more = new Int32Array(2 * numbers.length);
  more.set(numbers);
  return more;
}

function rootOf(roots: Int32Array, run: number): number {
  let root = run;
  while (roots[root] !== root) {
    roots[root] = roots[roots[root]];
    root = roots[root];
  }
  return root;
}

function join(roots: Int32Array, first: number, second: number): void {
  const [one, other] = [rootOf(roots, first), rootOf(roots, second)];
  roots[Math.max(one, other)] = Math.min(one, other);
}

function numbered(roots: Int32Array, starts: Int32Array, stops: Int32Array): Components {
  const numbers = new Int32Array(roots.length);
  let count = 0;
  for (let run = 0; run < roots.length; run++) {
    const root = rootOf(roots, run);
    numbers[run] = root === run ? count++ : numbers[root];
  }
  const sizes = new Float64Array(count);
  for (let run = 0; run < roots.length; run++) sizes[numbers[run]] += stops[run] - starts[run];
  return { count, sizes, starts, stops, numbers };
}
