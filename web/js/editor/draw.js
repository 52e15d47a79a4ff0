/** Draws the image and the plan on a canvas. */
import { shortened } from "../common/dom.js";
import { texts } from "../common/texts.js";
import { coloursOf, rgba } from "./colours.js";
import { area, clamp, toScreen } from "./geometry.js";
import { isOn, nameOf } from "./plan.js";

const FONT = "12px system-ui, sans-serif";
const LINE = 17;
/** With more regions only selected ones carry their hint. */
const MOST_HINTS = 60;

/** @type {WeakMap<RegionMask, Map<string, HTMLCanvasElement>>} */
const masks = new WeakMap();
/** @type {Map<string, {text: string, width: number}>} */
const labels = new Map();

/** @param {Context} ctx @param {Scene} scene */
export function draw(ctx, scene) {
	const { width, height, port, size, regions, selection, view, image, band } = scene;
	const frame = toScreen(port, [0, 0, ...size]);
	ctx.clearRect(0, 0, width, height);
	if (image) {
		ctx.imageSmoothingEnabled = port.scale < 3;
		const place = fittedIn(frame, image);
		if (place.join() !== frame.join()) fillBox(ctx, frame, "#3a3a3a");
		ctx.drawImage(image, ...sides(place));
	} else {
		fillBox(ctx, frame, "#3a3a3a");
	}
	fillBox(ctx, frame, `rgba(0,0,0,${view.dim})`);
	const colours = coloursOf(regions);
	const shown = regions.filter(isOn)
		.map((region) => ({ region, colour: colours.get(region.id) ?? "", box: toScreen(port, region.bbox_2d), chosen: selection.includes(region.id) }));
	// Large boxes first, selected ones last.
	shown.sort((a, b) => Number(a.chosen) - Number(b.chosen) || area(b.box) - area(a.box));
	if (view.patches) for (const one of shown) drawPatches(ctx, one, scene);
	for (const { region: { mask }, colour } of shown) if (mask) ctx.drawImage(tinted(mask, colour), ...sides(frame));
	if (view.patches || view.snap) drawGrid(ctx, scene, frame);
	for (const one of shown) drawBox(ctx, one);
	ctx.font = FONT;
	ctx.textBaseline = "middle";
	for (const one of shown) drawLabel(ctx, one, scene, one.chosen || shown.length <= MOST_HINTS);
	if (band) {
		ctx.setLineDash([5, 4]);
		strokeBox(ctx, toScreen(port, band), 1.5, "#fff");
		ctx.setLineDash([]);
	}
}

/** Where in a frame an image of another shape stands undistorted. @returns {Box} */
function fittedIn([x1, y1, x2, y2], { naturalWidth: width, naturalHeight: height }) {
	const scale = Math.min((x2 - x1) / width, (y2 - y1) / height);
	const [dx, dy] = [(x2 - x1 - width * scale) / 2, (y2 - y1 - height * scale) / 2];
	return dx + dy < 1 ? [x1, y1, x2, y2] : [x1 + dx, y1 + dy, x2 - dx, y2 - dy]; // a rounded side is no other shape
}

/** @returns {[left: number, top: number, width: number, height: number]} */
function sides([x1, y1, x2, y2]) {
	return [x1, y1, x2 - x1, y2 - y1];
}

function fillBox(ctx, box, style) {
	ctx.fillStyle = style;
	ctx.fillRect(...sides(box));
}

function strokeBox(ctx, box, width, style) {
	ctx.lineWidth = width;
	ctx.strokeStyle = style;
	ctx.strokeRect(...sides(box));
}

/** @param {Context} ctx @param {ShownRegion} shown */
function drawBox(ctx, { region: { locked }, colour, box, chosen }) {
	strokeBox(ctx, box, chosen ? 5 : 4, "rgba(0,0,0,0.55)");
	ctx.setLineDash(locked ? [6, 4] : []);
	strokeBox(ctx, box, chosen ? 3 : 2, rgba(colour));
	ctx.setLineDash([]);
	if (!chosen) return;
	fillBox(ctx, box, rgba(colour, 0.16));
	if (locked) return;
	const [x1, y1, x2, y2] = box;
	const [mx, my] = [(x1 + x2) / 2, (y1 + y2) / 2];
	for (const [x, y] of [[x1, y1], [mx, y1], [x2, y1], [x2, my], [x2, y2], [mx, y2], [x1, y2], [x1, my]]) {
		/** @type {Box} */
		const handle = [x - 3.5, y - 3.5, x + 3.5, y + 3.5];
		fillBox(ctx, handle, "#fff");
		strokeBox(ctx, handle, 1, "#000");
	}
}

