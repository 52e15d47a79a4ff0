"""What the editor stores and never loses: saving, copies, undo, subgraphs, renderers, values and texts of all kinds."""

import json

import pytest
from editor_plan import PLAN, ids, with_plan


def test_a_saved_workflow_brings_the_plan_back_exactly(comfy):
    with_plan(comfy)
    comfy.click(500, 200)
    comfy.hint().fill('say "hi" \U0001f600 \u05e9\u05dc\u05d5\u05dd\n<b>')
    saved = json.loads(json.dumps(comfy.workflow()))
    before = comfy.stored()
    comfy.empty()
    comfy.load(saved)
    comfy.shown()
    comfy.wait_regions(3)
    assert comfy.stored() == before
    assert comfy.workflow()["nodes"][0]["widgets_values"] == saved["nodes"][0]["widgets_values"]
    comfy.tab.reload(wait_until="domcontentloaded")
    comfy.wait_for_app()
    comfy.load(saved)
    comfy.shown()
    comfy.wait_regions(3)
    assert comfy.stored() == before


def test_the_graphs_own_undo_takes_a_change_back_and_the_editor_goes_on(comfy):
    """Nodes 2.0 went on to show the editor of the node before the undo: what was drawn in it was lost."""
    comfy.build(picture=None)
    comfy.draw([200, 200, 500, 600])
    comfy.draw([600, 600, 900, 900])
    for way, count in (("undo", 1), ("redo", 2), ("undo", 1)):
        comfy.graph_undo(way)
        comfy.wait_regions(count)
        comfy.until("(n) => document.querySelectorAll('.replan-item').length === n", count)
    comfy.shown()
    comfy.draw([100, 700, 400, 900])
    assert comfy.near(comfy.box(1), [100, 700, 400, 900], 3)
    assert comfy.editor(".replan-item").count() == 2


def test_a_copied_node_has_a_plan_of_its_own(comfy):
    node = with_plan(comfy)
    comfy.js(
        "(id) => { app.canvas.select(app.graph.getNodeById(id)); app.canvas.copyToClipboard(); "
        "app.canvas.pasteFromClipboard(); }",
        node,
    )
    comfy.until("() => app.graph.nodes.length === 2 && document.querySelectorAll('.replan-editor').length === 2")
    comfy.js("() => { app.graph.nodes[1].pos = [460, 800]; app.canvas.setDirty(true, true); }")
    comfy.click(500, 200)
    comfy.key("Delete")
    values = comfy.js(
        "() => app.graph.nodes.map((n) => JSON.parse(n.widgets.find((w) => w.name === 'regions').value).regions.length)"
    )
    assert sorted(values) == [2, 3]


def test_it_works_inside_a_subgraph(comfy):
    node = with_plan(comfy)
    comfy.js(
        """async (id) => { const made = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]));
          // As a person would, not in the same instant.
          for (let i = 0; i < 5; i += 1) await new Promise((done) => requestAnimationFrame(done));
          app.canvas.setGraph(made.subgraph); }""",
        node,
    )
    comfy.look()
    comfy.shown()
    comfy.until("() => document.querySelectorAll('.replan-item').length === 3")
    inside = (
        "() => JSON.parse([...app.rootGraph.subgraphs.values()][0].nodes.find((n) => n.type === "
        "'RePlanRegionEditor').widgets.find((w) => w.name === 'regions').value)"
    )
    comfy.tab.locator(".replan-canvas").click(position={"x": 4, "y": 4})
    comfy.key("n")
    comfy.until(f"() => ({inside})().regions.length === 4")
    saved = comfy.js("() => app.rootGraph.serialize()")
    value = json.loads(saved["definitions"]["subgraphs"][0]["nodes"][0]["widgets_values"][1])
    assert len(value["regions"]) == 4
    comfy.js("() => app.canvas.setGraph(app.rootGraph)")


def test_a_change_of_renderer_keeps_everything(comfy):
    first = comfy.renderer
    with_plan(comfy)
    comfy.click(500, 200)
    comfy.key("Delete")
    comfy.wait_regions(2)
    comfy.use("nodes2" if first == "classic" else "classic")
    comfy.shown()
    try:
        comfy.draw([420, 20, 560, 80])
        assert len(comfy.regions()) == 3
        comfy.focus()
        comfy.key("Control+z", "Control+z")
        comfy.wait_regions(3)
        assert ids(comfy) == ["big", "small", "right"], "undo reaches over the change"
    finally:
        comfy.use(first)
        comfy.shown()


@pytest.mark.parametrize(
    "value",
    ["{broken", '{"version": 99, "image_size": [9, 9], "regions": [], "editor": {"edited": true}}', "[1, 2]"],
)
def test_a_value_that_cannot_be_read_is_kept_until_someone_starts_anew(comfy, value):
    node = comfy.build(picture=None)
    comfy.js(
        "([id, value]) => { app.graph.getNodeById(id).widgets.find((w) => w.name === 'regions').value = value; }",
        [node, value],
    )
    comfy.editor().get_by_text("kept as it is").wait_for()
    stored = "(id) => app.graph.getNodeById(id).widgets.find((w) => w.name === 'regions').value"
    comfy.drag((100, 100), (500, 500))
    comfy.focus()
    comfy.key("n", "Control+z")
    assert comfy.js(stored, node) == value
    assert comfy.workflow()["nodes"][0]["widgets_values"][1] == value
    comfy.button("Start anew").click()
    comfy.draw([100, 100, 500, 500])
    assert len(comfy.regions()) == 1


def test_a_plan_that_a_workflow_holds_as_an_object_is_read_and_nothing_else_is_dropped(comfy):
    with_plan(comfy)
    saved = comfy.workflow()
    values = saved["nodes"][0]["widgets_values"]
    values[1] = json.loads(values[1])
    comfy.load(saved)
    comfy.shown()
    comfy.wait_regions(3)
    values[1] = 5
    comfy.load(saved)
    comfy.editor().get_by_text("kept as it is").wait_for()
    assert comfy.workflow()["nodes"][0]["widgets_values"][1] == "5"


def test_no_text_does_anything_and_each_comes_back(comfy, request):
    data = json.loads((request.config.rootpath / "tests" / "js" / "texts.json").read_text(encoding="utf-8"))
    texts = [*data["hostile"], *data["odd"]]
    assert len(data["hostile"]) >= 30
    regions = [
        {"id": f"r{i}", "bbox_2d": [i * 10, 10, i * 10 + 60, 300], "hint": text, "negative_hint": text}
        for i, text in enumerate(texts)
    ]
    node = with_plan(comfy, {**PLAN, "global_prompt": texts[0], "reasoning": texts[1], "regions": regions})
    comfy.focus()
    for text in texts:
        comfy.key("Tab")
        comfy.until(
            "(text) => document.querySelector('.replan-fields textarea').value === text.replaceAll('\\r', '')",
            text,
        )
    comfy.button("Changes").click()
    comfy.key("Escape")
    found = comfy.js(
        "(id) => JSON.parse(app.graph.getNodeById(id).widgets.find((w) => w.name === "
        "'regions').value).regions.map((r) => r.hint)",
        node,
    )
    assert found == texts
    assert comfy.js("() => window.hacked") is None
    assert (
        comfy.js(
            "() => document.querySelectorAll('.replan-editor :is(script, img, iframe, svg, video, audio, object, "
            "embed, link, style, form)').length"
        )
        == 0
    )
