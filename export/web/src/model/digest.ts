/** A seal on ONNX files: what was changed on the way, or keeps weights elsewhere, is not run. */
import { Problem } from "../problem";
import { fields, WireError } from "./wire";

const KEY = "segjax-digest";
const DIGITS = 64;
const ENTRY = [0x0a, KEY.length, ...codes(KEY), 0x12, DIGITS];
const HEAD = Uint8Array.from([0x72, ENTRY.length + DIGITS, ...ENTRY]);

/**
 * Refuse the bytes of an ONNX file that are not those that were sealed, or not all that it needs;
 * files without a digest, of earlier versions, pass.
 */
export async function check(name: string, model: Uint8Array<ArrayBuffer>): Promise<void> {
  checkForm(name, model);
  if (seemsSealed(model) && !(await isSealed(model))) throw new Problem("modelChanged", { name });
  if (keepsWeightsOutside(name, model)) throw new Problem("modelOutside", { name });
}

/** Return the SHA-256 of bytes as 64 hexadecimal digits. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const { subtle } = globalThis.crypto ?? {}; // it lacks where a page comes by http
  const digest = subtle ? new Uint8Array(await subtle.digest("SHA-256", bytes)) : hash(bytes);
  return hexadecimal(digest);
}

/** Return the SHA-256 of bytes as 64 hexadecimal digits, without the browser's help. */
export function slowSha256(bytes: Uint8Array): string {
  return hexadecimal(hash(bytes));
}

/** Refuse what is no ONNX file, or a part of one. */
function checkForm(name: string, model: Uint8Array): void {
  const seen: number[] = [];
  try {
    for (const { number } of fields(model)) if (seen.length < 64) seen.push(number);
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    if (seen[0] !== IR_VERSION) throw new Problem("modelForeign", { name });
    throw new Problem(error.cut ? "modelCut" : "modelDamaged", { name, bytes: model.length });
  }
  if (seen[0] !== IR_VERSION || !seen.includes(GRAPH)) throw new Problem("modelForeign", { name });
}

const IR_VERSION = 1; // fields of a ModelProto
const GRAPH = 7;

function seemsSealed(model: Uint8Array): boolean {
  const tail = model.subarray(-(HEAD.length + DIGITS));
  const same = HEAD.reduce((sum, byte, i) => sum + (tail[i] === byte ? 1 : 0), 0);
  return 2 * same > HEAD.length || includes(model, Uint8Array.from(codes(KEY)));
}

async function isSealed(model: Uint8Array<ArrayBuffer>): Promise<boolean> {
  const end = model.length - HEAD.length - DIGITS;
  if (end < 0 || HEAD.some((byte, i) => model[end + i] !== byte)) return false;
  const told = String.fromCharCode(...model.subarray(-DIGITS));
  return told === (await sha256(model.subarray(0, end)));
}

function includes(bytes: Uint8Array, wanted: Uint8Array): boolean {
  let at = bytes.indexOf(wanted[0]);
  for (; at >= 0; at = bytes.indexOf(wanted[0], at + 1)) {
    if (wanted.every((byte, i) => bytes[at + i] === byte)) return true;
  }
  return false;
}

// Which fields of ONNX's messages hold messages on the way to a tensor.
const INNER: Record<string, Record<number, string>> = {
  model: { 7: "graph", 20: "training", 25: "function" },
  training: { 1: "graph", 2: "graph" },
  function: { 7: "node", 11: "attribute" },
  graph: { 1: "node", 5: "tensor", 15: "sparse" },
  node: { 5: "attribute" },
  attribute: { 5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse" },
  sparse: { 1: "tensor", 2: "tensor" },
  tensor: {},
};
const EXTERNAL_DATA = 13; // fields of a tensor
const DATA_LOCATION = 14;
const DEEPEST = 64; // messages in one another: those of a network of segjax are four

function keepsWeightsOutside(name: string, model: Uint8Array): boolean {
  try {
    return outside(model, "model", 0);
  } catch (error) {
    if (error instanceof WireError) throw new Problem("modelDamaged", { name });
    throw error;
  }
}

function outside(part: Uint8Array, kind: string, depth: number): boolean {
  if (depth > DEEPEST) throw new WireError(false);
  for (const { number, value } of fields(part)) {
    const inner = INNER[kind][number];
    if (kind === "tensor" && number === EXTERNAL_DATA) return true;
    if (kind === "tensor" && number === DATA_LOCATION && value !== 0) return true;
    if (inner === undefined) continue;
    if (typeof value === "number") throw new WireError(false);
    if (outside(value, inner, depth + 1)) return true;
  }
  return false;
}

/** SHA-256 as FIPS 180-4 has it. */
function hash(bytes: Uint8Array): Uint8Array {
  const blocks = Math.floor((bytes.length + 8) / 64) + 1;
  const tail = new Uint8Array(blocks * 64 - (bytes.length - (bytes.length % 64)));
  tail.set(bytes.subarray(bytes.length - (bytes.length % 64)));
  tail[bytes.length % 64] = 0x80;
  new DataView(tail.buffer).setBigUint64(tail.length - 8, BigInt(bytes.length) * 8n);
  const state = Int32Array.from(rootsOfPrimes(8, 1 / 2));
  for (let at = 0; at + 64 <= bytes.length; at += 64) compress(state, bytes, at);
  for (let at = 0; at < tail.length; at += 64) compress(state, tail, at);
  const digest = new Uint8Array(32);
  const view = new DataView(digest.buffer);
  state.forEach((word, i) => {
    view.setInt32(4 * i, word);
  });
  return digest;
}

const SCHEDULE = new Int32Array(64);

function compress(state: Int32Array, bytes: Uint8Array, at: number): void {
  const w = SCHEDULE;
  for (let i = 0; i < 16; i++) {
    const b = at + 4 * i;
    w[i] = (bytes[b] << 24) | (bytes[b + 1] << 16) | (bytes[b + 2] << 8) | bytes[b + 3];
  }
  for (let i = 16; i < 64; i++) {
    const s0 = turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ (w[i - 15] >>> 3);
    const s1 = turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ (w[i - 2] >>> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i++) {
    const s1 = turned(e, 6) ^ turned(e, 11) ^ turned(e, 25);
    const one = (h + s1 + ((e & f) ^ (~e & g)) + CONSTANTS[i] + w[i]) | 0;
    const s0 = turned(a, 2) ^ turned(a, 13) ^ turned(a, 22);
    const two = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, i) => {
    state[i] += word;
  });
}

function turned(word: number, bits: number): number {
  return (word >>> bits) | (word << (32 - bits));
}

/** The first 32 bits of the fractional parts of roots of the first primes. */
function rootsOfPrimes(count: number, power: number): number[] {
  const primes: number[] = [];
  for (let n = 2; primes.length < count; n++) if (primes.every((p) => n % p)) primes.push(n);
  return primes.map((p) => Math.floor((p ** power % 1) * 2 ** 32));
}

const CONSTANTS = Int32Array.from(rootsOfPrimes(64, 1 / 3));

function hexadecimal(digest: Uint8Array): string {
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function codes(text: string): number[] {
  return Array.from(text, (letter) => letter.charCodeAt(0));
}
