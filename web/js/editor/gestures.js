/**
 * Mouse, pen and touch on the canvas. One pointer draws, selects, moves and resizes; two pan and zoom.
 *
 * - press on a box: select it, drag to move; press again without moving: the next box below
 * - press twice: write the hint, as after drawing
 * - press on an edge or a corner of the selected box: resize; on nothing: draw a box; Ctrl or Cmd: draw over boxes
 * - Shift: add to the selection; middle button, or Space held: pan; wheel while the canvas has the focus: zoom
 */
import { boxBetween, boxesAt, handleAt, resized, SMALLEST_DRAG, snapped, toScreen } from "./geometry.js";
import { isOn } from "./plan.js";

/** Reach of an edge in screen pixels: a finger is wider than a mouse pointer. @type {Record<string, number>} */
const REACH = { mouse: 6, pen: 9, touch: 16 };

export class Gestures {
	/** @type {Gesture | null} */
	gesture = null;
	/** @type {Map<number, Point>} */
	pointers = new Map();
	spaceHeld = false;
	count = 0;
	/** The regions that the last two presses were meant for: the first may have gone on to the box below. */
	meant = ["", ""];

	/**
	 * onEnd: a drag is stored when it ends, not at every move; onWrite: the hint of the current region is to be written.
	 * @param {CanvasView} view @param {EditorState} state @param {() => void} onEnd @param {() => void} onWrite
	 */
	constructor(view, state, onEnd, onWrite) {
		this.view = view;
		this.state = state;
		this.onEnd = onEnd;
		this.onWrite = onWrite;
		const { canvas } = view;
		canvas.addEventListener("pointerdown", (event) => this.down(event));
		canvas.addEventListener("pointermove", (event) => this.move(event));
		canvas.addEventListener("pointerup", (event) => this.up(event));
		canvas.addEventListener("pointercancel", (event) => this.up(event, true));
		canvas.addEventListener("dblclick", () => this.write(this.meant[0]));
		canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
	}

	get dragging() {
		return this.gesture !== null && this.gesture.kind !== "pan" && this.gesture.kind !== "pinch";
	}

	down(event) {
		const { canvas } = this.view;
		event.stopPropagation();
		event.preventDefault();
		canvas.focus({ preventScroll: true });
		canvas.setPointerCapture(event.pointerId);
		const point = this.view.pointOf(event);
		this.pointers.set(event.pointerId, point);
		if (this.pointers.size === 2) {
			this.cancel();
			this.gesture = { kind: "pinch", ...this.spread() };
		} else if (this.pointers.size === 1) {
			this.gesture = this.begin(event, point);
		}
	}

	/** @returns {Gesture | null} */
	begin(event, point) {
		const { state, view } = this;
		if (event.button === 1 || this.spaceHeld) return { kind: "pan", last: point };
		if (event.button !== 0) return null;
		const from = view.imagePointOf(event);
		const under = boxesAt(state.plan.regions, from).map((index) => state.plan.regions[index].id);
		const over = event.ctrlKey || event.metaKey;
		const key = `drag ${(this.count += 1)}`;
		const { current } = state;
		this.meant = [this.meant[1], under.find((id) => id === current?.id) ?? under[0] ?? ""];
		const handle = !over && !event.shiftKey && !state.readOnly && this.handleAt(point, event);
		if (handle && current) return { kind: "resize", from, id: current.id, box: current.bbox_2d, handle, key };
		if (over || !under.length) return { kind: "band", from, start: point };
		if (event.shiftKey) {
			state.alsoSelect(under[0]);
			return null;
		}
		const again = under.some((id) => state.selection.includes(id));
		if (!again) state.select([under[0]]);
		return { kind: "move", from, boxes: state.movable, key, moved: false, under, again };
	}

	write(id) {
		if (!id) return;
		this.state.select([id]);
		this.onWrite();
	}

	handleAt(point, { pointerType }) {
		const { current } = this.state;
		if (!current || current.locked || !isOn(current)) return null;
		return handleAt(toScreen(this.view.port, current.bbox_2d), point, REACH[pointerType] ?? REACH.mouse);
	}

