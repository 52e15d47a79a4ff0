"""The rule matrix of one RePlanRules on the page."""

import json

PLAN = {
    "version": 1,
    "image_size": [600, 400],
    "global_prompt": "a cup",
    "reasoning": "",
    "regions": [
        {"id": "cup", "bbox_2d": [100, 80, 400, 320], "hint": "the cup is blue"},
        {"id": "r2", "bbox_2d": [450, 100, 580, 300], "hint": "the table is of stone"},
    ],
}


class Matrix:
    """The widget of one RePlanRules on the page."""

    def __init__(self, comfy, matrix="", preset="replan", with_editor=False):
        self.comfy = comfy
        self.id = comfy.js(
            """([matrix, preset, plan]) => {
              const add = (type, x) => { const n = LiteGraph.createNode(type); n.pos = [x, 20]; app.graph.add(n);
              return n; };
              const rules = add('RePlanRules', 0);
              rules.setSize([520, 760]);
              rules.widgets.find((w) => w.name === 'matrix').value = matrix;
              rules.widgets.find((w) => w.name === 'preset').value = preset;
              if (plan) {
                const editor = add('RePlanRegionEditor', 620);
                editor.widgets.find((w) => w.name === 'regions').value = plan;
                editor.connect(0, rules, rules.inputs.findIndex((i) => i.name === 'plan'));
              }
              return rules.id;
            }""",
            [matrix, preset, json.dumps(PLAN) if with_editor else None],
        )
        self.at_rest()

    def at_rest(self):
        self.comfy.at_rest(".replan-matrix", "display: flex")

    def root(self, selector=""):
        """Elements of the widget, as they are once the page has drawn what was done before,
        and asked what it comes to."""
        self.comfy.drawn()
        self.comfy.until("() => document.querySelector('.replan-matrix')?.getAttribute('aria-busy') !== 'true'")
        return self.comfy.tab.locator(f".replan-matrix {selector}".strip())

    def button(self, name):
        return self.root().get_by_role("button", name=name, exact=True)

    def widget(self, name):
        return self.comfy.js(
            "([id, name]) => app.graph.getNodeById(id).widgets.find((w) => w.name === name).value",
            [self.id, name],
        )

    def stored(self):
        text = self.widget("matrix")
        return json.loads(text) if text else None

    def headings(self):
        return self.root("tbody th").all_inner_texts()

    def cell(self, row, column):
        names = self.headings()
        return self.root(f"tbody tr:nth-child({names.index(row) + 1}) td:nth-child({names.index(column) + 2})")

    def state(self, row, column):
        return self.cell(row, column).get_attribute("data-state")

    def centre(self, row, column):
        box = self.cell(row, column).bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def press(self, row, column):
        self.comfy.tab.mouse.click(*self.centre(row, column))

    def waits(self, stored):
        self.comfy.until(
            "([id, wanted]) => app.graph.getNodeById(id).widgets.find((w) => w.name === 'matrix').value === wanted",
            [self.id, stored],
        )


def text(**phases):
    return json.dumps(phases, separators=(",", ":"))
