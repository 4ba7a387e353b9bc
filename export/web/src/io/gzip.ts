/** Decompress gzip files, never more of them than is asked for. */
import { type FlateError, FlateErrorCode, Gunzip } from "fflate";
import { Problem } from "../problem";

/** No byte of a gzip file stands for more than this many. */
export const MOST_DEFLATED = 1032;
const CHUNK = 2 ** 16;
const PIECE = 2 ** 12;
const CRC_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

export function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

/** Return the first bytes that a gzip file holds, at most `size`; fewer where it is shorter. */
export function gunzipStart(bytes: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(size);
  let filled = 0;
  const stream = new Gunzip((part) => {
    filled += put(part, out, filled);
  });
  try {
    for (let place = 0; place < bytes.length && filled < size; place += PIECE) {
      stream.push(bytes.subarray(place, place + PIECE), place + PIECE >= bytes.length);
    }
  } catch {
    // what came before the damage is enough, or what is missing is told by its length
  }
  return out.subarray(0, filled);
}

/**
 * Return the first `size` bytes that a gzip file of one or more members holds.
 *
 * @param name Of the file, for messages.
 * @throws Problem The file is damaged, or holds less.
 */
export async function gunzip(
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
  size: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const out = new Uint8Array(size);
  const filled = (await inflatedByBrowser(bytes, out)) ?? inflatedByMembers(name, bytes, out);
  if (filled < size) throw new Problem("niftiTruncated", { name, bytes: filled, expected: size });
  return out;
}

/** Fill an array; return how far, or null where the browser refuses, as it may several members. */
async function inflatedByBrowser(
  bytes: Uint8Array<ArrayBuffer>,
  out: Uint8Array,
): Promise<number | null> {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const reader = stream.getReader();
  let filled = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return filled;
      if (filled === out.length && value.length) break;
      filled += put(value, out, filled);
    }
  } catch {
    return null;
  }
  await reader.cancel();
  return filled;
}

/** Fill an array, member after member; return how far. */
function inflatedByMembers(name: string, bytes: Uint8Array, out: Uint8Array): number {
  let [filled, length, checksum] = [0, 0, 0];
  let [isWhole, isLonger] = [true, false];
  const endMember = () => {
    isWhole &&= holdsTrailer(bytes, checksum, length);
    [length, checksum] = [0, 0];
  };
  const stream = new Gunzip((part) => {
    isLonger ||= part.length > out.length - filled;
    filled += put(part, out, filled);
    length += part.length;
    checksum = crc32(part, checksum);
  });
  stream.onmember = (start) => start > 0 && endMember();
  try {
    for (let place = 0; place < bytes.length && !isLonger; place += CHUNK) {
      stream.push(bytes.subarray(place, place + CHUNK), place + CHUNK >= bytes.length);
    }
  } catch (error) {
    const { code } = error as Partial<FlateError>;
    const isCut = code === FlateErrorCode.UnexpectedEOF;
    if (isCut && filled < out.length) return filled;
    if (isCut || filled < out.length) throw new Problem("niftiDamaged", { name });
  }
  if (!isLonger) endMember();
  if (!isWhole) throw new Problem("niftiDamaged", { name });
  return filled;
}

/** Say whether a file holds what ends a gzip member: its checksum and its length. */
function holdsTrailer(bytes: Uint8Array, checksum: number, length: number): boolean {
  const trailer = new Uint8Array(new Uint32Array([checksum, length]).buffer);
  let place = bytes.length - trailer.length;
  while (place >= 0 && trailer.some((byte, n) => bytes[place + n] !== byte)) place--;
  return place >= 0;
}

/** Return the CRC-32 of bytes that follow others. */
function crc32(bytes: Uint8Array, before: number): number {
  let crc = ~before;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 0xff];
  return ~crc >>> 0;
}

/** Copy as much of a part as an array still takes; return how much. */
function put(part: Uint8Array, out: Uint8Array, filled: number): number {
  const some = part.subarray(0, out.length - filled);
  out.set(some, filled);
  return some.length;
}
