/** The editor over the whole window. Its element moves into a dialog and back, so that it stays one editor with one undo. */
import { element, styleSheets } from "../common/dom.js";
import { isTextField, keepEventsInside } from "../common/host_widget.js";
import { texts } from "../common/texts.js";

/** Milliseconds between looks for the node: ComfyUI does not tell one in a subgraph that its workflow was closed. */
const LOOK = 300;

/** @param {Editor} editor @param {() => boolean} isThere whether its node is in the workflow that is open */
export function openLarge(editor, isThere) {
	const { root, gestures } = editor;
	const home = root.parentElement;
	if (editor.isLarge) return;
	const dialog = element("dialog", { class: "replan-large", tabindex: -1, "aria-label": texts.editor.canvasRole }, ...styleSheets("common.css", "editor.css"));
	const moveTo = (place) => {
		gestures.forget();
		place.append(root);
		editor.view.fit();
		editor.focus();
		editor.update();
	};
	const onKey = (event) => {
		const { key, target, ctrlKey, metaKey } = event;
		if (!dialog.contains(target)) { // a button that was switched off has lost the focus: no key may go to the graph behind
			event.stopPropagation();
			editor.focus();
		}
		if ((ctrlKey || metaKey) && ["s", "o"].includes(key.toLowerCase())) dialog.close(); // ComfyUI may ask something
		if (key !== "Escape" || event.isComposing || dialog.querySelector(":popover-open")) return;
		event.preventDefault(); // the browser would close it, whatever is under way
		if (isTextField(target)) setTimeout(() => document.activeElement === target && editor.focus());
		else if (!gestures.dragging && !editor.isAsking) {
			event.stopPropagation();
			dialog.close();
		}
	};
	const looks = setInterval(() => isThere() || dialog.close(), LOOK);
	dialog.addEventListener("close", () => {
		clearInterval(looks);
		window.removeEventListener("keydown", onKey, true);
		dialog.remove();
		moveTo(home);
	});
	dialog.addEventListener("focus", () => editor.focus());
	keepEventsInside(dialog);
	window.addEventListener("keydown", onKey, true);
	document.body.append(dialog);
	dialog.showModal();
	moveTo(dialog);
}
