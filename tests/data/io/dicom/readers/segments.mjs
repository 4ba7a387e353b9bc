// Reads a DICOM segmentation with dcmjs, and prints each frame: its segment, place and pixels.
import { readFileSync } from "node:fs";
import dcmjs from "dcmjs";

const { BitArray, DicomMessage, DicomMetaDictionary } = dcmjs.data;
dcmjs.log.setLevel("error");

const { buffer } = new Uint8Array(readFileSync(process.argv[2]));
const data = DicomMetaDictionary.naturalizeDataset(DicomMessage.readFile(buffer).dict);
const first = (sequence) => [sequence].flat()[0];
const shared = first(data.SharedFunctionalGroupsSequence);
const pixels = BitArray.unpack(first(data.PixelData));
const size = data.Rows * data.Columns;

const frames = [data.PerFrameFunctionalGroupsSequence].flat().map((group, n) => {
  const find = (name) => first(group[name] ?? shared[name]);
  const source = first(find("DerivationImageSequence").SourceImageSequence);
  const frame = pixels.slice(n * size, (n + 1) * size);
  return {
    segment: find("SegmentIdentificationSequence").ReferencedSegmentNumber,
    position: find("PlanePositionSequence").ImagePositionPatient,
    orientation: find("PlaneOrientationSequence").ImageOrientationPatient,
    spacing: find("PixelMeasuresSequence").PixelSpacing,
    source: [source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber ?? null],
    pixels: [...frame].flatMap((value, at) =>
      value ? [[at % data.Columns, Math.floor(at / data.Columns)]] : []),
  };
});
const labels = [data.SegmentSequence].flat().map((segment) => segment.SegmentLabel);
console.log(JSON.stringify({ labels, frames }));
