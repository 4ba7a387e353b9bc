/** All that the page holds, in one place, and who wants to know of changes. */
import type { Load } from "../measure/lesions";
import type { Metadata, Structure } from "../model/metadata";
import type { Progress, Result } from "../predict/types";
import type { Message } from "../problem";
import type { Layout, Plane } from "../view/planes";
import type { Affine, Image, Shape } from "../volume";
import type { History } from "./history";

/** Labels of a case's voxels, on the grid of its images. */
export interface CaseMask {
  readonly data: Uint8Array;
  /** Names of the values 0, 1, 2, …. */
  readonly labels: readonly string[];
  /** For each label after the background. */
  readonly structures: readonly Structure[];
  /** The network that made it, and how; null where it was loaded or painted. */
  readonly network: { readonly name: string; readonly metadata: Metadata } | null;
  readonly history: History;
}

/** Images of one patient and visit, on one grid, and their mask. */
export interface Case {
  readonly id: number;
  readonly name: string;
  readonly images: readonly Image[];
  /** Index of the image that is shown. */
  readonly shown: number;
  readonly mask: CaseMask | null;
  /** Volumes and lesions of the mask as it was measured last; null: not yet. */
  readonly loads: readonly Load[] | null;
  /** What the last segmentation told. */
  readonly told: Pick<Result, "warnings" | "backend" | "threads" | "seconds"> | null;
  /** Painted on since it was last saved. */
  readonly unsaved: boolean;
}

/** A network that can be chosen. */
export interface Model {
  readonly name: string;
  /** Its file; fetched when it is first chosen. */
  readonly bytes: () => Promise<ArrayBuffer>;
  /** Null until it was read. */
  readonly metadata: Metadata | null;
}

export interface Run {
  readonly caseId: number;
  readonly modelName: string;
  readonly progress: Progress | null;
  readonly cancel: AbortController;
}

export interface Display {
  readonly layout: Layout;
  readonly plane: Plane;
  readonly opacity: number;
  readonly outline: boolean;
  readonly maskVisible: boolean;
  readonly radiological: boolean;
  readonly smooth: boolean;
  readonly linked: boolean;
}

export interface Edit {
  readonly tool: "crosshair" | "brush" | "eraser";
  readonly label: number;
  /** Diameter, mm. */
  readonly size: number;
  readonly volumetric: boolean;
}

export type Severity = "error" | "warning" | "info";

export interface Notice {
  readonly id: number;
  readonly severity: Severity;
  readonly message: Message;
}

interface Topics {
  cases: Case | null;
  /** Voxels of a mask changed in place, or their measures did. */
  mask: Case;
  /** A new mask was measured for the first time. */
  measured: Case;
  models: null;
  run: null;
  display: null;
  edit: null;
  notices: null;
}

export interface State {
  cases: readonly Case[];
  /** Ids of the cases that are shown; the second one beside the first. */
  panes: readonly [number | null, number | null];
  active: 0 | 1;
  models: readonly Model[];
  /** Index of the chosen network; −1: none. */
  model: number;
  backend: "auto" | "wasm" | "webgpu";
  run: Run | null;
  display: Display;
  edit: Edit;
  notices: readonly Notice[];
}

export const state: State = {
  cases: [],
  panes: [null, null],
  active: 0,
  models: [],
  model: -1,
  backend: "auto",
  run: null,
  display: {
    layout: "all",
    plane: "axial",
    opacity: 0.5,
    outline: false,
    maskVisible: true,
    radiological: true,
    smooth: true,
    linked: true,
  },
  edit: { tool: "crosshair", label: 1, size: 4, volumetric: false },
  notices: [],
};

type Listener<T extends keyof Topics> = (about: Topics[T]) => void;
const listeners: { [T in keyof Topics]?: Set<Listener<T>> } = {};

/** Call a function after each change of a topic. */
export function on<T extends keyof Topics>(topic: T, listener: Listener<T>): void {
  const all = (listeners[topic] ?? new Set()) as Set<Listener<T>>;
  (listeners as Record<T, Set<Listener<T>>>)[topic] = all.add(listener);
}

