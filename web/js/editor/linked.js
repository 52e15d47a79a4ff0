/**
 * What will come in at a node, as far as the page knows it before a run. It follows bypassed nodes, reroutes and the edges of
 * subgraphs, reads the graph and changes nothing.
 */
import { allNodes, widgetOf } from "../common/host_widget.js";

/** The link at an input, or at that of the subgraph around the node, and where it is. @param {ComfyNode} node @param {number} slot */
function inputOf(node, slot, app) {
	let type = Object.getPrototypeOf(node);
	while (!Object.hasOwn(type, "connect")) type = Object.getPrototypeOf(type); // a subgraph node's own method tells of its inside
	const link = slot >= 0 && node.graph ? type.getInputLink.call(node, slot) : null;
	const outer = link && link.origin_id === node.graph.inputNode?.id && allNodes(app).find(({ subgraph }) => subgraph === node.graph);
	return outer ? inputOf(outer, link.origin_slot, app) : { node, slot, link };
}

/** The node that gives an input; null for one that is switched off. @param {ComfyNode} node @param {string} name @returns {ComfyNode | null} */
export function sourceOf(node, name, app) {
	let steps = 0; // a loop is refused when it is run, but it can be drawn
	const into = (at, slot) => {
		const { node: { graph }, link } = inputOf(at, slot, app);
		return link && (steps += 1) < 100 ? outOf(graph.getNodeById(link.origin_id), link.origin_slot, link.type) : null;
	};
	const outOf = (at, slot, type) => {
		if (!at || at.mode === 2) return null;
		if (at.mode === 4 || at.type === "Reroute") return into(at, at.inputs.findIndex((input) => [type, "*"].includes(input.type)));
		if (!at.subgraph) return at;
		const link = at.subgraph.getLink(at.subgraph.outputs[slot]?.linkIds[0]);
		if (link?.origin_id === at.subgraph.inputNode.id) return into(at, link.origin_slot);
		return link ? outOf(at.subgraph.getNodeById(link.origin_id), link.origin_slot, type) : null;
	};
	return into(node, slotOf(node, name));
}

function slotOf(node, name) {
	return node.inputs?.findIndex((input) => input.name === name) ?? -1;
}

/** The value of a widget, which may stand on the face of a subgraph around its node. */
function valueOf(node, name, app) {
	const { node: at, slot } = inputOf(node, slotOf(node, name), app);
	return widgetOf(at, at === node ? name : at.inputs?.[slot].name)?.value;
}

/**
 * The image of a node: the file of a Load Image, or the preview of a node that ran. exact: it is the image itself, where a
 * preview may have another size. @param {ComfyNode} node @param {Host} host @returns {{ address: string, exact: boolean } | null}
 */
export function linkedImage(node, { app, api }) {
	const at = sourceOf(node, "image", app);
	if (!at) return null;
	const { required, optional } = at.constructor.nodeData?.input ?? {};
	const [field] = Object.entries({ ...required, ...optional }).find(([, [, options]]) => options?.image_upload) ?? [];
	const [, subfolder = "", filename, type = "input"] = /^(?:(.*)\/)?([^/]+?)(?: \[(\w+)\])?$/.exec((field && valueOf(at, field, app)) ?? "") ?? [];
	const root = app.rootGraph ?? app.graph;
	const [preview] = app.nodeOutputs?.[at.graph === root ? at.id : `${at.graph.id}:${at.id}`]?.images ?? [];
	const file = filename ? { filename, subfolder, type } : preview;
	return file?.filename ? { address: api.apiURL(`/view?${new URLSearchParams(file)}`), exact: Boolean(filename) } : null;
}
