/**
 * Boxes, patches and the view: numbers only.
 *
 * @typedef {import("./plan.js").Box} Box
 * @typedef {import("./plan.js").Region} Region
 * @typedef {{scale: number, x: number, y: number}} ViewPort screen = image * scale + (x, y), in CSS pixels
 * @typedef {"n" | "s" | "e" | "w" | "ne" | "nw" | "se" | "sw"} Handle
 * @typedef {{index: number, handle: Handle | null}} Hit
 */

/** The smallest side of a box in pixels of the image. */
export const SMALLEST = 2;
/** A drag shorter than this, in screen pixels, draws nothing. */
export const SMALLEST_DRAG = 5;

/** @type {Handle[]} */
export const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];

function clamp(/** @type {number} */ value, /** @type {number} */ low, /** @type {number} */ high) {
  return Math.min(Math.max(value, low), Math.max(low, high));
}

/**
 * The box moved, as far as the image allows; its size stays.
 * @param {Box} box
 * @param {number} dx
 * @param {number} dy
 * @param {[number, number]} size
 * @returns {Box}
 */
export function moved([x1, y1, x2, y2], dx, dy, [width, height]) {
  const across = clamp(dx, -x1, width - x2);
  const down = clamp(dy, -y1, height - y2);
  return [x1 + across, y1 + down, x2 + across, y2 + down];
}

/**
 * How far several boxes can move together, at most (dx, dy).
 * @param {Box[]} boxes
 * @param {number} dx
 * @param {number} dy
 * @param {[number, number]} size
 * @returns {[number, number]}
 */
export function sharedMove(boxes, dx, dy, size) {
  for (const box of boxes) {
    const [x1, y1] = moved(box, dx, dy, size);
    [dx, dy] = [x1 - box[0], y1 - box[1]];
  }
  return [dx, dy];
}

/**
 * The box with the edges of one handle moved. An edge stops before its opposite and at the border.
 * @param {Box} box
 * @param {Handle} handle
 * @param {number} dx
 * @param {number} dy
 * @param {[number, number]} size
 * @returns {Box}
 */
export function resized([x1, y1, x2, y2], handle, dx, dy, [width, height]) {
  return [
    handle.includes("w") ? clamp(x1 + dx, 0, x2 - SMALLEST) : x1,
    handle.includes("n") ? clamp(y1 + dy, 0, y2 - SMALLEST) : y1,
    handle.includes("e") ? clamp(x2 + dx, x1 + SMALLEST, width) : x2,
    handle.includes("s") ? clamp(y2 + dy, y1 + SMALLEST, height) : y2,
  ];
}

/**
 * The box between two points, on the image.
 * @param {[number, number]} from
 * @param {[number, number]} to
 * @param {[number, number]} size
 * @returns {Box}
 */
export function boxBetween([ax, ay], [bx, by], [width, height]) {
  const x = [clamp(ax, 0, width), clamp(bx, 0, width)].sort((a, b) => a - b);
  const y = [clamp(ay, 0, height), clamp(by, 0, height)].sort((a, b) => a - b);
  return [x[0], y[0], x[1], y[1]];
}

/**
 * Edges on the nearest lines of a grid of `step` pixels, at least one cell apart; the image's own border counts as a line.
 * @param {Box} box
 * @param {number} step
 * @param {[number, number]} size
 * @returns {Box}
 */
export function snapped([x1, y1, x2, y2], step, [width, height]) {
  const axis = (/** @type {number} */ low, /** @type {number} */ high, /** @type {number} */ end) => {
    const line = (/** @type {number} */ at) => (end - at < Math.abs(at - Math.round(at / step) * step) ? end : Math.min(Math.round(at / step) * step, end));
    const first = Math.min(line(low), Math.floor((end - 1) / step) * step);
    return [first, Math.max(line(high), Math.min(first + step, end))];
  };
  const [left, right] = axis(x1, x2, width);
  const [top, bottom] = axis(y1, y2, height);
  return [left, top, right, bottom];
}

/**
 * The box after an expansion by a ratio of its own sides (expand_regions in planner/change.py).
 * @param {Box} box
 * @param {number} ratio
 * @param {[number, number]} size
 * @returns {Box}
 */
