/**
 * The rule matrix as a value: reading, writing, what a cell amounts to, and changing cells. The rules are those of
 * attention/rules.py, which refuses and reads the same texts; a test holds the two together.
 *
 * A name is a component ("main", "noise:r1") or all of a kind ("noise:*"). A sign says what a row sees of a column:
 * "x" all, "-" nothing, "o" only what belongs to its own region.
 *
 * @typedef {{name: string, label: string, words: string, owner: "" | "region" | "reference"}} Kind
 * @typedef {{before: string[] | null, after: string[]}} Table
 * @typedef {{kinds: Kind[], presets: Record<string, Table>, switch: Record<string, number>}} Data
 *   attention/rules_page.py
 * @typedef {Map<string, boolean>} Cells "query|key" -> may see, in their order
 * @typedef {"before" | "after"} Phase
 * @typedef {{versioned: boolean, before: Cells | null, after: Cells}} Matrix
 * @typedef {"x" | "-" | "o"} Sign
 */

/** The text cannot be read as a matrix. */
export class MatrixProblem extends Error {}

/** @param {string} name */
const kindName = (name) => name.split(":", 1)[0];
/** @param {string} name */
export const ownerOf = (name) => name.slice(kindName(name).length + 1);
/** @param {string} name */
const isAll = (name) => ownerOf(name) === "*";

/** @param {string} text @param {Kind[]} kinds @returns {Matrix} */
export function readMatrix(text, kinds) {
  if (!text.trim()) return { versioned: false, before: null, after: new Map() };
  let data;
  try {
    data = JSON.parse(text);
  } catch (error) {
    throw new MatrixProblem(`it is not JSON (${/** @type {Error} */ (error).message})`);
  }
  if (data === null) data = {};
  if (!isObject(data)) throw new MatrixProblem("it is not an object with 'before' and 'after'");
  const { version = 1, before, after = {}, ...rest } = data;
  if (version !== 1) throw new MatrixProblem(`it has version ${JSON.stringify(version)}, this pack reads 1; update the pack`);
  for (const name of Object.keys(rest)) throw new MatrixProblem(`it has '${name}'; it holds 'before' and 'after' only`);
  return { versioned: "version" in data, before: before === undefined ? null : readCells(before, kinds), after: readCells(after, kinds) };
}

/** @param {any} data @returns {data is Record<string, any>} */
function isObject(data) {
  return typeof data === "object" && data !== null && !Array.isArray(data);
}

/** @param {any} cells @param {Kind[]} kinds @returns {Cells} */
function readCells(cells, kinds) {
  if (!isObject(cells)) throw new MatrixProblem("a phase is not an object of 'query|key': true or false");
  for (const [name, allowed] of Object.entries(cells)) {
    const [query, key] = namesOf(name);
    if (typeof allowed !== "boolean") throw new MatrixProblem(`the rule '${name}' must be true or false`);
    for (const one of [query, key]) {
      const kind = kinds.find((known) => known.name === kindName(one));
      const owner = ownerOf(one);
      if (!kind || Boolean(kind.owner) !== Boolean(owner) || one.endsWith(":") || (kind.owner === "reference" && !/^(\*|\p{Nd}+)$/u.test(owner))) {
        throw new MatrixProblem(`the rule '${name}' names '${one}', which is no component`);
      }
    }
    if (query === key && !isAll(query) && !allowed) throw new MatrixProblem(`the rule '${name}' is false, but every component sees itself`);
  }
  return new Map(Object.entries(cells));
}

/** The two names of a cell. @param {string} cell */
function namesOf(cell) {
  const bar = cell.indexOf("|");
  return bar < 0 ? [cell, ""] : [cell.slice(0, bar), cell.slice(bar + 1)];
}

/** Write a matrix; one without anything to keep is the empty text. @param {Matrix} matrix */
export function writeMatrix({ versioned, before, after }) {
  const data = {
    ...(versioned ? { version: 1 } : {}),
    ...(before ? { before: Object.fromEntries(before) } : {}),
    ...(after.size ? { after: Object.fromEntries(after) } : {}),
  };
  return Object.keys(data).length ? JSON.stringify(data) : "";
}

/**
 * What a row sees of a column.
 * @param {Data} data @param {string[]} table of the preset @param {Cells} cells @param {string} query @param {string} key
 * @returns {Sign}
 */