	move(event) {
		const { gesture, view } = this;
		if (!this.pointers.has(event.pointerId)) return this.hover(event);
		if (!event.buttons) return this.up(event); // let go where this page did not hear of it
		event.stopPropagation();
		const point = view.pointOf(event);
		this.pointers.set(event.pointerId, point);
		if (gesture?.kind === "pinch") {
			const { distance, middle } = this.spread();
			if (gesture.distance > 0) view.zoom(distance / gesture.distance, middle);
			view.pan(middle[0] - gesture.middle[0], middle[1] - gesture.middle[1]);
			Object.assign(gesture, { distance, middle });
		} else if (gesture?.kind === "pan") {
			view.pan(point[0] - gesture.last[0], point[1] - gesture.last[1]);
			gesture.last = point;
		} else if (gesture) {
			this.drag(gesture, view.imagePointOf(event), point);
		}
	}

	/** To `at` in the image, `point` on the screen. @param {Exclude<Gesture, { kind: "pan" | "pinch" }>} gesture */
	drag(gesture, at, point) {
		const { state, view } = this;
		const size = state.plan.image_size;
		const { snap, patch } = state.view;
		const [dx, dy] = [at[0] - gesture.from[0], at[1] - gesture.from[1]];
		if (gesture.kind === "band") {
			const far = Math.hypot(point[0] - gesture.start[0], point[1] - gesture.start[1]) >= SMALLEST_DRAG;
			if (!state.readOnly && (far || view.band)) view.show({ band: boxBetween(gesture.from, at, size) });
		} else if (gesture.kind === "resize") {
			const box = resized(gesture.box, gesture.handle, dx, dy, size);
			state.setBoxes([gesture.id], () => (snap ? snapped(box, patch, size) : box), gesture.key);
		} else if (gesture.moved || Math.hypot(dx, dy) >= 3 / view.port.scale) {
			gesture.moved = true;
			state.shift(gesture.boxes, dx, dy, gesture.key);
		}
	}

	up(event, cancelled = false) {
		if (!this.pointers.delete(event.pointerId)) return;
		event.stopPropagation();
		event.preventDefault(); // under Linux the middle button would also paste what is selected somewhere
		const { gesture } = this;
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

	finish(gesture) {
		const { state, view } = this;
		if (gesture.kind === "band") {
			const { band } = view;
			view.show({ band: null });
			if (band && band[2] - band[0] >= 1 && band[3] - band[1] >= 1) {
				state.add(band);
				this.onWrite();
			} else state.select([]);
		} else if (gesture.kind === "move" && !gesture.moved) {
			// A second press in one place goes on to the next box below; of several selected ones it leaves one.
			const at = gesture.under.indexOf(state.selection.at(-1) ?? "");
			if (state.selection.length > 1) state.select([gesture.under[Math.max(0, at)]]);
			else if (gesture.again) state.select([gesture.under[(at + 1) % gesture.under.length]]);
		}
	}

	cancel() {
		const { gesture } = this;
		this.gesture = null;
		this.view.show({ band: null });
		if (gesture?.kind === "resize" || gesture?.kind === "move") this.state.cancel(gesture.key);
	}

	/** The canvas goes elsewhere: what is pressed now ends without a word. */
	forget() {
		this.cancel();
		this.pointers.clear();
	}

	spread() {
		const [a, b] = [...this.pointers.values()];
		/** @type {Point} */
		const middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
		return { distance: Math.hypot(a[0] - b[0], a[1] - b[1]), middle };
	}

	/** Show by the pointer what a press would do. */
	hover(event) {
		const { state, view } = this;
		const at = view.imagePointOf(event);
		const over = event.ctrlKey || event.metaKey;
		const handle = !over && this.handleAt(view.pointOf(event), event);
		let cursor = "crosshair";
		if (this.spaceHeld) cursor = "grab";
		else if (state.readOnly) cursor = "default";
		else if (handle) cursor = `${handle}-resize`;
		else if (!over && boxesAt(state.plan.regions, at).length) cursor = "move";
		view.canvas.style.cursor = cursor;
	}

	wheel(event) {
		if (document.activeElement !== this.view.canvas) return; // the graph zooms until someone works in here
		event.preventDefault();
		event.stopPropagation();
		this.view.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), this.view.pointOf(event));
	}
}
