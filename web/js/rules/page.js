/** The rule matrix as the widget `matrix` of RePlanRules. It knows the plan of the editor upstream or of the last run. */
import { ask } from "../common/ask.js";
import { element } from "../common/dom.js";
import { addValueWidget, after, noteChange, ofAllNodes, takeOver, widgetOf } from "../common/host_widget.js";
import { sourceOf } from "../editor/linked.js";
import { shownRegions } from "../editor/page.js";
import { mount } from "./mount.js";

const WIDGET = "REPLAN_MATRIX";
const HEIGHT = { open: 300, closed: 34 };
/** Nodes that give on the plan they get, each region with its id. */
const PASSING = ["RePlanExpandRegions", "RePlanResize"];

/** Node -> look again at the nodes around it. @type {WeakMap<ComfyNode, () => void>} */
const refreshes = new WeakMap();

function addMatrix(node, name, { app, api }) {
	const container = element("div", { class: "replan-matrix-host" });
	/** @type {RuleData} */
	const data = node.constructor.nodeData.input.optional[name][1].replan_rules;
	const onChange = () => noteChange(app, node);
	const matrix = mount(container, {
		value: "", ask: (...question) => ask(api, ...question), data, context: contextOf(node, data, app), open: true, onChange,
		// Folded away, it gives back all of its height, and takes it again.
		onOpen: (open) => {
			const { properties, size: [width, height] } = node;
			const spare = open ? properties.replan_folded : container.offsetHeight - HEIGHT.closed;
			properties.replan_folded = open ? undefined : spare;
			node.setSize([width, height + (open ? spare : -spare)]);
			onChange();
		},
	});
	// Asked while a workflow is loaded, before the matrix is told that it is folded away.
	const isOpen = () => node.properties?.replan_folded === undefined;
	const widget = addValueWidget(app, node, name, WIDGET, container, matrix, () => (isOpen() ? HEIGHT.open : HEIGHT.closed));
	const refresh = () => {
		matrix.setOpen(isOpen());
		matrix.setContext(contextOf(node, data, app));
	};
	refreshes.set(node, refresh);
	for (const other of node.widgets ?? []) after(other, "callback", () => setTimeout(refresh));
	container.addEventListener("pointerenter", refresh);
	return widget;
}

/** @returns {RuleContext} */
function contextOf(node, data, app) {
	const value = (name, usual) => widgetOf(node, name)?.value ?? usual;
	const widgets = { preset: value("preset", data.auto), family: value("family", "auto"), switch: value("switch", -1), switch_step: value("switch_step", -1) };
	return { widgets, regions: regionsOf(node, app) };
}

/** The regions of the plan that comes in, or null where none is known. */
function regionsOf(node, app) {
	let origin = sourceOf(node, "plan", app);
	for (let steps = 0; origin && PASSING.includes(origin.type) && steps < 100; steps += 1) origin = sourceOf(origin, "plan", app);
	const shown = origin && shownRegions(origin);
	return shown ?? readRegions(node.properties?.replan_regions);
}

/** @returns {RuleContext["regions"]} */
function readRegions(text) {
	try {
		return JSON.parse(text).map(({ id, hint }) => ({ id: String(id), hint: String(hint ?? "") }));
	} catch {
		return null;
	}
}

function extend(nodeType, nodeData) {
	if (nodeData.name !== "RePlanRules") return;
	takeOver(nodeData.input.optional.matrix, WIDGET);
	// A run's report is told once: kept with the node, for the next time the page is opened.
	after(nodeType.prototype, "onExecuted", function (output) {
		if (output?.replan_regions) this.properties.replan_regions = output.replan_regions[0];
	});
	for (const name of ["onNodeCreated", "onConfigure", "onExecuted", "onConnectionsChange", "onWidgetChanged"]) {
		// The graph, its outputs and its widgets are complete only after what calls this.
		after(nodeType.prototype, name, function () {
			setTimeout(() => this.graph && refreshes.get(this)?.());
		});
	}
}

function start({ app, api }) {
	api.addEventListener("graphChanged", () => ofAllNodes(app, refreshes).forEach((refresh) => refresh()));
}

export const rulesPage = { widgets: { [WIDGET]: addMatrix }, start, extend };
