// NIfTI-1 files in and out: volumes are {data, shape, affine}, [x][y][z] with z fastest.
import { readFileSync, writeFileSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";

const TYPES = {
  2: [1, "getUint8"], 4: [2, "getInt16"], 8: [4, "getInt32"], 16: [4, "getFloat32"],
  64: [8, "getFloat64"], 256: [1, "getInt8"], 512: [2, "getUint16"], 768: [4, "getUint32"],
};

export function readNifti(path) {
  let bytes = readFileSync(path);
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) bytes = gunzipSync(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const little = view.getInt32(0, true) === 348;
  const i16 = (at) => view.getInt16(at, little);
  const f32 = (at) => view.getFloat32(at, little);
  const shape = [42, 44, 46].map((at) => Math.max(1, i16(at)));
  const [size, get] = TYPES[i16(70)];
  const slope = f32(112) || 1;
  const inter = f32(112) ? f32(116) || 0 : 0;
  const data = new Float32Array(shape[0] * shape[1] * shape[2]);
  let at = f32(108); // vox_offset; x is fastest there
  for (let z = 0; z < shape[2]; z++)
    for (let y = 0; y < shape[1]; y++)
      for (let x = 0; x < shape[0]; x++, at += size)
        data[(x * shape[1] + y) * shape[2] + z] = view[get](at, little) * slope + inter;
  const sform = [0, 1, 2].map((r) => [0, 1, 2, 3].map((c) => f32(280 + 16 * r + 4 * c)));
  const affine = i16(254) > 0 ? sform : qform(f32);
  return { data, shape, affine, header: Buffer.from(bytes.subarray(0, 352)), little };
}

function qform(f32) {
  const [b, c, d] = [f32(256), f32(260), f32(264)];
  const a = Math.sqrt(Math.max(0, 1 - b * b - c * c - d * d));
  const rows = [
    [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
    [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
    [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
  ];
  const sizes = [f32(80), f32(84), f32(88) * (f32(76) < 0 ? -1 : 1)];
  return rows.map((row, r) => [...row.map((v, i) => v * sizes[i]), f32(268 + 4 * r)]);
}

export function writeMask(path, mask, { shape, header, little }) {
  const bytes = Buffer.alloc(352 + mask.length);
  header.copy(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  view.setInt16(40, 3, little); // three axes of unsigned bytes, as they are
  for (let axis = 4; axis < 8; axis++) view.setInt16(40 + 2 * axis, 1, little);
  view.setInt16(70, 2, little);
  view.setInt16(72, 8, little);
  [[108, 352], [112, 1], [116, 0], [124, 0], [128, 0]].forEach(([at, v]) => view.setFloat32(at, v, little));
  view.setInt32(348, 0, little); // no extensions
  let at = 352;
  for (let z = 0; z < shape[2]; z++)
    for (let y = 0; y < shape[1]; y++)
      for (let x = 0; x < shape[0]; x++) bytes[at++] = mask[(x * shape[1] + y) * shape[2] + z];
  writeFileSync(path, path.endsWith(".gz") ? gzipSync(bytes) : bytes);
}
