/** Puts the rule matrix into an element: rows look, columns are seen. What cells amount to is asked of attention/rules_page.py. */
import { commandsFrom, makeButtons, runKey } from "../common/commands.js";
import { button, element, fill, setAttribute, shortened, styleSheets } from "../common/dom.js";
import { History } from "../common/history.js";
import { isTextField, keepEventsInside } from "../common/host_widget.js";
import { Notes } from "../common/notes.js";
import { say, texts } from "../common/texts.js";
import { ANOTHER, Grid } from "./grid.js";

const WORDS = texts.rules;
/** So many regions of the plan have rows at first; the others are a click away. */
const FIRST_SHOWN = 6;
/** So many that cells name have rows unasked: rows and columns multiply. */
const NAMED_SHOWN = 18;
/** @type {MatrixAnswer} */
const NOTHING = { problem: "", text: "", names: [], named: [], cells: 0, before: null, after: [], own_before: false, when: "" };

/** @param {HTMLElement} container @param {MatrixOptions} options */
export function mount(container, options) {
	const matrix = new RuleMatrix(options);
	container.replaceChildren(...styleSheets("common.css", "rules.css"), matrix.root);
	return matrix;
}

class RuleMatrix {
	/** @type {Phase} */
	phase = "after";
	/** Regions that a person wants to see, or not. @type {Map<string, boolean>} */
	wanted = new Map();
	textShown = false;
	/** What the server said last of the text. @type {MatrixAnswer} */
	answer = NOTHING;
	/** Why it was silent. */
	silence = "";
	/** Changes that wait for their answer, and what is to be done behind them. @type {any[]} */
	waiting = [];
	/** The question that `answer` answers. */
	asked = "";
	chipsListed = "";
	busy = false;

