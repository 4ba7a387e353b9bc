/** A part of an ONNX graph as a model of its own. */
import { type Field, fields, joined, message, numberField } from "./wire";

const MODEL_GRAPH = 7;
const MODEL_KEPT = [1, 8]; // IR version, operator sets
const GRAPH_NODE = 1;
const GRAPH_NAME = 2;
const GRAPH_TENSOR = 5;
const GRAPH_INPUT = 11;
const GRAPH_OUTPUT = 12;
const NODE_INPUT = 1;
const NODE_OUTPUT = 2;
const TENSOR_NAME = 8;
const FLOAT_TENSOR = message(1, numberField(1, 1)); // of a TypeProto

/**
 * Return the part of a model that makes some float32 arrays of others: a serialised ModelProto,
 * without metadata. Nodes of the model have one output.
 */
export function subgraph(
  model: Uint8Array,
  inputs: readonly string[],
  outputs: readonly string[],
): Uint8Array {
  const parts = [...fields(model)];
  const graph = parts.filter(({ number }) => number === MODEL_GRAPH).flatMap(innerFields);
  const given = new Set(inputs);
  const needed = new Set(outputs.filter((name) => !given.has(name)));
  const used: Field[] = [];
  for (const node of graph.filter(({ number }) => number === GRAPH_NODE).reverse()) {
    if (!names(node, NODE_OUTPUT).some((name) => needed.has(name))) continue;
    used.push(node);
    for (const name of names(node, NODE_INPUT)) if (!given.has(name)) needed.add(name);
  }
  const tensors = graph.filter(
    (part) =>
      part.number === GRAPH_TENSOR && names(part, TENSOR_NAME).some((name) => needed.has(name)),
  );
  const made = joined([
    ...used.reverse().map(({ bytes }) => bytes),
    message(GRAPH_NAME, new TextEncoder().encode("segjax")),
    ...tensors.map(({ bytes }) => bytes),
    ...inputs.map((name) => message(GRAPH_INPUT, floatTensor(name))),
    ...outputs.map((name) => message(GRAPH_OUTPUT, floatTensor(name))),
  ]);
  const kept = parts.filter(({ number }) => MODEL_KEPT.includes(number)).map(({ bytes }) => bytes);
  return joined([...kept, message(MODEL_GRAPH, made)]);
}

function innerFields({ value }: Field): Field[] {
  return typeof value === "number" ? [] : [...fields(value)];
}

function names(part: Field, wanted: number): string[] {
  const decoder = new TextDecoder();
  return innerFields(part).flatMap(({ number, value }) =>
    number === wanted && typeof value !== "number" ? [decoder.decode(value)] : [],
  );
}

function floatTensor(name: string): Uint8Array {
  return joined([message(1, new TextEncoder().encode(name)), message(2, FLOAT_TENSOR)]);
}
