"""The editor over the whole window: what opens it, what closes it, and what may happen to its node meanwhile."""

from editor_plan import with_plan
from test_editor import touch

IS_OPEN = "() => document.querySelectorAll('dialog[open] .replan-editor').length === 1"
IS_CLOSED = "() => !document.querySelector('dialog')"
SELECT = """(id) => { app.canvas.deselectAll(); app.canvas.select(app.graph.getNodeById(id));
  document.activeElement.blur(); }"""
MENU = """([id, wanted]) => app.canvas.getNodeMenuOptions(app.graph.getNodeById(id)).filter((one) =>
  one?.content?.startsWith(wanted))"""


def opened(comfy) -> None:
    comfy.until(IS_OPEN)
    comfy.drawn()


def choose(comfy, node: int, entry: str) -> None:
    """Choose an entry of a node's menu, as ComfyUI's menus of both renderers do."""
    comfy.js(f"(given) => ({MENU})(given)[0].callback()", [node, entry])


def test_it_covers_the_window_shares_the_undo_and_escape_first_ends_what_is_under_way(comfy):
    with_plan(comfy)
    comfy.button("Large").click()
    opened(comfy)
    size = comfy.js(
        "() => { const r = document.querySelector('dialog').getBoundingClientRect(); return [r.width, r.height]; }"
    )
    assert size == comfy.js("() => [innerWidth, innerHeight]")
    comfy.draw([420, 20, 560, 80])
    assert comfy.near(comfy.box(3), [420, 20, 560, 80])
    comfy.tab.mouse.move(*comfy.at(20, 20))
    comfy.tab.mouse.down()
    comfy.tab.mouse.move(*comfy.at(80, 60), steps=3)
    comfy.key("Escape")
    comfy.tab.mouse.up()
    assert len(comfy.regions()) == 4, "Escape ends a drag, and draws nothing"
    comfy.click(500, 200)
    comfy.hint().fill("a wooden table")
    comfy.key("Escape")
    comfy.until(IS_OPEN)
    assert comfy.js("() => document.activeElement.className") == "replan-canvas", "Escape leaves a field first"
    comfy.key("?")
    comfy.key("Escape")
    assert comfy.editor().get_by_role("dialog").count() == 0
    comfy.until(IS_OPEN)
    comfy.key("Escape")
    comfy.until(IS_CLOSED)
    comfy.shown()
    comfy.key("Control+z", "Control+z")
    comfy.wait_regions(3)
    assert comfy.regions()[2]["hint"] == "the table", "undo in the node takes back what was done in the large view"
    comfy.key("Alt+f")
    opened(comfy)
    comfy.button("Clear").click()  # which switches itself off, and loses the focus
    comfy.wait_regions(0)
    comfy.key("Delete", "Control+z")
    comfy.wait_regions(3)
    assert comfy.js("() => app.graph.nodes.length") == 1, "no key goes to the graph behind"
    comfy.button("Close").click()
    comfy.until(IS_CLOSED)
    comfy.shown()