	/** @param {MatrixOptions} options */
	constructor(options) {
		this.options = options;
		this.context = options.context;
		this.open = options.open;
		this.history = new History(options.value);
		this.grid = new Grid(options.data.kinds, ({ brush, ...cell }, stroke) => this.change({ phase: this.phase, ...cell }, stroke, brush));
		// The table takes the focus: a button that switches itself off loses it, and ComfyUI's undo takes over.
		const then = (what) => () => {
			this.behind(what);
			this.grid.root.focus({ preventScroll: true });
		};
		const opened = () => this.open;
		const pending = () => this.waiting.length > 0;
		const phase = (name) => ({ run: then(() => this.show({ phase: name })), pressed: () => this.phase === name, shown: () => this.twoPhases });
		this.commands = commandsFrom(texts.matrix, {
			undo: { run: then(() => this.history.undo() && this.changed()), can: () => this.history.canUndo || pending(), shown: opened },
			redo: { run: then(() => this.history.redo() && this.changed()), can: () => this.history.canRedo, shown: opened },
			clear: { run: then(() => this.put("")), can: () => this.value !== "" || pending() },
			text: { run: () => this.show({ textShown: !this.textShown }), pressed: () => !this.text.hidden, shown: opened },
		});
		this.bar = makeButtons(this.commands);
		this.phases = makeButtons(commandsFrom(texts.matrix, {
			before: phase("before"),
			after: phase("after"),
			two: { run: then(() => { this.change({ phases: 2 }); this.phase = "before"; }), shown: () => !this.twoPhases },
			one: { run: then(() => this.change({ phases: 1 })), shown: () => this.answer.own_before },
		}));
		this.toggle = button(WORDS.toggle, () => { this.setOpen(!this.open); options.onOpen(this.open); });
		this.summary = element("span", { class: "replan-summary" });
		this.when = element("span", { class: "replan-when" });
		this.notes = new Notes();
		this.chips = element("div", { class: "replan-row replan-chips", role: "group", "aria-label": WORDS.chips });
		this.text = element("textarea", {
			rows: 6, dir: "ltr", spellcheck: "false", "aria-label": WORDS.json, oninput: () => this.put(this.text.value, "text"), onblur: () => this.history.close(),
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

	/** Take a value from outside: a workflow was loaded, ComfyUI undid something. */
	setValue(value) {
		if (value === this.value) return;
		this.history.reset(value);
		this.waiting = [];
		this.update();
	}

	setContext(context) {
		if (JSON.stringify(context) !== JSON.stringify(this.context)) this.show({ context });
	}

	/** Take a text; steps with the same key are one to undo. @param {string} text @param {string | null} [key] */
	put(text, key) {
		if (text === this.value) return;
		this.history.push(text, key);
		this.changed();
	}

	changed() {
		this.options.onChange(this.value);
		this.update();
	}

	/** Have the server change a cell or the phases. @param {object} change @param {string} [stroke] of undo @param {{value: any}} [brush] */
	change(change, stroke, brush) {
		if (this.answer.problem) return;
		this.behind({ change, stroke, brush });
		this.bar.update();
	}

	/** One more change, or what to do when those before are in the text. */
	behind(what) {
		this.waiting.push(what);
		void this.ask();
	}

	/** Ask what there is to show, one question at a time. */
	async ask() {
		if (this.busy) return;
		this.busy = true;
		setAttribute(this.root, "aria-busy", true);
		for (;;) {
			while (typeof this.waiting[0] === "function") this.waiting.shift()();
			const { waiting } = this;
			const [{ stroke, brush } = {}] = waiting;
			// Those of a stroke together: what it gives is known when its first press is answered.
			const end = brush?.value === "next" ? 1 : waiting.findIndex((one) => one.stroke !== stroke);
			const changes = waiting.slice(0, end < 0 ? undefined : end).map(({ change }) => (brush ? { ...change, value: brush.value } : change));
			const question = { text: this.value, ...this.context.widgets, regions: this.rows() };
			if (!changes.length && JSON.stringify(question) === this.asked) break;
			try {
				const answer = await this.options.ask("matrix", { ...question, changes });
				this.silence = "";
				if (question.text !== this.value) continue; // typed: asked again; loaded: nothing waits
				this.answer = { ...NOTHING, ...answer };
				this.asked = JSON.stringify({ ...question, text: answer.text ?? question.text });
				waiting.splice(0, changes.length);
				if (!this.twoPhases) this.phase = "after";
				if (brush?.value === "next") brush.value = answer.value;
				if (changes.length && !answer.problem) this.put(answer.text, stroke);
			} catch (error) {
				this.silence = error.message;
				this.asked = "";
				this.waiting = [];
			}
			this.render();
			if (this.silence) break;
		}
		this.busy = false;
		setAttribute(this.root, "aria-busy", false);
	}

	// ---- showing

	/** Change what is shown. @param {Partial<RuleMatrix>} values */
	show(values) {
		Object.assign(this, values);
		this.update();
	}

	setOpen(open) {
		this.show({ open });
	}

	/** The regions that can have rows: those of the plan in its order, then those that only cells name. @returns {RuleRegion[]} */
	regions() {
		const known = this.context.regions ?? [];
		const ids = known.map(({ id }) => id);
		const named = this.answer.named.filter((id) => id !== ANOTHER);
		const all = [...known, ...named.filter((id) => !ids.includes(id)).map((id) => ({ id, hint: "", colour: undefined }))];
		return all.map(({ id, hint, colour }, index) => ({
			id, hint, colour, index, absent: this.context.regions !== null && !ids.includes(id),
			shown: this.wanted.get(id) ?? (index < FIRST_SHOWN || named.slice(0, NAMED_SHOWN).includes(id)),
		}));
	}

	/** Whether "another region" has rows: asked for, or a cell names it. */
	get anotherShown() {
		return this.wanted.get(ANOTHER) ?? this.answer.named.includes(ANOTHER);
	}

	/** The ids that have rows. */
	rows() {
		return [...(this.anotherShown ? [ANOTHER] : []), ...this.regions().filter(({ shown }) => shown).map(({ id }) => id)];
	}

	/** Whether there are rules of their own before the switch. */
	get twoPhases() {
		return this.answer.before !== null;
	}

	/** Show what is known, and ask for what is not. */
	update() {
		this.render();
		void this.ask();
	}

	render() {
		const { answer: { problem, cells: count, when }, open, context: { widgets: { preset } } } = this;
		setAttribute(this.toggle, "aria-expanded", open);
		this.summary.textContent = problem ? WORDS.unreadable : count ? say(count === 1 ? WORDS.cell : WORDS.cells, { preset, count }) : preset;
		this.text.hidden = !problem && !(open && this.textShown);
		if (this.text.value !== this.value) this.text.value = this.value;
		this.bar.update();
		this.phases.update();
		this.when.textContent = this.twoPhases ? say(WORDS.before, { when }) : WORDS.everyStep;
		const regions = this.regions();
		this.notes.update(this.notesOf(regions));
		this.readable.hidden = !open || problem !== "";
		if (this.readable.hidden) return;
		this.showChips(regions);
		this.grid.show(this.answer.names, this.answer[this.phase] ?? this.answer.after, regions);
	}

	/** @returns {Note[]} */
	notesOf(regions) {
		const { answer: { problem }, value, silence } = this;
		const ids = regions.filter(({ absent }) => absent).map(({ id }) => shortened(id, 30)).join(", ");
		const notes = [silence, problem && say(WORDS.kept, { why: problem }), ids && say(WORDS.gone, { ids }), this.context.widgets.preset === "off" && value && WORDS.off];
		return notes.flatMap((text) => (text ? [{ kind: problem || silence ? "problem" : "warning", text, actions: [] }] : []));
	}

	showChips(regions) {
		const another = { id: ANOTHER, hint: WORDS.another, shown: this.anotherShown };
		const listed = JSON.stringify([regions, another]); // made anew, a button loses focus and press
		if (listed === this.chipsListed) return;
		this.chipsListed = listed;
		fill(this.chips, [WORDS.regions, ...[...regions, another].map(({ id, hint, shown }, index) => {
			const title = `${id}: ${shortened(hint, 200) || texts.common.noHint}`;
			const press = () => {
				this.wanted.set(id, !shown);
				this.update();
				/** @type {HTMLElement} */ (this.chips.children[index]).focus();
			};
			return button([shortened(id, 16), title], press, { "aria-pressed": shown, "aria-label": title, dir: "auto" });
		}), this.context.regions === null && element("span", { class: "replan-when" }, WORDS.noPlan)]);
	}
}
