/** Find a brain that was extracted before. */
import { Problem } from "../problem";
import type { Shape } from "../volume";
import { componentsOf, largestOf, reachingBorder } from "./components";

/** Return 1 in the largest piece of voxels that are not 0, holes in it filled, and 0 elsewhere. */
export function insideOf(data: Float32Array | null, shape: Shape): Uint8Array {
  const found = componentsOf(
    Uint8Array.from(data ?? [], (value) => +(value !== 0)),
    shape,
    6,
  );
  if (found.count === 0) throw new Problem("stepNoBrain");
  const largest = largestOf(found);
  const outside = new Uint8Array(data!.length).fill(1);
  for (const [run, number] of found.numbers.entries()) {
    if (number === largest) outside.fill(0, found.starts[run], found.stops[run]);
  }
  const others = componentsOf(outside, shape, 6);
  const open = reachingBorder(others, shape);
  const inside = new Uint8Array(outside.length).fill(1);
  for (const [run, number] of others.numbers.entries()) {
    if (open[number]) inside.fill(0, others.starts[run], others.stops[run]);
  }
  return inside;
}
