"""What a person does in the region editor, on the real page, in both renderers."""

import json

import pytest

PLAN = {
    "version": 1,
    "image_size": [600, 400],
    "global_prompt": "a cup",
    "reasoning": "",
    "regions": [
        {"id": "big", "bbox_2d": [100, 80, 400, 320], "hint": "the cup"},
        {"id": "small", "bbox_2d": [200, 150, 300, 250], "hint": "the foam"},
        {"id": "right", "bbox_2d": [450, 100, 580, 300], "hint": "the table"},
    ],
}


def with_plan(comfy, plan=PLAN) -> int:
    """An editor that holds a plan, as a loaded workflow brings it."""
    node = comfy.build(picture=None)
    comfy.js(
        "([id, value]) => { app.graph.getNodeById(id).widgets.find((w) => w.name === 'regions').value = value; }",
        [node, json.dumps(plan)],
    )
    comfy.wait_regions(len(plan["regions"]))
    return node


def ids(comfy) -> list[str]:
    return [region["id"] for region in comfy.regions()]


def test_draw_move_and_resize_by_corner_and_edge(comfy):
    comfy.build(picture=None)
    comfy.draw([200, 200, 500, 600])
    assert comfy.near(comfy.box(), [200, 200, 500, 600], 3)
    comfy.drag((350, 400), (450, 350))
    assert comfy.near(comfy.box(), [300, 150, 600, 550], 4)
    comfy.drag((600, 350), (700, 360))
    assert comfy.near(comfy.box(), [300, 150, 700, 550], 5), "the right edge alone"
    comfy.drag((300, 150), (250, 100))
    assert comfy.near(comfy.box(), [250, 100, 700, 550], 6), "the corner, two edges"
    comfy.drag((450, 300), (2000, -2000))
    box = comfy.box()
    assert box[1] == 0 and box[2] == 1024 and comfy.near([box[2] - box[0], box[3]], [450, 450], 6), (
        "it stops at the border"
    )
    comfy.click(100, 900)
    comfy.chosen()
    comfy.drag((40, 990), (41, 991))
    assert len(comfy.regions()) == 1, "a press that does not move draws nothing"


def test_hint_global_prompt_and_exact_numbers(comfy):
    with_plan(comfy)
    comfy.click(500, 200)
    comfy.hint().fill("a wooden table")
    comfy.editor().get_by_label("right", exact=True).fill("555.5")
    comfy.key("Enter")
    comfy.editor().get_by_text("More").click()
    comfy.editor().get_by_label("Negative hint").fill("stains")
    comfy.editor().get_by_label("end", exact=True).fill("0.6")
    comfy.key("Enter")
    comfy.editor().get_by_label("Global prompt").fill("a cup at night")
    comfy.until(
        "() => [...document.querySelectorAll('.replan-item')].some((i) => i.textContent.includes('a wooden table'))"
    )
    stored = comfy.stored()
    region = stored["regions"][2]
    assert (region["hint"], region["negative_hint"], region["end"]) == ("a wooden table", "stains", 0.6)
    assert region["bbox_2d"] == [450, 100, 555.5, 300]
    assert stored["global_prompt"] == "a cup at night"


def test_a_number_that_makes_no_box_is_put_right(comfy):
    with_plan(comfy)
    comfy.click(500, 200)
    comfy.editor().get_by_label("left", exact=True).fill("9999")
    comfy.key("Enter")
    assert comfy.box(2) == [579, 100, 580, 300]


def test_delete_undo_and_redo_by_keys_and_buttons_without_the_graphs_own(comfy):
    node = with_plan(comfy)
    comfy.click(500, 200)
    comfy.key("Delete")
    comfy.wait_regions(2)
    comfy.key("Control+z")
    comfy.wait_regions(3)
    comfy.key("Control+Shift+z")
    comfy.wait_regions(2)
    comfy.button("Undo (Ctrl+Z)").click()
    comfy.wait_regions(3)
    comfy.button("Redo (Ctrl+Shift+Z)").click()
    comfy.wait_regions(2)
    comfy.button("Snap").click()
    comfy.key("Control+z")
    comfy.wait_regions(3)
    comfy.focus()
    for _ in range(6):
        comfy.key("Control+z")
    comfy.js(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))"
    )
    assert comfy.js("(id) => app.graph.getNodeById(id)?.type", node) == "RePlanRegionEditor", (
        "the graph's undo stayed out of it"
    )
    assert ids(comfy) == ["big", "small", "right"]


