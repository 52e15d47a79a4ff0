/** Questions to the pack's own route (nodes/page_routes.py): what Python knows is not written down here a second time. */
import { Problem } from "./problem.js";

/** Far more than any answer takes; a server that is busy with a model may be slow to accept. */
const PATIENCE = 20_000;

/** The answer, or Problem with words for a person. @param {any} api of ComfyUI @param {string} question @param {object} data */
export async function ask(api, question, data) {
  let response;
  try {
    response = await api.fetchApi(`/replan/${question}`, { method: "POST", body: JSON.stringify(data), headers: { "Content-Type": "application/json" }, signal: AbortSignal.timeout(PATIENCE) });
  } catch {
    throw new Problem("ComfyUI does not answer; nothing here is lost. Try again when it runs");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(answer.error ?? `ComfyUI answered ${response.status}; was it started with this version of the pack?`);
  return answer;
}
