/** The keys of the canvas: each with what it does, so that the `?` sheet is always right. */
import { button, element } from "../common/dom.js";
import { moved, resized, snapped } from "./geometry.js";

/**
 * @typedef {{state: import("./state.js").EditorState, view: import("./canvas_view.js").CanvasView,
 *   gestures: import("./gestures.js").Gestures, focusHint: () => void, showSheet: () => void, say: (text: string) => void}} Parts
 */

/** @type {[string, string][]} */
export const SHEET = [
  ["Drag on nothing", "draw a box (Ctrl or Cmd: also over boxes)"],
  ["Click", "select; click again: the next box below; Shift: several"],
  ["Drag a box, an edge, a corner", "move, resize"],
  ["Wheel, two fingers", "zoom and pan (middle button or Space: pan)"],
  ["Tab, Shift+Tab", "next, previous region"],
  ["Arrows", "move by 1 pixel (Shift: 10; snap: one patch)"],
  ["Alt+Arrows", "move the right or bottom edge"],
  ["N", "new region in the middle"],
  ["Enter", "write the hint; Escape comes back"],
  ["Delete", "delete; Ctrl+D duplicate"],
  ["L, H", "lock, hide"],
  ["[ and ]", "earlier, later in the order"],
  ["S, P", "snap to patches, show covered patches"],
  ["+, -, 0", "zoom in, out, show all"],
  ["Ctrl+A", "select all; Escape: none, then leave"],
  ["Ctrl+C, Ctrl+V", "copy, paste regions or a plan"],
  ["Ctrl+Z, Ctrl+Shift+Z", "undo, redo"],
  ["?", "this sheet"],
];

/** Handle a key on the canvas. @param {KeyboardEvent} event @param {Parts} parts */
export function onKey(event, parts) {
  const handled = event.ctrlKey || event.metaKey ? withCtrl(event, parts) : plain(event, parts);
  if (handled) event.preventDefault();
}

/** Undo or redo. @param {KeyboardEvent} event @param {import("./state.js").EditorState} state @returns {boolean} */
export function undoKey(event, state) {
  const key = event.key.toLowerCase();
  if (!(event.ctrlKey || event.metaKey) || (key !== "z" && key !== "y")) return false;
  if (key === "y" || event.shiftKey) state.redo();
  else state.undo();
  return true;
}

/** @returns {boolean} */
function withCtrl(/** @type {KeyboardEvent} */ event, /** @type {Parts} */ { state }) {
  const key = event.key.toLowerCase();
  if (undoKey(event, state)) return true;
  if (key === "d") state.duplicate(state.selection);
  else if (key === "a") state.select(state.plan.regions.filter((region) => !region.hidden).map((region) => region.id));
  else return false;
  return true;
}

/** @returns {boolean} */
function plain(/** @type {KeyboardEvent} */ event, /** @type {Parts} */ parts) {
  const { state, view, gestures } = parts;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key.startsWith("Arrow")) return onArrow(event, state);
  switch (key) {
    case "Tab":
      return state.selectNext(event.shiftKey ? -1 : 1); // past the last one the focus moves on
    case "Escape":
      if (gestures.dragging) gestures.cancel();
      else if (state.selection.length) state.select([]);
      else view.canvas.blur();
      return true;
    case "Delete":
    case "Backspace":
      state.remove(state.selection);
      return true;
    case "Enter":
      if (state.current) parts.focusHint();
      return true;
    case " ":
      gestures.spaceHeld = true;
      return true;
    case "n": {
      const [width, height] = state.plan.image_size;
      const [w, h] = [width / 4, height / 4];
      state.add([(width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2]);
      return true;
    }
    case "l":
      state.toggle(state.selection, "locked");
      return true;
    case "h":
      state.toggle(state.selection, "hidden");
      return true;
    case "[":
    case "]":
      if (state.current) state.reorder(state.current.id, key === "[" ? -1 : 1);
      return true;
    case "s":
      state.setView({ snap: !state.view.snap });
      return true;
    case "p":
      state.setView({ patches: !state.view.patches });
      return true;
    case "+":
    case "=":
      view.zoom(1.25);
      return true;
    case "-":
      view.zoom(0.8);
      return true;
    case "0":
      view.fit();
      return true;
    case "?":
      parts.showSheet();
      return true;
  }
  return false;
}

/** @returns {boolean} */
function onArrow(/** @type {KeyboardEvent} */ event, /** @type {import("./state.js").EditorState} */ state) {
  const { snap, patch } = state.view;
  const step = snap ? patch : event.shiftKey ? 10 : 1;
  const dx = event.key === "ArrowLeft" ? -step : event.key === "ArrowRight" ? step : 0;
  const dy = event.key === "ArrowUp" ? -step : event.key === "ArrowDown" ? step : 0;
  const size = state.plan.image_size;
  state.editRegions(state.selection, (region) => {
    if (region.locked) return region;
    const plainBox = event.altKey ? resized(region.bbox_2d, "se", dx, dy, size) : moved(region.bbox_2d, dx, dy, size);
    const box = snap ? snapped(plainBox, patch, size) : plainBox;
    return box.join() === region.bbox_2d.join() ? region : { ...region, bbox_2d: box };
  }, `nudge ${state.selection.join()} ${event.altKey}`);
  return true;
}

/** The sheet of keys as a dialog. @param {() => void} close */
export function keySheet(close) {
  const rows = SHEET.map(([keys, what]) => element("tr", {}, element("th", { scope: "row" }, keys), element("td", {}, what)));
  return element("div", { class: "replan-dialog", role: "dialog", "aria-label": "Keys" },
    element("div", { class: "replan-row" }, element("strong", {}, "Keys"), button("Close", "Close (Escape)", close)),
    element("table", {}, element("tbody", {}, ...rows)));
}
