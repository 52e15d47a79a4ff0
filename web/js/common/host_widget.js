/** A DOM element as a widget of a node, on the classic canvas and in Nodes 2.0, without ComfyUI's own shortcuts. */

/**
 * Show an input of a nodeData, a text field in its schema, as a widget of our own. Where these scripts do not load the field
 * stays, and with it the value: it is shown, saved and sent, where an input of an unknown type would lose it.
 */
export function takeOver(input, type) {
	Object.assign(input[1], { widgetType: type, tooltip: undefined }); // the words would lie over all of the widget
}

/** Add `root` as the widget `name`; the value of `page` is stored in the workflow and sent with the prompt. */
export function addValueWidget(app, node, name, type, root, page, getMinHeight) {
	// After an undo of the graph's own Nodes 2.0 goes on to show the element of the node that was there under the same id:
	// what is changed in it would be lost. The element of this node takes its place.
	after(node, "onAdded", () => setTimeout(() => requestAnimationFrame(() => {
		if (root.isConnected || app.canvas?.graph?.getNodeById(node.id) !== node) return;
		document.querySelector(`[data-node-id="${node.id}"] .${root.className}`)?.replaceWith(root);
	})));
	const widget = node.addDOMWidget(name, type, root, {
		getValue: () => page.value,
		setValue: (value) => page.setValue(typeof value === "string" ? value : value == null ? "" : JSON.stringify(value)),
		getMinHeight,
		hideOnZoom: false,
		margin: 4,
	});
	// The right side panel sets the width of what it shows, which on the classic canvas is this very element.
	Object.defineProperty(widget, "width", { get: () => undefined, set() {} });
	return widget;
}

export function widgetOf(node, name) {
	return node?.widgets?.find((widget) => widget.name === name);
}

/** Run `call` after one of ComfyUI's callbacks, which others may wrap too. @param {any} target @param {string} name @param {(this: any, ...args: any[]) => void} call */
export function after(target, name, call) {
	const first = target[name];
	target[name] = function (...args) {
		const answer = first?.apply(this, args);
		call.apply(this, args);
		return answer;
	};
}

/**
 * What `known` has for the nodes of the workflow as it is now. Nodes do not listen themselves: ComfyUI does not tell one in a
 * subgraph that its workflow was closed. @template T @param {any} app @param {WeakMap<ComfyNode, T>} known @returns {T[]}
 */
export function ofAllNodes(app, known) {
	return allNodes(app).flatMap((node) => known.get(node) ?? []);
}

/** @returns {ComfyNode[]} */
export function allNodes(app) {
	const root = app.rootGraph ?? app.graph;
	return [root, ...(root?.subgraphs?.values() ?? [])].flatMap((one) => one?.nodes ?? []);
}

/**
 * Keep events of the page from the graph behind it, which would drag a node, delete it, or paste over it; but for ComfyUI's
 * keys to run, save and open. Undo needs more: ComfyUI listens on the window first and leaves alone only text fields, which
 * older versions know by `type` and newer ones by `isContentEditable`. So whatever has the focus in here says it is one.
 */
export function keepEventsInside(root) {
	for (const name of ["pointerdown", "mousedown", "dblclick", "keydown", "keyup", "copy", "cut", "paste", "contextmenu"]) {
		root.addEventListener(name, (event) => {
			const { ctrlKey, metaKey, key = "" } = /** @type {KeyboardEvent} */ (event);
			if (!(ctrlKey || metaKey) || !["enter", "s", "o"].includes(key.toLowerCase())) event.stopPropagation();
		});
	}
	root.addEventListener("focusin", ({ target }) => {
		if (!target || isTextField(target) || Object.hasOwn(target, "isContentEditable")) return;
		Object.defineProperties(target, { isContentEditable: { value: true }, type: { value: "textarea" } });
	});
	root.dataset.captureWheel = "true"; // Nodes 2.0 leaves the wheel to a part that has the focus
	root.addEventListener("wheel", (event) => root.contains(document.activeElement) && event.stopPropagation(), { passive: true });
}

/** Whether an element, whatever it says of itself, is a field with an undo of its own. */
export function isTextField(target) {
	return target instanceof Element && target.matches("textarea, input:not([type=range])");
}

/** The id of a node in a run: inside subgraphs with those of the nodes around it, joined by colons. */
export function executionId(app, node) {
	const search = (graph, prefix) => {
		if (!graph || graph === node.graph) return graph && prefix + node.id;
		return (graph.nodes ?? []).reduce((found, outer) => found ?? search(outer.subgraph, `${prefix}${outer.id}:`), undefined);
	};
	return search(app.rootGraph ?? app.graph, "") ?? String(node.id);
}

/** The node of such an id. */
export function nodeAt(app, id) {
	let graph = app.rootGraph ?? app.graph;
	let node;
	for (const part of String(id).split(":")) {
		node = graph?.getNodeById?.(Number(part)) ?? graph?.getNodeById?.(part);
		graph = node?.subgraph;
	}
	return node;
}

/** Show a change of a node, and have ComfyUI notice it for its undo and its "modified" mark. */
export function noteChange(app, node) {
	node.graph?.setDirtyCanvas?.(true, true);
	app.extensionManager?.workflow?.activeWorkflow?.changeTracker?.captureCanvasState?.();
}
