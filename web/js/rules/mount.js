/** Puts the rule matrix into an element: rows look, columns are seen. It knows nothing of the host. */
import { makeButtons, runKey } from "../common/commands.js";
import { button, element, fill, setAttribute, shortened, styleSheet } from "../common/dom.js";
import { History } from "../common/history.js";
import { isTextField, keepEventsInside } from "../common/host_widget.js";
import { Notes } from "../common/notes.js";
import { Problem } from "../common/problem.js";
import { Grid } from "./grid.js";
import { ANOTHER, componentNames, namedOwners, readMatrix, setCell, writeMatrix } from "./matrix.js";

/** So many regions of the plan have rows at first; the others are a click away. */
const FIRST_SHOWN = 6;
/** Of the regions that cells name, this many have rows unasked: rows and columns multiply. */
const NAMED_SHOWN = 18;

/** @param {HTMLElement} container @param {MatrixOptions} options */
export function mount(container, options) {
  const matrix = new RuleMatrix(options);
  container.replaceChildren(styleSheet("common.css"), styleSheet("rules.css"), matrix.root);
  return matrix;
}

class RuleMatrix {
  /** @type {Phase} */
  phase = "after";
  /** Regions that a person wants to see, or not. @type {Map<string, boolean>} */
  wanted = new Map();
  textShown = false;
  problem = "";

  /** @param {MatrixOptions} options */
  constructor(options) {
    this.options = options;
    this.context = options.context;
    this.open = options.open;
    this.history = new History(options.value);
    this.matrix = this.read();
    this.grid = new Grid((query, key, value, stroke) => this.paint(query, key, value, stroke));
    // The focus goes to the table: a button that switches itself off would lose it, and the host's undo would take over.
    const then = (/** @type {() => void} */ what) => () => {
      what();
      this.grid.root.focus({ preventScroll: true });
    };
    this.commands = [
      { keys: ["Ctrl+Z"], text: "\u21B6", title: "Undo", run: then(() => this.step("undo")), can: () => this.history.canUndo, shown: () => this.open },
      { keys: ["Ctrl+Shift+Z", "Ctrl+Y"], text: "\u21B7", title: "Redo", run: then(() => this.step("redo")), can: () => this.history.canRedo, shown: () => this.open },
      { text: "Clear", title: "Remove every cell, of both phases: the preset alone", run: then(() => this.change("")), can: () => this.value !== "" },
      { text: "Text", title: "Show the cells as JSON, to copy or to correct", run: () => { this.textShown = !this.textShown; this.update(); }, pressed: () => !this.text.hidden, shown: () => this.open },
    ];
    const two = () => this.twoPhases;
    this.bar = makeButtons(this.commands);
    this.phases = makeButtons([
      { text: "Before the switch", title: "The cells until the switch", run: then(() => this.show("before")), pressed: () => this.phase === "before", shown: two },
      { text: "After the switch", title: "The cells from the switch on", run: then(() => this.show("after")), pressed: () => this.phase === "after", shown: two },
      { text: "Two phases", title: "Give the first steps rules of their own, until the switch: at first those there are", run: then(() => { this.edit({ before: this.matrix.after }); this.show("before"); }), shown: () => !two() },
      { text: "One phase", title: "Remove the before-phase that was added, and its cells", run: then(() => this.edit({ before: null })), shown: () => two() && this.preset.before === null },
    ]);
    this.toggle = button("Rule matrix", "Show or hide the table", () => { this.setOpen(!this.open); options.onOpen(this.open); });
    this.summary = element("span", { class: "replan-summary" });
    this.when = element("span", { class: "replan-when" });
    this.notes = new Notes();
    this.chips = element("div", { class: "replan-row replan-chips", role: "group", "aria-label": "Regions with rows of their own" });
    this.text = element("textarea", {
      rows: 6, dir: "ltr", spellcheck: "false", "aria-label": "Rule matrix as JSON",
      oninput: () => this.change(this.text.value, "text"), onblur: () => this.history.close(),
    });
    // What needs a matrix that can be read; its text does not.
    this.readable = element("div", { class: "replan-matrix-body" },
      element("div", { class: "replan-row" }, ...this.phases.buttons, this.when), this.chips, this.grid.root, this.grid.said);
    this.root = element("div", { class: "replan replan-matrix", onkeydown: (event) => isTextField(event.target) || runKey(this.commands, event) },
      element("div", { class: "replan-row" }, this.toggle, this.summary, ...this.bar.buttons), this.notes.root, this.readable, this.text);
    keepEventsInside(this.root);
    this.update();
  }

  // ---- the stored value

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

  /** @param {RuleContext} context */
  setContext(context) {
    if (JSON.stringify(context) === JSON.stringify(this.context)) return;
    this.context = context;
    this.update();
  }

  /** Read the text; what cannot be read stays as it is, and nothing but the text itself can be changed. */
  read() {
    const { kinds } = this.options.data;
    this.problem = "";
    try {
      return readMatrix(this.value, kinds);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.problem = error.message;
      return readMatrix("", kinds);
    }
  }

  /** @param {string} text @param {string | null} [key] */
  change(text, key = null) {
    if (text === this.value) return;
    this.history.push(text, key);
    this.changed();
  }

