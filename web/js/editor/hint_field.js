/** The field that opens at a box on the canvas: what is typed there is the region's hint. */
import { element } from "../common/dom.js";
import { texts } from "../common/texts.js";
import { clamp, toScreen } from "./geometry.js";

const WIDTH = 200;
const GAP = 4;

export class HintField {
	id = "";

	/** leave: the focus goes back to the canvas. @param {CanvasView} view @param {EditorState} state @param {() => void} leave */
	constructor(view, state, leave) {
		this.view = view;
		this.state = state;
		this.leave = leave;
		const { hint, hintHere } = texts.panel;
		this.root = element("textarea", {
			class: "replan-hint-field", rows: 2, dir: "auto", hidden: true, "aria-label": hintHere, placeholder: hint, title: hintHere,
			oninput: () => state.setFields(this.id, { hint: this.root.value.toWellFormed() }),
			onkeydown: (event) => this.key(event),
			onblur: () => document.hasFocus() && this.close(), // another window leaves it open
		});
		view.root.append(this.root);
		view.onDraw = () => this.place();
	}

	/** Write the hint of the current region, from its end on. @returns {boolean} whether there is one to write in */
	open() {
		const { root, state, view } = this;
		const { current } = state;
		if (!current || state.readOnly) return false;
		state.history.close();
		this.id = current.id;
		root.hidden = false;
		root.value = current.hint;
		view.place();
		this.place();
		root.focus({ preventScroll: true });
		root.setSelectionRange(root.value.length, root.value.length);
		return true;
	}

	close() {
		this.state.history.close();
		this.root.hidden = true;
		this.id = "";
	}

	key(event) {
		const { key, shiftKey, isComposing } = event;
		if (isComposing || (key !== "Escape" && (key !== "Enter" || shiftKey))) return; // Enter in the middle of a word chooses its characters
		event.preventDefault();
		if (key === "Escape") this.state.cancel(`${this.id}.hint`);
		this.close();
		this.leave();
	}

	/** Below the box, above where there is no room, and always on the canvas. */
	place() {
		const { root, view: { port, width, height }, state } = this;
		if (root.hidden) return;
		const region = state.current;
		if (region?.id !== this.id || state.readOnly) return this.close(), this.leave(); // taken back meanwhile
		const [x1, y1, x2, y2] = toScreen(port, region.bbox_2d);
		const wide = Math.min(Math.max(WIDTH, x2 - x1), width - 2 * GAP);
		const high = root.offsetHeight;
		const top = y2 + GAP + high <= height ? y2 + GAP : y1 - GAP - high >= 0 ? y1 - GAP - high : y2 - GAP - high;
		Object.assign(root.style, { width: `${wide}px`, left: `${clamp(x1, GAP, width - GAP - wide)}px`, top: `${clamp(top, GAP, height - GAP - high)}px` });
		if (root.value !== region.hint) root.value = region.hint; // undone elsewhere
	}
}
