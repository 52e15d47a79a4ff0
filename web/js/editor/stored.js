/**
 * The stored value of the widget: the plan's JSON with one more key, "editor" (see planner/editor.py).
 *
 * @typedef {import("./plan.js").Plan} Plan
 * @typedef {{edited: boolean, origin: "upstream" | "pasted" | "drawn", base: Plan | null, declined: string,
 *   assumed_size: boolean}} About
 *   edited: a person changed the plan, or kept it on purpose; origin: where it began; base: the plan from upstream (or
 *   pasted) that the edits began with; declined: mark of an offered plan that was not wanted; assumed_size: drawn
 *   before an image was seen
 * @typedef {{dim: number, patch: number, snap: boolean, patches: boolean, expand: number, side: boolean}} View
 *   how the editor shows things; changes no plan
 * @typedef {{plan: Plan | null, about: About, view: View}} Stored
 */
import { emptyPlan, isObject, PlanProblem, readPlan, samePlan } from "./plan.js";

/** @type {About} */
export const FRESH = { edited: false, origin: "drawn", base: null, declined: "", assumed_size: false };
/** @type {View} */
export const VIEW = { dim: 0.35, patch: 16, snap: false, patches: false, expand: 0, side: true };

/**
 * Read a stored value. Throws PlanProblem when it cannot be read: the caller then keeps the text as it is.
 * @param {string} value
 * @returns {Stored}
 */
export function readStored(value) {
  if (!value.trim()) return { plan: null, about: FRESH, view: VIEW };
  let data;
  try {
    data = JSON.parse(value);
  } catch (error) {
    throw new PlanProblem(`the stored value is not JSON: ${/** @type {Error} */ (error).message}`);
  }
  const hasAbout = isObject(data) && isObject(data.editor);
  const { view, ...about } = hasAbout ? data.editor : {};
  const filled = { ...FRESH, edited: !hasAbout, ...about };
  if (filled.base) filled.base = readPlan(filled.base);
  const seen = { ...VIEW, ...(isObject(view) ? view : {}) };
  if (hasAbout && data.image_size === undefined && data.regions === undefined) return { plan: null, about: filled, view: seen };
  const { editor, ...plan } = isObject(data) ? data : { editor: null };
  return { plan: readPlan(isObject(data) ? plan : data), about: filled, view: seen };
}

/**
 * Write a stored value. Nothing to keep gives the empty text, so an untouched node stays as new.
 * @param {Stored} stored
 * @returns {string}
 */
export function writeStored({ plan, about, view }) {
  const plain = JSON.stringify(view) === JSON.stringify(VIEW) ? {} : { view };
  if (!plan) return Object.keys(plain).length ? JSON.stringify({ version: 1, editor: { edited: false, ...plain } }) : "";
  return JSON.stringify({ ...plan, editor: { ...about, ...plain } });
}

/**
 * What goes with the prompt. Only what decides the plan does, so that looking around in the editor never makes the host
 * run everything again; and while the plan upstream is used, the text stays the same from run to run.
 *
 * @param {Stored} stored
 * @param {boolean} followsUpstream whether a plan upstream is connected and used as long as nothing is edited
 */
export function forPrompt({ plan, about }, followsUpstream) {
  if (followsUpstream && !about.edited) return JSON.stringify({ version: 1, editor: { edited: false } });
  if (!plan) return "";
  const regions = plan.regions.map(({ locked, hidden, ...region }) => region);
  return JSON.stringify({ ...plan, regions, editor: { edited: about.edited, ...(about.assumed_size ? { assumed_size: true } : {}) } });
}

/** @param {Stored} stored @returns {Plan} the plan to show: a new one before there is any */
export function planOf(stored) {
  return stored.plan ?? emptyPlan(1024, 1024);
}

/**
 * Which of the four modes this is, with what it means.
 * @param {Plan} plan
 * @param {About} about
 * @returns {{name: "baseline" | "planned" | "corrected" | "manual", text: string}}
 */
export function modeOf(plan, about) {
  if (plan.regions.length === 0) return { name: "baseline", text: "Baseline: no regions, only the global prompt acts" };
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
