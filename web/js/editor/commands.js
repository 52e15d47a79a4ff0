/** What the keys and buttons of the editor do. */
import { commandsFrom, runKey } from "../common/commands.js";
import { element } from "../common/dom.js";
import { texts } from "../common/texts.js";
import { resized, snapped } from "./geometry.js";
import { isOn } from "./plan.js";

/** @param {Editor} editor */
export function commandsOf(editor) {
	const { state, view, options: { onPlan, onRun, onLarge } } = editor;
	const free = () => !state.readOnly;
	const some = () => free() && state.selection.length > 0;
	const shows = (name) => ({ run: () => state.setView({ [name]: !state.view[name] }), pressed: () => state.view[name] });
	const arrange = (how) => [how, { run: () => editor.arrange(how), can: () => free() && state.selected.length > 1, inMenu: true }];
	const move = (by) => () => state.current && state.reorder(state.current.id, by);
	const several = commandsFrom(texts.arrange, Object.fromEntries(Object.keys(texts.arrange).map(arrange)));
	return commandsFrom(texts.commands, {
		plan: onPlan && { run: onPlan, main: true },
		run: onRun && { run: onRun },
		undo: { run: () => state.undo(), can: () => free() && state.history.canUndo, anywhere: true },
		redo: { run: () => state.redo(), can: () => free() && state.history.canRedo, anywhere: true },
		add: { run: () => addInMiddle(state) },
		hint: { run: () => editor.writeHint(), can: some, inMenu: true },
		rename: { run: () => editor.panel.rename(), can: some, inMenu: true },
		paint: { run: () => editor.panel.pickColour(), can: some, inMenu: true },
		duplicate: { run: () => state.duplicate(state.selection), can: some, inMenu: true },
		copyPart: { run: () => editor.toClipboard(editor.copied()), inMenu: true },
		remove: { run: () => state.remove(state.selection), can: some, inMenu: true },
		earlier: { run: move(-1), can: some, inMenu: true },
		later: { run: move(1), can: some, inMenu: true },
		lock: { run: () => state.lock(state.selection), can: some, inMenu: true },
		switchOn: { run: () => state.switchOn(state.selection), can: some, inMenu: true },
		next: { run: () => state.selectNext(1) }, // past the last one the focus moves on
		previous: { run: () => state.selectNext(-1) },
		all: { run: () => state.select(state.plan.regions.filter(isOn).map(({ id }) => id)), inMenu: true },
		leave: { run: () => leave(editor) },
		fit: { run: () => view.fit() },
		zoomIn: { run: () => view.zoom(1.25) },
		zoomOut: { run: () => view.zoom(0.8) },
		snap: shows("snap"),
		patches: shows("patches"),
		paste: { run: () => editor.showPaste(), can: free },
		copy: { run: () => editor.copy() },
		clear: { run: () => state.clear(), can: () => free() && state.plan.regions.length > 0 },
		changes: { run: () => editor.showChanges(), can: () => state.isChanged },
		side: shows("side"),
		large: onLarge && { run: onLarge, shown: () => !editor.isLarge },
		small: onLarge && { run: () => editor.root.closest("dialog")?.close(), shown: () => editor.isLarge },
		keys: { run: () => editor.open(texts.commands.keys.title, [keySheet(editor.commands)]) },
	}).concat(several);
}

/** Where the arrows point. @type {Record<string, Point>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Handle a key on the canvas. @param {KeyboardEvent} event @param {Editor} editor */
export function onKey(event, { commands, state, view, gestures, hintField }) {
	const [x, y] = ARROWS[event.key] ?? [0, 0];
	// Of a region letters are its hint, never a command: the field has the focus before the letter arrives.
	if (isTyped(event) && hintField.open()) return event.key === "Backspace" && event.preventDefault();
	if (x || y) {
		if (event.ctrlKey || event.metaKey) view.pan(-40 * x, -40 * y);
		else nudge(x, y, event, state);
	} else if (event.key === " ") gestures.spaceHeld = true;
	else return runKey(commands, event);
	event.preventDefault();
}

/** Whether a key types something, in an input method too. @param {KeyboardEvent} event */
function isTyped({ key, ctrlKey, metaKey, altKey }) {
	return !(ctrlKey || metaKey || altKey) && /^(\p{L}|[1-9]|Process|Dead|Backspace)$/u.test(key);
}

/** Move the selected regions together, or stretch each. @param {EditorState} state */
export function nudge(x, y, { shiftKey, altKey }, state) {
	const { selection, plan: { image_size }, view: { snap, patch } } = state;
	const step = snap ? patch : shiftKey ? 10 : 1;
	const key = `nudge ${selection.join()} ${altKey}`;
	if (!altKey) return state.shift(state.movable, x * step, y * step, key);
	state.setBoxes(selection, ({ bbox_2d }) => {
		const box = resized(bbox_2d, "se", x * step, y * step, image_size);
		return snap ? snapped(box, patch, image_size) : box;
	}, key);
}

function addInMiddle(state) {
	const [width, height] = state.plan.image_size;
	state.add([width * 0.375, height * 0.375, width * 0.625, height * 0.625]);
}

function leave({ gestures, state, view }) {
	if (gestures.dragging) gestures.cancel();
	else if (state.selection.length) state.select([]);
	else view.canvas.blur();
}

function keySheet(commands) {
	const rows = [...texts.keySheet, ...commands.flatMap(({ keys, title }) => (keys ? [[keys.join(", "), title]] : []))];
	return element("dl", { class: "replan-keys" }, ...rows.map(([keys, what]) => element("div", {}, element("dt", {}, keys), element("dd", {}, what))));
}
