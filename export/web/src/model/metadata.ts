/** What travels inside an ONNX file: all that turns a volume into a mask with it. */
import { Problem } from "../problem";
import { check } from "./digest";
import {
  byName,
  FieldError,
  isObject,
  type Kind,
  list,
  number,
  oneOf,
  orNull,
  record,
  text,
  truth,
  whole,
  withDefault,
} from "./fields";
import { fields, WireError } from "./wire";

/** A step of the preprocessing: its name, and its fields as JSON values. */
export interface Step {
  readonly step: string;
  readonly [field: string]: unknown;
}

/** How voxels of a window weigh where windows overlap. */
export interface Window {
  readonly function: "gaussian" | "constant";
  /** Of a Gaussian, as a share of the patch. */
  readonly sigma: number;
  /** Of a Gaussian, the least weight. */
  readonly floor: number;
}

/** A part of a graph; arrays by name, with the voxels of the image that one element is. */
export interface Stage {
  readonly inputs: Readonly<Record<string, number>>;
  readonly outputs: Readonly<Record<string, number>>;
  /** Voxels of the image away from an output that its inputs matter, along each axis. */
  readonly halo: readonly number[];
  /** Voxels of which its tiles are multiples. */
  readonly multiple: number;
  /** Memory while it runs, by voxels of the image. */
  readonly bytes_per_voxel: number;
  /** Memory of its outputs, by voxels of the image. */
  readonly bytes_kept: number;
}

/** What a voxel and a component need to be of a label. */
export interface Rule {
  readonly threshold: number | null;
  /** mm³ */
  readonly minimum_volume: number;
  readonly largest_component: boolean;
  readonly fill_holes: boolean;
}

export interface Code {
  readonly scheme: string;
  readonly value: string;
  readonly meaning: string;
}

/** How viewers show a label, and what it means. */
export interface Structure {
  /** Red, green and blue, 0 to 255. */
  readonly color: readonly number[];
  readonly code: Code | null;
}

/** What people should know of a network; null is not told. */
export interface About {
  readonly license: string | null;
  readonly citation: string | null;
  readonly intended_use: string | null;
  readonly training_data: string | null;
  readonly url: string | null;
  /** By label, on images that it was not trained on. */
  readonly dice: Readonly<Record<string, number>> | null;
}

/** What the training images were like, after the pipeline. */
export interface Seen {
  readonly spacing: readonly number[];
  readonly finest: readonly number[];
  readonly coarsest: readonly number[];
  readonly orientation: string;
  readonly spans: readonly (readonly number[])[];
  readonly widths: readonly number[];
}

/** What weights of 16 bits cost. */
export interface Half {
  /** By label, of the mask against that of 32 bits. */
  readonly dice: Readonly<Record<string, number>>;
}

/** The fields that docs/onnx-format.md defines, with defaults for those that were left out. */
export interface Metadata {
  readonly format_version: number;
  readonly model: string;
  readonly labels: readonly string[];
  readonly activation: "softmax" | "sigmoid";
  readonly spatial_dims: 2 | 3;
  readonly in_channels: number;
  readonly channels: readonly string[];
  readonly optional_channels: readonly string[];
  readonly pipeline: readonly Step[];
  readonly patch_size: readonly number[];
  readonly overlap: number;
  readonly size_multiple: number;
  readonly window: Window;
  readonly local: boolean;
  readonly halo: readonly number[] | null;
  readonly stages: readonly Stage[];
  readonly bytes_per_voxel: number;
  readonly postprocessing: readonly Rule[];
  readonly structures: readonly Structure[];
  readonly about: About;
  readonly float16: Half | null;
  readonly inside: readonly ("z-score" | "min-max" | "argmax")[];
  readonly segjax_version: string;
  readonly seen: Seen | null;
}

/** The version of the metadata that this page reads, and all before. */
export const FORMAT_VERSION = 1;

/**
 * Read the metadata of an exported network.
 *
 * @param name Of the file, for messages.
 * @param bytes The ONNX file.
 * @throws Problem It is no ONNX file, damaged, not whole, of another program, or of a later version.
 */
export async function readModel(name: string, bytes: ArrayBuffer): Promise<Metadata> {
  const model = new Uint8Array(bytes);
  await check(name, model);
  return readMetadata(name, property(name, model));
}

