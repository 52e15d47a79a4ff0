/** The plan as the page holds it: reading, comparing, moving it to another size. */
import { isObject, need } from "../common/problem.js";

const VERSION = 1;
/** What the published planner writes when nothing changes globally (KEEP_UNCHANGED in planner/plan.py). */
export const KEEP_UNCHANGED = "keep remaining part of image unchanged.";

/** @param {Size} image_size @returns {Plan} */
export function emptyPlan(...image_size) {
  return { version: VERSION, image_size, global_prompt: KEEP_UNCHANGED, reasoning: "", regions: [] };
}

/**
 * Check the object of a plan's JSON and fill in what is not there. Throws Problem with the words of the Python reader.
 * @param {any} data @returns {Plan}
 */
export function readPlan(data) {
  need(isObject(data), `a plan is a JSON object with image_size and regions, found ${shown(data)}`);
  const { version = VERSION, image_size: size, regions: items = [] } = data;
  need(!(Number.isInteger(version) && version > VERSION), `this plan is of version ${version} and this pack reads version ${VERSION}; update the pack`);
  need(version === VERSION, `a plan's version is the number ${VERSION}, found ${shown(version)}`);
  need(isSize(size), `a plan's image_size is two whole numbers [width, height], found ${shown(size)}`);
  need(Array.isArray(items), `a plan's regions are a list, found ${shown(items)}`);
  const taken = new Set(items.map((item) => item?.id).filter((id) => typeof id === "string"));
  /** @type {Map<string, Region>} */
  const regions = new Map();
  for (const [index, item] of items.entries()) {
    const region = readRegion(item, index + 1, taken, size);
    need(!regions.has(region.id), `two regions share the id '${region.id}'; give each its own`);
    taken.add(region.id);
    regions.set(region.id, region);
  }
  return {
    ...data,
    version,
    image_size: size,
    global_prompt: text(data.global_prompt ?? KEEP_UNCHANGED, "the plan's global_prompt"),
    reasoning: text(data.reasoning ?? "", "the plan's reasoning"),
    regions: [...regions.values()],
  };
}

/** @type {ReadRegion} */
function readRegion(item, number, taken, [width, height]) {
  need(isObject(item), `region ${number}: a region is an object with "bbox_2d" and "hint", found ${shown(item)}`);
  const id = item.id ?? freshId(taken);
  need(usableId(id), `region ${number}: the id ${shown(id)} cannot name a region`);
  const name = `region '${id}'`;
  const box = item.bbox_2d;
  need(isBox(box), `${name}: bbox_2d is four numbers [x1, y1, x2, y2], found ${shown(box)}`);
  const [x1, y1, x2, y2] = box;
  need(x1 < x2 && y1 < y2, `${name}: the box ${shown(box)} has no area; write [x1, y1, x2, y2] with x1 < x2 and y1 < y2`);
  need(x1 < width && y1 < height && x2 > 0 && y2 > 0, `${name}: the box ${shown(box)} lies outside the image of ${width}x${height} pixels`);
  const [start, end] = [item.start ?? 0, item.end ?? 1];
  const isSpan = typeof start === "number" && typeof end === "number" && start >= 0 && start < end && end <= 1;
  need(isSpan, `${name}: start and end lie between 0 and 1, start below end; found ${shown(start)} and ${shown(end)}`);
  return {
    ...item,
    id,
    bbox_2d: [Math.max(0, x1), Math.max(0, y1), Math.min(width, x2), Math.min(height, y2)],
    hint: text(item.hint ?? "", `${name}: the hint`),
    negative_hint: text(item.negative_hint ?? "", `${name}: the negative_hint`),
    start,
    end,
    mask: readMask(item.mask ?? null, name),
  };
}

/** @type {ReadMask} */
function readMask(mask, name) {
  if (mask === null) return null;
  const [height, width] = Array.isArray(mask.size) ? mask.size : [];
  /** @type {number[]} */
  const rle = Array.isArray(mask.rle) ? mask.rle : [];
  const covered = rle.reduce((sum, run) => (Number.isInteger(run) && run >= 0 ? sum + run : NaN), 0);
  need(height >= 1 && width >= 1 && covered === height * width, `${name}: a mask is null or {"size": [h, w], "rle": [...]} whose runs fill it, found ${shown(mask)}`);
  return mask;
}

/** @param {any} size @returns {size is Size} */
function isSize(size) {
  return Array.isArray(size) && size.length === 2 && size.every((side) => Number.isInteger(side) && side >= 1 && side <= 1e6);
}

/** @param {any} box @returns {box is Box} */
export function isBox(box) {
  return Array.isArray(box) && box.length === 4 && box.every((edge) => Number.isFinite(edge));
}

/** Whether a rule can name a region so (usable_id in planner/plan.py). @param {any} id @returns {id is string} */
export function usableId(id) {
  return typeof id === "string" && id !== "" && !id.includes("|") && id !== "*";
}

