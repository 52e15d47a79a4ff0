/** Shows what nodes tell while they run (nodes/notices.py) as messages of ComfyUI: each text once a run, those of a moment together. */
const EVENT = "replan.notice";
/** Milliseconds in which notices are gathered, and how many stand in one message. */
const GATHER = 400;
const MOST = 4;

/** @param {Host} host */
function start({ app, api }) {
  /** @type {Set<string>} */
  const told = new Set();
  /** @type {{name: string, text: string}[]} */
  let waiting = [];
  /** @type {object[]} */
  let shown = [];
  const show = () => {
    const { toast } = app.extensionManager;
    const names = new Set(waiting.map(({ name }) => name));
    const lines = waiting.map(({ name, text }) => (names.size > 1 ? `${name}: ${text}` : text));
    const rest = lines.splice(MOST).length;
    const message = { severity: "warn", summary: names.size > 1 ? "RePlan" : [...names][0], detail: [...lines, ...(rest ? [`${rest} more in ComfyUI's log`] : [])].join("\n\n") };
    shown.push(message);
    waiting = [];
    toast.add(message);
  };
  api.addEventListener("execution_start", () => {
    told.clear();
    for (const message of shown) app.extensionManager.toast.remove(message);
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
