/**
 * The pack's extension, the only file that touches ComfyUI's page. Each page of a node hands over
 * - `widgets`: widget type -> function(node, inputName, host) that adds a widget to the node and returns it;
 * - `start(host)`: called once;
 * - `extend(nodeType, nodeData, host)`: called once for every node type, as ComfyUI's beforeRegisterNodeDef;
 * and may hand over
 * - `commands`: commands of ComfyUI, with `run(host)` and the keys in `combo`;
 * - `menuOf(node, host)`: entries for the menu of a node.
 */
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { editorPage } from "./editor/page.js";
import { noticesPage } from "./notices.js";
import { rulesPage } from "./rules/page.js";

const PAGES = [editorPage, rulesPage, noticesPage];
const host = { app, api };
/** @type {any[]} */
const commands = PAGES.flatMap((page) => page.commands ?? []);

app.registerExtension({
	name: "replan.pages",
	getCustomWidgets() {
		const all = PAGES.flatMap((page) => Object.entries(page.widgets));
		return Object.fromEntries(all.map(([type, add]) => [type, (node, name) => ({ widget: add(node, name, host) })]));
	},
	commands: commands.map(({ run, combo, ...command }) => ({ ...command, function: () => run(host) })),
	keybindings: commands.map(({ id, combo }) => ({ commandId: id, combo })),
	getNodeMenuItems: (node) => PAGES.flatMap((page) => page.menuOf?.(node, host) ?? []),
	setup() {
		for (const page of PAGES) page.start(host);
	},
	beforeRegisterNodeDef(nodeType, nodeData) {
		for (const page of PAGES) page.extend(nodeType, nodeData, host);
	},
});
