/**
 * The editor as the widget `regions` of RePlanRegionEditor.
 *
 * A run's report comes in the node's output (`replan_editor`, `replan_background`). ComfyUI keeps outputs through its undo and
 * a change of workflow; the page remembers each node's last one over a reload, with the value it belongs to: a workflow
 * that comes with another value, as out of an older result, must not take over that run's plan.
 */
import { ask } from "../common/ask.js";
import { element } from "../common/dom.js";
import { addValueWidget, after, allNodes, executionId, nodeAt, noteChange, ofAllNodes, takeOver, widgetOf } from "../common/host_widget.js";
import { say, texts } from "../common/texts.js";
import { coloursOf } from "./colours.js";
import { openLarge } from "./large.js";
import { linkedImage, sourceOf } from "./linked.js";
import { mount } from "./mount.js";
import { isOn } from "./plan.js";

const NODE = "RePlanRegionEditor";
const WIDGET = "REPLAN_REGIONS";
const MIN_HEIGHT = 360;
const START_SIZE = [720, 620];
/** Milliseconds between two looks at what is linked: at the graph, not at the server. */
const LOOK = 300;

/** @type {WeakMap<ComfyNode, Editor>} */
const editors = new WeakMap();
/** Of an editor whose plan stands on faces, the subgraph node whose plan it shows. @type {WeakMap<ComfyNode, ComfyNode>} */
const opened = new WeakMap();
/** Look at what is linked. @type {WeakMap<ComfyNode, () => void>} */
const looks = new WeakMap();
/** What each node's last run left. @type {WeakMap<ComfyNode, any>} */
const outputs = new WeakMap();

const memoryKey = (node, app) => `replan.editor.${(app.rootGraph ?? app.graph)?.id ?? ""}.${executionId(app, node)}`;

function remember(node, app) {
	if (!outputs.has(node)) return;
	try {
		sessionStorage.setItem(memoryKey(node, app), JSON.stringify({ ...outputs.get(node), value: editors.get(node)?.value }));
	} catch {
		// A full store: the image then comes back with the next run.
	}
}

/** @param {ComfyNode} node @param {string} name @param {Host} host */
function addEditor(node, name, { app, api }) {
	const container = element("div", { class: "replan-host" });
	const queue = async (...only) => {
		await app.queuePrompt(0, 1, only.length ? only : undefined);
		/** @type {any[]} */
		const refused = Object.values(app.lastNodeErrors ?? {});
		const problems = refused.flatMap(({ class_type, errors }) => errors.map(({ message, details }) => `${class_type}: ${message}. ${details}`));
		if (problems.length) editor.setRunProblem(problems.join("\n"));
	};
	const editor = mount(container, {
		value: "",
		ask: (...question) => ask(api, ...question),
		onChange: (value) => {
			const faces = facesOf(app, node), one = faces.filter(({ face }) => face === opened.get(node));
			for (const { widget } of one.length ? one : faces) widget.value = value || editor.promptValue(false);
			noteChange(app, node);
			remember(node, app);
		},
		onPlan: () => queue(executionId(app, node)),
		onRun: () => queue(),
		onLarge: () => openNode(app, node),
	});
	editors.set(node, editor);
	looks.set(node, () => editor.setLinked(linkedImage(node, { app, api })));
	const widget = addValueWidget(app, node, name, WIDGET, container, editor, () => MIN_HEIGHT);
	widget.serializeValue = () => editor.promptValue(sourceOf(node, "plan", app) !== null);
	return widget;
}

/**
 * The widgets on the faces of subgraph nodes that stand for an input of a node inside, each with its node. ComfyUI keeps a value
 * in each, which is what is sent, and shows an empty box for it. @returns {{ face: ComfyNode, widget: ComfyWidget }[]}
 */
function facesOf(app, node, slot = node.inputs?.findIndex(({ name }) => name === "regions")) {
	const { graph } = node;
	const link = slot >= 0 && graph?.inputNode && node.getInputLink(slot);
	if (!link || link.origin_id !== graph.inputNode.id) return [];
	return allNodes(app).filter(({ subgraph }) => subgraph === graph).flatMap((face) => {
		const outer = facesOf(app, face, link.origin_slot);
		return outer.length ? outer : [{ face, widget: widgetOf(face, face.inputs?.[link.origin_slot].name) }];
	});
}

/** Put a node's editor over the whole window; face: the subgraph node whose plan is meant. */
function openNode(app, node, face = opened.get(node)) {
	const editor = editors.get(node);
	const on = facesOf(app, node).find((one) => one.face === face);
	if (!editor) return;
	if (on) {
		opened.set(node, on.face);
		editor.setValue(on.widget.value || editor.promptValue(false));
	}
	openLarge(editor, () => ofAllNodes(app, editors).includes(editor));
}

/** The nodes with an editor that a node is or, as a subgraph, holds. @returns {ComfyNode[]} */
function editorNodes(node) {
	return editors.has(node) ? [node] : (node.subgraph?.nodes ?? []).flatMap(editorNodes);
}

