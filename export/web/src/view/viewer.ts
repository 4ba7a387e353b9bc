/** One image in three planes and in space, with the mask over it, by NiiVue. */
import { Niivue, NVImage, SLICE_TYPE } from "@niivue/niivue";
import { Problem } from "../problem";
import type { Image } from "../volume";
import type { Brush } from "./brush";
import { stroke } from "./brush";
import { Grid, type Voxel } from "./grid";
import { defaultWindow, viewable } from "./nifti";
import type { Layout, Plane } from "./planes";

/** Part of the canvas, in fractions of its width and height. */
export interface Tile {
  readonly plane: Plane | "render";
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** Where the crosshair is. */
export interface Place {
  /** Of the image's arrays. */
  readonly voxel: Voxel;
  /** Of the viewer: towards right, front and head. */
  readonly seen: Voxel;
  readonly millimetres: Voxel;
  readonly intensity: number;
}

/** What two viewers have in common, in mm of the patient. */
export interface Scene {
  readonly crosshair: Voxel;
  readonly centre: Voxel;
  /** Of each plane that is shown: canvas pixels that a millimetre takes. */
  readonly scale: Readonly<Partial<Record<Plane, number>>>;
  readonly azimuth: number;
  readonly elevation: number;
  readonly zoom3D: number;
}

const SLICES: Record<Plane, SLICE_TYPE> = {
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
};

const DRAWING_UNIT = 7; // where NiiVue binds the mask
const BEHIND = 0.4; // opacity in space of an image that has a mask
const ZOOM_3D = 1.25;
const GAP = 0.003;
const HALF = 0.5 - GAP;
const QUARTERS: readonly Tile[] = [
  { plane: "axial", left: 0, top: 0, width: HALF, height: HALF },
  { plane: "coronal", left: 0.5 + GAP, top: 0, width: HALF, height: HALF },
  { plane: "sagittal", left: 0, top: 0.5 + GAP, width: HALF, height: HALF },
  { plane: "render", left: 0.5 + GAP, top: 0.5 + GAP, width: HALF, height: HALF },
];

export class Viewer {
  /** Called after each frame that was drawn. */
  onDraw: () => void = () => {};
  /** Called as well where it was not another viewer that was followed. */
  onChange: () => void = () => {};
  /** Called after the window of intensities changed. */
  onWindow: () => void = () => {};

  private readonly nv: Niivue;
  private image: Image | null = null;
  private grid: Grid | null = null;
  private colours: readonly (readonly number[])[] = [];
  private layout: Layout = "all";
  private frame = 0;
  private pending = { window: false, drawing: false };

  private constructor() {
    this.nv = new Niivue({
      interactive: false,
      dragAndDropEnabled: false,
      logLevel: "silent",
      loadingText: "",
      isRadiologicalConvention: true,
      crosshairWidth: 0.25,
      crosshairWidthUnit: "percent",
      crosshairGap: 4,
      crosshairColor: [0.36, 0.72, 0.85, 0.75],
      fontColor: [0.74, 0.78, 0.82, 1],
      fontSizeScaling: 0.32,
      fontMinPx: 12,
      backColor: [0, 0, 0, 1],
      show3Dcrosshair: false,
      isAntiAlias: true,
      smoothDrawing: 1,
    });
  }

  /** Start on a canvas; its parent gives it its size. */
  static async start(canvas: HTMLCanvasElement): Promise<Viewer> {
    const viewer = new Viewer();
    try {
      await viewer.nv.attachToCanvas(canvas, true);
    } catch {
      throw new Problem("noWebgl");
    }
    viewer.nv.scene.volScaleMultiplier = ZOOM_3D;
    return viewer;
  }

  /** Show an image; the crosshair stays where it is in the patient, if that is in the image. */
  async show(image: Image): Promise<void> {
    const before = this.grid && this.place?.millimetres;
    const [low, high] = defaultWindow(image.volume.data);
    const { nv } = this;
    const side = Math.max(...image.volume.shape);
    if (side > nv.uiData.max3D!) {
      throw new Problem("tooLargeToView", { name: image.name, side, most: nv.uiData.max3D! });
    }
    const volume = await opened(viewable(image.volume), low, high);
    this.clear();
    nv.addVolume(volume);
    this.image = image;
    this.grid = new Grid(image.volume.shape, image.volume.affine, volume.permRAS!);
    if (nv.opts.gradientAmount !== 0.5) await nv.setVolumeRenderIllumination(0.5);
    this.lay(this.layout);
    const centre = image.volume.shape.map((size) => Math.floor(size / 2));
    if (before && this.contains(before)) nv.scene.crosshairPos = this.fraction(before);
    else this.goTo(centre);
    this.draw();
    this.onWindow();
  }

