// Drawing a mask: a brush through slices, an eraser, whole lesions on and off, and growing. NiiVue holds the drawing in RAS order;
// what is read and saved is in the order of the FLAIR's file, by one table of strides both ways, so that it cannot come back mirrored.
"use strict";
import { BITS, eachVoxel } from "./viewer.js";

const INK = BITS.edited;
export const TOOLS = { brush: "Brush", erase: "Eraser", lesion: "Lesion on/off", grow: "Grow" };
const BUTTONS = { left: 0 };

async function gzip(bytes) {
  return new Response(new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"))).blob();
}

export class Brush {
  // `labels` gives the image of lesion numbers; `changed` is told of every stroke.
  constructor(viewer, stage, labels, changed) {
    Object.assign(this, { viewer, stage, labels, changed, on: false, tool: "brush", radius: 3, through: true, undone: [], strokes: [], last: null });
    const swallow = (event) => {
      if (this.on && !event.ctrlKey && (event.button ?? 0) === BUTTONS.left) event.stopPropagation();
    };
    for (const kind of ["mousedown", "mousemove", "mouseup", "click", "touchstart", "touchmove", "touchend"]) stage.addEventListener(kind, swallow, true);
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.drag(event));
    for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, () => this.up());
  }

  get nv() {
    return this.viewer.nv;
  }

  get image() {
    return this.viewer.images.flair;
  }

  // Starts from a mask that lies on the FLAIR's grid; without one from nothing.
  start(mask) {
    this.on = true;
    this.strokes = [];
    this.viewer.redrawMasks();
    const drawing = this.nv.drawBitmap;
    eachVoxel(this.image, (ras, file) => { drawing[ras] = mask && mask.img[file] > 0 ? drawing[ras] | INK : drawing[ras] & ~INK; });
    this.refresh();
  }

  stop() {
    this.on = false;
    this.strokes = [];
    this.viewer.redrawMasks();
  }

  refresh() {
    this.nv.refreshDrawing(true);
  }

  voxelAt(event) {
    const box = this.viewer.canvas.getBoundingClientRect();
    const scale = this.viewer.canvas.width / box.width;
    const place = this.nv.canvasPos2frac([(event.clientX - box.left) * scale, (event.clientY - box.top) * scale]);
    if (place[0] < 0) return null;
    return { voxel: Array.from(this.nv.frac2vox(place)), plane: this.planeAt((event.clientX - box.left) * scale, (event.clientY - box.top) * scale) };
  }

  // Axis that the slice under the pointer cuts: 2 axial, 1 coronal, 0 sagittal.
  planeAt(x, y) {
    const slice = this.nv.screenSlices.find(({ leftTopWidthHeight: [left, top, width, height] }) => x >= left && y >= top && x < left + width && y < top + height);
    return slice ? 2 - slice.axCorSag : 2;
  }

  down(event) {
    if (!this.on || event.button !== BUTTONS.left || event.ctrlKey) return;
    const at = this.voxelAt(event);
    if (!at) return;
    event.preventDefault();
    this.stage.setPointerCapture(event.pointerId);
    this.begin();
    this.plane = at.plane;
    this.use(at.voxel);
    if (this.tool === "brush" || this.tool === "erase") this.last = at.voxel;
    else this.up();
  }

  drag(event) {
    if (!this.on || !this.last) return;
    const at = this.voxelAt(event);
    if (!at || at.plane !== this.plane) return;
    const spacing = this.image.pixDimsRAS;
    const length = Math.hypot(...[0, 1, 2].map((axis) => (at.voxel[axis] - this.last[axis]) * spacing[axis + 1]));
    const steps = Math.max(1, Math.ceil(length / Math.max(this.radius / 2, 0.5)));
    for (let step = 1; step <= steps; step += 1) this.paint(this.last.map((from, axis) => from + ((at.voxel[axis] - from) * step) / steps), this.tool === "brush");
    this.last = at.voxel;
    if (!this.drawn) this.drawn = requestAnimationFrame(() => { this.drawn = 0; this.refresh(); });
  }

  up() {
    if (!this.stroke) return;
    this.last = null;
    if (this.stroke.size) {
      this.strokes.push(this.stroke);
      this.changed();
    }
    this.stroke = null;
    this.refresh();
  }

  // By keyboard: the tool at the crosshair.
  useAtCrosshair() {
    this.begin();
    this.plane = { coronal: 1, sagittal: 0 }[this.viewer.view] ?? 2;
    this.use(Array.from(this.nv.frac2vox(this.nv.scene.crosshairPos)));
    this.up();
  }

  begin() {
    this.stroke = new Map();
  }

  use(voxel) {
    const centre = voxel.map(Math.round);
    if (this.tool === "brush") this.paint(centre, true);
    else if (this.tool === "erase") this.paint(centre, false);
    else if (this.tool === "lesion") this.switchLesion(centre);
    else this.grow(centre);
  }

  has(index) {
    return (this.nv.drawBitmap[index] & INK) !== 0;
  }

  put(index, marked) {
    const drawing = this.nv.drawBitmap;
    drawing[index] = marked ? drawing[index] | INK : drawing[index] & ~INK;
  }

  set(index, marked) {
    if (this.has(index) === marked) return;
    if (!this.stroke.has(index)) this.stroke.set(index, !marked);
    this.put(index, marked);
  }

  index([x, y, z]) {
    const [, nx, ny] = this.image.dimsRAS;
    return x + nx * (y + ny * z);
  }

  // A ball in millimetres, or a disc in the plane that is drawn on.
  paint(centre, value) {
    const [, ...sizes] = this.image.dimsRAS;
    const [, ...spacing] = this.image.pixDimsRAS;
    const reach = [0, 1, 2].map((axis) => (!this.through && axis === this.plane ? 0 : Math.floor(this.radius / spacing[axis])));
    const from = [0, 1, 2].map((axis) => Math.max(0, Math.ceil(centre[axis] - reach[axis] - 0.5)));
    const to = [0, 1, 2].map((axis) => Math.min(sizes[axis] - 1, Math.floor(centre[axis] + reach[axis] + 0.5)));
    const middle = centre.map(Math.round);
    for (let z = from[2]; z <= to[2]; z += 1) {
      for (let y = from[1]; y <= to[1]; y += 1) {
        for (let x = from[0]; x <= to[0]; x += 1) {
          const at = [x, y, z];
          if (!this.through && at[this.plane] !== middle[this.plane]) continue;
          const distance = Math.hypot(...[0, 1, 2].map((axis) => (at[axis] - centre[axis]) * spacing[axis]));
          if (distance <= this.radius || at.every((value_, axis) => value_ === middle[axis])) this.set(this.index(at), value);
        }
      }
    }
  }

  // A lesion that is drawn goes; one that is only numbered (it looks missed, or was erased) comes.
  switchLesion(centre) {
    if (this.has(this.index(centre))) {
      this.flood(centre, (index) => this.has(index), (index) => this.set(index, false));
      return;
    }
    const numbers = this.labels();
    if (!numbers) return;
    const [sx, sy, sz] = this.image.img2RASstep;
    const [ox, oy, oz] = this.image.img2RASstart;
    const wanted = numbers.img[ox + oy + oz + centre[0] * sx + centre[1] * sy + centre[2] * sz];
    if (wanted > 0) eachVoxel(this.image, (ras, file) => { if (numbers.img[file] === wanted) this.set(ras, true); });
  }

  // NiiVue's own growing: connected voxels that are nearly as bright as this one, or brighter, within three times the reach.
  grow(centre) {
    const image = this.image;
    const grown = new Uint8Array(this.nv.drawBitmap.length);
    const least = image.intensityScaled2Raw(image.getValue(...centre, 0) - 0.12 * (image.cal_max - image.cal_min));
    this.nv.drawPenAxCorSag = 2 - this.plane;
    this.nv.drawFloodFill(centre, 1, 1, least, Number.MAX_VALUE, 6, this.radius * 3, !this.through, grown);
    this.nv.drawPenAxCorSag = -1;
    grown.forEach((value, index) => { if (value) this.set(index, true); });
  }

  flood(seed, inside, visit) {
    const [, nx, ny, nz] = this.image.dimsRAS;
    const waiting = [this.index(seed)];
    const seen = new Set(waiting);
    while (waiting.length) {
      const index = waiting.pop();
      const [x, y, z] = [index % nx, Math.floor(index / nx) % ny, Math.floor(index / (nx * ny))];
      for (let dz = -1; dz <= 1; dz += 1) {
        for (let dy = -1; dy <= 1; dy += 1) {
          for (let dx = -1; dx <= 1; dx += 1) {
            const at = [x + dx, y + dy, z + dz];
            if (at[0] < 0 || at[1] < 0 || at[2] < 0 || at[0] >= nx || at[1] >= ny || at[2] >= nz) continue;
            const next = this.index(at);
            if (!seen.has(next) && inside(next)) {
              seen.add(next);
              waiting.push(next);
            }
          }
        }
      }
    }
    seen.forEach(visit);
  }

  undo() {
    const stroke = this.strokes.pop();
    if (!stroke) return false;
    for (const [index, marked] of stroke) this.put(index, marked);
    this.refresh();
    this.changed();
    return true;
  }

  // The drawing in the order of the FLAIR's file, compressed.
  packed() {
    const bytes = new Uint8Array(this.nv.drawBitmap.length);
    const drawing = this.nv.drawBitmap;
    eachVoxel(this.image, (ras, file) => { bytes[file] = drawing[ras] & INK ? 1 : 0; });
    return gzip(bytes);
  }
}
