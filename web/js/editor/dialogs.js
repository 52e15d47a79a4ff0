/** What opens over the editor, beside the key sheet: the editor puts it up with a name and a button to close it. */
import { button, element } from "../common/dom.js";
import { texts } from "../common/texts.js";

/** @type {Coordinates[]} */
const COORDINATES = ["auto", "pixels", "seen_pixels", "relative_1000", "relative_1", "relative_1000_y_first"];

/**
 * take: reads a text and uses its plan; its Problem is shown, and the text stays.
 * @param {(text: string, coordinates: Coordinates) => Promise<void>} take @param {string} [text] @param {string} [problem]
 */
export function pasteForm(take, text = "", problem = "") {
	const { label, placeholder, coordinates, coordinatesTitle, use, useTitle } = texts.paste;
	const area = element("textarea", { rows: 8, "aria-label": label, placeholder, value: text });
	const choice = element("select", { "aria-label": coordinates, title: coordinatesTitle }, ...COORDINATES.map((name) => element("option", { value: name }, name)));
	const alert = element("div", { class: "replan-note is-problem", role: "alert", hidden: !problem }, problem);
	const read = button([use, useTitle], async () => {
		read.disabled = true;
		try {
			await take(area.value, COORDINATES[choice.selectedIndex]);
		} catch (error) {
			alert.textContent = error.message;
			alert.hidden = false;
		}
		read.disabled = false;
	});
	return [area, element("div", { class: "replan-row" }, element("label", {}, coordinates, " ", choice), read), alert];
}

/** @param {string[]} lines @param {boolean} sincePlan whether they count from a plan that came in */
export function changesList(lines, sincePlan) {
	const { sincePlan: plan, sinceEmpty, nothing } = texts.changes;
	return [element("p", {}, sincePlan ? plan : sinceEmpty),
		element("ul", {}, ...(lines.length ? lines : [nothing]).map((line) => element("li", { dir: "auto" }, line)))];
}
