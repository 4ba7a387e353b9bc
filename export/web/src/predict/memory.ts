/** How much memory a tab may have, and how it shows that there is none left. */

/** Bytes that WebAssembly can address. */
export const WASM_BYTES = 2 ** 32;

const DESKTOP = 2.5e9; // bytes, where the browser does not tell the computer's memory
const PHONE = 0.8e9; // beyond about 1 GB phones close tabs

/** What a browser tells of the computer. */
export interface Device {
  /** GB of memory, coarse and at most 8 or 32; Chromium alone tells. */
  readonly deviceMemory?: number;
  readonly userAgent: string;
  readonly maxTouchPoints?: number;
}

/** Return the bytes that a network may take in a tab: half of the memory, at most what WASM has. */
export function tabMemory(device: Device = navigator): number {
  const told = device.deviceMemory === undefined ? DESKTOP : (device.deviceMemory * 1e9) / 2;
  return Math.min(told, isHandheld(device) ? PHONE : WASM_BYTES);
}

/** Say whether an error is one of memory: of WebAssembly, of arrays or of a graphics processor. */
export function isMemoryError(error: unknown): boolean {
  const text = error instanceof Error ? `${error.name} ${error.message}` : String(error);
  return MEMORY_ERROR.test(text);
}

const MEMORY_ERROR =
  /bad_alloc|out of memory|\boom\b|failed to allocate|allocation failed|allocate memory|memory allocation|invalid (typed )?array (buffer )?length|could not be allocated/i;

function isHandheld({ userAgent, maxTouchPoints = 0 }: Device): boolean {
  const tabletAsMac = userAgent.includes("Macintosh") && maxTouchPoints > 1;
  return tabletAsMac || /Android|iPhone|iPad|Mobile/.test(userAgent);
}
