/**
 * What the editor knows: the plan with its undo, what is selected, the plan upstream, and how things are shown.
 * No drawing and no elements here; whoever shows it listens to `subscribe`.
 *
 * @typedef {import("./plan.js").Plan} Plan
 * @typedef {import("./plan.js").Region} Region
 * @typedef {import("./plan.js").Box} Box
 * @typedef {import("./stored.js").About} About
 * @typedef {import("./stored.js").Stored} Stored
 * @typedef {import("./stored.js").View} View
 * @typedef {"until_edited" | "always" | "never"} Follow
 */
import { wellFormed } from "../common/dom.js";
import { History } from "../common/history.js";
import { added, changed, duplicated, removed, reordered } from "./edits.js";
import { snapped } from "./geometry.js";
import { differences, emptyPlan, keptPixels, samePlan, stretched } from "./plan.js";
import { FRESH, markOf, planOf } from "./stored.js";

export class EditorState {
  /** @param {Stored} stored @param {Follow} [follow] */
  constructor(stored, follow = "until_edited") {
    const about = stored.plan ? stored.about : { ...stored.about, assumed_size: true };
    /** @type {History<{plan: Plan, about: About}>} */
    this.history = new History({ plan: planOf(stored), about });
    /** Whether there is anything to store. */
    this.hasPlan = stored.plan !== null;
    /** A stored value that cannot be read stands in the way of every change. */
    this.blocked = false;
    /** @type {View} */
    this.view = { ...stored.view };
    /** @type {string[]} ids; the last one is the one whose fields are shown */
    this.selection = [];
    /** @type {Plan | null} */
    this.upstream = null;
    /** @type {Follow} */
    this.follow = follow;
    /** @type {Set<(what: "plan" | "selection" | "view") => void>} */
    this.listeners = new Set();
  }

  /** Take another stored value, as a workflow that is loaded brings it; its undo begins anew. @param {Stored} stored */
  adopt(stored) {
    const about = stored.plan ? stored.about : { ...stored.about, assumed_size: true };
    this.history.reset({ plan: planOf(stored), about });
    this.hasPlan = stored.plan !== null;
    this.view = { ...stored.view };
    this._prune();
    this._tell("view");
  }

  /** @param {(what: "plan" | "selection" | "view") => void} listener */
  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  _tell(/** @type {"plan" | "selection" | "view"} */ what) {
    for (const listener of this.listeners) listener(what);
  }

  // ---- what there is ------------------------------------------------------------------------------------------

  /** Upstream is shown and used whatever is stored. */
  get showsUpstream() {
    return this.follow === "always" && this.upstream !== null;
  }

  /** Nothing can be changed here. */
  get readOnly() {
    return this.blocked || this.showsUpstream;
  }

  get plan() {
    return this.showsUpstream ? /** @type {Plan} */ (this.upstream) : this.history.value.plan;
  }

  get about() {
    return this.showsUpstream ? { ...FRESH, origin: /** @type {const} */ ("upstream") } : this.history.value.about;
  }

  /** @returns {Stored} what to write into the workflow: never the plan that is only shown */
  get stored() {
    const { plan, about } = this.history.value;
    return { plan: this.hasPlan ? plan : null, about, view: this.view };
  }

  /** @returns {Region[]} */
  get selected() {
    return this.plan.regions.filter((region) => this.selection.includes(region.id));
  }

  /** @returns {Region | null} the one whose fields are shown */
  get current() {
    const id = this.selection.at(-1);
    return this.plan.regions.find((region) => region.id === id) ?? null;
  }

  /** @returns {Plan | null} a plan upstream that differs from what the edits began with, and was not declined */
  get offer() {
    const { plan, about } = this.history.value;
    if (this.readOnly || !this.upstream) return null;
    if (!about.edited && this.follow === "until_edited") return null;
    if (markOf(this.upstream) === about.declined || samePlan(this.upstream, plan)) return null;
    return about.base && samePlan(this.upstream, about.base) ? null : this.upstream;
  }