  /** Show nothing. */
  clear(): void {
    this.mask(null);
    for (const old of [...this.nv.volumes]) this.nv.removeVolume(old);
    [this.image, this.grid] = [null, null];
    this.pending.window = false;
    this.draw();
  }

  /** Whether an image is shown. */
  get ready(): boolean {
    return this.grid !== null;
  }

  /** Show a mask, in the order of the image's arrays, or none; colours belong to labels from 1 on. */
  mask(data: Uint8Array | null, colours = this.colours): void {
    const { nv } = this;
    this.recolour(colours);
    if (!data || !this.grid) {
      if (nv.drawBitmap) nv.closeDrawing();
      return;
    }
    if (!nv.drawBitmap) nv.createEmptyDrawing();
    nv.drawBitmap = this.grid.seen(data);
    this.refresh("drawing");
  }

  /** Give the labels from 1 on other colours. */
  recolour(colours: readonly (readonly number[])[]): void {
    this.colours = colours;
    const lut = new Uint8ClampedArray(1024).fill(255);
    lut.fill(0, 0, 4);
    for (const [i, colour] of colours.slice(0, 255).entries()) lut.set(colour, 4 * (i + 1));
    this.nv.drawLut = { lut, labels: [] };
    this.nv.refreshColormaps();
    this.draw();
  }

  /** How the mask is shown: opacity from 0 to 1, as an outline in the planes, or not at all. */
  shade(opacity: number, outline: boolean, visible: boolean): void {
    this.nv.drawOpacity = !visible ? 0 : outline ? 0.02 : opacity;
    this.nv.drawRimOpacity = visible && outline ? Math.max(opacity, 0.3) : -1;
    this.draw();
  }

  /**
   * Paint a label along the way between two voxels of the viewer.
   *
   * @param change Told of each voxel, by its place in the image's arrays; false leaves it as it is.
   */
  stroke(
    from: Voxel,
    to: Voxel,
    brush: Brush,
    label: number,
    change: (at: number) => boolean,
  ): void {
    const { grid, nv } = this;
    if (!grid) return;
    if (!nv.drawBitmap) nv.createEmptyDrawing();
    const drawing = nv.drawBitmap!;
    stroke(grid, from, to, brush, (voxel) => {
      if (change(grid.imageIndex(grid.imageVoxel(voxel)))) drawing[grid.seenIndex(voxel)] = label;
    });
    this.refresh("drawing");
  }

  /** Set single voxels of the mask, by their place in the image's arrays. */
  patch(places: Iterable<number>, labels: (at: number) => number): void {
    const { grid, nv } = this;
    if (!grid) return;
    if (!nv.drawBitmap) nv.createEmptyDrawing();
    for (const at of places)
      nv.drawBitmap![grid.seenIndex(grid.seenVoxel(grid.voxelAt(at)))] = labels(at);
    this.refresh("drawing");
  }

  /** Lay out the planes and the space. */
  lay(layout: Layout): void {
    this.layout = layout;
    this.nv.customLayout =
      layout === "all"
        ? QUARTERS.map(({ plane, left, top, width, height }) => ({
            sliceType: plane === "render" ? SLICE_TYPE.RENDER : SLICES[plane],
            position: [left, top, width, height],
          }))
        : [];
    this.nv.opts.sliceType =
      layout === "all"
        ? SLICE_TYPE.MULTIPLANAR
        : layout === "render"
          ? SLICE_TYPE.RENDER
          : SLICES[layout];
    this.draw();
  }

  /** The parts of the canvas. */
  get tiles(): readonly Tile[] {
    if (this.layout === "all") return QUARTERS;
    return [{ plane: this.layout, left: 0, top: 0, width: 1, height: 1 }];
  }

  /** Where the crosshair is; null without an image. */
  get place(): Place | null {
    const { grid, image } = this;
    if (!grid || !image) return null;
    const seen = this.cell(this.nv.scene.crosshairPos);
    const voxel = grid.imageVoxel(seen);
    return {
      voxel,
      seen,
      millimetres: grid.millimetres(voxel),
      intensity: image.volume.data[grid.imageIndex(voxel)]!,
    };
  }

  /** Voxels along the axes towards right, front and head. */
  get dims(): readonly number[] {
    return this.grid?.dims ?? [1, 1, 1];
  }

  private cell(fraction: ArrayLike<number>): Voxel {
    return this.dims.map((size, axis) =>
      Math.min(size - 1, Math.max(0, Math.floor(fraction[axis]! * size))),
    ) as Voxel;
  }

  private contains(millimetres: Voxel): boolean {
    return [...this.fraction(millimetres)].every((part) => part >= 0 && part <= 1);
  }

  private fraction(millimetres: Voxel) {
    return this.nv.mm2frac(millimetres, 0, true);
  }

  /** Move the crosshair to a voxel of the image's arrays. */
  goTo(voxel: readonly number[]): void {
    if (this.grid) this.move(this.grid.seenVoxel(voxel));
  }

