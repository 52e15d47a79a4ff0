/**
 * The table of cells: a press changes one, a drag gives the same to all on its way, the keys do both.
 *
 * It is one focusable element with a current cell, as screen readers know a grid.
 */
import { element, fill, setAttribute, shortened } from "../common/dom.js";
import { colour } from "../editor/colours.js";
import { ANOTHER, EVERY, isEmpty, isFixed, kindName, nextValue, ownerOf, signOf } from "./matrix.js";

const SIGNS = { x: "\u25CF", "-": "\u00B7", o: "\u25D0", d: "\u25D1" };
const SAYS = { x: "sees", "-": "does not see", o: "sees, each region its own only,", d: "sees, each region those of others only," };

export class Grid {
  row = 0;
  column = 0;
  strokes = 0;
  /** The value that a drag gives, while there is one. @type {{value: boolean | null} | null} */
  brush = null;
  /** Names of the rows and columns. @type {string[]} */
  names = [];
  /** @type {Rules} */
  rules = { kinds: [], table: [], cells: new Map() };
  /** @type {Map<string, RuleRegion>} */
  regions = new Map();
  /** @type {HTMLElement[][]} */
  cells = [];
  listed = "";
  prefix = `replan-${Math.random().toString(36).slice(2)}`;

  /** @param {PaintCell} paint */
  constructor(paint) {
    this.paint = paint;
    this.table = element("table");
    this.said = element("div", { class: "replan-said", role: "status", "aria-live": "polite" });
    const lift = () => { this.brush = null; };
    this.root = element("div", {
      class: "replan-grid", role: "grid", tabindex: 0,
      "aria-label": "Rules: rows look, columns are seen. Arrows move, Space changes, Delete takes the preset's",
      onkeydown: (event) => this.onKey(event), onfocus: () => this.point(this.row, this.column),
      onpointerdown: (event) => this.onDown(event), onpointermove: (event) => this.onMove(event), onpointerup: lift, onpointercancel: lift,
    }, this.table);
  }

  /** @type {ShowRules} */
  show(rules, names, regions) {
    this.rules = rules;
    this.names = names;
    this.regions = new Map(regions.map((region) => [region.id, region]));
    const listed = JSON.stringify([names, regions]);
    if (listed !== this.listed) this.build();
    this.listed = listed;
    const preset = { ...rules, cells: new Map() };
    for (const [i, query] of names.entries()) {
      for (const [j, key] of names.entries()) {
        const cell = this.cells[i][j];
        const sign = signOf(rules, query, key);
        const marks = {
          [sign]: true, changed: sign !== signOf(preset, query, key), set: rules.cells.has(`${query}|${key}`), fixed: isFixed(query, key) || isEmpty(query, key, rules.kinds),
        };
        const state = Object.entries(marks).filter(([, holds]) => holds).map(([mark]) => mark).join(" ");
        if (cell.dataset.state === state) continue;
        cell.dataset.state = state;
        cell.textContent = SIGNS[sign];
        cell.setAttribute("aria-label", this.describe(i, j));
      }
    }
    this.point(Math.min(this.row, names.length - 1), Math.min(this.column, names.length - 1), true);
  }

