/** Networks opened with onnxruntime-web, on the processor (WebAssembly) or a graphics processor. */
import type { Env, InferenceSession, Tensor } from "onnxruntime-web";
import type { Arrays, Features } from "./pieces";

/** A module of onnxruntime-web, as far as this page uses it. */
interface Ort {
  readonly env: Env;
  readonly InferenceSession: typeof InferenceSession;
  readonly Tensor: typeof Tensor;
}

/** Addresses of a build of onnxruntime-web: of its module, and of WebAssembly and what loads it. */
export interface Build {
  readonly ort: string;
  readonly mjs: string;
  readonly wasm: string;
}

/** Where a session computes: `cpu` is WebAssembly in either build. */
export type Processor = "cpu" | "gpu";

/** onnxruntime-web, once for a worker. */
export interface Runtime {
  readonly threads: number;
  /** Open a graph; on a graphics processor only where it can do every operator. */
  open(model: Uint8Array, processor: Processor): Promise<Session>;
  /** Return the size of WebAssembly's memory in bytes, which only grows. */
  memory(): number;
}

/** An opened graph. */
export interface Session {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  run(inputs: Arrays, outputs: readonly string[]): Promise<Arrays>;
  /** Run a graph whose second input says how many zeros are put around the image. */
  runPadded(image: Features, pads: readonly number[], output: string): Promise<Features>;
  release(): Promise<void>;
}

const PAGE = 65536; // bytes of WebAssembly's memory
const QUIET = { logSeverityLevel: 4 } as const; // what fails is told by exceptions
const LEAST = 64 * 2 ** 20; // bytes that onnxruntime starts with, about

/**
 * Start onnxruntime-web.
 *
 * @param build For the processor alone, or for graphics processors too.
 * @param threads Threads of WebAssembly, 1 where the page is not cross-origin isolated.
 * @param memory Bytes that WebAssembly may take at most.
 */
export async function startRuntime(
  build: Build,
  threads: number,
  memory: number,
): Promise<Runtime> {
  const ort: Ort = await import(/* @vite-ignore */ build.ort);
  ort.env.logLevel = "fatal";
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { mjs: build.mjs, wasm: build.wasm };
  boundMemory(memory);
  return {
    threads,
    memory: () => Math.max(...memories.map(({ buffer }) => buffer.byteLength)),
    open: async (model, processor) => opened(ort, await create(ort, model, processor)),
  };
}

const memories: WebAssembly.Memory[] = [];

/**
 * Let memories of WebAssembly that are made from now on grow up to a bound only.
 *
 * onnxruntime-web makes its own, of 4 GB at most, and shows it to nobody.
 */
function boundMemory(bytes: number): void {
  const { Memory } = WebAssembly;
  const most = Math.floor(Math.max(bytes, LEAST) / PAGE);
  WebAssembly.Memory = class extends Memory {
    constructor({ maximum = most, ...descriptor }: WebAssembly.MemoryDescriptor) {
      super({ ...descriptor, maximum: Math.min(maximum, most) });
      memories.push(this);
    }
  };
}

function create(ort: Ort, model: Uint8Array, processor: Processor): Promise<InferenceSession> {
  const options: InferenceSession.SessionOptions = {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "all",
    logSeverityLevel: 4,
  };
  if (processor === "gpu") {
    options.executionProviders = ["webgpu"];
    options.extra = { session: { disable_cpu_ep_fallback: "1" } };
  }
  return ort.InferenceSession.create(model, options);
}

function opened(ort: Ort, session: InferenceSession): Session {
  const tensor = ({ data, dims }: Features) => new ort.Tensor("float32", data, dims);
  return {
    inputs: session.inputNames,
    outputs: session.outputNames,
    async run(inputs, outputs) {
      const feeds = Object.entries(inputs).map(([name, one]) => [name, tensor(one)]);
      const found = await session.run(Object.fromEntries(feeds), outputs, QUIET);
      return Object.fromEntries(outputs.map((name) => [name, features(found[name])]));
    },
    async runPadded(image, pads, output) {
      const numbers = new ort.Tensor("int64", BigInt64Array.from(pads.map(BigInt)), [pads.length]);
      const found = await session.run({ image: tensor(image), pads: numbers }, [output], QUIET);
      return features(found[output]);
    },
    release: () => session.release(),
  };
}

function features({ type, data, dims }: Tensor): Features {
  if (type === "float32" && data instanceof Float32Array) return { data, dims };
  throw new Error(`the graph gives ${type}`);
}
