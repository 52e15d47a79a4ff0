/**
 * The editor as the widget `regions` of RePlanRegionEditor: what the host tells it, and what it asks of the host.
 *
 * A run's report comes in the node's output (`replan_editor`, `replan_background`); the host keeps such outputs through
 * its own undo and a change of workflow, and the page remembers the last one of each node over a reload.
 */
import { addValueWidget, executionId, noteChange } from "../common/host_widget.js";
import { mount } from "./mount.js";

const NODE = "RePlanRegionEditor";
const WIDGET = "REPLAN_REGIONS";
const MIN_HEIGHT = 360;
const START_SIZE = [720, 620];

/** @type {WeakMap<object, import("./mount.js").Editor>} node -> its editor, for what happens to the node */
const editors = new WeakMap();

/** @typedef {{app: any, api: any}} Host */

/** @param {any} node @param {string} name @param {Host} host */
function addEditor(node, name, host) {
  const { app } = host;
  const container = document.createElement("div");
  container.className = "replan-host";
  const queue = (/** @type {boolean} */ branch) => async () => {
    const id = executionId(app, node);
    await app.queuePrompt(0, 1, branch && id ? [id] : undefined);
    const refused = Object.values(app.lastNodeErrors ?? {}).flatMap((/** @type {any} */ about) => about.errors.map((/** @type {any} */ error) => `${about.class_type}: ${error.message}. ${error.details}`));
    if (refused.length) editor.setRunProblem(refused.join("\n"));
  };
  const editor = mount(container, {
    value: "",
    onChange: () => {
      node.graph?.setDirtyCanvas?.(true, true);
      noteChange(app);
    },
    onPlan: queue(true),
    onRun: queue(false),
  });
  editors.set(node, editor);
  const widget = addValueWidget(node, name, WIDGET, container, {
    getValue: () => editor.value,
    setValue: (value) => editor.setValue(value),
    forPrompt: () => editor.promptValue(upstreamConnected(node)),
    minHeight: () => MIN_HEIGHT,
  });
  // A node may be taken out and put in again, as into a subgraph: it then goes on as it was.
  let stop = followRuns(node, editor, host);
  const { onRemoved, onAdded } = node;
  node.onRemoved = function (/** @type {any[]} */ ...args) {
    onRemoved?.apply(this, args);
    stop();
  };
  node.onAdded = function (/** @type {any[]} */ ...args) {
    onAdded?.apply(this, args);
    stop();
    stop = followRuns(node, editor, host);
  };
  return widget;
}

/** Whether a plan will come in: a link, from a node that is not switched off. */
function upstreamConnected(/** @type {any} */ node) {
  const slot = node.inputs?.findIndex((/** @type {any} */ input) => input.name === "plan") ?? -1;
  if (slot < 0 || node.inputs[slot].link == null) return false;
  const origin = node.getInputNode?.(slot);
  return !origin || origin.mode === 0; // none: the link comes in from around a subgraph
}

/** Progress, errors and reports of the runs, for one editor. @returns {() => void} stops it */
function followRuns(/** @type {any} */ node, /** @type {import("./mount.js").Editor} */ editor, /** @type {Host} */ { app, api }) {
  const title = (/** @type {any} */ id) => {
    const parts = String(id).split(":");
    let graph = app.rootGraph ?? app.graph;
    let found = null;
    for (const part of parts) {
      found = graph?.getNodeById?.(Number(part)) ?? graph?.getNodeById?.(part);
      graph = found?.subgraph;
    }
    return found?.title ?? `node ${id}`;
  };
  let running = "";
  /** @type {Record<string, (event: any) => void>} */
  const listeners = {
    execution_start: () => { running = "Starting"; editor.setRunProblem(""); editor.setProgress(running); },
    executing: ({ detail }) => {
      running = detail === null ? "" : title(typeof detail === "object" ? detail.display_node ?? detail.node : detail);
      editor.setProgress(running);
    },
    progress: ({ detail }) => {
      const name = detail.node != null ? title(detail.node) : running;
      editor.setProgress(`${name}: ${detail.value} / ${detail.max}`, detail.max ? detail.value / detail.max : null);
    },
    execution_success: () => editor.setProgress(""),
    execution_interrupted: () => { editor.setProgress(""); editor.setRunProblem("The run was interrupted."); },
    execution_error: ({ detail }) => {
      editor.setProgress("");
      editor.setRunProblem(`${title(detail.node_id)}: ${String(detail.exception_message ?? "").trim()}`);
    },
  };
  for (const [name, listener] of Object.entries(listeners)) api.addEventListener(name, listener);
  return () => {
    for (const [name, listener] of Object.entries(listeners)) api.removeEventListener(name, listener);
  };
}

