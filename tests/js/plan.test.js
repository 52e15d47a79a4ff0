/** The plan and its stored value: what is read comes back, what cannot be read is said. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Problem } from "../../web/js/common/problem.js";
import { emptyPlan, freshId, keptPixels, planToText, readPlan, samePlan, stretched, withoutMarks } from "../../web/js/editor/plan.js";
import { forPrompt, FRESH, markOf, modeOf, readStored, VIEW, writeStored } from "../../web/js/editor/stored.js";
import { HOSTILE, ODD, planWith, region } from "./plans.js";

const again = (plan) => readPlan(JSON.parse(JSON.stringify(plan)));

test("every text comes back as it went in", () => {
  for (const hint of [...HOSTILE, ...ODD]) {
    const plan = planWith(region("r1", [1.25, 2, 30.5, 40], hint, { negative_hint: hint }));
    assert.deepEqual(again(plan), plan);
    assert.deepEqual(readStored(writeStored({ plan, about: FRESH, view: VIEW })).plan, plan);
    assert.equal(readPlan(JSON.parse(planToText(plan))).regions[0].hint, hint);
  }
});

test("unknown keys and masks are kept", () => {
  const mask = { size: [2, 3], rle: [1, 2, 3] };
  const plan = { ...planWith(region("a b", [0, 0, 9, 9], "", { mask, mine: { deep: [1] } })), other: 1.5 };
  assert.deepEqual(again(plan), plan);
});

test("a value that is only read and written stays the same text", () => {
  const text = '{"regions":[{"mask":null,"bbox_2d":[0,0,5,5],"id":"a","end":1,"hint":"x","start":0,"negative_hint":""}],"reasoning":"","global_prompt":"g","image_size":[9,9],"version":1}';
  assert.equal(JSON.stringify(readPlan(JSON.parse(text))), text);
});

test("what is not there has its default, and a region without an id gets one", () => {
  const plan = readPlan({ image_size: [10, 10], regions: [{ bbox_2d: [0, 0, 5, 5] }, { id: "r1", bbox_2d: [-3, 1, 12, 5] }] });
  assert.deepEqual(plan.regions.map((one) => one.id), ["r2", "r1"]);
  assert.deepEqual(plan.regions[1].bbox_2d, [0, 1, 10, 5]);
  assert.equal(plan.global_prompt, "keep remaining part of image unchanged.");
});

for (const [name, change] of Object.entries({
  "a later version": (plan) => ({ ...plan, version: 2 }),
  "a version that is no number": (plan) => ({ ...plan, version: "1" }),
  "no image size": ({ image_size, ...plan }) => plan,
  "regions that are no list": (plan) => ({ ...plan, regions: {} }),
  "a box of three numbers": (plan) => ({ ...plan, regions: [{ bbox_2d: [1, 2, 3] }] }),
  "a box turned over": (plan) => ({ ...plan, regions: [{ bbox_2d: [9, 2, 3, 8] }] }),
  "a box of texts": (plan) => ({ ...plan, regions: [{ bbox_2d: ["1", 2, 3, 8] }] }),
  "a hint that is no text": (plan) => ({ ...plan, regions: [region("r1", [0, 0, 5, 5], 7)] }),
  "a mark that is no yes or no": (plan) => ({ ...plan, regions: [region("a", [0, 0, 5, 5], "", { enabled: "no" })] }),
  "two regions of one id": (plan) => ({ ...plan, regions: [region("a", [0, 0, 5, 5]), region("a", [0, 0, 6, 6])] }),
  "an end that is no number": (plan) => ({ ...plan, regions: [region("a", [0, 0, 5, 5], "", { end: "1" })] }),
  "a mask too large to draw": (plan) => ({ ...plan, regions: [region("a", [0, 0, 5, 5], "", { mask: { size: [1e6, 1e6], rle: [1e12] } })] }),
  "a mask whose runs do not fill it": (plan) => ({ ...plan, regions: [region("a", [0, 0, 5, 5], "", { mask: { size: [2, 2], rle: [3] } })] }),
  "a list": () => [1, 2],
  "nothing": () => null,
})) test(`a plan with ${name} is not shown`, () => assert.throws(() => readPlan(change(planWith())), Problem));

test("a stored value that is broken or newer is refused, not emptied", () => {
  for (const value of ["{", "[]", "7", '{"version": 2, "image_size": [1, 1], "regions": [], "editor": {"edited": true}}']) assert.throws(() => readStored(value), Problem, value);
});

test("an untouched editor stores nothing, and the marker of a followed plan holds none", () => {
  assert.equal(writeStored({ plan: null, about: FRESH, view: VIEW }), "");
  assert.equal(readStored(writeStored({ plan: null, about: FRESH, view: { ...VIEW, dim: 0.5 } })).view.dim, 0.5);
});

test("a plan stored by hand, without the editor's key, counts as edited", () => {
  assert.equal(readStored(JSON.stringify(planWith())).about.edited, true);
});

test("the prompt does not change with what is only looked at, nor with a plan that is only followed", () => {
  const plan = planWith(region("r1", [0, 0, 9, 9]));
  const stored = { plan, about: { ...FRESH, edited: true }, view: VIEW };
  const looked = { plan: { ...plan, regions: [{ ...plan.regions[0], locked: true }] }, about: { ...stored.about, declined: "x", base: plan }, view: { ...VIEW, snap: true } };
  assert.equal(forPrompt(stored, true), forPrompt(looked, true));
  const followed = { plan, about: { ...FRESH, origin: "upstream" }, view: VIEW };
  assert.equal(forPrompt(followed, true), forPrompt({ plan: null, about: FRESH, view: VIEW }, true));
  assert.notEqual(forPrompt(followed, true), forPrompt(followed, false), "without upstream the shown plan is the plan");
});

test("what is sent is never the empty text, which says that there was no editor", () => {
  const sent = JSON.parse(forPrompt({ plan: null, about: FRESH, view: VIEW }, false));
  assert.deepEqual(sent, { version: 1, editor: { edited: false, empty: true } });
});

test("a region that is off is sent as off, and one that an older page hid as it was: on, and shown again", () => {
  const off = planWith(region("r1", [0, 0, 9, 9], "", { enabled: false }));
  assert.equal(withoutMarks(again(off)).regions[0].enabled, false);
  const hidden = readPlan({ ...planWith(region("r1", [0, 0, 9, 9], "", { hidden: true })) });
  assert.deepEqual(hidden, planWith(region("r1", [0, 0, 9, 9], "")));
  assert.ok(!samePlan(off, hidden));
});

test("the four modes", () => {
  const plan = planWith(region("r1", [0, 0, 9, 9]));
  const upstream = { ...FRESH, origin: "upstream" };
  assert.deepEqual(modeOf(emptyPlan(9, 9), FRESH), ["baseline", "unchanged"], "as it is, the run would change nothing");
  assert.deepEqual(modeOf(planWith(), FRESH), ["baseline", "baseline"]);
  assert.deepEqual(modeOf(planWith(region("r1", [0, 0, 9, 9], "", { enabled: false })), FRESH), ["baseline", "baseline"], "none that acts");
  assert.deepEqual(modeOf(plan, FRESH), ["manual", "manual"]);
  assert.deepEqual(modeOf(plan, upstream), ["planned", "planned"]);
  assert.deepEqual(modeOf(plan, { ...upstream, edited: true, base: plan }), ["planned", "kept"]);
  assert.deepEqual(modeOf(plan, { ...upstream, edited: true, base: planWith() }), ["corrected", "corrected"]);
});

test("two plans are the same when they give the same edit", () => {
  const before = planWith(region("a", [0, 0, 9, 9]), region("b", [1, 1, 5, 5]));
  assert.ok(samePlan(before, { ...before, reasoning: "thought more" }));
  assert.ok(!samePlan(before, planWith(...[...before.regions].reverse())));
  assert.notEqual(markOf(before), markOf(planWith(region("a", [1, 0, 10, 9]))));
});

test("ids do not clash, whatever was deleted", () => {
  assert.equal(freshId(["r1", "r2"]), "r3");
  assert.equal(freshId(["r2"]), "r1");
  assert.equal(freshId([]), "r1");
});

test("a plan moves to another size by stretching, or by its pixels without losing a box", () => {
  const plan = planWith(region("a", [60, 40, 120, 80]), region("b", [500, 300, 600, 400]));
  assert.deepEqual(stretched(plan, 1200, 200).regions[0].bbox_2d, [120, 20, 240, 40]);
  const cut = keptPixels(plan, 300, 200);
  assert.deepEqual(cut.regions.map((one) => one.bbox_2d), [[60, 40, 120, 80], [200, 100, 300, 200]]);
  assert.deepEqual(again(cut), cut);
});
