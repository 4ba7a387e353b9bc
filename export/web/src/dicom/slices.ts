/** What the headers of DICOM files say of each slice: whose it is, and where it lies. */
import { Problem } from "../problem";
import {
  CorruptHeader,
  type Dataset,
  type Header,
  hasMark,
  readHeader,
  ShortHeader,
} from "./dataset";
import { DECODED, type Keyword, MACROS, OTHER_CODINGS, SYNTAXES, TAGS } from "./tags";

/** One slice: a file, or one frame of a file that holds many. */
export interface Slice {
  readonly file: File;
  /** Folder and name, as far as the browser tells them. */
  readonly path: string;
  /** Number within the file, from 0. */
  readonly frame: number;
  /** Of the file. */
  readonly frames: number;
  readonly rows: number;
  readonly columns: number;
  /** Centre of the first pixel, in mm (LPS+). */
  readonly position: readonly number[];
  /** Directions along a row and along a column (LPS+), as the header rounds them. */
  readonly orientation: readonly number[];
  /** Distance between rows and between columns, in mm. */
  readonly spacing: readonly number[];
  /** Distance to the next slice, or else the slice's thickness, in mm; null where not stated. */
  readonly thickness: number | null;
  /** Distance between slices, and their thickness, in mm; 0 where not stated. */
  readonly stated: readonly [number, number];
  readonly seriesUid: string;
  readonly seriesNumber: number;
  readonly description: string;
  readonly modality: string;
  /** What the same all over a volume: study, series, patient, frame of reference. */
  readonly identity: string;
  /** What tells volumes of one series apart, the likeliest first. */
  readonly hints: readonly string[];
  readonly isLocaliser: boolean;
}

/** A file that should hold slices but cannot be used. */
export interface Unusable {
  readonly file: File;
  readonly path: string;
  readonly problem: Problem;
  /** Series that it says it is of; null where it cannot say so. */
  readonly seriesUid: string | null;
  /** Whether a series may lack a part without it. */
  readonly isPart: boolean;
}

const HEAD = 2 ** 18; // bytes that hold most headers
const LARGEST = 2 ** 31 - 1; // bytes of a file, as far as browsers hold them in one piece
const MOST_PIXELS = 2 ** 26; // of a slice
const MOST_FRAMES = 2 ** 16; // of a file
const LARGEST_NUMBER = 2 ** 31;
const FINEST = 1e-4; // mm
const STRAIGHT = 0.01; // rounded directions are unit vectors at right angles up to this
const NAMED_DICOM = /\.(dcm|dicom|ima)$/i;
const NO_SLICES: Readonly<Record<string, string>> = {
  "1.2.840.10008.1.3.10": "DICOMDIR",
  "1.2.840.10008.5.1.4.1.1.66.4": "Segmentation",
  "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation",
  "1.2.840.10008.5.1.4.1.1.4.2": "MR Spectroscopy",
  "1.2.840.10008.5.1.4.1.1.481.3": "RT Structure Set",
};
const LOCALISERS = ["localizer", "localiser", "scout", "survey", "3-plane", "3 plane", "3plane"];
const IDENTITY: readonly Keyword[] = [
  "SeriesInstanceUID",
  "StudyInstanceUID",
  "FrameOfReferenceUID",
  "PatientID",
  "Modality",
];
const TIMING: readonly Keyword[] = [
  "EffectiveEchoTime",
  "EchoTime",
  "InversionTimes",
  "InversionTime",
  "RepetitionTime",
  "FlipAngle",
];
const HINTS: readonly Keyword[] = [
  "SeriesDescription",
  "ProtocolName",
  "ScanningSequence",
  "SequenceVariant",
  "TemporalPositionIndex",
  "TemporalPositionIdentifier",
  "DiffusionBValue",
  "StackID",
  "FrameType",
  "ImageType",
  "EchoNumbers",
  "SequenceName",
  "AcquisitionNumber",
  "FrameAcquisitionNumber",
  "TriggerTime",
  "NominalCardiacTriggerDelayTime",
  "DiffusionGradientOrientation",
  "ContrastBolusAgent",
  "ConvolutionKernel",
  "SeriesTime",
  "AcquisitionDate",
  "AcquisitionTime",
];
// OIDs of enveloped and encrypted data, as files of secure media begin (PS3.15, D.1)
const ENVELOPED = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07];

