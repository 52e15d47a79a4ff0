/**
 * Puts the rule matrix into an element: rows look, columns are seen. It knows nothing of the host.
 *
 * @typedef {import("./matrix.js").Data} Data
 * @typedef {import("./matrix.js").Phase} Phase
 * @typedef {{preset: string, family: string, when: string, regions: {id: string, hint: string}[] | null}} Context
 *   what the node around it says; when: which steps are before the switch, in words; regions: null where no plan is known
 * @typedef {{value: string, data: Data, context: Context, open: boolean, onChange: (value: string) => void,
 *   onOpen: (open: boolean) => void}} Options
 */
import { button, element, fill, setAttribute, shortened } from "../common/dom.js";
import { History } from "../common/history.js";
import { isTextField, keepEventsInside } from "../common/host_widget.js";
import { useStyleSheet } from "../common/style.js";
import { Grid } from "./grid.js";
import { componentNames, MatrixProblem, namedOwners, readMatrix, setCell, writeMatrix } from "./matrix.js";

/** So many regions of the plan have rows at first; the others are a click away. */
const FIRST_SHOWN = 6;

/** @param {HTMLElement} container @param {Options} options */
export function mount(container, options) {
  useStyleSheet("common.css");
  useStyleSheet("rules.css");
  return new RuleMatrix(container, options);
}

export class RuleMatrix {
  /** @param {HTMLElement} container @param {Options} options */
  constructor(container, options) {
    this.options = options;
    this.context = options.context;
    this.history = new History(options.value);
    /** @type {Phase} */
    this.phase = "after";
    /** Regions that a person wants to see, or not. @type {Map<string, boolean>} */
    this.wanted = new Map();
    this.textShown = false;
    this.problem = "";
    this.matrix = this.read();
    this.grid = new Grid((query, key, value, stroke) => this.paint(query, key, value, stroke));
    // The focus goes to the table: a button that switches itself off would lose it, and the host's undo would take over.
    const act = (/** @type {string} */ text, /** @type {string} */ title, /** @type {() => void} */ what) => button(text, title, () => {
      what();
      this.grid.root.focus({ preventScroll: true });
    });
    this.toggle = button("Rule matrix", "Show or hide the table", () => { this.setOpen(!this.open); options.onOpen(this.open); });
    this.summary = element("span", { class: "replan-summary" });
    this.undo = act("\u21B6", "Undo (Ctrl+Z)", () => this.step(-1));
    this.redo = act("\u21B7", "Redo (Ctrl+Shift+Z)", () => this.step(1));
    this.clear = act("Clear", "Remove every cell, of both phases: the preset alone", () => this.change(""));
    this.asText = button("Text", "Show the cells as JSON, to copy or to correct", () => { this.textShown = !this.textShown; this.update(); });
    this.before = act("Before the switch", "The cells until the switch", () => this.show("before"));
    this.after = act("After the switch", "The cells from the switch on", () => this.show("after"));
    this.split = act("Two phases", "Give the first steps rules of their own, until the switch", () => { this.edit((matrix) => ({ ...matrix, before: new Map() })); this.show("before"); });
    this.join = act("One phase", "Remove the before-phase that was added, and its cells", () => this.edit((matrix) => ({ ...matrix, before: null })));
    this.when = element("span", { class: "replan-when" });
    this.notes = element("div", { class: "replan-notes", role: "status" });
    this.chips = element("div", { class: "replan-row replan-chips", role: "group", "aria-label": "Regions with rows of their own" });
    this.text = element("textarea", { rows: "6", dir: "ltr", spellcheck: "false", "aria-label": "Rule matrix as JSON", oninput: () => this.change(this.text.value, "text"), onblur: () => this.history.close() });
    this.body = element("div", { class: "replan-matrix-body" },
      element("div", { class: "replan-row" }, this.before, this.after, this.split, this.join, this.when),
      this.chips, this.grid.root, this.grid.said, this.text);
    this.root = element("div", { class: "replan replan-matrix", onkeydown: (/** @type {KeyboardEvent} */ event) => this.onKey(event) },
      element("div", { class: "replan-row" }, this.toggle, this.summary, this.undo, this.redo, this.clear, this.asText), this.notes, this.body);
    keepEventsInside(this.root);
    container.replaceChildren(this.root);
    this.open = options.open;
    this.setOpen(options.open);
  }

  /** Undo and redo, wherever the focus is but in a text. @param {KeyboardEvent} event */
  onKey(event) {
    const key = event.key.toLowerCase();
    if (!(event.ctrlKey || event.metaKey) || !"zy".includes(key) || isTextField(event.target)) return;
    this.step(key === "y" || event.shiftKey ? 1 : -1);
    event.preventDefault();
  }

  // ---- the stored value ---------------------------------------------------------------------------------------

  get value() {
    return this.history.value;
  }

  /** Take a value from outside: a workflow was loaded, the host undid something. @param {string} value */
  setValue(value) {
    if (value === this.value) return;
    this.history.reset(value);
    this.matrix = this.read();
    this.update();
  }

  /** @param {Context} context */
  setContext(context) {
    if (JSON.stringify(context) === JSON.stringify(this.context)) return;
    this.context = context;
    this.update();
  }

  /** Read the text; what cannot be read stays as it is, and nothing but the text itself can be changed. */
  read() {
    this.problem = "";
    try {
      return readMatrix(this.value, this.options.data.kinds);
    } catch (error) {
      if (!(error instanceof MatrixProblem)) throw error;
      this.problem = error.message;
      return readMatrix("", this.options.data.kinds);
    }
  }

  /** @param {string} text @param {string | null} [key] */
  change(text, key = null) {
    const before = this.value;
    this.history.push(text, key);
    this.changed(before);
  }