/** Return the number of probabilities that a network gives for each voxel. */
export function outChannels({ activation, labels }: Metadata): number {
  return activation === "sigmoid" ? 1 : labels.length;
}

const METADATA_PROPS = 14; // of a ModelProto
const PRODUCER_NAME = 2;
const KEY = "segjax";
const LONGEST = 16 * 2 ** 20; // bytes of JSON text

function property(name: string, model: Uint8Array): string {
  try {
    const all = [...fields(model)];
    for (const { number, value } of all) {
      if (number !== METADATA_PROPS || typeof value === "number") continue;
      const entry = new Map([...fields(value)].map((field) => [field.number, field.value]));
      if (decoded(entry.get(1)) !== KEY) continue;
      const found = entry.get(2);
      if (typeof found === "object" && found.length <= LONGEST) return decoded(found);
      throw new Problem("modelDamaged", { name });
    }
    const producer = decoded(all.find(({ number }) => number === PRODUCER_NAME)?.value);
    const known = producer.trim() === "" ? "?" : producer.slice(0, 60);
    throw new Problem("modelOfOthers", { name, producer: known });
  } catch (error) {
    if (error instanceof Problem) throw error;
    if (error instanceof WireError || error instanceof TypeError)
      throw new Problem("modelDamaged", { name });
    throw error;
  }
}

function decoded(value: number | Uint8Array | undefined): string {
  return typeof value === "object" ? new TextDecoder("utf-8", { fatal: true }).decode(value) : "";
}

/** Return the checked fields of metadata in JSON text. */
export function readMetadata(name: string, json: string): Metadata {
  const plain = parsed(name, json);
  try {
    const version = withDefault(whole(0, 2 ** 31), 0)(plain.format_version, "format_version");
    if (version > FORMAT_VERSION)
      throw new Problem("modelNewer", { name, version, known: FORMAT_VERSION });
    return completed(METADATA(plain, ""));
  } catch (error) {
    if (!(error instanceof FieldError)) throw error;
    throw new Problem("modelField", { name, field: error.where, found: error.found });
  }
}

function parsed(name: string, json: string): Record<string, unknown> {
  try {
    const plain: unknown = JSON.parse(json);
    if (isObject(plain)) return plain;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new Problem("modelDamaged", { name });
}

const COLOURS = [
  [86, 180, 233],
  [0, 158, 115],
  [0, 114, 178],
  [230, 159, 0],
  [213, 94, 0],
  [240, 228, 66],
  [204, 121, 167],
];

/** Fill in names and colours where nobody gave any, and see that fields agree. */
function completed(given: Metadata): Metadata {
  const { in_channels, labels } = given;
  const names = Array.from({ length: in_channels }, (_, i) => `channel ${i}`);
  const colours = labels.slice(1).map((_, i) => ({ color: COLOURS[i % 7], code: null }));
  const made = {
    ...given,
    channels: given.channels.length ? given.channels : names,
    structures: given.structures.length ? given.structures : colours,
  };
  for (const [field, holds] of agreements(made))
    if (!holds) throw new FieldError(field, made[field]);
  return made;
}

function agreements(made: Metadata): [keyof Metadata, boolean][] {
  const { spatial_dims: rank, labels, channels, halo, postprocessing: rules, stages } = made;
  const after = labels.length - 1;
  return [
    ["patch_size", made.patch_size.length === rank && product(made.patch_size) < MOST_VOXELS],
    ["labels", after === 1 || made.activation === "softmax"],
    ["channels", channels.length === made.in_channels],
    ["channels", new Set(channels).size === channels.length],
    ["optional_channels", made.optional_channels.every((one) => channels.includes(one))],
    ["halo", halo === null || (made.local && halo.length === rank)],
    ["stages", stages.every((stage) => stage.halo.length === rank)],
    ["postprocessing", rules.length === 0 || rules.length === after],
    ["structures", made.structures.length === after],
  ];
}

function product(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a * b, 1);
}

