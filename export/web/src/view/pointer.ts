/** Mouse, pen, fingers and wheel on the canvas. */
import type { Voxel } from "./grid";
import { across, type Plane } from "./planes";
import type { Viewer } from "./viewer";

/** What a press of the main button or one finger does. */
export interface Tool {
  /** Paint from one voxel to the next, both of the viewer; null at the start of a stroke. */
  readonly stroke: ((from: Voxel | null, to: Voxel, plane: Plane) => void) | null;
  /** The stroke is over. */
  readonly lift: () => void;
}

interface Press {
  readonly kind: "crosshair" | "stroke" | "window" | "pan" | "turn";
  readonly plane: Plane | "render";
  x: number;
  y: number;
  voxel: Voxel | null;
}

/**
 * Let a canvas be used by pointers and wheel.
 *
 * @param onPlane Told which part was pressed.
 */
export function listen(
  canvas: HTMLCanvasElement,
  viewer: Viewer,
  tool: () => Tool,
  onPlane: (plane: Plane | "render") => void,
): void {
  const fingers = new Map<number, { x: number; y: number }>();
  let press: Press | null = null;
  const at = (event: PointerEvent | WheelEvent) => {
    const { left, top } = canvas.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  };

  function begin(event: PointerEvent): void {
    const { x, y } = at(event);
    fingers.set(event.pointerId, { x, y });
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    event.preventDefault();
    if (fingers.size > 1) return finish();
    const picked = viewer.pick(x, y);
    if (!picked) return;
    onPlane(picked.plane);
    press = { kind: kindOf(event, picked.plane), plane: picked.plane, x, y, voxel: null };
    go(x, y);
  }

  function kindOf(event: PointerEvent, plane: Plane | "render"): Press["kind"] {
    if (plane === "render") return "turn";
    if (event.button === 2) return "window";
    if (event.button === 1 || event.shiftKey) return "pan";
    return tool().stroke ? "stroke" : "crosshair";
  }

  function go(x: number, y: number): void {
    if (!press) return;
    const [dx, dy] = [x - press.x, y - press.y];
    const { kind, plane } = press;
    if (kind === "turn") viewer.turn(dx, dy);
    if (kind === "pan") viewer.pan(press.x, press.y, x, y);
    if (kind === "window") widen(viewer, dx, dy);
    if (kind === "crosshair" || kind === "stroke") {
      const picked = viewer.pick(x, y);
      if (picked?.voxel && picked.plane === plane) {
        if (kind === "stroke" && plane !== "render")
          tool().stroke?.(press.voxel, picked.voxel, plane);
        else viewer.move(picked.voxel);
        press.voxel = picked.voxel;
      }
    }
    [press.x, press.y] = [x, y];
  }

  function move(event: PointerEvent): void {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = at(event);
    if (fingers.size === 2) pinch(event.pointerId, before, now);
    else for (const one of event.getCoalescedEvents?.() ?? []) go(at(one).x, at(one).y);
    if (fingers.size === 1) go(now.x, now.y);
    fingers.set(event.pointerId, now);
  }

  type Point = { x: number; y: number };
  function pinch(id: number, before: Point, now: Point): void {
    const other = [...fingers].find(([one]) => one !== id)![1];
    const distance = (a: Point) => Math.hypot(a.x - other.x, a.y - other.y) || 1;
    const middle = (a: Point) => [(a.x + other.x) / 2, (a.y + other.y) / 2] as const;
    const factor = distance(now) / distance(before);
    if (viewer.pick(...middle(now))?.plane === "render") return viewer.zoom3D(factor);
    viewer.pan(...middle(before), ...middle(now));
    viewer.zoom(factor, ...middle(now));
  }

  function finish(): void {
    if (press?.kind === "stroke") tool().lift();
    press = null;
  }

  function end(event: PointerEvent): void {
    fingers.delete(event.pointerId);
    finish();
  }

  let travelled = 0;
  function wheel(event: WheelEvent): void {
    const { x, y } = at(event);
    const picked = viewer.pick(x, y);
    if (!picked) return;
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 33 : 1);
    const factor = Math.exp(-pixels / 400);
    if (picked.plane === "render") return viewer.zoom3D(factor);
    onPlane(picked.plane);
    if (event.ctrlKey || event.metaKey) return viewer.zoom(factor, x, y);
    travelled += pixels;
    const slices = Math.trunc(travelled / 33);
    travelled -= 33 * slices;
    if (slices) viewer.step(across(picked.plane), -slices);
  }

  canvas.addEventListener("pointerdown", begin);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("wheel", wheel, { passive: false });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
}

/** Change the window: right is more contrast, up is brighter; steps are pixels. */
export function widen(viewer: Viewer, dx: number, dy: number): void {
  const [low, high] = viewer.window;
  const [least, most] = viewer.range;
  const unit = (most - least) / 500;
  const centre = (low + high) / 2 + dy * unit;
  const width = Math.max(unit, high - low - dx * unit);
  viewer.window = [centre - width / 2, centre + width / 2];
}
