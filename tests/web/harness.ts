// Calls functions of the page's modules in Node.js, for the tests: a line of JSON for each call.
import { createInterface } from "node:readline";

const MODULES = import.meta.glob(
  "../../export/web/src/{io,prepare,model,predict,measure,dicom}/*.ts",
);
const ARRAYS = { Float32Array, Float64Array, Uint8Array, Uint16Array, Int16Array, Int32Array };

function decoded(value: any): any {
  if (Array.isArray(value)) return value.map(decoded);
  if (value === null || typeof value !== "object") return value;
  if (value.$ === "bytes") return bytes(value.base64).buffer;
  if (value.$ === "file") return new File([bytes(value.base64)], value.name);
  if (value.$) return new (ARRAYS as any)[value.$](bytes(value.base64).buffer);
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, decoded(one)]));
}

function bytes(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(base64, "base64"));
}

function encoded(value: any): any {
  if (value instanceof ArrayBuffer) value = new Uint8Array(value);
  if (ArrayBuffer.isView(value)) {
    const { buffer, byteOffset, byteLength } = value;
    const base64 = Buffer.from(buffer, byteOffset, byteLength).toString("base64");
    return { $: value.constructor.name.replace("Buffer", "Uint8Array"), base64 };
  }
  if (value instanceof Map) value = Object.fromEntries(value);
  if (value instanceof Set) value = [...value];
  if (Array.isArray(value)) return value.map(encoded);
  if (typeof value === "bigint") return Number(value);
  if (value === null || typeof value !== "object") return value ?? null;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, encoded(one)]));
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer: object;
  try {
    const { module, name, args } = JSON.parse(line);
    const found: any = await MODULES[`../../export/web/src/${module}.ts`]();
    answer = { result: encoded(await found[name](...decoded(args))) };
  } catch (error: any) {
    const { name, message, key, values, stack } = error;
    answer = { error: { name, message, key, values, stack } };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