/** What the menu of a node offers. @param {ComfyNode} node @param {Host} host */
function menuOf(node, { app }) {
	const { open, openOne } = texts.large;
	return editorNodes(node).map((one, _, { length }) => ({ content: length > 1 ? say(openOne, one) : open, callback: () => openNode(app, one, node) }));
}

/** Open the editor that is selected, or the first. @param {Host} host */
function openSelected({ app, app: { canvas, extensionManager } }) {
	const selected = Object.values(canvas.selected_nodes ?? {});
	const face = (selected.length ? selected : canvas.graph.nodes).find((node) => editorNodes(node).length);
	if (face) openNode(app, editorNodes(face)[0], face);
	else extensionManager.toast.add({ severity: "info", life: 5000, summary: texts.large.open, detail: texts.large.none });
}

/** The regions that a node's editor gives; null without a plan or an editor. */
export function shownRegions(node) {
	const state = editors.get(node)?.state;
	if (!state || !(state.hasPlan || state.showsUpstream)) return null;
	const { regions } = state.plan;
	const colours = coloursOf(regions);
	return regions.filter(isOn).map(({ id, hint }) => ({ id, hint, colour: colours.get(id) }));
}

/** Tell the editors how runs go on. */
function start({ app, api }) {
	const title = (id) => nodeAt(app, id)?.title ?? say(texts.runs.node, { id });
	const tell = (call) => ofAllNodes(app, editors).forEach(call);
	let running = "";
	const progress = (text, share) => tell((editor) => editor.setProgress(text, share));
	const step = (text) => progress((running = text));
	const end = (problem) => {
		step("");
		if (problem) tell((editor) => editor.setRunProblem(problem));
	};
	const listeners = {
		execution_start: () => { tell((editor) => editor.setRunProblem("")); step(texts.runs.starting); },
		executing: ({ detail }) => step(detail === null ? "" : title(detail.display_node ?? detail.node ?? detail)),
		progress: ({ detail: { node, value, max } }) => progress(`${node == null ? running : title(node)}: ${value} / ${max}`, max ? value / max : null),
		execution_success: () => end(""),
		// If it goes on after all, its next step shows it again.
		reconnecting: () => running && end(texts.runs.lost),
		execution_interrupted: () => end(texts.runs.interrupted),
		execution_error: ({ detail: { node_id, exception_message } }) => {
			const [name, text] = [title(node_id), String(exception_message ?? "").trim()];
			end(text.startsWith(`${name}:`) ? text : `${name}: ${text}`); // our nodes name themselves
		},
	};
	for (const [name, listener] of Object.entries(listeners)) api.addEventListener(name, listener);
	setInterval(() => ofAllNodes(app, looks).forEach((look) => look()), LOOK);
}

/** Show what a run of the node left. */
function showOutput(node, { replan_editor, replan_background }, { app, api }) {
	const editor = editors.get(node);
	const said = replan_editor?.[0];
	if (!editor || typeof said !== "string") return;
	outputs.set(node, { replan_editor, replan_background });
	editor.setReport(JSON.parse(said));
	const picture = replan_background?.[0];
	editor.setBackground(picture ? api.apiURL(`/view?${new URLSearchParams(picture)}`) : null);
	remember(node, app);
}

function extend(nodeType, nodeData, host) {
	if (nodeData.name !== NODE) return;
	takeOver(nodeData.input.optional.regions, WIDGET);
	const type = nodeType.prototype;
	const setFollow = (node, value) => editors.get(node)?.state.setFollow(value);
	after(type, "onNodeCreated", function () {
		this.setSize?.([Math.max(this.size[0], START_SIZE[0]), Math.max(this.size[1], START_SIZE[1])]);
		const follow = widgetOf(this, "follow_upstream");
		if (follow) after(follow, "callback", (value) => setFollow(this, value));
	});
	after(type, "onWidgetChanged", function (name, value) {
		if (name === "follow_upstream") setFollow(this, value);
	});
	after(type, "onConfigure", function () {
		const follow = widgetOf(this, "follow_upstream");
		if (follow) setFollow(this, follow.value);
		// The graph and its outputs are complete only after every node is configured.
		setTimeout(() => {
			if (!this.graph || editors.get(this)?.report) return;
			const kept = host.app.nodeOutputs?.[this.id];
			const memory = kept?.replan_editor ? kept : JSON.parse(sessionStorage.getItem(memoryKey(this, host.app)) ?? "{}");
			if (memory === kept || memory.value === editors.get(this)?.value) showOutput(this, memory, host);
		});
	});
	after(type, "onConnectionsChange", function () {
		setTimeout(() => this.graph && looks.get(this)?.());
	});
	after(type, "onExecuted", function (output) {
		showOutput(this, output ?? {}, host);
	});
}

export const editorPage = {
	widgets: { [WIDGET]: addEditor }, start, extend, menuOf,
	commands: [{ id: "replan.openEditor", label: texts.large.open, icon: "pi pi-window-maximize", run: openSelected, combo: { key: "e", shift: true } }],
};
