/**
 * Beside the canvas: the list of regions, the fields of the selected one, and the global prompt.
 *
 * @typedef {import("./plan.js").Region} Region
 * @typedef {import("./plan.js").Box} Box
 */
import { button, element, fill, setAttribute, shortened } from "../common/dom.js";
import { colour } from "./colours.js";

export class Panel {
  /** @param {import("./state.js").EditorState} state @param {() => void} focusCanvas */
  constructor(state, focusCanvas) {
    this.state = state;
    this.count = element("span", { class: "replan-badge", title: "How many regions there are" });
    this.list = element("div", { class: "replan-list", role: "listbox", "aria-label": "Regions", "aria-multiselectable": "true", tabindex: "0", onkeydown: (/** @type {KeyboardEvent} */ event) => this.listKey(event) });
    const back = (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && focusCanvas();
    const area = (/** @type {"hint" | "negative_hint"} */ key, /** @type {string} */ label, /** @type {string} */ title) => {
      const made = element("textarea", {
        rows: "2", title, dir: "auto", "aria-label": label, onkeydown: back, onblur: () => state.history.close(),
        oninput: () => state.current && state.setFields(state.current.id, { [key]: made.value }),
      });
      return made;
    };
    this.hint = area("hint", "Hint", "What to do inside this region");
    this.negative = area("negative_hint", "Negative hint", "What to keep away from this region, where the model has a negative prompt");
    this.numbers = ["left", "top", "right", "bottom"].map((name, place) => element("input", {
      type: "number", step: "any", title: `${name}, in pixels of the image`, "aria-label": name, onkeydown: back,
      onchange: () => this.setEdge(place),
    }));
    this.times = /** @type {("start" | "end")[]} */ (["start", "end"]).map((name) => element("input", {
      type: "number", min: "0", max: "1", step: "0.05", "aria-label": name, onkeydown: back,
      title: name === "start" ? "Share of the sampling at which this region begins to act; before it, it is background" : "Share of the sampling at which it ends",
      onchange: () => this.setTime(name),
    }));
    this.dropMask = button("Remove mask", "The region has a mask that selects inside its box; remove it and use all of the box", () => state.current && state.setFields(state.current.id, { mask: null }));
    this.fields = element("div", { class: "replan-fields" },
      element("label", { class: "replan-field" }, "Hint", this.hint),
      element("div", { class: "replan-numbers" }, ...this.numbers),
      element("details", {}, element("summary", {}, "More"),
        element("label", { class: "replan-field" }, "Negative hint", this.negative),
        element("div", { class: "replan-row" }, "active from", this.times[0], "to", this.times[1]), this.dropMask));
    this.prompt = element("textarea", {
      rows: "2", dir: "auto", "aria-label": "Global prompt", title: "What holds for the whole image. Without regions only this acts.",
      oninput: () => state.setGlobalPrompt(this.prompt.value), onblur: () => state.history.close(),
    });
    this.reasoning = element("details", { class: "replan-reasoning" }, element("summary", {}, "The planner's reasoning"), element("p", {}));
    this.root = element("div", { class: "replan-side" },
      element("label", { class: "replan-field" }, "Global prompt", this.prompt),
      this.reasoning,
      element("div", { class: "replan-row" }, element("strong", {}, "Regions"), this.count), this.list, this.fields);
    /** @type {Map<string, {row: HTMLElement, name: HTMLElement, dot: HTMLElement, lock: HTMLElement, hide: HTMLElement}>} */
    this.rows = new Map();
    this.listed = "";
  }

  /** A number typed for one edge: the box must stay a box on the image, so the edge stops before its opposite. */
  setEdge(/** @type {number} */ place) {
    const region = this.state.current;
    const value = this.numbers[place].valueAsNumber;
    if (region && Number.isFinite(value)) {
      const box = /** @type {Box} */ ([...region.bbox_2d]);
      const end = this.state.plan.image_size[place % 2];
      box[place] = place < 2 ? Math.min(Math.max(value, 0), box[place + 2] - 1) : Math.max(Math.min(value, end), box[place - 2] + 1);
      this.state.setBoxes(new Map([[region.id, box]]));
    }
    this.update();
  }

  setTime(/** @type {"start" | "end"} */ name) {
    const region = this.state.current;
    const value = this.times[name === "start" ? 0 : 1].valueAsNumber;
    if (region && Number.isFinite(value) && value >= 0 && value <= 1) {
      const next = { start: region.start, end: region.end, [name]: value };
      if (next.start < next.end) this.state.setFields(region.id, { [name]: value });
    }
    this.update();
  }

  listKey(/** @type {KeyboardEvent} */ event) {
    const by = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (by) this.state.selectNext(by);
    else if (event.key === "Delete") this.state.remove(this.state.selection);
    else if (event.key === "Enter" && this.state.current) this.hint.focus();
    else return;
    event.preventDefault();
  }

  update() {
    const { state } = this;
    const { plan, current, readOnly } = state;
    this.count.textContent = String(plan.regions.length);
    this.updateList();
    setValue(this.prompt, plan.global_prompt);
    this.prompt.readOnly = readOnly;
    this.reasoning.hidden = !plan.reasoning;
    const words = /** @type {Element} */ (this.reasoning.lastElementChild);
    if (words.textContent !== plan.reasoning) words.textContent = plan.reasoning;
    this.fields.hidden = !current;
    if (!current) return;
    setValue(this.hint, current.hint);
    setValue(this.negative, current.negative_hint);
    for (const [place, input] of this.numbers.entries()) setValue(input, String(Math.round(current.bbox_2d[place] * 100) / 100));
    setValue(this.times[0], String(current.start));
    setValue(this.times[1], String(current.end));
    this.dropMask.hidden = !current.mask;
    for (const input of [this.hint, this.negative, ...this.times]) input.toggleAttribute("readonly", readOnly);
    for (const input of this.numbers) input.readOnly = readOnly || Boolean(current.locked);
  }

  /** Rows are made once for each region and changed only where something differs: there may be hundreds. */
  updateList() {
    const { regions } = this.state.plan;
    const order = regions.map((region) => region.id).join("\n");
    if (order !== this.listed) {
      this.listed = order;
      const rows = new Map(regions.map((region) => [region.id, this.rows.get(region.id) ?? this.makeRow(region.id)]));
      this.rows = rows;
      fill(this.list, [...rows.values()].map(({ row }) => row));
    }
    for (const [index, region] of regions.entries()) this.updateRow(region, index);
  }

  /** Scroll the list alone: scrollIntoView would scroll the whole graph too. */
  reveal(/** @type {HTMLElement} */ row) {
    const { offsetTop, offsetHeight } = row;
    if (offsetTop < this.list.scrollTop) this.list.scrollTop = offsetTop;
    else if (offsetTop + offsetHeight > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = offsetTop + offsetHeight - this.list.clientHeight;
  }

  makeRow(/** @type {string} */ id) {
    const { state } = this;
    const dot = element("span", { class: "replan-dot" });
    const name = element("span", { class: "replan-name", dir: "auto" });
    const lock = button("", "Lock (L): a locked region cannot be moved or deleted", (event) => { event.stopPropagation(); state.toggle([id], "locked"); });
    const hide = button("", "Hide here (H): it stays in the plan", (event) => { event.stopPropagation(); state.toggle([id], "hidden"); });
    const pick = (/** @type {MouseEvent} */ event) => {
      const many = event.shiftKey || event.ctrlKey || event.metaKey;
      state.select(!many ? [id] : state.selection.includes(id) ? state.selection.filter((one) => one !== id) : [...state.selection, id]);
    };
    return { row: element("div", { class: "replan-item", role: "option", id: "", dataset: { region: id }, onclick: pick }, dot, name, lock, hide), name, dot, lock, hide };
  }

  updateRow(/** @type {Region} */ region, /** @type {number} */ index) {
    const parts = this.rows.get(region.id);
    if (!parts) return;
    const text = `${region.id}  ${shortened(region.hint, 80) || "(no hint)"}`;
    if (parts.name.textContent !== text) parts.name.textContent = text;
    if (parts.dot.dataset.index !== String(index)) {
      parts.dot.dataset.index = String(index);
      parts.dot.style.background = colour(index);
    }
    const chosen = this.state.selection.includes(region.id);
    if (chosen && parts.row.getAttribute("aria-selected") === "false" && region.id === this.state.selection.at(-1)) this.reveal(parts.row);
    setAttribute(parts.row, "aria-selected", chosen);
    setSign(parts.lock, region.locked ? "\u{1F512}" : "\u{1F513}", Boolean(region.locked));
    setSign(parts.hide, region.hidden ? "\u25CC" : "\u25C9", Boolean(region.hidden));
  }
}

function setSign(/** @type {HTMLElement} */ target, /** @type {string} */ sign, /** @type {boolean} */ pressed) {
  if (target.textContent !== sign) target.textContent = sign;
  setAttribute(target, "aria-pressed", pressed);
}

/** Put a value into a field unless it is there: writing it again would move the cursor. */
function setValue(/** @type {HTMLInputElement | HTMLTextAreaElement} */ field, /** @type {string} */ value) {
  if (field.value !== value && !(field === document.activeElement && field.type === "number")) field.value = value;
}
