/** Reads the elements of a DICOM file up to its pixels (PS3.5, chapter 7; PS3.10, chapter 7). */
import { type Keyword, SYNTAXES, TAGS } from "./tags";

interface Element {
  readonly vr: string;
  readonly bytes: Uint8Array;
  /** Of a sequence. */
  readonly items: readonly Dataset[];
}

/** Where the value of the pixel data lies, in bytes; the length is null of compressed fragments. */
export interface PixelData {
  readonly offset: number;
  readonly length: number | null;
}

export interface Header {
  readonly dataset: Dataset;
  readonly syntax: string;
  readonly pixels: PixelData | null;
}

/** The header is none that DICOM allows; `offset` is the byte where that shows. */
export class CorruptHeader extends Error {
  constructor(readonly offset: number) {
    super(`at byte ${offset}`);
  }
}

/** The header goes on after the bytes that are at hand. */
export class ShortHeader extends Error {}

const UNDEFINED = 0xffffffff;
const ITEM = 0xfffee000;
const END_OF_ITEM = 0xfffee00d;
const END_OF_SEQUENCE = 0xfffee0dd;
const DEEPEST = 16;
const PREAMBLE = 128;
const LONG = new Set([
  "OB",
  "OD",
  "OF",
  "OL",
  "OV",
  "OW",
  "SQ",
  "SV",
  "UC",
  "UN",
  "UR",
  "UT",
  "UV",
]);
const SEQUENCES = new Set<number>(
  Object.values(TAGS).flatMap(([tag, vr]) => (vr === "SQ" ? [tag] : [])),
);
const ONE_TEXT = new Set(["LT", "ST", "UT"]);
const LOCAL_TEXT = new Set(["LO", "LT", "PN", "SH", "ST", "UC", "UT"]);
const WIDTHS: Readonly<Record<string, number>> = { US: 2, SS: 2, UL: 4, SL: 4, FL: 4, FD: 8 };
const CHARACTER_SETS: Readonly<Record<string, string>> = {
  "ISO_IR 100": "iso-8859-1",
  "ISO_IR 101": "iso-8859-2",
  "ISO_IR 109": "iso-8859-3",
  "ISO_IR 110": "iso-8859-4",
  "ISO_IR 144": "iso-8859-5",
  "ISO_IR 127": "iso-8859-6",
  "ISO_IR 126": "iso-8859-7",
  "ISO_IR 138": "iso-8859-8",
  "ISO_IR 148": "iso-8859-9",
  "ISO_IR 203": "iso-8859-15",
  "ISO_IR 166": "windows-874",
  "ISO_IR 13": "shift_jis",
  "ISO_IR 87": "iso-2022-jp",
  "ISO_IR 159": "iso-2022-jp",
  "ISO_IR 149": "euc-kr",
  "ISO_IR 58": "gb2312",
  "ISO_IR 192": "utf-8",
  GB18030: "gb18030",
  GBK: "gbk",
};
const LATIN = new TextDecoder("iso-8859-1");
// biome-ignore lint/suspicious/noControlCharactersInRegex: they begin the escapes of ISO 2022
const CODE_SWITCH = /\u001b[()$]+[\u0020-\u007e]/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are left out
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/g;

/** The elements of a header, or of an item of a sequence. */
export class Dataset {
  private readonly elements = new Map<number, Element>();

  constructor(
    private readonly little: boolean,
    private readonly parent: Dataset | null,
  ) {}

  set(tag: number, element: Element): void {
    this.elements.set(tag, element);
  }

  /** Say whether an element is there, with or without a value. */
  contains(keyword: Keyword): boolean {
    return this.find(keyword) !== undefined;
  }

  /** Say whether an element is there with a value. */
  has(keyword: Keyword): boolean {
    return (this.find(keyword)?.bytes.length ?? 0) > 0 || this.items(keyword).length > 0;
  }

  /** Return the items of a sequence. */
  items(keyword: Keyword): readonly Dataset[] {
    return this.find(keyword)?.items ?? [];
  }

  /** Return the values of an element as texts, without padding and control characters. */
  texts(keyword: Keyword): string[] {
    const element = this.find(keyword);
    if (!element?.bytes.length) return [];
    const [, vr] = TAGS[keyword];
    const decoder = LOCAL_TEXT.has(vr) ? this.decoder() : LATIN;
    const whole = decoder.decode(element.bytes).replace(CODE_SWITCH, "");
    const values = ONE_TEXT.has(vr) ? [whole] : whole.split("\\");
    return values.map((value) => value.replace(CONTROL, " ").trim());
  }

  text(keyword: Keyword): string {
    return this.texts(keyword)[0] ?? "";
  }

  /** Return the values of an element as numbers; NaN stands for what is none. */
  numbers(keyword: Keyword): number[] {
    const [, vr] = TAGS[keyword];
    const width = WIDTHS[vr];
    if (!width) {
      const texts = this.texts(keyword);
      return texts.every((text) => text === "")
        ? []
        : texts.map((text) => (text ? Number(text) : Number.NaN));
    }
    const bytes = this.find(keyword)?.bytes ?? new Uint8Array();
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return Array.from({ length: Math.floor(bytes.length / width) }, (_, i) => {
      if (vr === "FD") return view.getFloat64(i * width, this.little);
      return width === 2
        ? view.getUint16(i * width, this.little)
        : view.getUint32(i * width, this.little);
    });
  }

  private find(keyword: Keyword): Element | undefined {
    return this.elements.get(TAGS[keyword][0]);
  }

