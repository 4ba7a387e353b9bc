/** All words of the page, in English and French. */

import type { Message, Values } from "../problem";
import { app } from "./app";
import { dicom } from "./dicom";
import { image } from "./image";
import { network } from "./network";

export type Language = "en" | "fr";

const en = { ...app.en, ...dicom.en, ...image.en, ...network.en };
const fr: typeof en = { ...app.fr, ...dicom.fr, ...image.fr, ...network.fr };

export type Key = keyof typeof en;

export const TEXTS: Readonly<Record<Language, Readonly<Record<Key, string>>>> = { en, fr };

/** Return a text, with `{name}` in it replaced by values. */
export function text(language: Language, key: Key, values: Values = {}): string {
  return TEXTS[language][key].replaceAll(/\{(\w+)\}/g, (whole, name) =>
    name in values ? String(values[name]) : whole,
  );
}

export function textOf(language: Language, { key, values }: Message): string {
  return text(language, key, values);
}
