/** Headers of NIfTI-1 and NIfTI-2 files: what they say of voxels and of their places. */
import {
  determinant,
  type Grid,
  isPlacing,
  nearestRotation,
  placeOf,
  spacingOf,
} from "../prepare/grid";
import { Problem } from "../problem";
import type { Affine, Shape } from "../volume";
import { formatOf } from "./formats";

/** Bytes of the longest header, that of NIfTI-2. */
export const HEADER_BYTES = 540;
/** Byte where voxels begin in the files that are written. */
export const VOXELS_BEGIN = 352;

const FIRST_BYTES = 348; // of NIfTI-1's header
/** NIfTI's codes for units of space, in mm. */
const MILLIMETRES: Readonly<Record<number, number>> = { 1: 1000, 3: 0.001 };
const SPACE = 7; // bits of xyzt_units that are for space, not for time
const MM = 2;
const SCANNER = 1; // code of coordinates of the scanner
const LAST_CODE = 5;
const LONGEST_QUATERNION = 1.01; // of b, c, d; up to here they are a rotation that was rounded
const ORTHONORMAL = 0.9e-4; // ITK itself allows 1e-4 in float32
const ITK_HALF_TURN = 1e-7; // square of a quaternion's first part that ITK takes for 0
const AXES = [0, 1, 2];

/** The fields that place voxels, as they stand in a file. */
export interface Forms {
  /** Code of the unit of space. */
  readonly units: number;
  /** The first four: the third axis' direction, and the voxel's size. */
  readonly pixdim: readonly number[];
  readonly qform: number;
  readonly sform: number;
  /** Its last three parts; the first one follows. */
  readonly quaternion: readonly number[];
  /** Square of the quaternion's first part that counts as 0. */
  readonly halfTurn: number;
  readonly offset: readonly number[];
  readonly rows: readonly (readonly number[])[];
}

/** What the beginning of a file says. */
export interface Head {
  readonly forms: Forms;
  readonly grid: Grid;
  readonly channels: number;
  readonly isLittle: boolean;
  /** NIfTI's code of the type of the stored numbers. */
  readonly datatype: number;
  /** Byte where they begin. */
  readonly start: number;
  /** Slope and intercept; null where the stored numbers are the values. */
  readonly scaling: readonly [number, number] | null;
}

/**
 * Parse the first 540 bytes of a file, decompressed; fewer of a shorter file.
 *
 * @throws Problem It is no NIfTI, or its header cannot be.
 */
export function headOf(name: string, bytes: Uint8Array, compressed: boolean): Head {
  const fields = fieldsOf(name, bytes, compressed);
  const [count, ...sizes] = fields.dim;
  const axes = sizes.slice(0, Math.max(count, 0));
  if (count < 2 || count > 7 || axes.some((size) => !(size >= 1))) {
    throw new Problem("niftiHeader", { name, field: `dim = ${[count, ...axes].join(" ")}` });
  }
  const further = axes.slice(3).filter((size) => size > 1);
  if (further.length > 1) throw new Problem("niftiAxes", { name, shape: axes.join(" × ") });
  const shape: Shape = [axes[0], axes[1], axes[2] ?? 1];
  const least = fields.magic === "n+2" ? HEADER_BYTES + 4 : VOXELS_BEGIN;
  const start = fields.start === 0 ? least : fields.start;
  if (!(start >= least)) throw new Problem("niftiHeader", { name, field: "vox_offset" });
  const forms = formsOf(fields, count);
  const affine = affineOf(shape, forms);
  if (affine === null) throw new Problem("niftiAffine", { name });
  return {
    forms,
    grid: { shape, affine },
    channels: further[0] ?? 1,
    isLittle: fields.isLittle,
    datatype: fields.datatype,
    start,
    scaling: scalingOf(name, fields),
  };
}

/** Return the forms of a header of 348 bytes or more, of NIfTI-1 and little-endian. */
export function formsOfHeader(header: Uint8Array): Forms {
  return formsOf(new Fields(header, 1, true), 3);
}