  /** Move the crosshair by voxels along one of the axes towards right, front and head. */
  step(axis: number, by: number): void {
    const seen = this.place?.seen;
    if (!seen) return;
    seen[axis] = Math.min(this.dims[axis]! - 1, Math.max(0, seen[axis]! + by));
    this.move(seen);
  }

  /** Move the crosshair to a voxel of the viewer. */
  move(seen: readonly number[]): void {
    const { nv, dims } = this;
    seen.forEach((at, axis) => {
      nv.scene.crosshairPos[axis] = (at + 0.5) / dims[axis]!;
    });
    this.draw();
  }

  /** Return the part of the canvas under a point, in CSS pixels, and the viewer's voxel there. */
  pick(x: number, y: number): { plane: Plane | "render"; voxel: Voxel | null } | null {
    if (!this.grid) return null;
    const { nv } = this;
    const [px, py] = [x * nv.uiData.dpr!, y * nv.uiData.dpr!];
    const i = nv.tileIndex(px, py);
    if (i < 0) return null;
    const slice = nv.screenSlices[i]!.axCorSag;
    const plane = (Object.keys(SLICES) as Plane[]).find((name) => SLICES[name] === slice);
    if (!plane) return { plane: "render", voxel: null };
    const fraction = nv.screenXY2TextureFrac(px, py, i, true);
    return { plane, voxel: fraction[0]! < 0 ? null : this.cell(fraction) };
  }

  /** Zoom the planes by a factor about a point in CSS pixels, or about the crosshair. */
  zoom(factor: number, x = Number.NaN, y = Number.NaN): void {
    const { nv } = this;
    if (!this.grid) return;
    const pan = nv.scene.pan2Dxyzmm;
    const next = Math.min(20, Math.max(0.5, pan[3]! * factor));
    const seen = nv.screenXY2mm(x * nv.uiData.dpr!, y * nv.uiData.dpr!);
    const fixed = Number.isNaN(seen[0]!) ? nv.frac2mm(nv.scene.crosshairPos) : seen;
    for (let axis = 0; axis < 3; axis++) pan[axis]! += (pan[3]! - next) * fixed[axis]!;
    pan[3] = next;
    this.draw();
  }

  /** Zoom the space by a factor. */
  zoom3D(factor: number): void {
    const { scene } = this.nv;
    scene.volScaleMultiplier = Math.min(5, Math.max(0.3, scene.volScaleMultiplier * factor));
    this.draw();
  }

  /** Shift the planes by a way in CSS pixels. */
  pan(fromX: number, fromY: number, x: number, y: number): void {
    const { nv } = this;
    const { dpr } = nv.uiData;
    const to = nv.screenXY2mm(x * dpr!, y * dpr!);
    const from = nv.screenXY2mm(fromX * dpr!, fromY * dpr!, to[3]);
    if (Number.isNaN(to[0]!) || Number.isNaN(from[0]!)) return;
    const pan = nv.scene.pan2Dxyzmm;
    for (let axis = 0; axis < 3; axis++) pan[axis]! += (to[axis]! - from[axis]!) * pan[3]!;
    this.draw();
  }

  /** Turn the space, in degrees. */
  turn(azimuth: number, elevation: number): void {
    const { scene } = this.nv;
    scene.renderAzimuth = (scene.renderAzimuth + azimuth + 360) % 360;
    scene.renderElevation = Math.min(90, Math.max(-90, scene.renderElevation + elevation));
    this.draw();
  }

  /** Show all of the image again, as at the start. */
  reset(): void {
    this.nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    this.nv.scene.volScaleMultiplier = ZOOM_3D;
    if (this.image) this.window = defaultWindow(this.image.volume.data);
    this.draw();
  }

  /** Intensities that are black and white. */
  get window(): [number, number] {
    const volume = this.nv.volumes[0];
    return volume ? [volume.cal_min!, volume.cal_max!] : [0, 1];
  }

  set window([low, high]: readonly [number, number]) {
    const volume = this.nv.volumes[0];
    if (!volume || !(high > low)) return;
    volume.cal_min = low;
    volume.cal_max = high;
    this.refresh("window");
    this.onWindow();
  }

  /** Least and greatest intensity. */
  get range(): [number, number] {
    const volume = this.nv.volumes[0];
    return volume ? [volume.global_min!, volume.global_max!] : [0, 1];
  }

  /** Whether the patient's right is on the left of the screen. */
  set radiological(right: boolean) {
    this.nv.opts.isRadiologicalConvention = right;
    this.draw();
  }

  /** Whether intensities between voxels are interpolated. */
  set smooth(smooth: boolean) {
    this.nv.setInterpolation(!smooth);
  }

