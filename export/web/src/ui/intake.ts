/** Files become cases, masks and networks. */
import { Problem } from "../problem";
import type { Image } from "../volume";
import { chooseSeries, confirmed } from "./dialogs";
import { message } from "./dom";
import { sort, stem } from "./files";
import { gridOf, labelsIn, putMask, renameByModel } from "./masks";
import { busy, tell } from "./notices";
import {
  addCase,
  type Case,
  caseById,
  caseOf,
  changed,
  type Model,
  notify,
  sameGrid,
  state,
  updateCase,
} from "./state";

/** Where images go: to a case of their own, to the one that is worked on, or beside it. */
export type Target = "new" | "add" | "beside";

let queue: Promise<void> = Promise.resolve();
let begun = false;

/** Whether files were ever taken in, or are just now. */
export function hasBegun(): boolean {
  return begun;
}

/** Take in files, one drop after another; what cannot be used is told, the rest is used. */
export function take(files: readonly File[], target: Target = "new"): Promise<void> {
  begun ||= files.length > 0;
  queue = queue.then(() => sorted(files, target)).catch(tell);
  return queue;
}

async function sorted(files: readonly File[], target: Target): Promise<void> {
  if (!files.length) return;
  busy(message("reading", { number: files.length }));
  try {
    const { dicom, models, images, others, unreadable } = await sort(files);
    for (const { name } of unreadable) tell(new Problem("dicomUnreadable", { name }));
    for (const file of models) await takeModel(file).catch(tell);
    const read: Image[] = [];
    for (const file of images) read.push(...(await nifti(file).catch(told)));
    if (dicom.length) read.push(...(await series(dicom).catch(told)));
    if (read.length) await place(read, target);
    else if (others.length && !models.length && !images.length && !dicom.length)
      throw new Problem("nothingToOpen", { names: shortList(others) });
  } finally {
    busy(null);
  }
}

function told(error: unknown): Image[] {
  tell(error);
  return [];
}

function shortList(files: readonly File[]): string {
  const names = files.slice(0, 3).map(({ name }) => name);
  return names.join(", ") + (files.length > 3 ? ", …" : "");
}

async function nifti(file: File): Promise<Image[]> {
  const { readNifti } = await import("../io/nifti");
  return readNifti(file.name, await file.arrayBuffer());
}

async function series(files: readonly File[]): Promise<Image[]> {
  const { readDicom } = await import("../dicom/read");
  const { found, problems } = await readDicom([...files], (done: number, all: number) =>
    busy(message("readingDicom", { done, all })),
  );
  for (const problem of problems) tell(problem);
  const chosen = found.length > 1 ? await chooseSeries(found) : found;
  const images: Image[] = [];
  for (const one of chosen) {
    busy(message("converting", { name: one.series.description || one.series.modality }));
    try {
      images.push(await one.image());
    } catch (error) {
      tell(error);
    }
  }
  return images;
}

/** Give images to cases: those of one grid belong together, and label maps to the images. */
async function place(images: readonly Image[], target: Target): Promise<void> {
  const labels = new Map<Image, Uint8Array>();
  for (const image of images) {
    const mask = labelsIn(image);
    if (mask) labels.set(image, mask);
  }
  const scans = images.filter((image) => !labels.has(image));
  const pane =
    target === "beside" && state.panes[0] !== null ? 1 : target === "new" ? 0 : state.active;
  const made: Case[] = [];
  for (const image of scans) {
    const own = made.find((one) => sameGrid(gridOf(one), image.volume));
    const current = target === "add" ? caseOf() : null;
    const fits = current && sameGrid(gridOf(current), image.volume) ? current : own;
    if (fits) join(fits.id, image);
    else made.push(addCase({ name: stem(image.name), images: [image] }, pane));
  }
  for (const [image, mask] of labels) await placeMask(image, mask, made, pane);
}

function join(id: number, image: Image): void {
  const images = [...caseById(id)!.images, image];
  updateCase(id, { images });
}

async function placeMask(
  image: Image,
  mask: Uint8Array,
  made: readonly Case[],
  pane: 0 | 1,
): Promise<void> {
  const here = [...made, caseOf(pane), caseOf(), ...state.cases].filter((one) => one !== null);
  const fitting = here.filter((one) => sameGrid(gridOf(one), image.volume));
  const one = fitting.find(({ id }) => !caseById(id)?.mask) ?? fitting[0];
  if (!one) {
    if (state.cases.length) {
      const name = here[0]!.images[0]!.name;
      notify("warning", message("maskElsewhere", { mask: image.name, image: name }));
    }
    addCase({ name: stem(image.name), images: [image] }, pane);
    return;
  }
  const now = caseById(one.id)!;
  if (now.unsaved && !(await confirmed("replaceMask", { name: now.name }))) return;
  putMask(one.id, mask);
}

