/** Masks of cases: from a network, a file or a brush; measured again after each change. */
import type { Load } from "../measure/lesions";
import type { Metadata, Structure } from "../model/metadata";
import type { Affine, Image, Shape } from "../volume";
import { History } from "./history";
import type { Question } from "./measure.worker";
import { type Case, type CaseMask, caseById, changed, state, updateCase } from "./state";

/** Where the voxels of a case are. */
export function gridOf({ images }: Case): { readonly shape: Shape; readonly affine: Affine } {
  return images[0]!.volume;
}

const COLOURS = [
  [213, 94, 0],
  [86, 180, 233],
  [0, 158, 115],
  [240, 228, 66],
  [204, 121, 167],
  [230, 159, 0],
  [0, 114, 178],
];
const MOST_VALUES = 256;

/** Return the labels of an image that is a mask: whole numbers from 0 on, few of them; else null. */
export function labelsIn({ volume: { data } }: Image): Uint8Array | null {
  const mask = new Uint8Array(data.length);
  const found = new Set<number>();
  let zeros = 0;
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!;
    mask[i] = value;
    if (mask[i] !== value) return null;
    if (value === 0) zeros++;
    else if (!found.has(value)) found.add(value);
    if (found.size > 64) return null;
  }
  return zeros > 0 && found.size < MOST_VALUES ? mask : null;
}

/** Return names and colours for labels up to a value, by the network where it has as many. */
function named(most: number, metadata: Metadata | null): Pick<CaseMask, "labels" | "structures"> {
  if (metadata && metadata.labels.length > most) {
    return { labels: metadata.labels, structures: metadata.structures };
  }
  const labels = Array.from({ length: Math.max(2, most + 1) }, (_, i) =>
    i === 0 ? "background" : most <= 1 ? "lesion" : `label ${i}`,
  );
  const structures: Structure[] = labels
    .slice(1)
    .map((_, i) => ({ color: COLOURS[i % COLOURS.length]!, code: null }));
  return { labels, structures };
}

/** Give a case a mask that was loaded or is empty. */
export function putMask(id: number, data: Uint8Array): void {
  const most = data.reduce((max, value) => Math.max(max, value), 0);
  const metadata = state.models[state.model]?.metadata ?? null;
  const mask = { data, ...named(most, metadata), network: null, history: new History() };
  updateCase(id, { mask, loads: null, told: null, unsaved: false });
  arrived.add(id);
  remeasure(id);
}

/** Give a case the mask that a network made. */
export function putSegmentation(
  id: number,
  data: Uint8Array,
  network: { readonly name: string; readonly metadata: Metadata },
  told: Case["told"],
): void {
  const { labels, structures } = network.metadata;
  const mask = { data, labels, structures, network, history: new History() };
  updateCase(id, { mask, told, loads: null, unsaved: false });
  arrived.add(id);
  remeasure(id);
}

/** Return the mask of a case; an empty one is made where there is none. */
export function maskOf(one: Case): CaseMask {
  if (!one.mask) putMask(one.id, new Uint8Array(one.images[0]!.volume.data.length));
  return caseById(one.id)!.mask!;
}

/** Tell that voxels of a mask were painted. */
export function painted(id: number): void {
  updateCase(id, { unsaved: true }, "mask");
  remeasure(id);
}

/** Undo or do again a stroke; returns the places that changed. */
export function travel(one: Case, way: "undo" | "redo"): readonly number[] {
  if (!one.mask) return [];
  const places = one.mask.history[way](one.mask.data);
  if (places.length) painted(one.id);
  return places;
}

/** Cases whose mask was never measured. */
const arrived = new Set<number>();
let worker: Worker | null = null;
const waiting: number[] = [];
let busy: number | null = null;

/** Measure the mask of a case anew, beside the page. */
export function remeasure(id: number): void {
  if (!waiting.includes(id)) waiting.push(id);
  if (busy === null) next();
}

function next(): void {
  const id = waiting.shift();
  const one = id === undefined ? null : caseById(id);
  if (!one?.mask) {
    if (waiting.length) next();
    return;
  }
  worker ??= start();
  busy = one.id;
  const question: Question = {
    mask: one.mask.data.slice(),
    ...{ shape: gridOf(one).shape, affine: gridOf(one).affine },
    labels: one.mask.labels,
  };
  worker.postMessage(question, [question.mask.buffer]);
}

function start(): Worker {
  const made = new Worker(new URL("./measure.worker.ts", import.meta.url), { type: "module" });
  made.onmessage = ({ data }: MessageEvent<Load[]>) => {
    const id = busy!;
    busy = null;
    const one = caseById(id);
    if (one?.mask && !waiting.includes(id)) {
      updateCase(id, { loads: data }, "mask");
      if (arrived.delete(id)) changed("measured", caseById(id)!);
    }
    next();
  };
  return made;
}

/** Tell that a mask is on the person's disk. */
export function saved(id: number): void {
  updateCase(id, { unsaved: false });
}

/** Names and colours follow a network that was chosen after a mask was loaded. */
export function renameByModel(metadata: Metadata): void {
  for (const one of state.cases) {
    if (!one.mask || one.mask.network) continue;
    const most = one.mask.data.reduce((max, value) => Math.max(max, value), 0);
    updateCase(one.id, { mask: { ...one.mask, ...named(most, metadata) } });
    remeasure(one.id);
  }
  changed("models", null);
}
