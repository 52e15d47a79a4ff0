/** Pasted texts: plans, tags and lists, and what is left to the node that repairs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Problem } from "../../web/js/common/problem.js";
import { planToText } from "../../web/js/editor/plan.js";
import { readPasted, seenSize } from "../../web/js/editor/reply.js";
import { planWith, region } from "./plans.js";

const SIZE = [600, 400];
const TAGS = `<think>a spoon</think><gen_image>A cup.</gen_image>
<region>[{"bbox_2d": [308, 28, 616, 196], "hint": "turn to gold"}, {"bbox_2d": [0, 0, 10, 10], "label": "keep"}]</region>`;

test("a copied plan comes back", () => {
  const plan = planWith(region("r1", [1, 2, 30, 40], 'say "hi"\n</region>'));
  assert.deepEqual(readPasted(planToText(plan), SIZE), plan);
  assert.deepEqual(readPasted("```json\n" + planToText(plan) + "\n```", SIZE), plan);
});

test("a plan for the same picture at another size is stretched, one of another shape refused", () => {
  const plan = planWith(region("r1", [60, 40, 120, 80]));
  assert.deepEqual(readPasted(planToText(plan), [1200, 800]).regions[0].bbox_2d, [120, 80, 240, 160]);
  assert.throws(() => readPasted(planToText(plan), [400, 400]), Problem);
});

test("tags are read in the pixels the model saw", () => {
  assert.deepEqual(seenSize(SIZE), [588, 392]);
  const plan = readPasted(TAGS, SIZE);
  assert.equal(plan.global_prompt, "A cup.");
  assert.equal(plan.reasoning, "a spoon");
  assert.deepEqual(plan.regions.map((one) => one.hint), ["turn to gold", "keep"]);
  assert.ok(Math.abs(plan.regions[0].bbox_2d[0] - (308 * 600) / 588) < 1e-9);
});

test("what the numbers count can be chosen, and shares are seen", () => {
  const text = '[{"bbox_2d": [0.1, 0.2, 0.5, 0.6], "hint": "a"}]';
  const near = (box, wanted) => box.forEach((edge, i) => assert.ok(Math.abs(edge - wanted[i]) < 1e-9, String(box)));
  near(readPasted(text, SIZE).regions[0].bbox_2d, [60, 80, 300, 240]);
  near(readPasted(text, SIZE, "pixels").regions[0].bbox_2d, [0.1, 0.2, 0.5, 0.6]);
  near(readPasted('[{"bbox_2d": [100, 200, 500, 600], "hint": "a"}]', SIZE, "relative_1000").regions[0].bbox_2d, [60, 80, 300, 240]);
});

test("a global prompt alone is a plan", () => {
  assert.deepEqual(readPasted("<global>At night.</global>", SIZE).regions, []);
});

test("long texts of nothing are refused at once", () => {
  const begun = performance.now();
  for (const text of ["```" + "\n".repeat(1e5) + "x", "<region>".repeat(2e5), "```\n" + "``` ".repeat(1e5) + "x"]) assert.throws(() => readPasted(text, SIZE), Problem);
  assert.ok(performance.now() - begun < 4000, "8 and more than 15 seconds before");
});

test("an object without an image size keeps its global prompt and reasoning", () => {
  const { global_prompt, reasoning, regions } = readPasted('{"global_prompt": "At night.", "reasoning": "Lamps.", "regions": [{"bbox_2d": [0, 0, 60, 40], "hint": "a lamp"}]}', SIZE, "pixels");
  assert.deepEqual([global_prompt, reasoning, regions.length], ["At night.", "Lamps.", 1]);
});

for (const text of ["", "hello", '{"regions": {"hint": "no box"}}', '{"regions": [], "global_prompt": 7}', "<region>[{]</region>", '[{"hint": "no box"}]', '[{"bbox_2d": [1, 2, 3, "x"], "hint": "a"}]', "[1, 2]", '{"version": 9, "image_size": [1, 1]}'])
  test(`${JSON.stringify(text).slice(0, 40)} is refused with what to do`, () => assert.throws(() => readPasted(text, SIZE), Problem));
