/** Volumes and lesions of the mask, and how they changed between two visits. */
import type { Lesion, Load } from "../measure/lesions";
import { decimal, make, message, onLanguage, refill, verbatim, type Words } from "./dom";
import { type Case, caseOf, on, state } from "./state";

const MOST_ROWS = 300;

/** @param go Moves the crosshair of a pane to a voxel of the image. */
export function findingsPanel(go: (pane: 0 | 1, voxel: readonly number[]) => void): HTMLElement {
  const body = make("div", { class: "findings", "data-testid": "findings" });
  const update = () => {
    const one = caseOf();
    refill(body, ...content(one, go));
  };
  on("cases", update);
  on("mask", update);
  onLanguage(update);
  update();
  return body;
}

type Go = (pane: 0 | 1, voxel: readonly number[]) => void;

function content(one: Case | null, go: Go): (HTMLElement | null)[] {
  if (!one?.mask) return [make("p", { class: "hint", text: "noMask" })];
  if (!one.loads) return [make("p", { class: "hint", text: "measuring" })];
  const { loads } = one;
  const colour = (load: Load) => one.mask!.structures[load.value - 1]?.color ?? [128, 128, 128];
  return [
    visits(),
    volumes(loads, colour),
    ...loads.map((load) => (load.lesions.length ? lesions(load, go) : null)),
  ];
}

function head(...words: Words[]): HTMLElement {
  const cells = words.map((text) => make("th", { scope: "col", text }));
  return make("thead", {}, make("tr", {}, ...cells));
}

function number(content: string): HTMLElement {
  return verbatim("td", content, { class: "number" });
}

function volumes(loads: readonly Load[], colour: (load: Load) => readonly number[]): HTMLElement {
  const rows = loads.map((load) => {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = `rgb(${colour(load).join(" ")})`;
    const name = make("th", { scope: "row" }, swatch, verbatim("span", load.label));
    return make(
      "tr",
      {},
      name,
      number(decimal(load.volume, 2)),
      number(String(load.lesions.length)),
    );
  });
  return make(
    "table",
    { "data-testid": "volumes" },
    make("caption", { text: "volumesTitle" }),
    head("columnLabel", "columnVolume", "columnLesions"),
    make("tbody", {}, ...rows),
  );
}

function lesions(load: Load, go: Go): HTMLElement {
  const rows = load.lesions.slice(0, MOST_ROWS).map((lesion) => lesionRow(load, lesion, go));
  const table = make(
    "table",
    { class: "lesions", "data-testid": `lesions-${load.value}` },
    make("caption", { text: message("lesionsTitle", { label: load.label }) }),
    head("columnNumber", "columnSize", "columnDiameter"),
    make("tbody", {}, ...rows),
  );
  const rest = load.lesions.length - MOST_ROWS;
  const more =
    rest > 0 ? make("p", { class: "hint", text: message("moreLesions", { number: rest }) }) : null;
  return make(
    "div",
    {
      class: "scroller",
      tabindex: 0,
      role: "region",
      label: message("lesionsTitle", { label: load.label }),
    },
    table,
    more,
  );
}

function lesionRow(load: Load, lesion: Lesion, go: Go): HTMLElement {
  const visit = () => go(state.active, lesion.nearest);
  const button = make("button", {
    class: "link",
    "data-key": `lesion-${load.value}-${lesion.number}`,
    label: message("goToLesion", { label: load.label, number: lesion.number }),
    on: { click: visit },
  });
  button.textContent = String(lesion.number);
  return make(
    "tr",
    {
      on: {
        click: (event) => {
          if (event.target !== button) visit();
        },
      },
    },
    make("td", {}, button),
    number(decimal(lesion.volume / 1000, lesion.volume < 100 ? 3 : 2)),
    number(decimal(lesion.diameter, 1)),
  );
}

/** What changed from the first visit to the second. */
function visits(): HTMLElement | null {
  const [first, second] = [caseOf(0), caseOf(1)];
  if (!first?.loads || !second?.loads) return null;
  const names = [...new Set([...first.loads, ...second.loads].map(({ label }) => label))];
  const rows = names.map((name) => {
    const [a, b] = [first, second].map(
      ({ loads }) => loads!.find(({ label }) => label === name)?.volume ?? 0,
    ) as [number, number];
    const sign = b > a ? "+" : "";
    return make(
      "tr",
      {},
      verbatim("th", name, { scope: "row" }),
      number(decimal(a, 2)),
      number(decimal(b, 2)),
      number(sign + decimal(b - a, 2)),
      number(a > 0 ? `${sign}${decimal((100 * (b - a)) / a, 1)}` : "–"),
    );
  });
  return make(
    "table",
    { "data-testid": "change" },
    make("caption", { text: "changeTitle" }),
    head(
      "columnLabel",
      message("columnVisit", { number: 1 }),
      message("columnVisit", { number: 2 }),
      "columnDifference",
      "columnPercent",
    ),
    make("tbody", {}, ...rows),
  );
}
