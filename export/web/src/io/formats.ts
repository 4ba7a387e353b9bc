/** What files are that no one wanted: told by their first bytes. */

const SIGNATURES: readonly (readonly [format: string, place: number, bytes: string])[] = [
  ["DICOM", 128, "DICM"],
  ["PNG", 0, "\x89PNG"],
  ["JPEG", 0, "\xff\xd8\xff"],
  ["TIFF", 0, "II*\0"],
  ["TIFF", 0, "MM\0*"],
  ["NRRD", 0, "NRRD0"],
  ["MetaImage", 0, "ObjectType"],
  ["MINC / HDF5", 0, "\x89HDF"],
  ["MINC / NetCDF", 0, "CDF"],
  ["NumPy", 0, "\x93NUMPY"],
  ["PDF", 0, "%PDF"],
  ["ZIP", 0, "PK\x03\x04"],
  ["gzip", 0, "\x1f\x8b"],
  ["XML / HTML", 0, "<"],
  ["JSON", 0, "{"],
];
/** An ONNX file's first field, its IR version, and the next ones that may follow. */
const ONNX_FIRST = 0x08;
const ONNX_SECOND = [0x12, 0x1a, 0x3a];

/** Name the format of a file by its first 132 bytes or more; null where none is known. */
export function formatOf(start: Uint8Array): string | null {
  const text = String.fromCharCode(...start.subarray(0, 200));
  const found = SIGNATURES.find(([, place, bytes]) => text.startsWith(bytes, place));
  if (found !== undefined) return found[0];
  return start[0] === ONNX_FIRST && ONNX_SECOND.includes(start[2]) ? "ONNX" : null;
}