/** A name for one more region: r3 beside two others, or the first that is free (fresh_id in planner/plan.py). @param {Iterable<string>} taken */
export function freshId(taken) {
  const used = new Set(taken);
  if (!used.has(`r${used.size + 1}`)) return `r${used.size + 1}`;
  let number = 1;
  while (used.has(`r${number}`)) number += 1;
  return `r${number}`;
}

/** Without what only the editor needs. @param {Plan} plan @returns {Plan} */
export function withoutMarks(plan) {
  return { ...plan, regions: plan.regions.map(({ locked, hidden, ...region }) => region) };
}

/** @param {Plan} plan */
export function planToText(plan) {
  return JSON.stringify(withoutMarks(plan), null, 2);
}

/** The plan of the same picture at another size, stretched. @type {PlanAtSize} */
export function stretched(plan, ...[width, height]) {
  const [across, down] = [width / plan.image_size[0], height / plan.image_size[1]];
  return withBoxes(plan, [width, height], ({ bbox_2d: [x1, y1, x2, y2] }) => ({ bbox_2d: [x1 * across, y1 * down, x2 * across, y2 * down] }));
}

/**
 * The plan with its boxes at the same pixels of an image of another size. A box that would lie outside moves to the
 * nearest border instead of being lost; masks, which cover the whole image, are dropped. @type {PlanAtSize}
 */
export function keptPixels(plan, ...[width, height]) {
  return withBoxes(plan, [width, height], ({ bbox_2d: [x1, y1, x2, y2] }) => {
    const [w, h] = [Math.min(x2 - x1, width), Math.min(y2 - y1, height)];
    const x = x1 >= width ? width - w : x1;
    const y = y1 >= height ? height - h : y1;
    return { bbox_2d: [x, y, Math.min(x + w, width), Math.min(y + h, height)], mask: null };
  });
}

/** @type {WithBoxes} */
function withBoxes(plan, image_size, change) {
  return { ...plan, image_size, regions: plan.regions.map((region) => ({ ...region, ...change(region) })) };
}

/** What differs between two plans, in words, one line each. @param {Plan} before @param {Plan} after */
export function differences(before, after) {
  /** @type {string[]} */
  const lines = [];
  /** @type {Compare} */
  const compare = (name, was, is) => was !== is && lines.push(`${name} ${was} -> ${is}`);
  compare("image size", before.image_size.join("x"), after.image_size.join("x"));
  compare("global prompt:", `"${before.global_prompt}"`, `"${after.global_prompt}"`);
  const old = new Map(before.regions.map((region) => [region.id, region]));
  for (const region of after.regions) {
    const { id } = region;
    const was = old.get(id);
    if (!was) {
      lines.push(`${id} added: ${region.hint || "(no hint)"}`);
      continue;
    }
    old.delete(id);
    // The edges themselves decide; rounded ones are only what is said.
    if (was.bbox_2d.join() !== region.bbox_2d.join()) lines.push(`${id} box: ${rounded(was.bbox_2d)} -> ${rounded(region.bbox_2d)}`);
    compare(`${id} hint:`, `"${was.hint}"`, `"${region.hint}"`);
    compare(`${id} negative hint:`, `"${was.negative_hint}"`, `"${region.negative_hint}"`);
    compare(`${id} active:`, `${was.start}-${was.end}`, `${region.start}-${region.end}`);
    if (JSON.stringify(was.mask) !== JSON.stringify(region.mask)) lines.push(`${id} mask ${region.mask ? "changed" : "removed"}`);
  }
  for (const region of old.values()) lines.push(`${region.id} deleted: ${region.hint || "(no hint)"}`);
  const [was, is] = [before, after].map((plan) => new Set(plan.regions.map((region) => region.id)));
  if ([...was].filter((id) => is.has(id)).join() !== [...is].filter((id) => was.has(id)).join()) lines.push("regions are in another order");
  return lines;
}

/** Whether two plans would give the same edit; the planner's reasoning does not count. @param {Plan} one @param {Plan} other */
export function samePlan(one, other) {
  return differences(one, other).length === 0;
}

/** @param {Box} box */
function rounded(box) {
  return `[${box.map((edge) => Math.round(edge * 10) / 10).join(", ")}]`;
}

/** A value for a message, cut short. @param {any} value */
export function shown(value) {
  const written = value === undefined ? "nothing" : JSON.stringify(value);
  return written.length <= 80 ? written : `${written.slice(0, 80)}...`;
}

/** Text with half characters (lone surrogates) replaced: no file and no tokenizer takes them. @param {any} value @param {string} what */
function text(value, what) {
  need(typeof value === "string", `${what} must be text, found ${shown(value)}`);
  return value.toWellFormed();
}
