import { button, element, fill } from "./dom.js";

/** Notes above a page's main part; they are made anew when they differ. */
export class Notes {
	root = element("div", { class: "replan-notes", role: "status" });
	shown = "";

	/** @param {Note[]} notes */
	update(notes) {
		const shown = JSON.stringify(notes);
		if (shown === this.shown) return;
		this.shown = shown;
		fill(this.root, notes.map(({ kind, text, actions }) =>
			element("div", { class: `replan-note is-${kind}`, dir: "auto" }, text, " ", ...actions.map(([words, run]) => button(words, run)))));
	}
}