/** Return forms as NIfTI-1 holds them; those of the affine where it cannot, or they are not finite. */
export function narrowed({ forms, grid }: Pick<Head, "forms" | "grid">): Forms {
  const narrow = (values: readonly number[]) => values.map(Math.fround);
  const codes = [forms.qform, forms.sform];
  const made = {
    ...forms,
    pixdim: narrow(forms.pixdim),
    quaternion: narrow(forms.quaternion),
    offset: narrow(forms.offset),
    rows: forms.rows.map(narrow),
  };
  const numbers = [made.pixdim, made.quaternion, made.offset, ...made.rows].flat();
  const fits = codes.every((code) => code === (code << 16) >> 16) && numbers.every(Number.isFinite);
  return fits ? made : formsOfGrid(grid, forms);
}

/**
 * Return forms that every program can follow: those that are given, but where they are an sform of
 * sheared axes alone, with which ITK opens no file.
 */
export function readable(shape: Shape, forms: Forms): Forms {
  if (forms.qform > 0 || forms.sform <= 0) return forms;
  const affine = affineOf(shape, forms);
  if (affine === null) return forms;
  const edges = spacingOf(affine);
  const cosine = (one: number, other: number) =>
    AXES.reduce(
      (sum, axis) => sum + (affine[one][axis] * affine[other][axis]) / edges[axis] ** 2,
      0,
    );
  const off = AXES.flatMap((one) =>
    AXES.map((other) => Math.abs(cosine(one, other) - +(one === other))),
  );
  return Math.max(...off) <= ORTHONORMAL ? forms : formsOfGrid({ shape, affine }, forms);
}

/**
 * Return forms of an affine: it is the sform, and the qform is as near to it as it can be.
 *
 * @param codes Of forms before, of which one is kept.
 */
export function formsOfGrid({ shape, affine }: Grid, codes = { sform: 0, qform: 0 }): Forms {
  const code = [codes.sform, codes.qform].find((one) => one > 0 && one <= LAST_CODE) ?? SCANNER;
  const spacing = spacingOf(affine);
  const axes = nearestRotation(affine);
  const hand = determinant(axes) < 0 ? -1 : 1; // NIfTI mirrors the third axis
  const rotation = axes.map(([x, y, z]) => [x, y, z * hand]);
  const quaternion = quaternionOf(rotation);
  const centre = shape.map((size) => (size - 1) / 2);
  const turned = rotationOf(firstOf(quaternion, ITK_HALF_TURN), quaternion).map(([x, y, z]) =>
    [x, y, z * hand].reduce((sum, value, axis) => sum + value * spacing[axis] * centre[axis], 0),
  );
  return {
    units: MM,
    pixdim: [hand, ...spacing],
    qform: code,
    sform: code,
    quaternion,
    halfTurn: ITK_HALF_TURN,
    offset: placeOf(affine, centre).map((place, axis) => place - turned[axis]),
    rows: affine.slice(0, 3),
  };
}

/**
 * Return a header of NIfTI-1, little-endian, of 352 bytes.
 *
 * @param datatype NIfTI's code of the type of the voxels.
 * @param bits That one takes.
 */
export function encoded(
  shape: Shape,
  forms: Forms,
  datatype: number,
  bits: number,
): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(VOXELS_BEGIN);
  const view = new DataView(header.buffer);
  const short = (place: number, value: number) => view.setInt16(place, value, true);
  const floats = (place: number, values: readonly number[]) => {
    for (const [n, value] of values.entries()) view.setFloat32(place + 4 * n, value, true);
  };
  view.setInt32(0, FIRST_BYTES, true);
  for (const [n, size] of [3, ...shape, 1, 1, 1, 1].entries()) short(40 + 2 * n, size);
  short(70, datatype);
  short(72, bits);
  floats(76, [...forms.pixdim, 1, 1, 1, 1]);
  floats(108, [VOXELS_BEGIN, 1, 0]); // and slope and intercept
  view.setUint8(123, forms.units);
  short(252, forms.qform);
  short(254, forms.sform);
  floats(256, [...forms.quaternion, ...forms.offset, ...forms.rows.flat()]);
  header.set(
    [..."n+1"].map((letter) => letter.charCodeAt(0)),
    344,
  );
  return header;
}

/** Reads fields, which lie elsewhere and have other types in NIfTI-2. */
class Fields {
  private readonly view: DataView;

