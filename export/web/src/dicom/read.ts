/** DICOM in: dropped files become volumes; each file that does not is named. */
import { headerOf } from "../io/nifti";
import { Problem } from "../problem";
import type { DicomSeries, Image } from "../volume";
import { convert } from "./convert";
import { type Grid, place } from "./geometry";
import { pathOf, type Slice, slicesOf, type Unusable } from "./slices";
import { split } from "./split";

/** A volume among dropped files. */
export interface Found {
  readonly series: DicomSeries;
  readonly slices: number;
  /** Where its voxels lie: columns, rows, slices. */
  readonly grid: Grid;
  /** Read its pixels; can be called again. Aborted, it throws the signal's reason. */
  image(signal?: AbortSignal): Promise<Image>;
}

/**
 * Find the volumes among dropped DICOM files, by series number.
 *
 * @param onProgress Called with the number of files whose headers were read, of all.
 * @returns The volumes; and what is wrong with the files that are none's, each in a text that names
 *   the file or the series. A series of which a part may be missing is no volume.
 */
export async function readDicom(
  files: readonly File[],
  onProgress?: (done: number, all: number) => void,
): Promise<{ found: Found[]; problems: Problem[] }> {
  const slices: Slice[] = [];
  const unusable: Unusable[] = [];
  for (const [number, file] of files.entries()) {
    const read = await slicesOf(file);
    if ("problem" in read) unusable.push(read);
    else slices.push(...read);
    onProgress?.(number + 1, files.length);
  }
  const problems = unusable.map(({ problem }) => problem);
  const volumes = withoutLocalisers(split(slices), problems);
  const found: Found[] = [];
  for (const volume of volumes.sort((a, b) => a[0]!.seriesNumber - b[0]!.seriesNumber)) {
    try {
      checkWhole(volume, slices, unusable);
      found.push(foundOf(volume));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      problems.push(error);
    }
  }
  return { found, problems };
}

/** Return what to call a series in texts. */
export function nameOf({ description, seriesNumber, modality }: Slice): string {
  return description || `${modality || "DICOM"} ${seriesNumber}`;
}

/** Return the files of slices in order, each once. */
export function filesOf(slices: readonly Slice[]): File[] {
  return [...new Set(slices.map((slice) => slice.file))];
}

function foundOf(volume: readonly Slice[]): Found {
  const first = volume[0]!;
  const name = nameOf(first);
  const grid = place(volume, name);
  const files = filesOf(volume);
  const series = {
    uid: first.seriesUid,
    description: first.description,
    modality: first.modality,
    files,
  };
  const image = async (signal?: AbortSignal): Promise<Image> => {
    const read = await convert(files, grid, name, signal);
    return { name, volume: read, header: headerOf(grid), series };
  };
  return { series, slices: volume.length, grid, image };
}

/** Leave out images that only serve to plan others, where there are others. */
function withoutLocalisers(volumes: Slice[][], problems: Problem[]): Slice[][] {
  const others = volumes.filter(([first]) => !first!.isLocaliser);
  if (!others.length) return volumes;
  const left = new Set(volumes.flatMap(([first]) => (first!.isLocaliser ? [nameOf(first!)] : [])));
  problems.push(...[...left].map((name) => new Problem("dicomLocaliser", { name })));
  return others;
}

/** Refuse a volume of which a part may lie in a file that cannot be used, or only a part of a file. */
function checkWhole(
  volume: readonly Slice[],
  slices: readonly Slice[],
  unusable: readonly Unusable[],
): void {
  const first = volume[0]!;
  const name = nameOf(first);
  const folders = new Set(volume.map(({ path }) => folderOf(path)));
  const lacking = unusable.find(({ isPart, seriesUid, file }) => {
    if (!isPart) return false;
    return seriesUid === null ? folders.has(folderOf(pathOf(file))) : seriesUid === first.seriesUid;
  });
  if (lacking) throw new Problem("dicomPart", { name, file: lacking.file.name });
  const shared = volume.find(({ frames }) => frames > 1)?.file;
  if (
    shared &&
    slices.filter(({ file }) => file === shared).length !==
      volume.filter(({ file }) => file === shared).length
  ) {
    throw new Problem("dicomManyVolumes", { name, file: shared.name });
  }
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/") + 1);
}
