// The pictures: one background, layers over it, masks, views, window, crosshair. What knows NiiVue is here and in brush.js.
"use strict";
import { DRAG_MODE, NVImage, Niivue, SHOW_RENDER, SLICE_TYPE } from "./vendor/niivue.js";

// Masks are drawn as NiiVue's drawing, whose rim is a thin line: a bit each, so that several can be seen at once.
export const BITS = { judged_mask: 1, own_mask: 2, edited: 4 };
// Okabe and Ito's colours, which most people can tell apart; where masks agree they are white.
const COLOURS = [[0, 0, 0], [255, 125, 40], [86, 180, 233], [240, 240, 240], [0, 210, 150], [240, 240, 240], [240, 240, 240], [240, 240, 240]];
const MAPS = {
  probability: { colormap: "viridis", low: 0.05, high: 1 },
  entropy: { colormap: "inferno", low: 0.1, high: 1 },
  missed: { colormap: "blue2cyan", low: 0.1, high: 1 },
  false_positive: { colormap: "hot", low: 0.1, high: 1 },
  numbers: { colormap: "random", low: 0, high: NaN },
};
export const VIEWS = { planes: "three planes", axial: "axial", coronal: "coronal", sagittal: "sagittal", mosaic: "mosaic" };
const TYPES = { axial: SLICE_TYPE.AXIAL, coronal: SLICE_TYPE.CORONAL, sagittal: SLICE_TYPE.SAGITTAL, planes: SLICE_TYPE.MULTIPLANAR };
const OPTIONS = {
  backColor: [0, 0, 0, 1], crosshairColor: [0.45, 0.75, 1, 0.75], crosshairWidth: 1, crosshairGap: 12, show3Dcrosshair: false, isColorbar: false,
  isRadiologicalConvention: true, multiplanarShowRender: SHOW_RENDER.NEVER, dragMode: DRAG_MODE.contrast, loadingText: "",
  viewModeHotKey: "none", clipPlaneHotKey: "none", isOrientationTextVisible: true, logLevel: "error",
};

// Three changes to what NiiVue asks of WebGL. A drawing is to lie above the layers and not below them, its rim is to be wider than one
// pixel, and gradients of the whole volume
// are computed for a rendering that is never shown: without them a scan opens in half the time where there is no graphics card.
function changeDrawing(gl) {
  const idle = new WeakSet();
  let current = null;
  const given = Object.fromEntries(["shaderSource", "attachShader", "useProgram", "framebufferTextureLayer", "checkFramebufferStatus", "drawArrays"].map((name) => [name, gl[name].bind(gl)]));
  gl.shaderSource = (shader, source) => {
    if (GRADIENT.every((name) => source.includes(name))) idle.add(shader);
    given.shaderSource(shader, source.includes("drawRimOpacity") ? source.replace(BLENDED, `${BLENDED} ${ABOVE}`).replace(/= (dFd[xy]\(texPos\));/g, "= 1.6 * $1;") : source);
  };
  gl.attachShader = (program, shader) => {
    if (idle.has(shader)) idle.add(program);
    given.attachShader(program, shader);
  };
  gl.useProgram = (program) => {
    current = program;
    given.useProgram(program);
  };
  const asked = (name, otherwise) => (...what) => (current && idle.has(current) ? otherwise : given[name](...what));
  gl.framebufferTextureLayer = asked("framebufferTextureLayer");
  gl.checkFramebufferStatus = asked("checkFramebufferStatus", gl.FRAMEBUFFER_COMPLETE);
  gl.drawArrays = asked("drawArrays");
}

const GRADIENT = ["coordZ", "dX", "dY", "dZ", "FragColor"];
const BLENDED = "color.rgb = mix(color.rgb, ocolor.rgb, ocolor.a / a);";
const ABOVE = "if (dcolor.a > 0.0) color.rgb = mix(color.rgb, dcolor.rgb, dcolor.a);";