export function signOf({ kinds }, table, cells, query, key) {
  const place = (/** @type {string} */ name) => kinds.findIndex((kind) => kind.name === kindName(name));
  let sign = /** @type {Sign} */ (table[place(query)][place(key)]);
  const either = isAll(query) || isAll(key);
  if (sign === "o" && !either) sign = ownerOf(query) === ownerOf(key) ? "x" : "-";
  // A cell for one region is more particular than one for all, so it comes last; otherwise the later one counts.
  const widths = [[`${kindName(query)}:*`, `${kindName(key)}:*`], [`${kindName(query)}:*`, key], [query, `${kindName(key)}:*`], [query, key]];
  const names = new Set(widths.map((pair) => pair.join("|")));
  let best = -1;
  for (const [cell, allowed] of cells) {
    if (!names.has(cell)) continue;
    const particular = namesOf(cell).filter((name) => !isAll(name)).length;
    if (particular < best) continue;
    best = particular;
    sign = allowed ? "x" : "-";
  }
  if (sign === "-" && kindName(query) === kindName(key) && (query === key || either)) return either ? "o" : "x";
  return sign;
}

/** Whether a cell can never change: a component sees itself. @param {string} query @param {string} key */
export function isFixed(query, key) {
  return query === key && !isAll(query);
}

/**
 * What a cell becomes when it is pressed: another sign, and in the end the preset's again (null).
 * @param {Data} data @param {string[]} table @param {Cells} cells @param {string} query @param {string} key
 * @returns {boolean | null}
 */
export function nextValue(data, table, cells, query, key) {
  const inherited = signWith(data, table, cells, query, key, null);
  /** @type {(boolean | null)[]} */
  const values = [null, true, false].filter((value) => value === null || signWith(data, table, cells, query, key, value) !== inherited);
  const now = signOf(data, table, cells, query, key);
  const at = values.findIndex((value) => signWith(data, table, cells, query, key, value) === now);
  return values[(at + 1) % values.length];
}

/** @param {Data} data @param {string[]} table @param {Cells} cells @param {string} query @param {string} key @param {boolean | null} value */
function signWith(data, table, cells, query, key, value) {
  return signOf(data, table, withCell(cells, `${query}|${key}`, value), query, key);
}

/** @param {Cells} cells @param {string} name @param {boolean | null} value null: without this cell @returns {Cells} */
function withCell(cells, name, value) {
  const next = new Map(cells);
  next.delete(name);
  if (value !== null) next.set(name, value);
  return next;
}

/**
 * The cells with one set; one that would change nothing is left out.
 * @param {Data} data @param {string[]} table @param {Cells} cells @param {string} query @param {string} key
 * @param {boolean | null} value @returns {Cells}
 */
export function setCell(data, table, cells, query, key, value) {
  if (isFixed(query, key)) return cells;
  const needed = value !== null && signWith(data, table, cells, query, key, value) !== signWith(data, table, cells, query, key, null);
  return withCell(cells, `${query}|${key}`, needed ? value : null);
}

/**
 * The owners that cells name: regions (never "*"), or the numbers of references.
 * @param {Matrix} matrix @param {Kind[]} kinds @param {"region" | "reference"} owner @returns {string[]}
 */
export function namedOwners({ before, after }, kinds, owner) {
  const names = [...(before?.keys() ?? []), ...after.keys()].flatMap(namesOf);
  const found = names.filter((name) => kinds.find((kind) => kind.name === kindName(name))?.owner === owner && !isAll(name));
  return [...new Set(found.map(ownerOf))];
}

/**
 * Rows and columns: text, all regions, each region, background, references.
 * @param {Kind[]} kinds @param {string[]} regions @param {string[]} references @returns {string[]}
 */
export function componentNames(kinds, regions, references) {
  const perRegion = kinds.filter((kind) => kind.owner === "region");
  const first = kinds.indexOf(perRegion[0]);
  const single = (/** @type {Kind[]} */ some) => some.filter((kind) => !kind.owner).map((kind) => kind.name);
  return [
    ...single(kinds.slice(0, first)),
    ...["*", ...regions].flatMap((id) => perRegion.map((kind) => `${kind.name}:${id}`)),
    ...single(kinds.slice(first)),
    ...kinds.filter((kind) => kind.owner === "reference").flatMap((kind) => ["*", ...references].map((n) => `${kind.name}:${n}`)),
  ];
}