def test_the_keyboard_alone_does_everything(comfy):
    comfy.build(picture=None)
    comfy.focus()
    comfy.key("n")
    comfy.wait_regions(1)
    assert comfy.box() == [384, 384, 640, 640]
    comfy.key("ArrowRight", "ArrowRight", "Shift+ArrowUp", "Alt+ArrowDown", "Alt+Shift+ArrowRight")
    assert comfy.box() == [386, 374, 652, 631]
    comfy.key("Enter")
    comfy.tab.keyboard.type("gold spoon")
    comfy.key("Escape", "Control+d")
    comfy.wait_regions(2)
    assert [region["hint"] for region in comfy.regions()] == ["gold spoon", "gold spoon"]
    comfy.key("Escape", "Tab")
    comfy.chosen("r1")
    comfy.key("]", "l", "Delete", "ArrowLeft")
    assert ids(comfy) == ["r2", "r1"] and comfy.box(1) == [386, 374, 652, 631], "a locked region stays"
    comfy.key("l", "Escape")
    comfy.editor('[role="listbox"]').focus()
    comfy.key("ArrowDown", "Shift+ArrowDown")
    comfy.chosen("r1", "r2")
    comfy.key("Delete")
    comfy.wait_regions(0)
    comfy.focus()
    comfy.key("Control+z")
    comfy.wait_regions(2)
    comfy.key("Control+a", "Delete")
    comfy.wait_regions(0)
    comfy.key("Control+z", "?")
    assert comfy.editor().get_by_role("dialog", name="Keys").is_visible()
    comfy.key("Escape")
    assert comfy.editor().get_by_role("dialog").count() == 0
    comfy.key("Escape", "Tab", "Tab", "Tab")
    assert comfy.js("() => document.activeElement !== document.querySelector('.replan-canvas')"), (
        "Tab is no trap"
    )
    comfy.wait_regions(2)


def test_a_second_press_goes_to_the_box_below_and_control_draws_over(comfy):
    with_plan(comfy)
    comfy.click(250, 200)
    comfy.chosen("small")
    comfy.click(250, 200)
    comfy.chosen("big")
    comfy.click(250, 200)
    comfy.chosen("small")
    comfy.tab.keyboard.down("Control")
    comfy.draw([120, 100, 380, 300])
    comfy.tab.keyboard.up("Control")
    assert comfy.near(comfy.box(3), [120, 100, 380, 300], 3)


def test_several_regions_move_together(comfy):
    with_plan(comfy)
    comfy.click(500, 200)
    comfy.tab.keyboard.down("Shift")
    comfy.click(250, 200)
    comfy.tab.keyboard.up("Shift")
    comfy.chosen("right", "small")
    comfy.drag((520, 200), (500, 230))
    assert comfy.near(comfy.box(1), [180, 180, 280, 280], 3) and comfy.near(
        comfy.box(2), [430, 130, 560, 330], 3
    )
    assert comfy.box(0) == [100, 80, 400, 320]
    comfy.focus()
    comfy.key("Control+z")
    assert comfy.box(1) == [200, 150, 300, 250], "one drag is one step"


def test_lock_and_hide_from_the_list(comfy):
    with_plan(comfy)
    row = comfy.editor('[data-region="small"]')
    row.locator("button").nth(0).click()
    comfy.drag((250, 200), (270, 220))
    assert comfy.box(1) == [200, 150, 300, 250]
    row.locator("button").nth(1).click()
    comfy.click(250, 200)
    comfy.chosen("big")
    region = comfy.regions()[1]
    assert region["locked"] and region["hidden"]


def test_snap_and_the_view_of_patches(comfy):
    with_plan(comfy)
    comfy.button("Snap").click()
    comfy.button("Patches").click()
    comfy.draw([20, 20, 70, 45])
    box = comfy.box(3)
    assert box == [16, 16, 64, 48]
    comfy.drag((40, 32), (60, 60))
    assert comfy.box(3) == [32, 48, 80, 80]
    assert comfy.stored()["editor"]["view"]["snap"] is True


def test_zoom_and_pan_inside_change_no_box(comfy):
    with_plan(comfy)
    comfy.click(10, 10)
    comfy.tab.mouse.wheel(0, -400)
    comfy.tab.mouse.down(button="middle")
    comfy.tab.mouse.move(*comfy.at(100, 60), steps=3)
    comfy.tab.mouse.up(button="middle")
    assert comfy.regions() == [
        {**region, "negative_hint": "", "start": 0, "end": 1, "mask": None} for region in PLAN["regions"]
    ]
    assert comfy.js("() => app.canvas.ds.scale") == comfy.zoom, "the graph did not zoom"
    comfy.focus()
    comfy.key("Control+ArrowRight", "+", "-", "Shift+ArrowUp")
    assert [region["bbox_2d"] for region in comfy.regions()] == [one["bbox_2d"] for one in PLAN["regions"]]
    comfy.button("Fit").click()
    comfy.draw([420, 20, 560, 80])
    assert comfy.near(comfy.box(3), [420, 20, 560, 80], 3)


def touch(comfy, kind: str, *points) -> None:
    comfy.devtools().send(
        "Input.dispatchTouchEvent",
        {"type": kind, "touchPoints": [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]},
    )
    comfy.drawn()


def test_a_finger_draws_and_two_zoom(comfy):
    with_plan(comfy)
    touch(comfy, "touchStart", comfy.at(420, 20))
    touch(comfy, "touchMove", comfy.at(500, 60))
    touch(comfy, "touchMove", comfy.at(560, 80))
    touch(comfy, "touchEnd")
    comfy.wait_regions(4)
    assert comfy.near(comfy.box(3), [420, 20, 560, 80], 3)
    touch(comfy, "touchStart", comfy.at(200, 200))
    touch(comfy, "touchStart", comfy.at(200, 200), comfy.at(300, 200))
    touch(comfy, "touchMove", comfy.at(100, 200), comfy.at(400, 200))
    touch(comfy, "touchEnd")
    assert len(comfy.regions()) == 4 and comfy.box(0) == [100, 80, 400, 320]