  /** @param {(matrix: import("./matrix.js").Matrix) => import("./matrix.js").Matrix} how @param {string | null} [key] */
  edit(how, key = null) {
    if (!this.problem) this.change(writeMatrix(how(this.matrix)), key);
  }

  /** @param {-1 | 1} by */
  step(by) {
    const before = this.value;
    if (by < 0) this.history.undo();
    else this.history.redo();
    this.changed(before);
  }

  /** @param {string} before */
  changed(before) {
    if (this.value === before) return;
    this.matrix = this.read();
    this.options.onChange(this.value);
    this.update();
  }

  /** @param {string} query @param {string} key @param {boolean | null} value @param {string} stroke */
  paint(query, key, value, stroke) {
    this.edit((matrix) => {
      const cells = setCell(this.options.data, this.table, matrix[this.phase] ?? new Map(), query, key, value);
      return { ...matrix, [this.phase]: cells };
    }, stroke);
  }

  // ---- showing ------------------------------------------------------------------------------------------------

  get preset() {
    const { presets } = this.options.data;
    return presets[this.context.preset] ?? presets.replan;
  }

  /** The preset's table in the phase that is shown. */
  get table() {
    return this.preset[this.phase] ?? this.preset.after;
  }

  /** @param {Phase} phase */
  show(phase) {
    this.phase = phase;
    this.update();
  }

  /** @param {boolean} open */
  setOpen(open) {
    this.open = open;
    this.update();
  }

  /** The regions that can have rows: those of the plan in its order, then those that only cells name. */
  regions() {
    const known = this.context.regions ?? [];
    const ids = known.map((region) => region.id);
    const named = namedOwners(this.matrix, this.options.data.kinds, "region");
    const all = [...known, ...named.filter((id) => !ids.includes(id)).map((id) => ({ id, hint: "" }))];
    return all.map(({ id, hint }, index) => ({
      id, hint, index, absent: this.context.regions !== null && !ids.includes(id),
      shown: this.wanted.get(id) ?? (index < FIRST_SHOWN || named.includes(id)),
    }));
  }

  update() {
    const { problem, matrix, preset } = this;
    const two = preset.before !== null || matrix.before !== null;
    if (!two) this.phase = "after";
    const cells = matrix.after.size + (matrix.before?.size ?? 0);
    setAttribute(this.toggle, "aria-expanded", this.open);
    this.summary.textContent = problem ? "cannot be read" : `${this.context.preset}${cells ? `, ${cells} ${cells === 1 ? "cell" : "cells"} set` : ""}`;
    this.body.hidden = !this.open && !problem;
    for (const one of [this.undo, this.redo, this.asText]) one.hidden = !this.open;
    this.undo.disabled = !this.history.canUndo;
    this.redo.disabled = !this.history.canRedo;
    this.clear.disabled = !this.value;
    for (const one of [this.before, this.after]) one.hidden = !two || Boolean(problem);
    this.split.hidden = two || Boolean(problem);
    this.join.hidden = matrix.before === null || preset.before !== null;
    setAttribute(this.before, "aria-pressed", this.phase === "before");
    setAttribute(this.after, "aria-pressed", this.phase === "after");
    this.when.textContent = two ? `Before: ${this.context.when}` : "The same rules at every step";
    this.text.hidden = !this.textShown && !problem;
    setAttribute(this.asText, "aria-pressed", !this.text.hidden);
    if (this.text.value !== this.value) this.text.value = this.value;
    this.grid.setHidden(Boolean(problem));
    const regions = this.regions();
    this.showNotes(regions);
    this.showChips(regions);
    if (!this.body.hidden && !problem) this.showGrid(regions);
  }

  /** @param {ReturnType<RuleMatrix["regions"]>} regions */
  showNotes(regions) {
    const absent = regions.filter((region) => region.absent).map((region) => region.id);
    const notes = [
      this.problem && `The stored rule matrix is kept as it is, because ${this.problem}. Correct the text, or press Clear.`,
      absent.length > 0 && `The plan has no region ${absent.map((id) => shortened(id, 30)).join(", ")}; these cells wait until it has.`,
      this.context.preset === "off" && this.value && "Under the preset 'off' there are no regions, so these cells do nothing.",
    ];
    fill(this.notes, notes.map((note) => note && element("div", { class: `replan-note ${this.problem ? "is-problem" : "is-warning"}` }, note)));
  }

  /** @param {ReturnType<RuleMatrix["regions"]>} regions */
  showChips(regions) {
    this.chips.hidden = Boolean(this.problem);
    const hint = this.context.regions === null ? element("span", { class: "replan-when" }, "Connect a plan (an editor's, or run once) to see its regions.") : null;
    fill(this.chips, ["Regions:", ...regions.map((region) => {
      const title = `${region.id}: ${shortened(region.hint, 200) || "no hint"}`;
      return button(shortened(region.id, 16), title, () => { this.wanted.set(region.id, !region.shown); this.update(); }, { "aria-pressed": region.shown, "aria-label": title, dir: "auto" });
    }), hint]);
  }

  /** @param {ReturnType<RuleMatrix["regions"]>} regions */
  showGrid(regions) {
    const { data } = this.options;
    const shown = regions.filter((region) => region.shown);
    const references = namedOwners(this.matrix, data.kinds, "reference");
    const names = componentNames(data.kinds, shown.map((region) => region.id), references);
    const cells = this.matrix[this.phase] ?? new Map();
    // Only Qwen has a picture in its text; a cell that speaks of one is shown all the same.
    const pictureless = this.context.family.startsWith("flux") && !this.value.includes("image_prompt");
    this.grid.show(data, this.table, cells, names.filter((name) => !pictureless || name !== "image_prompt"), regions);
  }
}
