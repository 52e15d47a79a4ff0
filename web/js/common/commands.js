import { button, setAttribute } from "./dom.js";

/** Buttons for the commands that have a text, and what shows on them what can be done now. @param {Command[]} commands */
export function makeButtons(commands) {
  const made = commands.flatMap((command) => {
    const { text, title, keys, run, main } = command;
    const one = text && button(text, keys ? `${title} (${keys[0]})` : title, () => void run());
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

/** A key as commands name it: "N", "Ctrl+Shift+Z". @param {KeyboardEvent} event */
function keyName({ key, ctrlKey, metaKey, shiftKey }) {
  const ctrl = ctrlKey || metaKey;
  const shift = shiftKey && (ctrl || key.length > 1); // "?" is the key, whatever it takes to type it
  return `${ctrl ? "Ctrl+" : ""}${shift ? "Shift+" : ""}${key.length > 1 ? key : key.toUpperCase()}`;
}

/** @param {Command[]} commands @param {KeyboardEvent} event */
export function runKey(commands, event) {
  const name = keyName(event);
  if (commands.some(({ keys, run }) => keys?.includes(name) && run() !== false)) event.preventDefault();
}
