/**
 * Mouse, pen and touch on the canvas. One pointer draws, selects, moves and resizes; two pan and zoom.
 *
 * - press on a box: select it, drag to move; press again without moving: the next box below
 * - press on an edge or a corner of the selected box: resize; on nothing: draw a box; Ctrl or Cmd: draw over boxes
 * - Shift: add to the selection; middle button, or Space held: pan; wheel while the canvas has the focus: zoom
 *
 * @typedef {import("./plan.js").Box} Box
 * @typedef {import("./geometry.js").Handle} Handle
 * @typedef {{kind: "move", from: [number, number], boxes: Map<string, Box>, key: string, moved: boolean, under: string[], again: boolean}
 *   | {kind: "resize", from: [number, number], id: string, box: Box, handle: Handle, key: string}
 *   | {kind: "band", from: [number, number], start: [number, number]}
 *   | {kind: "pan", last: [number, number]}
 *   | {kind: "pinch", distance: number, middle: [number, number]}} Gesture
 */
import { boxBetween, boxesAt, handleAt, resized, sharedMove, SMALLEST_DRAG, snapped, toScreen } from "./geometry.js";

/** Reach of an edge in screen pixels: a finger is wider than a mouse pointer. */
const REACH = { mouse: 6, pen: 9, touch: 16 };