async function takeModel(file: File): Promise<void> {
  const bytes = await file.arrayBuffer();
  const { readModel } = await import("../model/metadata");
  const metadata = await readModel(file.name, bytes);
  addModel({ name: file.name, bytes: async () => bytes, metadata });
  chooseModel(state.models.length - 1);
}

function addModel(model: Model): void {
  state.models = [...state.models.filter(({ name }) => name !== model.name), model];
  changed("models", null);
}

/** Choose a network; its metadata are read if they were not yet. */
export async function chooseModel(index: number): Promise<void> {
  const model = state.models[index];
  state.model = model ? index : -1;
  changed("models", null);
  if (!model) return;
  try {
    const metadata = model.metadata ?? (await readMetadata(model));
    state.models = state.models.map((one) =>
      one.name === model.name ? { ...one, metadata } : one,
    );
    renameByModel(metadata);
  } catch (error) {
    const chosen = state.models[state.model];
    const isGone = error instanceof Problem && error.key === "notServed";
    if (!isGone) state.models = state.models.filter((one) => one !== model);
    state.model = chosen && chosen !== model ? state.models.indexOf(chosen) : -1;
    changed("models", null);
    tell(error);
  }
}

async function readMetadata({ name, bytes }: Model) {
  busy(message("reading", { number: 1 }));
  try {
    const { readModel } = await import("../model/metadata");
    return await readModel(name, await bytes());
  } finally {
    busy(null);
  }
}

interface Listed {
  readonly name: string;
  readonly at: URL;
  /** From 0 on; images of one visit belong together where they lie on one grid. */
  readonly visit: number;
}

async function fetched(name: string, url: URL): Promise<File> {
  const answer = await fetch(url).catch(() => null);
  if (!answer?.ok) throw new Problem("notServed", { name });
  return new File([await answer.arrayBuffer()], name);
}

/** Return the entries of a list in a file beside the page; what is of another form is left out. */
function listed(value: unknown, address: string, base: URL): Listed[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((one: Record<string, unknown> | null) => {
    const [name, url] = [one?.name, one?.[address]];
    if (typeof name !== "string" || typeof url !== "string") return [];
    const at = new URL(url, base);
    const visit = typeof one?.visit === "number" ? one.visit : 0;
    return at.origin === location.origin ? [{ name, at, visit }] : [];
  });
}

/** Offer the networks that `models.json` beside the page names. */
export async function offerModels(): Promise<void> {
  const base = new URL("models.json", document.baseURI);
  const answer = await fetch(base).catch(() => null);
  if (!answer?.ok) return;
  const { models } = await answer.json().catch(() => ({ models: [] }));
  for (const { name, at } of listed(models, "file", base)) {
    let bytes: Promise<ArrayBuffer> | null = null;
    const load = () => {
      bytes ??= fetched(name, at).then((file) => file.arrayBuffer());
      bytes.catch(() => {
        bytes = null; // to be tried again
      });
      return bytes;
    };
    addModel({ name, bytes: load, metadata: null });
  }
}

/** Open what a session names: images, masks and networks that lie beside it. */
export async function openSession(path: string): Promise<string | null> {
  const base = new URL(path, document.baseURI);
  if (base.origin !== location.origin) throw new Problem("notServed", { name: path });
  const session = JSON.parse(await (await fetched(path, base)).text());
  const get = (value: unknown) =>
    Promise.all(listed(value, "url", base).map(({ name, at }) => fetched(name, at)));
  await take(await get(session.models));
  const [images, masks] = [await get(session.images), await get(session.masks)];
  if (masks.length === images.length && masks.length > 1) {
    for (const [i, image] of images.entries()) {
      await take([image, masks[i]!], i === 0 ? "new" : "beside");
    }
  } else {
    const visits = listed(session.images, "url", base).map(({ visit }) => visit);
    for (const visit of new Set(visits)) {
      const own = images.filter((_, i) => visits[i] === visit);
      await take(visit === visits[0] ? [...own, ...masks] : own, visit ? "beside" : "new");
    }
  }
  return typeof session.language === "string" ? session.language : null;
}
