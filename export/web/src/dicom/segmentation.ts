/** DICOM out: a mask as a binary segmentation object of its series (PS3.3, A.51 and C.8.20). */
import { version } from "../../package.json";
import { Problem } from "../problem";
import type { Image } from "../volume";
import { isAnatomy } from "./anatomy";
import type { Dataset } from "./dataset";
import { type Grid, heights, place, sorted } from "./geometry";
import { filesOf, nameOf } from "./read";
import { headerOf, type Slice, slicesOf } from "./slices";
import { type Keyword, SYNTAXES, TAGS } from "./tags";

/** What a label of a mask is called and means. */
export interface Segment {
  readonly name: string;
  /** In the mask. */
  readonly value: number;
  /** Red, green and blue, 0 to 255. */
  readonly color: readonly number[];
  /** Null stands for a lesion. */
  readonly code: Code | null;
}

interface Code {
  readonly scheme: string;
  readonly value: string;
  readonly meaning: string;
}

/** What made a mask. */
export interface Maker {
  /** Name of the network; null where a person drew all of it. */
  readonly network: string | null;
  /** SHA-256 of the network's file, where known. */
  readonly sha256?: string;
  /** Whether a person changed what the network answered. */
  readonly edited: boolean;
}

type Item = Record<string, unknown>;

interface Frame {
  /** Of the mask. */
  readonly value: number;
  /** Number of the segment, from 1. */
  readonly segment: number;
  /** Index of the slice. */
  readonly slice: number;
}

interface Instance {
  readonly kind: string;
  readonly uid: string;
}

const SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4";
const IMPLEMENTATION = "2.25.291487105337154193914253208041176926415"; // drawn once, for this page
const UTF_8 = "ISO_IR 192";
const LONGEST = 64; // bytes of a name: DICOM means letters, but not all who check it do
const LONGEST_NUMBER = 16; // letters of a decimal string
const LARGEST_NUMBER = 2 ** 31 - 1;
const SAME_AFFINE = 1e-3; // mm
const LESION: Code = { scheme: "SCT", value: "52988006", meaning: "Lesion" };
/** Of patient and study, as the series states them; those that must be there even if empty first. */
const REQUIRED: readonly Keyword[] = [
  "PatientName",
  "PatientID",
  "PatientBirthDate",
  "PatientSex",
  "StudyID",
  "StudyDate",
  "StudyTime",
  "AccessionNumber",
  "ReferringPhysicianName",
  "PositionReferenceIndicator",
];
const OPTIONAL: readonly Keyword[] = [
  "IssuerOfPatientID",
  "StudyDescription",
  "PatientAge",
  "PatientSize",
  "PatientWeight",
  "PatientIdentityRemoved",
  "DeidentificationMethod",
];
const TRIAL: readonly Keyword[] = [
  "ClinicalTrialSponsorName",
  "ClinicalTrialProtocolID",
  "ClinicalTrialProtocolName",
  "ClinicalTrialSiteID",
  "ClinicalTrialSiteName",
  "ClinicalTrialSubjectID",
  "ClinicalTrialSubjectReadingID",
  "ClinicalTrialTimePointID",
  "ClinicalTrialTimePointDescription",
];
/** Values that each representation allows; a header's others are not passed on (PS3.5, 6.2). */
const ALLOWED: Readonly<Record<string, RegExp>> = {
  AS: /^\d{3}[DWMY]$/,
  CS: /^[A-Z0-9_ ]{1,16}$/,
  DA: /^\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$/,
  DS: /^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/,
  LO: /^[^\\]{0,64}$/,
  PN: /^[^\\]{0,194}$/,
  SH: /^[^\\]{0,16}$/,
  ST: /^[\s\S]{0,1024}$/,
  TM: /^([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?$/,
};
const KEPT = ["PatientName", "PatientID", "AccessionNumber"]; // archives file objects by these

/**
 * Make a binary DICOM segmentation of a mask.
 *
 * Each frame is a slice of a segment that is not empty; of an empty mask, all are there. It lies
 * where its slice does, refers to it, and has its patient, study and frame of reference.
 *
 * @param image What was segmented; its series tells of its slices.
 * @param mask Labels on the grid of the image's volume, z fastest.
 * @returns The file.
 * @throws Problem The image is no DICOM series, its files changed or lack a UID, or the mask has
 *   another size.
 */
export async function writeSegmentation(
  image: Image,
  mask: Uint8Array,
  segments: readonly Segment[],
  maker: Maker,
): Promise<Uint8Array<ArrayBuffer>> {
  const { name } = image;
  const slices = await slicesAgain(image);
  const grid = place(slices, nameOf(slices[0]!));
  checkGrid(image, mask, grid);
  const { dataset } = await headerOf(slices[0]!.file);
  const sources = await sourcesOf(slices, image);
  const frames = framesOf(mask, grid, segments);
  const apart = apartOf(slices);
  const content: Item = {
    ...patientAndStudy(dataset, name),
    ...series(dataset, slices[0]!, maker),
    ...references(sources, slices),
    ...pixels(mask, grid, frames),
    ...dimensions(),
    SegmentationType: "BINARY",
    SegmentsOverlap: "NO",
    ContentLabel: "SEGMENTATION",
    ContentDescription: short(maker.network ? `Made by ${maker.network}` : "Drawn by hand"),
    SegmentSequence: segments.map((segment, i) => described(segment, i + 1, maker)),
    SharedFunctionalGroupsSequence: [measures(slices[0]!, apart)],
    PerFrameFunctionalGroupsSequence: perFrame(frames, slices, sources),
  };
  return encoded(content);
}

async function slicesAgain({ name, series }: Image): Promise<Slice[]> {
  if (!series) throw new Problem("segmentationSource", { name });
  const read = await Promise.all(series.files.map(slicesOf));
  const broken = read.find((one) => "problem" in one);
  if (broken && "problem" in broken) throw broken.problem;
  return sorted((read as (readonly Slice[])[]).flat());
}

function checkGrid({ name, volume }: Image, mask: Uint8Array, { shape, affine }: Grid): void {
  const same =
    volume.shape.every((size, axis) => size === shape[axis]) &&
    mask.length === shape[0] * shape[1] * shape[2] &&
    affine.every((row, i) =>
      row.every((x, j) => Math.abs(x - volume.affine[i]![j]!) <= SAME_AFFINE),
    );
  if (!same) throw new Problem("segmentationGrid", { name });
}

/** Return what the files of slices are, as other objects refer to them. */
async function sourcesOf(slices: readonly Slice[], { name }: Image): Promise<Map<File, Instance>> {
  const sources = new Map<File, Instance>();
  for (const file of filesOf(slices)) {
    const { dataset } = await headerOf(file);
    sources.set(file, {
      kind: needed(dataset, "SOPClassUID", name),
      uid: needed(dataset, "SOPInstanceUID", file.name),
    });
  }
  return sources;
}

function needed(dataset: Dataset, attribute: Keyword, name: string): string {
  const value = dataset.text(attribute);
  if (!value) throw new Problem("segmentationUid", { name, attribute });
  return value;
}

function framesOf(mask: Uint8Array, { shape }: Grid, segments: readonly Segment[]): Frame[] {
  const depth = shape[2];
  const seen = new Set<number>();
  for (let at = 0; at < mask.length; at++) {
    if (mask[at]) seen.add(mask[at]! * depth + (at % depth));
  }
  const all = segments.flatMap(({ value }, i) =>
    Array.from({ length: depth }, (_, slice) => ({ value, segment: i + 1, slice })),
  );
  const filled = all.filter(({ value, slice }) => seen.has(value * depth + slice));
  return filled.length ? filled : all;
}

/** Return the bits of all frames in a row, the first pixel the lowest bit (PS3.5, 8.1.1). */
function pixels(mask: Uint8Array, { shape }: Grid, frames: readonly Frame[]): Item {
  const [columns, rows, depth] = shape;
  const bytes = Math.ceil((columns * rows * frames.length) / 8);
  const bits = new Uint8Array(bytes + (bytes % 2));
  let bit = 0;
  for (const { value, slice } of frames) {
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, bit++) {
        if (mask[(column * rows + row) * depth + slice] === value)
          bits[bit >> 3]! |= 1 << (bit & 7);
      }
    }
  }
  return {
    Rows: rows,
    Columns: columns,
    NumberOfFrames: String(frames.length),
    SamplesPerPixel: 1,
    PhotometricInterpretation: "MONOCHROME2",
    BitsAllocated: 1,
    BitsStored: 1,
    HighBit: 0,
    PixelRepresentation: 0,
    LossyImageCompression: "00",
    PixelData: [bits.buffer],
    _vrMap: { PixelData: "OB" },
  };
}

