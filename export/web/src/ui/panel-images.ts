/** The cases that are open, and ways to open more. */
import { confirmed } from "./dialogs";
import { icon, make, message, refill, verbatim } from "./dom";
import { type Target, take } from "./intake";
import {
  type Case,
  caseById,
  caseOf,
  on,
  removeCase,
  setActive,
  showCase,
  state,
  updateCase,
} from "./state";

/** Return a button that lets people choose files or a folder. */
export function opener(
  words: "openFiles" | "openFolder" | "addSequence" | "openBeside",
  target: Target,
  options: Record<string, string> = {},
): HTMLElement {
  const folder = words === "openFolder";
  const input = make("input", {
    type: "file",
    multiple: true,
    webkitdirectory: folder,
    class: "visually-hidden",
    tabindex: -1,
    "aria-hidden": "true",
    "data-testid": `input-${words}`,
    on: {
      change: () => {
        take([...(input.files ?? [])], target);
        input.value = "";
      },
    },
  });
  const button = make(
    "button",
    { "data-key": words, ...options, on: { click: () => input.click() } },
    icon(words === "openBeside" ? "beside" : folder ? "folder" : "file"),
    make("span", { text: words }),
  );
  return make("span", { class: "opener" }, button, input);
}

export function imagesPanel(): HTMLElement {
  const list = make("ul", { class: "cases", label: "openCases" });
  const more = make("div", { class: "buttons wrap" });
  const update = () => {
    refill(list, ...state.cases.map(row));
    const files = opener("openFiles", "new");
    if (!more.childElementCount) more.append(files, opener("openFolder", "new"));
    const extra = [...more.querySelectorAll(".for-case")];
    if (state.cases.length && !extra.length) {
      const [add, beside] = [opener("addSequence", "add"), opener("openBeside", "beside")];
      for (const node of [add, beside]) node.classList.add("for-case");
      more.append(add, beside);
    } else if (!state.cases.length) for (const node of extra) node.remove();
  };
  on("cases", update);
  on("mask", update);
  update();
  return make("div", {}, list, more);
}

function row(one: Case): HTMLElement {
  const pane = state.panes.indexOf(one.id);
  const current = caseOf()?.id === one.id;
  const name = make(
    "button",
    {
      class: "case-name",
      "aria-current": current ? "true" : null,
      "data-key": `case-${one.id}`,
      on: {
        click: () => (pane >= 0 ? setActive(pane === 1 ? 1 : 0) : showCase(one.id, state.active)),
      },
    },
    verbatim("span", one.name, { class: "name" }),
    pane >= 0 && state.panes[1] !== null
      ? make("span", { class: "badge", text: message("visitNumber", { number: pane + 1 }) })
      : null,
    one.mask ? make("span", { class: "badge mask", text: one.unsaved ? "edited" : "mask" }) : null,
  );
  const beside =
    pane < 0 && state.panes[0] !== null
      ? make(
          "button",
          {
            class: "icon-only quiet",
            label: message("showBeside", { name: one.name }),
            title: message("showBeside", { name: one.name }),
            "data-key": `beside-${one.id}`,
            on: { click: () => showCase(one.id, 1) },
          },
          icon("beside"),
        )
      : null;
  const close = make(
    "button",
    {
      class: "icon-only quiet",
      label: message("closeCase", { name: one.name }),
      title: message("closeCase", { name: one.name }),
      "data-key": `close-${one.id}`,
      on: { click: () => leave(one.id) },
    },
    icon("close"),
  );
  return make(
    "li",
    { class: current ? "current" : "" },
    make("div", { class: "row" }, name, beside, close),
    current ? sequences(one) : null,
  );
}

function sequences(one: Case): HTMLElement {
  const [nx, ny, nz] = one.images[0]!.volume.shape;
  const spacing = [0, 1, 2].map((axis) =>
    Math.hypot(...[0, 1, 2].map((line) => one.images[0]!.volume.affine[line]![axis]!)),
  );
  const about = verbatim(
    "p",
    `${nx} × ${ny} × ${nz} · ${spacing.map((size) => +size.toFixed(2)).join(" × ")} mm`,
    { class: "fine" },
  );
  if (one.images.length < 2) return about;
  const choices = one.images.map(({ name }, i) => {
    const radio = make("input", {
      type: "radio",
      name: `sequence-${one.id}`,
      checked: i === one.shown,
      "data-key": `sequence-${one.id}-${i}`,
      on: { change: () => updateCase(one.id, { shown: i }) },
    });
    return make("label", { class: "choice" }, radio, verbatim("span", name, { class: "name" }));
  });
  return make("fieldset", {}, make("legend", { text: "shownSequence" }), ...choices, about);
}

async function leave(id: number): Promise<void> {
  const one = caseById(id);
  if (!one) return;
  if (one.unsaved && !(await confirmed("closeUnsaved", { name: one.name }))) return;
  removeCase(id);
}
