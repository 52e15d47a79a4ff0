/** The notes of the editor: what went wrong, what is offered, what the plan's nodes warned of. */

/** What has to be said now, in the order of its weight. @param {Editor} editor */
export function notesOf(editor) {
  const { state, report, view, options } = editor;
  const { plan, about, offer, upstream } = state;
  /** @type {Note[]} */
  const notes = [];
  /** @type {Say} */
  const say = (kind, text, ...actions) => notes.push({ kind, text, actions });
  if (editor.unreadable !== null) {
    say("problem", `What is stored cannot be read and is kept as it is: ${editor.problem}.`,
      ["Copy it", "Copy the stored text", () => editor.toClipboard(editor.unreadable ?? "")],
      ["Start anew", "Throw the stored text away", () => editor.startAnew()]);
  }
  if (editor.refused) say("problem", `A run will refuse this plan: ${editor.refused}.`);
  if (editor.runProblem) say("problem", editor.runProblem);
  if (report?.question && plan.image_size.join() !== report.image_size.join()) {
    const size = report.image_size;
    say("problem", `The image has ${size.join("x")} pixels now, the boxes were drawn on ${plan.image_size.join("x")}. How do they move?`,
      ["Stretch", "Stretch the boxes over the new image", () => state.moveTo(size, "stretch")],
      ["Keep pixels", "Keep the boxes at the same pixels, as after a crop at the right or bottom; masks are dropped", () => state.moveTo(size, "pixels")]);
  }
  const back = "Use the plan upstream; undo brings yours back";
  if (state.showsUpstream) {
    say("note", "follow_upstream is 'always': the plan upstream is shown and used. Set it to 'until_edited' to edit.");
  } else if (offer) {
    say("warning", `Upstream has another plan now (${offer.regions.length} regions). Yours stays until you take it.`,
      ["Take upstream", back, () => state.takeUpstream()],
      ["Keep mine", "Do not offer this plan again", () => state.decline()]);
  } else if (upstream && !state.readOnly && about.edited && about.base && state.isChanged) {
    say("note", "You changed the plan.",
      ["What did I change", "List the changes", () => editor.showChanges()],
      ["Take upstream again", back, () => state.takeUpstream()]);
  } else if (upstream && !state.readOnly && !about.edited && about.origin === "upstream") {
    say("note", "The plan upstream, until you edit it.", ["Keep", "Use this plan from now on, whatever upstream says", () => state.keep()]);
  }
  if (state.view.patches && editor.patches.problem) say("warning", `The patches cannot be shown: ${editor.patches.problem}.`);
  if (editor.pictureProblem) say("warning", editor.pictureProblem);
  else if (!view.image) say("note", `No image yet${options.onPlan ? ": press Plan to see it. Boxes drawn before are stretched over it" : ""}.`);
  if (editor.pasted) say("note", `${editor.pasted.note}.`);
  for (const warning of [...(editor.pasted?.warnings ?? []), ...(report?.warnings ?? [])]) say("warning", warning);
  return notes;
}
