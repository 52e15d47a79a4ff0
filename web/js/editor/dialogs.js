/** What opens over the editor: paste a plan, what did I change. Each is an element; the caller puts it up and takes it down. */
import { button, element } from "../common/dom.js";
import { COORDINATES, readPasted } from "./reply.js";

/** @param {string} name @param {() => void} close @param {...(Node | string)} content */
function dialog(name, close, ...content) {
  const head = element("div", { class: "replan-row" }, element("strong", {}, name), button("Close", "Close (Escape)", close));
  return element("div", { class: "replan-dialog", role: "dialog", "aria-label": name }, head, ...content);
}

/**
 * @param {[number, number]} size of the image
 * @param {(plan: import("./plan.js").Plan) => void} take
 * @param {() => void} close
 * @param {string} [text]
 */
export function pasteDialog(size, take, close, text = "") {
  const area = element("textarea", { rows: "8", "aria-label": "Plan to paste", placeholder: "A planner's reply (<gen_image>, <region>), a plan as JSON, or a list of regions", value: text });
  const choice = element("select", { "aria-label": "Coordinates", title: "What the numbers count, unless the text names its image size. auto: 0..1 if none is above 1, else pixels of the image as Qwen2.5-VL sees it" },
    ...COORDINATES.map((name) => element("option", { value: name }, name)));
  const problem = element("div", { class: "replan-note is-problem", role: "alert", hidden: true });
  const read = () => {
    try {
      take(readPasted(area.value, size, /** @type {any} */ (choice.value)));
      close();
    } catch (error) {
      problem.textContent = /** @type {Error} */ (error).message;
      problem.hidden = false;
    }
  };
  return dialog("Paste a plan", close, area, element("div", { class: "replan-row" }, element("label", {}, "Coordinates ", choice), button("Use it", "Put this plan in place of the one in the editor; undo brings that back", read)), problem);
}

/** @param {string[]} lines @param {string} since @param {() => void} close */
export function changesDialog(lines, since, close) {
  const list = element("ul", {}, ...(lines.length ? lines : ["nothing"]).map((line) => element("li", { dir: "auto" }, line)));
  return dialog("What did I change", close, element("p", {}, since), list);
}
