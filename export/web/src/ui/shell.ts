/** The page around the images: header, panels, drop zones. */
import type { Language } from "../text";
import { help } from "./dialogs";
import { icon, language, make, onLanguage, phrase, say, setLanguage, type Words } from "./dom";
import { dropped } from "./files";
import { type Target, take } from "./intake";
import { notices, statusLine, tell } from "./notices";
import { displayPanel } from "./panel-display";
import { findingsPanel } from "./panel-findings";
import { imagesPanel, opener } from "./panel-images";
import { networkPanel } from "./panel-network";
import { savePanel } from "./panel-save";
import { Stage } from "./stage";
import { caseOf, on, state } from "./state";

/** Build the page. */
export function build(root: HTMLElement): void {
  const stage = new Stage();
  const go = (pane: 0 | 1, voxel: readonly number[]) => stage.panes[pane].viewer?.goTo(voxel);
  const main = make(
    "main",
    { id: "images", tabindex: -1 },
    welcome(),
    stage.element,
    notices(),
    zones(),
  );
  const aside = make(
    "aside",
    { class: "side", label: "panels" },
    panel("images", "panelImages", imagesPanel()),
    panel("network", "panelNetwork", networkPanel()),
    panel("findings", "panelFindings", findingsPanel(go)),
    panel("display", "panelDisplay", displayPanel(stage)),
    panel("save", "panelSave", savePanel(stage)),
  );
  root.replaceChildren(header(), main, aside);
  const show = () => document.body.classList.toggle("empty", state.cases.length === 0);
  on("cases", show);
  show();
  listenForFiles();
  window.addEventListener("beforeunload", (event) => {
    if (state.cases.some(({ unsaved }) => unsaved)) event.preventDefault();
  });
  const title = () => {
    const name = caseOf()?.name;
    document.title = name ? `${name} · segjax` : phrase("pageTitle");
  };
  on("cases", title);
  onLanguage(title);
  title();
}

function panel(id: string, words: Words, body: HTMLElement): HTMLElement {
  const heading = make("h2", { id: `panel-${id}`, text: words });
  return make(
    "section",
    { class: `panel panel-${id}`, "aria-labelledby": `panel-${id}` },
    heading,
    body,
  );
}

function header(): HTMLElement {
  const skip = make("a", { href: "#images", class: "skip", text: "skipToImages" });
  const brand = make("h1", { class: "brand" });
  brand.append(document.createTextNode("segjax"));
  const tongue = make("button", {
    class: "quiet",
    "data-testid": "language",
    on: { click: () => switchLanguage(language() === "en" ? "fr" : "en") },
  });
  const name = () => {
    tongue.textContent = language() === "en" ? "Français" : "English";
    tongue.lang = language() === "en" ? "fr" : "en";
  };
  onLanguage(name);
  name();
  return make(
    "header",
    { class: "top" },
    skip,
    brand,
    make("span", { class: "privacy", text: "privacy" }),
    statusLine(),
    make("span", { class: "spring" }),
    tongue,
    themeButton(),
    make("button", {
      class: "quiet",
      text: "help",
      "data-testid": "help",
      on: { click: () => help() },
    }),
  );
}

const THEME = "segjax-theme";
const LANGUAGE = "segjax-language";

function stored(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // storage is closed to the page
  }
}

function store(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // the choice holds until the page is closed
  }
}

function themeButton(): HTMLElement {
  const button = make("button", { class: "icon-only quiet", "data-testid": "theme" });
  const show = () => {
    const dark = document.documentElement.dataset.theme === "dark";
    button.replaceChildren(icon(dark ? "sun" : "moon"));
    for (const place of ["aria-label", "title"] as const)
      say(button, dark ? "lightTheme" : "darkTheme", place);
  };
  button.addEventListener("click", () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    store(THEME, next);
    show();
  });
  show();
  return button;
}

/** Take theme and language as they were chosen before, or as the browser has them. */
export function applyPreferences(): void {
  const dark = matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
  document.documentElement.dataset.theme = stored(THEME) ?? dark;
  const french = navigator.language.toLowerCase().startsWith("fr") ? "fr" : "en";
  setLanguage((stored(LANGUAGE) ?? french) === "fr" ? "fr" : "en");
}

/** Speak a session's language, unless people chose another. */
export function suggestLanguage(wanted: string): void {
  if (stored(LANGUAGE) === null) setLanguage(wanted === "fr" ? "fr" : "en");
}

function switchLanguage(next: Language): void {
  store(LANGUAGE, next);
  setLanguage(next);
}

function welcome(): HTMLElement {
  return make(
    "section",
    { class: "welcome", label: "welcomeTitle" },
    make("h2", { text: "welcomeTitle" }),
    make("p", { text: "welcomeText" }),
    make(
      "div",
      { class: "buttons" },
      opener("openFiles", "new", { class: "primary", "data-testid": "open-first" }),
      opener("openFolder", "new"),
    ),
    make("p", { class: "hint", text: "welcomePrivacy" }),
    make("p", { class: "hint", text: "notForDiagnosis" }),
  );
}

/** Where dropped files go, shown while they are held over the page. */
function zones(): HTMLElement {
  const zone = (target: Target, words: Words) =>
    make("div", { class: "zone", "data-target": target, text: words });
  return make(
    "div",
    { class: "zones", hidden: true, "aria-hidden": "true" },
    zone("new", "dropNew"),
    zone("add", "dropAdd"),
    zone("beside", "dropBeside"),
  );
}

function listenForFiles(): void {
  const all = document.querySelector<HTMLElement>(".zones")!;
  let leave = 0;
  const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  const zoneAt = (event: DragEvent) =>
    (event.target as Element | null)?.closest?.<HTMLElement>(".zone") ?? null;
  window.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    clearTimeout(leave);
    all.hidden = false;
    for (const zone of all.children) zone.classList.toggle("over", zone === zoneAt(event));
  });
  const hide = () => {
    all.hidden = true;
  };
  window.addEventListener("dragleave", () => {
    clearTimeout(leave);
    leave = window.setTimeout(hide, 150);
  });
  window.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    const target = (zoneAt(event)?.dataset.target ?? "new") as Target;
    hide();
    dropped(event.dataTransfer!).then((files) => take(files, target), tell);
  });
  window.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) take(files);
  });
}
