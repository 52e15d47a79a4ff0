/** The notes above the canvas: what went wrong, what is offered, what the plan's nodes warned of. */
import { button, element, fill } from "../common/dom.js";

/**
 * Shows notes; they are made anew when they differ.
 *
 * @typedef {{kind: "problem" | "warning" | "note", text: string, actions?: {text: string, tooltip: string, do: () => void}[]}} Note
 */
export class Notes {
  constructor() {
    this.root = element("div", { class: "replan-notes", role: "status" });
    this.shown = "";
  }

  /** @param {Note[]} notes */
  update(notes) {
    const key = JSON.stringify(notes.map(({ kind, text, actions }) => [kind, text, actions?.map((action) => action.text)]));
    if (key === this.shown) return;
    this.shown = key;
    fill(this.root, notes.map(({ kind, text, actions = [] }) => element("div", { class: `replan-note is-${kind}`, dir: "auto" }, text, " ",
      ...actions.map((action) => button(action.text, action.tooltip, action.do)))));
  }
}

/**
 * What has to be said now, in the order of its weight.
 * @param {import("./mount.js").Editor} editor
 * @returns {Note[]}
 */
export function notesOf(editor) {
  const { state, report } = editor;
  /** @type {Note[]} */
  const notes = [];
  if (editor.unreadable !== null) {
    notes.push({ kind: "problem", text: `What is stored cannot be read and is kept as it is: ${editor.problem}.`, actions: [
      { text: "Copy it", tooltip: "Copy the stored text", do: () => editor.toClipboard(editor.unreadable ?? "") },
      { text: "Start anew", tooltip: "Throw the stored text away", do: () => editor.startAnew() },
    ] });
  }
  if (editor.runProblem) notes.push({ kind: "problem", text: editor.runProblem });
  if (report?.question && state.plan.image_size.join() !== report.image_size.join()) {
    const size = report.image_size;
    notes.push({ kind: "problem", text: `The image has ${size.join("x")} pixels now, the boxes were drawn on ${state.plan.image_size.join("x")}. How do they move?`, actions: [
      { text: "Stretch", tooltip: "Stretch the boxes over the new image", do: () => state.moveTo(size, "stretch") },
      { text: "Keep pixels", tooltip: "Keep the boxes at the same pixels, as after a crop at the right or bottom; masks are dropped", do: () => state.moveTo(size, "pixels") },
    ] });
  }
  if (state.showsUpstream) notes.push({ kind: "note", text: "follow_upstream is 'always': the plan upstream is shown and used. Set it to 'until_edited' to edit." });
  const { offer } = state;
  if (offer) {
    notes.push({ kind: "warning", text: `Upstream has another plan now (${offer.regions.length} regions). Yours stays until you take it.`, actions: [
      { text: "Take upstream", tooltip: "Use the plan upstream; undo brings yours back", do: () => state.takeUpstream() },
      { text: "Keep mine", tooltip: "Do not offer this plan again", do: () => state.decline() },
    ] });
  } else if (state.upstream && state.about.edited && !state.readOnly && state.about.base && state.changes.length) {
    notes.push({ kind: "note", text: "You changed the plan.", actions: [
      { text: "What did I change", tooltip: "List the changes", do: () => editor.showChanges() },
      { text: "Take upstream again", tooltip: "Use the plan upstream; undo brings yours back", do: () => state.takeUpstream() },
    ] });
  } else if (state.about.origin === "upstream" && !state.about.edited && !state.readOnly && state.upstream) {
    notes.push({ kind: "note", text: "The plan upstream, until you edit it.", actions: [
      { text: "Keep", tooltip: "Use this plan from now on, whatever upstream says", do: () => state.keep() },
    ] });
  }
  if (editor.pictureProblem) notes.push({ kind: "warning", text: editor.pictureProblem });
  else if (!editor.view.image) notes.push({ kind: "note", text: editor.options.onPlan ? "No image yet: press Plan to see it. Boxes drawn before are stretched over it." : "No image yet." });
  for (const warning of report?.warnings ?? []) notes.push({ kind: "warning", text: warning });
  return notes;
}
