/** Shows what nodes tell (nodes/notices.py) as messages of ComfyUI: each text once a run, those of a moment together. */
import { say, texts } from "./common/texts.js";

const EVENT = "replan.notice";
/** Milliseconds in which notices are gathered, and how many stand in one message. */
const GATHER = 400;
const MOST = 4;
/** Milliseconds that a message stays: it lies over the graph. */
const LIFE = 15_000;

function start({ app, api }) {
	const told = new Set();
	/** @type {{name: string, text: string}[]} */
	let waiting = [];
	/** @type {object[]} */
	let shown = [];
	const show = () => {
		const names = [...new Set(waiting.map(({ name }) => name))];
		const lines = waiting.map(({ name, text }) => (names.length > 1 ? `${name}: ${text}` : text));
		const count = lines.splice(MOST).length;
		if (count) lines.push(say(texts.common.moreInLog, { count }));
		const summary = names.length > 1 ? "RePlan" : names[0], detail = lines.join("\n\n");
		const message = { severity: "warn", life: LIFE, summary, detail };
		const { toast } = app.extensionManager;
		waiting = [];
		// Since 1.58 a message is taken away by its id.
		if (toast.dismiss) shown.push(toast.warning(summary, { description: detail, duration: LIFE }));
		else toast.add(message), shown.push(message);
	};
	api.addEventListener("execution_start", () => {
		told.clear();
		const { toast } = app.extensionManager;
		for (const message of shown) (toast.dismiss ?? toast.remove)(message);
		shown = [];
	});
	api.addEventListener(EVENT, (/** @type {CustomEvent} */ { detail: { node, name, text } }) => {
		const key = `${node} ${text}`;
		if (told.has(key)) return;
		told.add(key);
		if (!waiting.length) setTimeout(show, GATHER);
		waiting.push({ name, text });
	});
}

export const noticesPage = { widgets: {}, start, extend() {} };
