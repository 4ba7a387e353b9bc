/** Sliding windows, for networks whose norms run over a whole window. */
import { type Metadata, outChannels, type Window } from "../model/metadata";
import { Problem } from "../problem";
import type { Features } from "./pieces";
import { product } from "./tiles";

const FEW_LAYERS = 64; // windows over a voxel: three quarters of overlap along three axes

/** Runs the network on a window, `[1][channel][...spatial]`. */
export type Predict = (image: Features) => Promise<Features>;

/** How a volume is cut into windows, along three axes. */
export interface Windows {
  readonly size: readonly number[];
  /** The first voxels along each axis; below 0 where the volume is smaller than a window. */
  readonly starts: readonly (readonly number[])[];
}

/** Return the windows of a volume; those of a network of two axes are one voxel thick. */
export function windowsOf(metadata: Metadata, shape: readonly number[]): Windows {
  const size = [...metadata.patch_size, ...shape.slice(metadata.spatial_dims).fill(1)];
  const starts = shape.map((voxels, axis) => startsOf(voxels, size[axis], metadata.overlap));
  return { size, starts };
}

export function countOf({ starts }: Windows): number {
  return product(starts.map((some) => some.length));
}

/** Return the bytes that sums and windows take. */
export function bytesOf(metadata: Metadata, shape: readonly number[], windows: Windows): number {
  const labels = outChannels(metadata);
  const sums = (labels + 1) * product(shape) * (isDeep(windows) ? 8 : 4);
  return sums + 2 * 4 * (metadata.in_channels + labels + 1) * product(windows.size);
}

/**
 * Return the probabilities of a volume, an array for each label: Σ w p / Σ w over the windows that
 * hold a voxel.
 *
 * @param channels Of the volume, each `[x][y][z]`.
 * @param shape Of the volume.
 * @param predict Runs the network, once for all windows of one and the same value.
 * @param tick Called after each window.
 */
export async function slide(
  channels: readonly Float32Array[],
  shape: readonly number[],
  metadata: Metadata,
  windows: Windows,
  predict: Predict,
  tick: () => void = () => {},
): Promise<Float32Array[]> {
  const weights = weightsOf(metadata.window, windows.size);
  const single = countOf(windows) === 1;
  const Sums = isDeep(windows) ? Float64Array : Float32Array;
  const make = () => new Sums(product(shape));
  const sums = Array.from({ length: outChannels(metadata) }, make);
  const total = make();
  const ofAir = new Map<string, Features>();
  const dims = [1, channels.length, ...windows.size.slice(0, metadata.spatial_dims)];
  const [xs, ys, zs] = windows.starts;
  for (const x of xs) {
    for (const y of ys) {
      for (const z of zs) {
        const box = boxOf(shape, windows.size, [x, y, z]);
        const image = { data: extract(channels, box), dims };
        const air = onlyValue(image.data, channels.length);
        const answer = (air !== null && ofAir.get(air)) || (await predict(image));
        if (air !== null) ofAir.set(air, answer);
        checkShape(answer, dims, sums.length);
        add(answer.data, box, weights, single, sums, total);
        tick();
      }
    }
  }
  return sums.map((sum) => quotient(sum, total));
}

function startsOf(size: number, patch: number, overlap: number): number[] {
  if (size <= patch) return [-Math.floor((patch - size) / 2)];
  const step = Math.max(1, Math.floor(patch * (1 - overlap)));
  const count = Math.ceil((size - patch) / step) + 1;
  return Array.from({ length: count }, (_, i) => Math.min(i * step, size - patch));
}

/** Say whether so many windows lie over a voxel that sums want 64 bits. */
function isDeep({ size, starts }: Windows): boolean {
  const layers = starts.map((some, axis) =>
    some.length > 1 ? size[axis] / (some[1] - some[0]) : 1,
  );
  return product(layers) > FEW_LAYERS;
}

