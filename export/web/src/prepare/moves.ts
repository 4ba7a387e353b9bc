/** Bring voxels onto other grids: turned, cut and padded, or resampled. */
import { type Shape, voxels } from "../volume";
import { type Grid, indexBetween, isSameGrid, type Turns } from "./grid";

/** A way of voxels from one grid to another, as plain data. */
export type Move =
  | { readonly kind: "turn"; readonly from: Shape; readonly turns: Turns }
  | {
      readonly kind: "cut";
      readonly from: Shape;
      /** Index of the first voxel that stays; negative where voxels come before it. */
      readonly start: readonly number[];
      readonly to: Shape;
    }
  | { readonly kind: "resample"; readonly from: Grid; readonly to: Grid };

/** Tile of voxels that are turned at once, so that both sides stay in the processor's cache. */
const TILE = 32;
/** Parts of a voxel: what is halfway between two of them is known as such. */
const ROUNDING = 1e9;

/** Return voxels after a move; the same array where none of them goes elsewhere. */
export function moved(data: Float32Array, move: Move): Float32Array {
  if (move.kind === "turn") return turned(data, move.from, move.turns);
  if (move.kind === "cut") return cut(data, move.from, move.start, move.to);
  return resampled(data, move.from, move.to);
}

function turned(data: Float32Array, from: Shape, turns: Turns): Float32Array {
  if (turns.every(([old, sign], axis) => old === axis && sign > 0)) return data;
  const strides = [from[1] * from[2], from[2], 1];
  const [ni, nj, nk] = turns.map(([old]) => from[old]);
  const [si, sj, sk] = turns.map(([old, sign]) => strides[old] * sign);
  const start = turns.reduce((sum, [o, s]) => sum + (s < 0 ? (from[o] - 1) * strides[o] : 0), 0);
  const out = new Float32Array(data.length);
  const tile = Math.abs(sk) === 1 ? nk : TILE;
  for (let i0 = 0; i0 < ni; i0 += TILE) {
    for (let j = 0; j < nj; j++) {
      for (let k0 = 0; k0 < nk; k0 += tile) {
        for (let i = i0; i < Math.min(i0 + TILE, ni); i++) {
          let place = (i * nj + j) * nk + k0;
          let source = start + i * si + j * sj + k0 * sk;
          for (const end = place + Math.min(tile, nk - k0); place < end; place++, source += sk) {
            out[place] = data[source];
          }
        }
      }
    }
  }
  return out;
}

function cut(data: Float32Array, from: Shape, start: readonly number[], to: Shape): Float32Array {
  if (start.every((first, axis) => first === 0 && from[axis] === to[axis])) return data;
  const out = new Float32Array(voxels(to));
  const [low, high] = [0, 1].map((side) =>
    start.map((first, axis) =>
      side ? Math.min(to[axis], from[axis] - first) : Math.max(0, -first),
    ),
  );
  if (high[2] <= low[2]) return out;
  for (let i = low[0]; i < high[0]; i++) {
    for (let j = low[1]; j < high[1]; j++) {
      const line = ((i + start[0]) * from[1] + j + start[1]) * from[2] + start[2];
      const kept = data.subarray(line + low[2], line + high[2]);
      out.set(kept, (i * to[1] + j) * to[2] + low[2]);
    }
  }
  return out;
}

/** Where the voxels of a new axis lie on the old one. */
interface Line {
  /** First and last but one of those within the volume; the others are 0. */
  readonly start: number;
  readonly stop: number;
  readonly lower: Int32Array;
  readonly upper: Int32Array;
  /** Of the voxel after the lower one. */
  readonly weight: Float32Array;
}

/**
 * Interpolate linearly, along one axis after the other, between grids of the same axes.
 *
 * Up to half a voxel beyond the outermost voxels the border's value holds, further out 0.
 */
function resampled(data: Float32Array, from: Grid, to: Grid): Float32Array {
  if (isSameGrid(from, to)) return data;
  const index = indexBetween(from.affine, to.affine);
  const [x, y, z] = [0, 1, 2].map((axis) =>
    lineOf(index[axis][axis], index[axis][3], from.shape[axis], to.shape[axis]),
  );
  const [, ny, nz] = from.shape;
  const plane = new Float32Array(ny * nz);
  const row = new Float32Array(nz);
  const out = new Float32Array(voxels(to.shape));
  for (let i = x.start; i < x.stop; i++) {
    const [lower, upper] = [x.lower[i] * plane.length, x.upper[i] * plane.length];
    blend(data, lower, upper, x.weight[i], plane);
    for (let j = y.start; j < y.stop; j++) {
      blend(plane, y.lower[j] * nz, y.upper[j] * nz, y.weight[j], row);
      const line = (i * to.shape[1] + j) * to.shape[2];
      for (let k = z.start; k < z.stop; k++) {
        const [low, high] = [row[z.lower[k]], row[z.upper[k]]];
        out[line + k] = low + Math.fround(Math.fround(high - low) * z.weight[k]);
      }
    }
  }
  return out;
}

function blend(
  data: Float32Array,
  lower: number,
  upper: number,
  weight: number,
  out: Float32Array,
): void {
  if (weight === 0) {
    out.set(data.subarray(lower, lower + out.length));
    return;
  }
  for (let n = 0; n < out.length; n++) {
    const low = data[lower + n];
    out[n] = low + Math.fround(Math.fround(data[upper + n] - low) * weight);
  }
}

function lineOf(scale: number, offset: number, old: number, size: number): Line {
  const places = Array.from({ length: size }, (_, n) => rounded(offset + scale * n));
  const within = places.map((place) => place >= -0.5 && place < old - 0.5);
  const start = within.indexOf(true);
  const clipped = places.map((place) => Math.min(Math.max(place, 0), old - 1));
  return {
    start: Math.max(start, 0),
    stop: within.lastIndexOf(true) + 1,
    lower: Int32Array.from(clipped, Math.floor),
    upper: Int32Array.from(clipped, (place) => Math.min(Math.floor(place) + 1, old - 1)),
    weight: Float32Array.from(clipped, (place) => place - Math.floor(place)),
  };
}

/** Return a number rounded to nine decimals, halves to even. */
function rounded(value: number): number {
  const parts = value * ROUNDING;
  const nearest = Math.round(parts);
  const even = nearest - parts === 0.5 && nearest % 2 !== 0 ? nearest - 1 : nearest;
  return even / ROUNDING;
}
