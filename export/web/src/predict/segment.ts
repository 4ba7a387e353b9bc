/** From images and a network's file to a mask, on any machine that has WebAssembly. */
import { type Metadata, readModel } from "../model/metadata";
import { applicable, prepare } from "../prepare/pipeline";
import { type Message, Problem } from "../problem";
import type { Volume } from "../volume";
import { Clock } from "./clock";
import { assumed, doubts, intensitySpan } from "./doubts";
import { tabMemory } from "./memory";
import { Again, type Network, openWhole, probabilitiesOf, reasonOf } from "./network";
import { choose } from "./rules";
import { type Build, type Processor, startRuntime } from "./session";
import { product } from "./tiles";
import type { Job, Progress, Result } from "./types";

/** What a network is run with. */
export interface Machine {
  readonly build: Build;
  readonly processor: Processor;
  readonly threads: number;
}

const SESSIONS = 100e6; // bytes that onnxruntime takes beside a network's arrays

/** Segment an image. */
export async function segmentWith(
  job: Job,
  machine: Machine,
  report: (progress: Progress) => void = () => {},
): Promise<Result> {
  const clock = new Clock(report);
  clock.enter("open");
  const metadata = await readModel(job.modelName, job.model);
  const given = checked(job, metadata);
  const memory = job.memory ?? tabMemory();
  const { processor } = machine;
  const runtime = await startRuntime(machine.build, machine.threads, memory);
  const model = new Uint8Array(job.model);
  const network = { name: job.modelName, model, metadata, runtime, processor };
  if (processor === "gpu") await tryOut(network);
  clock.enter("prepare");
  const { channels, restore } = prepare(job.channels, metadata.pipeline);
  const [processed] = channels;
  const spans = channels.map((channel, i) =>
    job.channels[i] === null ? ([Number.NaN, Number.NaN] as const) : intensitySpan(channel),
  );
  const seen = metadata.seen ?? assumed(metadata.pipeline, processed);
  const found = doubts(seen, given, processed, spans, metadata.spatial_dims);
  const beside = SESSIONS + bytesOf(job.channels) + bytesOf(channels);
  clock.enter("network");
  const probabilities = await probabilitiesOf(network, {
    image: job.imageName,
    channels: channels.map(({ data }) => data),
    shape: processed.shape,
    memory: memory - beside,
    beside,
    tick: (done) => clock.work(done),
  });
  clock.enter("restore");
  const answer = restore(probabilities.map((data) => ({ ...processed, data })));
  const data = choose(answer, metadata.postprocessing);
  return {
    mask: { data, shape: given.shape, affine: given.affine },
    metadata,
    warnings: found,
    backend: processor === "gpu" ? "webgpu" : "wasm",
    threads: runtime.threads,
    seconds: clock.seconds(),
    memory: runtime.memory(),
  };
}

/** Return the first image that is there, if the images are what a network takes. */
function checked({ channels, imageName: image, modelName: name }: Job, metadata: Metadata): Volume {
  const wanted = metadata.in_channels;
  const steps = applicable(metadata.pipeline);
  if (steps.length) throw new Problem("stepsUnsupported", { steps: steps.join(", ") });
  if (channels.length !== wanted)
    throw new Problem("channelsWrong", { image, name, found: channels.length, wanted });
  for (const [i, channel] of metadata.channels.entries())
    if (channels[i] === null && !metadata.optional_channels.includes(channel))
      throw new Problem("channelRequired", { image, name, channel });
  const [first, ...others] = channels.filter((channel) => channel !== null);
  if (first === undefined) throw new Problem("allChannelsMissing");
  if (!others.every((other) => isOnGridOf(first, other)))
    throw new Problem("gridsDiffer", { image });
  return first;
}

const SAME_PLACE = 1e-3; // mm or voxels

function isOnGridOf(first: Volume, { shape, affine }: Volume): boolean {
  const near = affine.every((row, i) =>
    row.every((value, j) => Math.abs(value - first.affine[i][j]) <= SAME_PLACE),
  );
  return near && shape.every((size, axis) => size === first.shape[axis]);
}

function bytesOf(volumes: readonly (Volume | null)[]): number {
  return volumes.reduce((sum, volume) => sum + (volume?.data.byteLength ?? 0), 0);
}

const SMALL = 16; // voxels along an axis of what a local network is tried out on
const BLOCKS = 4; // multiples along an axis of a picture that a network with norms is tried out on
const MOST_DIFFERENCE = 1e-3; // of a probability, from one processor to another
const NOT_DONE = /fallback to CPU EP|while running \w+ node/i; // of an operator, or on such arrays

/** See that a graphics processor can run a network and gives what the processor does. */
async function tryOut(network: Network): Promise<void> {
  const sizes = sizesToTry(network.metadata);
  const failure = { key: "modelFailed" as const, values: { name: network.name, reason: "WebGPU" } };
  const refused = (warning: Message) => new Again({ backend: "wasm" }, failure, warning);
  const run = async (processor: Processor) => {
    const session = await openWhole(network, processor);
    const image = noise([1, network.metadata.in_channels, ...sizes]);
    const { probabilities } = await session.run({ image }, ["probabilities"]);
    await session.release();
    return probabilities.data;
  };
  let answers: Float32Array[];
  try {
    answers = [await run("gpu"), await run("cpu")];
  } catch (error) {
    const reason = reasonOf(error);
    const { name } = network;
    throw refused(
      NOT_DONE.test(reason)
        ? { key: "webgpuOperators", values: { name } }
        : { key: "webgpuFailed", values: { reason } },
    );
  }
  const [one, other] = answers;
  const difference = one.reduce((most, p, i) => Math.max(most, Math.abs(p - other[i])), 0);
  if (!(difference <= MOST_DIFFERENCE))
    throw refused({ key: "webgpuDiffers", values: { difference: difference.toPrecision(2) } });
}

/** Return the least sizes on which the norms of a network have something to norm. */
function sizesToTry({ size_multiple, patch_size, spatial_dims, halo }: Metadata): number[] {
  if (halo !== null) return patch_size.map(() => Math.ceil(SMALL / size_multiple) * size_multiple);
  return patch_size.map((size) =>
    spatial_dims === 3 ? size : Math.min(size, BLOCKS * size_multiple),
  );
}

/** Return numbers from -2 to 2, the same each time. */
function noise(dims: readonly number[]) {
  const data = new Float32Array(product(dims));
  let state = 1;
  for (let i = 0; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    data[i] = state / 2 ** 30 - 2;
  }
  return { data, dims };
}
