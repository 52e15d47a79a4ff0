/** What opens over the editor, beside the key sheet: the editor puts it up with a name and a button to close it. */
import { button, element } from "../common/dom.js";

/** @type {Coordinates[]} */
const COORDINATES = ["auto", "pixels", "seen_pixels", "relative_1000", "relative_1", "relative_1000_y_first"];

/**
 * take: reads a text and uses its plan; its Problem is shown, and the text stays.
 * @param {(text: string, coordinates: Coordinates) => Promise<void>} take @param {string} [text] @param {string} [problem]
 */
export function pasteForm(take, text = "", problem = "") {
  const area = element("textarea", { rows: 8, "aria-label": "Plan to paste", placeholder: "A planner's reply, a plan as JSON, or a list of regions: whatever RePlan Plan from Text reads", value: text });
  const choice = element("select", { "aria-label": "Coordinates", title: "What the numbers count, unless the text names its image size. auto: 0..1 if none is above 1, else pixels of the image as Qwen2.5-VL sees it" },
    ...COORDINATES.map((name) => element("option", { value: name }, name)));
  const alert = element("div", { class: "replan-note is-problem", role: "alert", hidden: !problem }, problem);
  const read = async () => {
    use.disabled = true;
    try {
      await take(area.value, COORDINATES[choice.selectedIndex]);
    } catch (error) {
      alert.textContent = /** @type {Error} */ (error).message;
      alert.hidden = false;
    }
    use.disabled = false;
  };
  const use = button("Use it", "Put this plan in place of the one in the editor; undo brings that back", read);
  return [area, element("div", { class: "replan-row" }, element("label", {}, "Coordinates ", choice),
use), alert];
}

/** @param {string[]} lines @param {boolean} sincePlan whether they count from a plan that came in */
export function changesList(lines, sincePlan) {
  return [element("p", {}, sincePlan ? "Since the plan came:" : "Since the empty plan:"),
    element("ul", {}, ...(lines.length ? lines : ["nothing"]).map((line) => element("li", { dir: "auto" }, line)))];
}