/** Return the folder and the name of a dropped file. */
export function pathOf(file: File): string {
  const { _webkitRelativePath: dropped } = file as { _webkitRelativePath?: string };
  return file.webkitRelativePath || dropped || file.name;
}

/** Read the header of a dropped file as a whole. */
export async function headerOf(file: File): Promise<Header> {
  const name = file.name;
  if (file.size === 0) throw new Problem("dicomEmpty", { name });
  for (const length of [HEAD, file.size]) {
    if (length > LARGEST) throw new Problem("dicomTooLarge", { name });
    const head = new Uint8Array(await bytesOf(file, 0, length));
    if (!hasMark(head))
      throw new Problem(isEnveloped(head) ? "dicomEncrypted" : "dicomNone", { name });
    try {
      return readHeader(head);
    } catch (error) {
      if (error instanceof CorruptHeader) {
        throw new Problem("dicomCorrupt", { name, offset: error.offset });
      }
      if (!(error instanceof ShortHeader)) throw error;
    }
  }
  throw new Problem("dicomHeaderCut", { name });
}

/** Read the slices of a file; what cannot be used is returned with the reason. */
export async function slicesOf(file: File): Promise<readonly Slice[] | Unusable> {
  const path = pathOf(file);
  let header: Header | null = null;
  try {
    header = await headerOf(file);
    return await readSlices(file, path, header);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const seriesUid = header?.dataset.text("SeriesInstanceUID") || null;
    const harmless = ["dicomNoImage", "dicomColour"].includes(error.key);
    const suspect = header !== null || error.key !== "dicomNone" || NAMED_DICOM.test(file.name);
    return { file, path, problem: error, seriesUid, isPart: suspect && !harmless };
  }
}

/** What the header says of one frame, wherever it keeps it. */
export class Facts {
  private readonly groups: readonly Dataset[];
  readonly tellsFramesApart: boolean;

  constructor(
    readonly dataset: Dataset,
    frame: number,
  ) {
    const frames = dataset.items("PerFrameFunctionalGroupsSequence");
    this.groups = [
      ...frames.slice(frame, frame + 1),
      ...dataset.items("SharedFunctionalGroupsSequence").slice(0, 1),
    ];
    this.tellsFramesApart = frames.length > 0 || (dataset.numbers("NumberOfFrames")[0] ?? 1) === 1;
  }

  /** Return the data set that holds an attribute of the frame. */
  private home(keyword: Keyword): Dataset {
    const macro = MACROS[keyword];
    const places = macro ? this.groups.flatMap((group) => group.items(macro).slice(0, 1)) : [];
    return places.find((place) => place.has(keyword)) ?? this.dataset;
  }

  has(keyword: Keyword): boolean {
    return this.home(keyword).has(keyword);
  }

  texts(keyword: Keyword): string[] {
    return this.home(keyword).texts(keyword);
  }

  /** Return so many finite numbers, or null where there is no value. */
  numbers(keyword: Keyword, count: number, name: string): number[] | null {
    const numbers = this.home(keyword).numbers(keyword);
    if (!numbers.length) return null;
    if (numbers.length !== count || !numbers.every((x) => Math.abs(x) < LARGEST_NUMBER)) {
      throw new Problem("dicomNumbers", {
        name,
        attribute: keyword,
        value: String(numbers).slice(0, 80),
      });
    }
    return numbers;
  }

