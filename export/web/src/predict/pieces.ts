/** Whole volumes through a local network: in one piece, or in stages and tiles as memory allows. */
import { type Metadata, outChannels, type Stage } from "../model/metadata";
import { Problem } from "../problem";
import { length, paddedShape, planTiles, product, type Range, sizeOf, type Tile } from "./tiles";

const MOST_TILE = 2 ** 20; // voxels of the largest tiles: beyond, memory grows, time hardly falls
const WORK = 2; // of what arrays take: those of onnxruntime, and copies on the way to it

/** An array of a graph: `[batch][channel][...spatial]` in C order. */
export interface Features {
  readonly data: Float32Array;
  readonly dims: readonly number[];
}

export type Arrays = Readonly<Record<string, Features>>;

/** Runs a stage on its inputs, and returns its outputs. */
export type Call = (stage: Stage, inputs: Arrays) => Promise<Arrays>;

/** How a volume goes through a network. */
export interface Plan {
  /** Stages in their order, each with the tiles that it is run in. */
  readonly steps: readonly { readonly stage: Stage; readonly tiles: readonly Tile[] }[];
  /** What it takes at most, in bytes, as far as it can be told before. */
  readonly memory: number;
}

/**
 * Choose how a volume goes through a local network: a small one in one piece, larger ones in
 * stages, the tiles of which are as large as memory allows, up to a size.
 *
 * @param metadata Of a network with a halo.
 * @param shape Size of the volume in voxels, multiples of `size_multiple`.
 * @param memory Bytes that may be taken.
 * @param most Voxels of the largest tiles.
 * @returns The plan; where not even the smallest tiles are small enough, that of these.
 */
export function plan(
  metadata: Metadata,
  shape: readonly number[],
  memory: number,
  most: number = MOST_TILE,
): Plan {
  const voxels = product(shape);
  const whole = wholeOf(metadata);
  const need = (whole.bytes_kept + WORK * whole.bytes_per_voxel) * voxels;
  if (need <= memory && (voxels <= most || metadata.stages.length === 0)) {
    const tiles = planTiles(shape, whole.halo, whole.multiple, Number.POSITIVE_INFINITY);
    return { steps: [{ stage: whole, tiles }], memory: need };
  }
  return planStages(metadata.stages.length ? metadata.stages : [whole], shape, memory, most);
}

/** Return the whole of a network's graph as a stage. */
export function wholeOf(metadata: Metadata): Stage {
  return {
    inputs: { image: 1 },
    outputs: { probabilities: 1 },
    halo: metadata.halo ?? [],
    multiple: metadata.size_multiple,
    bytes_per_voxel: metadata.bytes_per_voxel,
    bytes_kept: 4 * outChannels(metadata),
  };
}

function planStages(
  stages: readonly Stage[],
  shape: readonly number[],
  memory: number,
  most: number,
): Plan {
  const voxels = product(shape);
  let peak = 0;
  const steps = stages.map((stage, i) => {
    const standing = standingBytes(stages, i) * voxels;
    const room = (memory - standing) / (WORK * stage.bytes_per_voxel);
    const tiles = planTiles(
      shape,
      stage.halo,
      stage.multiple,
      Math.min(room, largest(stage, most)),
    );
    const largestTile = Math.max(...tiles.map(sizeOf));
    peak = Math.max(peak, standing + WORK * stage.bytes_per_voxel * largestTile);
    return { stage, tiles };
  });
  return { steps, memory: peak };
}

/** Return the voxels of the largest tile; coarse stages are small as they are. */
function largest(stage: Stage, most: number): number {
  const scales = [...Object.values(stage.inputs), ...Object.values(stage.outputs)];
  return scales.includes(1) ? most : Number.POSITIVE_INFINITY;
}

/** Return the bytes by voxel of results: of a stage, and of earlier ones still needed. */
function standingBytes(stages: readonly Stage[], number: number): number {
  const later = new Set(stages.slice(number).flatMap(({ inputs }) => Object.keys(inputs)));
  const kept = stages
    .slice(0, number)
    .filter(({ outputs }) => Object.keys(outputs).some((name) => later.has(name)));
  return kept.reduce((sum, stage) => sum + stage.bytes_kept, stages[number].bytes_kept);
}

/**
 * Return the probabilities of a volume, an array for each label.
 *
 * @param channels Of the volume, each `[x][y][z]`; a network of two axes takes slices along z.
 * @param shape Of the volume.
 * @param metadata Of the network.
 * @param chosen The plan for the padded size, that of a slice for a network of two axes.
 * @param call Runs a stage.
 */
export async function run(
  channels: readonly Float32Array[],
  shape: readonly number[],
  metadata: Metadata,
  chosen: Plan,
  call: Call,
): Promise<Float32Array[]> {
  const rank = metadata.spatial_dims;
  const plane = shape.slice(0, rank);
  const padded = paddedShape(plane, metadata.size_multiple, metadata.patch_size);
  const slices = product(shape.slice(rank));
  const answer = Array.from(
    { length: outChannels(metadata) },
    () => new Float32Array(product(shape)),
  );
  for (let z = 0; z < slices; z++) {
    const image = { data: slice(channels, slices, z), dims: [1, channels.length, ...plane] };
    const found = await runOne(image, padded, chosen, call);
    checkLabels(found, answer.length);
    keep(found, plane, answer, slices, z);
  }
  return answer;
}

/** Copy each `slices`-th value of channels, from one on, channel after channel. */
function slice(channels: readonly Float32Array[], slices: number, z: number): Float32Array {
  const size = channels[0].length / slices;
  const found = new Float32Array(channels.length * size);
  channels.forEach((channel, c) => {
    if (slices === 1) found.set(channel, c * size);
    else for (let i = 0; i < size; i++) found[c * size + i] = channel[i * slices + z];
  });
  return found;
}