  /** Canvas pixels that a millimetre takes in each plane that is shown. */
  get scale(): Partial<Record<Plane, number>> {
    const found: Partial<Record<Plane, number>> = {};
    for (const { axCorSag, leftTopWidthHeight, fovMM } of this.nv.screenSlices) {
      const plane = (Object.keys(SLICES) as Plane[]).find((one) => SLICES[one] === axCorSag);
      if (plane) found[plane] = Math.abs(leftTopWidthHeight[2]! / fovMM[0]!);
    }
    return found;
  }

  /** CSS pixels that a millimetre takes in each plane that is shown. */
  get cssScale(): Partial<Record<Plane, number>> {
    const { dpr } = this.nv.uiData;
    return Object.fromEntries(
      Object.entries(this.scale).map(([plane, pixels]) => [plane, pixels / dpr!]),
    );
  }

  /** What another viewer is to show as well. */
  get scene(): Scene {
    const { nv } = this;
    const pan = nv.scene.pan2Dxyzmm;
    const middle = this.middle().map((at, axis) => (at - pan[axis]!) / pan[3]!) as Voxel;
    const [x, y, z] = nv.frac2mm(nv.mm2frac(middle), 0, true);
    return {
      crosshair: [...nv.frac2mm(nv.scene.crosshairPos, 0, true)].slice(0, 3) as Voxel,
      centre: [x!, y!, z!],
      scale: this.scale,
      azimuth: nv.scene.renderAzimuth,
      elevation: nv.scene.renderElevation,
      zoom3D: nv.scene.volScaleMultiplier,
    };
  }

  /** Show what another viewer shows: the same place, as large, of the patient. */
  follow(scene: Scene): void {
    const { nv } = this;
    if (!this.grid) return;
    const crosshair = [...this.fraction(scene.crosshair)];
    nv.scene.crosshairPos = crosshair.map((part) => Math.min(1 - 1e-6, Math.max(0, part))) as Voxel;
    const own = this.scale;
    const plane = (Object.keys(own) as Plane[]).find((name) => scene.scale[name]);
    if (plane) {
      const zoom = (nv.scene.pan2Dxyzmm[3]! * scene.scale[plane]!) / own[plane]!;
      const centre = nv.frac2mm(this.fraction(scene.centre));
      const [x, y, z] = this.middle().map((at, axis) => at - zoom * centre[axis]!) as Voxel;
      nv.scene.pan2Dxyzmm = [x, y, z, zoom];
    }
    nv.scene.renderAzimuth = scene.azimuth;
    nv.scene.renderElevation = scene.elevation;
    nv.scene.volScaleMultiplier = scene.zoom3D;
    this.draw(false);
  }

  private middle(): Voxel {
    const { extentsMinOrtho: low, extentsMaxOrtho: high } = this.nv.volumes[0]!;
    return low!.map((least, axis) => (least + high![axis]!) / 2) as Voxel;
  }

  /** Return the canvas as it is, as an image that can be drawn. */
  picture(): HTMLCanvasElement {
    this.nv.drawScene();
    return this.nv.canvas!;
  }

  private refresh(what: "window" | "drawing"): void {
    this.pending[what] = true;
    this.draw();
  }

  /** In space, let the mask be seen through the image around it. */
  private seeThrough(): void {
    const { nv } = this;
    const shader = nv.renderShader;
    if (!shader) return;
    const seen = nv.drawBitmap !== null && nv.drawOpacity > 0;
    shader.use(nv.gl);
    nv.gl.uniform1f(shader.uniforms.backOpacity!, seen ? BEHIND : 1);
    // NiiVue does not find this sampler in its shader with gradients, and reads the image instead
    nv.gl.uniform1i(nv.gl.getUniformLocation(shader.program, "drawing"), DRAWING_UNIT);
  }

  private quiet = true;

  /** Draw with the next frame of the screen; told, if people changed something. */
  draw(told = true): void {
    if (told) this.quiet = false;
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const { window, drawing } = this.pending;
      this.pending = { window: false, drawing: false };
      if (window) this.nv.refreshLayers(this.nv.volumes[0]!, 0);
      if (window) this.nv.refreshColormaps();
      this.seeThrough();
      if (drawing && this.nv.drawBitmap) this.nv.refreshDrawing(false);
      this.nv.drawScene();
      const quiet = this.quiet;
      this.quiet = true;
      this.onDraw();
      if (!quiet) this.onChange();
    });
  }
}

const NIFTI = 1; // NiiVue's ImageType, which it does not export

function opened(bytes: ArrayBuffer, low: number, high: number): Promise<NVImage> {
  const { NaN: none } = Number;
  const options = [
    true,
    0.02,
    false,
    false,
    "",
    0,
    NIFTI,
    none,
    none,
    false,
    null,
    0,
    null,
  ] as const;
  return NVImage.new(bytes, "image.nii", "gray", 1, null, low, high, ...options);
}
