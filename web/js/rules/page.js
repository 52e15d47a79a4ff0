/**
 * The rule matrix as the widget `matrix` of RePlanRules. What it knows of the plan comes from the editor upstream, or
 * from what the node's last run said (`replan_regions`).
 */
import { addValueWidget, noteChange } from "../common/host_widget.js";
import { mount } from "./mount.js";

const NODE = "RePlanRules";
const WIDGET = "REPLAN_MATRIX";
const HEIGHT = { open: 300, closed: 34 };
/** Nodes that give on the plan they get, each region with its id. */
const PASSING = ["RePlanExpandRegions", "RePlanResize", "Reroute"];

/** @type {WeakMap<object, () => void>} node -> look again at the nodes around it */
const refreshes = new WeakMap();

/** @param {any} node @param {string} name @param {import("../editor/page.js").Host} host */
function addMatrix(node, name, { app, api }) {
  const container = document.createElement("div");
  container.className = "replan-matrix-host";
  const { optional } = node.constructor.nodeData.input;
  /** @type {import("./matrix.js").Data} */
  const data = optional[name][1].replan_rules;
  const changed = () => {
    node.graph?.setDirtyCanvas?.(true, true);
    noteChange(app);
  };
  const matrix = mount(container, {
    value: "", data, context: contextOf(node, data), open: true, onChange: changed,
    onOpen: (open) => {
      node.properties.replan_matrix = open ? undefined : "closed";
      node.setSize([node.size[0], node.size[1] + (open ? 1 : -1) * (HEIGHT.open - HEIGHT.closed)]);
      changed();
    },
  });
  const widget = addValueWidget(node, name, WIDGET, container, {
    getValue: () => matrix.value,
    setValue: (value) => matrix.setValue(value),
    minHeight: () => (matrix.open ? HEIGHT.open : HEIGHT.closed),
  });
  const refresh = () => {
    matrix.setOpen(node.properties?.replan_matrix !== "closed");
    matrix.setContext(contextOf(node, data));
  };
  refreshes.set(node, refresh);
  for (const other of node.widgets ?? []) {
    const { callback } = other;
    other.callback = (/** @type {any[]} */ ...args) => {
      setTimeout(refresh, 0);
      return callback?.apply(other, args);
    };
  }
  container.addEventListener("pointerenter", refresh);
  // A node may be taken out and put in again, as into a subgraph: it then goes on as it was.
  api.addEventListener("graphChanged", refresh);
  const { onRemoved, onAdded } = node;
  node.onRemoved = function (/** @type {any[]} */ ...args) {
    onRemoved?.apply(this, args);
    api.removeEventListener("graphChanged", refresh);
  };
  node.onAdded = function (/** @type {any[]} */ ...args) {
    onAdded?.apply(this, args);
    api.addEventListener("graphChanged", refresh);
  };
  return widget;
}

/** @param {any} node @param {import("./matrix.js").Data} data @returns {import("./mount.js").Context} */
function contextOf(node, data) {
  const value = (/** @type {string} */ name) => node.widgets?.find((/** @type {any} */ widget) => widget.name === name)?.value;
  const family = value("family") ?? "auto";
  const share = (/** @type {number} */ one) => `${Math.round(one * 100)} %`;
  const when = value("switch_step") >= 0 ? `the first ${value("switch_step")} steps`
    : value("switch") >= 0 ? `the first ${share(value("switch"))} of the steps`
      : `the first ${family === "auto" ? Object.entries(data.switch).map(([name, one]) => `${share(one)} (${name})`).join(", ") : share(data.switch[family])} of the steps`;
  return { preset: value("preset") ?? "replan", family, when, regions: regionsOf(node) };
}

/** The regions of the plan that comes in, or null where none is known. @param {any} node */
function regionsOf(node) {
  const inputOf = (/** @type {any} */ of) => of.inputs?.findIndex((/** @type {any} */ input) => input.link != null && ["REGION_PLAN", "*"].includes(input.type)) ?? -1;
  let origin = node;
  do {
    const slot = inputOf(origin);
    if (slot < 0) return null;
    origin = origin.getInputNode?.(slot);
  } while (origin && PASSING.includes(origin.type));
  return readRegions(origin?.type === "RePlanRegionEditor" ? origin.widgets?.find((/** @type {any} */ widget) => widget.name === "regions")?.value : null)
    ?? readRegions(node.properties?.replan_regions);
}

/** @param {any} text a plan, or the list of its regions @returns {{id: string, hint: string}[] | null} */
function readRegions(text) {
  try {
    const data = JSON.parse(text);
    const regions = Array.isArray(data) ? data : data.regions;
    return regions.map((/** @type {any} */ { id, hint }) => ({ id: String(id), hint: String(hint ?? "") }));
  } catch {
    return null;
  }
}

/** @param {any} nodeType @param {any} nodeData */
function extend(nodeType, nodeData) {
  if (nodeData.name !== NODE) return;
  for (const name of ["onNodeCreated", "onConfigure", "onExecuted", "onConnectionsChange", "onWidgetChanged"]) {
    const called = nodeType.prototype[name];
    nodeType.prototype[name] = function (/** @type {any[]} */ ...args) {
      const result = called?.apply(this, args);
      // The host tells a run's report once; what it found is kept with the node, for the next time the page is opened.
      if (name === "onExecuted" && args[0]?.replan_regions) this.properties.replan_regions = args[0].replan_regions[0];
      // The graph, its outputs and its widgets are complete only after what calls this.
      setTimeout(() => this.graph && refreshes.get(this)?.(), 0);
      return result;
    };
  }
}

export const rulesPage = { widgets: { [WIDGET]: addMatrix }, extend };
