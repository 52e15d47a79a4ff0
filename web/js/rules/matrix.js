/**
 * The rule matrix as a value: reading, writing, what a cell amounts to, and changing cells. The rules are those of
 * attention/rules.py, which refuses and reads the same texts; a test holds the two together.
 */
import { isObject, need, parseJson } from "../common/problem.js";

/** @param {string} name */
export const kindName = (name) => name.split(":", 1)[0];
/** @param {string} name */
export const ownerOf = (name) => name.slice(kindName(name).length + 1);
/** @param {string} name */
const isAll = (name) => ownerOf(name) === "*";

/** @param {string} text @param {Kind[]} kinds @returns {Matrix} */
export function readMatrix(text, kinds) {
  const data = parseJson(text.trim() || "null", "it") ?? {};
  need(isObject(data), "it is not an object with 'before' and 'after'");
  const { version = 1, before, after = {}, ...rest } = data;
  need(version === 1, `it has version ${JSON.stringify(version)}, this pack reads 1; update the pack`);
  for (const name of Object.keys(rest)) need(false, `it has '${name}'; it holds 'before' and 'after' only`);
  return { versioned: "version" in data, before: before === undefined ? null : readCells(before, kinds), after: readCells(after, kinds) };
}

/** @param {any} cells @param {Kind[]} kinds @returns {Cells} */
function readCells(cells, kinds) {
  need(isObject(cells), "a phase is not an object of 'query|key': true or false");
  for (const [cell, allowed] of Object.entries(cells)) {
    const [query, key] = namesOf(cell);
    need(typeof allowed === "boolean", `the rule '${cell}' must be true or false`);
    for (const name of [query, key]) need(isComponent(name, kinds), `the rule '${cell}' names '${name}', which is no component`);
    need(allowed || !isFixed(query, key), `the rule '${cell}' is false, but every component sees itself`);
  }
  return new Map(Object.entries(cells));
}

/** @param {string} name @param {Kind[]} kinds */
function isComponent(name, kinds) {
  const kind = kinds.find((known) => known.name === kindName(name));
  const owner = ownerOf(name);
  if (!kind?.owner) return kind?.name === name;
  return kind.owner === "reference" ? /^(\*|\p{Nd}+)$/u.test(owner) : owner !== "";
}

/** @param {string} cell */
function namesOf(cell) {
  const bar = cell.indexOf("|");
  return bar < 0 ? [cell, ""] : [cell.slice(0, bar), cell.slice(bar + 1)];
}

/** One without anything to keep is the empty text. @param {Matrix} matrix */
export function writeMatrix({ versioned, before, after }) {
  const data = {
    ...(versioned && { version: 1 }),
    ...(before && { before: Object.fromEntries(before) }),
    ...(after.size && { after: Object.fromEntries(after) }),
  };
  return Object.keys(data).length ? JSON.stringify(data) : "";
}

/** What a row sees of a column. @type {CellNow<Sign>} */
export function signOf({ kinds, table, cells }, query, key) {
  const place = (/** @type {string} */ name) => kinds.findIndex((kind) => kind.name === kindName(name));
  /** @type {Covers} */
  const covers = (name, one) => name === one || name === `${kindName(one)}:*`;
  const either = isAll(query) || isAll(key);
  let sign = table[place(query)][place(key)];
  if (sign === "o" && !either) sign = ownerOf(query) === ownerOf(key) ? "x" : "-";
  // A cell for one region is more particular than one for all, so it comes last; otherwise the later one counts.
  let best = -1;
  for (const [cell, allowed] of cells) {
    const names = namesOf(cell);
    const particular = names.filter((name) => !isAll(name)).length;
    if (particular < best || !covers(names[0], query) || !covers(names[1], key)) continue;
    best = particular;
    sign = allowed ? "x" : "-";
  }
  if (sign === "-" && kindName(query) === kindName(key) && (query === key || either)) return either ? "o" : "x";
  return /** @type {Sign} */ (sign);
}

/** Whether a cell can never change: a component sees itself. @param {string} query @param {string} key */
export function isFixed(query, key) {
  return query === key && !isAll(query);
}

/** What a cell becomes when it is pressed: another sign, and in the end the preset's again (null). @type {CellNow<boolean | null>} */
export function nextValue(rules, query, key) {
  const sign = (/** @type {boolean | null} */ value) => signWith(rules, query, key, value);
  const values = [null, true, false].filter((value) => value === null || sign(value) !== sign(null));
  const now = values.map(sign).indexOf(signOf(rules, query, key));
  return values[(now + 1) % values.length];
}

/** @type {CellWith<Sign>} */
function signWith(rules, query, key, value) {
  return signOf({ ...rules, cells: withCell(rules.cells, `${query}|${key}`, value) }, query, key);
}

/** With null: without this cell. @type {WithCell} */
function withCell(cells, cell, value) {
  const next = new Map(cells);
  next.delete(cell);
  return value === null ? next : next.set(cell, value);
}

/** The cells with one set; one that would change nothing is left out. @type {CellWith<Cells>} */
export function setCell(rules, query, key, value) {
  if (isFixed(query, key)) return rules.cells;
  const idle = signWith(rules, query, key, value) === signWith(rules, query, key, null);
  return withCell(rules.cells, `${query}|${key}`, idle ? null : value);
}

/** The owners that cells name: regions (never "*"), or the numbers of references. @type {NamedOwners} */
export function namedOwners({ before, after }, kinds, owner) {
  const names = [...(before?.keys() ?? []), ...after.keys()].flatMap(namesOf);
  const found = names.filter((name) => kinds.find((kind) => kind.name === kindName(name))?.owner === owner && !isAll(name));
  return [...new Set(found.map(ownerOf))];
}

/** Rows and columns: text, all regions, each region, background, references. @type {ComponentNames} */
export function componentNames(kinds, regions, references) {
  /** @type {NamesOf} */
  const of = (owner, ids) => ids.flatMap((id) => kinds.filter((kind) => kind.owner === owner).map((kind) => `${kind.name}:${id}`));
  const first = kinds.findIndex((kind) => kind.owner === "region");
  const single = (/** @type {Kind[]} */ some) => some.filter((kind) => !kind.owner).map((kind) => kind.name);
  return [...single(kinds.slice(0, first)), ...of("region", ["*", ...regions]), ...single(kinds.slice(first)), ...of("reference", ["*", ...references])];
}
