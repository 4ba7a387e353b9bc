/** A volume through a network, in one piece, in tiles or in windows, and what may fail. */
import type { Metadata, Stage } from "../model/metadata";
import { subgraph } from "../model/subgraph";
import { WireError } from "../model/wire";
import { type Message, Problem } from "../problem";
import type { Shape } from "../volume";
import { isMemoryError } from "./memory";
import { type Arrays, cut, type Features, type Plan, plan, run } from "./pieces";
import type { Processor, Runtime, Session } from "./session";
import { paddedShape, product, sizeOf } from "./tiles";
import { bytesOf, countOf, slide, windowsOf } from "./windows";

/** What failed, and may not if it is tried anew in another worker: on another processor, or in less memory. */
export class Again extends Error {
  constructor(
    readonly change: { readonly backend?: "wasm"; readonly memory?: number },
    /** What people are told where it is not tried anew. */
    readonly failure: Message,
    /** What they are told where it then succeeds. */
    readonly warning: Message | null = null,
  ) {
    super(failure.key);
  }
}

/** A network and where it runs. */
export interface Network {
  readonly name: string;
  readonly model: Uint8Array;
  readonly metadata: Metadata;
  readonly runtime: Runtime;
  readonly processor: Processor;
}

/** What a network is given. */
export interface Task {
  /** Name of the image, for messages. */
  readonly image: string;
  /** After the preprocessing, each `[x][y][z]`. */
  readonly channels: readonly Float32Array[];
  readonly shape: Shape;
  /** Bytes that may be taken, beside some that are taken already. */
  readonly memory: number;
  readonly beside: number;
  /** Called with the share of the work that is done, from 0 to 1. */
  readonly tick: (done: number) => void;
}

/** Return the probabilities of a volume, an array for each label. */
export async function probabilitiesOf(network: Network, task: Task): Promise<Float32Array[]> {
  if (network.metadata.inside.length) return inOnePiece(network, task);
  return network.metadata.halo === null ? inWindows(network, task) : inTiles(network, task);
}

/** Open the whole graph of a network. */
export async function openWhole(network: Network, processor = network.processor): Promise<Session> {
  const session = await open(network, network.model, processor);
  const { name } = network;
  if (!session.inputs.includes("image")) throw new Problem("modelGraph", { name, array: "image" });
  if (!session.outputs.includes("probabilities"))
    throw new Problem("modelGraph", { name, array: "probabilities" });
  return session;
}

async function inTiles(network: Network, task: Task): Promise<Float32Array[]> {
  const { metadata } = network;
  const plane = task.shape.slice(0, metadata.spatial_dims);
  const padded = paddedShape(plane, metadata.size_multiple, metadata.patch_size);
  const chosen = plan(metadata, padded, task.memory);
  checkMemory(network, task, chosen.memory);
  const slices = product(task.shape) / product(plane);
  const all = workOf(chosen) * slices;
  let done = 0;
  const sessions = new Sessions(network, slices > 1);
  const call = async (stage: Stage, inputs: Arrays): Promise<Arrays> => {
    const session = await sessions.of(stage);
    const outputs = Object.keys(stage.outputs);
    const work = () => session.run(inputs, outputs);
    const found = await failing(network, task, chosen.memory, work);
    done += product(Object.values(inputs)[0].dims.slice(2)) * firstScale(stage, metadata);
    task.tick(Math.min(1, done / all));
    return found;
  };
  return named(network, () => run(task.channels, task.shape, metadata, chosen, call));
}

/** Return the work of a plan: the voxels of its tiles, and how much memory each takes. */
function workOf({ steps }: Plan): number {
  const parts = steps.flatMap(({ stage, tiles }) =>
    tiles.map((tile) => sizeOf(tile) * weightOf(stage)),
  );
  return parts.reduce((a, b) => a + b, 0);
}

/** Return the work of one element of a stage's first input. */
function firstScale(stage: Stage, { spatial_dims }: Metadata): number {
  return Object.values(stage.inputs)[0] ** spatial_dims * weightOf(stage);
}

function weightOf(stage: Stage): number {
  return Math.max(1, stage.bytes_per_voxel);
}

async function inWindows(network: Network, task: Task): Promise<Float32Array[]> {
  const { metadata } = network;
  const windows = windowsOf(metadata, task.shape);
  const needed = bytesOf(metadata, task.shape, windows);
  checkMemory(network, task, needed);
  const session = await openWhole(network);
  const all = countOf(windows);
  let done = 0;
  const predict = async (image: Features): Promise<Features> => {
    const work = () => session.run({ image }, ["probabilities"]);
    return (await failing(network, task, null, work)).probabilities;
  };
  const tick = () => task.tick(++done / all);
  return named(network, () => slide(task.channels, task.shape, metadata, windows, predict, tick));
}