  /** Return what an attribute says, as a text that can be compared. */
  word(keyword: Keyword): string {
    const home = this.home(keyword);
    const binary = TAGS[keyword][1] === "FD" || TAGS[keyword][1].startsWith("U");
    const values =
      binary && TAGS[keyword][1] !== "UI" ? home.numbers(keyword) : home.texts(keyword);
    return values.join("\\");
  }

  /** Return the numbers of an attribute to three digits: times that scanners write for one agree. */
  rounded(keyword: Keyword): string {
    return this.home(keyword)
      .numbers(keyword)
      .map((x) => x.toPrecision(3))
      .join("\\");
  }
}

async function readSlices(file: File, path: string, header: Header): Promise<Slice[]> {
  const { dataset, syntax } = header;
  const name = file.name;
  if (syntax === SYNTAXES.deflated) throw new Problem("dicomDeflated", { name });
  checkKind(dataset, name);
  const [rows, columns, frames] = await checkPixels(file, header);
  const slices: Slice[] = [];
  for (let frame = 0; frame < frames; frame++) {
    slices.push(readSlice({ file, path, frame, frames, rows, columns }, new Facts(dataset, frame)));
  }
  return slices;
}

type Place = Pick<Slice, "file" | "path" | "frame" | "frames" | "rows" | "columns">;

function readSlice(place: Place, facts: Facts): Slice {
  const { name } = place.file;
  const position = facts.numbers("ImagePositionPatient", 3, name);
  const orientation = facts.numbers("ImageOrientationPatient", 6, name);
  const spacing = facts.numbers("PixelSpacing", 2, name);
  const imageType = [...facts.texts("FrameType"), ...facts.texts("ImageType")];
  if (imageType.includes("MOSAIC")) throw new Problem("dicomMosaic", { name });
  if (!position || !orientation || !spacing || !facts.tellsFramesApart) {
    throw new Problem("dicomNoPlace", { name });
  }
  checkGeometry(orientation, spacing, name);
  const [slope] = facts.numbers("RescaleSlope", 1, name) ?? [1];
  if (slope === 0) {
    throw new Problem("dicomNumbers", { name, attribute: "RescaleSlope", value: 0 });
  }
  const between = facts.numbers("SpacingBetweenSlices", 1, name)?.[0] ?? 0;
  const thick = facts.numbers("SliceThickness", 1, name)?.[0] ?? 0;
  const description = facts.texts("SeriesDescription").join(" ");
  const says = description.toLowerCase();
  return {
    ...place,
    position,
    orientation,
    spacing,
    thickness: [between, thick].find((distance) => distance >= FINEST) ?? null,
    stated: [between, thick],
    seriesUid: facts.texts("SeriesInstanceUID").join(""),
    seriesNumber: facts.numbers("SeriesNumber", 1, name)?.[0] ?? 0,
    description,
    modality: facts.texts("Modality").join(""),
    identity: IDENTITY.map((keyword) => facts.texts(keyword).join("\\")).join("\n"),
    hints: [
      ...TIMING.map((keyword) => facts.rounded(keyword)),
      ...HINTS.map((keyword) => facts.word(keyword)),
    ],
    isLocaliser: imageType.includes("LOCALIZER") || LOCALISERS.some((word) => says.includes(word)),
  };
}

function checkKind(dataset: Dataset, name: string): void {
  const kind = dataset.text("SOPClassUID") || dataset.text("MediaStorageSOPClassUID");
  if (kind in NO_SLICES) throw new Problem("dicomNoImage", { name, kind: NO_SLICES[kind]! });
  if (!dataset.has("Rows") || !dataset.has("Columns")) {
    throw new Problem("dicomNoImage", { name, kind: dataset.text("Modality") || "?" });
  }
}

