/** The table of cells, one focusable element with a current cell: a press changes one, a drag gives the same to all on its way. */
import { element, fill, setAttribute, shortened } from "../common/dom.js";
import { say, texts } from "../common/texts.js";
import { colourAt, rgba } from "../editor/colours.js";

const WORDS = texts.rules;
const SIGNS = { x: "\u25CF", "-": "\u00B7", o: "\u25D0", d: "\u25D1" };
/** What stands for a region's id (attention/rules.py): every region, or every one but that of the other side of a cell. */
const EVERY = "*";
export const ANOTHER = "other";

const kindName = (name) => name.split(":", 1)[0];
const ownerOf = (name) => name.slice(kindName(name).length + 1);

export class Grid {
	row = 0;
	column = 0;
	strokes = 0;
	/** What a drag gives: "next" until the server has said what the press became. @type {{value: any} | null} */
	brush = null;
	/** Names of the rows and columns. @type {string[]} */
	names = [];
	/** @type {Map<string, RuleRegion>} */
	regions = new Map();
	/** @type {HTMLElement[][]} */
	cells = [];
	listed = "";
	prefix = `replan-${Math.random().toString(36).slice(2)}`;

	/** @param {Kind[]} kinds @param {(cell: {query: string, key: string, brush: {value: any}}, stroke: string) => void} change */
	constructor(kinds, change) {
		this.kinds = kinds;
		this.change = change;
		this.table = element("table");
		this.said = element("div", { class: "replan-said", role: "status", "aria-live": "polite" });
		const lift = () => { this.brush = null; };
		this.root = element("div", {
			class: "replan-grid", role: "grid", tabindex: 0, "aria-label": WORDS.grid,
			onkeydown: (event) => this.onKey(event), onfocus: () => this.point(this.row, this.column),
			onpointerdown: (event) => this.onDown(event), onpointermove: (event) => this.onMove(event), onpointerup: lift, onpointercancel: lift,
		}, this.table);
	}

	/** states: "x changed set" of each row and column (attention/rules_page.py). @param {string[]} names @param {string[][]} states @param {RuleRegion[]} regions */
	show(names, states, regions) {
		Object.assign(this, { names, regions: new Map(regions.map((region) => [region.id, region])) });
		const listed = JSON.stringify([names, regions]);
		if (listed !== this.listed) this.build();
		this.listed = listed;
		for (const [i, row] of states.entries()) {
			for (const [j, state] of row.entries()) {
				const cell = this.cells[i][j];
				if (cell.dataset.state === state) continue;
				cell.dataset.state = state;
				cell.textContent = SIGNS[state[0]];
				cell.setAttribute("aria-label", this.describe(i, j));
			}
		}
		this.point(Math.min(this.row, names.length - 1), Math.min(this.column, names.length - 1), true);
	}

