/** Groups DICOM slices into volumes by what their headers say. */
import { heights, isParallel, SAME_PLACE, sorted } from "./geometry";
import type { Slice } from "./slices";

/**
 * Split slices into volumes, each in order.
 *
 * Slices of one volume have one series, patient and frame of reference, one size, orientation and
 * pixel spacing. Where some share a place, they are told apart by time of echo, description, type,
 * acquisition and the like, if that gives volumes; else they stay together.
 */
export function split(slices: readonly Slice[]): Slice[][] {
  const alike = [...grouped(slices, (slice) => slice.identity)].flatMap(byGeometry);
  return alike.flatMap((volume) => toldApart(volume, 0)).map(sorted);
}

function grouped(slices: readonly Slice[], key: (slice: Slice) => string): Slice[][] {
  const groups = new Map<string, Slice[]>();
  for (const slice of slices) {
    const name = key(slice);
    const group = groups.get(name);
    if (group) group.push(slice);
    else groups.set(name, [slice]);
  }
  return [...groups.values()];
}

function byGeometry(slices: readonly Slice[]): Slice[][] {
  const groups: Slice[][] = [];
  for (const slice of slices) {
    const home = groups.find(([first]) => isParallel(first!, slice));
    if (home) home.push(slice);
    else groups.push([slice]);
  }
  return groups;
}

/** Tell apart slices at one place by the first hints that do; leave them if none does. */
function toldApart(slices: Slice[], first: number): Slice[][] {
  const repeats = mostAtAPlace(slices);
  if (repeats === 1 || first === slices[0]!.hints.length) return [slices];
  const parts = grouped(slices, (slice) => slice.hints[first]!);
  const sizes = parts.map((part) => part.length);
  const even = 2 * Math.min(...sizes) >= Math.max(...sizes);
  if (parts.length > 1 && parts.length <= repeats && even) {
    const told = parts.flatMap((part) => toldApart(part, first + 1));
    if (told.every((part) => mostAtAPlace(part) === 1)) return told;
  }
  return toldApart(slices, first + 1);
}

function mostAtAPlace(slices: readonly Slice[]): number {
  const along = heights(slices).sort((a, b) => a - b);
  let [most, here] = [1, 1];
  for (let k = 1; k < along.length; k++) {
    here = along[k]! - along[k - 1]! <= SAME_PLACE ? here + 1 : 1;
    most = Math.max(most, here);
  }
  return most;
}
