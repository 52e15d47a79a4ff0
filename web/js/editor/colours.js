/** The colours of regions, "red,green,blue", as planner/pictures/draw.py has them, so that a preview and the editor agree. */
import { isOn } from "./plan.js";

const COLOURS = ["230,25,75", "60,180,75", "0,130,200", "255,225,25", "245,130,48", "145,30,180", "70,240,240", "240,50,230"];

const GREY = [128, 128, 128].join();

export const colourAt = (place) => COLOURS[place % COLOURS.length];

export const rgba = (colour, alpha = 1) => `rgba(${colour || GREY},${alpha})`;

export const hexOf = (colour) => `#${(colour || GREY).split(",").map((part) => Number(part).toString(16).padStart(2, "0")).join("")}`;

/** The one that a region carries, or "". @param {Region} region */
function own({ editor }) {
	const color = String(editor?.color);
	return /^#[0-9a-f]{6}$/i.test(color) ? [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)).join() : "";
}

/** By id: its own, else that of its place among those that are on. @param {Region[]} regions @returns {Map<string, string>} */
export function coloursOf(regions) {
	let place = 0;
	return new Map(regions.map((region) => {
		const placed = isOn(region) ? colourAt(place++) : "";
		return [region.id, own(region) || placed];
	}));
}

/** `after`, where no region changes its colour because its place did, and a new one takes a colour that is free. @param {Plan} before @param {Plan} after */
export function withColoursKept(before, after) {
	const [were, are] = [coloursOf(before.regions), coloursOf(after.regions)];
	const taken = new Set(after.regions.map((region) => own(region) || were.get(region.id)));
	const regions = after.regions.map((region) => {
		const [was, is] = [were.get(region.id), are.get(region.id)];
		if (own(region) || was === is) return region;
		const kept = was || (taken.has(is) ? COLOURS.find((one) => !taken.has(one)) : "");
		taken.add(kept || is);
		return kept ? { ...region, editor: { ...region.editor, color: hexOf(kept) } } : region;
	});
	return { ...after, regions };
}
