/** Boxes, patches and the view: what a drag does to numbers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { boxBetween, boxesAt, fitted, handleAt, moved, resized, sharedMove, SMALLEST, snapped, toImage, toScreen, zoomed } from "../../web/js/editor/geometry.js";

const SIZE = [100, 80];
const EDGES = ["n", "s", "e", "w", "ne", "nw", "se", "sw"];

/** Numbers from a seed, so that a failure can be repeated. */
function random(seed) {
  let state = seed;
  return (low, high) => {
    state = (state * 1664525 + 1013904223) % 4294967296;
    return low + (state / 4294967296) * (high - low);
  };
}

function anyBox(number) {
  return boxBetween([number(0, 96), number(0, 76)], [number(0, 96), number(0, 76)], SIZE).map((edge, i) => edge + (i > 1 ? 3 : 0));
}

function isOnImage([x1, y1, x2, y2], [width, height]) {
  return x1 >= 0 && y1 >= 0 && x2 <= width + 1e-9 && y2 <= height + 1e-9 && x1 < x2 && y1 < y2;
}

test("a moved box keeps its size and stays on the image, wherever it is pushed", () => {
  const number = random(1);
  for (let i = 0; i < 500; i += 1) {
    const box = anyBox(number);
    const [x1, y1, x2, y2] = moved(box, number(-300, 300), number(-300, 300), SIZE);
    assert.ok(isOnImage([x1, y1, x2, y2], SIZE));
    assert.ok(Math.abs(x2 - x1 - (box[2] - box[0])) < 1e-9 && Math.abs(y2 - y1 - (box[3] - box[1])) < 1e-9);
  }
  assert.deepEqual(moved([10, 10, 20, 20], 5, -3, SIZE), [15, 7, 25, 17]);
});

test("a resized box moves only the edges of its handle and never turns over", () => {
  const number = random(2);
  for (let i = 0; i < 500; i += 1) {
    const box = anyBox(number);
    const handle = EDGES[i % 8];
    const now = resized(box, handle, number(-300, 300), number(-300, 300), SIZE);
    assert.ok(isOnImage(now, SIZE));
    ["w", "n", "e", "s"].forEach((edge, place) => handle.includes(edge) || assert.equal(now[place], box[place]));
    assert.ok(now[2] - now[0] >= SMALLEST - 1e-9 && now[3] - now[1] >= SMALLEST - 1e-9);
  }
});

test("boxes moved together stop together", () => {
  const [dx, dy] = sharedMove([[0, 0, 10, 10], [80, 10, 95, 20]], 30, 5, SIZE);
  assert.deepEqual([dx, dy], [5, 5]);
});

test("a box drawn in any direction is the same box, cut at the border", () => {
  const wanted = [10, 0, 60, 30];
  for (const [a, b] of [[[10, -20], [60, 30]], [[60, 30], [10, -20]], [[10, 30], [60, -20]]]) assert.deepEqual(boxBetween(a, b, SIZE), wanted);
});

test("snapping puts edges on patch lines or on the border, and keeps at least one patch", () => {
  assert.deepEqual(snapped([3, 15, 40, 50], 16, SIZE), [0, 16, 48, 48]);
  assert.deepEqual(snapped([20, 20, 22, 22], 16, SIZE), [16, 16, 32, 32]);
  assert.deepEqual(snapped([90, 70, 99, 79], 16, SIZE), [96, 64, 100, 80]);
  const number = random(3);
  for (let i = 0; i < 500; i += 1) {
    const box = snapped(anyBox(number), 16, SIZE);
    assert.ok(isOnImage(box, SIZE), String(box));
    box.forEach((edge, place) => assert.ok(edge % 16 === 0 || edge === SIZE[place % 2], String(box)));
  }
});

test("zooming keeps the point under the pointer where it is", () => {
  const view = fitted(SIZE, 500, 300);
  const point = [123, 77];
  const before = toImage(view, point);
  const after = toImage(zoomed(view, 1.7, point), point);
  assert.ok(Math.abs(before[0] - after[0]) < 1e-9 && Math.abs(before[1] - after[1]) < 1e-9);
  const [x1, y1, x2, y2] = toScreen(view, [0, 0, ...SIZE]);
  assert.ok(x1 >= 8 - 1e-9 && y1 >= 8 - 1e-9 && x2 <= 492 + 1e-9 && y2 <= 292 + 1e-9);
});

test("corners come before edges, and the middle of a box is no handle", () => {
  const box = [10, 10, 90, 60];
  assert.equal(handleAt(box, [11, 9], 6), "nw");
  assert.equal(handleAt(box, [50, 61], 6), "s");
  assert.equal(handleAt(box, [92, 30], 6), "e");
  assert.equal(handleAt(box, [50, 30], 6), null);
  assert.equal(handleAt(box, [120, 30], 6), null);
  assert.equal(handleAt([10, 10, 18, 18], [14, 14], 6), null, "a small box can still be moved");
});

test("under a point the smallest box comes first, those that are off are not there", () => {
  const regions = [{ bbox_2d: [0, 0, 90, 70] }, { bbox_2d: [10, 10, 30, 30] }, { bbox_2d: [5, 5, 60, 60], enabled: false }];
  assert.deepEqual(boxesAt(regions, [20, 20]), [1, 0]);
  assert.deepEqual(boxesAt(regions, [50, 50]), [0]);
  assert.deepEqual(boxesAt(regions, [95, 75]), []);
});
