/** Beside the canvas: the list of regions, the fields of the selected one, and the global prompt. */
import { button, element, fill, setAttribute, shortened } from "../common/dom.js";
import { colour } from "./colours.js";
import { resized } from "./geometry.js";
import { isOn } from "./plan.js";

export class Panel {
  /** @param {EditorState} state @param {() => void} focusCanvas */
  constructor(state, focusCanvas) {
    this.state = state;
    /** The fields of the current region, and what each shows. @type {Map<Input, (region: Region) => string>} */
    this.inputs = new Map();
    /** @type {Map<string, Row>} */
    this.rows = new Map();
    this.listed = "";
    const typed = { onblur: () => state.history.close(), onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && focusCanvas() };
    /** @type {Field} */
    const area = (label, title, take) => {
      const made = element("textarea", { rows: 2, title, dir: "auto", "aria-label": label, oninput: () => take(made.value.toWellFormed()), ...typed });
      return made;
    };
    /** @type {WordsField} */
    const words = (key, label, title) => {
      const made = area(label, title, (text) => this.set({ [key]: text }));
      this.inputs.set(made, (region) => region[key]);
      return made;
    };
    /** @type {NumberField} */
    const number = (label, title, props, shows, take) => {
      const made = element("input", {
        type: "number", title, "aria-label": label, ...props, ...typed,
        onchange: () => {
          if (Number.isFinite(made.valueAsNumber)) take(made.valueAsNumber);
          if (state.current) made.value = String(shows(state.current)); // what was typed and not taken gives way
        },
      });
      this.inputs.set(made, (region) => String(shows(region)));
      return made;
    };
    this.hint = words("hint", "Hint", "What to do inside this region");
    /** @type {[string, Handle][]} */
    const edges = [["left", "w"], ["top", "n"], ["right", "e"], ["bottom", "s"]];
    this.edges = edges.map(([name, edge], place) =>
      number(name, `${name}, in pixels of the image`, { step: "any" }, ({ bbox_2d }) => Math.round(bbox_2d[place] * 100) / 100, (value) => this.setEdge(edge, place, value)));
    const share = { min: 0, max: 1, step: 0.05 };
    const start = number("start", "Share of the sampling at which this region begins to act; before it, it is background", share, (region) => region.start, (value) => this.setTimes({ start: value }));
    const end = number("end", "Share of the sampling at which it ends", share, (region) => region.end, (value) => this.setTimes({ end: value }));
    this.dropMask = button("Remove mask", "The region has a mask that selects inside its box; remove it and use all of the box", () => this.set({ mask: null }));
    this.fields = element("div", { class: "replan-fields" },
      element("label", { class: "replan-field" }, "Hint", this.hint),
      element("div", { class: "replan-numbers" }, ...this.edges.map((edge) => element("label", {}, edge.ariaLabel, edge))),
      element("details", {}, element("summary", {}, "More"),
        element("label", { class: "replan-field" }, "Negative hint", words("negative_hint", "Negative hint", "What to keep away from this region, where the model has a negative prompt")),
        element("div", { class: "replan-row" }, "active from", start, "to", end), this.dropMask));
    this.prompt = area("Global prompt", "What holds for the whole image. Without regions only this acts.", (text) => state.setGlobalPrompt(text));
    this.thoughts = element("p");
    this.reasoning = element("details", { class: "replan-reasoning" }, element("summary", {}, "The planner's reasoning"), this.thoughts);
    this.count = element("span", { class: "replan-badge", title: "How many regions there are" });
    this.list = element("div", { class: "replan-list", role: "listbox", "aria-label": "Regions", "aria-multiselectable": true, tabindex: 0, onkeydown: (event) => this.listKey(event) });
    this.root = element("div", { class: "replan-side" },
      element("label", { class: "replan-field" }, "Global prompt", this.prompt), this.reasoning,
      element("div", { class: "replan-row" }, element("strong", {}, "Regions"), this.count), this.list, this.fields);
  }

  /** @param {Partial<Region>} values */
  set(values) {
    if (this.state.current) this.state.setFields(this.state.current.id, values);
  }

