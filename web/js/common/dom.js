/** Elements without markup: every text goes in as text, so a hint can never become HTML. */

/**
 * Make an element. Of `props`, `onx` listens to the event `x`, `class` is the class name, `dataset` and `style` are
 * objects, booleans switch an attribute on or off, and everything else is an attribute.
 * @template {keyof HTMLElementTagNameMap} T @param {T} tag @param {Props} [props] @param {...Child} children
 */
export function element(tag, props = {}, ...children) {
	const made = document.createElement(tag);
	for (const [key, value] of Object.entries(props)) {
		if (key === "class") made.className = value;
		else if (key === "dataset" || key === "style") Object.assign(made[key], value);
		else if (key === "value") Object.assign(made, { value });
		else if (key.startsWith("on")) made.addEventListener(key.slice(2), value); // as a property its "false" would stop the event
		else setAttribute(made, key, value);
	}
	fill(made, children);
	return made;
}

/** Set an attribute; true and false switch it, but aria-... says them. */
export function setAttribute(target, name, value) {
	if (typeof value === "boolean" && !name.startsWith("aria-")) target.toggleAttribute(name, value);
	else if (target.getAttribute(name) !== String(value)) target.setAttribute(name, String(value));
}

/** Put children in place of what is there. */
export function fill(target, children) {
	target.replaceChildren(...children.filter((child) => typeof child === "string" || child instanceof Node));
}

/** A button; its tooltip is also its name for screen readers when the text is only a sign. @param {string[]} words text and tooltip */
export function button([text, title], onclick, props = {}) {
	return element("button", { type: "button", class: "replan-button", title, ...(text.length < 3 && { "aria-label": title }), onclick, ...props }, text);
}

/** At most `limit` whole characters of a text on one line, with an ellipsis for the rest. */
export function shortened(text, limit) {
	const line = text.replace(/\s+/g, " ").trim();
	const characters = [...line.slice(0, limit * 2)];
	return line.length <= limit || characters.length <= limit ? line.slice(0, limit * 2) : `${characters.slice(0, limit - 1).join("")}\u2026`;
}

/** Style sheets of web/css, to stand beside what they are for. */
export function styleSheets(...names) {
	return names.map((name) => element("link", { rel: "stylesheet", href: new URL(`../../css/${name}`, import.meta.url).href }));
}