def test_a_pen_draws(comfy):
    with_plan(comfy)
    client = comfy.devtools()
    for kind, point, buttons in (
        ("mousePressed", (420, 20), 1),
        ("mouseMoved", (500, 60), 1),
        ("mouseMoved", (560, 80), 1),
        ("mouseReleased", (560, 80), 0),
    ):
        x, y = comfy.at(*point)
        button = "none" if kind == "mouseMoved" else "left"
        client.send(
            "Input.dispatchMouseEvent",
            {
                "type": kind,
                "x": x,
                "y": y,
                "button": button,
                "buttons": buttons,
                "clickCount": 1,
                "pointerType": "pen",
                "force": 0.5,
            },
        )
    comfy.wait_regions(4)
    assert comfy.near(comfy.box(3), [420, 20, 560, 80], 3)


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
        "(id) => { app.canvas.select(app.graph.getNodeById(id)); app.canvas.copyToClipboard(); app.canvas.pasteFromClipboard(); }",
        node,
    )
    comfy.until(
        "() => app.graph.nodes.length === 2 && document.querySelectorAll('.replan-editor').length === 2"
    )
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
          for (let i = 0; i < 5; i += 1) await new Promise((done) => requestAnimationFrame(done)); // as a person would, not in the same instant
          app.canvas.setGraph(made.subgraph); }""",
        node,
    )
    comfy.look()
    comfy.shown()
    comfy.until("() => document.querySelectorAll('.replan-item').length === 3")
    inside = "() => JSON.parse([...app.rootGraph.subgraphs.values()][0].nodes.find((n) => n.type === 'RePlanRegionEditor').widgets.find((w) => w.name === 'regions').value)"
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
        "(id) => JSON.parse(app.graph.getNodeById(id).widgets.find((w) => w.name === 'regions').value).regions.map((r) => r.hint)",
        node,
    )
    assert found == texts
    assert comfy.js("() => window.hacked") is None
    assert (
        comfy.js(
            "() => document.querySelectorAll('.replan-editor :is(script, img, iframe, svg, video, audio, object, embed, link, style, form)').length"
        )
        == 0
    )


def test_paste_a_reply_copy_and_paste_regions(comfy):
    with_plan(comfy)
    comfy.button("Paste").click()
    comfy.editor().get_by_label("Plan to paste").fill(
        '<gen_image>A cup.</gen_image><region>[{"bbox_2d": [0.1, 0.2, 0.5, 0.6], "hint": "gold"}, oops]</region>'
    )
    comfy.button("Use it").click()
    assert "RePlan Plan from Text" in comfy.editor().get_by_role("alert").inner_text()
    comfy.editor().get_by_label("Plan to paste").fill(
        '<gen_image>A cup.</gen_image><region>[{"bbox_2d": [0.1, 0.2, 0.5, 0.6], "hint": "gold"}]</region>'
    )
    comfy.button("Use it").click()
    comfy.wait_regions(1)
    assert comfy.near(comfy.box(), [60, 80, 300, 240], 0.001)
    assert comfy.editor(".replan-mode").get_attribute("data-mode") == "planned"
    comfy.key("Control+z")
    comfy.wait_regions(3)
    comfy.click(500, 200)
    comfy.key("Control+c", "Control+v")
    comfy.wait_regions(4)
    assert comfy.regions()[3]["hint"] == "the table" and comfy.js("() => app.graph.nodes.length") == 1
    comfy.button("Copy").click()
    copied = json.loads(comfy.js("() => navigator.clipboard.readText()"))
    assert len(copied["regions"]) == 4 and "editor" not in copied


def test_the_editor_grows_with_its_node_and_has_names_for_screen_readers(comfy):
    node = with_plan(comfy)
    width = "() => document.querySelector('.replan-canvas').offsetWidth"
    before = comfy.js(width)
    comfy.js(
        "(id) => { const n = app.graph.getNodeById(id); n.setSize([n.size[0] + 200, n.size[1] + 100]); app.canvas.setDirty(true, true); }",
        node,
    )
    comfy.until(f"(before) => ({width})() > before + 150", before)
    comfy.shown()
    comfy.draw([420, 20, 560, 80])
    assert comfy.near(comfy.box(3), [420, 20, 560, 80], 3)
    comfy.chosen("r4")
    assert (
        comfy.editor().get_by_role("listbox", name="Regions").get_by_role("option", selected=True).count()
        == 1
    )
    assert "Region 4 of 4" in comfy.editor('[aria-live="polite"]').inner_text()
    nameless = comfy.js(
        "() => [...document.querySelectorAll('.replan-editor :is(button, input, textarea, select, canvas)')].filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label') || e.title)).length"
    )
    assert nameless == 0