export function expanded([x1, y1, x2, y2], ratio, [width, height]) {
  const [dx, dy] = [ratio * (x2 - x1), ratio * (y2 - y1)];
  return [Math.max(0, x1 - dx), Math.max(0, y1 - dy), Math.min(width, x2 + dx), Math.min(height, y2 + dy)];
}

/**
 * The patches a box touches, as columns [left, right) and rows [top, bottom) of the grid (planner/geometry.py).
 * @param {Box} box
 * @param {number} patch side of a patch in pixels of the image
 * @param {[number, number]} size
 * @returns {Box}
 */
export function patchesOf([x1, y1, x2, y2], patch, [width, height]) {
  const span = (/** @type {number} */ low, /** @type {number} */ high, /** @type {number} */ count) => {
    const first = Math.floor(low / patch + 1e-6);
    const last = Math.max(first + 1, Math.ceil(high / patch - 1e-6));
    return [clamp(first, 0, count), clamp(last, 0, count)];
  };
  const [left, right] = span(x1, x2, Math.ceil(width / patch));
  const [top, bottom] = span(y1, y2, Math.ceil(height / patch));
  return [left, top, right, bottom];
}

// ---- the view -------------------------------------------------------------------------------------------------

/**
 * The view that shows the whole image in the middle.
 * @param {[number, number]} size
 * @param {number} width of the canvas in CSS pixels
 * @param {number} height
 * @returns {ViewPort}
 */
export function fitted([imageWidth, imageHeight], width, height) {
  const margin = 8;
  const scale = Math.max(0.001, Math.min((width - 2 * margin) / imageWidth, (height - 2 * margin) / imageHeight));
  return { scale, x: (width - imageWidth * scale) / 2, y: (height - imageHeight * scale) / 2 };
}

/**
 * The view enlarged about a point of the screen.
 * @param {ViewPort} view
 * @param {number} factor
 * @param {[number, number]} point
 * @returns {ViewPort}
 */
export function zoomed(view, factor, [px, py]) {
  const scale = clamp(view.scale * factor, 0.005, 64);
  const by = scale / view.scale;
  return { scale, x: px - (px - view.x) * by, y: py - (py - view.y) * by };
}

/** @param {ViewPort} view @param {[number, number]} point @returns {[number, number]} */
export function toImage(view, [px, py]) {
  return [(px - view.x) / view.scale, (py - view.y) / view.scale];
}

/** @param {ViewPort} view @param {Box} box @returns {Box} */
export function toScreen({ scale, x, y }, [x1, y1, x2, y2]) {
  return [x1 * scale + x, y1 * scale + y, x2 * scale + x, y2 * scale + y];
}

// ---- what lies under the pointer ------------------------------------------------------------------------------

/**
 * The handle of a box at a point: within `reach` screen pixels of a corner or an edge. On a small box the handles lie
 * outside it, so that its middle still moves it.
 * @param {Box} box on the screen
 * @param {[number, number]} point
 * @param {number} reach
 * @returns {Handle | null}
 */
export function handleAt([x1, y1, x2, y2], [px, py], reach) {
  if (px < x1 - reach || px > x2 + reach || py < y1 - reach || py > y2 + reach) return null;
  const inX = Math.min(reach, (x2 - x1) / 4);
  const inY = Math.min(reach, (y2 - y1) / 4);
  const west = px <= x1 + inX;
  const east = px >= x2 - inX;
  const north = py <= y1 + inY;
  const south = py >= y2 - inY;
  const name = `${north ? "n" : south ? "s" : ""}${west ? "w" : east ? "e" : ""}`;
  return name ? /** @type {Handle} */ (name) : null;
}

/**
 * All boxes under a point, the smallest first, so that one inside another can be reached; hidden ones are left out.
 * @param {Region[]} regions
 * @param {[number, number]} point in pixels of the image
 * @returns {number[]} places in `regions`
 */
export function boxesAt(regions, [x, y]) {
  const area = (/** @type {Box} */ [x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
  return regions
    .map((region, index) => ({ region, index }))
    .filter(({ region: { bbox_2d: [x1, y1, x2, y2], hidden } }) => !hidden && x >= x1 && x <= x2 && y >= y1 && y <= y2)
    .sort((a, b) => area(a.region.bbox_2d) - area(b.region.bbox_2d) || b.index - a.index)
    .map(({ index }) => index);
}