  build() {
    /** @type {Heading} */
    const heading = (scope, name) =>
      element("th", { scope, role: scope === "row" ? "rowheader" : "columnheader", title: this.words(name) }, this.label(name));
    const { names } = this;
    this.cells = names.map((_, i) => names.map((_, j) => element("td", { role: "gridcell", id: `${this.prefix}-${i}-${j}` })));
    fill(this.table, [
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" },
        element("th", { role: "columnheader" }, "looks \u2193 / seen \u2192"), ...names.map((name) => heading("col", name)))),
      element("tbody", { role: "rowgroup" }, ...names.map((name, i) => element("tr", { role: "row" }, heading("row", name), ...this.cells[i]))),
    ]);
  }

  /** @param {string} name @returns {[kind: Kind, owner: string, region: RuleRegion | undefined]} */
  parts(name) {
    const kind = /** @type {Kind} */ (this.rules.kinds.find((one) => one.name === kindName(name)));
    const owner = ownerOf(name);
    return [kind, owner, kind.owner === "region" ? this.regions.get(owner) : undefined];
  }

  /** The short name: "H r1", "N all". @param {string} name */
  label(name) {
    const [kind, owner, region] = this.parts(name);
    const dot = region && element("span", { class: "replan-dot", style: { background: colour(region.index) } });
    const text = [kind.label, owner === EVERY ? "all" : shortened(owner, 10)].join(" ").trim();
    return element("span", { class: `replan-heading${region?.absent ? " is-absent" : ""}`, dir: "auto" }, dot, text);
  }

  /** @param {string} name */
  words(name) {
    const [kind, owner, region] = this.parts(name);
    if (!owner) return kind.words;
    if (kind.owner === "reference") return `${kind.words}: ${owner === EVERY ? "all" : `number ${owner}`}`;
    if (owner === EVERY) return `${kind.words}: every region`;
    if (owner === ANOTHER) return `${kind.words}: every region but that of the other side`;
    return `${kind.words}: region ${owner}${region?.hint ? ` (${shortened(region.hint, 120)})` : ""}${region?.absent ? ", not in the plan" : ""}`;
  }

  /** @param {number} i @param {number} j */
  describe(i, j) {
    const [sign, ...marks] = (this.cells[i][j].dataset.state ?? "").split(" ");
    const set = marks.includes("set");
    let tail = set ? ": set, as the preset has it" : "";
    if (marks.includes("changed")) tail = `: differs from the preset${set ? "" : ", set for more than this cell"}`;
    if (marks.includes("fixed")) tail = ": always";
    return `${this.spoken(i)} ${SAYS[/** @type {Sign} */ (sign)]} ${this.spoken(j)}${tail}`;
  }

  /** @param {number} i */
  spoken(i) {
    const owner = ownerOf(this.names[i]);
    return [kindName(this.names[i]).replace("_", " "), owner === EVERY ? "of all" : owner === ANOTHER ? "of another region" : shortened(owner, 30)].join(" ").trim();
  }

  /** Make a cell the current one; `still`: do not scroll to it. @type {PointAt} */
  point(i, j, still = false) {
    this.cells[this.row]?.[this.column]?.removeAttribute("aria-selected");
    [this.row, this.column] = [i, j];
    const cell = this.cells[i][j];
    cell.setAttribute("aria-selected", "true");
    setAttribute(this.root, "aria-activedescendant", cell.id);
    this.said.textContent = this.describe(i, j);
    if (!still) this.reveal(cell);
  }

  /** Scroll the table alone: scrollIntoView would scroll the graph too. @param {HTMLElement} cell */
  reveal(cell) {
    const { root, table } = this;
    const heading = /** @type {HTMLElement} */ (cell.parentElement?.firstElementChild);
    const above = /** @type {HTMLElement} */ (table.tHead).offsetHeight;
    root.scrollTop = Math.max(Math.min(root.scrollTop, cell.offsetTop - above), cell.offsetTop + cell.offsetHeight - root.clientHeight);
    root.scrollLeft = Math.max(Math.min(root.scrollLeft, cell.offsetLeft - heading.offsetWidth), cell.offsetLeft + cell.offsetWidth - root.clientWidth);
  }

  // ---- pointer and keys

  /** Row and column of the cell under a pointer. @param {PointerEvent} event */
  placeAt(event) {
    const cell = document.elementFromPoint(event.clientX, event.clientY)?.closest("td");
    return cell?.id.startsWith(this.prefix) ? cell.id.slice(this.prefix.length + 1).split("-").map(Number) : null;
  }

  /** @param {PointerEvent} event */
  onDown(event) {
    const place = event.button === 0 && this.placeAt(event);
    if (!place) return;
    event.preventDefault();
    this.root.focus({ preventScroll: true });
    this.root.setPointerCapture(event.pointerId);
    this.point(place[0], place[1], true);
    this.press();
  }

  /** @param {PointerEvent} event */
  onMove(event) {
    if (event.pointerType === "mouse" && !(event.buttons & 1)) this.brush = null;
    const { row, column, brush } = this;
    const [i, j] = this.placeAt(event) ?? [row, column];
    this.said.textContent = this.describe(i, j);
    if (!brush) return;
    // A fast pointer leaves cells out: all on the line to where it is now are on its way.
    const steps = Math.max(Math.abs(i - row), Math.abs(j - column));
    for (let step = 1; step <= steps; step += 1) {
      this.point(Math.round(row + ((i - row) * step) / steps), Math.round(column + ((j - column) * step) / steps), true);
      this.give(brush.value);
    }
  }

  /** Change the current cell, and begin a stroke with what it became. */
  press() {
    const [query, key] = [this.names[this.row], this.names[this.column]];
    if (isFixed(query, key) || isEmpty(query, key, this.rules.kinds)) return;
    this.strokes += 1;
    this.brush = { value: nextValue(this.rules, query, key) };
    this.give(this.brush.value);
  }

  /** @param {boolean | null} value */
  give(value) {
    this.paint(this.names[this.row], this.names[this.column], value, `stroke ${this.strokes}`);
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const { key } = event;
    if (event.target !== this.root || event.ctrlKey || event.metaKey) return;
    if (key === "ArrowDown" || key === "ArrowUp") this.move(key === "ArrowDown" ? 1 : -1, 0);
    else if (key === "ArrowRight" || key === "ArrowLeft") this.move(0, key === "ArrowRight" ? 1 : -1);
    else if (key === "Home" || key === "End") this.move(0, key === "Home" ? -Infinity : Infinity);
    else if (key === " " || key === "Enter") {
      this.press();
      this.brush = null;
    } else if (key === "Delete" || key === "Backspace") {
      this.strokes += 1;
      this.give(null);
    } else if (key === "Escape") this.root.blur();
    else return;
    event.preventDefault();
  }

  /** @param {number} down @param {number} right */
  move(down, right) {
    const last = this.names.length - 1;
    this.point(Math.min(Math.max(this.row + down, 0), last), Math.min(Math.max(this.column + right, 0), last));
  }
}
