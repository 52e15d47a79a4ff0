/**
 * A DOM element as a widget of a node, in a way that works on the classic canvas and in Nodes 2.0, and what keeps the
 * host's own shortcuts away from it.
 */

/**
 * Add `root` as the widget `name`. Its value, a string, is stored in the workflow and sent with the prompt.
 *
 * @param {any} node
 * @param {string} name
 * @param {string} type the widget's type, the pack's own
 * @param {HTMLElement} root
 * @param {{getValue: () => string, setValue: (value: string) => void, forPrompt?: () => string, minHeight: () => number}} access
 */
export function addValueWidget(node, name, type, root, access) {
  const widget = node.addDOMWidget(name, type, root, {
    getValue: access.getValue,
    setValue: (/** @type {any} */ value) => access.setValue(typeof value === "string" ? value : ""),
    getMinHeight: access.minHeight,
    hideOnZoom: false,
    margin: 4,
  });
  if (access.forPrompt) widget.serializeValue = access.forPrompt;
  return widget;
}

/**
 * Keep events of the page from the graph behind it: the graph would drag a node, delete it, or paste over it.
 * Undo needs more: the host listens on the window before anyone else and leaves alone only text fields, which older
 * versions know by `type` and newer ones by `isContentEditable`. So whatever has the focus in here says it is one.
 *
 * @param {HTMLElement} root
 */
export function keepEventsInside(root) {
  for (const name of ["pointerdown", "mousedown", "dblclick", "keydown", "keyup", "copy", "cut", "paste", "contextmenu"]) {
    root.addEventListener(name, (event) => event.stopPropagation());
  }
  root.addEventListener("focusin", ({ target }) => {
    if (!target || isTextField(target) || Object.hasOwn(target, "isContentEditable")) return;
    Object.defineProperties(target, { isContentEditable: { value: true }, type: { value: "textarea" } });
  });
  root.dataset.captureWheel = "true"; // Nodes 2.0 leaves the wheel to a part that has the focus
  root.addEventListener("wheel", (event) => root.contains(document.activeElement) && event.stopPropagation(), { passive: true });
}

/** Whether an element is a field with an undo of its own in the browser. */
export function isTextField(/** @type {any} */ target) {
  return target instanceof HTMLTextAreaElement || (target instanceof HTMLInputElement && target.type !== "range");
}

/**
 * The id of a node in a run: its own, or inside subgraphs the ids of the nodes around it joined by colons.
 *
 * @param {any} app
 * @param {any} node
 * @returns {string | null}
 */
export function executionId(app, node) {
  /** @type {(graph: any, prefix: string) => string | null} */
  const search = (graph, prefix) => {
    if (!graph) return null;
    if (graph === node.graph) return prefix + node.id;
    for (const outer of graph.nodes ?? []) {
      const found = outer.subgraph ? search(outer.subgraph, `${prefix}${outer.id}:`) : null;
      if (found) return found;
    }
    return null;
  };
  return search(app.rootGraph ?? app.graph, "");
}

/**
 * Have the host notice a change for its own undo and its "modified" mark. It did not in every version, which is why each
 * page has an undo of its own.
 */
export function noteChange(/** @type {any} */ app) {
  app.extensionManager?.workflow?.activeWorkflow?.changeTracker?.captureCanvasState?.();
}
