/**
 * Draws the image and the plan on a 2D canvas; text is drawn as text. Pure: everything it shows comes as arguments.
 *
 * @typedef {import("./geometry.js").ViewPort} ViewPort
 * @typedef {import("./plan.js").Region} Region
 * @typedef {import("./plan.js").RegionMask} RegionMask
 * @typedef {import("./plan.js").Box} Box
 * @typedef {{regions: Region[], size: [number, number], selection: string[], view: import("./stored.js").View,
 *   port: ViewPort, image: CanvasImageSource | null, band: Box | null, width: number, height: number}} Scene
 *   band: the box being drawn, in pixels of the image; width and height of the canvas in CSS pixels
 */
import { shortened } from "../common/dom.js";
import { colour } from "./colours.js";
import { expanded, patchesOf, toScreen } from "./geometry.js";

const FONT = "12px system-ui, sans-serif";
const LINE = 17;
/** Above this many regions only selected ones carry their hint; the others say their id. */
const MOST_HINTS = 60;

/** @type {WeakMap<RegionMask, Map<string, HTMLCanvasElement>>} */
const masks = new WeakMap();
/** @type {Map<string, {text: string, width: number}>} */
const labels = new Map();

/** @param {CanvasRenderingContext2D} ctx @param {Scene} scene */
export function draw(ctx, scene) {
  const { width, height, port, size, regions, selection, view } = scene;
  ctx.clearRect(0, 0, width, height);
  const [left, top, right, bottom] = toScreen(port, [0, 0, ...size]);
  if (scene.image) {
    ctx.imageSmoothingEnabled = port.scale < 3;
    ctx.drawImage(scene.image, left, top, right - left, bottom - top);
  } else {
    ctx.fillStyle = "#3a3a3a";
    ctx.fillRect(left, top, right - left, bottom - top);
  }
  ctx.fillStyle = `rgba(0,0,0,${view.dim})`;
  ctx.fillRect(left, top, right - left, bottom - top);
  const shown = regions.map((region, index) => ({ region, index, box: toScreen(port, region.bbox_2d) })).filter(({ region }) => !region.hidden);
  // Large boxes first, so that a small one inside them stays visible; what is selected last.
  shown.sort((a, b) => Number(selection.includes(a.region.id)) - Number(selection.includes(b.region.id)) || area(b.box) - area(a.box));
  if (view.patches) for (const { region, index } of shown) drawPatches(ctx, region, index, scene);
  for (const { region, index } of shown) if (region.mask) drawMask(ctx, region.mask, index, [left, top, right, bottom]);
  if (view.patches || view.snap) drawGrid(ctx, scene, [left, top, right, bottom]);
  for (const { region, index, box } of shown) drawBox(ctx, box, index, selection.includes(region.id), Boolean(region.locked));
  ctx.font = FONT;
  ctx.textBaseline = "middle";
  for (const { region, index, box } of shown) {
    const chosen = selection.includes(region.id);
    drawLabel(ctx, region, index, box, scene, chosen, chosen || shown.length <= MOST_HINTS);
  }
  if (scene.band) drawBand(ctx, toScreen(port, scene.band));
}

function area(/** @type {Box} */ [x1, y1, x2, y2]) {
  return (x2 - x1) * (y2 - y1);
}

function drawBox(/** @type {CanvasRenderingContext2D} */ ctx, /** @type {Box} */ [x1, y1, x2, y2], /** @type {number} */ index, /** @type {boolean} */ chosen, /** @type {boolean} */ locked) {
  ctx.lineWidth = chosen ? 5 : 4;
  ctx.strokeStyle = "rgba(0,0,0,0.55)";
  ctx.strokeRect(x1, y1, x2 - x1, y2 - y1);
  ctx.lineWidth = chosen ? 3 : 2;
  ctx.strokeStyle = colour(index);
  ctx.setLineDash(locked ? [6, 4] : []);
  ctx.strokeRect(x1, y1, x2 - x1, y2 - y1);
  ctx.setLineDash([]);
  if (!chosen) return;
  ctx.fillStyle = colour(index, 0.16);
  ctx.fillRect(x1, y1, x2 - x1, y2 - y1);
  if (locked) return;
  ctx.fillStyle = "#fff";
  ctx.strokeStyle = "#000";
  ctx.lineWidth = 1;
  const [mx, my] = [(x1 + x2) / 2, (y1 + y2) / 2];
  for (const [x, y] of [[x1, y1], [mx, y1], [x2, y1], [x2, my], [x2, y2], [mx, y2], [x1, y2], [x1, my]]) {
    ctx.fillRect(x - 3.5, y - 3.5, 7, 7);
    ctx.strokeRect(x - 3.5, y - 3.5, 7, 7);
  }
}