const MOST_VOXELS = 2 ** 31; // of a patch
const MOST_CHANNELS = 256;
const count = whole(1, MOST_VOXELS - 1);
const reach = whole(0, MOST_VOXELS - 1);
const memory = number((n) => n >= 0 && n < MOST_VOXELS);
const dice = byName(number((n) => n >= 0 && n <= 1));
const numbers = list(number(), 0, 3);
const told = withDefault(orNull(text(100_000)), null);

const named: Kind<string> = (value, where) => {
  const found = text(1000)(value, where);
  if (found.trim() === "") throw new FieldError(where, value);
  return found;
};

const SEEN = record<Seen>(
  {
    spacing: numbers,
    finest: numbers,
    coarsest: numbers,
    orientation: text(3),
    spans: list(list(number(), 2, 2), 0, MOST_CHANNELS),
    widths: list(number(), 0, MOST_CHANNELS),
  },
  { open: false },
);

const WINDOW = record<Window>(
  {
    function: withDefault(oneOf("gaussian", "constant"), "gaussian"),
    sigma: withDefault(
      number((n) => n > 0),
      0.125,
    ),
    floor: withDefault(
      number((n) => n > 0),
      0.001,
    ),
  },
  { open: false },
);

const STAGE = record<Stage>(
  {
    inputs: byName(count),
    outputs: byName(count),
    halo: list(reach, 0, 3),
    multiple: count,
    bytes_per_voxel: memory,
    bytes_kept: memory,
  },
  { open: false },
);

const RULE = record<Rule>(
  {
    threshold: withDefault(orNull(number((n) => n > 0 && n <= 1)), null),
    minimum_volume: withDefault(
      number((n) => n >= 0),
      0,
    ),
    largest_component: withDefault(truth, false),
    fill_holes: withDefault(truth, false),
  },
  { open: false },
);

const STRUCTURE = record<Structure>(
  {
    color: list(whole(0, 255), 3, 3),
    code: withDefault(
      orNull(record<Code>({ scheme: named, value: named, meaning: named }, { open: true })),
      null,
    ),
  },
  { open: true },
);

const ABOUT = record<About>(
  {
    license: told,
    citation: told,
    intended_use: told,
    training_data: told,
    url: told,
    dice: withDefault(orNull(dice), null),
  },
  { open: true },
);

const DEEPEST = 4; // lists in one another, in a field of a step

/** Let a step hold numbers, text, truth values, null, and lists of these. */
const plain =
  (depth: number): Kind<unknown> =>
  (value, where) => {
    if (Array.isArray(value) && depth < DEEPEST) return list(plain(depth + 1))(value, where);
    if (typeof value === "object" && value !== null) throw new FieldError(where, value);
    return value;
  };

const step: Kind<Step> = (value, where) => {
  const fields = byName(plain(0))(value, where);
  return { ...fields, step: named(fields.step, `${where}.step`) };
};

const METADATA = record<Metadata>(
  {
    format_version: withDefault(whole(0, FORMAT_VERSION), 0),
    model: text(1000),
    labels: list(named, 2, 256),
    activation: oneOf("softmax", "sigmoid"),
    spatial_dims: oneOf(2, 3),
    in_channels: whole(1, MOST_CHANNELS),
    channels: withDefault(list(named, 0, MOST_CHANNELS), []),
    optional_channels: withDefault(list(named, 0, MOST_CHANNELS), []),
    pipeline: list(step, 0, 1000),
    patch_size: list(count, 2, 3),
    overlap: number((n) => n >= 0 && n < 1),
    size_multiple: count,
    window: withDefault(WINDOW, { function: "gaussian", sigma: 0.125, floor: 0.001 }),
    local: withDefault(truth, false),
    halo: withDefault(orNull(list(reach, 2, 3)), null),
    stages: withDefault(list(STAGE, 0, 100), []),
    bytes_per_voxel: withDefault(memory, 0),
    postprocessing: withDefault(list(RULE, 0, 255), []),
    structures: withDefault(list(STRUCTURE, 0, 255), []),
    about: withDefault(ABOUT, ABOUT({}, "about")),
    float16: withDefault(
      orNull(record<Half>({ dice: withDefault(dice, {}) }, { open: true })),
      null,
    ),
    inside: withDefault(list(oneOf("z-score", "min-max", "argmax"), 0, 10), []),
    segjax_version: text(1000),
    seen: withDefault(orNull(SEEN), null),
  },
  { open: true },
);
