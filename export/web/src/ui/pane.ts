/** One case as it is seen: canvas, names of the planes, scale bars. */
import type { Voxel } from "../view/grid";
import { across } from "../view/planes";
import { listen, type Tool, widen } from "../view/pointer";
import type { Viewer } from "../view/viewer";
import { decimal, make, message, onLanguage, phrase, refill, say, verbatim } from "./dom";
import { maskOf, painted, travel } from "./masks";
import {
  type Case,
  caseById,
  on,
  setActive,
  setDisplay,
  setEdit,
  showCase,
  state,
  updateCase,
} from "./state";

const SCALE_BARS = [1, 2, 5, 10, 20, 50, 100, 200]; // mm

export class Pane {
  readonly element: HTMLElement;
  /** Called after the view changed, of the one that people use. */
  onChange: () => void = () => {};
  /** Called after another image came. */
  onShow: () => void = () => {};
  /** Called after the window of intensities changed. */
  onWindow: () => void = () => {};
  viewer: Viewer | null = null;

  private readonly canvas: HTMLCanvasElement;
  private readonly title = make("div", { class: "pane-title" });
  private readonly overlay = make("div", { class: "overlay", "aria-hidden": "true" });
  private starting: Promise<Viewer> | null = null;
  private shown: { image: unknown; mask: unknown } = { image: null, mask: null };
  private showing: Promise<void> = Promise.resolve();

  constructor(readonly index: 0 | 1) {
    this.canvas = make("canvas", {
      tabindex: 0,
      role: "application",
      label: () => this.description(),
      "aria-describedby": "readout",
      "aria-keyshortcuts": "ArrowUp ArrowDown ArrowLeft ArrowRight PageUp PageDown",
      "data-testid": `canvas-${index}`,
      on: {
        keydown: (event) => this.key(event),
        focus: () => setActive(index),
      },
    });
    this.element = make(
      "section",
      { class: "pane", "data-pane": index, label: index === 0 ? "paneFirst" : "paneSecond" },
      this.title,
      make("div", { class: "canvas" }, this.canvas, this.overlay),
    );
    on("display", () => this.applyDisplay());
    onLanguage(() => this.annotate());
  }

  get case(): Case | null {
    const id = state.panes[this.index];
    return id === null ? null : caseById(id);
  }

  private description(): string {
    const name = this.case?.name ?? "";
    return phrase(message("canvasLabel", { name }));
  }

  /** Show the pane's case as it is now. */
  update(): Promise<void> {
    const next = this.showing.then(() => this.bring());
    this.showing = next.catch(() => {}); // told to the caller
    return next;
  }

  private async bring(): Promise<void> {
    const one = this.case;
    this.element.hidden = !one;
    this.element.classList.toggle("active", state.active === this.index);
    if (!one) return;
    this.writeTitle(one);
    this.viewer ??= await this.start();
    const image = one.images[one.shown]!;
    const another = this.shown.image !== image;
    if (another) {
      this.shown = { image, mask: null };
      await this.viewer.show(image).catch((error: unknown) => {
        this.viewer!.clear(); // nobody is to paint on the image before
        this.overlay.replaceChildren();
        throw error;
      });
      this.applyDisplay();
    }
    const mask = one.mask?.data ?? null;
    const colours = one.mask?.structures.map(({ color }) => color) ?? [];
    if (this.shown.mask !== mask) this.viewer.mask(mask, colours);
    else if (mask) this.viewer.recolour(colours);
    this.shown.mask = mask;
    say(this.canvas, () => this.description(), "aria-label");
    if (another) this.onShow();
  }

  private start(): Promise<Viewer> {
    this.starting ??= import("../view/viewer").then(async ({ Viewer }) => {
      const viewer = await Viewer.start(this.canvas);
      viewer.onDraw = () => this.annotate();
      viewer.onChange = () => this.onChange();
      new ResizeObserver(() => viewer.draw(false)).observe(this.canvas);
      viewer.onWindow = () => this.onWindow();
      listen(
        this.canvas,
        viewer,
        () => this.tool(),
        (plane) => {
          setActive(this.index);
          if (plane !== "render" && plane !== state.display.plane) setDisplay({ plane });
        },
      );
      return viewer;
    });
    return this.starting;
  }

  private writeTitle(one: Case): void {
    const select = make("select", {
      label: "sequence",
      "data-key": "sequence",
      on: { change: () => updateCase(one.id, { shown: select.selectedIndex }) },
    });
    one.images.forEach(({ name }, i) => {
      select.append(verbatim("option", name, { selected: i === one.shown }));
    });
    const visit = make("span", {
      class: "visit",
      text: message("visitNumber", { number: this.index + 1 }),
    });
    refill(
      this.title,
      state.panes[1] === null ? null : visit,
      one.images.length > 1 ? select : verbatim("span", one.images[0]!.name, { class: "name" }),
      state.panes[1] === null
        ? null
        : make("button", {
            class: "quiet",
            text: "hidePane",
            "data-key": "hide",
            on: { click: () => showCase(null, this.index) },
          }),
    );
    this.title.hidden = one.images.length < 2 && state.panes[1] === null;
  }

