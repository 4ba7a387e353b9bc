/** Elements, and the words on them in the page's language. */
import type { Message, Values } from "../problem";
import { type Key, type Language, text, textOf } from "../text";
import { ICONS, type IconName } from "./icons";

/** Words for people: a key of the tables, a message, or what a function returns when it is asked. */
export type Words = Key | Message | (() => string);

type Place = "text" | "aria-label" | "title" | "alt";
type Handlers = { [E in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[E]) => void };
type Attribute = string | number | boolean | null | undefined;

interface Options {
  readonly text?: Words;
  readonly label?: Words;
  readonly title?: Words;
  readonly on?: Handlers;
  readonly [attribute: string]: Attribute | Words | Handlers;
}

let current: Language = "en";
const said = new WeakMap<Element, Map<Place, Words>>();
const listeners = new Set<() => void>();

export function language(): Language {
  return current;
}

/** Say all words of the document in another language. */
export function setLanguage(next: Language): void {
  current = next;
  document.documentElement.lang = next;
  for (const node of document.querySelectorAll("[data-said]")) {
    for (const [place, words] of said.get(node) ?? []) put(node, place, words);
  }
  for (const listener of listeners) listener();
}

/** Call a function whenever the language changes. */
export function onLanguage(listener: () => void): void {
  listeners.add(listener);
}

/** Return words in the page's language. */
export function phrase(words: Words, values: Values = {}): string {
  if (typeof words === "function") return words();
  return typeof words === "string" ? text(current, words, values) : textOf(current, words);
}

/** Return a message of the tables with its values. */
export function message(key: Key, values: Values = {}): Message {
  return { key, values };
}

/** Say words on an element, now and after each change of language. */
export function say(node: Element, words: Words, place: Place = "text"): void {
  const places = said.get(node) ?? new Map<Place, Words>();
  said.set(node, places.set(place, words));
  node.setAttribute("data-said", "");
  put(node, place, words);
}

function put(node: Element, place: Place, words: Words): void {
  if (place === "text") node.textContent = phrase(words);
  else node.setAttribute(place, phrase(words));
}

/** Make an element: attributes, words, listeners, children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  options: Options = {},
  ...children: (Node | null)[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  const { text: words, label, title, on, ...attributes } = options;
  if (words) say(node, words);
  if (label) say(node, label, "aria-label");
  if (title) say(node, title, "title");
  for (const [name, value] of Object.entries(attributes))
    setAttribute(node, name, value as Attribute);
  for (const [event, handler] of Object.entries(on ?? {}))
    node.addEventListener(event, handler as EventListener);
  node.append(...children.filter((child) => child !== null));
  return node;
}

function setAttribute(node: Element, name: string, value: Attribute): void {
  if (value === false || value === null || value === undefined) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : String(value));
}

/** Return an element with a text that is nobody's to translate: a name, a number. */
export function verbatim<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  content: string,
  options: Options = {},
): HTMLElementTagNameMap[K] {
  const node = make(tag, options);
  node.textContent = content;
  return node;
}

/**
 * Replace an element's children. The focus stays on the one with the same `data-key`, and details
 * stay open.
 */
export function refill(node: Element, ...children: (Node | null)[]): void {
  const focused = node.contains(document.activeElement) ? document.activeElement : null;
  const key = focused?.getAttribute("data-key");
  const open = [...node.querySelectorAll("details[open][data-key]")];
  node.replaceChildren(...children.filter((child) => child !== null));
  for (const { dataset } of open as HTMLDetailsElement[]) {
    const again = node.querySelector(`details[data-key="${CSS.escape(dataset.key!)}"]`);
    again?.setAttribute("open", "");
  }
  if (!focused || focused.isConnected) return;
  const again = key ? node.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`) : null;
  const first = node.querySelector<HTMLElement>("button:not(:disabled), input, select, a[href]");
  (again ?? first ?? node.closest<HTMLElement>("[tabindex]"))?.focus();
}

const SVG = "http://www.w3.org/2000/svg";

/** Return an icon in the colour of the text. */
export function icon(name: IconName): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", ICONS[name]);
  svg.append(line);
  return svg;
}

/** Format a number in the page's language. */
export function decimal(value: number, digits: number): string {
  return value.toLocaleString(current, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/** Hand a file to the person, under a name. */
export function download(name: string, content: Blob): void {
  const address = URL.createObjectURL(content);
  const link = make("a", { href: address, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
