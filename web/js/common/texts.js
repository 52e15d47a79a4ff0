/** What the pages say: one table a language. */
import texts from "../../texts/en.json" with { type: "json" };

export { texts };

/** A text with its {places} filled in. @param {string} text @param {Record<string, unknown>} values */
export function say(text, values) {
	return text.replace(/\{(\w+)\}/g, (place, name) => String(values[name] ?? place));
}
