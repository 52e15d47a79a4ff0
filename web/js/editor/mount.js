/**
 * Puts the editor into an element. It knows nothing of the host: what happens there comes in through the handle.
 *
 * @typedef {import("./plan.js").Plan} Plan
 * @typedef {import("./state.js").Follow} Follow
 * @typedef {{value: string, onChange: (value: string) => void, background?: string | null, follow?: Follow,
 *   onPlan?: (() => void) | null, onRun?: (() => void) | null}} Options
 *   value: the stored value; onChange: a new one to store; background: address of the picture
 * @typedef {{image_size: [number, number], source: string, upstream: any, warnings: string[], question: string}} Report
 *   what the node said of its last run
 */
import { button, element } from "../common/dom.js";
import { isTextField, keepEventsInside } from "../common/host_widget.js";
import { useStyleSheet } from "../common/style.js";
import { CanvasView } from "./canvas_view.js";
import { changesDialog, pasteDialog } from "./dialogs.js";
import { Gestures } from "./gestures.js";
import { keySheet, onKey, undoKey } from "./keyboard.js";
import { Notes, notesOf } from "./notes.js";
import { Panel } from "./panel.js";
import { planToText, PlanProblem, readPlan } from "./plan.js";
import { readPasted } from "./reply.js";
import { EditorState } from "./state.js";
import { forPrompt, FRESH, modeOf, readStored, VIEW, writeStored } from "./stored.js";
import { makeToolbar } from "./toolbar.js";

/** @param {HTMLElement} container @param {Options} options */
export function mount(container, options) {
  useStyleSheet("common.css");
  useStyleSheet("editor.css");
  return new Editor(container, options);
}

