/** The colours of regions, the same as in planner/pictures/draw.py, so that a preview and the editor agree. */
const COLOURS = ["230,25,75", "60,180,75", "0,130,200", "255,225,25", "245,130,48", "145,30,180", "70,240,240", "240,50,230"];

/** @param {number} index place of the region @param {number} [alpha] */
export function colour(index, alpha = 1) {
	return `rgba(${COLOURS[index % COLOURS.length]},${alpha})`;
}
