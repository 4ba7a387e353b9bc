/** Replay the preprocessing of a file, and bring what a network answers back to the image. */
import type { Step } from "../model/metadata";
import { Problem } from "../problem";
import { type Volume, voxels } from "../volume";
import { type Grid, isSameGrid } from "./grid";
import { type Move, moved } from "./moves";
import { type Action, actionOf, type Stack, unsupported } from "./steps";

/** How answers come back: the grid of the image, and the ways of each step, the last one first. */
export interface Way {
  readonly grid: Grid;
  readonly moves: readonly Move[];
  /** Whether no voxel was moved. */
  readonly stays: boolean;
}

export interface Prepared {
  /** What the network sees, of all channels; those that are missing are 0. */
  readonly channels: readonly Volume[];
  readonly way: Way;
  /** As {@link restore} does it. */
  restore(answer: readonly Volume[]): Volume[];
}

/**
 * Return the steps that cannot run in a browser, by name.
 *
 * @throws Problem A field of a step that could is unknown, or its value out of range.
 */
export function applicable(pipeline: readonly Step[]): string[] {
  const refused = pipeline.map(unsupported);
  for (const [n, step] of pipeline.entries()) if (refused[n] === null) actionOf(step);
  return refused.filter((name) => name !== null);
}

/**
 * Apply the steps of a pipeline in order.
 *
 * @param channels Of one image, on one grid; null where one is missing, which is 0 in the result.
 * @throws Problem A step cannot run here, or cannot take the image.
 */
export function prepare(channels: readonly (Volume | null)[], pipeline: readonly Step[]): Prepared {
  const first = channels.find((channel) => channel !== null);
  if (first === undefined) throw new Problem("allChannelsMissing");
  const refused = applicable(pipeline);
  if (refused.length) throw new Problem("stepsUnsupported", { steps: refused.join(", ") });
  const given = { shape: first.shape, affine: first.affine };
  const arrays = channels.map((channel) => channel?.data ?? null);
  const { image, moves, stays } = applied(
    { grid: given, channels: arrays },
    pipeline.map(actionOf),
  );
  const { shape, affine } = image.grid;
  const way = { grid: given, moves, stays };
  return {
    channels: image.channels.map((data) => ({
      data: data ?? new Float32Array(voxels(shape)),
      shape,
      affine,
    })),
    way,
    restore: (answer) => restore(answer, way),
  };
}

function applied(given: Stack, actions: readonly Action[]) {
  const moves: Move[] = [];
  let [image, stays] = [given, true];
  for (const action of actions) {
    const done = action(image);
    if (done.back) moves.unshift(done.back);
    image = done.image;
    stays &&= isSameGrid(given.grid, image.grid);
  }
  return { image, moves, stays };
}

/**
 * Bring probabilities back to the grid of the image, each label by itself and linearly.
 *
 * Where voxels were moved, the background of several labels is what the others leave, so that what
 * lies outside the processed field of view is background.
 *
 * @param answer Probabilities of each label, the background first; or a single one.
 */
export function restore(answer: readonly Volume[], { grid, moves, stays }: Way): Volume[] {
  const back = ({ data }: Volume) => ({ ...grid, data: moves.reduce(moved, data) });
  if (stays || answer.length === 1) return answer.map(back);
  const others = answer.slice(1).map(back);
  const rest = new Float32Array(voxels(grid.shape));
  for (const { data } of others) {
    for (let n = 0; n < rest.length; n++) rest[n] += data[n];
  }
  for (let n = 0; n < rest.length; n++) rest[n] = Math.min(Math.max(1 - rest[n], 0), 1);
  return [{ ...grid, data: rest }, ...others];
}
