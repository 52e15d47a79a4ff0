/** The canvas: its size, the view (zoom and pan) and the image; drawn once a frame when something changed. */
import { element } from "../common/dom.js";
import { texts } from "../common/texts.js";
import { draw } from "./draw.js";
import { fitted, toImage, zoomed } from "./geometry.js";

export class CanvasView {
	canvas = element("canvas", { class: "replan-canvas", tabindex: "0", role: "application", "aria-roledescription": texts.editor.canvasRole, "aria-label": texts.editor.canvas });
	root = element("div", { class: "replan-stage" }, this.canvas);
	context = /** @type {Context} */ (this.canvas.getContext("2d"));
	/** @type {ViewPort} */
	port = { scale: 1, x: 0, y: 0 };
	/** The view follows the size of the node until someone zooms or pans. */
	fits = true;
	/** @type {HTMLImageElement | null} */
	image = null;
	/** See patches.js. @type {Record<string, number[]>} */
	cells = {};
	/** @type {Box | null} */
	band = null;
	width = 0;
	height = 0;
	frame = 0;
	/** What else follows the view. */
	onDraw = () => {};
	shownSize = "";

	/** @param {EditorState} state */
	constructor(state) {
		this.state = state;
		new ResizeObserver(() => this.resize()).observe(this.root);
	}

	/** Pixels on the screen for one CSS pixel: the graph may be zoomed. */
	get zoomOfGraph() {
		return this.canvas.getBoundingClientRect().width / this.canvas.offsetWidth || 1;
	}

	/** In CSS pixels of the canvas. @returns {Point} */
	pointOf(event) {
		const { left, top } = this.canvas.getBoundingClientRect();
		return [(event.clientX - left) / this.zoomOfGraph, (event.clientY - top) / this.zoomOfGraph];
	}

	/** In pixels of the image. */
	imagePointOf(event) {
		this.place();
		return toImage(this.port, this.pointOf(event));
	}

	resize() {
		const { clientWidth, clientHeight } = this.root;
		if (clientWidth && clientHeight) this.show({ width: clientWidth, height: clientHeight });
	}

	fit() {
		this.show({ fits: true });
	}

	/** @param {number} factor @param {Point} [point] */
	zoom(factor, point = [this.width / 2, this.height / 2]) {
		this.show({ fits: false, port: zoomed(this.port, factor, point) });
	}

	pan(dx, dy) {
		this.show({ fits: false, port: { ...this.port, x: this.port.x + dx, y: this.port.y + dy } });
	}

	/** Change what is shown, and draw it. @param {Partial<CanvasView>} values */
	show(values) {
		Object.assign(this, values);
		this.frame ||= requestAnimationFrame(() => this.drawNow());
	}

	/** Bring the view up to date: a press may come before the next frame. */
	place() {
		const { image_size } = this.state.plan;
		const size = image_size.join("x");
		if (size !== this.shownSize) {
			this.shownSize = size;
			this.fits = true; // another image: show all of it
		}
		if (this.fits) this.port = fitted(image_size, this.width, this.height);
	}

	drawNow() {
		this.frame = 0;
		const { canvas, width, height, image, band, cells } = this;
		if (!width || !height) return;
		const { plan: { regions, image_size: size }, selection, view } = this.state;
		this.place();
		const sharpness = Math.min(3, (window.devicePixelRatio || 1) * Math.min(2, Math.max(1, this.zoomOfGraph)));
		const [across, down] = [Math.round(width * sharpness), Math.round(height * sharpness)];
		if (canvas.width !== across) canvas.width = across;
		if (canvas.height !== down) canvas.height = down;
		this.context.setTransform(across / width, 0, 0, down / height, 0, 0);
		draw(this.context, { regions, size, selection, view, port: this.port, image, band, cells, width, height });
		this.onDraw();
	}
}
