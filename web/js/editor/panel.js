/** Beside the canvas: the list of regions, the fields of the selected one, and the global prompt. */
import { button, element, fill, setAttribute, shortened } from "../common/dom.js";
import { say, texts } from "../common/texts.js";
import { coloursOf, hexOf, rgba } from "./colours.js";
import { resized } from "./geometry.js";
import { isOn, nameOf } from "./plan.js";

const WORDS = texts.panel;
/** The edges as fields show them; the place in a box is the place here. @type {Handle[]} */
const EDGES = ["w", "n", "e", "s"];

export class Panel {
	/** The fields of the current region, with what each shows. @type {Map<Input, (region: Region) => string>} */
	inputs = new Map();
	/** @type {Map<string, Row>} */
	rows = new Map();
	listed = "";
	/** By id. @type {Map<string, string>} */
	colours = new Map();

	/** @param {EditorState} state @param {() => void} focusCanvas */
	constructor(state, focusCanvas) {
		this.state = state;
		this.typed = { onblur: () => state.history.close(), onkeydown: (event) => event.key === "Escape" && focusCanvas() };
		this.hint = this.words("hint", WORDS.hint, WORDS.hintTitle);
		this.name = this.shown("text", "name", WORDS.name, WORDS.nameTitle, ({ editor }) => String(editor?.name ?? ""));
		this.colour = this.shown("color", "color", WORDS.colour, WORDS.colourTitle, ({ id }) => hexOf(this.colours.get(id) ?? ""));
		this.edges = EDGES.map((edge, place) => {
			const name = WORDS.edges[place];
			return this.number(name, say(WORDS.edgeTitle, { edge: name }), { step: "any" }, ({ bbox_2d }) => Math.round(bbox_2d[place] * 100) / 100, (value) => this.setEdge(edge, place, value));
		});
		const share = { min: 0, max: 1, step: 0.05 };
		this.dropMask = button([WORDS.dropMask, WORDS.dropMaskTitle], () => this.set({ mask: null }));
		this.fields = element("div", { class: "replan-fields" },
			element("div", { class: "replan-row" }, this.name, this.colour),
			element("label", { class: "replan-field" }, WORDS.hint, this.hint),
			element("div", { class: "replan-numbers" }, ...this.edges.map((edge) => element("label", {}, edge.ariaLabel, edge))),
			element("details", {}, element("summary", {}, WORDS.more),
				element("label", { class: "replan-field" }, WORDS.negativeHint, this.words("negative_hint", WORDS.negativeHint, WORDS.negativeHintTitle)),
				element("div", { class: "replan-row" },
					WORDS.activeFrom, this.number(WORDS.start, WORDS.startTitle, share, ({ start }) => start, (start) => this.setTimes({ start })),
					WORDS.to, this.number(WORDS.end, WORDS.endTitle, share, ({ end }) => end, (end) => this.setTimes({ end }))), this.dropMask));
		this.prompt = this.area(WORDS.globalPrompt, WORDS.globalPromptTitle, (text) => state.setGlobalPrompt(text));
		this.thoughts = element("p");
		this.reasoning = element("details", { class: "replan-reasoning" }, element("summary", {}, WORDS.reasoning), this.thoughts);
		this.count = element("span", { class: "replan-badge", title: WORDS.countTitle });
		this.list = element("div", { class: "replan-list", role: "listbox", "aria-label": WORDS.regions, "aria-multiselectable": true, tabindex: 0, onkeydown: (event) => this.listKey(event) });
		this.root = element("div", { class: "replan-side" },
			element("label", { class: "replan-field" }, WORDS.globalPrompt, this.prompt), this.reasoning,
			element("div", { class: "replan-row" }, element("strong", {}, WORDS.regions), this.count), this.list, this.fields);
	}

	// ---- the fields

	area(label, title, take) {
		const made = element("textarea", { rows: 2, title, dir: "auto", "aria-label": label, oninput: () => take(made.value.toWellFormed()), ...this.typed });
		return made;
	}

	words(key, label, title) {
		const made = this.area(label, title, (text) => this.set({ [key]: text }));
		this.inputs.set(made, (region) => region[key]);
		return made;
	}

	number(label, title, props, shows, take) {
		const onchange = () => {
			if (Number.isFinite(made.valueAsNumber)) take(made.valueAsNumber);
			if (this.state.current) made.value = String(shows(this.state.current)); // what was typed and not taken gives way
		};
		const made = element("input", { type: "number", title, "aria-label": label, onchange, ...props, ...this.typed });
		this.inputs.set(made, (region) => String(shows(region)));
		return made;
	}

	/** A field for what only shows. */
	shown(type, key, label, title, shows) {
		const oninput = () => this.state.current && this.state.setShown(this.state.current.id, { [key]: made.value });
		const made = element("input", { type, title, "aria-label": label, oninput, ...this.typed });
		this.inputs.set(made, shows);
		return made;
	}

	rename() {
		this.update(); // without it the fields show a frame later
		this.name.select();
	}

