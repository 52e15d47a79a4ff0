/**
 * A plan out of a pasted text: the plan's JSON, RePlan's tags, or a list of regions. It reads what is well formed; what
 * has to be repaired is left to the node RePlan Plan from Text, which says what it repaired.
 *
 * @typedef {import("./plan.js").Plan} Plan
 * @typedef {"auto" | "pixels" | "seen_pixels" | "relative_1000" | "relative_1"} Coordinates
 */
import { emptyPlan, freshId, isObject, KEEP_UNCHANGED, PlanProblem, readPlan, shown, stretched, usableId } from "./plan.js";

export const COORDINATES = /** @type {Coordinates[]} */ (["auto", "pixels", "seen_pixels", "relative_1000", "relative_1"]);
const REPAIR = "RePlan Plan from Text repairs such texts: connect it to 'plan'";

/**
 * @param {string} text
 * @param {[number, number]} size of the image, for texts that do not name their own
 * @param {Coordinates} [coordinates] what the numbers of such a text count
 * @returns {Plan}
 */
export function readPasted(text, size, coordinates = "auto") {
  const body = withoutFence(text.trim().replace(/^\uFEFF/, ""));
  if (!body) throw new PlanProblem("there is nothing to read; paste a plan as JSON, as tags (<gen_image>, <region>), or a list of regions");
  const data = parsed(body);
  if (isObject(data) && "image_size" in data) return onImage(readPlan(withoutEditor(data)), size);
  if (data !== undefined) return fromItems(Array.isArray(data) ? data : data.regions ?? [data], "", "", size, coordinates);
  const regions = inside(body, "region");
  const global = inside(body, "gen_image") ?? inside(body, "global");
  if (regions === null && global === null) throw new PlanProblem(`this is neither JSON nor tags (<gen_image>, <global>, <region>): ${shown(body)}. ${REPAIR}`);
  const items = regions === null ? [] : parsed(withoutFence(regions));
  if (items === undefined) throw new PlanProblem(`the list in <region> is not JSON: ${shown(regions)}. ${REPAIR}`);
  return fromItems(Array.isArray(items) ? items : [items], global ?? "", inside(body, "think") ?? "", size, coordinates);
}

function parsed(/** @type {string} */ text) {
  try {
    const data = JSON.parse(text);
    return typeof data === "object" && data !== null ? data : undefined;
  } catch {
    return undefined;
  }
}

function withoutEditor(/** @type {any} */ { editor, ...plan }) {
  return plan;
}

function withoutFence(/** @type {string} */ text) {
  return text.match(/^```\w*\s*\n([\s\S]*?)\n?```\s*$/)?.[1].trim() ?? text.trim();
}

function inside(/** @type {string} */ text, /** @type {string} */ tag) {
  return text.match(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`))?.[1].trim() ?? null;
}

/** A plan for the same picture at another size is stretched; one of another shape is not for this image. @returns {Plan} */
function onImage(/** @type {Plan} */ plan, /** @type {[number, number]} */ [width, height]) {
  const [w, h] = plan.image_size;
  if (w === width && h === height) return plan;
  const scale = Math.max(width / w, height / h);
  const cut = Math.max(w * scale - width, h * scale - height) / 2;
  if (cut > Math.sqrt(width * height) / 64) throw new PlanProblem(`this plan is for an image of ${w}x${h} pixels and the image here has ${width}x${height}, another shape`);
  return stretched(plan, width, height);
}

/** @returns {Plan} */
function fromItems(/** @type {any[]} */ items, /** @type {string} */ global, /** @type {string} */ reasoning, /** @type {[number, number]} */ size, /** @type {Coordinates} */ coordinates) {
  /** @type {Set<string>} */
  const taken = new Set();
  const given = items.map((item, index) => {
    const box = item?.bbox_2d ?? item?.bbox;
    const hint = item?.hint ?? item?.label ?? "";
    if (!Array.isArray(box) || box.length !== 4 || !box.every((edge) => Number.isFinite(edge)) || typeof hint !== "string") {
      throw new PlanProblem(`item ${index + 1} has no "bbox_2d": [x1, y1, x2, y2] with a hint: ${shown(item)}. ${REPAIR}`);
    }
    const { bbox_2d, bbox, label, ...rest } = item;
    const id = typeof item.id === "string" && usableId(item.id) && !taken.has(item.id) ? item.id : freshId(taken);
    taken.add(id);
    return { ...rest, id, bbox_2d: box, hint };
  });
  const [across, down] = span(given.flatMap((item) => item.bbox_2d), size, coordinates);
  const [width, height] = size;
  const regions = given.map((item) => {
    const [x1, y1, x2, y2] = item.bbox_2d;
    return { ...item, bbox_2d: [(x1 * width) / across, (y1 * height) / down, (x2 * width) / across, (y2 * height) / down] };
  });
  return readPlan({ ...emptyPlan(width, height), global_prompt: global || KEEP_UNCHANGED, reasoning, regions });
}

/** The width and height that the numbers count in (choose_frame in planner/coordinates.py). */
function span(/** @type {number[]} */ numbers, /** @type {[number, number]} */ size, /** @type {Coordinates} */ coordinates) {
  if (coordinates === "relative_1000") return [1000, 1000];
  if (coordinates === "relative_1" || (coordinates === "auto" && numbers.length && Math.max(...numbers.map(Math.abs)) <= 1)) return [1, 1];
  return coordinates === "pixels" ? size : seenSize(size);
}

/** The size at which Qwen2.5-VL sees an image (smart_resize in planner/coordinates.py). @returns {[number, number]} */
export function seenSize(/** @type {[number, number]} */ [width, height]) {
  const [factor, least, most] = [28, 3136, 12845056];
  // Python rounds halves to the even neighbour.
  const round = (/** @type {number} */ value) => (value % 1 === 0.5 ? 2 * Math.round(value / 2) : Math.round(value));
  let seen = [width, height].map((side) => Math.max(factor, round(side / factor) * factor));
  if (seen[0] * seen[1] > most) {
    const beta = Math.sqrt((width * height) / most);
    seen = [width, height].map((side) => Math.max(factor, Math.floor(side / beta / factor) * factor));
  } else if (seen[0] * seen[1] < least) {
    const beta = Math.sqrt(least / (width * height));
    seen = [width, height].map((side) => Math.ceil((side * beta) / factor) * factor);
  }
  return [seen[0], seen[1]];
}
