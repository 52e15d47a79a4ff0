/** Puts the editor into an element. It knows nothing of ComfyUI, which calls its methods. */
import { runKey } from "../common/commands.js";
import { button, element, fill, shortened, styleSheets } from "../common/dom.js";
import { isTextField, keepEventsInside } from "../common/host_widget.js";
import { Notes } from "../common/notes.js";
import { Problem } from "../common/problem.js";
import { say, texts } from "../common/texts.js";
import { CanvasView } from "./canvas_view.js";
import { commandsOf, onKey } from "./commands.js";
import { changesList, pasteForm } from "./dialogs.js";
import { Gestures } from "./gestures.js";
import { HintField } from "./hint_field.js";
import { makeMenu, openMenu } from "./menu.js";
import { notesOf } from "./notes.js";
import { Panel } from "./panel.js";
import { Patches } from "./patches.js";
import { nameOf, planToText } from "./plan.js";
import { EditorState } from "./state.js";
import { forPrompt, FRESH, modeOf, readStored, VIEW, writeStored } from "./stored.js";
import { makeToolbar } from "./toolbar.js";

const WORDS = texts.editor;

/** @param {HTMLElement} container @param {EditorOptions} options */
export function mount(container, options) {
	const editor = new Editor(options);
	container.replaceChildren(...styleSheets("common.css", "editor.css"), editor.root);
	return editor;
}

export class Editor {
	/** A stored text that cannot be read, kept until someone starts anew. @type {string | null} */
	unreadable = null;
	problem = "";
	/** The value from outside that the server is asked about; refused: why a run would not take it. @type {string | null} */
	checked = null;
	refused = "";
	/** @type {RunReport | null} */
	report = null;
	/** @type {{ size: Size, exact: boolean } | null} */
	seen = null;
	/** What reading the pasted text told. @type {{note: string, warnings: string[]} | null} */
	pasted = null;
	imageProblem = "";
	/** The image that is linked. */
	linked = "";
	/** Another size than the plan's, and why a run would ask how its boxes move. @type {{ size: Size, question: string } | null} */
	other = null;
	runProblem = "";
	progress = "";
	/** @type {number | null} 0..1 where it is known */
	share = null;
	frame = 0;

	/** @param {EditorOptions} options */
	constructor(options) {
		this.options = options;
		this.state = new EditorState(this.read(options.value), options.follow);
		this.state.blocked = this.unreadable !== null;
		this.written = this.value;
		this.view = new CanvasView(this.state);
		this.patches = new Patches(options.ask, () => this.changed("view"));
		this.gestures = new Gestures(this.view, this.state, () => this.store(), () => this.writeHint());
		this.hintField = new HintField(this.view, this.state, () => this.focus());
		this.panel = new Panel(this.state, () => this.focus());
		this.commands = commandsOf(this);
		this.menu = makeMenu(this.commands);
		this.toolbar = makeToolbar(this.state, this.commands);
		this.notes = new Notes();
		this.mode = element("span", { class: "replan-mode" });
		this.bar = element("progress", { class: "replan-progress", max: 1, "aria-label": WORDS.progress, hidden: true });
		this.status = element("span", { class: "replan-status" });
		this.live = element("span", { class: "replan-hidden-text", role: "status", "aria-live": "polite" });
		this.layer = element("div", { class: "replan-layer", hidden: true });
		this.root = element("div", { class: "replan replan-editor", onkeydown: (event) => this.key(event) },
			this.toolbar.root, element("div", { class: "replan-line" }, this.mode, this.bar, this.toolbar.dimmer, this.status, this.live), this.notes.root,
			element("div", { class: "replan-main" }, this.view.root, this.panel.root), this.layer, this.menu.root);
		keepEventsInside(this.root);
		this.listen();
		this.state.onChange = (what) => this.changed(what);
		if (options.background) this.setBackground(options.background);
		this.update();
	}

	// ---- the stored value

	/** @returns {Stored} */
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

	/** What can be shown may still be refused by a run: ask. */
	async check(value) {
		this.checked = value;
		this.refused = "";
		const { problem } = value ? await this.options.ask("check", { value }).catch(() => ({})) : {};
		if (value !== this.checked || !problem) return;
		if (this.unreadable === null) this.refused = problem;
		else this.problem = problem;
		this.update();
	}

	get value() {
		return this.unreadable ?? writeStored(this.state.stored);
	}

