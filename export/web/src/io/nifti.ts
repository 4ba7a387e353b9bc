/** Read and write NIfTI volumes (`.nii` and `.nii.gz`), as segjax and nibabel do. */
import { gzipSync } from "fflate";
import type { Grid } from "../prepare/grid";
import { Problem } from "../problem";
import { type Image, type Shape, voxels } from "../volume";
import { gunzip, gunzipStart, isGzip, MOST_DEFLATED } from "./gzip";
import {
  encoded,
  formsOfGrid,
  formsOfHeader,
  HEADER_BYTES,
  type Head,
  headOf,
  narrowed,
  readable,
  VOXELS_BEGIN,
} from "./nifti-header";

type Numbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array;

/** By NIfTI's datatype, how many bytes a number takes, and how some are read. */
const TYPES: Readonly<Record<number, readonly [bytes: number, read: Reader]>> = {
  2: [1, (...place) => new Uint8Array(...place)],
  4: [2, (...place) => new Int16Array(...place)],
  8: [4, (...place) => new Int32Array(...place)],
  16: [4, (...place) => new Float32Array(...place)],
  64: [8, (...place) => new Float64Array(...place)],
  256: [1, (...place) => new Int8Array(...place)],
  512: [2, (...place) => new Uint16Array(...place)],
  768: [4, (...place) => new Uint32Array(...place)],
  1024: [8, (buffer, start, count) => joined(buffer, start, count, Int32Array)],
  1280: [8, (buffer, start, count) => joined(buffer, start, count, Uint32Array)],
};

type Reader = (buffer: ArrayBuffer, start: number, count: number) => Numbers;

const UINT8 = 2;
const FLOAT32 = 16;
const MOST_BYTES = 2 ** 31;
const LONGEST_AXIS = 2 ** 15 - 1;
const TILE = 16;

/**
 * Read a NIfTI-1 or NIfTI-2 file, compressed or not.
 *
 * Voxels are stored · slope + intercept, computed in float64, as float32. The affine is the sform,
 * else the qform, else that of the voxel size; metres and micrometres become mm. A picture becomes
 * one slice. Of several channels, along one axis after the third, each is an image.
 *
 * @param name Of the file, for people.
 * @throws Problem The file is no NIfTI, damaged or not whole, or holds what no image can.
 */
export async function readNifti(name: string, bytes: ArrayBuffer): Promise<Image[]> {
  const raw = new Uint8Array(bytes);
  const compressed = isGzip(raw);
  const start = compressed ? gunzipStart(raw, HEADER_BYTES) : raw.subarray(0, HEADER_BYTES);
  const head = headOf(name, start, compressed);
  const size = checkedSize(name, head, raw.length, compressed);
  try {
    const content = compressed ? await gunzip(name, raw, size) : raw;
    const { shape, affine } = head.grid;
    const header = encoded(shape, narrowed(head), FLOAT32, 32);
    return channelsOf(name, content, head).map((data, n) => ({
      name: head.channels > 1 ? `${name} [${n + 1}]` : name,
      volume: { data, shape, affine },
      header,
    }));
  } catch (error) {
    if (error instanceof RangeError) throw new Problem("niftiTooLarge", { name, expected: size });
    throw error;
  }
}

/**
 * Write a mask or an image as NIfTI-1.
 *
 * Forms, codes, voxel sizes and unit are those of the header, so that every program places both
 * files alike; but of an sform of sheared axes alone, with which ITK opens no file, a qform is made.
 *
 * @param header Of an image on this grid, as {@link readNifti} and {@link headerOf} give it.
 * @param data `[x][y][z]` in C order.
 */
export function writeNifti(
  header: Uint8Array,
  shape: Shape,
  data: Uint8Array | Float32Array,
  { gzip }: { readonly gzip: boolean },
): Uint8Array<ArrayBuffer> {
  const longest = Math.max(...shape);
  if (longest > LONGEST_AXIS) throw new Problem("niftiLongAxis", { voxels: longest });
  const forms = readable(shape, formsOfHeader(header));
  const isMask = data instanceof Uint8Array;
  const content = new Uint8Array(VOXELS_BEGIN + data.byteLength);
  content.set(encoded(shape, forms, isMask ? UINT8 : FLOAT32, 8 * data.BYTES_PER_ELEMENT));
  const place = isMask
    ? content.subarray(VOXELS_BEGIN)
    : new Float32Array(content.buffer, VOXELS_BEGIN);
  reverseAxes(data, shape, place);
  return gzip ? gzipSync(content, { level: 1, mtime: 0 }) : content;
}

