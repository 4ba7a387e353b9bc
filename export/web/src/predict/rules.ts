/** Probabilities to masks: thresholds, holes, and components that are too small. */
import type { Rule } from "../model/metadata";
import { type Components, componentsOf, largestOf, reachingBorder } from "../prepare/components";
import { voxelSize } from "../prepare/grid";
import type { Shape, Volume } from "../volume";

/** Of a volume: a component of just the minimum stays. */
const ROUNDING = 1e-6;

/**
 * Return a mask: choose the label of each voxel, then clean label after label.
 *
 * @param answer Probabilities of each label, or a single one, that of label 1; on one grid.
 * @param rules One for each label after the background, or none.
 */
export function choose(answer: readonly Volume[], rules: readonly Rule[]): Uint8Array {
  const probabilities = answer.map(({ data }) => data);
  const { shape, affine } = answer[0];
  const hasThreshold = rules.some(({ threshold }) => threshold !== null);
  const mask = hasThreshold ? byThresholds(probabilities, rules) : mostProbable(probabilities);
  for (const [n, rule] of rules.entries()) clean(mask, n + 1, rule, shape, voxelSize(affine));
  return mask;
}

function mostProbable(probabilities: readonly Float32Array[]): Uint8Array {
  if (probabilities.length === 1) return Uint8Array.from(probabilities[0], (p) => +(p > 0.5));
  return mostProbableOf(probabilities, [...probabilities.keys()]);
}

/** Return the most probable of some labels, the lowest of equals. */
function mostProbableOf(probabilities: readonly Float32Array[], labels: number[]): Uint8Array {
  const [first, ...others] = labels;
  const best = probabilities[first].slice();
  const mask = new Uint8Array(best.length).fill(first);
  for (const label of others) {
    const own = probabilities[label];
    for (let n = 0; n < best.length; n++) {
      if (own[n] > best[n]) {
        best[n] = own[n];
        mask[n] = label;
      }
    }
  }
  return mask;
}

function byThresholds(probabilities: readonly Float32Array[], rules: readonly Rule[]): Uint8Array {
  const single = probabilities.length === 1;
  const free = [...probabilities.keys()].filter((n) => n === 0 || rules[n - 1].threshold === null);
  const voxels = probabilities[0].length;
  const mask = single ? new Uint8Array(voxels) : mostProbableOf(probabilities, free);
  const best = new Float32Array(voxels);
  for (const [n, { threshold }] of rules.entries()) {
    if (threshold === null) continue;
    const own = probabilities[single ? 0 : n + 1];
    const least = Math.fround(threshold);
    for (let voxel = 0; voxel < voxels; voxel++) {
      if (own[voxel] >= least && own[voxel] > best[voxel]) {
        mask[voxel] = n + 1;
        best[voxel] = own[voxel];
      }
    }
  }
  return mask;
}

/** Clean a label in place. */
function clean(mask: Uint8Array, label: number, rule: Rule, shape: Shape, voxel: number) {
  const least = (rule.minimum_volume / voxel) * (1 - ROUNDING);
  if (rule.fill_holes) {
    const others = mask.map((value) => +(value !== label));
    const found = componentsOf(others, shape, 6);
    const open = reachingBorder(found, shape);
    fill(mask, found, 0, label, (number) => !open[number]);
  }
  if (rule.largest_component || least > 1) {
    const found = componentsOf(
      mask.map((value) => +(value === label)),
      shape,
      26,
    );
    const largest = rule.largest_component ? largestOf(found) : null;
    const isKept = (n: number) => found.sizes[n] >= least && (largest === null || n === largest);
    fill(mask, found, label, 0, (number) => !isKept(number));
  }
}

/** Replace a value by another in some components. */
function fill(
  mask: Uint8Array,
  found: Components,
  from: number,
  to: number,
  isMeant: (component: number) => boolean,
): void {
  for (const [run, number] of found.numbers.entries()) {
    if (!isMeant(number)) continue;
    for (let place = found.starts[run]; place < found.stops[run]; place++) {
      if (mask[place] === from) mask[place] = to;
    }
  }
}
