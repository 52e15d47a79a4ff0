/**
 * The table of cells: a press changes one, a drag gives the same to all on its way, the keys do both.
 *
 * It is one focusable element with a current cell, as screen readers know a grid.
 *
 * @typedef {(query: string, key: string, value: boolean | null, stroke: string) => void} Paint
 * @typedef {{id: string, hint: string, index: number, absent: boolean}} Row
 */
import { element, fill, setAttribute, shortened } from "../common/dom.js";
import { colour } from "../editor/colours.js";
import { isFixed, nextValue, ownerOf, signOf } from "./matrix.js";

const SIGNS = { x: "\u25CF", "-": "\u00B7", o: "\u25D0" };
const SAYS = { x: "sees", "-": "does not see", o: "sees, each region its own only," };

export class Grid {
  /** @param {Paint} paint */
  constructor(paint) {
    this.paint = paint;
    this.prefix = `replan-${Math.random().toString(36).slice(2)}`;
    this.row = 0;
    this.column = 0;
    this.strokes = 0;
    /** The value that a drag gives, while there is one. @type {{value: boolean | null} | null} */
    this.brush = null;
    /** @type {string[]} */
    this.names = [];
    /** @type {HTMLElement[][]} */
    this.cells = [];
    this.table = element("table", {});
    this.said = element("div", { class: "replan-said", role: "status", "aria-live": "polite" });
    this.root = element("div", {
      class: "replan-grid", role: "grid", tabindex: "0",
      "aria-label": "Rules: rows look, columns are seen. Arrows move, Space changes, Delete takes the preset's",
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.onKey(event), onfocus: () => this.point(this.row, this.column),
      onpointerdown: (/** @type {PointerEvent} */ event) => this.onDown(event), onpointermove: (/** @type {PointerEvent} */ event) => this.onMove(event),
      onpointerup: () => this.onUp(), onpointercancel: () => this.onUp(),
    }, this.table);
    this.listed = "";
  }

  /** @param {boolean} hidden */
  setHidden(hidden) {
    this.root.hidden = this.said.hidden = hidden;
  }

  /**
   * @param {import("./matrix.js").Data} data @param {string[]} table @param {import("./matrix.js").Cells} cells
   * @param {string[]} names @param {Row[]} regions
   */
  show(data, table, cells, names, regions) {
    Object.assign(this, { data, preset: table, set: cells });
    this.names = names;
    this.regions = new Map(regions.map((region) => [region.id, region]));
    const listed = JSON.stringify([names, regions]);
    if (listed !== this.listed) this.build();
    this.listed = listed;
    const none = new Map();
    for (const [i, query] of names.entries()) {
      for (const [j, key] of names.entries()) {
        const cell = this.cells[i][j];
        const sign = signOf(data, table, cells, query, key);
        const state = [sign, sign !== signOf(data, table, none, query, key) && "changed", cells.has(`${query}|${key}`) && "set", isFixed(query, key) && "fixed"].filter(Boolean).join(" ");
        if (cell.dataset.state === state) continue;
        cell.dataset.state = state;
        cell.textContent = SIGNS[sign];
        cell.setAttribute("aria-label", this.describe(i, j));
      }
    }
    this.point(Math.min(this.row, names.length - 1), Math.min(this.column, names.length - 1), true);
  }

