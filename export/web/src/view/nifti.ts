/** The image as the viewer reads it: a NIfTI that the page writes, whatever the person's file was. */
import type { Volume } from "../volume";

const HEADER = 352;
const FLOAT32 = 16;

/** Return a NIfTI-1 file of a volume, float32, with its affine as sform alone. */
export function viewable({ data, shape, affine }: Volume): ArrayBuffer {
  const [nx, ny, nz] = shape;
  const bytes = new ArrayBuffer(HEADER + 4 * data.length);
  const view = new DataView(bytes);
  const int16 = (at: number, ...values: number[]) =>
    values.forEach((value, i) => view.setInt16(at + 2 * i, value, true));
  const float32 = (at: number, ...values: number[]) =>
    values.forEach((value, i) => view.setFloat32(at + 4 * i, value, true));
  const column = (axis: number) => Math.hypot(...[0, 1, 2].map((row) => affine[row]![axis]!));
  view.setInt32(0, 348, true);
  int16(40, 3, nx, ny, nz, 1, 1, 1, 1);
  int16(70, FLOAT32, 32);
  float32(76, 1, column(0), column(1), column(2), 1, 1, 1, 1);
  float32(108, HEADER, 1, 0);
  view.setUint8(123, 2); // mm
  int16(252, 0, 1);
  for (let row = 0; row < 3; row++) float32(280 + 16 * row, ...affine[row]!);
  [0x6e, 0x2b, 0x31, 0].forEach((byte, i) => view.setUint8(344 + i, byte));

  const out = new Float32Array(bytes, HEADER);
  for (let k = 0, at = 0; k < nz; k++)
    for (let j = 0; j < ny; j++)
      for (let i = 0, from = j * nz + k; i < nx; i++, from += ny * nz) out[at++] = data[from]!;
  return bytes;
}

/** Return the window that images open with: the 1st to the 99.5th percentile of what is not 0. */
export function defaultWindow(data: Float32Array): [number, number] {
  const step = Math.max(1, Math.floor(data.length / 400_000));
  const sample = new Float32Array(Math.ceil(data.length / step));
  let n = 0;
  for (let i = 0; i < data.length; i += step) if (data[i] !== 0) sample[n++] = data[i]!;
  const sorted = sample.subarray(0, n).sort();
  const low = sorted[Math.floor(0.01 * (n - 1))] ?? 0;
  const high = sorted[Math.floor(0.995 * (n - 1))] ?? 1;
  return high > low ? [Math.min(low, 0), high] : [low, low + 1];
}
