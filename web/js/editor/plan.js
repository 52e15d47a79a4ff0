/**
 * The plan as the page holds it: the JSON of planner/plan_json.py, never changed in place. Keys that are not known here
 * are kept and written again.
 *
 * @typedef {{size: [number, number], rle: number[]}} RegionMask
 * @typedef {[number, number, number, number]} Box left, top, right, bottom in pixels of the plan's image
 * @typedef {{id: string, bbox_2d: Box, hint: string, negative_hint: string, start: number, end: number,
 *   mask: RegionMask | null, locked?: boolean, hidden?: boolean}} Region
 * @typedef {{version: number, image_size: [number, number], global_prompt: string, reasoning: string,
 *   regions: Region[]}} Plan
 */
import { wellFormed } from "../common/dom.js";

export const VERSION = 1;
/** What the published planner writes when nothing changes globally (KEEP_UNCHANGED in planner/plan.py). */
export const KEEP_UNCHANGED = "keep remaining part of image unchanged.";

/** A plan or a text that cannot be used; the message says what was found and what to do. */
export class PlanProblem extends Error {}

/**
 * A plan without regions.
 * @param {number} width
 * @param {number} height
 * @returns {Plan}
 */
export function emptyPlan(width, height) {
  return { version: VERSION, image_size: [width, height], global_prompt: KEEP_UNCHANGED, reasoning: "", regions: [] };
}

/**
 * Check the object of a plan's JSON and fill in what is not there. Throws PlanProblem with the words of the Python reader.
 * @param {any} data
 * @returns {Plan}
 */
export function readPlan(data) {
  if (!isObject(data)) throw new PlanProblem(`a plan is a JSON object with image_size and regions, found ${shown(data)}`);
  const version = data.version ?? VERSION;
  if (version !== VERSION) {
    if (Number.isInteger(version) && version > VERSION) {
      throw new PlanProblem(`this plan is of version ${version} and this pack reads version ${VERSION}; update the pack`);
    }
    throw new PlanProblem(`a plan's version is the number ${VERSION}, found ${shown(version)}`);
  }
  const size = data.image_size;
  if (!Array.isArray(size) || size.length !== 2 || !size.every((side) => Number.isInteger(side) && side >= 1 && side <= 1e6)) {
    throw new PlanProblem(`a plan's image_size is two whole numbers [width, height], found ${shown(size)}`);
  }
  const items = data.regions ?? [];
  if (!Array.isArray(items)) throw new PlanProblem(`a plan's regions are a list, found ${shown(items)}`);
  const taken = new Set(items.map((item) => item?.id).filter((id) => typeof id === "string"));
  /** @type {Region[]} */
  const regions = [];
  for (const [index, item] of items.entries()) {
    const region = readRegion(item, index + 1, taken, /** @type {[number, number]} */ (size));
    if (regions.some((other) => other.id === region.id)) throw new PlanProblem(`two regions share the id '${region.id}'; give each its own`);
    taken.add(region.id);
    regions.push(region);
  }
  return {
    ...data,
    version: VERSION,
    image_size: [size[0], size[1]],
    global_prompt: text(data.global_prompt ?? KEEP_UNCHANGED, "the plan's global_prompt"),
    reasoning: text(data.reasoning ?? "", "the plan's reasoning"),
    regions,
  };
}

/**
 * @param {any} item
 * @param {number} number
 * @param {Set<string>} taken
 * @param {[number, number]} size
 * @returns {Region}
 */
function readRegion(item, number, taken, size) {
  if (!isObject(item)) throw new PlanProblem(`region ${number}: a region is an object with "bbox_2d" and "hint", found ${shown(item)}`);
  const id = item.id ?? freshId(taken);
  if (typeof id !== "string" || !usableId(id)) throw new PlanProblem(`region ${number}: the id ${shown(id)} cannot name a region`);
  const name = `region '${id}'`;
  const box = item.bbox_2d;
  if (!Array.isArray(box) || box.length !== 4 || !box.every((edge) => Number.isFinite(edge))) {
    throw new PlanProblem(`${name}: bbox_2d is four numbers [x1, y1, x2, y2], found ${shown(box)}`);
  }
  const [x1, y1, x2, y2] = box;
  if (x1 >= x2 || y1 >= y2) throw new PlanProblem(`${name}: the box ${shown(box)} has no area; write [x1, y1, x2, y2] with x1 < x2 and y1 < y2`);
  if (x1 >= size[0] || y1 >= size[1] || x2 <= 0 || y2 <= 0) {
    throw new PlanProblem(`${name}: the box ${shown(box)} lies outside the image of ${size[0]}x${size[1]} pixels`);
  }
  const [start, end] = [item.start ?? 0, item.end ?? 1];
  if (!(typeof start === "number" && typeof end === "number" && start >= 0 && start < end && end <= 1)) {
    throw new PlanProblem(`${name}: start and end lie between 0 and 1, start below end; found ${shown(start)} and ${shown(end)}`);
  }
  return {
    ...item,
    id,
    bbox_2d: [Math.max(0, x1), Math.max(0, y1), Math.min(size[0], x2), Math.min(size[1], y2)],
    hint: text(item.hint ?? "", `${name}: the hint`),
    negative_hint: text(item.negative_hint ?? "", `${name}: the negative_hint`),
    start,
    end,
    mask: readMask(item.mask ?? null, name),
  };
}

