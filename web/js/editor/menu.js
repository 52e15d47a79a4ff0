/** The menu of the selected regions, in the browser's top layer: the node may be small, and its graph zoomed. */
import { makeButtons } from "../common/commands.js";
import { element } from "../common/dom.js";
import { boxesAt, clamp } from "./geometry.js";

/** @param {Command[]} commands */
export function makeMenu(commands) {
	const { buttons, update } = makeButtons(commands.filter(({ inMenu }) => inMenu).map((one) => ({ ...one, text: one.menu ?? one.title })));
	const root = element("div", { class: "replan-menu", popover: "auto", onclick: () => root.hidePopover() }, ...buttons);
	const open = (x, y) => {
		update();
		root.showPopover();
		Object.assign(root.style, { left: `${clamp(x, 0, innerWidth - root.offsetWidth)}px`, top: `${clamp(y, 0, innerHeight - root.offsetHeight)}px` });
		buttons.find(({ disabled }) => !disabled)?.focus(); // Escape in the canvas would leave the region
	};
	return { root, open };
}

/** Open it for what was pressed in the canvas or the list; fields keep that of the browser. @param {PointerEvent} event @param {Editor} editor */
export function openMenu(event, { state, view, menu, gestures }) {
	const { target, button, pointerType, clientX, clientY } = event;
	/** @type {HTMLElement | null} */
	const row = target instanceof Element ? target.closest("[data-region]") : null;
	if (!row && target !== view.canvas) return;
	event.preventDefault();
	gestures.forget(); // a long press has begun a drag
	if (row || button === 2 || pointerType) { // else its key was pressed
		const { regions } = state.plan;
		const id = row?.dataset.region ?? regions[boxesAt(regions, view.imagePointOf(event))[0]]?.id;
		if (!id || !state.selection.includes(id)) state.select(id ? [id] : []);
	}
	menu.open(clientX, clientY);
}
