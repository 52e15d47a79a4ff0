/** The buttons above the canvas, and what sets how it shows things. */
import { makeButtons } from "../common/commands.js";
import { element } from "../common/dom.js";
import { texts } from "../common/texts.js";

/** @param {EditorState} state @param {Command[]} commands */
export function makeToolbar(state, commands) {
	const words = texts.editor;
	const bar = makeButtons(commands);
	const dim = element("input", {
		type: "range", min: 0, max: 0.9, step: 0.05, class: "replan-dim", "aria-label": words.dimTitle, oninput: () => state.setView({ dim: dim.valueAsNumber }),
	});
	const patch = element("select", {
		title: words.patchTitle, "aria-label": words.patchSize, onchange: () => state.setView({ patch: Number(patch.value) }),
	}, ...["8", "16", "32"].map((size) => element("option", { value: size }, `${size} px`)));
	const expand = element("input", {
		type: "number", min: 0, max: 1, step: 0.05, class: "replan-expand", "aria-label": words.expandLabel, title: words.expandTitle,
		onchange: () => state.setView({ expand: Math.min(1, Math.max(0, expand.valueAsNumber || 0)) }),
	});
	const options = element("span", { class: "replan-row" }, patch, element("label", { title: words.expandTitle }, words.expand, expand));
	const root = element("div", { class: "replan-bar", role: "toolbar", "aria-label": words.toolbar }, ...bar.buttons, options);
	const dimmer = element("label", { class: "replan-row", title: words.dimTitle }, words.dim, dim);

	const update = () => {
		const { view } = state;
		bar.update();
		options.hidden = !view.snap && !view.patches;
		if (dim !== document.activeElement) dim.value = String(view.dim);
		patch.value = String(view.patch);
		if (expand !== document.activeElement) expand.value = String(view.expand);
	};
	return { root, dimmer, update };
}
