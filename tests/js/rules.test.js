import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Problem } from "../../web/js/common/problem.js";
import { componentNames, namedOwners, nextValue, readMatrix, setCell, signOf, writeMatrix } from "../../web/js/rules/matrix.js";

const data = JSON.parse(readFileSync(new URL("rules.json", import.meta.url), "utf8"));
const { kinds } = data;
const none = new Map();
const cells = (pairs) => new Map(Object.entries(pairs));
/** The preset replan, with these cells set. */
const rules = (set) => ({ kinds, table: data.presets.replan.after, cells: set });

test("an untouched matrix is the empty text, and what is written reads back", () => {
  assert.equal(writeMatrix(readMatrix("", kinds)), "");
  assert.equal(writeMatrix(readMatrix("null", kinds)), "");
  for (const text of ['{"before":{}}', '{"version":1,"after":{"main|hint:r1":true}}', '{"before":{"noise:a b|image:*":false},"after":{"main|hint:r1":true}}']) {
    assert.equal(writeMatrix(readMatrix(text, kinds)), text);
  }
});

test("what this pack does not know is a problem, never dropped", () => {
  for (const text of ["{", "[]", '{"version":2}', '{"after":{},"more":1}', '{"after":{"main|hint:r1":0}}', '{"after":{"main|nobody":true}}', '{"after":{"main|main":false}}']) {
    assert.throws(() => readMatrix(text, kinds), Problem, text);
  }
});

test("a row of all regions says where only a region's own is seen", () => {
  assert.equal(signOf(rules(none), "noise:*", "hint:*"), "o");
  assert.equal(signOf(rules(none), "noise:*", "hint:r1"), "o");
  assert.equal(signOf(rules(none), "noise:r1", "hint:r1"), "x");
  assert.equal(signOf(rules(none), "noise:r1", "hint:r2"), "-");
  assert.equal(signOf(rules(cells({ "noise:*|hint:*": false })), "noise:r1", "hint:r1"), "-");
  assert.equal(signOf(rules(cells({ "noise:*|noise:*": false })), "noise:*", "noise:*"), "o", "each sees itself");
});

test("a cell with an id is stronger than one for all, whatever their order", () => {
  const both = { "main|hint:r1": false, "main|hint:*": true };
  for (const pairs of [Object.entries(both), Object.entries(both).reverse()]) {
    assert.equal(signOf(rules(new Map(pairs)), "main", "hint:r1"), "-");
    assert.equal(signOf(rules(new Map(pairs)), "main", "hint:r2"), "x");
  }
});

test("a cell for another region acts on every pair but a region's own, and is stronger than one for all", () => {
  const isolated = cells({ "noise:*|noise:other": false });
  assert.equal(signOf(rules(isolated), "noise:r1", "noise:r2"), "-");
  assert.equal(signOf(rules(isolated), "noise:*", "noise:*"), "o");
  assert.equal(signOf(rules(isolated), "noise:other", "noise:*"), "-", "the same pairs, written the other way round");
  const both = { "noise:*|hint:other": true, "noise:*|hint:*": false };
  for (const pairs of [Object.entries(both), Object.entries(both).reverse()]) {
    assert.equal(signOf(rules(new Map(pairs)), "noise:*", "hint:*"), "d");
    assert.equal(signOf(rules(new Map(pairs)), "noise:r1", "hint:r1"), "-");
    assert.equal(signOf(rules(new Map(pairs)), "noise:r1", "hint:r2"), "x");
  }
  assert.equal(setCell(rules(none), "main", "hint:other", true).size, 0, "the other side is no region");
});

test("presses go through every sign and come back to the preset", () => {
  for (const query of componentNames(kinds, ["r1"], ["2"])) {
    for (const key of componentNames(kinds, ["r1"], ["2"])) {
      if (query === key && !query.endsWith("*")) continue;
      let now = none;
      const seen = [];
      do {
        seen.push(signOf(rules(now), query, key));
        now = setCell(rules(now), query, key, nextValue(rules(now), query, key));
      } while (now.size && seen.length < 9);
      assert.equal(new Set(seen).size, seen.length, `${query} ${key}: ${seen}`);
      assert.ok(seen.length === 2 || seen.length === 3);
    }
  }
});

test("a cell that would change nothing is not stored, nor one that would blind a component", () => {
  assert.equal(setCell(rules(none), "main", "image_prompt", true).size, 0);
  assert.equal(setCell(rules(none), "noise:r1", "noise:r1", false).size, 0);
  const all = cells({ "main|hint:*": true });
  assert.deepEqual([...setCell(rules(all), "main", "hint:r1", false)], [["main|hint:*", true], ["main|hint:r1", false]]);
  assert.deepEqual([...all], [["main|hint:*", true]], "the value before is left alone, for undo");
});

test("the names of regions that only cells know", () => {
  const matrix = readMatrix('{"before":{"noise:a:b|main":false},"after":{"hint:*|noise:z":true,"main|reference:3":false}}', kinds);
  assert.deepEqual(namedOwners(matrix, kinds, "region"), ["a:b", "z"]);
  assert.deepEqual(namedOwners(matrix, kinds, "reference"), ["3"]);
});

test("rows are text, all regions, each region, background, references", () => {
  assert.deepEqual(componentNames(kinds, ["q"], ["2"]), [
    "main", "image_prompt", "hint:*", "noise:*", "image:*", "hint:q", "noise:q", "image:q", "noise_background", "image_background", "reference:*", "reference:2",
  ]);
});