export class Gestures {
  /** @param {import("./canvas_view.js").CanvasView} view @param {import("./state.js").EditorState} state */
  constructor(view, state) {
    this.view = view;
    this.state = state;
    /** @type {Gesture | null} */
    this.gesture = null;
    /** @type {Map<number, [number, number]>} */
    this.pointers = new Map();
    this.spaceHeld = false;
    this.count = 0;
    /** Called when a drag ends, so that the plan is stored once and not at every move. */
    this.onEnd = () => {};
    const canvas = view.canvas;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event, true));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  get dragging() {
    return this.gesture !== null && this.gesture.kind !== "pan" && this.gesture.kind !== "pinch";
  }

  down(/** @type {PointerEvent} */ event) {
    event.stopPropagation();
    event.preventDefault();
    this.view.canvas.focus({ preventScroll: true });
    const point = this.view.pointOf(event);
    this.pointers.set(event.pointerId, point);
    this.view.canvas.setPointerCapture(event.pointerId);
    if (this.pointers.size === 2) {
      this.cancel();
      this.gesture = { kind: "pinch", ...this.spread() };
    } else if (this.pointers.size === 1) {
      this.gesture = this.begin(event, point);
    }
  }

  /** @returns {Gesture | null} */
  begin(/** @type {PointerEvent} */ event, /** @type {[number, number]} */ point) {
    const { state, view } = this;
    if (event.button === 1 || this.spaceHeld) return { kind: "pan", last: point };
    if (event.button !== 0) return null;
    const from = view.imagePointOf(event);
    this.count += 1;
    const key = `drag ${this.count}`;
    if (event.ctrlKey || event.metaKey) return this.band(from, point);
    const current = state.current;
    const reach = REACH[/** @type {keyof REACH} */ (event.pointerType)] ?? REACH.mouse;
    if (current && !current.locked && !current.hidden && !event.shiftKey && !state.readOnly) {
      const handle = handleAt(toScreen(view.port, current.bbox_2d), point, reach);
      if (handle) return { kind: "resize", from, id: current.id, box: current.bbox_2d, handle, key };
    }
    const under = boxesAt(state.plan.regions, from).map((index) => state.plan.regions[index].id);
    if (!under.length) return this.band(from, point);
    if (event.shiftKey) {
      const id = under[0];
      state.select(state.selection.includes(id) ? state.selection.filter((one) => one !== id) : [...state.selection, id]);
      return null;
    }
    const again = under.some((id) => state.selection.includes(id));
    if (!again) state.select([under[0]]);
    return { kind: "move", from, boxes: this.movable(), key, moved: false, under, again };
  }

  /** @returns {Gesture} */
  band(/** @type {[number, number]} */ from, /** @type {[number, number]} */ start) {
    return { kind: "band", from, start };
  }

  /** The boxes that a drag moves, as they are now. */
  movable() {
    return new Map(this.state.selected.filter((region) => !region.locked && !region.hidden).map((region) => [region.id, region.bbox_2d]));
  }

  move(/** @type {PointerEvent} */ event) {
    if (!this.pointers.has(event.pointerId)) {
      this.hover(event);
      return;
    }
    event.stopPropagation();
    const point = this.view.pointOf(event);
    this.pointers.set(event.pointerId, point);
    const gesture = this.gesture;
    if (gesture?.kind === "pinch") {
      const { distance, middle } = this.spread();
      if (gesture.distance > 0) this.view.zoom(distance / gesture.distance, middle);
      this.view.pan(middle[0] - gesture.middle[0], middle[1] - gesture.middle[1]);
      Object.assign(gesture, { distance, middle });
    } else if (gesture?.kind === "pan") {
      this.view.pan(point[0] - gesture.last[0], point[1] - gesture.last[1]);
      gesture.last = point;
    } else if (gesture) {
      this.drag(gesture, this.view.imagePointOf(event), point);
    }
  }

  drag(/** @type {Gesture} */ gesture, /** @type {[number, number]} */ at, /** @type {[number, number]} */ point) {
    const { state, view } = this;
    const size = state.plan.image_size;
    const { snap, patch } = state.view;
    if (gesture.kind === "band") {
      if (state.readOnly) return;
      const far = Math.hypot(point[0] - gesture.start[0], point[1] - gesture.start[1]) >= SMALLEST_DRAG;
      view.setBand(far || view.band ? boxBetween(gesture.from, at, size) : null);
    } else if (gesture.kind === "resize") {
      const box = resized(gesture.box, gesture.handle, at[0] - gesture.from[0], at[1] - gesture.from[1], size);
      state.setBoxes(new Map([[gesture.id, snap ? snapped(box, patch, size) : box]]), gesture.key);
    } else if (gesture.kind === "move") {
      const slack = 3 / view.port.scale;
      if (!gesture.moved && Math.hypot(at[0] - gesture.from[0], at[1] - gesture.from[1]) < slack) return;
      gesture.moved = true;
      state.setBoxes(this.shifted(gesture.boxes, at[0] - gesture.from[0], at[1] - gesture.from[1]), gesture.key);
    }
  }

  /** Boxes moved together; with snap the first one's left top corner goes to a grid line. */
  shifted(/** @type {Map<string, Box>} */ boxes, /** @type {number} */ dx, /** @type {number} */ dy) {
    const { snap, patch } = this.state.view;
    const first = boxes.values().next().value;
    if (snap && first) {
      dx = Math.round((first[0] + dx) / patch) * patch - first[0];
      dy = Math.round((first[1] + dy) / patch) * patch - first[1];
    }
    const [x, y] = sharedMove([...boxes.values()], dx, dy, this.state.plan.image_size);
    return new Map([...boxes].map(([id, [x1, y1, x2, y2]]) => [id, /** @type {Box} */ ([x1 + x, y1 + y, x2 + x, y2 + y])]));
  }

  up(/** @type {PointerEvent} */ event, cancelled = false) {
    if (!this.pointers.delete(event.pointerId)) return;
    event.stopPropagation();
    const gesture = this.gesture;
    if (cancelled) this.cancel();
    this.gesture = null;
    if (gesture?.kind === "pinch") {
      this.pointers.clear(); // the finger that stays must not begin to draw
      return;
    }
    if (gesture && !cancelled) this.finish(gesture);
    this.state.history.close();
    this.onEnd();
  }

  finish(/** @type {Gesture} */ gesture) {
    const { state, view } = this;
    if (gesture.kind === "band") {
      const band = view.band;
      view.setBand(null);
      if (band && band[2] - band[0] >= 1 && band[3] - band[1] >= 1) state.add(band);
      else state.select([]);
    } else if (gesture.kind === "move" && !gesture.moved) {
      // A second press in one place goes on to the next box below; of several selected ones it leaves one.
      const at = gesture.under.indexOf(/** @type {string} */ (state.selection.at(-1)));
      if (state.selection.length > 1) state.select([gesture.under[Math.max(0, at)]]);
      else if (gesture.again) state.select([gesture.under[(at + 1) % gesture.under.length]]);
    }
  }

  /** Undo what an unfinished drag did. @returns {boolean} whether there was one */
  cancel() {
    const gesture = this.gesture;
    this.gesture = null;
    this.view.setBand(null);
    if (gesture?.kind === "resize" || gesture?.kind === "move") this.state.cancel(gesture.key);
    return gesture !== null;
  }

  spread() {
    const [a, b] = [...this.pointers.values()];
    const middle = /** @type {[number, number]} */ ([(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]);
    return { distance: Math.hypot(a[0] - b[0], a[1] - b[1]), middle };
  }

  /** Show by the pointer what a press would do. */
  hover(/** @type {PointerEvent} */ event) {
    const { state, view } = this;
    const current = state.current;
    let cursor = boxesAt(state.plan.regions, view.imagePointOf(event)).length ? "move" : "crosshair";
    if (current && !current.locked && !current.hidden) {
      const handle = handleAt(toScreen(view.port, current.bbox_2d), view.pointOf(event), REACH.mouse);
      if (handle) cursor = `${handle}-resize`;
    }
    if (event.ctrlKey || event.metaKey) cursor = "crosshair";
    view.canvas.style.cursor = this.spaceHeld ? "grab" : state.readOnly ? "default" : cursor;
  }

  wheel(/** @type {WheelEvent} */ event) {
    if (document.activeElement !== this.view.canvas) return; // the graph zooms until someone works in here
    event.preventDefault();
    event.stopPropagation();
    this.view.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), this.view.pointOf(event));
  }
}
