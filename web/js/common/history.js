/** Undo and redo over values that are never changed in place. @template T */
export class History {
	/** @type {T[]} */
	past = [];
	/** @type {T[]} */
	future = [];
	/** @type {string | null} */
	key = null;

	/** @param {T} value @param {number} [limit] how many steps back are kept */
	constructor(value, limit = 200) {
		this.value = value;
		this.limit = limit;
	}

	/** Take a value and forget all steps. */
	reset(value) {
		Object.assign(this, new History(value, this.limit));
	}

	/** Take a new value; steps with the same key in a row (typing into one field, one drag) are one to undo. @param {T} value @param {string | null} [key] */
	push(value, key = null) {
		if (value === this.value) return;
		if (key === null || key !== this.key || this.past.length === 0) {
			this.past.push(this.value);
			if (this.past.length > this.limit) this.past.shift();
		}
		this.key = key;
		this.value = value;
		this.future = [];
	}

	/** Let the next step with the same key be one of its own: a field was left, a drag ended. */
	close() {
		this.key = null;
	}

	/** Take back the step that is still open under `key` as if it had never been. */
	cancel(key) {
		const value = key === this.key ? this.past.pop() : undefined;
		if (value !== undefined) this.value = value;
		this.key = null;
		return value !== undefined;
	}

	/** Change every step alike, as when the image turns out to have another size. */
	map(change) {
		this.value = change(this.value);
		this.past = this.past.map(change);
		this.future = this.future.map(change);
	}

	get canUndo() {
		return this.past.length > 0;
	}

	get canRedo() {
		return this.future.length > 0;
	}

	undo() {
		return this.move(this.past, this.future);
	}

	redo() {
		return this.move(this.future, this.past);
	}

	/** @returns {boolean} whether there was a step */
	move(from, to) {
		const value = from.pop();
		if (value === undefined) return false;
		to.push(this.value);
		this.value = value;
		this.key = null;
		return true;
	}
}