def test_a_key_and_the_menu_open_it_from_a_small_node_and_from_around_a_subgraph_and_fingers_draw_there(comfy):
    node = with_plan(comfy)
    comfy.js("(id) => { const n = app.graph.getNodeById(id); n.setSize([380, 420]); n.collapse(); }", node)
    comfy.js(SELECT, node)
    comfy.key("Shift+E")
    opened(comfy)
    touch(comfy, "touchStart", comfy.at(420, 20))
    touch(comfy, "touchMove", comfy.at(500, 60))
    touch(comfy, "touchMove", comfy.at(560, 80))
    touch(comfy, "touchEnd")
    comfy.wait_regions(4)
    assert comfy.near(comfy.box(3), [420, 20, 560, 80], 3)
    touch(comfy, "touchStart", comfy.at(200, 200))
    touch(comfy, "touchStart", comfy.at(200, 200), comfy.at(300, 200))
    touch(comfy, "touchMove", comfy.at(100, 200), comfy.at(400, 200))
    comfy.key("Escape")  # with both fingers down
    comfy.until(IS_CLOSED)
    touch(comfy, "touchEnd")
    assert len(comfy.regions()) == 4 and comfy.box(0) == [100, 80, 400, 320]
    outer = comfy.js(
        "(id) => { const n = app.graph.getNodeById(id); n.collapse(); "
        "return app.graph.convertToSubgraph(new Set([n])).node.id; }",
        node,
    )
    choose(comfy, outer, "Open region editor")
    opened(comfy)
    touch(comfy, "touchStart", comfy.at(20, 20))
    touch(comfy, "touchMove", comfy.at(50, 50))
    touch(comfy, "touchMove", comfy.at(80, 60))
    touch(comfy, "touchEnd")
    comfy.until("() => document.querySelectorAll('dialog .replan-item').length === 5")
    comfy.key("Escape", "Escape")  # the hint at the box, then the view
    comfy.until(IS_CLOSED)
    value = comfy.js("async () => Object.values((await app.graphToPrompt()).output)[0].inputs.regions")
    assert value.count("bbox_2d") == 5


def test_a_run_another_renderer_another_workflow_and_a_deletion_meanwhile(comfy):
    first = comfy.renderer
    node = comfy.build()
    comfy.button("Large").click()
    opened(comfy)
    comfy.button("Plan").click()
    comfy.until("() => !document.querySelector('.replan-notes').textContent.includes('No image')")
    comfy.until(IS_OPEN)
    comfy.draw([420, 20, 560, 80])
    comfy.use("nodes2" if first == "classic" else "classic")
    try:
        comfy.draw([20, 20, 160, 80])
        comfy.key("Escape", "Escape")  # the hint at the box, then the view
        comfy.until(IS_CLOSED)
        comfy.shown()
        assert len(comfy.regions()) == 2
        comfy.focus()
        comfy.key("Control+z")
        comfy.wait_regions(1)
    finally:
        comfy.use(first)
        comfy.shown()
    comfy.button("Large").click()
    opened(comfy)
    saved = comfy.workflow()
    comfy.load({**saved, "nodes": [], "links": []})
    comfy.until(IS_CLOSED)
    comfy.load(saved)
    comfy.shown()
    comfy.wait_regions(1)
    comfy.button("Large").click()
    opened(comfy)
    comfy.js("(id) => app.graph.remove(app.graph.getNodeById(id))", node)
    comfy.until(IS_CLOSED)
    assert comfy.js("() => app.graph.nodes.map((one) => one.type)") == ["LoadImage"]


def test_the_plan_on_a_subgraphs_face_is_changed_there_and_is_what_runs(comfy):
    """ComfyUI shows an empty box for it, and sends the value of the face, whatever the editor inside holds."""
    node = with_plan(comfy)
    outer = comfy.js(
        """async (id) => { const made = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]));
          const inner = made.subgraph.nodes[0];
          const slot = inner.getSlotFromWidget(inner.widgets.find((one) => one.name === 'regions'));
          made.subgraph.addInput('regions', 'STRING').connect(slot, inner);
          for (let i = 0; i < 5; i += 1) await new Promise((done) => requestAnimationFrame(done));
          return made.node.id; }""",
        node,
    )
    choose(comfy, outer, "Open region editor")
    opened(comfy)
    comfy.drag((420, 20), (560, 80))
    comfy.until("() => document.querySelectorAll('dialog .replan-item').length === 4")
    comfy.key("Escape", "Escape")
    comfy.until(IS_CLOSED)
    comfy.load(comfy.workflow())
    value = comfy.js("async () => Object.values((await app.graphToPrompt()).output)[0].inputs.regions")
    assert value.count("bbox_2d") == 4
    choose(comfy, comfy.js("() => app.graph.nodes[0].id"), "Open region editor")
    opened(comfy)
    assert comfy.editor(".replan-item").count() == 4
    comfy.key("Escape")
    comfy.until(IS_CLOSED)