	/** From outside: a workflow was loaded, ComfyUI undid something. */
	setValue(value) {
		if (value === this.value) return;
		const stored = this.read(value);
		this.state.blocked = this.unreadable !== null;
		this.gestures.cancel();
		this.state.adopt(stored);
		this.written = this.value;
		if (this.seen) this.seeSize(this.seen.size, this.seen.exact);
		void this.check(value);
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
		this.view.show({ cells: this.patches.cells });
		if (what === "selection") this.sayCurrent();
		this.frame ||= requestAnimationFrame(() => { this.frame = 0; this.update(); });
	}

	// ---- what ComfyUI tells

	/** @param {RunReport} report */
	setReport(report) {
		this.report = report;
		this.runProblem = "";
		this.pasted = null;
		const { plan } = this.state;
		this.state.receive(report.upstream);
		this.seeSize(report.image_size, true, plan);
		this.update();
	}

	/** What is linked, if anything is known of it; after a run only a file tells more than the run. @param {{ address: string, exact: boolean } | null} found */
	setLinked(found) {
		if (!found || found.address === this.linked || (this.report && !found.exact)) return;
		this.linked = found.address;
		this.setBackground(found.address, found.exact ? "file" : "preview");
	}

	/** The size of the image that will come in, or only its shape. @param {Size} size @param {boolean} exact */
	seeSize(size, exact, plan = this.state.plan) {
		const { state } = this;
		this.seen = { size, exact };
		state.seeImage(size, exact);
		if (state.plan !== plan) this.gestures.cancel(); // its boxes are those of the plan before, on another image
		if (exact) void this.askShape(size);
	}

	/** @param {Size} size */
	async askShape(size) {
		const { state: { about, follow, plan }, value } = this;
		this.other = null;
		const follows = follow === "until_edited" && about.origin === "upstream" && !about.edited;
		if (follows || this.state.readOnly || size.join() === plan.image_size.join()) return;
		const { question } = await this.options.ask("check", { value, image_size: size }).catch(() => ({}));
		if (!question || this.seen?.size !== size) return;
		this.other = { size, question };
		this.update();
	}

	/** @param {string | null} address @param {"run" | "file" | "preview"} [of] */
	setBackground(address, of = "run") {
		this.imageProblem = "";
		if (!address) return this.view.show({ image: null });
		const picture = new Image();
		const show = (image, problem = "") => {
			if (this.picture !== picture) return; // another one was asked for
			this.view.show({ image });
			this.imageProblem = problem;
			this.update();
		};
		this.picture = picture;
		picture.onload = () => {
			if (this.picture === picture && of !== "run") this.seeSize([picture.naturalWidth, picture.naturalHeight], of === "file");
			show(picture);
		};
		picture.onerror = () => show(null, of === "file" ? texts.notes.noFile : texts.notes.noPicture);
		picture.src = address;
	}

	/** Without a text nothing runs. @param {string} text @param {number | null} [share] */
	setProgress(text, share = null) {
		if (text === this.progress && share === this.share) return;
		this.progress = text;
		this.share = share;
		this.update();
	}

	setRunProblem(text) {
		this.runProblem = text;
		this.update();
	}

	// ---- showing

	update() {
		const { state, bar, mode } = this;
		this.toolbar.update();
		this.panel.update();
		this.panel.root.hidden = !state.view.side;
		const [name, words] = this.unreadable === null ? modeOf(state.plan, state.about) : ["", ""];
		mode.textContent = words ? texts.modes[words] : WORDS.unreadableMode;
		mode.dataset.mode = name;
		bar.hidden = !this.progress;
		if (this.share === null) bar.removeAttribute("value");
		else bar.value = this.share;
		this.status.textContent = this.progress || say(WORDS.size, { size: state.plan.image_size.join(" x ") });
		this.notes.update(notesOf(this));
	}

	sayCurrent() {
		const { current, selection, plan: { regions } } = this.state;
		const count = selection.length;
		this.live.textContent = !current ? WORDS.noneSelected : count > 1 ? say(WORDS.severalSelected, { count }) : say(WORDS.selected, {
			number: regions.indexOf(current) + 1, count: regions.length, id: nameOf(current), hint: shortened(current.hint, 200) || texts.common.noHint,
			box: current.bbox_2d.map(Math.round).join(", "), locked: current.locked ? WORDS.lockedToo : "",
		});
	}