export function readLayer(address, layer) {
  const { colormap = "gray", low = NaN, high = NaN } = MAPS[layer] ?? {};
  return NVImage.loadFromUrl({ url: address, name: `${layer}.nii.gz`, colormap, cal_min: low, cal_max: high });
}

// Calls `each(index in RAS order, index in the file's order)` for every voxel of an image: by one table of strides, both ways.
export function eachVoxel(image, each) {
  const [, nx, ny, nz] = image.dimsRAS;
  const [sx, sy, sz] = image.img2RASstep;
  const origin = image.img2RASstart[0] + image.img2RASstart[1] + image.img2RASstart[2];
  let ras = 0;
  for (let z = 0; z < nz; z += 1) {
    for (let y = 0; y < ny; y += 1) {
      let file = origin + y * sy + z * sz;
      for (let x = 0; x < nx; x += 1, ras += 1, file += sx) each(ras, file);
    }
  }
}

export class Viewer {
  constructor(canvas) {
    this.nv = new Niivue(OPTIONS);
    this.canvas = canvas;
    this.opacity = 0.6;
    this.style = "outline";
    this.view = "planes";
    this.images = {};
    this.shown = new Set();
  }

  async attach() {
    // The context that NiiVue asks for next is this one.
    changeDrawing(this.canvas.getContext("webgl2", { alpha: true, antialias: true }));
    // A gradient that is never computed needs no room either: it would be eight bytes a voxel, half of them sent there as zeros.
    const given = this.nv.rgbaTex.bind(this.nv);
    this.nv.rgbaTex = (old, unit, size, zeroed) => given(old, unit, zeroed || unit === this.nv.gl.TEXTURE6 ? [3, 1, 1, 1] : size);
    await this.nv.attachToCanvas(this.canvas);
    const channel = (n) => COLOURS.map((colour) => colour[n]);
    this.nv.setDrawColormap({ R: channel(0), G: channel(1), B: channel(2), A: COLOURS.map((_, n) => (n ? 255 : 0)), I: COLOURS.map((_, n) => n), labels: COLOURS.map(String) });
    this.nv.setSliceType(TYPES.planes);
    this.applyStyle();
  }

  // Shows a scan: `images` by the names of layers, the FLAIR among them; `shown` are drawn over it, `centre` in millimetres.
  open(images, shown, centre = null) {
    this.images = { ...images };
    this.shown = new Set([...shown].filter((layer) => layer in images));
    this.nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    this.once(() => {
      this.nv.drawBitmap = null;
      this.redraw();
      this.redrawMasks();
      this.applyView();
      if (centre) this.goTo(...centre);
    });
  }

  // Several changes, and one picture.
  once(change) {
    const draw = this.nv.drawScene;
    this.nv.drawScene = () => undefined;
    try {
      change();
    } finally {
      this.nv.drawScene = draw;
    }
    this.nv.drawScene();
  }

  add(layer, image) {
    this.images[layer] = image;
  }

  toggle(layer, on, drawn = false) {
    if (on) this.shown.add(layer);
    else this.shown.delete(layer);
    if (layer in BITS) this.redrawMasks(drawn);
    else this.redraw();
  }

  // All layers at once: adding them one by one would compute the picture as often.
  redraw() {
    const over = Object.keys(this.images).filter((layer) => layer !== "flair" && !(layer in BITS) && this.shown.has(layer));
    over.sort((a, b) => Number(b === "t1") - Number(a === "t1"));
    for (const layer of over) this.images[layer].opacity = layer === "t1" ? 1 : this.opacity;
    this.nv.volumes = [this.images.flair, ...over.map((layer) => this.images[layer])];
    [this.nv.back] = this.nv.volumes;
    this.nv.overlays = this.nv.volumes.slice(1);
    this.nv.updateGLVolume();
  }

