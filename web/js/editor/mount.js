/** Puts the editor into an element. It knows nothing of the host, which calls its methods. */
import { button, element, fill, shortened, styleSheet } from "../common/dom.js";
import { runKey } from "../common/commands.js";
import { isTextField, keepEventsInside } from "../common/host_widget.js";
import { Notes } from "../common/notes.js";
import { Problem } from "../common/problem.js";
import { CanvasView } from "./canvas_view.js";
import { commandsOf, onKey } from "./commands.js";
import { changesList, pasteForm } from "./dialogs.js";
import { Gestures } from "./gestures.js";
import { notesOf } from "./notes.js";
import { Panel } from "./panel.js";
import { Patches } from "./patches.js";
import { isOn, planToText } from "./plan.js";
import { EditorState } from "./state.js";
import { forPrompt, FRESH, modeOf, readStored, VIEW, writeStored } from "./stored.js";
import { makeToolbar } from "./toolbar.js";

/** @param {HTMLElement} container @param {EditorOptions} options */
export function mount(container, options) {
  const editor = new Editor(options);
  container.replaceChildren(styleSheet("common.css"), styleSheet("editor.css"), editor.root);
  return editor;
}

export class Editor {
  /** The text that was stored and cannot be read: kept as it is until someone starts anew. @type {string | null} */
  unreadable = null;
  problem = "";
  /** @type {RunReport | null} */
  report = null;
  /** What reading the pasted text told. @type {{note: string, warnings: string[]} | null} */
  pasted = null;
  /** Why a run would refuse the value that came from outside. */
  refused = "";
  pictureProblem = "";
  progress = "";
  /** @type {number | null} 0..1 where it is known */
  share = null;
  runProblem = "";
  frame = 0;

  /** @param {EditorOptions} options */
  constructor(options) {
    this.options = options;
    /** @type {{value: string} | null} */
    this.checked = null;
    this.state = new EditorState(this.read(options.value), options.follow);
    this.state.blocked = this.unreadable !== null;
    this.written = this.value;
    this.view = new CanvasView(this.state);
    this.patches = new Patches(options.ask, () => this.changed("view"));
    this.gestures = new Gestures(this.view, this.state, () => this.store());
    this.panel = new Panel(this.state, () => this.focus());
    this.commands = commandsOf(this);
    this.toolbar = makeToolbar(this.state, this.commands);
    this.notes = new Notes();
    this.mode = element("span", { class: "replan-mode" });
    this.bar = element("progress", { class: "replan-progress", max: 1, "aria-label": "Progress", hidden: true });
    this.status = element("span", { class: "replan-status" });
    this.live = element("span", { class: "replan-hidden-text", role: "status", "aria-live": "polite" });
    this.layer = element("div", { class: "replan-layer", hidden: true });
    this.root = element("div", { class: "replan replan-editor", onkeydown: (event) => this.key(event) },
      this.toolbar.root, element("div", { class: "replan-line" }, this.mode, this.bar, this.toolbar.dimmer, this.status, this.live), this.notes.root,
      element("div", { class: "replan-main" }, this.view.root, this.panel.root), this.layer);
    keepEventsInside(this.root);
    this.listen();
    this.state.onChange = (what) => this.changed(what);
    if (options.background) this.setBackground(options.background);
    this.update();
  }

  // ---- the stored value

  /** @param {string} value @returns {Stored} */
  read(value) {
    this.unreadable = null;
    try {
      return readStored(value);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.unreadable = value;
      this.problem = error.message;
      return { plan: null, about: FRESH, view: VIEW };
    }
  }

  /** Ask whether a run will take a value from outside: what can be shown may still be refused. @param {string} value */
  async check(value) {
    this.refused = "";
    const given = (this.checked = { value });
    const { problem } = value ? await this.options.ask("check", given).catch(() => ({ problem: "" })) : { problem: "" };
    if (given !== this.checked || !problem) return; // another value came meanwhile, or this one was changed
    if (this.unreadable === null) this.refused = problem;
    else this.problem = problem;
    this.update();
  }

  get value() {
    return this.unreadable ?? writeStored(this.state.stored);
  }

  /** Take a stored value from outside: a workflow was loaded, the host undid something. @param {string} value */
  setValue(value) {
    if (value === this.value) return;
    const stored = this.read(value);
    this.state.blocked = this.unreadable !== null;
    this.gestures.cancel();
    this.state.adopt(stored);
    if (this.report) this.state.seeImage(this.report.image_size);
    this.written = this.value;
    void this.check(value);
    this.update();
  }

  startAnew() {
    this.unreadable = null;
    this.state.blocked = false;
    this.state.receive(this.state.upstream);
    this.store();
  }

  /** What goes with the prompt. @param {boolean} upstreamConnected */
  promptValue(upstreamConnected) {
    return this.unreadable ?? forPrompt(this.state.stored, upstreamConnected && this.state.follow === "until_edited");
  }

  store() {
    const { value } = this;
    if (value === this.written) return;
    this.written = value;
    this.checked = null;
    this.refused = "";
    this.options.onChange(value);
  }

  /** @param {Changed} what */
  changed(what) {
    if (!this.gestures.dragging) this.store();
    void this.patches.update(this.state);
    this.view.cells = this.patches.cells;
    this.view.request();
    if (what === "selection") this.sayCurrent();
    this.frame ||= requestAnimationFrame(() => { this.frame = 0; this.update(); });
  }

  // ---- what the host tells

