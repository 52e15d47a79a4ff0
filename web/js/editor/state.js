/** What the editor knows: the plan with its undo, the selection, the plan upstream, the view. */
import { History } from "../common/history.js";
import { withColoursKept } from "./colours.js";
import { added, changed, duplicated, removed, reordered } from "./edits.js";
import { sharedMove, snapped } from "./geometry.js";
import { emptyPlan, isOn, keptPixels, samePlan, stretched } from "./plan.js";
import { FRESH, markOf } from "./stored.js";

/** Of a plan that came from upstream and is as it came. @type {About} */
const FROM_UPSTREAM = { ...FRESH, origin: "upstream" };

/** @returns {{plan: Plan, about: About}} */
function startOf({ plan, about }) {
	return plan ? { plan, about } : { plan: emptyPlan(1024, 1024), about: { ...about, assumed_size: true } };
}

export class EditorState {
	/** Ids; the fields are those of the last one. @type {string[]} */
	selection = [];
	/** @type {Plan | null} */
	upstream = null;
	/** A stored value that cannot be read is in the way. */
	blocked = false;
	/** @type {(what: Changed) => void} */
	onChange = () => {};

	/** @param {Stored} stored @param {Follow} [follow] */
	constructor(stored, follow = "until_edited") {
		this.history = new History(startOf(stored));
		/** Whether there is a plan to store. */
		this.hasPlan = stored.plan !== null;
		this.view = stored.view;
		this.follow = follow;
	}

	/** Take another stored value; its undo begins anew. */
	adopt(stored) {
		this.history.reset(startOf(stored));
		this.hasPlan = stored.plan !== null;
		this.view = stored.view;
		this.tell("view");
	}

	tell(what) {
		const there = this.selection.filter((id) => this.plan.regions.some((region) => region.id === id));
		if (there.length !== this.selection.length) this.select(there);
		this.onChange(what);
	}

	// ---- what there is

	/** Upstream is shown and used whatever is stored. */
	get showsUpstream() {
		return this.follow === "always" && this.upstream !== null;
	}

	get readOnly() {
		return this.blocked || this.showsUpstream;
	}

	get plan() {
		return this.showsUpstream ? /** @type {Plan} */ (this.upstream) : this.history.value.plan;
	}

	get about() {
		return this.showsUpstream ? FROM_UPSTREAM : this.history.value.about;
	}

	/** What the workflow keeps: never the plan that is only shown. @returns {Stored} */
	get stored() {
		const { plan, about } = this.history.value;
		return { plan: this.hasPlan ? plan : null, about, view: this.view };
	}

	get selected() {
		return this.plan.regions.filter(({ id }) => this.selection.includes(id));
	}

	get current() {
		return this.plan.regions.find(({ id }) => id === this.selection.at(-1)) ?? null;
	}

	/** A plan upstream that differs from what the edits began with, and was not declined. */
	get offer() {
		const { plan, about } = this.history.value;
		if (this.readOnly || !this.upstream || (!about.edited && this.follow === "until_edited")) return null;
		if (markOf(this.upstream) === about.declined || samePlan(this.upstream, plan)) return null;
		return about.base && samePlan(this.upstream, about.base) ? null : this.upstream;
	}

	/** What the edits began with: the plan from upstream, or pasted, or the empty one. */
	get base() {
		const { plan, about } = this.history.value;
		return about.base ?? emptyPlan(...plan.image_size);
	}

	get isChanged() {
		return !samePlan(this.base, this.history.value.plan);
	}

	// ---- changing it

	/** Change the plan as a person would; steps with the same key are one to undo. @param {(plan: Plan) => Plan} change @param {string | null} [key] */
	edit(change, key) {
		if (this.readOnly) return;
		const { plan, about } = this.history.value;
		const next = change(plan);
		const base = about.base ?? (about.origin === "drawn" ? null : plan);
		if (next !== plan) this.put(withColoursKept(plan, next), { ...about, edited: true, base }, key);
	}

	/** @param {Plan} plan @param {About} about @param {string | null} [key] */
	put(plan, about, key = null) {
		this.hasPlan = true;
		this.history.push({ plan, about }, key);
		this.tell("plan");
	}

	/** @param {string[]} ids @param {(region: Region) => Region} change @param {string} [key] */
	editRegions(ids, change, key) {
		this.edit((plan) => changed(plan, ids, change), key);
	}

	setFields(id, values) {
		this.editRegions([id], (region) => ({ ...region, ...values }), `${id}.${Object.keys(values).join()}`);
	}

	/** A name or a colour. */
	setShown(id, values) {
		this.editRegions([id], (region) => ({ ...region, editor: { ...region.editor, ...values } }), `${id}.${Object.keys(values).join()}`);
	}

	setGlobalPrompt(global_prompt) {
		this.edit((plan) => ({ ...plan, global_prompt }), "global_prompt");
	}

	/** Move or resize regions; locked ones stay. @param {string[]} ids @param {(region: Region) => Box} boxOf @param {string} [key] */
	setBoxes(ids, boxOf, key) {
		this.editRegions(ids, (region) => {
			const bbox_2d = region.locked ? region.bbox_2d : boxOf(region);
			return bbox_2d.join() === region.bbox_2d.join() ? region : { ...region, bbox_2d };
		}, key);
	}

	/** The boxes of the selected regions that can be moved. @returns {Map<string, Box>} */
	get movable() {
		return new Map(this.selected.filter((region) => !region.locked && isOn(region)).map(({ id, bbox_2d }) => [id, bbox_2d]));
	}