  // The bits of all masks that are shown; while one is drawn, its bit stays as it is.
  redrawMasks(drawn = false) {
    if (!this.nv.drawBitmap) this.startMasks();
    const drawing = this.nv.drawBitmap;
    const kept = drawn ? BITS.edited : 0;
    for (let index = 0; index < drawing.length; index += 1) drawing[index] &= kept;
    for (const [layer, bit] of Object.entries(BITS)) {
      if (this.shown.has(layer) && !(bit & kept)) this.paint(layer, bit);
    }
    this.nv.refreshDrawing(true);
  }

  startMasks() {
    const { back, gl } = this.nv;
    this.nv.drawBitmap = new Uint8Array(back.dims[1] * back.dims[2] * back.dims[3]);
    this.nv.drawTexture = this.nv.r8Tex(this.nv.drawTexture, gl.TEXTURE7, back.dims);
  }

  paint(layer, bit) {
    const drawing = this.nv.drawBitmap;
    const { img } = this.images[layer];
    if (img.length !== drawing.length) return; // of another grid than the FLAIR that is shown
    eachVoxel(this.images.flair, (ras, file) => { if (img[file] > 0) drawing[ras] |= bit; });
  }

  setStyle(style) {
    this.style = style;
    this.applyStyle();
    this.nv.drawScene();
  }

  applyStyle() {
    this.nv.drawOpacity = this.style === "outline" ? 0.004 : this.opacity;
    this.nv.drawRimOpacity = 1;
  }

  setOpacity(value) {
    this.opacity = Math.min(1, Math.max(0.1, value));
    this.applyStyle();
    if (this.nv.overlays.length) this.redraw();
    else this.nv.drawScene();
  }

  setView(view) {
    this.view = view;
    this.applyView();
  }

  applyView() {
    if (this.view === "mosaic") {
      const image = this.images.flair;
      const [low, high] = [image.extentsMinOrtho[2], image.extentsMaxOrtho[2]];
      const steps = Array.from({ length: 12 }, (_, n) => (low + ((n + 2) / 15) * (high - low)).toFixed(0));
      this.nv.setSliceMosaicString(`A ${[0, 4, 8].map((row) => steps.slice(row, row + 4).join(" ")).join(" ; ")}`);
      return;
    }
    if (this.nv.opts.sliceMosaicString) this.nv.setSliceMosaicString("");
    if (this.nv.opts.sliceType !== TYPES[this.view]) this.nv.setSliceType(TYPES[this.view]);
  }

  goTo(x, y, z) {
    // By the affine of the file: what NiiVue calls millimetres without this is upright even where a scan is oblique.
    this.nv.scene.crosshairPos = this.nv.mm2frac([x, y, z], 0, true);
    this.nv.createOnLocationChange();
    this.nv.drawScene();
  }

  move(x, y, z) {
    this.nv.moveCrosshairInVox(x, y, z);
  }

  // Through the slices of the plane that is shown.
  step(slices) {
    if (this.view === "coronal") this.move(0, slices, 0);
    else if (this.view === "sagittal") this.move(slices, 0, 0);
    else this.move(0, 0, slices);
  }

  window(brighter) {
    const image = this.images[this.shown.has("t1") ? "t1" : "flair"];
    const width = image.cal_max - image.cal_min;
    image.cal_max = Math.max(image.cal_min + width * 0.1, image.cal_max - brighter * width * 0.1);
    this.nv.updateGLVolume();
  }

  resetWindow() {
    for (const layer of ["flair", "t1"]) {
      const image = this.images[layer];
      if (image) [image.cal_min, image.cal_max] = [image.robust_min, image.robust_max];
    }
    this.nv.updateGLVolume();
  }

  onMove(tell) {
    this.nv.onLocationChange = ({ values }) => tell(Array.from(this.nv.frac2mm(this.nv.scene.crosshairPos, 0, true)), values[0]?.value ?? 0);
  }
}
