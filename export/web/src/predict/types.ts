/** What the page asks of its worker, and what comes back. */
import type { Metadata } from "../model/metadata";
import type { Message } from "../problem";
import type { Mask, Volume } from "../volume";

export interface Job {
  /** The ONNX file. */
  readonly model: ArrayBuffer;
  readonly modelName: string;
  /** One volume for each channel of the file, on one grid; null where an optional one is missing. */
  readonly channels: readonly (Volume | null)[];
  readonly imageName: string;
  readonly backend: "auto" | "wasm" | "webgpu";
  /** Bytes that the network may take; by default what a tab may have. */
  readonly memory?: number;
}

export interface Progress {
  readonly phase: "open" | "prepare" | "network" | "restore";
  /** From 0 to 1, of all phases. */
  readonly share: number;
  /** Seconds left, once that can be told. */
  readonly left: number | null;
}

export interface Result {
  readonly mask: Mask;
  readonly metadata: Metadata;
  /** Spacing or intensities unlike the training's, WebGPU that could not be used, and so on. */
  readonly warnings: readonly Message[];
  readonly backend: "wasm" | "webgpu";
  readonly threads: number;
  readonly seconds: number;
  /** Greatest size of WebAssembly's memory, in bytes. */
  readonly memory: number;
}
