/** The stored value of the widget: the plan's JSON with one more key, "editor" (see planner/plans/editor_value.py). */
import { isObject, parseJson } from "../common/problem.js";
import { isOn, KEEP_UNCHANGED, readPlan, samePlan, withoutMarks } from "./plan.js";

/** @type {About} */
export const FRESH = { edited: false, origin: "drawn", base: null, declined: "", assumed_size: false };
/** @type {View} */
export const VIEW = { dim: 0.35, patch: 16, snap: false, patches: false, expand: 0, side: true };

/** Read a stored value, or Problem: the caller then keeps the text as it is. @returns {Stored} */
export function readStored(value) {
	if (!value.trim()) return { plan: null, about: FRESH, view: VIEW };
	const data = parseJson(value, "the stored value");
	if (!isObject(data) || !isObject(data.editor)) return { plan: readPlan(data), about: { ...FRESH, edited: true }, view: VIEW };
	const { editor: { view, ...about }, ...plan } = data;
	return {
		plan: plan.image_size !== undefined || plan.regions !== undefined ? readPlan(plan) : null,
		about: { ...FRESH, ...about, base: about.base ? readPlan(about.base) : null },
		view: readView(view),
	};
}

/** A setting of a wrong kind gives way to the usual one. @returns {View} */
function readView(view) {
	const fits = Object.entries({ ...VIEW, ...(isObject(view) && view) }).filter(([name, value]) => !(name in VIEW) || typeof value === typeof VIEW[name]);
	const read = Object.fromEntries(fits);
	return { ...VIEW, ...read, patch: read.patch >= 1 ? read.patch : VIEW.patch };
}

/** Nothing to keep gives the empty text. @param {Stored} stored */
export function writeStored({ plan, about, view }) {
	const changed = JSON.stringify(view) === JSON.stringify(VIEW) ? {} : { view };
	if (plan) return JSON.stringify({ ...plan, editor: { ...about, ...changed } });
	return "view" in changed ? JSON.stringify({ version: 1, editor: { edited: false, ...changed } }) : "";
}

/**
 * What goes with the prompt: never the empty text, which says that there was no editor. Only what decides the plan goes, so
 * that looking around makes nothing run again; a plan that is only followed, and none, are always the same text.
 * @param {Stored} stored @param {boolean} followsUpstream
 */
export function forPrompt({ plan, about: { edited, assumed_size } }, followsUpstream) {
	if (followsUpstream && !edited) return JSON.stringify({ version: 1, editor: { edited } });
	if (!plan) return JSON.stringify({ version: 1, editor: { edited, empty: true } });
	// Of what only shows, previews need the colours.
	const regions = withoutMarks(plan).regions.map(({ editor, ...region }) => ({ ...region, ...(editor?.color && { editor: { color: editor.color } }) }));
	return JSON.stringify({ ...plan, regions, editor: { edited, ...(assumed_size && { assumed_size }) } });
}

/** Which of the four modes this is, and the name of its text. @param {Plan} plan @param {About} about */
export function modeOf(plan, { origin, edited, base }) {
	if (!plan.regions.some(isOn)) return ["baseline", plan.global_prompt === KEEP_UNCHANGED ? "unchanged" : "baseline"];
	if (origin === "drawn") return ["manual", "manual"];
	if (edited && base && !samePlan(plan, base)) return ["corrected", "corrected"];
	return ["planned", edited ? "kept" : "planned"];
}

/** A short mark, to know a declined offer again. @param {Plan} plan */
export function markOf(plan) {
	const content = JSON.stringify([plan.image_size, plan.global_prompt, plan.regions]);
	let hash = 5381;
	for (let i = 0; i < content.length; i += 1) hash = (hash * 33 + content.charCodeAt(i)) >>> 0;
	return `${content.length.toString(36)}-${hash.toString(36)}`;
}
