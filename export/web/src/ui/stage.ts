/** The images: tools, one or two panes, what is at the crosshair. */
import { across, type Layout } from "../view/planes";
import { help } from "./dialogs";
import {
  decimal,
  icon,
  make,
  message,
  onLanguage,
  phrase,
  refill,
  say,
  verbatim,
  type Words,
} from "./dom";
import type { IconName } from "./icons";
import { tell } from "./notices";
import { Pane } from "./pane";
import { caseOf, on, setDisplay, setEdit, state } from "./state";

const LAYOUTS = [
  ["all", "layoutAll", "1"],
  ["axial", "planeAxial", "2"],
  ["coronal", "planeCoronal", "3"],
  ["sagittal", "planeSagittal", "4"],
  ["render", "planeRender", "5"],
] as const;
const TOOLS = [
  ["crosshair", "toolCrosshair", "n"],
  ["brush", "toolBrush", "b"],
  ["eraser", "toolEraser", "e"],
] as const satisfies readonly (readonly [IconName, string, string])[];

export class Stage {
  /** Called after the window of intensities changed. */
  onWindow: () => void = () => {};
  readonly panes = [new Pane(0), new Pane(1)] as const;
  readonly element: HTMLElement;
  private readonly readout = make("output", {
    id: "readout",
    class: "readout",
    "aria-live": "off",
  });
  private readonly slices = make("div", { class: "slices" });
  private readonly range = make("input", {
    type: "range",
    ...{ min: 1, max: 40, step: 1, value: state.edit.size, "data-key": "brush-size" },
    label: "brushSize",
    on: { input: () => setEdit({ size: Number(this.range.value) }) },
  });
  private readonly size = make("span", {
    class: "size",
    text: message("millimetres", { number: state.edit.size }),
  });
  private edited = "";
  private readonly toolbar = make("div", {
    class: "toolbar",
    role: "toolbar",
    label: "tools",
  });

  constructor() {
    this.element = make(
      "div",
      { class: "stage" },
      this.toolbar,
      make("div", { class: "panes" }, ...this.panes.map(({ element }) => element)),
      this.slices,
      this.readout,
    );
    this.element.addEventListener("keydown", (event) => this.shortcut(event));
    for (const pane of this.panes) {
      pane.onChange = () => {
        if (state.display.linked) this.follow(pane);
        this.write();
        this.slide();
      };
      pane.onWindow = () => this.onWindow();
      pane.onShow = () => {
        const other = this.panes[pane.index === 0 ? 1 : 0];
        if (state.display.linked && other.case && other.viewer?.ready)
          pane.viewer?.follow(other.viewer.scene);
      };
    }
    on("cases", () => this.update());
    on("measured", ({ id, loads }) => {
      const largest = loads?.flatMap(({ lesions }) => lesions.slice(0, 1));
      const first = largest?.sort((a, b) => b.volume - a.volume)[0];
      const [pane] = this.panes;
      if (!first || state.panes[1] !== null || pane.case?.id !== id) return;
      pane.update().then(() => pane.viewer?.goTo(first.nearest), tell);
    });
    on("mask", () => {
      this.tools();
      this.write();
    });
    on("display", () => this.tools());
    on("edit", () => {
      const { size, ...others } = state.edit;
      this.range.value = String(size);
      say(this.size, message("millimetres", { number: size }));
      const now = JSON.stringify(others);
      if (now !== this.edited) this.tools(); // never while the slider is held
      this.edited = now;
    });
    on("display", () => this.slide());
    onLanguage(() => this.write());
    this.update();
  }

  /** The pane that is worked on. */
  get pane(): Pane {
    return this.panes[state.active];
  }

  private update(): void {
    for (const pane of this.panes) pane.update().catch(tell);
    this.element.classList.toggle("two", state.panes[1] !== null);
    this.element.hidden = state.panes[0] === null;
    this.tools();
    this.slide();
    this.write();
  }

  private follow(leader: Pane): void {
    const other = this.panes[leader.index === 0 ? 1 : 0];
    if (leader.viewer?.ready && other.case && other.viewer?.ready)
      other.viewer.follow(leader.viewer.scene);
  }

  private tools(): void {
    const { tool } = state.edit;
    const { layout, maskVisible, outline, linked } = state.display;
    const mask = caseOf()?.mask ?? null;
    const editing = tool !== "crosshair";
    refill(
      this.toolbar,
      group(
        "toolsPointer",
        TOOLS.map(([name, words, key]) =>
          toggle(name, words, tool === name, key, () => setEdit({ tool: name })),
        ),
      ),
      editing ? this.brush() : null,
      group("toolsHistory", [
        act("undo", "undo", "Z", !mask?.history.canUndo, () => this.pane.travel("undo")),
        act("redo", "redo", "Y", !mask?.history.canRedo, () => this.pane.travel("redo")),
      ]),
      group("toolsMask", [
        toggle("eye", "maskVisible", maskVisible, "m", () =>
          setDisplay({ maskVisible: !maskVisible }),
        ),
        toggle("outline", "maskOutline", outline, "o", () => setDisplay({ outline: !outline })),
      ]),
      make("span", { class: "spring" }),
      state.panes[1] === null
        ? null
        : group("toolsLink", [
            toggle("link", "linked", linked, "l", () => setDisplay({ linked: !linked })),
          ]),
      group("toolsView", [act("reset", "resetView", "0", false, () => this.pane.viewer?.reset())]),
      group(
        "layout",
        LAYOUTS.map(([name, words, key]) =>
          make("button", {
            text: words,
            "aria-pressed": String(layout === name),
            "aria-keyshortcuts": key,
            "data-key": `layout-${name}`,
            on: { click: () => setDisplay(planeOf(name)) },
          }),
        ),
      ),
    );
  }

