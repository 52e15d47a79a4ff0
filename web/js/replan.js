/**
 * The pack's extension, the only file that touches the host's page. Each page of a node hands over
 * - `widgets`: widget type -> function(node, inputName, host) that adds a widget to the node and returns it;
 * - `extend(nodeType, nodeData, host)`: optional, called once for every node type, as the host's beforeRegisterNodeDef.
 * `host` is what a page may use of ComfyUI: {app, api}.
 */
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { editorPage } from "./editor/page.js";
import { rulesPage } from "./rules/page.js";

const PAGES = [editorPage, rulesPage];
const host = { app, api };

app.registerExtension({
  name: "RePlan.pages",
  getCustomWidgets() {
    /** @type {Record<string, Function>} */
    const all = {};
    for (const page of PAGES) {
      for (const [type, add] of Object.entries(page.widgets)) {
        all[type] = (/** @type {any} */ node, /** @type {string} */ name) => ({ widget: add(node, name, host) });
      }
    }
    return all;
  },
  beforeRegisterNodeDef(/** @type {any} */ nodeType, /** @type {any} */ nodeData) {
    for (const page of PAGES) page.extend?.(nodeType, nodeData, host);
  },
});