/** @returns {RegionMask | null} */
function readMask(/** @type {any} */ mask, /** @type {string} */ name) {
  if (mask === null) return null;
  const [height, width] = Array.isArray(mask.size) ? mask.size : [];
  const runs = mask.rle;
  const whole = Array.isArray(runs) && runs.every((run) => Number.isInteger(run) && run >= 0);
  if (!whole || !(height >= 1 && width >= 1) || runs.reduce((sum, run) => sum + run, 0) !== height * width) {
    throw new PlanProblem(`${name}: a mask is null or {"size": [h, w], "rle": [...]} whose runs fill it, found ${shown(mask)}`);
  }
  return mask;
}

/** Whether a rule can name a region so (usable_id in planner/plan.py). */
export function usableId(/** @type {string} */ id) {
  return id !== "" && !id.includes("|") && id !== "*";
}

/**
 * A name for one more region: r3 beside two others, or the first that is free (fresh_id in planner/plan.py).
 * @param {Iterable<string>} taken
 */
export function freshId(taken) {
  const used = new Set(taken);
  if (!used.has(`r${used.size + 1}`)) return `r${used.size + 1}`;
  let number = 1;
  while (used.has(`r${number}`)) number += 1;
  return `r${number}`;
}

/** The plan without what only the editor needs: what is given to other tools. @param {Plan} plan */
export function planToText(plan) {
  const { editor, ...rest } = /** @type {any} */ (plan);
  const regions = plan.regions.map(({ locked, hidden, ...region }) => region);
  return JSON.stringify({ ...rest, regions }, null, 2);
}

/**
 * The plan of the same picture at another size, stretched.
 * @param {Plan} plan
 * @param {number} width
 * @param {number} height
 * @returns {Plan}
 */
export function stretched(plan, width, height) {
  const [across, down] = [width / plan.image_size[0], height / plan.image_size[1]];
  const regions = plan.regions.map((region) => {
    const [x1, y1, x2, y2] = region.bbox_2d;
    return { ...region, bbox_2d: /** @type {Box} */ ([x1 * across, y1 * down, x2 * across, y2 * down]) };
  });
  return { ...plan, image_size: [width, height], regions };
}

/**
 * The plan with its boxes at the same pixels of an image of another size. A box that would lie outside moves to the
 * nearest border instead of being lost; masks, which cover the whole image, are dropped.
 * @param {Plan} plan
 * @param {number} width
 * @param {number} height
 * @returns {Plan}
 */
export function keptPixels(plan, width, height) {
  const regions = plan.regions.map((region) => {
    const [x1, y1, x2, y2] = region.bbox_2d;
    const [w, h] = [Math.min(x2 - x1, width), Math.min(y2 - y1, height)];
    const x = x1 >= width ? width - w : x1;
    const y = y1 >= height ? height - h : y1;
    const box = /** @type {Box} */ ([x, y, Math.min(x + w, width), Math.min(y + h, height)]);
    return { ...region, bbox_2d: box, mask: null };
  });
  return { ...plan, image_size: [width, height], regions };
}

/**
 * What differs between two plans, in words, one line each.
 * @param {Plan} before
 * @param {Plan} after
 * @returns {string[]}
 */
export function differences(before, after) {
  const lines = [];
  const old = new Map(before.regions.map((region) => [region.id, region]));
  if (before.image_size.join() !== after.image_size.join()) lines.push(`image size ${before.image_size.join("x")} -> ${after.image_size.join("x")}`);
  if (before.global_prompt !== after.global_prompt) lines.push(`global prompt: "${before.global_prompt}" -> "${after.global_prompt}"`);
  for (const region of after.regions) {
    const was = old.get(region.id);
    if (!was) {
      lines.push(`${region.id} added: ${region.hint || "(no hint)"}`);
      continue;
    }
    old.delete(region.id);
    if (was.bbox_2d.join() !== region.bbox_2d.join()) lines.push(`${region.id} box: ${rounded(was.bbox_2d)} -> ${rounded(region.bbox_2d)}`);
    if (was.hint !== region.hint) lines.push(`${region.id} hint: "${was.hint}" -> "${region.hint}"`);
    if (was.negative_hint !== region.negative_hint) lines.push(`${region.id} negative hint: "${was.negative_hint}" -> "${region.negative_hint}"`);
    if (was.start !== region.start || was.end !== region.end) lines.push(`${region.id} active: ${was.start}-${was.end} -> ${region.start}-${region.end}`);
    if (JSON.stringify(was.mask) !== JSON.stringify(region.mask)) lines.push(`${region.id} mask ${region.mask ? "changed" : "removed"}`);
  }
  for (const region of old.values()) lines.push(`${region.id} deleted: ${region.hint || "(no hint)"}`);
  const kept = (/** @type {Plan} */ one, /** @type {Plan} */ other) => one.regions.map((r) => r.id).filter((id) => other.regions.some((r) => r.id === id)).join();
  if (kept(before, after) !== kept(after, before)) lines.push("regions are in another order");
  return lines;
}

/** Whether two plans would give the same edit; the planner's reasoning does not count. */
export function samePlan(/** @type {Plan} */ one, /** @type {Plan} */ other) {
  return differences(one, other).length === 0;
}

function rounded(/** @type {Box} */ box) {
  return `[${box.map((edge) => Math.round(edge * 10) / 10).join(", ")}]`;
}

export function isObject(/** @type {any} */ value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value for a message, cut short. */
export function shown(/** @type {any} */ value) {
  const written = value === undefined ? "nothing" : JSON.stringify(value);
  return written.length <= 80 ? written : `${written.slice(0, 80)}...`;
}

function text(/** @type {any} */ value, /** @type {string} */ what) {
  if (typeof value !== "string") throw new PlanProblem(`${what} must be text, found ${shown(value)}`);
  return wellFormed(value);
}
