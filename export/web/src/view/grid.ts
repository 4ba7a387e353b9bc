/** The viewer's voxels, sorted towards right, front and head, and those of the image. */
import type { Affine, Shape } from "../volume";

export type Voxel = [number, number, number];

/** Maps between voxels of the viewer, x fastest, and of an image's arrays, z fastest. */
export class Grid {
  /** Voxels along the viewer's axes. */
  readonly dims: Shape;
  /** Length of a voxel along the viewer's axes, in mm. */
  readonly spacing: Shape;
  private readonly axes: Voxel;
  private readonly flipped: readonly [boolean, boolean, boolean];

  /**
   * @param order for each axis of the viewer the one of the image, 1 to 3, negative if it is
   *   reversed: NiiVue's `permRAS`.
   */
  constructor(
    private readonly shape: Shape,
    private readonly affine: Affine,
    order: readonly number[],
  ) {
    this.axes = order.map((axis) => Math.abs(axis) - 1) as Voxel;
    this.flipped = order.map((axis) => axis < 0) as [boolean, boolean, boolean];
    this.dims = this.axes.map((axis) => shape[axis]) as Voxel;
    this.spacing = this.axes.map((axis) =>
      Math.hypot(...[0, 1, 2].map((row) => affine[row]![axis]!)),
    ) as Voxel;
  }

  /** Return the image's voxel of one of the viewer. */
  imageVoxel(seen: readonly number[]): Voxel {
    const voxel: Voxel = [0, 0, 0];
    this.axes.forEach((axis, i) => {
      voxel[axis] = this.flipped[i] ? this.dims[i]! - 1 - seen[i]! : seen[i]!;
    });
    return voxel;
  }

  /** Return the viewer's voxel of one of the image. */
  seenVoxel(voxel: readonly number[]): Voxel {
    return this.axes.map((axis, i) =>
      this.flipped[i] ? this.dims[i]! - 1 - voxel[axis]! : voxel[axis]!,
    ) as Voxel;
  }

  /** Return the place of an image's voxel in its arrays. */
  imageIndex([i, j, k]: readonly number[]): number {
    return (i! * this.shape[1] + j!) * this.shape[2] + k!;
  }

  /** Return the place of a viewer's voxel in its arrays. */
  seenIndex([i, j, k]: readonly number[]): number {
    return i! + this.dims[0] * (j! + this.dims[1] * k!);
  }

  /** Return the voxel of a place in the image's arrays. */
  voxelAt(index: number): Voxel {
    const [, ny, nz] = this.shape;
    return [Math.floor(index / (ny * nz)), Math.floor(index / nz) % ny, index % nz];
  }

  /** Return a voxel of the image in mm. */
  millimetres(voxel: readonly number[]): Voxel {
    return [0, 1, 2].map((row) => {
      const [a, b, c, origin] = this.affine[row]!;
      return a! * voxel[0]! + b! * voxel[1]! + c! * voxel[2]! + origin!;
    }) as Voxel;
  }

  /** Return an array of the image in the viewer's order. */
  seen(data: Uint8Array): Uint8Array {
    const [nx, ny, nz] = this.dims;
    const start = this.imageIndex(this.imageVoxel([0, 0, 0]));
    const [dx, dy, dz] = [0, 1, 2].map((axis) => {
      const next = [0, 0, 0];
      next[axis] = 1;
      return this.imageIndex(this.imageVoxel(next)) - start;
    }) as Voxel;
    const out = new Uint8Array(data.length);
    let at = 0;
    for (let k = 0; k < nz; k++)
      for (let j = 0; j < ny; j++) {
        let from = start + j * dy + k * dz;
        for (let i = 0; i < nx; i++, from += dx) out[at++] = data[from]!;
      }
    return out;
  }
}