	build() {
		const heading = (scope, name) => element("th", { scope, role: scope === "row" ? "rowheader" : "columnheader", title: this.words(name) }, this.label(name));
		const { names } = this;
		this.cells = names.map((_, i) => names.map((_, j) => element("td", { role: "gridcell", id: `${this.prefix}-${i}-${j}` })));
		fill(this.table, [
			element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, element("th", { role: "columnheader" }, WORDS.corner), ...names.map((name) => heading("col", name)))),
			element("tbody", { role: "rowgroup" }, ...names.map((name, i) => element("tr", { role: "row" }, heading("row", name), ...this.cells[i]))),
		]);
	}

	/** @returns {[kind: Kind, owner: string, region: RuleRegion | undefined]} */
	parts(name) {
		const kind = /** @type {Kind} */ (this.kinds.find((one) => one.name === kindName(name)));
		const owner = ownerOf(name);
		return [kind, owner, kind.owner === "region" ? this.regions.get(owner) : undefined];
	}

	/** The short name: "H r1", "N all". */
	label(name) {
		const [kind, owner, region] = this.parts(name);
		const dot = region && element("span", { class: "replan-dot", style: { background: rgba(region.colour ?? colourAt(region.index)) } });
		const text = [kind.label, owner === EVERY ? WORDS.all : shortened(owner, 10)].join(" ").trim();
		return element("span", { class: `replan-heading${region?.absent ? " is-absent" : ""}`, dir: "auto" }, dot, text);
	}

	words(name) {
		const [{ words, owner: sort }, owner, region] = this.parts(name);
		if (!owner) return words;
		if (sort === "reference") return say(owner === EVERY ? WORDS.allReferences : WORDS.reference, { words, owner });
		if (owner === EVERY) return say(WORDS.everyRegion, { words });
		if (owner === ANOTHER) return `${words}: ${WORDS.another}`;
		const hint = region?.hint ? ` (${shortened(region.hint, 120)})` : "";
		return say(WORDS.region, { words, owner, hint, absent: region?.absent ? WORDS.absent : "" });
	}

	describe(i, j) {
		const [sign, ...marks] = (this.cells[i][j].dataset.state ?? "").split(" ");
		const set = marks.includes("set");
		const tail = marks.includes("fixed") ? WORDS.fixed : marks.includes("changed") ? (set ? WORDS.changed : WORDS.changedFor) : set ? WORDS.set : "";
		return `${this.spoken(i)} ${WORDS.sees[sign]} ${this.spoken(j)}${tail}`;
	}

	spoken(i) {
		const owner = ownerOf(this.names[i]);
		return [kindName(this.names[i]).replace("_", " "), owner === EVERY ? WORDS.ofAll : owner === ANOTHER ? WORDS.ofAnother : shortened(owner, 30)].join(" ").trim();
	}

	/** Make a cell the current one; `still`: do not scroll to it. */
	point(i, j, still = false) {
		if (!this.cells[i]) return; // nothing is shown yet
		this.cells[this.row]?.[this.column]?.removeAttribute("aria-selected");
		[this.row, this.column] = [i, j];
		const cell = this.cells[i][j];
		cell.setAttribute("aria-selected", "true");
		setAttribute(this.root, "aria-activedescendant", cell.id);
		this.said.textContent = this.describe(i, j);
		if (!still) this.reveal(cell);
	}

	/** Scroll the table alone: scrollIntoView would scroll the graph too. */
	reveal(cell) {
		const { root, table } = this;
		const heading = /** @type {HTMLElement} */ (cell.parentElement?.firstElementChild);
		const above = /** @type {HTMLElement} */ (table.tHead).offsetHeight;
		root.scrollTop = Math.max(Math.min(root.scrollTop, cell.offsetTop - above), cell.offsetTop + cell.offsetHeight - root.clientHeight);
		root.scrollLeft = Math.max(Math.min(root.scrollLeft, cell.offsetLeft - heading.offsetWidth), cell.offsetLeft + cell.offsetWidth - root.clientWidth);
	}

	// ---- pointer and keys

	/** Row and column of the cell under a pointer. */
	placeAt(event) {
		const cell = document.elementFromPoint(event.clientX, event.clientY)?.closest("td");
		return cell?.id.startsWith(this.prefix) ? cell.id.slice(this.prefix.length + 1).split("-").map(Number) : null;
	}

	onDown(event) {
		const place = event.button === 0 && this.placeAt(event);
		if (!place) return;
		event.preventDefault();
		this.root.focus({ preventScroll: true });
		this.root.setPointerCapture(event.pointerId);
		this.point(place[0], place[1], true);
		this.press("next");
	}

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
			this.give();
		}
	}

	/** Begin a stroke that gives a value to the current cell and to those that follow. */
	press(value) {
		this.strokes += 1;
		this.brush = { value };
		this.give();
	}

	give() {
		const { row, column, names, brush } = this;
		if (brush && !this.cells[row][column].dataset.state?.includes("fixed")) this.change({ query: names[row], key: names[column], brush }, `stroke ${this.strokes}`);
	}

	onKey(event) {
		const { key } = event;
		if (event.target !== this.root || event.ctrlKey || event.metaKey) return;
		const step = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1], Home: [0, -Infinity], End: [0, Infinity] }[key];
		const value = { " ": "next", Enter: "next", Delete: null, Backspace: null }[key];
		if (step) this.move(...step);
		else if (value !== undefined) {
			this.press(value);
			this.brush = null;
		} else if (key === "Escape") this.root.blur();
		else return;
		event.preventDefault();
	}

	move(down, right) {
		const last = this.names.length - 1;
		this.point(Math.min(Math.max(this.row + down, 0), last), Math.min(Math.max(this.column + right, 0), last));
	}
}
