/** Tables with the columns of `volumes.csv` and `lesions.csv` of `segjax predict`. */
import type { Load } from "../measure/lesions";
import { rounded } from "./numbers";

type Cell = string | number;

const VOLUMES = ["case", "label", "volume", "unit", "lesions", "largest"];
const LESIONS = [
  ...["case", "label", "lesion", "voxels", "volume", "unit", "x", "y", "z", "diameter"],
];

/** Return a row for each label: its volume and that of its largest lesion in ml, its lesions. */
export function volumesCsv(name: string, loads: readonly Load[]): string {
  const rows = loads.map(({ label, volume, lesions }) => {
    const largest = lesions.length ? lesions[0].volume / 1e3 : 0;
    return [name, label, rounded(volume, 6), "ml", lesions.length, rounded(largest, 6)];
  });
  return table(VOLUMES, rows);
}

/** Return a row for each lesion: volume in mm³, centre (RAS) and longest diameter in mm. */
export function lesionsCsv(name: string, loads: readonly Load[]): string {
  const rows = loads.flatMap(({ label, lesions }) =>
    lesions.map(({ number, voxels, volume, centre, diameter }) => {
      const place = centre.map((coordinate) => rounded(coordinate, 2));
      const size = [number, voxels, rounded(volume, 4), "mm3"];
      return [name, label, ...size, ...place, rounded(diameter, 2)];
    }),
  );
  return table(LESIONS, rows);
}

function table(columns: readonly string[], rows: readonly (readonly Cell[])[]): string {
  return [columns, ...rows].map((row) => `${row.map(written).join(",")}\n`).join("");
}

/** Quote a cell where it needs to be; text that a spreadsheet would run as a formula is marked. */
function written(cell: Cell): string {
  const text = String(cell);
  const isFormula = /^[=+\-@\t\r]/.test(text) && !Number.isFinite(Number(text));
  const safe = isFormula ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