/** Return the weights of a window's voxels, at most 1. */
export function weightsOf(window: Window, size: readonly number[]): Float32Array {
  const weights = new Float32Array(product(size));
  if (window.function === "constant") return weights.fill(1);
  const [xs, ys, zs] = size.map((n) =>
    Array.from({ length: n }, (_, i) =>
      Math.exp(-0.5 * ((i - (n - 1) / 2) / (n * window.sigma)) ** 2),
    ),
  );
  let at = 0;
  for (const x of xs)
    for (const y of ys) for (const z of zs) weights[at++] = Math.max(x * y * z, window.floor);
  return weights;
}

/** What a window and a volume share: along each axis the first voxel in both, and how many. */
interface Box {
  readonly shape: readonly number[];
  readonly size: readonly number[];
  readonly inVolume: readonly number[];
  readonly inWindow: readonly number[];
  readonly shared: readonly number[];
}

function boxOf(shape: readonly number[], size: readonly number[], start: readonly number[]): Box {
  const inVolume = start.map((n) => Math.max(n, 0));
  const inWindow = start.map((n, axis) => inVolume[axis] - n);
  const shared = start.map((n, axis) => Math.min(n + size[axis], shape[axis]) - inVolume[axis]);
  return { shape, size, inVolume, inWindow, shared };
}

/** Call a function with the first index of each line of a box, in the volume and in the window. */
function eachLine(box: Box, see: (volume: number, window: number) => void): void {
  const { shape, size, inVolume, inWindow, shared } = box;
  for (let x = 0; x < shared[0]; x++) {
    for (let y = 0; y < shared[1]; y++) {
      const line = (inVolume[0] + x) * shape[1] + inVolume[1] + y;
      const row = (inWindow[0] + x) * size[1] + inWindow[1] + y;
      see(line * shape[2] + inVolume[2], row * size[2] + inWindow[2]);
    }
  }
}

function extract(channels: readonly Float32Array[], box: Box): Float32Array {
  const voxels = product(box.size);
  const found = new Float32Array(channels.length * voxels);
  channels.forEach((channel, c) => {
    eachLine(box, (volume, window) => {
      found.set(channel.subarray(volume, volume + box.shared[2]), c * voxels + window);
    });
  });
  return found;
}

/** Name the value that all voxels of a window have, one in each channel; null if they have not. */
function onlyValue(image: Float32Array, channels: number): string | null {
  const voxels = image.length / channels;
  for (let c = 0; c < channels; c++)
    for (let i = c * voxels; i < (c + 1) * voxels; i++)
      if (image[i] !== image[c * voxels]) return null;
  return Array.from({ length: channels }, (_, c) => image[c * voxels]).join();
}

function checkShape({ dims }: Features, sent: readonly number[], labels: number): void {
  const wanted = [1, labels, ...sent.slice(2)];
  if (dims.length !== wanted.length || wanted.some((size, axis) => dims[axis] !== size))
    throw new Problem("modelShape", { found: dims.join("×"), wanted: wanted.join("×") });
}

function add(
  answer: Float32Array,
  box: Box,
  weights: Float32Array,
  single: boolean,
  sums: readonly (Float32Array | Float64Array)[],
  total: Float32Array | Float64Array,
): void {
  const voxels = weights.length;
  eachLine(box, (volume, window) => {
    for (let i = 0; i < box.shared[2]; i++) {
      const weight = single ? 1 : weights[window + i];
      total[volume + i] += weight;
      for (let c = 0; c < sums.length; c++)
        sums[c][volume + i] += Math.fround(weight * answer[c * voxels + window + i]);
    }
  });
}

function quotient(sum: Float32Array | Float64Array, total: Float32Array | Float64Array) {
  const found = sum instanceof Float32Array ? sum : new Float32Array(sum.length);
  for (let i = 0; i < sum.length; i++) found[i] = sum[i] / total[i];
  return found;
}
