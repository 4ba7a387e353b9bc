/** Protocol buffers as bytes: as much of their wire format as ONNX files need. */

/** A field of a message; `value` is a whole number, or the bytes of all else. */
export interface Field {
  readonly number: number;
  readonly value: number | Uint8Array;
  /** The field as it stands in the message, with its number. */
  readonly bytes: Uint8Array;
}

/** Bytes that are no message; `cut` where they only end too early. */
export class WireError extends Error {
  constructor(readonly cut: boolean) {
    super(cut ? "the message ends too early" : "no message");
    this.name = "WireError";
  }
}

/** Yield the fields of a serialised message, in their order. */
export function* fields(data: Uint8Array): Generator<Field> {
  let at = 0;
  while (at < data.length) {
    const start = at;
    const tag = readNumber(data, at);
    at = tag.end;
    const number = Math.floor(tag.value / 8);
    const wire = tag.value % 8;
    if (wire === 0) {
      const { value, end } = readNumber(data, at);
      at = end;
      yield { number, value, bytes: data.subarray(start, at) };
      continue;
    }
    const length = lengthOf(data, at, wire);
    if (length.value > data.length - length.end) throw new WireError(true);
    at = length.end + length.value;
    const value = data.subarray(length.end, at);
    yield { number, value, bytes: data.subarray(start, at) };
  }
}

/** Return a field that holds a string or a message. */
export function message(number: number, content: Uint8Array): Uint8Array {
  return joined([varint(number * 8 + 2), varint(content.length), content]);
}

/** Return a field that holds a whole number from 0 on. */
export function numberField(number: number, value: number): Uint8Array {
  return joined([varint(number * 8), varint(value)]);
}

/** Put bytes one after another. */
export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

interface Read {
  readonly value: number;
  readonly end: number;
}

function lengthOf(data: Uint8Array, at: number, wire: number): Read {
  if (wire === 2) return readNumber(data, at);
  if (wire === 1 || wire === 5) return { value: wire === 1 ? 8 : 4, end: at };
  throw new WireError(false);
}

/** Read seven bits a byte, the lowest first; numbers over 2⁵³ are rounded. */
function readNumber(data: Uint8Array, at: number): Read {
  let value = 0;
  for (let i = 0; i < 10; i++) {
    if (at + i >= data.length) throw new WireError(true);
    value += (data[at + i] & 127) * 2 ** (7 * i);
    if (data[at + i] < 128) return { value, end: at + i + 1 };
  }
  throw new WireError(false);
}

function varint(value: number): Uint8Array {
  const digits: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) digits.push((rest % 128) | 128);
  return Uint8Array.from([...digits, rest]);
}
