import { button, setAttribute } from "./dom.js";

/** @param {Record<string, CommandWords>} words @param {Record<string, CommandDoes | undefined>} does @returns {Command[]} */
export function commandsFrom(words, does) {
	return Object.entries(words).flatMap(([name, said]) => (does[name] ? [{ ...said, ...does[name] }] : []));
}

/** Buttons for the commands that have a text; `update` shows on them what can be done now. @param {Command[]} commands */
export function makeButtons(commands) {
	const made = commands.flatMap((command) => {
		const { text, title, keys, run, main } = command;
		const one = text && button([text, keys ? `${title} (${keys[0]})` : title], () => void run());
		if (one && main) one.classList.add("is-main");
		return one ? [{ ...command, one }] : [];
	});
	const update = () => {
		for (const { one, can, pressed, shown } of made) {
			if (can) one.disabled = !can();
			if (pressed) setAttribute(one, "aria-pressed", pressed());
			if (shown) one.hidden = !shown();
		}
	};
	return { buttons: made.map(({ one }) => one), update };
}

/** Run what a key is for, named as commands do: "N", "Ctrl+Shift+Z". Alt leaves a letter what it is, also where it would type a sign. */
export function runKey(commands, event) {
	const { ctrlKey, metaKey, shiftKey, altKey, code } = event;
	const key = altKey && /^Key.$/.test(code) ? code[3] : event.key;
	const ctrl = ctrlKey || metaKey;
	const shift = shiftKey && (ctrl || key.length > 1); // "?" is the key, whatever it takes to type it
	const name = `${ctrl ? "Ctrl+" : ""}${shift ? "Shift+" : ""}${key.length > 1 ? key : key.toUpperCase()}`;
	if (commands.some(({ keys, run }) => keys?.includes(name) && run() !== false)) event.preventDefault();
}
