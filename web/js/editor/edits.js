/** What a person does to regions: each takes a plan and gives another, or the same one when nothing changes. */
import { moved } from "./geometry.js";
import { freshId } from "./plan.js";

function withRegions(plan, regions) {
	const same = regions.length === plan.regions.length && regions.every((region, place) => region === plan.regions[place]);
	return same ? plan : { ...plan, regions };
}

export function changed(plan, ids, change) {
	return withRegions(plan, plan.regions.map((region) => (ids.includes(region.id) ? change(region) : region)));
}

/** Without these; locked ones stay. */
export function removed(plan, ids) {
	return withRegions(plan, plan.regions.filter((region) => region.locked || !ids.includes(region.id)));
}

/** With regions added, under ids of their own. */
export function added(plan, regions) {
	const all = [...plan.regions];
	for (const region of regions) all.push({ ...region, id: freshId(all.map(({ id }) => id)) });
	return withRegions(plan, all);
}

/** With a copy of each, a little to the right and down. */
export function duplicated(plan, ids) {
	const step = Math.max(8, plan.image_size[0] / 50);
	const copies = plan.regions.filter(({ id }) => ids.includes(id));
	return added(plan, copies.map((region) => ({ ...region, locked: false, bbox_2d: moved(region.bbox_2d, step, step, plan.image_size) })));
}

/** With one region earlier (by < 0) or later in the order. */
export function reordered(plan, id, by) {
	const from = plan.regions.findIndex((region) => region.id === id);
	if (from < 0) return plan;
	const regions = [...plan.regions];
	regions.splice(Math.min(Math.max(from + by, 0), regions.length - 1), 0, ...regions.splice(from, 1));
	return withRegions(plan, regions);
}
