/**
 * The rule matrix as the widget `matrix` of RePlanRules. What it knows of the plan comes from the editor upstream, or
 * from what the node's last run said (`replan_regions`).
 */
import { element } from "../common/dom.js";
import { addValueWidget, after, noteChange, ofAllNodes, takeOver, widgetOf } from "../common/host_widget.js";
import { shownRegions } from "../editor/page.js";
import { mount } from "./mount.js";

const WIDGET = "REPLAN_MATRIX";
const HEIGHT = { open: 300, closed: 34 };
/** Nodes that give on the plan they get, each region with its id. */
const PASSING = ["RePlanExpandRegions", "RePlanResize", "Reroute"];

/** Node -> look again at the nodes around it. @type {WeakMap<ComfyNode, () => void>} */
const refreshes = new WeakMap();

/** @type {AddWidget} */
function addMatrix(node, name, { app }) {
  const container = element("div", { class: "replan-matrix-host" });
  /** @type {RuleData} */
  const data = node.constructor.nodeData.input.optional[name][1].replan_rules;
  const onChange = () => noteChange(app, node);
  const matrix = mount(container, {
    value: "", data, context: contextOf(node, data), open: true, onChange,
    // Folded away, it gives back all of its height, and takes it again.
    onOpen: (open) => {
      const { properties, size: [width, height] } = node;
      const spare = open ? properties.replan_folded : container.offsetHeight - HEIGHT.closed;
      properties.replan_folded = open ? undefined : spare;
      node.setSize([width, height + (open ? spare : -spare)]);
      onChange();
    },
  });
  // The host asks for the height while it loads a workflow, before the matrix is told that it is folded away.
  const isOpen = () => node.properties?.replan_folded === undefined;
  const widget = addValueWidget(app, node, name, WIDGET, container, matrix, () => (isOpen() ? HEIGHT.open : HEIGHT.closed));
  const refresh = () => {
    matrix.setOpen(isOpen());
    matrix.setContext(contextOf(node, data));
  };
  refreshes.set(node, refresh);
  for (const other of node.widgets ?? []) after(other, "callback", () => setTimeout(refresh));
  container.addEventListener("pointerenter", refresh);
  return widget;
}

/** @param {ComfyNode} node @param {RuleData} data @returns {RuleContext} */
function contextOf(node, data) {
  const value = (/** @type {string} */ name) => widgetOf(node, name)?.value;
  const family = value("family") ?? "auto";
  const share = (/** @type {number} */ one) => `${Math.round(one * 100)} %`;
  let when = family === "auto" ? Object.entries(data.families).map(([name, one]) => `${share(one.switch)} (${name})`).join(", ") : share(data.families[family].switch);
  if (value("switch") >= 0) when = share(value("switch"));
  when = value("switch_step") >= 0 ? `the first ${value("switch_step")} steps` : `the first ${when} of the steps`;
  return { preset: value("preset") ?? data.auto, family, when, regions: regionsOf(node) };
}

/** The regions of the plan that comes in, or null where none is known. @param {ComfyNode} node */
function regionsOf(node) {
  /** @type {ComfyNode | null | undefined} */
  let origin = node;
  const seen = new Set(); // a loop is refused when it is run, but it can be drawn
  do {
    seen.add(origin);
    /** @type {number} */
    const slot = origin.inputs?.findIndex(({ type }, place) => origin?.isInputConnected(place) && ["REGION_PLAN", "*"].includes(type)) ?? -1;
    if (slot < 0) return null;
    origin = origin.getInputNode?.(slot);
  } while (origin && PASSING.includes(origin.type) && !seen.has(origin));
  const shown = origin && shownRegions(origin);
  return shown ? shown.map(({ id, hint }) => ({ id, hint })) : readRegions(node.properties?.replan_regions);
}

/** @param {any} text the list of regions that a run told @returns {RuleContext["regions"]} */
function readRegions(text) {
  try {
    return JSON.parse(text).map((/** @type {any} */ { id, hint }) => ({ id: String(id), hint: String(hint ?? "") }));
  } catch {
    return null;
  }
}

/** @param {any} nodeType @param {any} nodeData */
function extend(nodeType, nodeData) {
  if (nodeData.name !== "RePlanRules") return;
  takeOver(nodeData.input.optional.matrix, WIDGET);
  // The host tells a run's report once; what it found is kept with the node, for the next time the page is opened.
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

/** @param {Host} host */
function start({ app, api }) {
  api.addEventListener("graphChanged", () => ofAllNodes(app, refreshes).forEach((refresh) => refresh()));
}

export const rulesPage = { widgets: { [WIDGET]: addMatrix }, start, extend };