  build() {
    const head = this.names.map((name, j) => element("th", { scope: "col", role: "columnheader", title: this.words(name), dataset: { column: j } }, this.label(name)));
    const rows = this.names.map((name, i) => {
      const cells = this.names.map((_, j) => element("td", { role: "gridcell", id: `${this.prefix}-${i}-${j}` }));
      return { cells, row: element("tr", { role: "row" }, element("th", { scope: "row", role: "rowheader", title: this.words(name) }, this.label(name)), ...cells) };
    });
    this.cells = rows.map(({ cells }) => cells);
    fill(this.table, [
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, element("th", { role: "columnheader" }, "looks \u2193 / seen \u2192"), ...head)),
      element("tbody", { role: "rowgroup" }, ...rows.map(({ row }) => row)),
    ]);
  }

  /** The short name: "H r1", "N all". @param {string} name */
  label(name) {
    const owner = ownerOf(name);
    const region = this.regions?.get(owner);
    const kind = this.kind(name);
    const dot = kind.owner === "region" && region && element("span", { class: "replan-dot", style: { background: colour(region.index) } });
    const text = `${kind.label}${owner && ` ${owner === "*" ? "all" : shortened(owner, 10)}`}`;
    return element("span", { class: `replan-heading${kind.owner === "region" && region?.absent ? " is-absent" : ""}`, dir: "auto" }, dot, text);
  }

  /** What a component is. @param {string} name */
  words(name) {
    const owner = ownerOf(name);
    const kind = this.kind(name);
    if (!owner) return kind.words;
    if (kind.owner === "reference") return owner === "*" ? `${kind.words}: all` : `${kind.words}: number ${owner}`;
    const region = this.regions?.get(owner);
    return owner === "*" ? `${kind.words}: every region` : `${kind.words}: region ${owner}${region?.hint ? ` (${shortened(region.hint, 120)})` : ""}${region?.absent ? ", not in the plan" : ""}`;
  }

  /** @param {string} name @returns {import("./matrix.js").Kind} */
  kind(name) {
    return /** @type {any} */ (this).data.kinds.find((/** @type {any} */ kind) => kind.name === name.split(":", 1)[0]);
  }

  /** One cell as a sentence. @param {number} i @param {number} j */
  describe(i, j) {
    const [sign, ...marks] = (this.cells[i][j].dataset.state ?? "").split(" ");
    const tail = marks.includes("fixed") ? ": always" : marks.includes("changed") ? `: differs from the preset${marks.includes("set") ? "" : ", set for more than this cell"}` : marks.includes("set") ? ": set, as the preset has it" : "";
    return `${this.name(i)} ${SAYS[/** @type {"x" | "-" | "o"} */ (sign)]} ${this.name(j)}${tail}`;
  }

  /** @param {number} i */
  name(i) {
    const owner = ownerOf(this.names[i]);
    return `${this.names[i].split(":", 1)[0].replace("_", " ")}${owner && ` ${owner === "*" ? "of all" : shortened(owner, 30)}`}`;
  }

  /** Make a cell the current one. @param {number} i @param {number} j @param {boolean} [still] do not scroll to it */
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
    const { root } = this;
    const top = /** @type {HTMLElement} */ (this.table.tHead).offsetHeight;
    const left = /** @type {HTMLElement} */ (cell.parentElement?.firstElementChild).offsetWidth;
    if (cell.offsetTop - top < root.scrollTop) root.scrollTop = cell.offsetTop - top;
    else if (cell.offsetTop + cell.offsetHeight > root.scrollTop + root.clientHeight) root.scrollTop = cell.offsetTop + cell.offsetHeight - root.clientHeight;
    if (cell.offsetLeft - left < root.scrollLeft) root.scrollLeft = cell.offsetLeft - left;
    else if (cell.offsetLeft + cell.offsetWidth > root.scrollLeft + root.clientWidth) root.scrollLeft = cell.offsetLeft + cell.offsetWidth - root.clientWidth;
  }

  // ---- pointer and keys -----------------------------------------------------------------------------------------

  /** The place of the cell under a point of the screen. @param {PointerEvent} event */
  placeAt(event) {
    const cell = document.elementFromPoint(event.clientX, event.clientY)?.closest("td");
    const [i, j] = cell?.id.startsWith(this.prefix) ? cell.id.slice(this.prefix.length + 1).split("-").map(Number) : [];
    return j === undefined ? null : { i, j };
  }

  /** @param {PointerEvent} event */
  onDown(event) {
    const place = event.button === 0 ? this.placeAt(event) : null;
    if (!place) return;
    event.preventDefault();
    this.root.focus({ preventScroll: true });
    this.root.setPointerCapture(event.pointerId);
    this.point(place.i, place.j, true);
    this.press();
  }

  /** @param {PointerEvent} event */
  onMove(event) {
    if (event.pointerType === "mouse" && !(event.buttons & 1)) this.brush = null;
    const place = this.placeAt(event);
    if (!place || (place.i === this.row && place.j === this.column)) return;
    if (this.brush) this.point(place.i, place.j, true);
    else this.said.textContent = this.describe(place.i, place.j);
    if (this.brush) this.give(this.brush.value);
  }

  onUp() {
    this.brush = null;
  }

  /** Change the current cell, and begin a stroke with what it became. */
  press() {
    const self = /** @type {any} */ (this);
    const [query, key] = [this.names[this.row], this.names[this.column]];
    if (isFixed(query, key)) return;
    this.strokes += 1;
    this.brush = { value: nextValue(self.data, self.preset, self.set, query, key) };
    this.give(this.brush.value);
  }

  /** @param {boolean | null} value */
  give(value) {
    this.paint(this.names[this.row], this.names[this.column], value, `stroke ${this.strokes}`);
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (event.target !== this.root) return;
    const { key } = event;
    if (event.ctrlKey || event.metaKey) return;
    if (key.startsWith("Arrow")) this.move(Number(key === "ArrowDown") - Number(key === "ArrowUp"), Number(key === "ArrowRight") - Number(key === "ArrowLeft"));
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