  /** @param {Partial<Matrix>} values @param {string | null} [key] */
  edit(values, key = null) {
    if (!this.problem) this.change(writeMatrix({ ...this.matrix, ...values }), key);
  }

  /** @param {"undo" | "redo"} way */
  step(way) {
    if (this.history[way]()) this.changed();
  }

  changed() {
    this.matrix = this.read();
    this.options.onChange(this.value);
    this.update();
  }

  /** @type {PaintCell} */
  paint(query, key, value, stroke) {
    this.edit({ [this.phase]: setCell(this.rules, query, key, value) }, stroke);
  }

  // ---- showing

  get preset() {
    const { presets, families } = this.options.data;
    const { preset, family } = this.context;
    return presets[preset] ?? presets[(families[family] ?? Object.values(families)[0]).preset]; // auto is none of them
  }

  /** What decides the cells of the phase that is shown. @returns {Rules} */
  get rules() {
    const { preset, phase } = this;
    return { kinds: this.options.data.kinds, table: preset[phase] ?? preset.after, cells: this.matrix[phase] ?? new Map() };
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

  /** The regions that can have rows: those of the plan in its order, then those that only cells name. @returns {RuleRegion[]} */
  regions() {
    const known = this.context.regions ?? [];
    const ids = known.map((region) => region.id);
    const named = namedOwners(this.matrix, this.options.data.kinds, "region").filter((id) => id !== ANOTHER);
    const all = [...known, ...named.filter((id) => !ids.includes(id)).map((id) => ({ id, hint: "" }))];
    return all.map(({ id, hint }, index) => ({
      id, hint, index, absent: this.context.regions !== null && !ids.includes(id),
      shown: this.wanted.get(id) ?? (index < FIRST_SHOWN || named.slice(0, NAMED_SHOWN).includes(id)),
    }));
  }

  /** Whether "another region" has rows: asked for, or a cell names it. */
  get anotherShown() {
    return this.wanted.get(ANOTHER) ?? namedOwners(this.matrix, this.options.data.kinds, "region").includes(ANOTHER);
  }

  /** Whether there are rules of their own before the switch. */
  get twoPhases() {
    return this.preset.before !== null || this.matrix.before !== null;
  }

  update() {
    const { problem, matrix, open, context } = this;
    if (!this.twoPhases) this.phase = "after";
    const cells = matrix.after.size + (matrix.before?.size ?? 0);
    setAttribute(this.toggle, "aria-expanded", open);
    this.summary.textContent = problem ? "cannot be read" : `${context.preset}${cells ? `, ${cells} ${cells === 1 ? "cell" : "cells"} set` : ""}`;
    this.text.hidden = !problem && !(open && this.textShown);
    if (this.text.value !== this.value) this.text.value = this.value;
    this.bar.update();
    this.phases.update();
    this.when.textContent = this.twoPhases ? `Before: ${context.when}` : "The same rules at every step";
    const regions = this.regions();
    this.notes.update(this.notesOf(regions));
    this.readable.hidden = !open || problem !== "";
    if (this.readable.hidden) return;
    this.showChips(regions);
    this.showGrid(regions);
  }

  /** @param {RuleRegion[]} regions @returns {Note[]} */
  notesOf(regions) {
    const absent = regions.filter((region) => region.absent).map((region) => shortened(region.id, 30));
    const notes = [
      this.problem && `The stored rule matrix is kept as it is, because ${this.problem}. Correct the text, or press Clear.`,
      absent.length && `The plan has no region ${absent.join(", ")}; these cells wait until it has.`,
      this.context.preset === "off" && this.value && "Under the preset 'off' there are no regions, so these cells do nothing.",
    ];
    return notes.flatMap((text) => (text ? [{ kind: this.problem ? "problem" : "warning", text, actions: [] }] : []));
  }

  /** @param {RuleRegion[]} regions */
  showChips(regions) {
    const another = { id: ANOTHER, hint: "every region but that of the other side of a cell", shown: this.anotherShown };
    fill(this.chips, ["Regions:", ...[...regions, another].map(({ id, hint, shown }, index) => {
      const title = `${id}: ${shortened(hint, 200) || "no hint"}`;
      const press = () => {
        this.wanted.set(id, !shown);
        this.update();
        /** @type {HTMLElement} */ (this.chips.children[index]).focus(); // the button was made anew
      };
      return button(shortened(id, 16), title, press, { "aria-pressed": shown, "aria-label": title, dir: "auto" });
    }), this.context.regions === null && element("span", { class: "replan-when" }, "Connect a plan (an editor's, or run once) to see its regions.")]);
  }

  /** @param {RuleRegion[]} regions */
  showGrid(regions) {
    const { kinds } = this.options.data;
    const ids = [...(this.anotherShown ? [ANOTHER] : []), ...regions.filter((region) => region.shown).map((region) => region.id)];
    const names = componentNames(kinds, ids, namedOwners(this.matrix, kinds, "reference"));
    // Of a family without images in its text their row says nothing; a cell that speaks of them is shown all the same.
    const imageless = this.options.data.families[this.context.family]?.image_prompt === false && !this.value.includes("image_prompt");
    this.grid.show(this.rules, names.filter((name) => !imageless || name !== "image_prompt"), regions);
  }
}
