/** What opens over the editor, beside the key sheet: the editor puts it up with a name and a button to close it. */
import { button, element } from "../common/dom.js";
import { COORDINATES, readPasted } from "./reply.js";

/** @type {PasteForm} */
export function pasteForm(size, take, text = "") {
  const area = element("textarea", { rows: 8, "aria-label": "Plan to paste", placeholder: "A planner's reply (<gen_image>, <region>), a plan as JSON, or a list of regions", value: text });
  const choice = element("select", { "aria-label": "Coordinates", title: "What the numbers count, unless the text names its image size. auto: 0..1 if none is above 1, else pixels of the image as Qwen2.5-VL sees it" },
    ...COORDINATES.map((name) => element("option", { value: name }, name)));
  const problem = element("div", { class: "replan-note is-problem", role: "alert", hidden: true });
  const read = () => {
    try {
      take(readPasted(area.value, size, COORDINATES[choice.selectedIndex]));
    } catch (error) {
      problem.textContent = /** @type {Error} */ (error).message;
      problem.hidden = false;
    }
  };
  return [area, element("div", { class: "replan-row" }, element("label", {}, "Coordinates ", choice),
    button("Use it", "Put this plan in place of the one in the editor; undo brings that back", read)), problem];
}

/** @param {string[]} lines @param {boolean} sincePlan whether they count from a plan that came in */
export function changesList(lines, sincePlan) {
  return [element("p", {}, sincePlan ? "Since the plan came:" : "Since the empty plan:"),
    element("ul", {}, ...(lines.length ? lines : ["nothing"]).map((line) => element("li", { dir: "auto" }, line)))];
}