/** Copy the part of the padded answer that is in the volume to its slice. */
function keep(
  found: Features,
  plane: readonly number[],
  answer: readonly Float32Array[],
  slices: number,
  z: number,
): void {
  const inside = plane.map((size) => ({ start: 0, stop: size }));
  const cropped = cut(found, inside).data;
  const size = product(plane);
  answer.forEach((label, c) => {
    if (slices === 1) label.set(cropped.subarray(c * size, (c + 1) * size));
    else for (let i = 0; i < size; i++) label[i * slices + z] = cropped[c * size + i];
  });
}

async function runOne(
  image: Features,
  shape: readonly number[],
  { steps }: Plan,
  call: Call,
): Promise<Features> {
  const arrays: Record<string, Features> = { image };
  for (const [i, { stage, tiles }] of steps.entries()) {
    Object.assign(arrays, await runStage(stage, tiles, arrays, shape, call));
    const later = steps.slice(i + 1).flatMap((step) => Object.keys(step.stage.inputs));
    for (const name of Object.keys(arrays))
      if (name !== "probabilities" && !later.includes(name)) delete arrays[name];
  }
  return arrays.probabilities;
}

async function runStage(
  stage: Stage,
  tiles: readonly Tile[],
  arrays: Arrays,
  shape: readonly number[],
  call: Call,
): Promise<Arrays> {
  const made: Record<string, Features> = {};
  for (const tile of tiles) {
    const inputs = Object.entries(stage.inputs).map(([name, scale]) => [
      name,
      cut(arrays[name], scaled(tile.read, scale)),
    ]);
    const found = await call(stage, Object.fromEntries(inputs));
    for (const [name, scale] of Object.entries(stage.outputs)) {
      const output = found[name];
      checkShape(output, tile.read, scale);
      if (tiles.length === 1) {
        made[name] = output;
        continue;
      }
      made[name] ??= empty(output.dims, shape, scale);
      const inside = tile.write.map(({ start, stop }, axis) => ({
        start: start - tile.read[axis].start,
        stop: stop - tile.read[axis].start,
      }));
      copyBlock(output, scaled(inside, scale), made[name], scaled(tile.write, scale));
    }
  }
  return made;
}

/** Refuse what a graph gives where it is of another size than its metadata say. */
function checkShape({ dims }: Features, read: readonly Range[], scale: number): void {
  const wanted = scaled(read, scale).map(length);
  if (dims.length !== wanted.length + 2 || wanted.some((size, axis) => dims[axis + 2] !== size))
    throw new Problem("modelShape", { found: dims.join("×"), wanted: wanted.join("×") });
}

function checkLabels({ dims }: Features, labels: number): void {
  if (dims[0] !== 1 || dims[1] !== labels)
    throw new Problem("modelShape", { found: dims.join("×"), wanted: `1×${labels}×…` });
}

function empty(dims: readonly number[], shape: readonly number[], scale: number): Features {
  const all = [dims[0], dims[1], ...shape.map((size) => Math.floor(size / scale))];
  return { data: new Float32Array(product(all)), dims: all };
}

/** Copy a part of features, with zeros behind the image where it ends before. */
export function cut(array: Features, part: readonly Range[]): Features {
  const sizes = array.dims.slice(2);
  if (part.every(({ start, stop }, axis) => start === 0 && stop === sizes[axis])) return array;
  const dims = [array.dims[0], array.dims[1], ...part.map(length)];
  const found = { data: new Float32Array(product(dims)), dims };
  const there = part.map(({ start, stop }, axis) => ({
    start: Math.min(start, sizes[axis]),
    stop: Math.min(stop, sizes[axis]),
  }));
  const into = there.map((range) => ({ start: 0, stop: length(range) }));
  copyBlock(array, there, found, into);
  return found;
}

function scaled(part: readonly Range[], scale: number): Range[] {
  return part.map(({ start, stop }) => ({
    start: Math.floor(start / scale),
    stop: Math.floor(stop / scale),
  }));
}

/** Copy a part of each channel of some features to a part of the same size of others. */
function copyBlock(
  from: Features,
  source: readonly Range[],
  to: Features,
  target: readonly Range[],
): void {
  const [sourceShape, targetShape] = [
    volumeShape(from.dims.slice(2)),
    volumeShape(to.dims.slice(2)),
  ];
  const [sourceStart, targetStart] = [source, target].map((ranges) =>
    volumeShape(
      ranges.map(({ start }) => start),
      0,
    ),
  );
  const [nx, ny, nz] = volumeShape(source.map(length));
  const channels = from.dims[0] * from.dims[1];
  for (let c = 0; c < channels; c++) {
    for (let x = 0; x < nx; x++) {
      for (let y = 0; y < ny; y++) {
        const here = lineAt(sourceShape, sourceStart, c, x, y);
        to.data.set(from.data.subarray(here, here + nz), lineAt(targetShape, targetStart, c, x, y));
      }
    }
  }
}

/** Return the index of the first of a line of values, of a block that starts somewhere. */
function lineAt(
  [nx, ny, nz]: readonly number[],
  [x0, y0, z0]: readonly number[],
  channel: number,
  x: number,
  y: number,
): number {
  return ((channel * nx + x0 + x) * ny + y0 + y) * nz + z0;
}

/** Return three numbers, of a picture's two with a first one before. */
function volumeShape(sizes: readonly number[], first = 1): readonly number[] {
  return sizes.length === 3 ? sizes : [first, ...sizes];
}