function patientAndStudy(dataset: Dataset, name: string): Item {
  const sound = (keyword: Keyword): string => {
    const value = dataset.text(keyword);
    const rule = ALLOWED[TAGS[keyword][1]];
    return KEPT.includes(keyword) || rule?.test(value) ? value : "";
  };
  const item: Item = {
    SpecificCharacterSet: UTF_8,
    StudyInstanceUID: needed(dataset, "StudyInstanceUID", name),
  };
  for (const keyword of REQUIRED) item[keyword] = sound(keyword);
  if (!["M", "F", "O"].includes(item.PatientSex as string)) item.PatientSex = "";
  for (const keyword of OPTIONAL) {
    const value = sound(keyword);
    if (value) item[keyword] = value;
  }
  if (TRIAL.some((keyword) => dataset.has(keyword))) {
    for (const keyword of TRIAL) {
      if (dataset.contains(keyword)) item[keyword] = sound(keyword);
    }
  }
  const codes = dataset.items("DeidentificationMethodCodeSequence");
  if (codes.length) {
    item.DeidentificationMethodCodeSequence = codes.map((code) => ({
      CodeValue: code.text("CodeValue"),
      CodingSchemeDesignator: code.text("CodingSchemeDesignator"),
      CodeMeaning: code.text("CodeMeaning"),
    }));
  }
  return item;
}

function series(dataset: Dataset, first: Slice, { network, sha256 }: Maker): Item {
  const now = new Date();
  const two = (value: number) => String(value).padStart(2, "0");
  const date = `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
  const time = `${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
  const beside = 100 * Math.max(first.seriesNumber, 0) + 1;
  return {
    SOPClassUID: SEGMENTATION,
    SOPInstanceUID: newUid(),
    SeriesInstanceUID: newUid(),
    SeriesNumber: String(beside <= LARGEST_NUMBER ? beside : 1),
    SeriesDescription: short(network ? `Segmentation by ${network}` : "Segmentation by hand"),
    InstanceNumber: "1",
    Modality: "SEG",
    ImageType: ["DERIVED", "PRIMARY"],
    Manufacturer: "segjax",
    ManufacturerModelName: short(network ?? "segjax-web"),
    DeviceSerialNumber: sha256 || "segjax-web",
    SoftwareVersions: version,
    FrameOfReferenceUID: dataset.text("FrameOfReferenceUID") || newUid(),
    PresentationLUTShape: "IDENTITY",
    InstanceCreationDate: date,
    InstanceCreationTime: time,
    ContentDate: date,
    ContentTime: time,
  };
}

function references(sources: ReadonlyMap<File, Instance>, slices: readonly Slice[]): Item {
  const all = [...sources.values()].map(reference);
  return {
    SourceImageSequence: all,
    ReferencedSeriesSequence: [
      { SeriesInstanceUID: slices[0]!.seriesUid, ReferencedInstanceSequence: all },
    ],
  };
}

function reference({ kind, uid }: Instance): Item {
  return { ReferencedSOPClassUID: kind, ReferencedSOPInstanceUID: uid };
}

function dimensions(): Item {
  const uid = newUid();
  const dimension = (index: number, group: number, label: string): Item => ({
    DimensionOrganizationUID: uid,
    DimensionIndexPointer: index,
    FunctionalGroupPointer: group,
    DimensionDescriptionLabel: label,
  });
  return {
    DimensionOrganizationSequence: [{ DimensionOrganizationUID: uid }],
    DimensionIndexSequence: [
      dimension(0x0062000b, 0x0062000a, "Referenced Segment Number"),
      dimension(0x00200032, 0x00209113, "Image Position Patient"),
    ],
  };
}

function described(segment: Segment, number: number, { network, sha256, edited }: Maker): Item {
  const code = segment.code ?? LESION;
  const category = isAnatomy(code.scheme, code.value)
    ? coded("SCT", "91723000", "Anatomical Structure")
    : coded("SCT", "49755003", "Morphologically Abnormal Structure");
  const item: Item = {
    SegmentNumber: number,
    SegmentLabel: short(segment.name) || String(segment.value),
    SegmentedPropertyCategoryCodeSequence: [category],
    SegmentedPropertyTypeCodeSequence: [coded(code.scheme, code.value, short(code.meaning))],
    SegmentAlgorithmType: "MANUAL",
    RecommendedDisplayCIELabValue: lab(segment.color),
  };
  if (network === null) return item;
  return {
    ...item,
    SegmentAlgorithmType: edited ? "SEMIAUTOMATIC" : "AUTOMATIC",
    SegmentAlgorithmName: short(network),
    SegmentationAlgorithmIdentificationSequence: [
      {
        AlgorithmFamilyCodeSequence: [coded("DCM", "123110", "Artificial Intelligence")],
        AlgorithmName: short(network),
        AlgorithmVersion: version,
        AlgorithmSource: "segjax",
        ...(sha256 ? { AlgorithmParameters: [`SHA-256=${sha256}`] } : {}),
      },
    ],
  };
}

function measures(first: Slice, apart: number): Item {
  return {
    PlaneOrientationSequence: [{ ImageOrientationPatient: first.orientation.map(decimal) }],
    PixelMeasuresSequence: [
      {
        SliceThickness: decimal(first.stated[1] > 0 ? first.stated[1] : apart),
        SpacingBetweenSlices: decimal(apart),
        PixelSpacing: first.spacing.map(decimal),
      },
    ],
  };
}

/** Return the distance between slices along their normal, in mm. */
function apartOf(slices: readonly Slice[]): number {
  const along = heights(slices);
  const steps = along.length - 1;
  return steps ? (along.at(-1)! - along[0]!) / steps : (slices[0]!.thickness ?? 1);
}

function perFrame(
  frames: readonly Frame[],
  slices: readonly Slice[],
  sources: ReadonlyMap<File, Instance>,
): Item[] {
  const places = [...new Set(frames.map(({ slice }) => slice))].sort((a, b) => a - b);
  return frames.map(({ segment, slice }) => {
    const { file, frame, frames: many, position } = slices[slice]!;
    const source: Item = {
      ...reference(sources.get(file)!),
      SpatialLocationsPreserved: "YES",
      PurposeOfReferenceCodeSequence: [
        coded("DCM", "121322", "Source image for image processing operation"),
      ],
    };
    if (many > 1) source.ReferencedFrameNumber = String(frame + 1);
    return {
      FrameContentSequence: [{ DimensionIndexValues: [segment, places.indexOf(slice) + 1] }],
      PlanePositionSequence: [{ ImagePositionPatient: position.map(decimal) }],
      SegmentIdentificationSequence: [{ ReferencedSegmentNumber: segment }],
      DerivationImageSequence: [
        {
          DerivationCodeSequence: [coded("DCM", "113076", "Segmentation")],
          SourceImageSequence: [source],
        },
      ],
    };
  });
}

async function encoded(content: Item): Promise<Uint8Array<ArrayBuffer>> {
  const { default: dcmjs } = await import("dcmjs");
  dcmjs.log.setLevel("error");
  const { DicomMetaDictionary, DicomDict } = dcmjs.data;
  const file = new DicomDict(
    DicomMetaDictionary.denaturalizeDataset({
      FileMetaInformationVersion: new Uint8Array([0, 1]).buffer,
      MediaStorageSOPClassUID: SEGMENTATION,
      MediaStorageSOPInstanceUID: content.SOPInstanceUID,
      TransferSyntaxUID: SYNTAXES.explicit,
      ImplementationClassUID: IMPLEMENTATION,
      ImplementationVersionName: `segjax ${version}`.slice(0, 16),
    }),
  );
  file.dict = DicomMetaDictionary.denaturalizeDataset(content);
  return new Uint8Array(file.write());
}

function coded(scheme: string, value: string, meaning: string): Item {
  return { CodeValue: value, CodingSchemeDesignator: scheme, CodeMeaning: meaning };
}

/** Return a UID of a random UUID (PS3.5, B.2). */
function newUid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return `2.25.${bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n)}`;
}

