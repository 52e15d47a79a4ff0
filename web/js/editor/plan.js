/** The plan as the page holds it; what a plan means is Python's. */
import { isObject, need } from "../common/problem.js";

/** As in planner/plan.py. */
export const KEEP_UNCHANGED = "keep remaining part of image unchanged.";
/** Python decodes no larger mask. */
const MOST_MASK_CELLS = 16384 ** 2;

/** @param {Size} image_size @returns {Plan} */
export function emptyPlan(...image_size) {
	return { version: 1, image_size, global_prompt: KEEP_UNCHANGED, reasoning: "", regions: [] };
}

/** The plan of a stored value, or Problem for one that cannot be shown. Whether a run takes it is asked of the server. @returns {Plan} */
export function readPlan(data) {
	const { version, image_size, global_prompt, reasoning, regions: items } = { ...emptyPlan(0, 0), ...data };
	const shows = isObject(data) && version === 1 && isNumbers(image_size, 2) && image_size.every((side) => side >= 1);
	need(shows && [global_prompt, reasoning].every(isText) && Array.isArray(items) && items.every(isRegion), "it is no plan that this version shows");
	const ids = items.flatMap(({ id }) => id ?? []);
	need(new Set(ids).size === ids.length, "two regions share an id");
	const [width, height] = image_size;
	// The keys keep their order: a value that is only read and written stays the same text.
	const regions = items.map(({ hidden, ...region }) => {
		const { id = freshId(ids), bbox_2d: [x1, y1, x2, y2], hint = "", negative_hint = "", start = 0, end = 1, mask = null } = region;
		if (id !== region.id) ids.push(id);
		const bbox_2d = [Math.max(0, x1), Math.max(0, y1), Math.min(width, x2), Math.min(height, y2)];
		return { ...region, id, bbox_2d, hint, negative_hint, start, end, mask };
	});
	return { ...data, version, image_size, global_prompt, reasoning, regions };
}

function isRegion(region) {
	if (!isObject(region) || !isNumbers(region.bbox_2d, 4)) return false;
	const { id = "r", hint = "", negative_hint = "", start = 0, end = 1, enabled = true, mask, bbox_2d: [x1, y1, x2, y2] } = region;
	return [id, hint, negative_hint].every(isText) && isNumbers([start, end], 2) && typeof enabled === "boolean" && x1 < x2 && y1 < y2 && (mask == null || isMask(mask));
}

function isMask({ size, rle }) {
	return isNumbers(size, 2) && size[0] * size[1] <= MOST_MASK_CELLS && Array.isArray(rle) && rle.reduce((sum, run) => (run >= 0 ? sum + run : NaN), 0) === size[0] * size[1];
}

const isNumbers = (value, count) => Array.isArray(value) && value.length === count && value.every(Number.isFinite);
const isText = (value) => typeof value === "string";

/** Whether a region acts; one that is off is neither sent nor numbered. @param {Region} region */
export const isOn = ({ enabled }) => enabled !== false;

/** What a region is called: the name that someone gave it, or its id. @param {Region} region */
export const nameOf = ({ id, editor }) => (typeof editor?.name === "string" && editor.name) || id;

/** A name for one more region: r3 beside two others, or the first that is free. @param {string[]} taken */
export function freshId(taken) {
	const used = new Set(taken);
	let number = used.size + 1;
	if (used.has(`r${number}`)) for (number = 1; used.has(`r${number}`); ) number += 1;
	return `r${number}`;
}

/** Without what only the editor needs. @returns {Plan} */
export function withoutMarks(plan) {
	return { ...plan, regions: plan.regions.map(({ locked, ...region }) => region) };
}

export function planToText(plan) {
	return JSON.stringify(withoutMarks(plan), null, 2);
}

/** The plan of the same image at another size. */
export function stretched(plan, ...size) {
	const [across, down] = size.map((side, axis) => side / plan.image_size[axis]);
	return withBoxes(plan, size, ([x1, y1, x2, y2]) => ({ bbox_2d: [x1 * across, y1 * down, x2 * across, y2 * down] }));
}

/** The plan with its boxes at the same pixels of another image: moved inside rather than lost, and without masks. */
export function keptPixels(plan, ...size) {
	const axis = (low, high, side) => {
		const length = Math.min(high - low, side);
		const from = low >= side ? side - length : low;
		return [from, Math.min(from + length, side)];
	};
	return withBoxes(plan, size, ([x1, y1, x2, y2]) => {
		const [[left, right], [top, bottom]] = [axis(x1, x2, size[0]), axis(y1, y2, size[1])];
		return { bbox_2d: [left, top, right, bottom], mask: null };
	});
}

function withBoxes(plan, image_size, change) {
	return { ...plan, image_size, regions: plan.regions.map((region) => ({ ...region, ...change(region.bbox_2d) })) };
}

/** What decides the edit, as a text. @param {Plan} plan */
export function contentOf({ image_size, global_prompt, regions }) {
	return JSON.stringify([image_size, global_prompt, regions.map((region) => [
		region.id, region.bbox_2d, region.hint, region.negative_hint, region.start, region.end, region.mask, isOn(region),
	])]);
}

export function samePlan(one, other) {
	return one === other || contentOf(one) === contentOf(other);
}
