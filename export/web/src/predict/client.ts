/** Segments images in a worker of its own. */
import { type Message, Problem } from "../problem";
import type { Job, Progress, Result } from "./types";
import type { Told } from "./worker";

const MOST_ATTEMPTS = 3; // on a graphics processor, on the processor, and there in less memory

/**
 * Segment an image.
 *
 * @param job What to segment, and with which network; the page keeps all of it.
 * @param onProgress Called as the work goes on.
 * @param signal Ends the work at once.
 * @throws Problem The image or the network cannot be used, or there is too little memory.
 * @throws DOMException `AbortError`, where the signal asked for it.
 */
export async function segment(
  job: Job,
  onProgress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<Result> {
  const warnings: Message[] = [];
  let attempt = job;
  let failure: Message | null = null;
  let share = 0;
  const report = (progress: Progress) => {
    share = Math.max(share, progress.share);
    onProgress({ ...progress, share });
  };
  for (let left = MOST_ATTEMPTS; left > 0; left--) {
    const told = await work(attempt, report, signal);
    if (told.kind === "result") {
      const { result } = told;
      return { ...result, warnings: [...warnings, ...result.warnings] };
    }
    if (told.kind === "problem") throw problemOf(told.problem, failure);
    if (told.change.memory !== undefined && failure?.key === "memoryGone") break;
    failure = told.failure;
    if (told.warning) warnings.push(told.warning);
    attempt = { ...attempt, ...told.change };
  }
  throw new Problem(failure!.key, failure!.values);
}

/** Return the problem to tell of; less memory than there is, is not what people can mend. */
function problemOf(problem: Message, before: Message | null): Problem {
  const { key, values } = problem.key === "memoryShort" && before ? before : problem;
  return new Problem(key, values);
}

type End = Exclude<Told, { kind: "progress" }>;

/** Let one worker try, which ends with it. */
async function work(
  job: Job,
  onProgress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<End> {
  signal.throwIfAborted();
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  const { promise, resolve, reject } = Promise.withResolvers<End>();
  const cancel = () => reject(signal.reason);
  const lost = (reason: string) => reject(new Problem("workerFailed", { reason }));
  signal.addEventListener("abort", cancel);
  worker.addEventListener("message", ({ data }: MessageEvent<Told>) => {
    if (data.kind === "progress") onProgress(data.progress);
    else resolve(data);
  });
  worker.addEventListener("error", ({ message }) => lost(message ?? "?"));
  worker.addEventListener("messageerror", () => lost("message"));
  try {
    const { copy, transfer } = copied(job);
    worker.postMessage(copy, transfer);
    return await promise;
  } finally {
    signal.removeEventListener("abort", cancel);
    worker.terminate();
  }
}

/** Copy the large arrays of a job once, so that they can be handed over. */
function copied(job: Job): { copy: Job; transfer: ArrayBuffer[] } {
  const channels = job.channels.map((volume) => volume && { ...volume, data: volume.data.slice() });
  const model = job.model.slice();
  const arrays = channels.flatMap((volume) => (volume ? [volume.data.buffer] : []));
  return { copy: { ...job, model, channels }, transfer: [model, ...arrays] };
}