  /** @returns {string[]} what a person changed since the plan came, one line each */
  get changes() {
    const { plan, about } = this.history.value;
    return differences(about.base ?? { ...emptyPlan(...plan.image_size) }, plan);
  }

  // ---- changing it --------------------------------------------------------------------------------------------

  /** Change the plan as a person would; steps with the same key are one to undo. @param {(plan: Plan) => Plan} change @param {string | null} [key] */
  edit(change, key = null) {
    if (this.readOnly) return;
    const { plan, about } = this.history.value;
    const next = change(plan);
    if (next === plan) return;
    const base = about.base ?? (about.origin === "drawn" ? null : plan);
    this._set({ plan: next, about: { ...about, edited: true, base } }, key);
  }

  _set(/** @type {{plan: Plan, about: About}} */ value, /** @type {string | null} */ key = null) {
    this.hasPlan = true;
    this.history.push(value, key);
    this._prune();
    this._tell("plan");
  }

  /** Change some regions. @param {string[]} ids @param {(region: Region) => Region} change @param {string | null} [key] */
  editRegions(ids, change, key = null) {
    this.edit((plan) => changed(plan, ids, change), key);
  }

  /** Set text fields or numbers of one region; text without half characters. @param {string} id @param {Partial<Region>} values */
  setFields(id, values) {
    const clean = Object.fromEntries(Object.entries(values).map(([k, v]) => [k, typeof v === "string" ? wellFormed(v) : v]));
    this.editRegions([id], (region) => ({ ...region, ...clean }), `${id}.${Object.keys(values).join()}`);
  }

  setGlobalPrompt(/** @type {string} */ text) {
    this.edit((plan) => (plan.global_prompt === text ? plan : { ...plan, global_prompt: wellFormed(text) }), "global_prompt");
  }

  /** @param {Map<string, Box>} boxes @param {string | null} [key] */
  setBoxes(boxes, key = null) {
    this.editRegions([...boxes.keys()], (region) => {
      const box = boxes.get(region.id);
      return !box || region.locked || box.join() === region.bbox_2d.join() ? region : { ...region, bbox_2d: box };
    }, key);
  }

  /** A new region, selected. @param {Box} box @param {Partial<Region>} [rest] @returns {string} its id */
  add(box, rest = {}) {
    const fitting = this.view.snap ? snapped(box, this.view.patch, this.plan.image_size) : box;
    this.insert([{ hint: "", negative_hint: "", start: 0, end: 1, mask: null, ...rest, id: "", bbox_2d: fitting }]);
    return this.selection.at(-1) ?? "";
  }

  /** Add regions with ids of their own, selected. @param {Region[]} regions */
  insert(regions) {
    this._selecting((plan) => added(plan, regions));
  }

  duplicate(/** @type {string[]} */ ids) {
    this._selecting((plan) => duplicated(plan, ids));
  }

  /** Change the plan and select what is new in it. @param {(plan: Plan) => Plan} change */
  _selecting(change) {
    const before = new Set(this.plan.regions.map((region) => region.id));
    this.edit(change);
    const made = this.plan.regions.map((region) => region.id).filter((id) => !before.has(id));
    if (made.length) this.select(made);
  }

  /** Delete regions; locked ones stay. */
  remove(/** @type {string[]} */ ids) {
    this.edit((plan) => removed(plan, ids));
  }

  clear() {
    this.remove(this.plan.regions.map((region) => region.id));
  }

  /** Move one region in the order of the plan. @param {string} id @param {number} by */
  reorder(id, by) {
    this.edit((plan) => reordered(plan, id, by));
  }

  /** Lock or hide: all of them, or none of them when all were. @param {string[]} ids @param {"locked" | "hidden"} mark */
  toggle(ids, mark) {
    const all = this.plan.regions.filter((region) => ids.includes(region.id)).every((region) => region[mark]);
    this.editRegions(ids, (region) => ({ ...region, [mark]: !all }));
  }