/** Return the header, as {@link writeNifti} takes it, of a grid that came from no NIfTI file. */
export function headerOf(grid: Grid): Uint8Array<ArrayBuffer> {
  return encoded(grid.shape, formsOfGrid(grid), FLOAT32, 32);
}

/** Return how many bytes the voxels end after; refuse, before memory is taken, what cannot be. */
function checkedSize(name: string, head: Head, bytes: number, compressed: boolean): number {
  if (!Object.hasOwn(TYPES, head.datatype)) {
    throw new Problem("niftiDatatype", { name, datatype: head.datatype });
  }
  const count = voxels(head.grid.shape) * head.channels;
  const expected = head.start + count * TYPES[head.datatype][0];
  if (!compressed && expected > bytes)
    throw new Problem("niftiTruncated", { name, bytes, expected });
  if (expected > bytes * MOST_DEFLATED)
    throw new Problem("niftiImpossible", { name, bytes, expected });
  const most = Math.max(expected, count * Float32Array.BYTES_PER_ELEMENT);
  if (most > MOST_BYTES) throw new Problem("niftiTooLarge", { name, expected: most });
  return expected;
}

function channelsOf(name: string, content: Uint8Array<ArrayBuffer>, head: Head): Float32Array[] {
  const { grid, channels, datatype, start, isLittle, scaling } = head;
  const count = voxels(grid.shape);
  const [width, read] = TYPES[datatype];
  const isPlaced = isLittle && (content.byteOffset + start) % width === 0;
  const bytes = isPlaced ? content : content.slice(start, start + count * channels * width);
  if (!isLittle) swap(bytes, width);
  const begin = isPlaced ? content.byteOffset + start : 0;
  const made: Float32Array[] = [];
  for (let channel = 0; channel < channels; channel++) {
    const stored = read(bytes.buffer, begin + channel * count * width, count);
    const data = new Float32Array(count);
    reverseAxes(stored, [grid.shape[2], grid.shape[1], grid.shape[0]], data, scaling ?? undefined);
    made.push(data);
  }
  const wrong = made.reduce((sum, data) => sum + notFinite(data), 0);
  if (wrong) throw new Problem("niftiNotFinite", { name, count: wrong });
  return made;
}

function notFinite(data: Float32Array): number {
  let count = 0;
  for (const value of data) if (value - value !== 0) count++;
  return count;
}

/** Turn the bytes of each number round, in place. */
function swap(bytes: Uint8Array, width: number): void {
  for (let start = 0; start < bytes.length; start += width) {
    for (let [low, high] = [start, start + width - 1]; low < high; low++, high--) {
      const byte = bytes[low];
      bytes[low] = bytes[high];
      bytes[high] = byte;
    }
  }
}

/** Return integers of 64 bits as the nearest numbers. */
function joined(
  buffer: ArrayBuffer,
  start: number,
  count: number,
  Upper: typeof Int32Array | typeof Uint32Array,
): Float64Array {
  const lower = new Uint32Array(buffer, start, 2 * count);
  const upper = new Upper(buffer, start, 2 * count);
  return Float64Array.from({ length: count }, (_, n) => upper[2 * n + 1] * 2 ** 32 + lower[2 * n]);
}

/** Write `[x][y][z]` as `[z][y][x]`, both in C order, each number · slope + intercept. */
function reverseAxes(
  data: Numbers,
  [nx, ny, nz]: Shape,
  out: Float32Array | Uint8Array,
  [slope, intercept]: readonly [number, number] = [1, 0],
): void {
  for (let z0 = 0; z0 < nz; z0 += TILE) {
    const z1 = Math.min(z0 + TILE, nz);
    for (let y = 0; y < ny; y++) {
      for (let x = 0; x < nx; x++) {
        const line = (x * ny + y) * nz;
        for (let z = z0; z < z1; z++) {
          out[(z * ny + y) * nx + x] = data[line + z] * slope + intercept;
        }
      }
    }
  }
}
