/** The stored value of the widget: the plan's JSON with one more key, "editor" (see planner/plans/editor_value.py). */
import { isObject, parseJson } from "../common/problem.js";
import { isOn, KEEP_UNCHANGED, readPlan, samePlan, withoutMarks } from "./plan.js";

/** @type {About} */
export const FRESH = { edited: false, origin: "drawn", base: null, declined: "", assumed_size: false };
/** @type {View} */
export const VIEW = { dim: 0.35, patch: 16, snap: false, patches: false, expand: 0, side: true };

/** Read a stored value. Throws Problem when it cannot be read: the caller then keeps the text as it is. @param {string} value @returns {Stored} */
export function readStored(value) {
  if (!value.trim()) return { plan: null, about: FRESH, view: VIEW };
  const data = parseJson(value, "the stored value");
  if (!isObject(data) || !isObject(data.editor)) return { plan: readPlan(data), about: { ...FRESH, edited: true }, view: VIEW };
  const { editor: { view, ...about }, ...plan } = data;
  const hasPlan = plan.image_size !== undefined || plan.regions !== undefined;
  return {
    plan: hasPlan ? readPlan(plan) : null,
    about: { ...FRESH, ...about, base: about.base ? readPlan(about.base) : null },
    view: readView(view),
  };
}

/** What is shown cannot make a plan unreadable: a setting of another kind gives way to the usual one. @param {any} view @returns {View} */
function readView(view) {
  const fits = Object.entries({ ...VIEW, ...(isObject(view) && view) }).filter(([name, value]) => !(name in VIEW) || typeof value === typeof VIEW[/** @type {keyof View} */ (name)]);
  const read = { ...VIEW, ...Object.fromEntries(fits) };
  return read.patch >= 1 ? read : { ...read, patch: VIEW.patch };
}

/** Write a stored value. Nothing to keep gives the empty text, so an untouched node stays as new. @param {Stored} stored */
export function writeStored({ plan, about, view }) {
  const changed = JSON.stringify(view) === JSON.stringify(VIEW) ? {} : { view };
  if (plan) return JSON.stringify({ ...plan, editor: { ...about, ...changed } });
  return "view" in changed ? JSON.stringify({ version: 1, editor: { edited: false, ...changed } }) : "";
}

/**
 * What goes with the prompt: never the empty text, which says that no editor was there. Only what decides the plan goes,
 * so that looking around in the editor never makes ComfyUI run everything again; and while the plan upstream is used, or
 * nothing was drawn, the text stays the same from run to run.
 * @param {Stored} stored @param {boolean} followsUpstream whether a plan upstream is connected and used as long as nothing is edited
 */
export function forPrompt({ plan, about: { edited, assumed_size } }, followsUpstream) {
  if (followsUpstream && !edited) return JSON.stringify({ version: 1, editor: { edited } });
  if (!plan) return JSON.stringify({ version: 1, editor: { edited, empty: true } });
  return JSON.stringify({ ...withoutMarks(plan), editor: { edited, ...(assumed_size && { assumed_size }) } });
}

/** Which of the four modes this is, with what it means. @param {Plan} plan @param {About} about */
export function modeOf(plan, about) {
  if (!plan.regions.some(isOn)) return { name: "baseline", text: `Baseline: no regions${plan.global_prompt === KEEP_UNCHANGED ? ": say in the global prompt what to change" : ", only the global prompt acts"}` };
  if (about.origin === "drawn") return { name: "manual", text: "Manual: you drew this plan" };
  if (about.edited && about.base && !samePlan(plan, about.base)) return { name: "corrected", text: "Corrected: the planner's plan with your changes" };
  return { name: "planned", text: about.edited ? "Planned: the planner's plan, kept" : "Planned: the planner's plan as it came" };
}

/** A short mark of a plan's content, to know a declined offer again. @param {Plan} plan */
export function markOf(plan) {
  const content = JSON.stringify([plan.image_size, plan.global_prompt, plan.regions]);
  let hash = 5381;
  for (let i = 0; i < content.length; i += 1) hash = (hash * 33 + content.charCodeAt(i)) >>> 0;
  return `${content.length.toString(36)}-${hash.toString(36)}`;
}
