/** The buttons above the canvas. What they do is the state's; here is only what they look like. */
import { button, element, setAttribute } from "../common/dom.js";

/**
 * @param {import("./state.js").EditorState} state
 * @param {import("./canvas_view.js").CanvasView} view
 * @param {{paste: () => void, copy: () => void, changes: () => void, sheet: () => void, plan: (() => void) | null, run: (() => void) | null}} actions
 */
export function makeToolbar(state, view, actions) {
  const toggle = (/** @type {"snap" | "patches" | "side"} */ name, /** @type {string} */ text, /** @type {string} */ tooltip) =>
    button(text, tooltip, () => state.setView({ [name]: !state.view[name] }));
  const parts = {
    plan: button("Plan", "Run only what leads to this node: the planner, or just the image", () => actions.plan?.(), { class: "replan-button is-main" }),
    run: button("Run", "Run the whole workflow", () => actions.run?.()),
    undo: button("\u21B6", "Undo (Ctrl+Z)", () => state.undo()),
    redo: button("\u21B7", "Redo (Ctrl+Shift+Z)", () => state.redo()),
    duplicate: button("\u29C9", "Duplicate (Ctrl+D)", () => state.duplicate(state.selection)),
    remove: button("\u2715", "Delete the selected regions (Delete)", () => state.remove(state.selection)),
    up: button("\u2191", "Earlier in the order ([)", () => state.current && state.reorder(state.current.id, -1)),
    down: button("\u2193", "Later in the order (])", () => state.current && state.reorder(state.current.id, 1)),
    fit: button("Fit", "Show the whole image (0)", () => view.fit()),
    snap: toggle("snap", "Snap", "Snap boxes to the model's patches (S)"),
    patches: toggle("patches", "Patches", "Show the patches that each region really covers (P)"),
    side: toggle("side", "List", "Show or hide the list and the fields"),
    paste: button("Paste", "Paste a planner's reply or a plan as JSON", actions.paste),
    copy: button("Copy", "Copy the plan as JSON", actions.copy),
    clear: button("Clear", "Delete all regions that are not locked; undo brings them back", () => state.clear()),
    changes: button("Changes", "What did I change?", actions.changes),
    sheet: button("?", "Keys (?)", actions.sheet),
  };
  const dim = element("input", { type: "range", min: "0", max: "0.9", step: "0.05", class: "replan-dim", title: "Dim the image", "aria-label": "Dim the image", oninput: () => state.setView({ dim: dim.valueAsNumber }) });
  const patch = element("select", { title: "Side of a patch in pixels of this image: 16 for Flux and Qwen-Image at the working size", "aria-label": "Patch size", onchange: () => state.setView({ patch: Number(patch.value) }) },
    ...["8", "16", "32"].map((size) => element("option", { value: size }, `${size} px`)));
  const expand = element("input", { type: "number", min: "0", max: "1", step: "0.05", class: "replan-expand", "aria-label": "Expansion to show",
    title: "Show the patches after an expansion by this share of each side. It changes no box: the node RePlan Expand Regions does that.",
    onchange: () => state.setView({ expand: Math.min(1, Math.max(0, expand.valueAsNumber || 0)) }) });
  const options = element("span", { class: "replan-row" }, patch, element("label", { title: expand.title }, "expand ", expand));
  const root = element("div", { class: "replan-bar", role: "toolbar", "aria-label": "Region editor" },
    actions.plan ? parts.plan : null, actions.run ? parts.run : null,
    parts.undo, parts.redo, parts.duplicate, parts.remove, parts.up, parts.down, parts.fit, parts.snap, parts.patches, options, dim,
    parts.paste, parts.copy, parts.clear, parts.changes, parts.side, parts.sheet);

  const update = () => {
    const { plan, selection, view: shown, readOnly, history } = state;
    const none = readOnly || selection.length === 0;
    parts.undo.disabled = readOnly || !history.canUndo;
    parts.redo.disabled = readOnly || !history.canRedo;
    for (const one of [parts.duplicate, parts.remove, parts.up, parts.down]) one.disabled = none;
    parts.clear.disabled = readOnly || plan.regions.length === 0;
    parts.paste.disabled = readOnly;
    for (const name of /** @type {("snap" | "patches" | "side")[]} */ (["snap", "patches", "side"])) setAttribute(parts[name], "aria-pressed", Boolean(shown[name]));
    options.hidden = !shown.snap && !shown.patches;
    if (dim !== document.activeElement) dim.value = String(shown.dim);
    patch.value = String(shown.patch);
    if (expand !== document.activeElement) expand.value = String(shown.expand);
  };
  return { root, update };
}
