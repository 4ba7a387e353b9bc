/** Images as the whole page hands them on. */

/** Rows of a 4×4 matrix: voxel index to mm, x to the right, y to the front, z to the head (RAS+). */
export type Affine = readonly (readonly number[])[];

export type Shape = readonly [number, number, number];

/** One channel of an image, or the probabilities of one label. */
export interface Volume {
  /** `[x][y][z]` in C order: z varies fastest. */
  readonly data: Float32Array;
  readonly shape: Shape;
  readonly affine: Affine;
}

/** A label for each voxel of an image, in the order of its volume. */
export interface Mask {
  readonly data: Uint8Array;
  readonly shape: Shape;
  readonly affine: Affine;
}

/** What was read from a NIfTI file or a DICOM series. */
export interface Image {
  /** Name of the file or series, for people. */
  readonly name: string;
  readonly volume: Volume;
  /** The first 352 bytes of its NIfTI header, little-endian; a mask takes its geometry from them. */
  readonly header: Uint8Array<ArrayBuffer>;
  /** Where it came from a DICOM series: what a DICOM SEG needs of its slices. */
  readonly series?: DicomSeries;
}

/** A DICOM series, as its files tell of it. */
export interface DicomSeries {
  readonly uid: string;
  readonly description: string;
  readonly modality: string;
  /** The files as they were dropped, slices first to last. */
  readonly files: readonly File[];
}

/** Return the number of voxels. */
export function voxels(shape: Shape): number {
  return shape[0] * shape[1] * shape[2];
}
