/** The editor's state: edits, undo, what upstream may and may not do. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { History } from "../../web/js/common/history.js";
import { coloursOf } from "../../web/js/editor/colours.js";
import { nudge } from "../../web/js/editor/commands.js";
import { EditorState } from "../../web/js/editor/state.js";
import { FRESH, forPrompt, readStored, VIEW, writeStored } from "../../web/js/editor/stored.js";
import { planWith, region } from "./plans.js";

const fresh = (follow) => new EditorState({ plan: null, about: FRESH, view: VIEW }, follow);
const upstream = planWith(region("r1", [10, 10, 100, 100]), region("r2", [200, 50, 300, 200]));
const other = planWith(region("r1", [20, 20, 100, 100], "another"));

test("undo goes back step by step, redo forward, and a new step forgets what was undone", () => {
  const history = new History(0, 3);
  for (const value of [1, 2, 3, 4]) history.push(value);
  assert.deepEqual([history.undo(), history.value], [true, 3]);
  history.undo();
  history.redo();
  assert.equal(history.value, 3);
  history.push(9);
  assert.equal(history.canRedo, false);
  while (history.undo());
  assert.equal(history.value, 1, "only the last three steps are kept");
});

test("typing into one field is one step, until something else happens", () => {
  const state = fresh();
  state.add([0, 0, 50, 50]);
  const { id } = state.current;
  for (const hint of ["a", "ab", "abc"]) state.setFields(id, { hint });
  state.undo();
  assert.equal(state.current.hint, "");
  state.redo();
  assert.equal(state.current.hint, "abc");
  state.history.close();
  state.setFields(id, { hint: "abcd" });
  state.undo();
  assert.equal(state.current.hint, "abc");
});

test("a cancelled drag leaves no step and no edit", () => {
  const state = fresh();
  state.add([0, 0, 50, 50]);
  const { id } = state.current;
  const { past } = state.history;
  const steps = past.length;
  state.setBoxes([id], () => [5, 5, 55, 55], "drag 1");
  state.cancel("drag 1");
  assert.deepEqual(state.current.bbox_2d, [0, 0, 50, 50]);
  assert.equal(state.history.past.length, steps);
});

test("locked regions stay where they are and cannot be deleted", () => {
  const state = fresh();
  state.add([0, 0, 50, 50]);
  const { id } = state.current;
  state.lock([id]);
  state.setBoxes([id], () => [5, 5, 55, 55]);
  state.remove([id]);
  state.clear();
  assert.deepEqual(state.plan.regions.map((one) => one.bbox_2d), [[0, 0, 50, 50]]);
});

test("arrows move several boxes as a drag does: they stop together, and with snap they keep their sizes", () => {
  const state = new EditorState({ plan: planWith(region("a", [20, 20, 70, 60]), region("b", [103, 50, 595, 90])), about: FRESH, view: VIEW });
  const boxes = () => state.plan.regions.map((one) => one.bbox_2d);
  state.select(["a", "b"]);
  nudge(1, 0, { shiftKey: true }, state);
  assert.deepEqual(boxes(), [[25, 20, 75, 60], [108, 50, 600, 90]]);
  state.setView({ snap: true });
  nudge(-1, 0, {}, state);
  assert.deepEqual(boxes(), [[16, 16, 66, 56], [99, 46, 591, 86]]);
});

test("a plan upstream is shown until the first edit, then it is offered and never applied", () => {
  const state = fresh();
  state.receive(upstream);
  assert.equal(state.plan, upstream);
  assert.equal(state.about.edited, false);
  state.receive(other);
  assert.equal(state.plan, other, "not edited: the new plan is shown");
  state.setFields("r1", { hint: "mine" });
  state.receive(upstream);
  assert.equal(state.plan.regions[0].hint, "mine");
  assert.equal(state.offer, upstream);
  assert.ok(state.isChanged && state.base.regions[0].hint === "another" && state.plan.regions[0].hint === "mine");
  state.receive(other);
  assert.equal(state.offer, null, "what the edits began with is no offer");
});

test("a declined plan is not offered again, another one is", () => {
  const state = fresh();
  state.receive(other);
  state.setFields("r1", { hint: "mine" });
  state.receive(upstream);
  state.decline();
  const reloaded = new EditorState(readStored(writeStored(state.stored)));
  for (const one of [state, reloaded]) {
    one.receive(upstream);
    assert.equal(one.offer, null);
    one.receive(planWith(region("z", [1, 1, 9, 9])));
    assert.notEqual(one.offer, null);
  }
});

test("taking the plan upstream again can be undone", () => {
  const state = fresh();
  state.receive(upstream);
  state.remove(["r1"]);
  state.takeUpstream();
  assert.equal(state.plan, upstream);
  assert.equal(state.about.edited, false);
  state.undo();
  assert.deepEqual(state.plan.regions.map((one) => one.id), ["r2"]);
});

test("always: upstream is shown and nothing can be changed, and the stored plan is not touched", () => {
  const state = fresh();
  state.add([0, 0, 50, 50]);
  const { plan } = state;
  state.setFollow("always");
  state.receive(upstream);
  assert.equal(state.plan, upstream);
  state.remove(["r1"]);
  state.add([0, 0, 9, 9]);
  state.paste(other);
  state.undo();
  assert.equal(state.stored.plan, plan);
  state.setFollow("until_edited");
  assert.equal(state.plan, plan);
});

test("never: upstream is only offered", () => {
  const state = fresh("never");
  state.receive(upstream);
  assert.equal(state.plan.regions.length, 0);
  assert.equal(state.offer, upstream);
  state.takeUpstream();
  assert.equal(state.about.edited, true, "taken, it stays");
});

test("a kept plan stays when upstream changes", () => {
  const state = fresh();
  state.receive(upstream);
  state.keep();
  state.receive(other);
  assert.equal(state.plan, upstream);
});

test("boxes drawn before an image was seen move onto it with their undo", () => {
  const state = fresh();
  state.add([0, 0, 512, 512]);
  state.add([512, 512, 1024, 1024]);
  state.seeImage([600, 400]);
  assert.deepEqual(state.plan.regions[1].bbox_2d, [300, 200, 600, 400]);
  state.undo();
  assert.deepEqual(state.plan.image_size, [600, 400]);
  assert.deepEqual(state.plan.regions.map((one) => one.bbox_2d), [[0, 0, 300, 200]]);
  state.seeImage([100, 100]);
  assert.deepEqual(state.plan.image_size, [600, 400], "only a size that was assumed gives way");
});

test("without boxes the size of another image is taken over, and boxes keep theirs until someone says how they move", () => {
  const state = fresh();
  state.seeImage([600, 400]);
  state.seeImage([400, 400]);
  assert.deepEqual(state.plan.image_size, [400, 400]);
  state.add([0, 0, 50, 50]);
  state.clear();
  state.seeImage([300, 200]);
  assert.deepEqual(state.plan.image_size, [300, 200]);
  state.undo();
  assert.deepEqual([state.plan.image_size, state.plan.regions[0].bbox_2d], [[400, 400], [0, 0, 50, 50]]);
});

test("deleting a region in the middle leaves the others' ids alone, and selection follows", () => {
  const state = new EditorState({ plan: planWith(region("a", [0, 0, 9, 9]), region("b", [0, 0, 8, 8]), region("c", [0, 0, 7, 7])), about: FRESH, view: VIEW });
  state.select(["a", "b"]);
  state.remove(["b"]);
  assert.deepEqual(state.plan.regions.map((one) => one.id), ["a", "c"]);
  assert.deepEqual(state.selection, ["a"]);
  state.duplicate(["a"]);
  assert.deepEqual(state.plan.regions.map((one) => one.id), ["a", "c", "r3"]);
  state.reorder("r3", -5);
  assert.deepEqual(state.plan.regions.map((one) => one.id), ["r3", "a", "c"]);
});

test("a stored value that cannot be read blocks every change", () => {
  const state = fresh();
  state.blocked = true;
  state.add([0, 0, 9, 9]);
  state.receive(upstream);
  state.seeImage([9, 9]);
  assert.equal(state.stored.plan, null);
});

test("view settings of another kind give way to the usual ones: a patch of 0 made every box that was snapped to it no box", () => {
  const read = (view) => readStored(JSON.stringify({ ...planWith(), editor: { edited: true, view } })).view;
  assert.deepEqual(read({ dim: "x", patch: 0, snap: 1, later: 5, expand: 0.2 }), { ...VIEW, expand: 0.2, later: 5 });
  for (const view of [null, "abc", [1], { patch: -16 }, { patch: "16" }]) assert.deepEqual(read(view), VIEW);
});

test("view settings are stored and are no edit", () => {
  const state = fresh();
  state.setView({ snap: true });
  assert.equal(state.about.edited, false);
  assert.equal(readStored(writeStored(state.stored)).view.snap, true);
});

test("a region keeps its colour when others are deleted, switched off or moved in the order, and a new one takes a free one", () => {
  const state = new EditorState({ plan: planWith(...["a", "b", "c"].map((id, i) => region(id, [i * 100, 0, i * 100 + 50, 50]))), about: FRESH, view: VIEW });
  const colours = () => Object.fromEntries(coloursOf(state.plan.regions));
  const first = colours();
  const kept = (...ids) => assert.deepEqual(ids.map((id) => colours()[id]), ids.map((id) => first[id]));
  state.switchOn(["a"]);
  kept("a", "b", "c");
  state.reorder("c", -2);
  kept("a", "b", "c");
  state.remove(["a"]);
  kept("b", "c");
  state.add([0, 0, 50, 50]);
  assert.equal(new Set(Object.values(colours())).size, 3);
  for (let i = 0; i < 4; i += 1) state.undo();
  assert.ok(!JSON.stringify(state.stored.plan).includes("color"), "undo takes it back as one step with what made it");
  state.setShown("b", { color: "#102030" });
  state.setShown("b", { name: "rim" });
  assert.equal(colours().b, "16,32,48");
  const sent = JSON.parse(forPrompt(state.stored, false)).regions[1];
  assert.deepEqual([sent.id, sent.editor], ["b", { color: "#102030" }], "a name changes no run");
  assert.deepEqual(readStored(writeStored(state.stored)).plan, state.plan);
});

test("new boxes on an image of another shape are one step, and a shape that is only seen leaves the size assumed", () => {
  const state = new EditorState({ plan: planWith(region("a", [0, 0, 50, 50])), about: { ...FRESH, edited: true }, view: VIEW });
  const before = state.plan;
  state.moveTo([400, 400], "anew");
  assert.deepEqual([state.plan.image_size, state.plan.regions.length], [[400, 400], 0]);
  state.undo();
  assert.equal(state.plan, before);
  const fresh = new EditorState({ plan: null, about: FRESH, view: VIEW });
  fresh.seeImage([192, 128], false);
  assert.deepEqual([fresh.plan.image_size, fresh.about.assumed_size], [[192, 128], true]);
  fresh.seeImage([600, 400]);
  assert.deepEqual([fresh.plan.image_size, fresh.about.assumed_size, fresh.stored.plan], [[600, 400], false, null]);
});