/** Run a graph that does the last steps of the preprocessing, and pads the volume itself. */
async function inOnePiece(network: Network, task: Task): Promise<Float32Array[]> {
  const { name, metadata } = network;
  const sizes = task.shape.slice(0, metadata.spatial_dims);
  if (product(task.shape) !== product(sizes)) throw new Problem("insideSlices", { name });
  const padded = paddedShape(sizes, metadata.size_multiple, sizes);
  const behind = padded.map((size, axis) => size - sizes[axis]);
  const pads = [...sizes.map(() => 0), 0, 0, 0, 0, ...behind];
  const [ones, halo] = [sizes.map(() => 1), sizes.map(() => 0)];
  const unpadded = { ...metadata, size_multiple: 1, patch_size: ones, halo, stages: [] };
  const chosen = plan(unpadded, sizes, Number.POSITIVE_INFINITY);
  checkMemory(network, task, chosen.memory);
  const session = await openWhole(network);
  const call = async (_: Stage, { image }: Arrays): Promise<Arrays> => {
    const work = () => session.runPadded(image, pads, "probabilities");
    const found = await failing(network, task, null, work);
    return {
      probabilities: cut(
        found,
        sizes.map((stop) => ({ start: 0, stop })),
      ),
    };
  };
  return named(network, () => run(task.channels, task.shape, unpadded, chosen, call));
}

/** The sessions of a network's stages, each opened once. */
class Sessions {
  private readonly opened = new Map<string, Session>();

  constructor(
    private readonly network: Network,
    /** Whether stages are run again, and so stay open. */
    private readonly keep: boolean,
  ) {}

  async of(stage: Stage): Promise<Session> {
    const { network, opened } = this;
    const key = Object.keys(stage.outputs).join();
    const found = opened.get(key);
    if (found) return found;
    if (!this.keep) await this.release();
    const whole = stage.outputs.probabilities !== undefined && stage.inputs.image !== undefined;
    const session = await (whole && Object.keys(stage.inputs).length === 1
      ? openWhole(network)
      : open(network, partOf(network, stage), network.processor));
    opened.set(key, session);
    return session;
  }

  private async release(): Promise<void> {
    for (const session of this.opened.values()) await session.release();
    this.opened.clear();
  }
}

function partOf({ name, model }: Network, stage: Stage): Uint8Array {
  try {
    return subgraph(model, Object.keys(stage.inputs), Object.keys(stage.outputs));
  } catch (error) {
    if (error instanceof WireError) throw new Problem("modelDamaged", { name });
    throw error;
  }
}

async function open(network: Network, model: Uint8Array, processor: Processor): Promise<Session> {
  try {
    return await network.runtime.open(model, processor);
  } catch (error) {
    if (isMemoryError(error)) throw error;
    throw new Problem("modelUnusable", { name: network.name, reason: reasonOf(error) });
  }
}

/** Run a network; tell what fails by what can be done about it. */
async function failing<T>(
  { name, processor }: Network,
  { image, beside }: Task,
  memory: number | null,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const reason = reasonOf(error);
    const failure: Message = isMemoryError(error)
      ? { key: "memoryGone", values: { name, image } }
      : { key: "modelFailed", values: { name, reason } };
    if (processor === "gpu")
      throw new Again({ backend: "wasm" }, failure, { key: "webgpuFailed", values: { reason } });
    if (failure.key === "memoryGone" && memory !== null)
      throw new Again({ memory: beside + memory / 2 }, failure);
    throw new Problem(failure.key, failure.values);
  }
}

/** Refuse to take more memory than there is. */
function checkMemory({ name }: Network, { image, memory }: Task, needed: number): void {
  if (needed <= memory) return;
  throw new Problem("memoryShort", {
    name,
    image,
    needed: gigabytes(needed),
    have: gigabytes(memory),
  });
}

function gigabytes(bytes: number): string {
  return (Math.ceil(Math.max(0, bytes) / 1e8) / 10).toFixed(1);
}

/** Name the network in a problem that only knows its arrays. */
async function named<T>({ name }: Network, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Problem && error.key === "modelShape")
      throw new Problem("modelShape", { ...error.values, name });
    throw error;
  }
}

/** Return the first line of an error's message. */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split("\n")[0].slice(0, 200);
}