	/**
	 * Move boxes together; with snap the first one's left top corner goes to a grid line.
 */
	shift(boxes, dx, dy, key) {
		const { snap, patch } = this.view;
		const [first] = boxes.values();
		if (snap && first) [dx, dy] = [dx, dy].map((by, axis) => Math.round((first[axis] + by) / patch) * patch - first[axis]);
		const [x, y] = sharedMove([...boxes.values()], dx, dy, this.plan.image_size);
		this.setBoxes([...boxes.keys()], ({ id, bbox_2d }) => {
			const [x1, y1, x2, y2] = boxes.get(id) ?? bbox_2d;
			return [x1 + x, y1 + y, x2 + x, y2 + y];
		}, key);
	}

	/** A new region, selected. */
	add(box) {
		const bbox_2d = this.view.snap ? snapped(box, this.view.patch, this.plan.image_size) : box;
		this.insert([{ id: "", bbox_2d, hint: "", negative_hint: "", start: 0, end: 1, mask: null }]);
	}

	insert(regions) {
		this.editAndSelect((plan) => added(plan, regions));
	}

	duplicate(ids) {
		this.editAndSelect((plan) => duplicated(plan, ids));
	}

	/** Change the plan and select what is new in it. */
	editAndSelect(change) {
		const before = new Set(this.plan.regions.map(({ id }) => id));
		this.edit(change);
		const made = this.plan.regions.map(({ id }) => id).filter((id) => !before.has(id));
		if (made.length) this.select(made);
	}

	/** Locked ones stay. */
	remove(ids) {
		this.edit((plan) => removed(plan, ids));
	}

	clear() {
		this.remove(this.plan.regions.map(({ id }) => id));
	}

	reorder(id, by) {
		this.edit((plan) => reordered(plan, id, by));
	}

	/** Lock all of them, or none of them when all were. */
	lock(ids) {
		const locked = this.plan.regions.some((region) => !region.locked && ids.includes(region.id));
		this.editRegions(ids, (region) => ({ ...region, locked }));
	}

	/** Switch all of them off, or on when all were off. */
	switchOn(ids) {
		const enabled = !this.plan.regions.some((region) => isOn(region) && ids.includes(region.id));
		this.editRegions(ids, (region) => ({ ...region, enabled }));
	}

	paste(plan) {
		if (!this.readOnly) this.put(plan, { ...this.about, edited: true, origin: "pasted", base: plan, assumed_size: false });
	}

	undo() {
		if (!this.readOnly && this.history.undo()) this.tell("plan");
	}

	redo() {
		if (!this.readOnly && this.history.redo()) this.tell("plan");
	}

	/** Take back an unfinished step. */
	cancel(key) {
		if (this.history.cancel(key)) this.tell("plan");
	}

	// ---- upstream and the image

	/** A run told which plan came in from upstream, if any. */
	receive(plan) {
		this.upstream = plan;
		const { plan: own, about } = this.history.value;
		const follows = !this.blocked && this.follow === "until_edited" && !about.edited;
		if (plan && follows && !(about.origin === "upstream" && samePlan(plan, own))) {
			this.hasPlan = true;
			this.history.reset({ plan, about: FROM_UPSTREAM });
		}
		this.tell("plan");
	}

	setFollow(follow) {
		if (follow === this.follow) return;
		this.follow = follow;
		this.receive(this.upstream);
	}

	/** Put the plan upstream in place of the edited one; undo brings the edits back. */
	takeUpstream() {
		if (this.upstream && !this.readOnly) this.put(this.upstream, { ...FROM_UPSTREAM, edited: this.follow === "never" });
	}

	decline() {
		const { plan, about } = this.history.value;
		if (this.upstream) this.put(plan, { ...about, declined: markOf(this.upstream) });
	}

	/** Use the plan that is shown from now on, as if it had been edited. */
	keep() {
		const { plan, about } = this.history.value;
		if (!about.edited && !this.readOnly) this.put(plan, { ...about, edited: true, base: about.base ?? plan });
	}

	/** The size is known, or else only the shape: a plan whose size was only assumed, or that has no boxes, takes it over. */
	seeImage(size, exact = true) {
		this.history.map((step) => {
			const { plan, about } = step;
			const takes = about.assumed_size || (!plan.regions.length && plan.image_size.join() !== size.join());
			return takes ? { plan: stretched(plan, ...size), about: { ...about, assumed_size: !exact } } : step;
		});
		this.tell("plan");
	}

	/** @param {Size} size @param {"stretch" | "pixels" | "anew"} how */
	moveTo(size, how) {
		this.edit((plan) => (how === "stretch" ? stretched(plan, ...size) : how === "pixels" ? keptPixels(plan, ...size) : { ...plan, image_size: size, regions: [] }));
	}

	// ---- selection and view

	select(ids) {
		if (ids.join() === this.selection.join()) return;
		this.history.close();
		this.selection = ids;
		this.tell("selection");
	}

	alsoSelect(id) {
		this.select(this.selection.includes(id) ? this.selection.filter((one) => one !== id) : [...this.selection, id]);
	}

	/** False past the last one. */
	selectNext(by, also) {
		const regions = this.plan.regions.filter(isOn);
		const at = regions.findIndex(({ id }) => id === this.selection.at(-1));
		const next = regions[at >= 0 ? at + by : by > 0 ? 0 : regions.length - 1];
		if (!next) return false;
		this.select(also ? [...this.selection.filter((one) => one !== next.id), next.id] : [next.id]);
		return true;
	}

	/** @param {Partial<View>} values */
	setView(values) {
		this.view = { ...this.view, ...values };
		this.tell("view");
	}
}