/** Show what a run of the node left. */
function showOutput(/** @type {any} */ node, /** @type {any} */ output, /** @type {Host} */ { api }) {
  const editor = editors.get(node);
  const said = output?.replan_editor?.[0];
  if (!editor || typeof said !== "string") return;
  editor.setReport(JSON.parse(said));
  const picture = output.replan_background?.[0];
  editor.setBackground(picture ? api.apiURL(`/view?${new URLSearchParams(picture)}`) : null);
}

/** Where a node's last output is remembered over a reload of the page. */
function memoryKey(/** @type {any} */ node, /** @type {any} */ app) {
  return `replan.editor.${(app.rootGraph ?? app.graph)?.id ?? ""}.${executionId(app, node) ?? node.id}`;
}

/** @param {any} nodeType @param {any} nodeData @param {Host} host */
function extend(nodeType, nodeData, host) {
  if (nodeData.name !== NODE) return;
  const { onExecuted, onConfigure, onNodeCreated, onWidgetChanged } = nodeType.prototype;
  nodeType.prototype.onNodeCreated = function (/** @type {any[]} */ ...args) {
    onNodeCreated?.apply(this, args);
    this.setSize?.([Math.max(this.size[0], START_SIZE[0]), Math.max(this.size[1], START_SIZE[1])]);
    const follow = this.widgets?.find((/** @type {any} */ widget) => widget.name === "follow_upstream");
    if (!follow) return;
    const called = follow.callback;
    follow.callback = (/** @type {any} */ value, /** @type {any[]} */ ...rest) => {
      editors.get(this)?.setFollow(value);
      return called?.call(follow, value, ...rest);
    };
  };
  nodeType.prototype.onWidgetChanged = function (/** @type {string} */ name, /** @type {any} */ value, /** @type {any[]} */ ...rest) {
    if (name === "follow_upstream") editors.get(this)?.setFollow(value);
    return onWidgetChanged?.call(this, name, value, ...rest);
  };
  nodeType.prototype.onConfigure = function (/** @type {any[]} */ ...args) {
    onConfigure?.apply(this, args);
    const follow = this.widgets?.find((/** @type {any} */ widget) => widget.name === "follow_upstream");
    if (follow) editors.get(this)?.setFollow(follow.value);
    // The graph and its outputs are complete only after every node is configured.
    setTimeout(() => {
      if (!this.graph || editors.get(this)?.report) return;
      const kept = host.app.nodeOutputs?.[this.id];
      const remembered = sessionStorage.getItem(memoryKey(this, host.app));
      if (kept?.replan_editor) showOutput(this, kept, host);
      else if (remembered) showOutput(this, JSON.parse(remembered), host);
    }, 0);
  };
  nodeType.prototype.onExecuted = function (/** @type {any} */ output, /** @type {any[]} */ ...rest) {
    onExecuted?.call(this, output, ...rest);
    showOutput(this, output, host);
    try {
      const { replan_editor, replan_background } = output ?? {};
      sessionStorage.setItem(memoryKey(this, host.app), JSON.stringify({ replan_editor, replan_background }));
    } catch {
      // A full store: the picture then comes back with the next run.
    }
  };
}

export const editorPage = { widgets: { [WIDGET]: addEditor }, extend };