  /** `place`: of the edge in a box. @type {SetEdge} */
  setEdge(edge, place, value) {
    const { plan, selection } = this.state;
    this.state.setBoxes(selection.slice(-1), ({ bbox_2d }) => {
      const by = value - bbox_2d[place];
      return resized(bbox_2d, edge, by, by, plan.image_size);
    });
  }

  /** @param {{start?: number, end?: number}} times */
  setTimes(times) {
    const { start = 0, end = 1 } = { ...this.state.current, ...times };
    if (start >= 0 && start < end && end <= 1) this.set(times);
  }

  /** The arrows; the other keys are the editor's. @param {KeyboardEvent} event */
  listKey(event) {
    const by = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (!by) return;
    this.state.selectNext(by, event.shiftKey);
    event.preventDefault();
  }

  update() {
    const { plan, current, readOnly } = this.state;
    const on = plan.regions.filter(isOn).length;
    this.count.textContent = on < plan.regions.length ? `${on} of ${plan.regions.length} on` : String(on);
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
    for (const input of this.edges) input.readOnly ||= Boolean(current.locked);
    this.dropMask.hidden = !current.mask;
  }

  /** Rows are made once and changed only where something differs: there may be hundreds. */
  updateList() {
    const { regions } = this.state.plan;
    const order = regions.map((region) => region.id).join("\n");
    if (order !== this.listed) {
      this.listed = order;
      this.rows = new Map(regions.map(({ id }) => [id, this.rows.get(id) ?? this.makeRow(id)]));
      fill(this.list, [...this.rows.values()].map(({ row }) => row));
    }
    let index = 0; // as draw.js and the preview count them
    for (const region of regions) this.updateRow(/** @type {Row} */ (this.rows.get(region.id)), region, isOn(region) ? index++ : -1);
  }

  /** Scroll the list alone: scrollIntoView would scroll the whole graph too. @param {HTMLElement} row */
  reveal({ offsetTop, offsetHeight }) {
    const { list } = this;
    list.scrollTop = Math.max(Math.min(list.scrollTop, offsetTop), offsetTop + offsetHeight - list.clientHeight);
  }

  /** @param {string} id @returns {Row} */
  makeRow(id) {
    const { state } = this;
    const mark = (/** @type {string} */ title, /** @type {() => void} */ press) => button("", title, (event) => {
      event.stopPropagation(); // it selects nothing
      press();
    }, { tabindex: -1 });
    const dot = element("span", { class: "replan-dot" });
    const name = element("span", { class: "replan-name", dir: "auto" });
    const lock = mark("Lock (L): a locked region cannot be moved or deleted", () => state.lock([id]));
    const eye = mark("On or off (H): a region that is off stays here and is not sent", () => state.switchOn([id]));
    const onclick = (/** @type {MouseEvent} */ event) => (event.shiftKey || event.ctrlKey || event.metaKey ? state.alsoSelect(id) : state.select([id]));
    return { row: element("div", { class: "replan-item", role: "option", dataset: { region: id }, onclick }, dot, name, lock, eye), name, dot, lock, eye };
  }

  /** @type {UpdateRow} */
  updateRow({ row, name, dot, lock, eye }, { id, hint, locked = false, enabled = true }, index) {
    const { selection } = this.state;
    setText(name, `${id}  ${shortened(hint, 80) || "(no hint)"}`);
    row.classList.toggle("is-off", !enabled);
    if (dot.dataset.index !== String(index)) {
      dot.dataset.index = String(index);
      dot.style.background = enabled ? colour(index) : "";
    }
    if (selection.at(-1) === id && row.getAttribute("aria-selected") === "false") this.reveal(row);
    setAttribute(row, "aria-selected", selection.includes(id));
    setText(lock, locked ? "\u{1F512}" : "\u{1F513}");
    setAttribute(lock, "aria-pressed", locked);
    setText(eye, enabled ? "\u25C9" : "\u25CC");
    setAttribute(eye, "aria-pressed", enabled);
  }
}

/** @type {SetText} */
function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Put a value into a field unless it is there: writing it again would move the cursor. @type {SetValue} */
function setValue(field, value) {
  value = value.replace(/\r\n?/g, "\n"); // as a field holds it
  if (field.value !== value && !(field === document.activeElement && field.type === "number")) field.value = value;
}
