/** Puts DICOM slices in order, and places them in the patient. */
import { Problem } from "../problem";
import type { Affine, Shape } from "../volume";
import type { Slice } from "./slices";

type Vector = readonly number[];

export interface Grid {
  /** Columns, rows, slices. */
  readonly shape: Shape;
  readonly affine: Affine;
}

/** mm; two slices closer than that are at one place. */
export const SAME_PLACE = 1e-2;
const LEAST_TILT = 1e-4; // radians; scanners' gantries tilt by far more
const MOST_ROUNDED = 2; // decimals; fewer are no rounding
const UNEVEN = 0.1; // of the distance between slices; what rounded positions come to is far less
const SAME_COSINES = 2e-3; // 0.1°
const SAME_SPACING = 1e-3; // of the distance between pixels
const LPS_TO_RAS = [-1, -1, 1];

/** Say whether two slices have one size, orientation and pixel spacing. */
export function isParallel(one: Slice, other: Slice): boolean {
  return (
    one.rows === other.rows &&
    one.columns === other.columns &&
    one.orientation.every((x, i) => Math.abs(x - other.orientation[i]!) <= SAME_COSINES) &&
    one.spacing.every((x, i) => Math.abs(x - other.spacing[i]!) <= SAME_SPACING * other.spacing[i]!)
  );
}

/** Return the places of parallel slices along the normal of the first, in mm. */
export function heights(slices: readonly Slice[]): number[] {
  const [, , normal] = axes(slices[0]!.orientation);
  return slices.map((slice) => dot(slice.position, normal));
}

/** Put parallel slices in order along their normal; those at one place by file and frame. */
export function sorted(slices: readonly Slice[]): Slice[] {
  const along = heights(slices);
  const order = slices.map((_, i) => i);
  order.sort((i, j) => {
    const [one, other] = [slices[i]!, slices[j]!];
    const byName = one.path < other.path ? -1 : Number(one.path > other.path);
    return along[i]! - along[j]! || byName || one.frame - other.frame;
  });
  return order.map((i) => slices[i]!);
}

/**
 * Return the shape and the affine of slices in order.
 *
 * Directions that the header rounds become the nearest ones at right angles. Slices whose corners
 * leave their normal by no more than rounding explains lie on it; others stay sheared.
 *
 * @throws Problem A slice is missing, is there twice, or lies between others'.
 */
export function place(slices: readonly Slice[], name: string): Grid {
  const first = slices[0]!;
  const [row, column, normal] = axes(first.orientation);
  let step: Vector = scaled(normal, first.thickness ?? 1);
  if (slices.length > 1) {
    const along = heights(slices);
    const steps = along.slice(1).map((height, k) => height - along[k]!);
    checkPlaces(slices, along, steps, name);
    checkSpacing(slices, steps, name);
    const way = difference(slices.at(-1)!.position, first.position);
    step = scaled(way, 1 / (slices.length - 1));
    checkLine(slices, step, name);
    step = withoutRounding(step, normal, slices);
  }
  const columns = [
    scaled(row, first.spacing[1]!),
    scaled(column, first.spacing[0]!),
    step,
    first.position,
  ];
  const rows = LPS_TO_RAS.map((sign, i) => columns.map((vector) => sign * vector[i]!));
  return { shape: [first.columns, first.rows, slices.length], affine: [...rows, [0, 0, 0, 1]] };
}

/** Return the directions of columns, rows and slices: those at right angles nearest to the header's. */
function axes(orientation: Vector): [Vector, Vector, Vector] {
  const [x, y] = [orientation.slice(0, 3), orientation.slice(3)];
  const [a, b, d] = [dot(x, x), dot(x, y), dot(y, y)]; // polar decomposition: x and y by (a b; b d)^-1/2
  const s = Math.sqrt(a * d - b * b);
  const t = Math.sqrt(a + d + 2 * s);
  const [p, q, r] = [(d + s) / (s * t), -b / (s * t), (a + s) / (s * t)];
  const row = x.map((_, i) => p * x[i]! + q * y[i]!);
  const column = x.map((_, i) => q * x[i]! + r * y[i]!);
  return [row, column, cross(row, column)];
}

