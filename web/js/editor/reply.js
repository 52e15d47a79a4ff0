/**
 * A plan out of a pasted text: the plan's JSON, RePlan's tags, or a list of regions. It reads what is well formed; what
 * has to be repaired is left to the node RePlan Plan from Text, which says what it repaired.
 */
import { isObject, need } from "../common/problem.js";
import { emptyPlan, freshId, isBox, KEEP_UNCHANGED, readPlan, shown, stretched, usableId } from "./plan.js";

/** @type {Coordinates[]} */
export const COORDINATES = ["auto", "pixels", "seen_pixels", "relative_1000", "relative_1"];
const REPAIR = "RePlan Plan from Text repairs such texts: connect it to 'plan'";

/** For an image of `size`, where the text does not name its own. @type {ReadPasted} */
export function readPasted(text, size, coordinates = "auto") {
  const body = withoutFence(text.replace(/^\uFEFF/, ""));
  need(body, "there is nothing to read; paste a plan as JSON, as tags (<gen_image>, <region>), or a list of regions");
  const data = parsed(body);
  if (isObject(data) && "image_size" in data) {
    const { editor, ...plan } = data;
    return onImage(readPlan(plan), size);
  }
  if (data) return fromItems([data.regions ?? data].flat(), data.global_prompt ?? "", data.reasoning ?? "", size, coordinates);
  const regions = inside(body, "region");
  const global = inside(body, "gen_image") ?? inside(body, "global");
  need(regions !== null || global !== null, `this is neither JSON nor tags (<gen_image>, <global>, <region>): ${shown(body)}. ${REPAIR}`);
  const items = regions === null ? [] : parsed(withoutFence(regions));
  need(items, `the list in <region> is not JSON: ${shown(regions)}. ${REPAIR}`);
  return fromItems([items].flat(), global ?? "", inside(body, "think") ?? "", size, coordinates);
}

/** @param {string} text @returns {any} an object or a list, or null */
function parsed(text) {
  try {
    const data = JSON.parse(text);
    return typeof data === "object" ? data : null;
  } catch {
    return null;
  }
}

/** @param {string} text */
function withoutFence(text) {
  return text.trim().match(/^```\w*[^\S\n]*\n([\s\S]*?)\n?```\s*$/)?.[1].trim() ?? text.trim();
}

/** @param {string} text @param {string} tag */
function inside(text, tag) {
  const from = text.indexOf(`<${tag}>`);
  const to = text.indexOf(`</${tag}>`, from);
  return from < 0 || to < 0 ? null : text.slice(from + tag.length + 2, to).trim();
}

/** A plan for the same picture at another size is stretched; one of another shape is not for this image. @param {Plan} plan @param {Size} size */
function onImage(plan, [width, height]) {
  const [w, h] = plan.image_size;
  const scale = Math.max(width / w, height / h);
  const cut = Math.max(w * scale - width, h * scale - height) / 2;
  need(cut <= Math.sqrt(width * height) / 64, `this plan is for an image of ${w}x${h} pixels and the image here has ${width}x${height}, another shape`);
  return w === width && h === height ? plan : stretched(plan, width, height);
}

/** @type {PlanOfItems} */
function fromItems(items, global, reasoning, size, coordinates) {
  /** @type {Set<string>} */
  const taken = new Set();
  const given = items.map((item, index) => {
    const { bbox_2d, bbox, label, ...rest } = item ?? {};
    const [box, hint] = [bbox_2d ?? bbox, rest.hint ?? label ?? ""];
    need(isBox(box) && typeof hint === "string", `item ${index + 1} has no "bbox_2d": [x1, y1, x2, y2] with a hint: ${shown(item)}. ${REPAIR}`);
    const id = usableId(rest.id) && !taken.has(rest.id) ? rest.id : freshId(taken);
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

/** The width and height that the numbers count in (choose_frame in planner/replies/coordinates.py). @type {SpanOfNumbers} */
function span(numbers, size, coordinates) {
  if (coordinates === "relative_1000") return [1000, 1000];
  if (coordinates === "relative_1" || (coordinates === "auto" && numbers.length && Math.max(...numbers.map(Math.abs)) <= 1)) return [1, 1];
  return coordinates === "pixels" ? size : seenSize(size);
}

/** The size at which Qwen2.5-VL sees an image (smart_resize in planner/replies/coordinates.py). @param {Size} size */
export function seenSize([width, height]) {
  const [factor, least, most] = [28, 3136, 12845056];
  // Python rounds halves to the even neighbour.
  const round = (/** @type {number} */ value) => (value % 1 === 0.5 ? 2 * Math.round(value / 2) : Math.round(value));
  const seen = [width, height].map((side) => Math.max(factor, round(side / factor) * factor));
  if (seen[0] * seen[1] > most) {
    const beta = Math.sqrt((width * height) / most);
    return [width, height].map((side) => Math.max(factor, Math.floor(side / beta / factor) * factor));
  }
  if (seen[0] * seen[1] < least) {
    const beta = Math.sqrt(least / (width * height));
    return [width, height].map((side) => Math.ceil((side * beta) / factor) * factor);
  }
  return seen;
}
