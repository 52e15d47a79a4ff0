/** Boxes and the view: numbers only, in pixels of the image unless it says otherwise. */
import { isOn } from "./plan.js";

/** The smallest side of a box. */
export const SMALLEST = 2;
/** A shorter drag, in screen pixels, draws nothing. */
export const SMALLEST_DRAG = 5;

/** The value, or the nearest of the two. */
export function clamp(value, low, high) {
	return Math.min(Math.max(value, low), Math.max(low, high));
}

export function area([x1, y1, x2, y2]) {
	return (x2 - x1) * (y2 - y1);
}

/** The box moved, as far as the image allows; its size stays. @returns {Box} */
export function moved([x1, y1, x2, y2], dx, dy, [width, height]) {
	const across = clamp(dx, -x1, width - x2);
	const down = clamp(dy, -y1, height - y2);
	return [x1 + across, y1 + down, x2 + across, y2 + down];
}

/** How far several boxes can move together, at most (dx, dy). */
export function sharedMove(boxes, dx, dy, size) {
	for (const box of boxes) {
		const [x1, y1] = moved(box, dx, dy, size);
		[dx, dy] = [x1 - box[0], y1 - box[1]];
	}
	return [dx, dy];
}

/** The box with the edges of one handle moved; an edge stops before its opposite and at the border. @returns {Box} */
export function resized([x1, y1, x2, y2], handle, dx, dy, [width, height]) {
	return [
		handle.includes("w") ? clamp(x1 + dx, 0, x2 - SMALLEST) : x1,
		handle.includes("n") ? clamp(y1 + dy, 0, y2 - SMALLEST) : y1,
		handle.includes("e") ? clamp(x2 + dx, x1 + SMALLEST, width) : x2,
		handle.includes("s") ? clamp(y2 + dy, y1 + SMALLEST, height) : y2,
	];
}

/** @returns {Box} */
export function boxBetween([ax, ay], [bx, by], [width, height]) {
	const x = [clamp(ax, 0, width), clamp(bx, 0, width)].sort((a, b) => a - b);
	const y = [clamp(ay, 0, height), clamp(by, 0, height)].sort((a, b) => a - b);
	return [x[0], y[0], x[1], y[1]];
}

/** Edges on the nearest lines of a grid of `step` pixels, at least one cell apart; the border is a line too. @returns {Box} */
export function snapped([x1, y1, x2, y2], step, [width, height]) {
	const axis = (low, high, end) => {
		const line = (at) => {
			const nearest = Math.round(at / step) * step;
			return end - at < Math.abs(at - nearest) ? end : Math.min(nearest, end);
		};
		const first = Math.min(line(low), Math.floor((end - 1) / step) * step);
		return [first, Math.max(line(high), Math.min(first + step, end))];
	};
	const [left, right] = axis(x1, x2, width);
	const [top, bottom] = axis(y1, y2, height);
	return [left, top, right, bottom];
}

// ---- the view

/** The view that shows all of an image in the middle of a canvas of `width` x `height` CSS pixels. */
export function fitted([imageWidth, imageHeight], width, height) {
	const margin = 8;
	const scale = Math.max(0.001, Math.min((width - 2 * margin) / imageWidth, (height - 2 * margin) / imageHeight));
	return { scale, x: (width - imageWidth * scale) / 2, y: (height - imageHeight * scale) / 2 };
}

/** The view enlarged about a point of the screen. */
export function zoomed(view, factor, [px, py]) {
	const scale = clamp(view.scale * factor, 0.005, 64);
	const by = scale / view.scale;
	return { scale, x: px - (px - view.x) * by, y: py - (py - view.y) * by };
}

/** @returns {Point} */
export function toImage(view, [px, py]) {
	return [(px - view.x) / view.scale, (py - view.y) / view.scale];
}

/** @returns {Box} */
export function toScreen({ scale, x, y }, [x1, y1, x2, y2]) {
	return [x1 * scale + x, y1 * scale + y, x2 * scale + x, y2 * scale + y];
}

/** The handle at a point, within `reach`, in screen pixels. A small box has them outside: its middle moves it. */
export function handleAt([x1, y1, x2, y2], [px, py], reach) {
	if (px < x1 - reach || px > x2 + reach || py < y1 - reach || py > y2 + reach) return null;
	const inX = Math.min(reach, (x2 - x1) / 4);
	const inY = Math.min(reach, (y2 - y1) / 4);
	const down = py <= y1 + inY ? "n" : py >= y2 - inY ? "s" : "";
	const across = px <= x1 + inX ? "w" : px >= x2 - inX ? "e" : "";
	return /** @type {Handle | ""} */ (down + across) || null;
}

/** The places in `regions` of the boxes under a point that are on, the smallest first. @param {Region[]} regions */
export function boxesAt(regions, [x, y]) {
	return regions
		.map((region, index) => ({ box: region.bbox_2d, index, on: isOn(region) }))
		.filter(({ box: [x1, y1, x2, y2], on }) => on && x >= x1 && x <= x2 && y >= y1 && y <= y2)
		.sort((a, b) => area(a.box) - area(b.box) || b.index - a.index)
		.map(({ index }) => index);
}
