/** Where voxels lie: shapes and affines, compared and turned without interpolation. */
import type { Affine, Shape } from "../volume";

export interface Grid {
  readonly shape: Shape;
  readonly affine: Affine;
}

/** For each new axis the old one that it runs along, and 1 or -1 for its direction. */
export type Turns = readonly (readonly [axis: number, sign: number])[];

/** Volume of a voxel over that of a box with the same edges, below which it counts as flat. */
const FLATTEST = 1e-6;
/** In voxels; grids whose corners differ by less are the same. */
const SAME_PLACE = 1e-4;
const ENDS = ["LR", "PA", "IS"];
const AXES = [0, 1, 2];

/** Return the distance between neighbouring voxels along each axis, in mm. */
export function spacingOf(affine: Affine): number[] {
  return AXES.map((axis) => Math.sqrt(AXES.reduce((sum, row) => sum + affine[row][axis] ** 2, 0)));
}

/** Return the volume of a voxel in mm³. */
export function voxelSize(affine: Affine): number {
  return Math.abs(determinant(affine));
}

/** Return the determinant of the first three rows and columns. */
export function determinant([a, b, c]: Affine): number {
  return (
    a[0] * (b[1] * c[2] - b[2] * c[1]) -
    a[1] * (b[0] * c[2] - b[2] * c[0]) +
    a[2] * (b[0] * c[1] - b[1] * c[0])
  );
}

/** Say whether an affine is finite and gives every voxel a place of its own. */
export function isPlacing(affine: Affine): boolean {
  if (!affine.flat().every(Number.isFinite)) return false;
  const edges = spacingOf(affine);
  const directions = affine.slice(0, 3).map((row) => AXES.map((axis) => row[axis] / edges[axis]));
  return edges.every((edge) => edge > 0) && Math.abs(determinant(directions)) >= FLATTEST;
}

/** Return the place in mm of a voxel index. */
export function placeOf(affine: Affine, index: readonly number[]): [number, number, number] {
  const [x, y, z] = affine.map((row) => dot(row, index) + row[3]);
  return [x, y, z];
}

/** Return `start` voxels further on along each axis, and of another shape, a grid's own voxels. */
export function movedGrid({ affine }: Grid, start: readonly number[], shape: Shape): Grid {
  const rows = affine.map((row, r) =>
    r < 3 ? [...row.slice(0, 3), row[3] + dot(row, start)] : row,
  );
  return { shape, affine: rows };
}

/** Return the index in one grid of each index of another: `first⁻¹ · second`. */
export function indexBetween(first: Affine, second: Affine): number[][] {
  const rows = first.map((row, r) => [...row, ...second[r]]);
  for (let column = 0; column < 4; column++) {
    let pivot = column;
    for (let r = column + 1; r < 4; r++) {
      if (Math.abs(rows[r][column]) > Math.abs(rows[pivot][column])) pivot = r;
    }
    [rows[column], rows[pivot]] = [rows[pivot], rows[column]];
    for (let r = column + 1; r < 4; r++) {
      const factor = rows[r][column] / rows[column][column];
      for (let c = column; c < 8; c++) rows[r][c] -= factor * rows[column][c];
    }
  }
  for (let r = 3; r >= 0; r--) {
    for (let c = 4; c < 8; c++) {
      for (let below = r + 1; below < 4; below++) rows[r][c] -= rows[r][below] * rows[below][c];
      rows[r][c] /= rows[r][r];
    }
  }
  return rows.map((row) => row.slice(4));
}

/** Say whether two grids have the same voxels: no corner is over 0.0001 voxels elsewhere. */
export function isSameGrid(first: Grid, second: Grid): boolean {
  if (!AXES.every((axis) => first.shape[axis] === second.shape[axis])) return false;
  const index = indexBetween(first.affine, second.affine);
  return AXES.every((row) => {
    const moved = AXES.reduce(
      (sum, axis) => sum + Math.abs(index[row][axis] - +(row === axis)) * (second.shape[axis] - 1),
      Math.abs(index[row][3]),
    );
    return moved < SAME_PLACE;
  });
}