/** Return a step between slices along the normal, where rounding explains that it leaves it. */
function withoutRounding(step: Vector, normal: Vector, slices: readonly Slice[]): Vector {
  const along = dot(step, normal);
  const aside = Math.hypot(...difference(step, scaled(normal, along)));
  const positions = Math.max(...slices.map((slice) => rounding(slice.position)));
  const turned = Math.sqrt(6) * rounding(slices[0]!.orientation); // each of six cosines is off by that
  const moved = (Math.sqrt(12) * positions) / (slices.length - 1); // so is each number of both ends
  return aside <= Math.max(turned, LEAST_TILT) * along + moved ? scaled(normal, along) : step;
}

/** Return half a unit of the last decimal that the larger of some numbers have. */
function rounding(numbers: Vector): number {
  const stated = numbers.map(Math.abs).filter((number) => number > 0);
  const large = stated.filter((number) => number >= Math.max(...stated) / 10);
  const fewest = Math.max(0, ...large.map(decimals));
  return fewest >= MOST_ROUNDED ? 0.5 * 10 ** -fewest : 0;
}

function decimals(number: number): number {
  const [digits = "", power = "0"] = String(number).split("e");
  return (digits.split(".")[1]?.length ?? 0) - Number(power);
}

/** Refuse slices that are there twice or missing. */
function checkPlaces(
  slices: readonly Slice[],
  along: number[],
  steps: number[],
  name: string,
): void {
  const closest = steps.indexOf(Math.min(...steps));
  if (steps[closest]! <= SAME_PLACE) {
    throw new Problem("dicomTwice", {
      name,
      place: along[closest]!.toFixed(2),
      first: called(slices[closest]!),
      second: called(slices[closest + 1]!),
    });
  }
  const usual = median(steps);
  steps.forEach((step, k) => {
    const count = Math.round(step / usual) - 1;
    if (count > 0 && Math.abs(step / usual - count - 1) <= UNEVEN * (count + 1)) {
      throw new Problem("dicomGap", {
        name,
        count,
        from: along[k]!.toFixed(2),
        to: along[k + 1]!.toFixed(2),
        first: called(slices[k]!),
        second: called(slices[k + 1]!),
      });
    }
  });
}

/**
 * Refuse steps that are all twice, three times, … what the headers state: slices are missing.
 *
 * A stated distance of less than half the thickness, or less than the thickness that makes the step
 * with it, is the gap, as some scanners state it.
 */
function checkSpacing(slices: readonly Slice[], steps: number[], name: string): void {
  const stated = new Set(
    slices.filter((s) => s.stated[0] > SAME_PLACE).map((s) => s.stated.join(" ")),
  );
  if (stated.size !== 1) return;
  const [between, thick] = [...stated][0]!.split(" ").map(Number) as [number, number];
  const times = steps.map((step) => Math.round(step / between));
  const whole = steps.every((step, k) => Math.abs(step / between - times[k]!) <= UNEVEN);
  const together = thick + between;
  const isGap =
    between < thick && steps.every((step) => Math.abs(step - together) <= UNEVEN * together);
  if (Math.min(...times) > 1 && whole && !isGap && between >= thick / 2) {
    throw new Problem("dicomSparse", {
      name,
      apart: median(steps).toPrecision(4),
      stated: between,
    });
  }
}

/** Refuse slices that do not lie one step apart on a line. */
function checkLine(slices: readonly Slice[], step: Vector, name: string): void {
  const first = slices[0]!.position;
  const off = slices.map((slice, k) =>
    Math.hypot(...difference(difference(slice.position, first), scaled(step, k))),
  );
  const worst = off.indexOf(Math.max(...off));
  if (off[worst]! > UNEVEN * Math.hypot(...step)) {
    throw new Problem("dicomUneven", {
      name,
      slice: called(slices[worst]!),
      off: off[worst]!.toFixed(2),
      step: Math.hypot(...step).toPrecision(4),
    });
  }
}

function called(slice: Slice): string {
  return slice.frames > 1 ? `${slice.file.name} (${slice.frame + 1})` : slice.file.name;
}

function median(numbers: number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor((numbers.length - 1) / 2)]!;
}

function dot(one: Vector, other: Vector): number {
  return one.reduce((sum, x, i) => sum + x * other[i]!, 0);
}

function cross([a, b, c]: Vector, [d, e, f]: Vector): Vector {
  return [b! * f! - c! * e!, c! * d! - a! * f!, a! * e! - b! * d!];
}

function scaled(vector: Vector, factor: number): Vector {
  return vector.map((x) => x * factor);
}

function difference(one: Vector, other: Vector): Vector {
  return one.map((x, i) => x - other[i]!);
}
