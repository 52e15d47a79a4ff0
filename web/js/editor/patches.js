/** The patches that each region covers, counted by the server: asked while they are shown, one question at a time. */
import { withoutMarks } from "./plan.js";

export class Patches {
	/** Region id -> run lengths over the patches, the first run outside. @type {Record<string, number[]>} */
	cells = {};
	problem = "";
	asked = "";
	busy = false;

	/** @param {Ask} ask @param {() => void} onAnswer */
	constructor(ask, onAnswer) {
		this.ask = ask;
		this.onAnswer = onAnswer;
	}

	/** Ask again when something has changed; what changes meanwhile is asked after the answer. @param {EditorState} state */
	async update({ plan, view: { patches, patch, expand } }) {
		if (!patches || this.busy) return;
		const { version, image_size, regions } = withoutMarks(plan);
		const question = { patch, expand, plan: { version, image_size, regions: regions.map(({ hint, ...region }) => region) } };
		const text = JSON.stringify(question);
		if (text === this.asked) return;
		this.asked = text;
		this.busy = true;
		this.problem = "";
		try {
			({ cells: this.cells } = await this.ask("patches", question));
		} catch (error) {
			this.problem = error.message;
		}
		this.busy = false;
		this.onAnswer();
	}
}
