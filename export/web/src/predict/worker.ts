/** The worker in which images are segmented, so that the page stays usable. */

import gpuMjs from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url";
import gpuWasm from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url";
import cpuMjs from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import cpuWasm from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import cpuOrt from "onnxruntime-web/wasm?url";
import gpuOrt from "onnxruntime-web/webgpu?url";
import { type Message, Problem } from "../problem";
import { isMemoryError } from "./memory";
import { Again, reasonOf } from "./network";
import { type Machine, segmentWith } from "./segment";
import type { Build } from "./session";
import type { Job, Progress, Result } from "./types";

/** What the worker tells the page. */
export type Told =
  | { readonly kind: "progress"; readonly progress: Progress }
  | { readonly kind: "result"; readonly result: Result }
  | { readonly kind: "problem"; readonly problem: Message }
  | {
      readonly kind: "again";
      readonly change: Again["change"];
      readonly failure: Message;
      readonly warning: Message | null;
    };

const MOST_THREADS = 8;
const CPU: Build = {
  ort: absolute(cpuOrt),
  mjs: absolute(cpuMjs),
  wasm: absolute(cpuWasm),
};
const GPU: Build = {
  ort: absolute(gpuOrt),
  mjs: absolute(gpuMjs),
  wasm: absolute(gpuWasm),
};

function absolute(url: string): string {
  return new URL(url, self.location.href).href;
}

async function segmented(job: Job): Promise<Result> {
  const threads = self.crossOriginIsolated
    ? Math.min(navigator.hardwareConcurrency, MOST_THREADS)
    : 1;
  const asked = job.backend === "webgpu";
  const gpu = job.backend !== "wasm" && (await hasGpu(asked));
  const machine: Machine = gpu
    ? { build: GPU, processor: "gpu", threads }
    : { build: CPU, processor: "cpu", threads };
  const report = (progress: Progress) => tell({ kind: "progress", progress });
  const result = await segmentWith(job, machine, report);
  const none: Message = { key: "webgpuNone", values: {} };
  return asked && !gpu ? { ...result, warnings: [none, ...result.warnings] } : result;
}

/** Say whether there is a graphics processor; one that the processor plays counts only if asked. */
async function hasGpu(played: boolean): Promise<boolean> {
  const gpu = (navigator as { gpu?: Gpu }).gpu;
  const adapter = await gpu?.requestAdapter().catch(() => null);
  return !!adapter && (played || !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter));
}

/** As much of WebGPU as is asked here; TypeScript does not know it yet. */
interface Gpu {
  requestAdapter(): Promise<{
    readonly isFallbackAdapter?: boolean;
    readonly info?: { readonly isFallbackAdapter?: boolean };
  } | null>;
}

function tell(told: Told, transfer: Transferable[] = []): void {
  self.postMessage(told, { transfer });
}

self.addEventListener("message", async ({ data: job }: MessageEvent<Job>) => {
  try {
    const result = await segmented(job);
    tell({ kind: "result", result }, [result.mask.data.buffer as ArrayBuffer]);
  } catch (error) {
    tell(failureOf(error, job));
  }
});

function failureOf(error: unknown, { modelName: name, imageName: image }: Job): Told {
  if (error instanceof Again) {
    const { change, failure, warning } = error;
    return { kind: "again", change, failure, warning };
  }
  if (error instanceof Problem)
    return { kind: "problem", problem: { key: error.key, values: error.values } };
  const problem: Message = isMemoryError(error)
    ? { key: "memoryGone", values: { name, image } }
    : { key: "modelFailed", values: { name, reason: reasonOf(error) } };
  return { kind: "problem", problem };
}