export class Editor {
  /** @param {HTMLElement} container @param {Options} options */
  constructor(container, options) {
    this.container = container;
    this.options = options;
    /** The text that was stored and cannot be read: kept as it is until someone starts anew. @type {string | null} */
    this.unreadable = null;
    this.problem = "";
    this.written = "";
    /** @type {Report | null} */
    this.report = null;
    this.pictureProblem = "";
    this.progress = "";
    /** @type {number | null} */
    this.share = null;
    this.runProblem = "";
    this.state = new EditorState(this.read(options.value), options.follow);
    this.state.blocked = this.unreadable !== null;
    this.view = new CanvasView(this.state);
    this.gestures = new Gestures(this.view, this.state);
    this.panel = new Panel(this.state, () => this.view.canvas.focus({ preventScroll: true }));
    this.toolbar = makeToolbar(this.state, this.view, {
      paste: () => this.open(pasteDialog(this.state.plan.image_size, (plan) => this.state.paste(plan), () => this.close())),
      copy: () => this.copy(), changes: () => this.showChanges(), sheet: () => this.open(keySheet(() => this.close())),
      plan: options.onPlan ?? null, run: options.onRun ?? null,
    });
    this.notes = new Notes();
    this.mode = element("span", { class: "replan-mode" });
    this.bar = element("progress", { class: "replan-progress", max: "1", "aria-label": "Progress", hidden: true });
    this.live = element("span", { class: "replan-hidden-text", role: "status", "aria-live": "polite" });
    this.layer = element("div", { class: "replan-layer", hidden: true });
    this.status = element("span", { class: "replan-status" });
    this.root = element("div", { class: "replan replan-editor", onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event) },
      this.toolbar.root, element("div", { class: "replan-line" }, this.mode, this.bar, this.status, this.live), this.notes.root,
      element("div", { class: "replan-main" }, this.view.root, this.panel.root), this.layer);
    keepEventsInside(this.root);
    this.listen();
    container.replaceChildren(this.root);
    this.unsubscribe = this.state.subscribe((what) => this.changed(what));
    this.gestures.onEnd = () => this.store();
    this.written = this.value;
    if (options.background) this.setBackground(options.background);
    this.update();
  }

  destroy() {
    this.unsubscribe();
    this.view.destroy();
    cancelAnimationFrame(this.frame ?? 0);
    this.container.replaceChildren();
  }

  // ---- the stored value ---------------------------------------------------------------------------------------

  read(/** @type {string} */ value) {
    this.unreadable = null;
    try {
      return readStored(value);
    } catch (error) {
      if (!(error instanceof PlanProblem)) throw error;
      this.unreadable = value;
      this.problem = error.message;
      return { plan: null, about: FRESH, view: VIEW };
    }
  }

  /** What is to be stored now. */
  get value() {
    return this.unreadable ?? writeStored(this.state.stored);
  }

  /** Take a stored value from outside: a workflow was loaded, the host undid something. */
  setValue(/** @type {string} */ value) {
    if (value === this.value) return;
    this.state.adopt(this.read(value));
    this.state.blocked = this.unreadable !== null;
    if (this.report) this.state.seeImage(this.report.image_size);
    this.written = this.value;
    this.update();
  }

  startAnew() {
    this.unreadable = null;
    this.state.blocked = false;
    this.state.receive(this.state.upstream);
    this.store();
  }

  /** @param {boolean} upstreamConnected */
  promptValue(upstreamConnected) {
    if (this.unreadable !== null) return this.unreadable;
    return forPrompt(this.state.stored, upstreamConnected && this.state.follow === "until_edited");
  }

  store() {
    const { value } = this;
    if (value === this.written) return;
    this.written = value;
    this.options.onChange(value);
  }

  changed(/** @type {"plan" | "selection" | "view"} */ what) {
    if (!this.gestures.dragging) this.store();
    this.view.request();
    if (what === "selection") this.sayCurrent();
    this.frame ||= requestAnimationFrame(() => { this.frame = 0; this.update(); });
  }

  // ---- what the host tells ------------------------------------------------------------------------------------

  /** @param {Report} report */
  setReport(report) {
    this.report = report;
    this.runProblem = "";
    let upstream = null;
    try {
      upstream = report.upstream ? readPlan(report.upstream) : null;
    } catch (error) {
      this.runProblem = `The plan upstream cannot be shown: ${/** @type {Error} */ (error).message}`;
    }
    this.state.seeImage(report.image_size);
    this.state.receive(upstream);
    this.update();
  }

  setBackground(/** @type {string | null} */ address) {
    this.pictureProblem = "";
    if (!address) return this.view.setImage(null);
    const picture = new Image();
    this.picture = picture;
    picture.onload = () => this.picture === picture && (this.view.setImage(picture), this.update());
    picture.onerror = () => {
      if (this.picture !== picture) return;
      this.view.setImage(null);
      this.pictureProblem = "The picture is not there any more; the boxes are. Press Plan to see it again.";
      this.update();
    };
    picture.src = address;
  }

  setFollow(/** @type {Follow} */ follow) {
    this.state.setFollow(follow);
  }

  /** @param {string} text empty when nothing runs @param {number | null} [share] 0..1 where it is known */
  setProgress(text, share = null) {
    if (text === this.progress && share === this.share) return;
    this.progress = text;
    this.share = share;
    this.update();
  }

  setRunProblem(/** @type {string} */ text) {
    this.runProblem = text;
    this.update();
  }

  // ---- showing ------------------------------------------------------------------------------------------------

  update() {
    const { state } = this;
    this.toolbar.update();
    this.panel.update();
    this.panel.root.hidden = !state.view.side;
    const mode = modeOf(state.plan, state.about);
    this.mode.textContent = mode.text;
    this.mode.dataset.mode = mode.name;
    this.bar.hidden = !this.progress;
    if (this.share === null) this.bar.removeAttribute("value");
    else this.bar.value = this.share;
    this.status.textContent = this.progress || `${state.plan.image_size.join(" x ")} px`;
    this.notes.update(notesOf(this));
    this.view.request();
  }

  sayCurrent() {
    const { current, selection, plan } = this.state;
    const box = current?.bbox_2d.map((edge) => Math.round(edge)).join(", ");
    this.live.textContent = !current ? "No region selected" : selection.length > 1 ? `${selection.length} regions selected`
      : `Region ${plan.regions.indexOf(current) + 1} of ${plan.regions.length}, ${current.id}, ${current.hint || "no hint"}, box ${box}${current.locked ? ", locked" : ""}`;
  }

  // ---- keys, clipboard, dialogs -------------------------------------------------------------------------------

  /** Keys that hold everywhere in the editor. */
  key(/** @type {KeyboardEvent} */ event) {
    if (event.key === "Escape") this.close();
    else if (event.target !== this.view.canvas && !isTextField(event.target) && undoKey(event, this.state)) event.preventDefault();
  }

  listen() {
    const { canvas } = this.view;
    canvas.addEventListener("keydown", (event) => onKey(event, {
      state: this.state, view: this.view, gestures: this.gestures, say: (text) => (this.live.textContent = text),
      focusHint: () => (this.panel.update(), this.panel.hint.focus()), // without it the fields show a frame later
      showSheet: () => this.open(keySheet(() => this.close())),
    }));
    canvas.addEventListener("keyup", (event) => event.key === " " && (this.gestures.spaceHeld = false));
    canvas.addEventListener("blur", () => (this.gestures.spaceHeld = false));
    canvas.addEventListener("copy", (event) => {
      event.clipboardData?.setData("text/plain", this.selectionText());
      event.preventDefault();
    });
    canvas.addEventListener("paste", (event) => {
      event.preventDefault();
      this.pasteText(event.clipboardData?.getData("text/plain") ?? "");
    });
  }

  /** The selected regions as a plan, or the whole plan. */
  selectionText() {
    const { plan, selected } = this.state;
    return selected.length ? planToText({ ...plan, regions: selected, .../** @type {any} */ ({ part: true }) }) : planToText(plan);
  }

  pasteText(/** @type {string} */ text) {
    const { state } = this;
    if (!text || state.readOnly) return;
    try {
      const { part, ...plan } = /** @type {any} */ (readPasted(text, state.plan.image_size));
      if (part) state.insert(plan.regions);
      else state.paste(plan);
    } catch {
      this.open(pasteDialog(state.plan.image_size, (plan) => state.paste(plan), () => this.close(), text));
    }
  }

  copy() {
    this.toClipboard(planToText(this.state.plan));
  }

  async toClipboard(/** @type {string} */ text) {
    try {
      await navigator.clipboard.writeText(text);
      this.live.textContent = "Copied";
    } catch {
      // Without a secure address the page may not write it: the person copies the text.
      const area = element("textarea", { rows: "10", readonly: true, "aria-label": "Text to copy", value: text });
      this.open(element("div", { class: "replan-dialog", role: "dialog", "aria-label": "Copy" }, "Copy this text:", area, button("Close", "Close", () => this.close())));
      area.select();
    }
  }

  showChanges() {
    const { about } = this.state;
    this.open(changesDialog(this.state.changes, about.base ? "Since the plan came:" : "Since the empty plan:", () => this.close()));
  }

  open(/** @type {HTMLElement} */ dialog) {
    this.layer.replaceChildren(dialog);
    this.layer.hidden = false;
    /** @type {HTMLElement | null} */ (dialog.querySelector("textarea, button"))?.focus();
  }

  close() {
    if (this.layer.hidden) return;
    this.layer.replaceChildren();
    this.layer.hidden = true;
    this.view.canvas.focus({ preventScroll: true });
  }
}
