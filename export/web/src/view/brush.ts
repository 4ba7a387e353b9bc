/** Which voxels a stroke of the brush covers. */
import type { Grid, Voxel } from "./grid";

export interface Brush {
  /** Of the disc or ball, in mm. */
  readonly diameter: number;
  /** The axis across the plane that is painted in; null: in all directions. */
  readonly across: 0 | 1 | 2 | null;
}

/**
 * Call a function for each voxel of the viewer whose centre lies within half the diameter of the
 * way between two voxels; the voxels of the way are always among them.
 */
export function stroke(
  grid: Grid,
  from: Voxel,
  to: Voxel,
  brush: Brush,
  touch: (voxel: Voxel) => void,
): void {
  const radius = brush.diameter / 2;
  const steps = Math.max(1, ...from.map((start, axis) => Math.abs(to[axis]! - start)));
  for (let step = from === to ? steps : 0; step <= steps; step++) {
    const centre = from.map((start, axis) =>
      Math.round(start + ((to[axis]! - start) * step) / steps),
    ) as Voxel;
    ball(grid, centre, radius, brush.across, touch);
  }
}

function ball(
  grid: Grid,
  centre: Voxel,
  radius: number,
  across: Brush["across"],
  touch: (voxel: Voxel) => void,
): void {
  const reach = grid.spacing.map((size, axis) => (axis === across ? 0 : Math.floor(radius / size)));
  const [low, high] = [-1, 1].map((side) =>
    centre.map((c, axis) => Math.min(grid.dims[axis]! - 1, Math.max(0, c + side * reach[axis]!))),
  ) as [Voxel, Voxel];
  for (let k = low[2]; k <= high[2]; k++)
    for (let j = low[1]; j <= high[1]; j++)
      for (let i = low[0]; i <= high[0]; i++) {
        const [x, y, z] = [i - centre[0], j - centre[1], k - centre[2]].map(
          (distance, axis) => distance * grid.spacing[axis]!,
        ) as Voxel;
        if (x * x + y * y + z * z <= radius * radius || (!x && !y && !z)) touch([i, j, k]);
      }
}
