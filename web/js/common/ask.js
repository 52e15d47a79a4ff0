/** Questions to the pack's own route (nodes/page_routes.py): what Python knows is not written down here a second time. */
import { Problem } from "./problem.js";
import { say, texts } from "./texts.js";

/** Milliseconds: far more than any answer takes, but a server that loads a model may be slow to accept. */
const PATIENCE = 20_000;

/** The answer, or Problem with words for a person. @param {any} api of ComfyUI @param {string} question @param {object} data */
export async function ask(api, question, data) {
	const sent = { method: "POST", body: JSON.stringify(data), headers: { "Content-Type": "application/json" }, signal: AbortSignal.timeout(PATIENCE) };
	const response = await api.fetchApi(`/replan/${question}`, sent).catch(() => null);
	if (!response) throw new Problem(texts.common.noAnswer);
	const answer = await response.json().catch(() => ({}));
	if (!response.ok) throw new Problem(answer.error ?? say(texts.common.otherAnswer, response));
	return answer;
}
