/** The buttons above the canvas, and what sets how it shows things. */
import { makeButtons } from "../common/commands.js";
import { element } from "../common/dom.js";

/** @param {EditorState} state @param {Command[]} commands */
export function makeToolbar(state, commands) {
  const bar = makeButtons(commands);
  const dim = element("input", {
    type: "range", min: 0, max: 0.9, step: 0.05, class: "replan-dim", "aria-label": "Dim the image",
    oninput: () => state.setView({ dim: dim.valueAsNumber }),
  });
  const patch = element("select", {
    title: "Side of a patch in pixels of this image: 16 for Flux and Qwen-Image at the working size", "aria-label": "Patch size",
    onchange: () => state.setView({ patch: Number(patch.value) }),
  }, ...["8", "16", "32"].map((size) => element("option", { value: size }, `${size} px`)));
  const expand = element("input", {
    type: "number", min: 0, max: 1, step: 0.05, class: "replan-expand", "aria-label": "Expansion to show",
    title: "Show the patches after an expansion by this share of each side. It changes no box: the node RePlan Expand Regions does that.",
    onchange: () => state.setView({ expand: Math.min(1, Math.max(0, expand.valueAsNumber || 0)) }),
  });
  const options = element("span", { class: "replan-row" }, patch, element("label", { title: expand.title }, "expand ", expand));
  const root = element("div", { class: "replan-bar", role: "toolbar", "aria-label": "Region editor" }, ...bar.buttons, options);
  const dimmer = element("label", { class: "replan-row", title: "Dim the image" }, "dim", dim);

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
