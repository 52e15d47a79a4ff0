/** What a key or a button of the editor does: the toolbar, the keys and the `?` sheet come from this one table. */
import { runKey } from "../common/commands.js";
import { element } from "../common/dom.js";
import { resized, snapped } from "./geometry.js";
import { isOn } from "./plan.js";

/** @param {Editor} editor @returns {Command[]} in the order of the toolbar and the sheet */
export function commandsOf(editor) {
  const { state, view, options: { onPlan, onRun } } = editor;
  const free = () => !state.readOnly;
  const some = () => free() && state.selection.length > 0;
  const shows = (/** @type {"snap" | "patches" | "side"} */ name) => ({
    run: () => state.setView({ [name]: !state.view[name] }),
    pressed: () => state.view[name],
  });
  const move = (/** @type {number} */ by) => () => state.current && state.reorder(state.current.id, by);
  return [
    ...(onPlan ? [{ text: "Plan", title: "Run only what leads to this node: the planner, or just the image", run: onPlan, main: true }] : []),
    ...(onRun ? [{ text: "Run", title: "Run the whole workflow", run: onRun }] : []),
    { keys: ["Ctrl+Z"], text: "\u21B6", title: "Undo", anywhere: true, run: () => state.undo(), can: () => free() && state.history.canUndo },
    { keys: ["Ctrl+Shift+Z", "Ctrl+Y"], text: "\u21B7", title: "Redo", anywhere: true, run: () => state.redo(), can: () => free() && state.history.canRedo },
    { keys: ["N"], title: "New region in the middle", run: () => addInMiddle(state) },
    { keys: ["Enter"], title: "Write the hint; Escape comes back", run: () => editor.writeHint() },
    { keys: ["Ctrl+D"], text: "\u29C9", title: "Duplicate", run: () => state.duplicate(state.selection), can: some },
    { keys: ["Delete", "Backspace"], text: "\u2715", title: "Delete the selected regions", run: () => state.remove(state.selection), can: some },
    { keys: ["["], text: "\u2191", title: "Earlier in the order", run: move(-1), can: some },
    { keys: ["]"], text: "\u2193", title: "Later in the order", run: move(1), can: some },
    { keys: ["L"], title: "Lock: neither moved nor deleted", run: () => state.lock(state.selection) },
    { keys: ["H"], title: "Off or on: a region that is off stays here and is not sent", run: () => state.switchOn(state.selection) },
    { keys: ["Tab"], title: "Next region", run: () => state.selectNext(1) }, // past the last one the focus moves on
    { keys: ["Shift+Tab"], title: "Previous region", run: () => state.selectNext(-1) },
    { keys: ["Ctrl+A"], title: "Select all", run: () => state.select(state.plan.regions.filter(isOn).map((region) => region.id)) },
    { keys: ["Escape"], title: "End a drag, select none, then leave", run: () => leave(editor) },
    { keys: ["0"], text: "Fit", title: "Show the whole image", run: () => view.fit() },
    { keys: ["+", "="], title: "Zoom in", run: () => view.zoom(1.25) },
    { keys: ["-"], title: "Zoom out", run: () => view.zoom(0.8) },
    { keys: ["S"], text: "Snap", title: "Snap boxes to the model's patches", ...shows("snap") },
    { keys: ["P"], text: "Patches", title: "Show the patches that each region really covers", ...shows("patches") },
    { text: "Paste", title: "Paste a planner's reply or a plan as JSON", run: () => editor.showPaste(), can: free },
    { text: "Copy", title: "Copy the plan as JSON", run: () => editor.copy() },
    { text: "Clear", title: "Delete all regions that are not locked; undo brings them back", run: () => state.clear(), can: () => free() && state.plan.regions.length > 0 },
    { text: "Changes", title: "What did I change?", run: () => editor.showChanges(), can: () => state.isChanged },
    { text: "List", title: "Show or hide the list and the fields", ...shows("side") },
    { keys: ["?"], text: "?", title: "Keys", run: () => editor.open("Keys", [keySheet(editor.commands)]) },
  ];
}

/** Where the arrows point. @type {Record<string, Point>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Handle a key on the canvas. @param {KeyboardEvent} event @param {Editor} editor */
export function onKey(event, { commands, state, view, gestures }) {
  const [x, y] = ARROWS[event.key] ?? [0, 0];
  if (x || y) {
    if (event.ctrlKey || event.metaKey) view.pan(-40 * x, -40 * y);
    else nudge(x, y, event, state);
  } else if (event.key === " ") gestures.spaceHeld = true;
  else return runKey(commands, event);
  event.preventDefault();
}

/** Move the selected regions together, or stretch each. @type {Nudge} */
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

/** @param {EditorState} state */
function addInMiddle(state) {
  const [width, height] = state.plan.image_size;
  state.add([width * 0.375, height * 0.375, width * 0.625, height * 0.625]);
}

/** @param {Editor} editor */
function leave({ gestures, state, view }) {
  if (gestures.dragging) gestures.cancel();
  else if (state.selection.length) state.select([]);
  else view.canvas.blur();
}

/** @param {Command[]} commands */
function keySheet(commands) {
  const rows = [
    ["Drag on nothing", "Draw a box (Ctrl or Cmd: also over boxes)"],
    ["Click", "Select; again: the next box below; Shift: several"],
    ["Drag a box, an edge, a corner", "Move, resize"],
    ["Wheel, two fingers", "Zoom and pan (middle button or Space: pan)"],
    ["Arrows", "Move by 1 pixel (Shift: 10; snap: one patch); Alt: the right or bottom edge; Ctrl: pan"],
    ["Arrows in the list", "Select; Shift: several"],
    ["Ctrl+C, Ctrl+V", "Copy, paste regions or a plan"],
    ...commands.flatMap(({ keys, title }) => (keys ? [[keys.join(", "), title]] : [])),
  ];
  return element("dl", { class: "replan-keys" }, ...rows.map(([keys, what]) => element("div", {}, element("dt", {}, keys), element("dd", {}, what))));
}
