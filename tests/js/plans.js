/** Plans for the tests of pure modules. */
import { readFileSync } from "node:fs";
import { emptyPlan } from "../../web/js/editor/plan.js";

export function region(id, box, hint = `hint of ${id}`, rest = {}) {
  return { id, bbox_2d: box, hint, negative_hint: "", start: 0, end: 1, mask: null, ...rest };
}

export function planWith(...regions) {
  return { ...emptyPlan(600, 400), global_prompt: "a cup", regions };
}

/** HOSTILE: texts that would do something in a page that takes them for markup or code. ODD: hard to show. */
export const { hostile: HOSTILE, odd: ODD } = JSON.parse(readFileSync(new URL("texts.json", import.meta.url), "utf8"));
