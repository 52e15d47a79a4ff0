/**
 * The canvas: keeps its size, the view (zoom and pan) and the picture, and draws once a frame when something changed.
 *
 * @typedef {import("./geometry.js").ViewPort} ViewPort
 * @typedef {import("./plan.js").Box} Box
 */
import { element } from "../common/dom.js";
import { draw } from "./draw.js";
import { fitted, toImage, zoomed } from "./geometry.js";

export class CanvasView {
  /** @param {import("./state.js").EditorState} state */
  constructor(state) {
    this.state = state;
    this.canvas = element("canvas", { class: "replan-canvas", tabindex: "0", role: "application", "aria-roledescription": "region editor", "aria-label": "Image with regions. Press question mark for the keys." });
    this.root = element("div", { class: "replan-stage" }, this.canvas);
    this.context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    /** @type {ViewPort} */
    this.port = { scale: 1, x: 0, y: 0 };
    /** Whether the view follows the size of the node; zooming and panning end that. */
    this.fits = true;
    /** @type {CanvasImageSource | null} */
    this.image = null;
    /** @type {Box | null} */
    this.band = null;
    this.width = 0;
    this.height = 0;
    this.frame = 0;
    this.shownSize = "";
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.root);
  }

  destroy() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
  }

  /** CSS pixels of this page's own layout for one pixel on the screen: the graph may be zoomed. */
  get zoomOfGraph() {
    return this.canvas.offsetWidth ? this.canvas.getBoundingClientRect().width / this.canvas.offsetWidth : 1;
  }

  /** @param {{clientX: number, clientY: number}} event @returns {[number, number]} the point in CSS pixels of the canvas */
  pointOf(event) {
    const rect = this.canvas.getBoundingClientRect();
    const zoom = this.zoomOfGraph || 1;
    return [(event.clientX - rect.left) / zoom, (event.clientY - rect.top) / zoom];
  }

  /** @param {{clientX: number, clientY: number}} event @returns {[number, number]} the point in pixels of the image */
  imagePointOf(event) {
    this.place();
    return toImage(this.port, this.pointOf(event));
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.root;
    if (!width || !height) return;
    this.width = width;
    this.height = height;
    this.request();
  }

  fit() {
    this.fits = true;
    this.request();
  }

  /** @param {number} factor @param {[number, number]} [point] */
  zoom(factor, point = [this.width / 2, this.height / 2]) {
    this.fits = false;
    this.port = zoomed(this.port, factor, point);
    this.request();
  }

  pan(/** @type {number} */ dx, /** @type {number} */ dy) {
    this.fits = false;
    this.port = { ...this.port, x: this.port.x + dx, y: this.port.y + dy };
    this.request();
  }

  setImage(/** @type {CanvasImageSource | null} */ image) {
    this.image = image;
    this.request();
  }

  setBand(/** @type {Box | null} */ band) {
    this.band = band;
    this.request();
  }

  /** Bring the view up to the image and the canvas as they are now; a press may come before the next frame. */
  place() {
    const { image_size } = this.state.plan;
    const size = image_size.join("x");
    if (size !== this.shownSize) {
      this.shownSize = size;
      this.fits = true; // another image: show all of it
    }
    if (this.fits) this.port = fitted(image_size, this.width, this.height);
  }

  request() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    this.frame = 0;
    if (!this.width || !this.height) return;
    const { plan, selection, view } = this.state;
    this.place();
    const sharpness = Math.min(3, (window.devicePixelRatio || 1) * Math.min(2, Math.max(1, this.zoomOfGraph)));
    const [across, down] = [Math.round(this.width * sharpness), Math.round(this.height * sharpness)];
    if (this.canvas.width !== across || this.canvas.height !== down) {
      this.canvas.width = across;
      this.canvas.height = down;
    }
    this.context.setTransform(across / this.width, 0, 0, down / this.height, 0, 0);
    draw(this.context, {
      regions: plan.regions, size: plan.image_size, selection, view, port: this.port,
      image: this.image, band: this.band, width: this.width, height: this.height,
    });
  }
}