/** Return what DICOM's short texts hold of a name. */
function short(text: string): string {
  const line = text.replaceAll("\\", "/").split(/\s+/).join(" ").trim();
  const bytes = new TextEncoder().encode(line).subarray(0, LONGEST);
  return new TextDecoder().decode(bytes, { stream: true }).trim(); // without half a letter
}

/** Return a number as a decimal string of DICOM. */
function decimal(number: number): string {
  for (let digits = 15; ; digits--) {
    const text = String(Number(number.toPrecision(digits)));
    if (text.length <= LONGEST_NUMBER) return text;
  }
}

/** Return a colour in CIE L*a*b* as DICOM codes it, of sRGB and D65 (PS3.3, C.10.7.1.1). */
function lab(color: readonly number[]): number[] {
  const [r, g, b] = color.map((value) => {
    const c = value / 255;
    return 100 * (c > 0.04045 ? ((c + 0.055) / 1.055) ** 2.4 : c / 12.92);
  }) as [number, number, number];
  const root = (c: number) => (c >= 216 / 24389 ? Math.cbrt(c) : (841 / 108) * c + 4 / 29);
  const x = root((r * 0.4124 + g * 0.3576 + b * 0.1805) / 95.047);
  const y = root((r * 0.2126 + g * 0.7152 + b * 0.0722) / 100);
  const z = root((r * 0.0193 + g * 0.1192 + b * 0.9505) / 108.883);
  const scaled = [(116 * y - 16) / 100, (500 * (x - y) + 128) / 255, (200 * (y - z) + 128) / 255];
  return scaled.map((share) => Math.round(Math.min(1, Math.max(0, share)) * 0xffff));
}