  private decoder(): TextDecoder {
    const own = this.elements.get(TAGS.SpecificCharacterSet[0]);
    if (!own) return this.parent?.decoder() ?? LATIN;
    const terms = LATIN.decode(own.bytes).replaceAll("ISO 2022 IR", "ISO_IR").split("\\");
    const known = terms.map((term) => CHARACTER_SETS[term.replaceAll("\0", "").trim()]);
    return new TextDecoder(known.findLast((label) => label) ?? "iso-8859-1");
  }
}

/** Say whether a file begins as DICOM files do: with a preamble and DICOM's mark. */
export function hasMark(head: Uint8Array): boolean {
  return LATIN.decode(head.subarray(PREAMBLE, PREAMBLE + 4)) === "DICM";
}

/**
 * Read the header of a file that has DICOM's mark.
 *
 * @param head Its first bytes.
 * @throws ShortHeader where the header needs more of them; CorruptHeader where it is none.
 */
export function readHeader(head: Uint8Array): Header {
  const meta = new Reader(head, true, true);
  meta.at = PREAMBLE + 4;
  const facts = meta.dataset(head.length, null, 0, (tag) => tag >>> 16 !== 2);
  const syntax = facts.text("TransferSyntaxUID");
  if (!syntax) throw new CorruptHeader(meta.at);
  if (syntax === SYNTAXES.deflated) return { dataset: facts, syntax, pixels: null };
  const reader = new Reader(head, syntax !== SYNTAXES.bigEndian, syntax !== SYNTAXES.implicit);
  reader.at = meta.at;
  const dataset = reader.dataset(head.length, facts, 0, (tag) => tag === TAGS.PixelData[0]);
  return { dataset, syntax, pixels: reader.pixelData() };
}

class Reader {
  at = 0;
  private readonly view: DataView;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly little: boolean,
    private explicit: boolean,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Read elements up to `end`, the end of an item, or one that `stop` names. */
  dataset(
    end: number,
    parent: Dataset | null,
    depth: number,
    stop?: (tag: number) => boolean,
  ): Dataset {
    if (depth > DEEPEST) throw new CorruptHeader(this.at);
    const dataset = new Dataset(this.little, parent);
    while (this.at < end) {
      const start = this.at;
      const tag = this.tag();
      if (stop?.(tag)) {
        this.at = start;
        break;
      }
      if (tag === END_OF_ITEM && depth > 0) {
        this.at += 4;
        break;
      }
      if (tag >>> 16 === 0xfffe) throw new CorruptHeader(start);
      dataset.set(tag, this.element(tag, dataset, depth));
    }
    if (this.at > end) throw new CorruptHeader(this.at);
    return dataset;
  }

  /** Read where the pixel data lies, if the reader stands before it. */
  pixelData(): PixelData | null {
    if (this.at >= this.bytes.length) return null;
    this.tag();
    const { length } = this.lead();
    return { offset: this.at, length: length === UNDEFINED ? null : length };
  }

  private element(tag: number, dataset: Dataset, depth: number): Element {
    const { vr, length } = this.lead();
    const isSequence = vr === "SQ" || (!this.explicit && SEQUENCES.has(tag));
    if (length === UNDEFINED || isSequence) {
      const items =
        vr === "UN"
          ? this.implicitly(() => this.items(length, dataset, depth))
          : this.items(length, dataset, depth);
      return { vr: "SQ", bytes: new Uint8Array(), items };
    }
    this.need(length);
    const bytes = this.bytes.subarray(this.at, this.at + length);
    this.at += length;
    return { vr, bytes, items: [] };
  }

  private items(length: number, parent: Dataset, depth: number): Dataset[] {
    const end = length === UNDEFINED ? this.bytes.length : this.at + length;
    if (end > this.bytes.length) throw new ShortHeader();
    const items: Dataset[] = [];
    while (this.at < end) {
      const start = this.at;
      const tag = this.tag();
      const size = this.uint32();
      if (tag === END_OF_SEQUENCE) return items;
      if (tag !== ITEM) throw new CorruptHeader(start);
      if (size !== UNDEFINED) this.need(size);
      const last = size === UNDEFINED ? end : this.at + size;
      if (last > end) throw new CorruptHeader(start);
      items.push(this.dataset(last, parent, depth + 1));
    }
    if (length === UNDEFINED) throw new ShortHeader();
    return items;
  }

  /** What stands in an element of unknown representation is coded implicitly (PS3.5, 6.2.2). */
  private implicitly<T>(read: () => T): T {
    const before = this.explicit;
    this.explicit = false;
    const result = read();
    this.explicit = before;
    return result;
  }

  /** Read the representation and the length that follow a tag. */
  private lead(): { vr: string; length: number } {
    if (!this.explicit) return { vr: "", length: this.uint32() };
    this.need(4);
    const vr = String.fromCharCode(this.bytes[this.at]!, this.bytes[this.at + 1]!);
    if (!/^[A-Z]{2}$/.test(vr)) throw new CorruptHeader(this.at);
    if (LONG.has(vr)) {
      this.at += 4;
      return { vr, length: this.uint32() };
    }
    this.at += 4;
    return { vr, length: this.view.getUint16(this.at - 2, this.little) };
  }

  private tag(): number {
    this.need(4);
    const group = this.view.getUint16(this.at, this.little);
    const number = this.view.getUint16(this.at + 2, this.little);
    this.at += 4;
    return group * 0x10000 + number;
  }

  private uint32(): number {
    this.need(4);
    this.at += 4;
    return this.view.getUint32(this.at - 4, this.little);
  }

  private need(length: number): void {
    if (this.at + length > this.bytes.length) throw new ShortHeader();
  }
}