  /** @param {RunReport} report */
  setReport(report) {
    this.report = report;
    this.runProblem = "";
    this.pasted = null;
    const { plan } = this.state;
    this.state.seeImage(report.image_size);
    this.state.receive(report.upstream);
    if (this.state.plan !== plan) this.gestures.cancel(); // its boxes are those of the plan before, on another image
    this.update();
  }

  /** @param {string | null} address of the picture */
  setBackground(address) {
    this.pictureProblem = "";
    if (!address) return this.view.setImage(null);
    const picture = new Image();
    const show = (/** @type {HTMLImageElement | null} */ image, problem = "") => {
      if (this.picture !== picture) return; // another one was asked for
      this.view.setImage(image);
      this.pictureProblem = problem;
      this.update();
    };
    this.picture = picture;
    picture.onload = () => show(picture);
    picture.onerror = () => show(null, "The picture is not there any more; the boxes are. Press Plan to see it again.");
    picture.src = address;
  }

  /** Empty when nothing runs. @type {SetProgress} */
  setProgress(text, share = null) {
    if (text === this.progress && share === this.share) return;
    this.progress = text;
    this.share = share;
    this.update();
  }

  /** @param {string} text */
  setRunProblem(text) {
    this.runProblem = text;
    this.update();
  }

  // ---- showing

  update() {
    const { state } = this;
    this.toolbar.update();
    this.panel.update();
    this.panel.root.hidden = !state.view.side;
    const { name, text } = this.unreadable === null ? modeOf(state.plan, state.about) : { name: "", text: "Not readable: a run stops with an error" };
    this.mode.textContent = text;
    this.mode.dataset.mode = name;
    this.bar.hidden = !this.progress;
    if (this.share === null) this.bar.removeAttribute("value");
    else this.bar.value = this.share;
    this.status.textContent = this.progress || `${state.plan.image_size.join(" x ")} px`;
    this.notes.update(notesOf(this));
  }

  sayCurrent() {
    const { current, selection, plan } = this.state;
    const box = current?.bbox_2d.map((edge) => Math.round(edge)).join(", ");
    this.live.textContent = !current ? "No region selected" : selection.length > 1 ? `${selection.length} regions selected`
      : `Region ${plan.regions.indexOf(current) + 1} of ${plan.regions.length}, ${current.id}, ${shortened(current.hint, 200) || "no hint"}, box ${box}${current.locked ? ", locked" : ""}`;
  }

  focus() {
    this.view.canvas.focus({ preventScroll: true });
  }

  writeHint() {
    if (!this.state.current) return;
    this.panel.update(); // without it the fields show a frame later
    this.panel.hint.focus();
  }

  // ---- keys, clipboard, dialogs

  /** Keys outside the canvas: in the list those of the canvas, elsewhere undo and redo. @param {KeyboardEvent} event */
  key(event) {
    const { key, target } = event;
    if (key === "Escape") this.close();
    else if (target === this.panel.list && key !== "Tab") runKey(this.commands, event);
    else if (target !== this.view.canvas && !isTextField(target)) runKey(this.commands.filter(({ anywhere }) => anywhere), event);
  }

  listen() {
    const { view: { canvas }, gestures } = this;
    canvas.addEventListener("keydown", (event) => onKey(event, this));
    canvas.addEventListener("keyup", (event) => event.key === " " && (gestures.spaceHeld = false));
    canvas.addEventListener("blur", () => (gestures.spaceHeld = false));
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
    const part = { ...plan, regions: selected, part: true };
    return planToText(selected.length ? part : plan);
  }

  /** Read a text as RePlan Plan from Text does, and take its plan, or its regions if it is a copied part. @param {string} text @param {Coordinates} [coordinates] */
  async paste(text, coordinates = "auto") {
    const { state } = this;
    const { plan: { part, editor, ...plan }, note, warnings } = await this.options.ask("read", { text, coordinates, image_size: state.plan.image_size });
    if (part) state.insert(plan.regions);
    else state.paste(plan);
    this.pasted = part ? null : { note, warnings };
    this.close();
    this.update();
  }

  /** @param {string} text */
  async pasteText(text) {
    if (!text || this.state.readOnly) return;
    try {
      await this.paste(text);
    } catch (error) {
      this.showPaste(text, /** @type {Error} */ (error).message);
    }
  }

  copy() {
    this.toClipboard(planToText(this.state.plan));
  }

  /** @param {string} text */
  async toClipboard(text) {
    try {
      await navigator.clipboard.writeText(text);
      this.live.textContent = "Copied";
    } catch {
      // Without a secure address the page may not write it: the person copies the text.
      this.open("Copy this text", [element("textarea", { rows: 10, readonly: true, "aria-label": "Text to copy", value: text })]);
      this.layer.querySelector("textarea")?.select();
    }
  }

  /** @param {string} [text] @param {string} [problem] why it could not be read */
  showPaste(text, problem) {
    this.open("Paste a plan", pasteForm((...given) => this.paste(...given), text, problem));
  }

  showChanges() {
    this.open("What did I change", changesList(this.state.changes, this.state.about.base !== null));
  }

  /** Put something over the editor. @param {string} name @param {Node[]} content */
  open(name, content) {
    const head = element("div", { class: "replan-row" }, element("strong", {}, name), button("Close", "Close (Escape)", () => this.close()));
    fill(this.layer, [element("div", { class: "replan-dialog", role: "dialog", "aria-label": name }, head, ...content)]);
    this.layer.hidden = false;
    const first = content.find((part) => part instanceof HTMLTextAreaElement) ?? head.lastElementChild;
    /** @type {HTMLElement} */ (first).focus();
  }

  close() {
    if (this.layer.hidden) return;
    this.layer.replaceChildren();
    this.layer.hidden = true;
    this.focus();
  }
}
