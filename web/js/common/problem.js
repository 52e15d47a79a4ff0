import { say, texts } from "./texts.js";

/** A text from outside that cannot be used; the message says what was found and what to do. */
export class Problem extends Error {}

/** @param {unknown} holds @param {string} message @returns {asserts holds} */
export function need(holds, message) {
	if (!holds) throw new Problem(message);
}

/** @param {string} text @param {string} what it is */
export function parseJson(text, what) {
	try {
		return JSON.parse(text);
	} catch (error) {
		throw new Problem(say(texts.common.notJson, { what, why: error.message }));
	}
}

/** @param {any} value */
export function isObject(value) {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}