/** Tell that a topic changed. */
export function changed<T extends keyof Topics>(topic: T, about: Topics[T]): void {
  for (const listener of listeners[topic] ?? []) (listener as Listener<T>)(about);
}

let lastId = 0;

/** Return a number that nothing else has. */
export function newId(): number {
  return ++lastId;
}

/** Return the case of a pane, or the one that is worked on. */
export function caseOf(pane: 0 | 1 = state.active): Case | null {
  return state.cases.find(({ id }) => id === state.panes[pane]) ?? null;
}

export function caseById(id: number): Case | null {
  return state.cases.find((one) => one.id === id) ?? null;
}

/** Replace fields of a case, and tell. */
export function updateCase(
  id: number,
  fields: Partial<Case>,
  topic: "cases" | "mask" = "cases",
): void {
  state.cases = state.cases.map((one) => (one.id === id ? { ...one, ...fields } : one));
  const now = caseById(id);
  if (now) changed(topic, now);
}

/** Add a case and show it in a pane. */
export function addCase(fields: Pick<Case, "name" | "images">, pane: 0 | 1): Case {
  const made: Case = {
    ...fields,
    name: freeName(fields.name),
    id: newId(),
    shown: 0,
    mask: null,
    loads: null,
    told: null,
    unsaved: false,
  };
  state.cases = [...state.cases, made];
  showCase(made.id, pane);
  return made;
}

function freeName(name: string): string {
  const taken = new Set(state.cases.map((one) => one.name));
  let free = name;
  for (let i = 2; taken.has(free); i++) free = `${name} (${i})`;
  return free;
}

/** Show a case in a pane; one that is in the other pane changes places with it. */
export function showCase(id: number | null, pane: 0 | 1): void {
  const [first, second] = state.panes;
  const next: [number | null, number | null] = [first, second];
  const other = pane === 0 ? 1 : 0;
  if (id !== null && next[other] === id) next[other] = next[pane]!;
  next[pane] = id;
  if (next[0] === null) next.reverse();
  state.panes = next;
  const place = id === null ? 0 : next.indexOf(id);
  state.active = place === 1 ? 1 : 0;
  changed("cases", null);
}

/** Take a case away. */
export function removeCase(id: number): void {
  if (state.run?.caseId === id) state.run.cancel.abort();
  state.cases = state.cases.filter((one) => one.id !== id);
  const left = state.panes.filter((shown) => shown !== null && shown !== id);
  const [first = state.cases.at(-1)?.id ?? null, second = null] = left;
  state.panes = [first, second];
  state.active = 0;
  changed("cases", null);
}

export function setActive(pane: 0 | 1): void {
  if (state.active === pane || state.panes[pane] === null) return;
  state.active = pane;
  changed("cases", null);
}

export function setDisplay(fields: Partial<Display>): void {
  state.display = { ...state.display, ...fields };
  changed("display", null);
}

export function setEdit(fields: Partial<Edit>): void {
  state.edit = { ...state.edit, ...fields };
  changed("edit", null);
}

export function chosenModel(): Model | null {
  return state.models[state.model] ?? null;
}

/** Whether two images have the same voxels, as segjax decides. */
export function sameGrid(
  a: { readonly shape: Shape; readonly affine: Affine },
  b: { readonly shape: Shape; readonly affine: Affine },
): boolean {
  const near = (row: readonly number[], i: number) =>
    row.every((value, j) => Math.abs(value - b.affine[i]![j]!) <= 1e-3);
  return a.shape.every((size, axis) => size === b.shape[axis]) && a.affine.every(near);
}

/** Tell people something that stays until they put it away. */
export function notify(severity: Severity, message: Message): void {
  const same = ({ message: { key, values } }: Notice) =>
    key === message.key && JSON.stringify(values) === JSON.stringify(message.values);
  const others = state.notices.filter((notice) => !same(notice));
  state.notices = [...others, { id: newId(), severity, message }];
  changed("notices", null);
}

export function dismiss(ids: readonly number[]): void {
  state.notices = state.notices.filter(({ id }) => !ids.includes(id));
  changed("notices", null);
}
