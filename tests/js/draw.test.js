/** What is drawn, as calls of a canvas' context that are written down. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { draw } from "../../web/js/editor/draw.js";
import { VIEW } from "../../web/js/editor/stored.js";
import { region } from "./plans.js";

/** The labels of a drawing, in its order: their text and where they lie, [left, right]. */
function labelsOf(scene) {
  const labels = [];
  const calls = {
    measureText: (text) => ({ width: text.length * 6 }),
    fillText: (text, x) => labels.push({ text, place: [x - 4, x + text.length * 6 + 4] }),
  };
  draw(new Proxy(calls, { get: (target, name) => target[name] ?? (() => {}), set: () => true }), { view: VIEW, image: null, band: null, cells: {}, ...scene });
  return labels;
}

test("on a narrow canvas the selected region's label leaves its neighbour's to be read", () => {
  const regions = [region("a", [0, 50, 90, 90], "a hint that is much longer than its box is wide, and goes on"), region("b", [150, 50, 240, 90])];
  const [other, chosen] = labelsOf({ regions, size: [300, 200], selection: ["a"], port: { scale: 1, x: 0, y: 0 }, width: 300, height: 200 });
  assert.deepEqual([other.text.slice(0, 2), chosen.text.slice(0, 2)], ["b:", "a:"]);
  assert.ok(chosen.place[1] <= other.place[0], JSON.stringify([chosen, other]));
});

test("a region is drawn over the patches that the server counted, row by row, and not at all where it is off", () => {
  const boxes = [];
  const port = { scale: 1, x: 0, y: 0 };
  const scene = { size: [40, 30], selection: [], port, width: 40, height: 30, view: { ...VIEW, patches: true, patch: 16 }, image: null, band: null };
  const calls = { fillRect: (...box) => boxes.push(box.join()), measureText: () => ({ width: 10 }) };
  const context = new Proxy(calls, { get: (target, name) => target[name] ?? (() => {}), set: () => true });
  const regions = [region("a", [0, 0, 40, 30]), region("off", [0, 0, 40, 30], "", { enabled: false })];
  draw(context, { ...scene, regions, cells: { a: [1, 4, 1], off: [0, 6] } }); // 3 columns, 2 rows
  for (const box of ["16,0,24,16", "0,16,32,14"]) assert.equal(boxes.filter((one) => one === box).length, 1, boxes.join(" "));
  assert.ok(!boxes.includes("0,0,40,16"));
});

test("an image of another shape than the plan's stands undistorted in its frame, a rounded side is no other shape", () => {
  const places = [];
  const calls = { drawImage: (_, ...place) => places.push(place.map(Math.round).join()), measureText: () => ({ width: 10 }) };
  const context = new Proxy(calls, { get: (target, name) => target[name] ?? (() => {}), set: () => true });
  const scene = { regions: [], size: [300, 200], selection: [], port: { scale: 1, x: 0, y: 0 }, width: 300, height: 200, view: VIEW, band: null, cells: {} };
  for (const [naturalWidth, naturalHeight] of [[400, 400], [4240, 2832]]) draw(context, { ...scene, image: { naturalWidth, naturalHeight } });
  assert.deepEqual(places, ["50,0,200,200", "0,0,300,200"]);
});