  /** Put a pasted plan in place of this one. @param {Plan} plan */
  paste(plan) {
    if (this.readOnly) return;
    this._set({ plan, about: { ...this.about, edited: true, origin: "pasted", base: plan, assumed_size: false } });
  }

  undo() {
    if (!this.readOnly && this.history.undo()) this._moved();
  }

  redo() {
    if (!this.readOnly && this.history.redo()) this._moved();
  }

  /** Take back an unfinished step. @param {string} key */
  cancel(key) {
    if (this.history.cancel(key)) this._moved();
  }

  _moved() {
    this._prune();
    this._tell("plan");
  }

  // ---- upstream and the image ---------------------------------------------------------------------------------

  /** A run told which plan came in from upstream, or that none did. @param {Plan | null} plan */
  receive(plan) {
    this.upstream = plan;
    const { plan: own, about } = this.history.value;
    if (plan && !this.blocked && this.follow === "until_edited" && !about.edited && !(about.origin === "upstream" && samePlan(plan, own))) {
      this.hasPlan = true;
      this.history.reset({ plan, about: { ...FRESH, origin: "upstream" } });
      this._prune();
    }
    this._tell("plan");
  }

  setFollow(/** @type {Follow} */ follow) {
    if (follow === this.follow) return;
    this.follow = follow;
    this.receive(this.upstream);
  }

  /** Put the plan upstream in place of the edited one; undo brings the edits back. */
  takeUpstream() {
    if (this.upstream && !this.readOnly) this._set({ plan: this.upstream, about: { ...FRESH, origin: "upstream", edited: this.follow === "never" } });
  }

  /** Do not offer this plan again. */
  decline() {
    if (this.upstream) this._set({ plan: this.history.value.plan, about: { ...this.history.value.about, declined: markOf(this.upstream) } });
  }

  /** Use the plan that is shown from now on, as if it had been edited. */
  keep() {
    const { plan, about } = this.history.value;
    if (!about.edited && !this.readOnly) this._set({ plan, about: { ...about, edited: true, base: about.base ?? plan } });
  }

  /** A run told the size of the image: a plan whose size was only assumed takes it over. @param {[number, number]} size */
  seeImage(size) {
    if (!this.history.value.about.assumed_size) return;
    this.history.map(({ plan, about }) => (about.assumed_size ? { plan: stretched(plan, ...size), about: { ...about, assumed_size: false } } : { plan, about }));
    this._tell("plan");
  }

  /** The answer to an image of another shape. @param {[number, number]} size @param {"stretch" | "pixels"} how */
  moveTo(size, how) {
    this.edit((plan) => (how === "stretch" ? stretched(plan, ...size) : keptPixels(plan, ...size)));
  }

  // ---- selection and view -------------------------------------------------------------------------------------

  select(/** @type {string[]} */ ids) {
    if (ids.join() === this.selection.join()) return;
    this.history.close();
    this.selection = ids;
    this._tell("selection");
  }

  /** Select the next or the previous region. @returns {boolean} false past the last one */
  selectNext(/** @type {1 | -1} */ by) {
    const regions = this.plan.regions.filter((region) => !region.hidden);
    const at = regions.findIndex((region) => region.id === this.selection.at(-1));
    const next = at < 0 ? (by > 0 ? 0 : regions.length - 1) : at + by;
    if (next < 0 || next >= regions.length) return false;
    this.select([regions[next].id]);
    return true;
  }

  _prune() {
    const there = this.selection.filter((id) => this.plan.regions.some((region) => region.id === id));
    if (there.length !== this.selection.length) this.select(there);
  }

  /** @param {Partial<View>} values */
  setView(values) {
    this.view = { ...this.view, ...values };
    this._tell("view");
  }
}
