/** What people take away: masks, tables, pictures, training sets. */
import { Problem } from "../problem";
import type { Image } from "../volume";
import { download } from "./dom";
import { saved } from "./masks";
import { type Case, type CaseMask, state } from "./state";

/** Return a name that file systems take, without folders. */
function fileName(name: string): string {
  const clean = name.replaceAll(/[^\p{L}\p{N}._ -]+/gu, "_").replace(/^[. ]+/, "");
  return clean.slice(0, 120) || "image";
}

function maskOrProblem(one: Case): CaseMask {
  if (!one.mask) throw new Problem("nothingToSave", { name: one.name });
  return one.mask;
}

async function niftiOf(
  image: Image,
  data: Uint8Array | Float32Array,
): Promise<Uint8Array<ArrayBuffer>> {
  const { writeNifti } = await import("../io/nifti");
  return writeNifti(image.header, image.volume.shape, data, { gzip: true });
}

/** Save the mask as NIfTI, on the image's grid. */
export async function saveMask(one: Case): Promise<void> {
  const { data } = maskOrProblem(one);
  const bytes = await niftiOf(one.images[0]!, data);
  download(`${fileName(one.name)}_mask.nii.gz`, new Blob([bytes], { type: "application/gzip" }));
  saved(one.id);
}

/** The image of a case that came from DICOM, the shown one before others. */
export function dicomOf(one: Case): Image | null {
  const images = [one.images[one.shown]!, ...one.images];
  return images.find(({ series }) => series) ?? null;
}

/** Save the mask as a DICOM segmentation of the series that it belongs to. */
export async function saveSegmentation(one: Case): Promise<void> {
  const { data, labels, structures, network } = maskOrProblem(one);
  const image = dicomOf(one);
  if (!image) throw new Problem("segmentationSource", { name: one.name });
  const { writeSegmentation } = await import("../dicom/segmentation");
  const segments = structures.map(({ color, code }, i) => ({
    name: labels[i + 1]!,
    value: i + 1,
    color,
    code,
  }));
  const edited = network !== null && (one.unsaved || one.mask!.history.canUndo);
  const maker = { network: network?.metadata.model ?? null, edited };
  const bytes = await writeSegmentation(image, data, segments, maker);
  download(`${fileName(one.name)}.seg.dcm`, new Blob([bytes], { type: "application/dicom" }));
  saved(one.id);
}

/** Save the tables of volumes or of lesions of all cases that have a mask. */
export async function saveTable(what: "volumes" | "lesions"): Promise<void> {
  const { lesionsCsv, volumesCsv } = await import("../io/csv");
  const write = what === "volumes" ? volumesCsv : lesionsCsv;
  const tables = state.cases.flatMap(({ name, loads }) => (loads ? [write(name, loads)] : []));
  if (!tables.length) throw new Problem("nothingToSave", { name: what });
  const [first, ...others] = tables;
  const text = first + others.map((table) => table.slice(table.indexOf("\n") + 1)).join("");
  download(`${what}.csv`, new Blob([text], { type: "text/csv" }));
}

/** Save what is seen, both visits side by side. */
export async function savePicture(
  canvases: readonly HTMLCanvasElement[],
  name: string,
): Promise<void> {
  const picture = document.createElement("canvas");
  picture.width = canvases.reduce((sum, { width }) => sum + width, 0);
  picture.height = Math.max(...canvases.map(({ height }) => height));
  const context = picture.getContext("2d")!;
  context.fillStyle = "black";
  context.fillRect(0, 0, picture.width, picture.height);
  let left = 0;
  for (const canvas of canvases) {
    context.drawImage(canvas, left, 0);
    left += canvas.width;
  }
  const blob = await new Promise<Blob | null>((done) => picture.toBlob(done, "image/png"));
  if (blob) download(`${fileName(name)}.png`, blob);
}

/** Save all cases that have a mask as a data set that `segjax train --data` reads. */
export async function saveTrainingSet(): Promise<void> {
  const cases = state.cases.filter(({ mask }) => mask);
  if (!cases.length) throw new Problem("nothingToSave", { name: "" });
  const files: Record<string, Uint8Array> = {};
  const names = new Set<string>();
  const most = Math.max(...cases.map(({ images }) => images.length));
  const odd = cases.find(({ images }) => images.length !== most);
  if (odd) throw new Problem("sequencesDiffer", { name: odd.name, number: most });
  for (const one of cases) {
    const name = unique(fileName(one.name).replaceAll(" ", "_"), names);
    for (const [i, image] of one.images.entries()) {
      const channel = most > 1 ? `_${String(i).padStart(4, "0")}` : "";
      files[`images/${name}${channel}.nii.gz`] = await niftiOf(image, image.volume.data);
    }
    files[`labels/${name}.nii.gz`] = await niftiOf(one.images[0]!, one.mask!.data);
  }
  files["dataset.json"] = new TextEncoder().encode(JSON.stringify(described(cases), null, 2));
  const { zipSync } = await import("fflate");
  const zip = zipSync(files, { level: 0 }); // NIfTI files are compressed already
  download("training.zip", new Blob([zip as Uint8Array<ArrayBuffer>], { type: "application/zip" }));
  for (const { id } of cases) saved(id);
}

function described(cases: readonly Case[]): object {
  const longest = cases.reduce((a, b) => (b.mask!.labels.length > a.mask!.labels.length ? b : a));
  const { images, mask } = longest;
  const given = mask!.network?.metadata.channels ?? [];
  const channels = images.map(({ name }, i) => given[i] ?? name);
  return {
    channel_names: Object.fromEntries(channels.map((name, i) => [i, name])),
    labels: Object.fromEntries(mask!.labels.map((label, value) => [label, value])),
  };
}

function unique(name: string, taken: Set<string>): string {
  let free = name;
  for (let i = 2; taken.has(free); i++) free = `${name}-${i}`;
  taken.add(free);
  return free;
}