  private applyDisplay(): void {
    const { viewer } = this;
    if (!viewer?.ready) return;
    const { layout, opacity, outline, maskVisible, radiological, smooth } = state.display;
    viewer.lay(layout);
    viewer.shade(opacity, outline, maskVisible);
    viewer.radiological = radiological;
    viewer.smooth = smooth;
  }

  private readonly tool = (): Tool => {
    const { tool, label, size, volumetric } = state.edit;
    if (tool === "crosshair" || !this.case) return { stroke: null, lift: () => {} };
    return {
      stroke: (from, to, plane) => {
        const brush = { diameter: size, across: volumetric ? null : across(plane) };
        this.paint(from ?? to, to, brush, tool === "eraser" ? 0 : label);
      },
      lift: () => this.lift(),
    };
  };

  private paint(
    from: Voxel,
    to: Voxel,
    brush: { diameter: number; across: 0 | 1 | 2 | null },
    label: number,
  ): void {
    const one = this.case!;
    const { data, history } = maskOf(one);
    this.viewer!.stroke(from, to, brush, label, (at) => history.set(data, at, label));
  }

  private lift(): void {
    const one = this.case;
    if (one?.mask?.history.close()) painted(one.id);
  }

  /** Undo or do again the last stroke of the pane's case. */
  travel(way: "undo" | "redo"): void {
    const one = this.case;
    if (!one?.mask) return;
    const { data } = one.mask;
    this.viewer?.patch(travel(one, way), (at) => data[at]!);
  }

  private key(event: KeyboardEvent): void {
    const { viewer } = this;
    if (!viewer?.ready || event.altKey) return;
    if (event.ctrlKey || event.metaKey) return;
    const { plane, layout } = state.display;
    const through = across(layout === "all" || layout === "render" ? plane : layout);
    const [horizontal, vertical] = IN_PLANE[through];
    const mirrored = through !== 0 && state.display.radiological ? -1 : 1;
    const step = event.shiftKey ? 10 : 1;
    const { tool, label, size, volumetric } = state.edit;
    const spot = () => {
      const { seen } = viewer.place!;
      const brush = { diameter: size, across: volumetric ? null : through };
      this.paint(seen, seen, brush, tool === "eraser" ? 0 : label);
      this.lift();
    };
    const actions: Record<string, () => void> = {
      ArrowLeft: () => viewer.step(horizontal, -step * mirrored),
      ArrowRight: () => viewer.step(horizontal, step * mirrored),
      ArrowUp: () => viewer.step(vertical, step),
      ArrowDown: () => viewer.step(vertical, -step),
      PageUp: () => viewer.step(through, step),
      PageDown: () => viewer.step(through, -step),
      "+": () => viewer.zoom(1.25),
      "=": () => viewer.zoom(1.25),
      "-": () => viewer.zoom(0.8),
      "0": () => viewer.reset(),
      w: () => widen(viewer, 0, -20),
      s: () => widen(viewer, 0, 20),
      a: () => widen(viewer, -20, 0),
      d: () => widen(viewer, 20, 0),
      r: () => viewer.turn(15, 0),
      " ": () => (tool === "crosshair" ? undefined : spot()),
      "[": () => setEdit({ size: Math.max(1, size - 1) }),
      "]": () => setEdit({ size: Math.min(40, size + 1) }),
    };
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  /** Write the planes' names, slices and scale bars where they are. */
  private annotate(): void {
    const { viewer } = this;
    const seen = viewer?.place?.seen;
    if (!viewer || !seen) return;
    const scale = viewer.cssScale;
    const labels = viewer.tiles.map(({ plane, left, top, width, height }) => {
      const tile = make("div", { class: "tile" });
      tile.classList.toggle("active", plane === state.display.plane && viewer.tiles.length > 1);
      Object.assign(tile.style, {
        left: `${100 * left}%`,
        top: `${100 * top}%`,
        width: `${100 * width}%`,
        height: `${100 * height}%`,
      });
      const name = make("span", { class: "plane", text: PLANE_NAMES[plane] });
      tile.append(name);
      if (plane !== "render") {
        const axis = across(plane);
        name.after(verbatim("span", `${seen[axis]! + 1}/${viewer.dims[axis]}`, { class: "slice" }));
        tile.append(bar(scale[plane] ?? 0, 0.42 * width * this.canvas.clientWidth));
      }
      return tile;
    });
    this.overlay.replaceChildren(...labels);
  }
}

/** Axes of the screen, to the right and up, of the plane across each axis. */
const IN_PLANE = { 0: [1, 2], 1: [0, 2], 2: [0, 1] } as const;

export const PLANE_NAMES = {
  axial: "planeAxial",
  coronal: "planeCoronal",
  sagittal: "planeSagittal",
  render: "planeRender",
} as const;

function bar(pixelsPerMm: number, most: number): HTMLElement {
  const length = SCALE_BARS.findLast((mm) => mm * pixelsPerMm <= most) ?? 1;
  const words = length >= 10 ? `${decimal(length / 10, 0)} cm` : `${decimal(length, 0)} mm`;
  const node = verbatim("span", words, { class: "scale-bar" });
  node.style.width = `${length * pixelsPerMm}px`;
  return node;
}
