"""The page when the pack's own scripts do not load (a stale cache, a blocker): nothing is lost, nothing silent."""

import json
from collections.abc import Iterator

import editor_page
import pytest
from editor_plan import PLAN, with_plan

CELLS = json.dumps({"after": {"hint:*|main": True}})
WAIT = """async () => { const ended = new Promise((done) => { for (const name of ['execution_success',
'execution_error'])
    app.api.addEventListener(name, (event) => done([name, event.detail.exception_message ?? '']), { once: true }); });
  await app.queuePrompt(0, 1); return ended; }"""
SET = "([id, name, value]) => { app.graph.getNodeById(id).widgets.find((w) => w.name === name).value = value; }"


@pytest.fixture(scope="session")
def bare(page) -> Iterator:
    """The same mode of the page as `comfy`, without the pack's scripts."""
    opened = editor_page.open_page(
        page.context.browser, page.server, page.renderer, page.zoom, blocked="**/extensions/replan/**"
    )
    yield opened
    opened.close()


def test_a_drawn_plan_and_its_cells_are_kept_saved_again_and_run(comfy, bare):
    with_plan(comfy)
    comfy.js(
        """(cells) => { const add = (type, x, y) => { const n = LiteGraph.createNode(type); n.pos = [x, y];
          app.graph.add(n); return n; };
          const editor = app.graph.nodes[0], image = add('LoadImage', 0, 20), text = add('RePlanPlanToText', 0, 500),
          show = add('PreviewAny', 0, 700), rules = add('RePlanRules', 0, 900);
          image.widgets[0].value = 'cup.png'; image.connect(0, editor, 0); editor.connect(0, text, 0);
          text.connect(0, show, 0);
          rules.widgets.find((w) => w.name === 'matrix').value = cells; }""",
        CELLS,
    )
    saved = comfy.workflow()
    bare.load(saved)
    assert bare.js("() => document.querySelector('.replan-editor')") is None
    again = bare.workflow()
    for node in saved["nodes"]:
        (same,) = [one for one in again["nodes"] if one["id"] == node["id"]]
        assert same.get("widgets_values") == node.get("widgets_values"), node["type"]
    bare.js(
        "() => { window.shown = null; app.api.addEventListener('executed', (e) => { window.shown = "
        "e.detail.output?.text ?? window.shown; }); }"
    )
    assert bare.js(WAIT)[0] == "execution_success"
    bare.until("() => window.shown")
    plan = json.loads("".join(bare.js("() => window.shown")))
    assert [region["hint"] for region in plan["regions"]] == [region["hint"] for region in PLAN["regions"]]
    comfy.load(again)
    comfy.shown()
    comfy.wait_regions(3)


def test_an_editor_that_is_not_there_is_refused_with_words_and_an_empty_one_is_not(comfy, bare):
    node = comfy.build()
    assert comfy.js(WAIT) == ["execution_success", ""]
    bare.load(comfy.workflow())
    name, said = bare.js(WAIT)
    assert name == "execution_error" and "its script did not load" in said and "Reload the page" in said
    assert said.count("RePlan Region Editor") == 1
    bare.js(SET, [node, "regions", json.dumps({**PLAN, "regions": PLAN["regions"][:1]})])
    assert bare.js(WAIT)[0] == "execution_success", "a plan in the text field is used as it is"
