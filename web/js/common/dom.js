/**
 * Elements without markup: every text goes in as text, so a hint can never become HTML.
 *
 * @typedef {string | Node | null | undefined | false} Child
 */

/**
 * Make an element. Of `props`, functions named `onX` listen to the event `x`, `class` is the class name, `dataset` and
 * `style` are objects, booleans switch an attribute on or off, and everything else is an attribute.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [props]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (key.startsWith("on") && typeof value === "function") made.addEventListener(key.slice(2).toLowerCase(), value);
    else if (key === "class") made.className = value;
    else if (key === "dataset") Object.assign(made.dataset, value);
    else if (key === "style") Object.assign(made.style, value);
    else if (key === "value") /** @type {any} */ (made).value = value;
    else setAttribute(made, key, value);
  }
  fill(made, children);
  return made;
}

/** Set an attribute; true and false switch it (aria-... attributes say "true" and "false"), null removes it. */
export function setAttribute(/** @type {Element} */ target, /** @type {string} */ name, /** @type {any} */ value) {
  if (typeof value === "boolean" && !name.startsWith("aria-")) target.toggleAttribute(name, value);
  else if (value === null || value === undefined) target.removeAttribute(name);
  else if (target.getAttribute(name) !== String(value)) target.setAttribute(name, String(value));
}

/**
 * Put children in place of what is there; empty ones are left out.
 *
 * @param {Element} target
 * @param {Child[]} children
 */
export function fill(target, children) {
  target.replaceChildren(...children.filter((child) => child !== null && child !== undefined && child !== false).map(asNode));
}

function asNode(/** @type {any} */ child) {
  return child instanceof Node ? child : document.createTextNode(String(child));
}

/**
 * A button with a text or a sign, and a tooltip that is also its name for screen readers when the text is only a sign.
 *
 * @param {string} text
 * @param {string} tooltip
 * @param {(event: MouseEvent) => void} onClick
 * @param {Record<string, any>} [props]
 */
export function button(text, tooltip, onClick, props = {}) {
  const label = text.length > 2 ? {} : { "aria-label": tooltip };
  return element("button", { type: "button", class: "replan-button", title: tooltip, ...label, onclick: onClick, ...props }, text);
}

/** The text with half characters (lone surrogates) replaced: no file and no tokenizer takes them. */
export function wellFormed(/** @type {string} */ text) {
  return text.replace(/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g, "\uFFFD");
}

/** At most `limit` characters (whole ones) of one line of a text, with an ellipsis when something is left out. */
export function shortened(/** @type {string} */ text, /** @type {number} */ limit) {
  const line = text.replace(/\s+/g, " ").trim();
  if (line.length <= limit) return line;
  const characters = [...line.slice(0, limit * 2)];
  return characters.length <= limit ? characters.join("") : `${characters.slice(0, limit - 1).join("")}\u2026`;
}