	focus() {
		this.view.canvas.focus({ preventScroll: true });
	}

	/** Whether it lies over the whole window (large.js). */
	get isLarge() {
		return this.root.closest("dialog") !== null;
	}

	/** Whether something lies over the editor that Escape closes. */
	get isAsking() {
		return !this.layer.hidden;
	}

	writeHint() {
		this.hintField.open();
	}

	// ---- keys, clipboard, dialogs

	/** Outside the canvas: in the list the keys of the canvas, elsewhere undo and redo. */
	key(event) {
		const { key, target } = event;
		if (key === "Escape") this.close();
		else if (target === this.panel.list && key !== "Tab") runKey(this.commands, event);
		else if (target !== this.view.canvas && !isTextField(target)) runKey(this.commands.filter(({ anywhere }) => anywhere), event);
	}

	listen() {
		const { view: { canvas }, gestures, root } = this;
		canvas.addEventListener("keydown", (event) => onKey(event, this));
		canvas.addEventListener("keyup", (event) => event.key === " " && (gestures.spaceHeld = false));
		canvas.addEventListener("blur", () => (gestures.spaceHeld = false));
		root.addEventListener("contextmenu", (event) => openMenu(event, this));
		root.addEventListener("copy", (event) => {
			if (isTextField(event.target)) return;
			event.clipboardData?.setData("text/plain", this.copied());
			event.preventDefault();
		});
		root.addEventListener("paste", (event) => {
			if (isTextField(event.target)) return;
			event.preventDefault();
			void this.pasteText(event.clipboardData?.getData("text/plain") ?? "");
		});
	}

	/** Take the plan of a text, or the regions of a copied part. @param {string} text @param {Coordinates} [coordinates] */
	async paste(text, coordinates = "auto") {
		const { state } = this;
		const { plan: { part, editor, ...plan }, note, warnings } = await this.options.ask("read", { text, coordinates, image_size: state.plan.image_size });
		if (part) state.insert(plan.regions);
		else state.paste(plan);
		this.pasted = part ? null : { note, warnings };
		this.close();
		this.update();
	}

	async pasteText(text) {
		if (!text || this.state.readOnly) return;
		try {
			await this.paste(text);
		} catch (error) {
			this.showPaste(text, error.message);
		}
	}

	/** The selected regions as a text, or the plan without any. */
	copied() {
		const { plan, selected } = this.state;
		return planToText(selected.length ? { ...plan, regions: selected, part: true } : plan);
	}

	/** The selected boxes on one line, or with equal gaps. @param {string} how */
	async arrange(how) {
		const given = Object.fromEntries(this.state.selected.map(({ id, bbox_2d }) => [id, bbox_2d]));
		const { boxes = given } = await this.options.ask("arrange", { how, boxes: given }).catch(({ message }) => this.setRunProblem(message)) ?? {};
		this.state.setBoxes(Object.keys(boxes), ({ id }) => boxes[id]);
	}

	copy() {
		void this.toClipboard(planToText(this.state.plan));
	}

	async toClipboard(text) {
		try {
			await navigator.clipboard.writeText(text);
			this.live.textContent = texts.common.copied;
		} catch {
			// Without a secure address the page may not write it.
			this.open(WORDS.copyTitle, [element("textarea", { rows: 10, readonly: true, "aria-label": WORDS.copyLabel, value: text })]);
			this.layer.querySelector("textarea")?.select();
		}
	}

	/** @param {string} [text] @param {string} [problem] */
	showPaste(text, problem) {
		this.open(WORDS.pasteTitle, pasteForm((...given) => this.paste(...given), text, problem));
	}

	async showChanges() {
		const { base, about, plan } = this.state;
		const { lines } = await this.options.ask("changes", { before: base, after: plan }).catch(({ message }) => ({ lines: [message] }));
		this.open(WORDS.changesTitle, changesList(lines, about.base !== null));
	}

	open(name, content) {
		const close = button([texts.common.close, texts.common.closeTitle], () => this.close());
		fill(this.layer, [element("div", { class: "replan-dialog", role: "dialog", "aria-label": name }, element("div", { class: "replan-row" }, element("strong", {}, name), close), ...content)]);
		this.layer.hidden = false;
		(this.layer.querySelector("textarea") ?? close).focus();
	}

	close() {
		if (this.layer.hidden) return;
		this.layer.replaceChildren();
		this.layer.hidden = true;
		this.focus();
	}
}
