/** What a person does to a list of regions: each takes a plan and gives another, or the same one when nothing changes. */
import { moved } from "./geometry.js";
import { freshId } from "./plan.js";

/** @param {Plan} plan @param {Region[]} regions */
function withRegions(plan, regions) {
  const same = regions.length === plan.regions.length && regions.every((region, place) => region === plan.regions[place]);
  return same ? plan : { ...plan, regions };
}

/** @param {Plan} plan @param {string[]} ids @param {(region: Region) => Region} change */
export function changed(plan, ids, change) {
  return withRegions(plan, plan.regions.map((region) => (ids.includes(region.id) ? change(region) : region)));
}

/** Without these regions; locked ones stay. @param {Plan} plan @param {string[]} ids */
export function removed(plan, ids) {
  return withRegions(plan, plan.regions.filter((region) => region.locked || !ids.includes(region.id)));
}

/** With regions added, under ids of their own. @param {Plan} plan @param {Region[]} regions */
export function added(plan, regions) {
  const all = [...plan.regions];
  for (const region of regions) all.push({ ...region, id: freshId(all.map(({ id }) => id)) });
  return withRegions(plan, all);
}

/** With a copy of each of these regions, a little to the right and down. @param {Plan} plan @param {string[]} ids */
export function duplicated(plan, ids) {
  const step = Math.max(8, plan.image_size[0] / 50);
  const copies = plan.regions.filter(({ id }) => ids.includes(id));
  return added(plan, copies.map((region) => ({ ...region, locked: false, bbox_2d: moved(region.bbox_2d, step, step, plan.image_size) })));
}

/** With one region earlier (by < 0) or later in the order. @param {Plan} plan @param {string} id @param {number} by */
export function reordered(plan, id, by) {
  const from = plan.regions.findIndex((region) => region.id === id);
  if (from < 0) return plan;
  const regions = [...plan.regions];
  regions.splice(Math.min(Math.max(from + by, 0), regions.length - 1), 0, ...regions.splice(from, 1));
  return withRegions(plan, regions);
}
