/** Runs the chosen network on the case that is worked on. */
import type { Metadata } from "../model/metadata";
import { Problem } from "../problem";
import type { Image } from "../volume";
import { confirmed } from "./dialogs";
import { gridOf, putSegmentation } from "./masks";
import { tell } from "./notices";
import {
  type Case,
  caseById,
  caseOf,
  changed,
  chosenModel,
  type Model,
  sameGrid,
  state,
} from "./state";

/** An image that a channel may take: those of the case first, then those of the others. */
export interface Candidate {
  readonly image: Image;
  readonly caseName: string;
}

/** Images that were chosen for channels, by network, case and channel; null is missing. */
const choices = new Map<string, Image | null>();

function keyOf(one: Case, metadata: Metadata, channel: number): string {
  return `${one.id} ${channel} ${JSON.stringify(metadata.channels)}`;
}

export function candidates(one: Case): Candidate[] {
  const cases = [one, ...state.cases.filter(({ id }) => id !== one.id)];
  return cases.flatMap(({ images, name }) => images.map((image) => ({ image, caseName: name })));
}

/** Return the image of each channel: as chosen, else by name, else in order; null is missing. */
export function assigned(one: Case, metadata: Metadata): (Image | null)[] {
  const { channels } = metadata;
  const named = channels.map((name) => {
    const wanted = plain(name);
    return one.images.find((image) => plain(image.name).includes(wanted)) ?? null;
  });
  const rest = one.images.filter((image) => !named.includes(image));
  const found = named.map((image) => image ?? rest.shift() ?? null);
  if (channels.length === 1 && !named[0]) found[0] = one.images[one.shown] ?? null;
  return found.map((image, channel) => {
    const chosen = choices.get(keyOf(one, metadata, channel));
    return chosen === undefined ? image : chosen;
  });
}

export function assign(one: Case, metadata: Metadata, channel: number, image: Image | null): void {
  choices.set(keyOf(one, metadata, channel), image);
  changed("models", null);
}

function plain(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
}

/** Return what keeps a network from a case, or null. */
export function obstacle(one: Case, metadata: Metadata): Problem | null {
  const images = assigned(one, metadata);
  const missing = metadata.channels.filter(
    (name, i) => !images[i] && !metadata.optional_channels.includes(name),
  );
  if (missing.length) {
    return new Problem("channelsNeeded", { image: one.name, channels: missing.join(", ") });
  }
  const given = images.filter((image) => image !== null);
  const first = given[0];
  if (!first)
    return new Problem("channelsNeeded", {
      image: one.name,
      channels: metadata.channels.join(", "),
    });
  const other = given.find((image) => !sameGrid(image.volume, first.volume));
  if (other) return new Problem("gridsOfTwo", { first: first.name, second: other.name });
  if (!sameGrid(first.volume, gridOf(one))) {
    return new Problem("gridsOfTwo", { first: first.name, second: one.images[0]!.name });
  }
  return null;
}

/** Segment the case that is worked on; what goes wrong is told. */
export async function segmentCase(): Promise<void> {
  const [one, model] = [caseOf(), chosenModel()];
  if (!one || !model?.metadata || state.run) return;
  try {
    await run(one, model, model.metadata);
  } catch (error) {
    tell(error);
  } finally {
    state.run = null;
    changed("run", null);
  }
}

async function run(one: Case, model: Model, metadata: Metadata): Promise<void> {
  const problem = obstacle(one, metadata);
  if (problem) throw problem;
  if (one.unsaved && !(await confirmed("replaceMask", { name: one.name }))) return;
  const cancel = new AbortController();
  state.run = { caseId: one.id, modelName: model.name, progress: null, cancel };
  changed("run", null);
  const { segment } = await import("../predict/client");
  const result = await segment(
    {
      model: await model.bytes(),
      modelName: model.name,
      channels: assigned(one, metadata).map((image) => image?.volume ?? null),
      imageName: one.name,
      backend: state.backend,
    },
    (progress) => {
      if (!state.run) return;
      state.run = { ...state.run, progress };
      changed("run", null);
    },
    cancel.signal,
  );
  const now = caseById(one.id);
  if (!now) return;
  if (now.unsaved && !one.unsaved && !(await confirmed("replaceMask", { name: one.name }))) return;
  const { mask, warnings, backend, threads, seconds } = result;
  const told = { warnings, backend, threads, seconds };
  putSegmentation(one.id, mask.data, { name: model.name, metadata: result.metadata }, told);
}