/** Name the side of the patient that each voxel axis points to, as `RAS`. */
export function orientationOf(affine: Affine): string {
  return nearestAxes(affine)
    .map(([axis, sign]) => ENDS[axis][sign > 0 ? 1 : 0])
    .join("");
}

/** Say whether three letters name an orientation: one of L and R, of P and A, of I and S. */
export function isOrientation(letters: string): boolean {
  const axes = [...letters].map((letter) => ENDS.findIndex((ends) => ends.includes(letter)));
  return letters.length === 3 && AXES.every((axis) => axes.includes(axis));
}

/** Return the turns that let voxel axes point to the sides that three letters name. */
export function turnsTo(affine: Affine, orientation: string): Turns {
  const nearest = nearestAxes(affine);
  return [...orientation].map((letter) => {
    const wanted = ENDS.findIndex((ends) => ends.includes(letter));
    const old = nearest.findIndex(([axis]) => axis === wanted);
    const along = ENDS[wanted][1] === letter ? 1 : -1;
    return [old, along * nearest[old][1]] as const;
  });
}

/** Return the turns that undo others. */
export function turnsBack(turns: Turns): Turns {
  return AXES.map((axis) => {
    const now = turns.findIndex(([old]) => old === axis);
    return [now, turns[now][1]] as const;
  });
}

/** Return the grid of a turned volume. */
export function turnedGrid(before: Grid, turns: Turns): Grid {
  const affine = before.affine.map((row) => {
    const place = turns.reduce(
      (sum, [old, sign]) => sum + (sign < 0 ? row[old] * (before.shape[old] - 1) : 0),
      row[3],
    );
    return [...turns.map(([old, sign]) => row[old] * sign), place];
  });
  const [i, j, k] = turns.map(([old]) => before.shape[old]);
  return { shape: [i, j, k], affine };
}

/** Return the rotation or reflection that is nearest to the axes: their orthogonal polar factor. */
export function nearestRotation(affine: Affine): number[][] {
  const edges = spacingOf(affine);
  let matrix = affine.slice(0, 3).map((row) => AXES.map((axis) => row[axis] / edges[axis]));
  for (let step = 0; step < 100; step++) {
    const [a, b, c] = matrix;
    const scale = 1 / determinant(matrix);
    const inverse = [cross(b, c), cross(c, a), cross(a, b)]; // transposed
    const next = matrix.map((row, r) => row.map((value, s) => (value + inverse[r][s] * scale) / 2));
    const change = Math.max(...next.flat().map((value, n) => Math.abs(value - matrix.flat()[n])));
    matrix = next;
    if (change < 1e-15) break;
  }
  return matrix;
}

/** Return, for each voxel axis, the patient's axis that is nearest to it, and the sign. */
function nearestAxes(affine: Affine): (readonly [number, number])[] {
  const rotation = nearestRotation(affine);
  const most = AXES.map((voxel) => Math.max(...rotation.map((row) => Math.abs(row[voxel]))));
  const nearest: (readonly [number, number])[] = [];
  for (const voxel of AXES.toSorted((a, b) => most[b] - most[a])) {
    const sizes = rotation.map((row) => Math.abs(row[voxel]));
    const axis = sizes.indexOf(Math.max(...sizes));
    nearest[voxel] = [axis, rotation[axis][voxel] > 0 ? 1 : -1];
    rotation[axis] = [0, 0, 0];
  }
  return nearest;
}

function dot(first: readonly number[], second: readonly number[]): number {
  return first[0] * second[0] + first[1] * second[1] + first[2] * second[2];
}

function cross(a: readonly number[], b: readonly number[]): number[] {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

/** Return the greatest cosine between two axes of a grid; 0 where all are at right angles. */
export function axesCosine(affine: Affine): number {
  const edges = spacingOf(affine);
  const [x, y, z] = AXES.map((axis) => AXES.map((row) => affine[row][axis] / edges[axis]));
  return Math.min(1, Math.max(...[dot(x, y), dot(y, z), dot(z, x)].map(Math.abs)));
}
