import { say as fill, texts } from "../common/texts.js";

/** What went wrong, is offered, was warned of: in the order of its weight. @param {Editor} editor */
export function notesOf(editor) {
	const { state, report, other, view, options, pasted } = editor;
	const { plan, about, offer, upstream } = state;
	const words = texts.notes;
	/** @type {Note[]} */
	const notes = [];
	const say = (kind, text, ...actions) => notes.push({ kind, text, actions });
	if (editor.unreadable !== null) {
		say("problem", fill(words.unreadable, { why: editor.problem }),
			[words.copyIt, () => editor.toClipboard(editor.unreadable ?? "")], [words.startAnew, () => editor.startAnew()]);
	}
	if (editor.refused) say("problem", fill(words.refused, { why: editor.refused }));
	const asks = other && plan.image_size.join() !== other.size.join();
	if (editor.runProblem && !(asks && editor.runProblem.includes(other.question))) say("problem", editor.runProblem);
	if (asks) {
		const { size } = other;
		say("problem", fill(words.otherShape, { image: size.join("x"), drawn: plan.image_size.join("x") }),
			[words.stretch, () => state.moveTo(size, "stretch")], [words.pixels, () => state.moveTo(size, "pixels")], [words.anew, () => state.moveTo(size, "anew")]);
	}
	if (state.showsUpstream) {
		say("note", words.always);
	} else if (offer) {
		say("warning", fill(words.offer, { count: offer.regions.length }), [words.take, () => state.takeUpstream()], [words.decline, () => state.decline()]);
	} else if (upstream && !state.readOnly && about.edited && about.base && state.isChanged) {
		say("note", words.changed, [words.changes, () => editor.showChanges()], [words.takeAgain, () => state.takeUpstream()]);
	} else if (upstream && !state.readOnly && !about.edited && about.origin === "upstream") {
		say("note", words.follows, [words.keep, () => state.keep()]);
	}
	if (state.view.patches && editor.patches.problem) say("warning", fill(words.patches, { why: editor.patches.problem }));
	if (editor.imageProblem) say("warning", editor.imageProblem);
	else if (!view.image) say("note", options.onPlan ? words.noImagePlan : words.noImage);
	if (pasted?.note) say("note", `${pasted.note}.`);
	for (const warning of [...(pasted?.warnings ?? []), ...(report?.warnings ?? [])]) say("warning", warning);
	return notes;
}
