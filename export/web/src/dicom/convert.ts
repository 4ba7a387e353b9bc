/** Reads the pixels of a DICOM series by dcm2niix, in a worker of its own that can be ended. */
import { readNifti } from "../io/nifti";
import { Problem } from "../problem";
import type { Volume } from "../volume";
import type { Grid } from "./geometry";

const SLOWEST = 2e6; // bytes a second; dcm2niix reads fifty times as many
const START = 60_000; // ms that it may take besides, on a busy computer
const TOLERANCE = 0.1; // voxels; its float32 and the headers' rounding come to far less

/**
 * Convert the files of one volume, and return it on the grid that their headers state.
 *
 * @param name What to call the series.
 * @throws Problem dcm2niix fails, does not end, or makes another volume of the files.
 */
export async function convert(
  files: readonly File[],
  grid: Grid,
  name: string,
  signal?: AbortSignal,
): Promise<Volume> {
  const made = (await run(files, name, signal)).filter((file) => file.name.endsWith(".nii"));
  if (made.length !== 1) throw new Problem("dicomVolumes", { name, count: made.length });
  const images = await readNifti(name, await made[0]!.arrayBuffer());
  if (images.length !== 1) throw new Problem("dicomVolumes", { name, count: images.length });
  return onGrid(images[0]!.volume, grid, name);
}

/**
 * Mirror the axes of a volume so that it lies on a grid.
 *
 * @throws Problem It has another shape, or lies elsewhere.
 */
export function onGrid(volume: Volume, { shape, affine }: Grid, name: string): Volume {
  if (volume.shape.some((size, axis) => size !== shape[axis])) {
    throw new Problem("dicomShape", {
      name,
      made: volume.shape.join("×"),
      stated: shape.join("×"),
    });
  }
  const column = (matrix: Grid["affine"], axis: number) =>
    [0, 1, 2].map((row) => matrix[row]![axis]!);
  const mirrored = [0, 1, 2].map((axis) => {
    const [own, wanted] = [column(volume.affine, axis), column(affine, axis)];
    return own.reduce((sum, x, i) => sum + x * wanted[i]!, 0) < 0;
  });
  const finest = Math.min(...[0, 1, 2].map((axis) => Math.hypot(...column(affine, axis))));
  for (const corner of corners(shape)) {
    const there = corner.map((index, axis) => (mirrored[axis] ? shape[axis]! - 1 - index : index));
    const [own, wanted] = [applied(volume.affine, there), applied(affine, corner)];
    const off = Math.hypot(...own.map((x, i) => x - wanted[i]!));
    if (!(off <= TOLERANCE * finest))
      throw new Problem("dicomElsewhere", { name, off: off.toFixed(2) });
  }
  const data = mirrored.some(Boolean) ? flipped(volume, mirrored) : volume.data;
  return { data, shape, affine };
}

function* corners(shape: Grid["shape"]): Generator<number[]> {
  const [x, y, z] = shape.map((size) => size - 1);
  for (const i of [0, x!]) for (const j of [0, y!]) for (const k of [0, z!]) yield [i, j, k];
}

function applied(affine: Grid["affine"], index: number[]): number[] {
  return affine
    .slice(0, 3)
    .map((row) => row[3]! + index.reduce((sum, x, i) => sum + x * row[i]!, 0));
}

function flipped({ data, shape }: Volume, mirrored: readonly boolean[]): Float32Array {
  const [nx, ny, nz] = shape;
  const result = new Float32Array(data.length);
  for (let i = 0, at = 0; i < nx; i++) {
    const x = mirrored[0] ? nx - 1 - i : i;
    for (let j = 0; j < ny; j++, at += nz) {
      const y = mirrored[1] ? ny - 1 - j : j;
      const row = data.subarray((x * ny + y) * nz, (x * ny + y + 1) * nz);
      result.set(row, at);
      if (mirrored[2]) result.subarray(at, at + nz).reverse();
    }
  }
  return result;
}

async function run(files: readonly File[], name: string, signal?: AbortSignal): Promise<File[]> {
  signal?.throwIfAborted();
  const { Dcm2niix } = await import("@niivue/dcm2niix");
  const program = new Dcm2niix();
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  const longest = START + (1000 * bytes) / SLOWEST;
  let watch: ReturnType<typeof setTimeout> | undefined;
  const ended = new Promise<never>((_, reject) => {
    watch = setTimeout(
      () => reject(new Problem("dicomHangs", { name, seconds: Math.round(longest / 1000) })),
      longest,
    );
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  try {
    return await Promise.race([converted(program, files), ended]);
  } catch (error) {
    if (error instanceof Problem || signal?.aborted) throw error;
    throw new Problem("dicomFails", { name }); // its own reason is often empty
  } finally {
    clearTimeout(watch);
    program.worker?.terminate();
  }
}

/** Call dcm2niix with names and options of our own: it never sees those of the files. */
async function converted(
  program: InstanceType<typeof import("@niivue/dcm2niix").Dcm2niix>,
  files: readonly File[],
): Promise<File[]> {
  await program.init();
  const named = files.map(
    (file, number) => new File([file], `${String(number).padStart(6, "0")}.dcm`),
  );
  // as stored times the rescale slope; merged whatever differs; neither cropped nor turned
  return program.input(named).b("n").z("n").p("n").m("y").x("i").f("volume").run();
}