/** Above its box, inside without room above. @param {Context} ctx @param {ShownRegion} shown @param {Scene} scene @param {boolean} withHint */
function drawLabel(ctx, { region, colour, box: [x1, y1, x2], chosen }, scene, withHint) {
	if (x2 < 0 || x1 > scene.width) return;
	// A chosen one may be wider than its box, but not cover its neighbours.
	const room = clamp(x2 - x1 + 40, chosen ? Math.min(320, scene.width / 3) : 60, scene.width - 8);
	const { text, width } = labelOf(ctx, region, withHint, room);
	const x = clamp(x1 - 1, 2, Math.max(2, scene.width - width - 10));
	const y = y1 - LINE - 1 < 2 ? Math.max(y1 + 2, 2) : y1 - LINE - 1;
	if (y > scene.height) return;
	fillBox(ctx, [x, y, x + width + 8, y + LINE], chosen ? rgba(colour) : "rgba(0,0,0,0.72)");
	const [red, green, blue] = colour.split(",").map(Number);
	ctx.fillStyle = chosen && red * 0.3 + green * 0.59 + blue * 0.11 > 140 ? "#000" : "#fff";
	ctx.fillText(text, x + 4, y + LINE / 2 + 0.5);
	if (!chosen) fillBox(ctx, [x, y, x + 3, y + LINE], rgba(colour));
}

/** The words of a label cut to `room` pixels, measured once. @param {Context} ctx @param {Region} region */
function labelOf(ctx, region, withHint, room) {
	const { hint, start, end } = region;
	const name = nameOf(region);
	const time = start > 0 || end < 1 ? ` ${Math.round(start * 100)}-${Math.round(end * 100)}%` : "";
	const full = withHint ? `${name}${time}: ${shortened(hint, 120) || `(${texts.common.noHint})`}` : name;
	const key = `${Math.round(room / 8)}|${full}`;
	let found = labels.get(key);
	if (!found) {
		if (labels.size > 2000) labels.clear();
		found = { text: full, width: ctx.measureText(full).width };
		while (found.width > room && found.text.length > 4) {
			const { length } = [...found.text];
			const text = shortened(full, clamp(Math.floor((length * room) / found.width), 3, length - 1));
			found = { text, width: ctx.measureText(text).width };
		}
		labels.set(key, found);
	}
	return found;
}

/** @param {Context} ctx @param {ShownRegion} shown @param {Scene} scene */
function drawPatches(ctx, { region, colour }, { port, size: [width, height], view: { patch }, cells }) {
	for (const [row, from, to] of rowsOf(cells[region.id] ?? [], Math.ceil(width / patch))) {
		fillBox(ctx, toScreen(port, [from * patch, row * patch, Math.min(to * patch, width), Math.min((row + 1) * patch, height)]), rgba(colour, 0.3));
	}
}

function drawGrid(ctx, { port, view, width, height }, [left, top, right, bottom]) {
	const step = view.patch * port.scale;
	if (step < 4) return; // the lines alone would cover the image
	ctx.strokeStyle = "rgba(255,255,255,0.22)";
	ctx.lineWidth = 1;
	ctx.beginPath();
	for (let x = left + step * Math.max(1, Math.ceil(-left / step)); x < Math.min(right, width); x += step) {
		ctx.moveTo(x, Math.max(0, top));
		ctx.lineTo(x, Math.min(height, bottom));
	}
	for (let y = top + step * Math.max(1, Math.ceil(-top / step)); y < Math.min(bottom, height); y += step) {
		ctx.moveTo(Math.max(0, left), y);
		ctx.lineTo(Math.min(width, right), y);
	}
	ctx.stroke();
}

/** What run lengths cover in rows of `width` cells: row, first column, the one after the last. */
function* rowsOf(rle, width) {
	let at = 0;
	for (const [place, run] of rle.entries()) {
		for (let from = at; place % 2 && from < at + run; ) {
			const row = Math.floor(from / width);
			const to = Math.min(at + run, (row + 1) * width);
			yield [row, from - row * width, to - row * width];
			from = to;
		}
		at += run;
	}
}

/** A mask in a region's colour, made once. */
function tinted(mask, colour) {
	const pictures = masks.get(mask) ?? new Map();
	masks.set(mask, pictures);
	if (!pictures.has(colour)) pictures.set(colour, maskPicture(mask, colour));
	return pictures.get(colour);
}

function maskPicture({ size: [height, width], rle }, colour) {
	// A mask may have millions of cells; half a thousand a side is enough to see it.
	const shrink = Math.max(1, Math.ceil(Math.max(width, height) / 512));
	const picture = document.createElement("canvas");
	picture.width = Math.ceil(width / shrink);
	picture.height = Math.ceil(height / shrink);
	const ctx = /** @type {Context} */ (picture.getContext("2d"));
	ctx.fillStyle = rgba(colour, 0.4);
	for (const [row, from, to] of rowsOf(rle, width)) if (row % shrink === 0) ctx.fillRect(from / shrink, row / shrink, (to - from) / shrink, 1);
	return picture;
}