	pickColour() {
		this.update();
		this.colour.showPicker();
	}

	set(values) {
		if (this.state.current) this.state.setFields(this.state.current.id, values);
	}

	setEdge(edge, place, value) {
		const { plan, selection } = this.state;
		this.state.setBoxes(selection.slice(-1), ({ bbox_2d }) => {
			const by = value - bbox_2d[place];
			return resized(bbox_2d, edge, by, by, plan.image_size);
		});
	}

	setTimes(times) {
		const { start = 0, end = 1 } = { ...this.state.current, ...times };
		if (start >= 0 && start < end && end <= 1) this.set(times);
	}

	listKey(event) {
		const by = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
		if (!by) return;
		this.state.selectNext(by, event.shiftKey);
		event.preventDefault();
	}

	update() {
		const { plan, current, readOnly } = this.state;
		this.colours = coloursOf(plan.regions);
		const on = plan.regions.filter(isOn).length;
		this.count.textContent = on < plan.regions.length ? say(WORDS.on, { on, count: plan.regions.length }) : String(on);
		this.updateList();
		setValue(this.prompt, plan.global_prompt);
		this.prompt.readOnly = readOnly;
		this.reasoning.hidden = !plan.reasoning;
		setText(this.thoughts, plan.reasoning);
		this.fields.hidden = !current;
		if (!current) return;
		for (const [input, shows] of this.inputs) {
			setValue(input, shows(current));
			input.readOnly = readOnly;
		}
		this.name.placeholder = current.id;
		this.name.title = say(WORDS.nameTitle, current);
		this.colour.disabled = readOnly;
		for (const input of this.edges) input.readOnly ||= Boolean(current.locked);
		this.dropMask.hidden = !current.mask;
	}

	// ---- the list

	/** Rows are made once and changed where something differs: there may be hundreds. */
	updateList() {
		const { regions } = this.state.plan;
		const order = regions.map(({ id }) => id).join("\n");
		if (order !== this.listed) {
			this.listed = order;
			this.rows = new Map(regions.map(({ id }) => [id, this.rows.get(id) ?? this.makeRow(id)]));
			fill(this.list, [...this.rows.values()].map(({ row }) => row));
		}
		for (const region of regions) this.updateRow(/** @type {Row} */ (this.rows.get(region.id)), region);
	}

	/** Scroll the list alone: scrollIntoView would scroll the whole graph too. */
	reveal({ offsetTop, offsetHeight }) {
		const { list } = this;
		list.scrollTop = Math.max(Math.min(list.scrollTop, offsetTop), offsetTop + offsetHeight - list.clientHeight);
	}

	/** @returns {Row} */
	makeRow(id) {
		const { state } = this;
		const mark = (title, press) => {
			const made = button(["", title], (event) => {
				event.stopPropagation(); // it selects nothing
				press();
			}, { tabindex: -1 });
			made.append(element("i"));
			return made;
		};
		const dot = mark(WORDS.colourTitle, () => { state.select([id]); this.pickColour(); });
		dot.firstElementChild?.classList.add("replan-dot");
		const name = element("span", { class: "replan-name", dir: "auto" });
		const lock = mark(WORDS.lockTitle, () => state.lock([id]));
		const eye = mark(WORDS.switchTitle, () => state.switchOn([id]));
		const onclick = (event) => (event.shiftKey || event.ctrlKey || event.metaKey ? state.alsoSelect(id) : state.select([id]));
		return { row: element("div", { class: "replan-item", role: "option", dataset: { region: id }, onclick }, dot, name, lock, eye), name, dot, lock, eye };
	}

	updateRow({ row, name, dot, lock, eye }, region) {
		const { id, hint, locked = false, enabled = true } = region;
		const { selection } = this.state;
		const colour = this.colours.get(id) ?? "";
		setText(name, `${nameOf(region)}  ${shortened(hint, 80) || `(${texts.common.noHint})`}`);
		setAttribute(row, "title", hint);
		row.classList.toggle("is-off", !enabled);
		if (dot.dataset.colour !== colour) {
			dot.dataset.colour = colour;
			/** @type {HTMLElement} */ (dot.firstElementChild).style.background = rgba(colour);
		}
		if (selection.at(-1) === id && row.getAttribute("aria-selected") === "false") this.reveal(row);
		setAttribute(row, "aria-selected", selection.includes(id));
		setAttribute(lock.firstElementChild, "class", locked ? "pi pi-lock" : "pi pi-lock-open");
		setAttribute(lock, "aria-pressed", locked);
		setAttribute(eye.firstElementChild, "class", enabled ? "pi pi-eye" : "pi pi-eye-slash");
		setAttribute(eye, "aria-pressed", enabled);
	}
}

function setText(target, text) {
	if (target.textContent !== text) target.textContent = text;
}

/** Writing a value again would move the cursor. */
function setValue(field, value) {
	value = value.replace(/\r\n?/g, "\n"); // as a field holds it
	if (field.value !== value && !(field === document.activeElement && field.type === "number")) field.value = value;
}
