/**
 * The rule matrix as a value: reading, writing, what a cell amounts to, and changing cells. The rules are those of
 * attention/rules.py, which refuses and reads the same texts; a test holds the two together.
 */
import { isObject, need, parseJson } from "../common/problem.js";

/** What stands for a region's id (attention/rules.py): every region, or every one but that of the other side of a cell. */
export const EVERY = "*";
export const ANOTHER = "other";

/** @param {string} name */
export const kindName = (name) => name.split(":", 1)[0];
/** @param {string} name */
export const ownerOf = (name) => name.slice(kindName(name).length + 1);
/** How little particular a name is. @param {string} name */
const breadth = (name) => ({ [EVERY]: 2, [ANOTHER]: 1 })[ownerOf(name)] ?? 0;
/** @param {string} name @param {Kind[]} kinds */
const kindOf = (name, kinds) => kinds.find((kind) => kind.name === kindName(name));

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
    need(!isEmpty(query, key, kinds), `in the rule '${cell}' the other side of '${ANOTHER}' is no region`);
    need(allowed || !isFixed(query, key), `the rule '${cell}' is false, but every component sees itself`);
  }
  return new Map(Object.entries(cells));
}

/** @param {string} name @param {Kind[]} kinds */
function isComponent(name, kinds) {
  const kind = kindOf(name, kinds);
  const owner = ownerOf(name);
  if (!kind?.owner) return kind?.name === name;
  return kind.owner === "reference" ? /^(\*|\p{Nd}+)$/u.test(owner) : owner !== "";
}

/** Whether a cell speaks of nothing: another region than that of a side that has none. @param {string} query @param {string} key @param {Kind[]} kinds */
export function isEmpty(query, key, kinds) {
  const sides = [query, key].filter((name) => ownerOf(name) !== ANOTHER);
  return sides.length < 2 && !sides.some((name) => kindOf(name, kinds)?.owner === "region");
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

/**
 * What a row sees of a column. A pair of names stands for pairs of components, of the same owner, of different ones, or
 * both; whether those of each sort see one another is decided by the table and then by the cells.
 * @param {Rules} rules @param {string} query @param {string} key @returns {Sign}
 */
export function signOf({ kinds, table, cells }, query, key) {
  const place = (/** @type {string} */ name) => kinds.findIndex((kind) => kind.name === kindName(name));
  const [row, column] = [ownerOf(query), ownerOf(key)];
  const base = table[place(query)][place(key)];
  let [same, different] = [base !== "-", base === "x"];
  const covers = (/** @type {string} */ name, /** @type {string} */ one) => name === one || (breadth(name) > 0 && kindName(name) === kindName(one));
  // The less particular cells first: of two that speak of the same pair the last one counts.
  const ordered = [...cells].map(([cell, allowed]) => ({ names: namesOf(cell), allowed }));
  ordered.sort((one, two) => breadth(two.names[0]) + breadth(two.names[1]) - breadth(one.names[0]) - breadth(one.names[1]));
  for (const { names, allowed } of ordered) {
    if (!covers(names[0], query) || !covers(names[1], key)) continue;
    if (!names.some((name) => ownerOf(name) === ANOTHER)) same = allowed;
    different = allowed;
  }
  if (kindName(query) === kindName(key)) same = true;
  if (row === ANOTHER || column === ANOTHER) same = different;
  else if (row !== EVERY && column !== EVERY) [same, different] = row === column ? [same, same] : [different, different];
  return same ? (different ? "x" : "o") : different ? "d" : "-";
}

/** Whether a cell can never change: a component sees itself. @param {string} query @param {string} key */
export function isFixed(query, key) {
  return query === key && breadth(query) === 0;
}

/** What a cell becomes when it is pressed: another sign, and in the end the preset's again (null). @param {Rules} rules @param {string} query @param {string} key */
export function nextValue(rules, query, key) {
  const sign = (/** @type {boolean | null} */ value) => signWith(rules, query, key, value);
  const values = [null, true, false].filter((value) => value === null || sign(value) !== sign(null));
  const now = values.map(sign).indexOf(signOf(rules, query, key));
  return values[(now + 1) % values.length];
}

/** @param {Rules} rules @param {string} query @param {string} key @param {boolean | null} value */
function signWith(rules, query, key, value) {
  return signOf({ ...rules, cells: withCell(rules.cells, `${query}|${key}`, value) }, query, key);
}

/** With null: without this cell. @param {Cells} cells @param {string} cell @param {boolean | null} value */
function withCell(cells, cell, value) {
  const next = new Map(cells);
  next.delete(cell);
  return value === null ? next : next.set(cell, value);
}

/**
 * The cells with one set; one that would change nothing is left out.
 * @param {Rules} rules @param {string} query @param {string} key @param {boolean | null} value
 */
export function setCell(rules, query, key, value) {
  if (isFixed(query, key) || isEmpty(query, key, rules.kinds)) return rules.cells;
  const idle = signWith(rules, query, key, value) === signWith(rules, query, key, null);
  return withCell(rules.cells, `${query}|${key}`, idle ? null : value);
}

/** The owners that cells name: regions (ANOTHER too), or the numbers of references. @param {Matrix} matrix @param {Kind[]} kinds @param {Kind["owner"]} owner */
export function namedOwners({ before, after }, kinds, owner) {
  const names = [...(before?.keys() ?? []), ...after.keys()].flatMap(namesOf);
  return [...new Set(names.filter((name) => kindOf(name, kinds)?.owner === owner).map(ownerOf))].filter((one) => one !== EVERY);
}

/** Rows and columns: text, all regions, each region, background, references. @param {Kind[]} kinds @param {string[]} regions @param {string[]} references */
export function componentNames(kinds, regions, references) {
  const of = (/** @type {Kind["owner"]} */ owner, /** @type {string[]} */ ids) => ids.flatMap((id) => kinds.filter((kind) => kind.owner === owner).map((kind) => `${kind.name}:${id}`));
  const first = kinds.findIndex((kind) => kind.owner === "region");
  const single = (/** @type {Kind[]} */ some) => some.filter((kind) => !kind.owner).map((kind) => kind.name);
  return [...single(kinds.slice(0, first)), ...of("region", [EVERY, ...regions]), ...single(kinds.slice(first)), ...of("reference", [EVERY, ...references])];
}
