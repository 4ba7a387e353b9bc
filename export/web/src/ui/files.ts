/** Files and folders as they are dropped, pasted or chosen, sorted by what is in them. */
import { Problem } from "../problem";

export interface Sorted {
  readonly dicom: readonly File[];
  readonly models: readonly File[];
  /** NIfTI, or a file that is to be opened as one and says what it is. */
  readonly images: readonly File[];
  /** Files that lie beside images and are none: passed over, by name. */
  readonly others: readonly File[];
  readonly unreadable: readonly File[];
}

/** Return the files of a drop, those in folders too. */
export async function dropped(transfer: DataTransfer): Promise<File[]> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? null);
  if (!entries.some((entry) => entry !== null)) return [...transfer.files];
  const found: File[] = [];
  for (const entry of entries) if (entry) await walk(entry, found);
  return found;
}

const MOST_FILES = 20_000;

async function walk(entry: FileSystemEntry, found: File[]): Promise<void> {
  if (entry.isFile) {
    if (found.length === MOST_FILES) throw new Problem("tooManyFiles", { most: MOST_FILES });
    const file = await new Promise<File>((yes, no) => (entry as FileSystemFileEntry).file(yes, no));
    found.push(Object.assign(file, { _webkitRelativePath: entry.fullPath }));
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((yes, no) => reader.readEntries(yes, no));
    if (!some.length) return;
    for (const one of some) await walk(one, found);
  }
}

/** Sort files by their first bytes; names only tell what lies beside images. */
export async function sort(files: readonly File[]): Promise<Sorted> {
  const sorted: Record<keyof Sorted, File[]> = {
    ...{ dicom: [], models: [], images: [], others: [], unreadable: [] },
  };
  for (const file of files) {
    const head = await file
      .slice(0, 352)
      .arrayBuffer()
      .catch(() => null);
    const kind = head ? kindOf(file.name, new Uint8Array(head), files.length === 1) : "unreadable";
    sorted[kind].push(file);
  }
  return sorted;
}

const BESIDE =
  /^(\.|Thumbs\.db$|DICOMDIR$|README|LICENSE)|\.(json|tsv|csv|txt|md|bval|bvec|xml|pdf|html?|db|log|mat)$/i;

function kindOf(name: string, head: Uint8Array, alone: boolean): keyof Sorted {
  const ascii = (at: number, length: number) =>
    String.fromCharCode(...head.subarray(at, at + length));
  if (ascii(128, 4) === "DICM") return name === "DICOMDIR" ? "others" : "dicom";
  if (ascii(344, 2) === "n+" || (head[0] === 0x1f && head[1] === 0x8b)) return "images";
  if (/\.onnx$/i.test(name)) return "models";
  if (head[0] === 8 && head[1]! > 2 && head[1]! < 32 && [0x12, 0x1a, 0x3a].includes(head[2]!))
    return "models"; // ir_version, then producer or graph
  if (head[0] === 8 && head[1] === 0 && head[3] === 0) return "dicom"; // group 8, no preamble
  if (/\.(dcm|ima)$/i.test(name)) return "dicom";
  return !alone && BESIDE.test(name) ? "others" : "images";
}

/** Return a file's name without folders, known endings and the number of a channel. */
export function stem(name: string): string {
  return (
    name.replace(/^.*[\\/]/, "").replace(/\.(nii|nii\.gz|img|hdr|dcm|gz)( \[\d+\])?$/i, "") || name
  );
}