/** Refuse, before memory is taken, pixels that the file cannot hold or that cannot be read. */
async function checkPixels(
  file: File,
  { dataset, syntax, pixels }: Header,
): Promise<[number, number, number]> {
  const name = file.name;
  const one = (keyword: Keyword, value: number) => dataset.numbers(keyword)[0] ?? value;
  const [rows, columns, frames] = [one("Rows", 0), one("Columns", 0), one("NumberOfFrames", 1)];
  const [allocated, stored] = [one("BitsAllocated", 0), one("BitsStored", 0)];
  const high = one("HighBit", stored - 1);
  const isPalette = dataset.text("PhotometricInterpretation") === "PALETTE COLOR";
  if (one("SamplesPerPixel", 1) !== 1 || isPalette || allocated === 1)
    throw new Problem("dicomColour", { name });
  if (dataset.has("ModalityLUTSequence")) throw new Problem("dicomLookUpTable", { name });
  if (![8, 16, 32].includes(allocated) || !(stored > 0 && stored <= high + 1 && high < allocated)) {
    throw new Problem("dicomBits", { name, stored, allocated });
  }
  if (
    !(frames >= 1 && frames <= MOST_FRAMES && Number.isInteger(frames)) ||
    rows * columns > MOST_PIXELS
  ) {
    throw new Problem("dicomNumbers", {
      name,
      attribute: "NumberOfFrames × Rows × Columns",
      value: `${frames} × ${rows} × ${columns}`,
    });
  }
  const groups = dataset.items("PerFrameFunctionalGroupsSequence").length;
  if (groups && groups !== frames) {
    throw new Problem("dicomNumbers", {
      name,
      attribute: "NumberOfFrames",
      value: `${frames} (${groups})`,
    });
  }
  if (!(syntax in DECODED)) {
    throw new Problem("dicomCoding", { name, coding: OTHER_CODINGS[syntax] ?? syntax });
  }
  const expected = (rows * columns * frames * allocated) / 8;
  const found = pixels ? Math.max(file.size - pixels.offset, 0) : 0;
  const cut = new Problem("dicomCut", { name, expected, found });
  if (!pixels) throw cut;
  if (pixels.length === null) await checkFragments(file, pixels.offset, frames, cut);
  else if (pixels.length > found || pixels.length < expected) throw cut;
  return [rows, columns, frames];
}

/** Refuse compressed pixels whose fragments do not reach the end that they should have. */
async function checkFragments(
  file: File,
  offset: number,
  frames: number,
  cut: Problem,
): Promise<void> {
  const view = new DataView(await bytesOf(file, offset, file.size));
  let fragments = -1; // the first item is a table of offsets
  for (let at = 0; at + 8 <= view.byteLength; fragments++) {
    const number = view.getUint16(at + 2, true);
    if (view.getUint16(at, true) !== 0xfffe) throw cut;
    if (number === 0xe0dd) {
      if (fragments < frames) throw cut;
      return;
    }
    if (number !== 0xe000) throw cut;
    at += 8 + view.getUint32(at + 4, true);
  }
  throw cut;
}

async function bytesOf(file: File, start: number, end: number): Promise<ArrayBuffer> {
  try {
    return await file.slice(start, end).arrayBuffer();
  } catch {
    throw new Problem("dicomUnreadable", { name: file.name });
  }
}

function checkGeometry(orientation: number[], spacing: number[], name: string): void {
  const [row, column] = [orientation.slice(0, 3), orientation.slice(3)] as [number[], number[]];
  const slant = row.reduce((sum, x, i) => sum + x * column[i]!, 0);
  const errors = [Math.hypot(...row) - 1, Math.hypot(...column) - 1, slant];
  if (errors.some((error) => Math.abs(error) > STRAIGHT)) {
    throw new Problem("dicomNumbers", {
      name,
      attribute: "ImageOrientationPatient",
      value: String(orientation),
    });
  }
  if (Math.min(...spacing) < FINEST) {
    throw new Problem("dicomNumbers", { name, attribute: "PixelSpacing", value: String(spacing) });
  }
}

function isEnveloped(head: Uint8Array): boolean {
  return (
    head[0] === 0x30 &&
    Array.from({ length: 20 }, (_, at) => at).some((at) =>
      ENVELOPED.every((byte, i) => head[at + i] === byte),
    )
  );
}
