/**
 * For tests/unit/test_rules_page.py: reads {data, cases: [{text, preset, phase, keys}]} from the standard input and
 * writes for each case the table that the page shows, as rows of signs, or null where it cannot read the text.
 */
import { readFileSync } from "node:fs";
import { Problem } from "../../web/js/common/problem.js";
import { readMatrix, signOf } from "../../web/js/rules/matrix.js";

const { data, cases } = JSON.parse(readFileSync(0, "utf8"));

function table({ text, preset, phase, keys }) {
  let matrix;
  try {
    matrix = readMatrix(text, data.kinds);
  } catch (error) {
    if (error instanceof Problem) return null;
    throw error;
  }
  const base = data.presets[preset][phase] ?? data.presets[preset].after;
  const rules = { kinds: data.kinds, table: base, cells: matrix[phase] ?? new Map() };
  return keys.map((query) => keys.map((key) => signOf(rules, query, key)).join(""));
}

process.stdout.write(JSON.stringify(cases.map(table)));