  private brush(): HTMLElement {
    const { label, volumetric } = state.edit;
    const mask = caseOf()?.mask;
    const names = mask?.labels ?? ["background", "lesion"];
    const labels = make("select", {
      label: "brushLabel",
      "data-key": "brush-label",
      on: { change: () => setEdit({ label: labels.selectedIndex + 1 }) },
    });
    names.slice(1).forEach((name, i) => {
      labels.append(verbatim("option", name, { selected: i + 1 === label }));
    });
    const all = make("input", {
      type: "checkbox",
      checked: volumetric,
      "data-key": "brush-3d",
      on: { change: () => setEdit({ volumetric: all.checked }) },
    });
    return make(
      "div",
      { class: "group brush", role: "group", label: "brushOptions" },
      state.edit.tool === "brush" ? labels : null,
      this.range,
      this.size,
      make("label", {}, all, make("span", { text: "brush3D" })),
    );
  }

  /** A slider through the slices, where one plane is shown. */
  private slide(): void {
    const { viewer } = this.pane;
    const seen = viewer?.place?.seen;
    const { layout } = state.display;
    if (!viewer || !seen || layout === "all" || layout === "render") {
      this.slices.replaceChildren();
      return;
    }
    const axis = across(layout);
    const slider =
      this.slices.querySelector("input") ??
      make("input", {
        type: "range",
        min: 1,
        label: "slice",
        on: {
          input: () => {
            const now = this.pane.viewer!;
            const plane = state.display.layout;
            if (plane === "all" || plane === "render" || !now.place) return;
            const through = across(plane);
            now.step(through, Number(slider.value) - 1 - now.place.seen[through]!);
          },
        },
      });
    slider.max = String(viewer.dims[axis]);
    slider.value = String(seen[axis]! + 1);
    if (!slider.isConnected) this.slices.replaceChildren(slider);
  }

  /** Write what is at the crosshair. */
  private write(): void {
    const place = this.pane.viewer?.place;
    const one = this.pane.case;
    if (!place || !one) {
      this.readout.replaceChildren();
      return;
    }
    const [x, y, z] = place.millimetres.map((at) => decimal(at, 1));
    const [nx, ny, nz] = one.images[0]!.volume.shape;
    const [i, j, k] = place.voxel;
    const value = one.mask?.data[(i * ny + j) * nz + k] ?? 0;
    const label = value ? (one.mask!.labels[value] ?? String(value)) : null;
    const colour = value ? one.mask!.structures[value - 1]?.color : null;
    const swatch = colour ? make("span", { class: "swatch" }) : null;
    if (swatch) swatch.style.background = `rgb(${colour!.join(" ")})`;
    const pair = (words: Words, content: string, extra: Node | null = null) =>
      make("span", {}, make("span", { class: "key", text: words }), extra, verbatim("b", content));
    this.readout.replaceChildren(
      pair("readIntensity", intensity(place.intensity)),
      pair("readPlace", `${x}  ${y}  ${z} mm`),
      pair("readVoxel", `${i} ${j} ${k}`),
      ...(label ? [pair("readLabel", label, swatch)] : []),
    );
    this.readout.title = phrase(message("readTitle", { nx, ny, nz }));
  }

  /** Keys that work while the focus is among the images. */
  private shortcut(event: KeyboardEvent): void {
    if (isTyping(event.target) || event.altKey) return;
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      if (key === "z") this.pane.travel(event.shiftKey ? "redo" : "undo");
      else if (key === "y") this.pane.travel("redo");
      else return;
      event.preventDefault();
      return;
    }
    const layout = LAYOUTS.find(([, , one]) => one === key);
    const tool = TOOLS.find(([, , one]) => one === key);
    const { display } = state;
    if (layout) setDisplay(planeOf(layout[0]));
    else if (tool) setEdit({ tool: tool[0] });
    else if (key === "escape") setEdit({ tool: "crosshair" });
    else if (key === "m") setDisplay({ maskVisible: !display.maskVisible });
    else if (key === "o") setDisplay({ outline: !display.outline });
    else if (key === "l") setDisplay({ linked: !display.linked });
    else if (key === "?") help();
    else if (key === "p") setDisplay({ plane: NEXT_PLANE[display.plane] });
    else return;
    event.preventDefault();
  }
}

const NEXT_PLANE = { axial: "coronal", coronal: "sagittal", sagittal: "axial" } as const;

function planeOf(layout: Layout) {
  return layout === "all" || layout === "render" ? { layout } : { layout, plane: layout };
}

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLSelectElement ||
    (target instanceof HTMLInputElement && target.type !== "checkbox")
  );
}

function intensity(value: number): string {
  const digits = Number.isInteger(value) ? 0 : Math.abs(value) < 10 ? 3 : 1;
  return decimal(value, digits);
}

function group(label: Words, buttons: HTMLElement[]): HTMLElement {
  return make("div", { class: "group", role: "group", label }, ...buttons);
}

function toggle(
  name: IconName,
  words: Words,
  pressed: boolean,
  key: string,
  click: () => void,
): HTMLElement {
  const options = { "aria-pressed": String(pressed), "aria-keyshortcuts": key, "data-key": name };
  return make(
    "button",
    { ...options, class: "icon-only", label: words, title: words, on: { click } },
    icon(name),
  );
}

function act(
  name: IconName,
  words: Words,
  key: string,
  disabled: boolean,
  click: () => void,
): HTMLElement {
  const options = { "aria-keyshortcuts": key, "data-key": name, disabled, class: "icon-only" };
  return make("button", { ...options, label: words, title: words, on: { click } }, icon(name));
}