/** The label stands above its box, or inside when there is no room above; it never leaves the canvas. */
function drawLabel(/** @type {CanvasRenderingContext2D} */ ctx, /** @type {Region} */ region, /** @type {number} */ index, /** @type {Box} */ [x1, y1, x2], /** @type {Scene} */ scene, /** @type {boolean} */ chosen, /** @type {boolean} */ withHint) {
  if (x2 < 0 || x1 > scene.width) return;
  const room = Math.max(60, Math.min(chosen ? 320 : x2 - x1 + 40, scene.width - 8));
  const { text, width } = label(ctx, region, withHint, room);
  const x = Math.min(Math.max(x1 - 1, 2), Math.max(2, scene.width - width - 10));
  const y = y1 - LINE - 1 < 2 ? Math.max(y1 + 2, 2) : y1 - LINE - 1;
  if (y > scene.height) return;
  ctx.fillStyle = chosen ? colour(index) : "rgba(0,0,0,0.72)";
  ctx.fillRect(x, y, width + 8, LINE);
  ctx.fillStyle = chosen && isLight(index) ? "#000" : "#fff";
  ctx.fillText(text, x + 4, y + LINE / 2 + 0.5);
  if (!chosen) {
    ctx.fillStyle = colour(index);
    ctx.fillRect(x, y, 3, LINE);
  }
}

function isLight(/** @type {number} */ index) {
  return [3, 4, 6].includes(index % 8);
}

/** The words of a label cut to `room` pixels; measured once for each text. */
function label(/** @type {CanvasRenderingContext2D} */ ctx, /** @type {Region} */ region, /** @type {boolean} */ withHint, /** @type {number} */ room) {
  const signs = `${region.locked ? " \u{1F512}" : ""}${region.start > 0 || region.end < 1 ? ` ${Math.round(region.start * 100)}-${Math.round(region.end * 100)}%` : ""}`;
  const full = withHint ? `${region.id}${signs}: ${shortened(region.hint, 120) || "(no hint)"}` : region.id;
  const key = `${Math.round(room / 8)}|${full}`;
  let found = labels.get(key);
  if (!found) {
    if (labels.size > 2000) labels.clear();
    let text = full;
    let width = ctx.measureText(text).width;
    while (width > room && text.length > 4) {
      text = shortened(full, Math.max(3, Math.min([...text].length - 1, Math.floor(([...text].length * room) / width))));
      width = ctx.measureText(text).width;
    }
    found = { text, width };
    labels.set(key, found);
  }
  return found;
}

function drawPatches(/** @type {CanvasRenderingContext2D} */ ctx, /** @type {Region} */ region, /** @type {number} */ index, /** @type {Scene} */ { port, size, view }) {
  const [left, top, right, bottom] = patchesOf(expanded(region.bbox_2d, view.expand, size), view.patch, size).map((count) => count * view.patch);
  const [x1, y1, x2, y2] = toScreen(port, [left, top, Math.min(right, size[0]), Math.min(bottom, size[1])]);
  ctx.fillStyle = colour(index, 0.3);
  ctx.fillRect(x1, y1, x2 - x1, y2 - y1);
}

function drawGrid(/** @type {CanvasRenderingContext2D} */ ctx, /** @type {Scene} */ { port, view, width, height }, /** @type {Box} */ [left, top, right, bottom]) {
  const step = view.patch * port.scale;
  if (step < 4) return; // the lines alone would cover the picture
  ctx.strokeStyle = "rgba(255,255,255,0.22)";
  ctx.lineWidth = 1;
  ctx.beginPath();
  for (let x = left + step * Math.max(1, Math.ceil(-left / step)); x < Math.min(right, width); x += step) {
    ctx.moveTo(x, Math.max(0, top));
    ctx.lineTo(x, Math.min(height, bottom));
  }
  for (let y = top + step * Math.max(1, Math.ceil(-top / step)); y < Math.min(bottom, height); y += step) {
    ctx.moveTo(Math.max(0, left), y);
    ctx.lineTo(Math.min(width, right), y);
  }
  ctx.stroke();
}

function drawMask(/** @type {CanvasRenderingContext2D} */ ctx, /** @type {RegionMask} */ mask, /** @type {number} */ index, /** @type {Box} */ [left, top, right, bottom]) {
  let tints = masks.get(mask);
  if (!tints) masks.set(mask, (tints = new Map()));
  let picture = tints.get(colour(index));
  if (!picture) tints.set(colour(index), (picture = maskPicture(mask, index)));
  ctx.drawImage(picture, left, top, right - left, bottom - top);
}

function maskPicture(/** @type {RegionMask} */ { size: [height, width], rle }, /** @type {number} */ index) {
  // A mask may have as many cells as a photograph has pixels; half a thousand a side is enough to see it.
  const shrink = Math.max(1, Math.ceil(Math.max(width, height) / 512));
  const picture = document.createElement("canvas");
  picture.width = Math.ceil(width / shrink);
  picture.height = Math.ceil(height / shrink);
  const ctx = /** @type {CanvasRenderingContext2D} */ (picture.getContext("2d"));
  ctx.fillStyle = colour(index, 0.4);
  let at = 0;
  for (const [place, run] of rle.entries()) {
    for (let from = at, end = at + run; place % 2 && from < end; ) {
      const row = Math.floor(from / width);
      const stop = Math.min(end, (row + 1) * width);
      if (row % shrink === 0) ctx.fillRect((from - row * width) / shrink, row / shrink, (stop - from) / shrink, 1);
      from = stop;
    }
    at += run;
  }
  return picture;
}

function drawBand(/** @type {CanvasRenderingContext2D} */ ctx, /** @type {Box} */ [x1, y1, x2, y2]) {
  ctx.setLineDash([5, 4]);
  ctx.lineWidth = 1.5;
  ctx.strokeStyle = "#fff";
  ctx.strokeRect(x1, y1, x2 - x1, y2 - y1);
  ctx.setLineDash([]);
}