  constructor(
    bytes: Uint8Array,
    readonly version: 1 | 2,
    readonly isLittle: boolean,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Return floats, of 4 bytes in NIfTI-1 and of 8 in NIfTI-2. */
  floats(first: number, second: number, count: number): number[] {
    return Array.from({ length: count }, (_, n) =>
      this.version === 1
        ? this.view.getFloat32(first + 4 * n, this.isLittle)
        : this.view.getFloat64(second + 8 * n, this.isLittle),
    );
  }

  /** Return an integer, of 2 bytes in NIfTI-1 and of 4 in NIfTI-2. */
  code(first: number, second: number): number {
    return this.version === 1
      ? this.view.getInt16(first, this.isLittle)
      : this.view.getInt32(second, this.isLittle);
  }

  get dim(): number[] {
    return Array.from({ length: 8 }, (_, n) =>
      this.version === 1
        ? this.view.getInt16(40 + 2 * n, this.isLittle)
        : Number(this.view.getBigInt64(16 + 8 * n, this.isLittle)),
    );
  }

  get datatype(): number {
    return this.view.getInt16(this.version === 1 ? 70 : 12, this.isLittle);
  }

  get start(): number {
    return this.version === 1
      ? Math.trunc(this.view.getFloat32(108, this.isLittle))
      : Number(this.view.getBigInt64(168, this.isLittle));
  }

  get units(): number {
    return this.version === 1 ? this.view.getUint8(123) : this.view.getInt32(500, this.isLittle);
  }

  get magic(): string {
    const place = this.version === 1 ? 344 : 4;
    return String.fromCharCode(...AXES.map((n) => this.view.getUint8(place + n)));
  }
}

function fieldsOf(name: string, start: Uint8Array, compressed: boolean): Fields {
  if (start.length < FIRST_BYTES) throw noNifti(name, start, compressed);
  const view = new DataView(start.buffer, start.byteOffset, start.length);
  const second = [true, false].find((isLittle) => view.getInt32(0, isLittle) === HEADER_BYTES);
  if (second !== undefined && start.length >= HEADER_BYTES) {
    const fields = new Fields(start, 2, second);
    if (fields.magic === "n+2") return fields;
    if (fields.magic === "ni2") throw new Problem("niftiPair", { name });
  }
  const axes = view.getInt16(40, true);
  const isLittle = axes === 0 ? view.getInt32(0, false) !== FIRST_BYTES : axes > 0 && axes < 8;
  const fields = new Fields(start, 1, isLittle);
  if (fields.magic === "n+1") return fields;
  const isAnalyze = view.getInt32(0, isLittle) === FIRST_BYTES;
  if (fields.magic === "ni1" || isAnalyze) throw new Problem("niftiPair", { name });
  throw noNifti(name, start, compressed);
}

function noNifti(name: string, start: Uint8Array, compressed: boolean): Problem {
  const format = formatOf(start);
  if (format === null) return new Problem("niftiUnknown", { name });
  return new Problem("niftiOtherFormat", { name, format: compressed ? `${format} (.gz)` : format });
}

function scalingOf(name: string, fields: Fields): readonly [number, number] | null {
  const [slope, intercept] = fields.floats(112, 176, 2);
  if (slope === 0 || !Number.isFinite(slope)) return null;
  if (!Number.isFinite(intercept)) throw new Problem("niftiHeader", { name, field: "scl_inter" });
  return slope === 1 && intercept === 0 ? null : [slope, intercept];
}

function formsOf(fields: Fields, axes: number): Forms {
  const rows = fields.floats(280, 400, 12);
  const pixdim = fields.floats(76, 104, 4);
  const [qform, sform] = [fields.code(252, 344), fields.code(254, 348)];
  return {
    units: fields.units & SPACE,
    pixdim: axes === 2 && !isCode(qform) && !isCode(sform) ? [...pixdim.slice(0, 3), 1] : pixdim,
    qform,
    sform,
    quaternion: fields.floats(256, 352, 3),
    halfTurn: 3 * (fields.version === 1 ? 2 ** -23 : 2 ** -52),
    offset: fields.floats(268, 376, 3),
    rows: [rows.slice(0, 4), rows.slice(4, 8), rows.slice(8)],
  };
}

function isCode(code: number): boolean {
  return code > 0 && code <= LAST_CODE;
}

/** Return voxel index -> mm, as nibabel mends and chooses it; null where it places no voxels. */
function affineOf(shape: Shape, forms: Forms): Affine | null {
  if (isCode(forms.sform)) {
    const affine = placing(forms.rows, forms.units);
    if (affine !== null || !isCode(forms.qform)) return affine;
  }
  const sizes = forms.pixdim.slice(1).map((size) => (size === 0 ? 1 : Math.abs(size)));
  const rows = isCode(forms.qform) ? rowsOfQform(forms, sizes) : rowsOfSizes(sizes, shape);
  return rows && placing(rows, forms.units);
}

function placing(rows: readonly (readonly number[])[], units: number): Affine | null {
  const scale = MILLIMETRES[units] ?? 1;
  const affine = [...rows.map((row) => row.map((value) => value * scale)), [0, 0, 0, 1]];
  return isPlacing(affine) ? affine : null;
}

function rowsOfQform({ pixdim, quaternion, halfTurn, offset }: Forms, sizes: number[]) {
  const length = Math.hypot(...quaternion);
  if (!(length <= LONGEST_QUATERNION)) return null;
  const parts = length > 1 ? quaternion.map((part) => part / length) : quaternion;
  const hand = pixdim[0] === -1 ? -1 : 1;
  return rotationOf(firstOf(parts, halfTurn), parts).map(([x, y, z], row) => [
    x * sizes[0],
    y * sizes[1],
    z * sizes[2] * hand,
    offset[row],
  ]);
}

/** Return the rows of a file that has neither form: x to the left, 0 in the middle. */
function rowsOfSizes(sizes: number[], shape: Shape): number[][] {
  return sizes.map((size, axis) => {
    const signed = axis === 0 ? -size : size;
    const row = [0, 0, 0, (-signed * (shape[axis] - 1)) / 2];
    row[axis] = signed;
    return row;
  });
}

/** Return the first part of a quaternion, which is not stored. */
function firstOf([b, c, d]: readonly number[], halfTurn: number): number {
  const square = 1 - (b * b + c * c + d * d);
  return square < halfTurn ? 0 : Math.sqrt(square);
}

function rotationOf(a: number, [b, c, d]: readonly number[]): number[][] {
  const s = 2 / (a * a + b * b + c * c + d * d);
  return [
    [1 - s * (c * c + d * d), s * (b * c - a * d), s * (b * d + a * c)],
    [s * (b * c + a * d), 1 - s * (b * b + d * d), s * (c * d - a * b)],
    [s * (b * d - a * c), s * (c * d + a * b), 1 - s * (b * b + c * c)],
  ];
}

/** Return b, c and d of a rotation, in float32; near a half turn the better of two roundings. */
function quaternionOf(rotation: readonly (readonly number[])[]): number[] {
  const exact = exactQuaternionOf(rotation);
  const rounded = exact.map(Math.fround);
  const largest = rounded.map(Math.abs).indexOf(Math.max(...rounded.map(Math.abs)));
  const other = rounded.map((part, n) => (n === largest ? nextToZero(part) : part));
  const error = (parts: number[]) =>
    Math.max(
      ...rotationOf(firstOf(parts, ITK_HALF_TURN), parts).flatMap((row, r) =>
        row.map((value, c) => Math.abs(value - rotation[r][c])),
      ),
    );
  return error(other) < error(rounded) ? other : rounded;
}

/** Return b, c and d of a rotation, where a is not negative: by the largest of the four parts. */
function exactQuaternionOf([x, y, z]: readonly (readonly number[])[]): number[] {
  const columns = [
    [1 + x[0] + y[1] + z[2], z[1] - y[2], x[2] - z[0], y[0] - x[1]],
    [z[1] - y[2], 1 + x[0] - y[1] - z[2], y[0] + x[1], z[0] + x[2]],
    [x[2] - z[0], y[0] + x[1], 1 - x[0] + y[1] - z[2], z[1] + y[2]],
    [y[0] - x[1], z[0] + x[2], z[1] + y[2], 1 - x[0] - y[1] + z[2]],
  ];
  const diagonal = columns.map((column, n) => column[n]);
  const best = columns[diagonal.indexOf(Math.max(...diagonal))];
  const length = Math.hypot(...best) * (best[0] < 0 ? -1 : 1);
  return best.slice(1).map((part) => part / length);
}

/** Return the float32 before a number, on the way to 0. */
function nextToZero(value: number): number {
  const bits = new Uint32Array(new Float32Array([value]).buffer);
  if (bits[0] << 1 !== 0) bits[0]--;
  return new Float32Array(bits.buffer)[0];
}
