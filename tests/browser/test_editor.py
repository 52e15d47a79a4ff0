"""What a person does in the region editor, on the real page, in both renderers."""

import json

import pytest
from editor_plan import PLAN, ids, with_plan


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
    assert comfy.box(2) == [578, 100, 580, 300]
    assert comfy.editor().get_by_label("left", exact=True).input_value() == "578", "the field says so"


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
    comfy.key("Enter", "Control+d")
    comfy.wait_regions(2)
    assert [region["hint"] for region in comfy.regions()] == ["gold spoon", "gold spoon"]
    comfy.key("Escape", "Tab")
    comfy.chosen("r1")
    comfy.key("]", "Alt+l", "Delete", "ArrowLeft")
    assert ids(comfy) == ["r2", "r1"] and comfy.box(1) == [386, 374, 652, 631], "a locked region stays"
    comfy.key("Alt+l", "Escape")
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
    assert comfy.js("() => document.activeElement !== document.querySelector('.replan-canvas')"), "Tab is no trap"
    comfy.wait_regions(2)


def test_the_hosts_keys_to_run_and_save_go_through_and_no_others(comfy):
    with_plan(comfy)
    comfy.js(
        "() => { window.keys = []; window.noteKey = (e) => { window.keys.push(e.key); e.preventDefault(); "
        "e.stopImmediatePropagation(); }; document.addEventListener('keydown', window.noteKey); }"
    )
    comfy.click(500, 200)
    for part in (comfy.editor(".replan-canvas"), comfy.hint(), comfy.editor('[role="listbox"]')):
        part.focus()
        comfy.key("Control+Enter", "Control+s", "r", "Control+a", "Control+c")
    comfy.js("() => document.removeEventListener('keydown', window.noteKey)")
    pressed = comfy.js("() => window.keys.filter((key) => key !== 'Control')")
    assert pressed == ["Enter", "s"] * 3
    comfy.js(
        "() => { window.queued = 0; window.queue = app.queuePrompt; app.queuePrompt = async () => { window.queued += "
        "1; }; }"
    )
    comfy.hint().focus()
    comfy.key("Control+Enter")
    comfy.until("() => window.queued === 1")
    comfy.js("() => { app.queuePrompt = window.queue; }")


def test_a_drawn_box_takes_its_hint_where_it_is_and_no_letter_is_a_command(comfy):
    """The words "make the face smile" left no hint, and a region that was off and locked; Backspace deleted the box."""
    comfy.build(picture=None)
    comfy.draw([200, 200, 500, 600])
    field = comfy.editor(".replan-hint-field")
    assert field.is_visible()
    comfy.key("Backspace")
    comfy.tab.keyboard.type("make the face smile, h l s")
    assert comfy.regions()[0]["hint"] == "make the face smile, h l s"
    comfy.key("Enter")
    assert not field.is_visible()
    comfy.tab.keyboard.type("h, left")  # the canvas has the focus: the letters go on where they were meant
    comfy.key("Enter", "Backspace")
    assert field.is_visible(), "to correct the hint, not to delete the box"
    comfy.key("Backspace", "Enter")
    region = comfy.regions()[0]
    assert region["hint"] == "make the face smile, h l sh, lef" and region.get("enabled", True)
    assert not region.get("locked") and not comfy.stored()["editor"].get("view", {}).get("snap")
    # Escape takes back what was typed since the field opened, not the box; undo knows nothing of it.
    comfy.click(350, 400, click_count=2)
    assert field.is_visible() and field.input_value() == region["hint"]
    comfy.tab.keyboard.type(" and more")
    comfy.key("Escape")
    assert comfy.regions()[0]["hint"] == region["hint"] and not field.is_visible()
    comfy.draw([600, 200, 900, 400])
    comfy.key("Escape")
    assert len(comfy.regions()) == 2 and not field.is_visible(), "a new box stays, without a hint"
    comfy.tab.keyboard.type("new")
    comfy.draw([600, 600, 900, 800])  # to draw on keeps what is written
    assert [one["hint"] for one in comfy.regions()] == [region["hint"], "new", ""]
    comfy.key("Escape", "Control+z", "Control+z")
    assert [one["hint"] for one in comfy.regions()] == [region["hint"], ""], "the box is one step, its hint another"


def test_a_double_click_writes_in_the_box_on_top_and_the_field_stays_in_the_picture(comfy):
    with_plan(comfy)
    field = comfy.editor(".replan-hint-field")
    for _ in range(2):  # also when it is selected: one press more would go on to the box below
        comfy.click(250, 200, click_count=2)
        assert field.is_visible() and field.input_value() == "the foam"
        comfy.key("Enter")
    comfy.click(575, 299, click_count=2)
    comfy.chosen("right")
    assert field.input_value() == "the table", "a second press on its corner, which would resize it"
    assert comfy.box(2) == PLAN["regions"][2]["bbox_2d"]
    inside = """() => { const [a, b] = ['.replan-hint-field', '.replan-stage'].map((one) =>
      document.querySelector(one).getBoundingClientRect());
      return a.left >= b.left && a.top >= b.top && a.right <= b.right && a.bottom <= b.bottom; }"""
    assert comfy.js(inside)
    comfy.key("Shift+Enter")
    comfy.tab.keyboard.type("of oak")
    # Enter that chooses a word in an input method is none that closes.
    comfy.js(
        "() => document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, "
        "bubbles: true }))"
    )
    assert field.is_visible() and comfy.regions()[2]["hint"] == "the table\nof oak"
    comfy.key("Enter")
    comfy.focus()
    comfy.key("Control+z")
    assert comfy.regions()[2]["hint"] == "the table", "what was typed is one step"


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
    assert comfy.near(comfy.box(1), [180, 180, 280, 280], 3) and comfy.near(comfy.box(2), [430, 130, 560, 330], 3)
    assert comfy.box(0) == [100, 80, 400, 320]
    comfy.focus()
    comfy.key("Control+z")
    assert comfy.box(1) == [200, 150, 300, 250], "one drag is one step"


def test_lock_and_switch_off_from_the_list(comfy):
    with_plan(comfy)
    row = comfy.editor('[data-region="small"]')
    row.locator("button").nth(1).click()
    comfy.drag((250, 200), (270, 220))
    assert comfy.box(1) == [200, 150, 300, 250]
    row.locator("button").nth(2).click()
    comfy.click(250, 200)
    comfy.chosen("big")
    region = comfy.regions()[1]
    assert region["locked"] and region["enabled"] is False
    assert "2 of 3 on" in comfy.editor(".replan-badge").inner_text()
    row.locator("button").nth(1).focus()
    comfy.key("Enter")
    assert not comfy.regions()[1]["locked"], "a button in the list is pressed by Enter"
    comfy.editor('[data-region="right"] .replan-name').click()
    comfy.key("l", "Delete")
    assert comfy.regions()[2]["locked"] and len(comfy.regions()) == 3, "the list has the canvas's keys"
    comfy.key("Tab")
    assert comfy.js("() => document.activeElement.ariaLabel") == "Name", "the buttons of a row are not on the way"
    comfy.key("Shift+Tab", "l", "Control+Backspace")
    assert ids(comfy) == ["big", "small"]
    comfy.editor().get_by_label("Dim the image").focus()
    comfy.key("Control+z")
    comfy.wait_regions(3)
    comfy.key(*["Control+z"] * 5)
    assert not any("enabled" in region for region in comfy.regions()), "undo covers the switch"


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
    comfy.click(500, 200)
    comfy.hint().press("Control+a")  # where the middle button pastes what is selected, it must not while it pans
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


@pytest.mark.parametrize("button", ["left", "middle"])
def test_a_release_that_never_arrives_ends_the_drag(comfy, button):
    with_plan(comfy)
    before = comfy.regions()
    start, end, later = (comfy.at(*point) for point in ((420, 20), (560, 80), (500, 100)))
    comfy.tab.mouse.move(*start)
    comfy.tab.mouse.down(button=button)
    comfy.tab.mouse.move(*end, steps=3)
    comfy.js(
        "() => addEventListener('pointerup', (event) => { event.stopImmediatePropagation(); event.preventDefault(); "
        "}, { capture: true, once: true })"
    )
    comfy.tab.mouse.up(button=button)
    comfy.tab.mouse.move(*later, steps=3)
    if button == "left":
        comfy.wait_regions(4)
        assert comfy.near(comfy.box(3), [420, 20, 560, 80], 3), "what was drawn until then stays"
    else:
        assert comfy.regions() == before
        comfy.button("Fit").click()
        comfy.draw([420, 20, 560, 80])
        assert comfy.near(comfy.box(3), [420, 20, 560, 80], 3), "nothing was panned after that"


def test_clear_the_mode_line_and_how_things_are_shown(comfy):
    comfy.build(picture=None)
    mode = comfy.editor(".replan-mode")
    assert mode.get_attribute("data-mode") == "baseline"
    comfy.draw([200, 200, 500, 600])
    comfy.key("Escape", "Alt+l")
    comfy.draw([600, 200, 900, 600])
    comfy.drawn()
    assert mode.get_attribute("data-mode") == "manual"
    comfy.button("Clear").click()
    comfy.wait_regions(1)
    assert comfy.regions()[0]["locked"], "a locked region stays"
    comfy.focus()
    comfy.key("Tab", "Alt+l", "Delete")
    comfy.wait_regions(0)
    comfy.drawn()
    assert mode.get_attribute("data-mode") == "baseline"
    comfy.key("Control+z", "Control+z", "Control+z")
    comfy.wait_regions(2)
    boxes = [region["bbox_2d"] for region in comfy.regions()]
    brightness = """() => { const c = document.querySelector('.replan-canvas'), d = c.getContext('2d').getImageData(0,
    0, c.width, c.height).data;
      let sum = 0; for (let i = 0; i < d.length; i += 4) sum += d[i]; return sum / (d.length / 4); }"""
    before = comfy.js(brightness)
    comfy.editor().get_by_label("Dim the image").fill("0.9")
    comfy.until(f"(before) => ({brightness})() < before / 2", before)
    dimmed = comfy.js(brightness)
    # Which patches there are is asked of the server: they are drawn some time after the press.
    comfy.button("Patches").click()
    comfy.until(f"(dimmed) => ({brightness})() > dimmed", dimmed)
    sparse = comfy.js(brightness)
    comfy.editor().get_by_label("Expansion to show").fill("0.3")
    comfy.key("Tab")
    comfy.until(f"(sparse) => ({brightness})() > sparse", sparse)  # more patches are tinted
    comfy.button("List").click()
    comfy.drawn()
    assert not comfy.editor(".replan-side").is_visible()
    view = comfy.stored()["editor"]["view"]
    assert (view["dim"], view["expand"], view["side"]) == (0.9, 0.3, False)
    assert [region["bbox_2d"] for region in comfy.regions()] == boxes


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


def test_paste_a_reply_copy_and_paste_regions(comfy):
    with_plan(comfy)
    comfy.button("Paste").click()
    comfy.editor().get_by_label("Plan to paste").fill(
        '<gen_image>A cup.</gen_image><region>[{"bbox_2d": [0.1, 0.2, 0.5, 0.6], "hint": "gold"}, {"bbox_2d": '
        '"oops"}]</region>'
    )
    comfy.button("Use it").click()
    comfy.wait_regions(1)
    assert "oops" in comfy.editor(".replan-notes").inner_text(), "what was repaired is said, as the node says it"
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


def test_a_text_that_cannot_be_pasted_stays_and_says_why_also_without_a_server(comfy):
    with_plan(comfy)
    comfy.button("Paste").click()
    area, alert = comfy.editor().get_by_label("Plan to paste"), comfy.editor().get_by_role("alert")
    area.fill("this is no plan")
    comfy.button("Use it").click()
    comfy.editor().get_by_text("the text is neither").wait_for()
    comfy.context.route("**/replan/read", lambda route: route.abort())
    area.fill('[{"bbox_2d": [0.1, 0.2, 0.5, 0.6], "hint": "gold"}]')
    comfy.button("Use it").click()
    comfy.editor().get_by_text("ComfyUI does not answer").wait_for()
    assert len(comfy.regions()) == 3 and "gold" in area.input_value()
    comfy.context.unroute("**/replan/read")
    area.fill("x" * (1 << 20))
    comfy.button("Use it").click()
    comfy.editor().get_by_text("more than 1 MiB").wait_for()
    assert alert.is_visible()
    area.fill('[{"bbox_2d": [0.1, 0.2, 0.5, 0.6], "hint": "gold"}]')
    comfy.button("Use it").click()
    comfy.wait_regions(1)
    comfy.problems.clear()  # the browser's own words about the refused requests


TINTED = """() => { const c = document.querySelector('.replan-canvas'), d = c.getContext('2d').getImageData(0, 0,
c.width, c.height).data;
  let n = 0; for (let i = 0; i < d.length; i += 4) n += Math.abs(d[i] - d[i + 2]) > 30; return n / (d.length / 4); }"""


def test_the_patches_shown_are_those_the_run_takes_masks_included(comfy):
    """They were those of the box, whatever its mask said."""
    half = {"size": [2, 2], "rle": [0, 1, 1, 1, 1]}  # the left half
    region = {"id": "m", "bbox_2d": [0, 0, 600, 400], "hint": "half"}
    shares = []
    for mask in (None, half):
        with_plan(comfy, {**PLAN, "regions": [{**region, "mask": mask}]})
        comfy.js(
            "() => { const draw = CanvasRenderingContext2D.prototype; window.drawImage ??= draw.drawImage; "
            "draw.drawImage = () => {}; }"
        )  # the mask itself is drawn too: leave it out
        comfy.button("Patches").click()
        comfy.until(f"() => ({TINTED})() > 0.1")
        shares.append(comfy.js(TINTED))
        comfy.js("() => { CanvasRenderingContext2D.prototype.drawImage = window.drawImage; }")
        comfy.empty()
    assert shares[1] == pytest.approx(shares[0] / 2, rel=0.1)


def test_what_a_run_would_refuse_is_said_when_it_is_loaded(comfy):
    with_plan(
        comfy, {**PLAN, "regions": [{"id": "r1", "bbox_2d": [10, 10, 90, 90], "hint": "x", "start": 0.9, "end": 0.2}]}
    )
    comfy.editor().get_by_text("A run will refuse this plan").wait_for()
    assert "would never be active" in comfy.editor(".replan-notes").inner_text()
    comfy.focus()
    comfy.key("Control+a", "Delete")
    comfy.until("() => !document.querySelector('.replan-notes').textContent.includes('refuse')")


def test_nothing_to_list_is_no_button_and_the_editor_has_no_tooltip_of_its_own(comfy):
    """The input's own words about JSON lay over the editor wherever the pointer rested."""
    node = comfy.build(picture=None)
    assert comfy.button("Changes").is_disabled()
    comfy.draw([200, 200, 500, 600])
    assert comfy.button("Changes").is_enabled()
    comfy.tab.mouse.move(*comfy.at(700, 700))
    comfy.js("() => new Promise((done) => setTimeout(done, 1200))")
    over = comfy.js(
        "() => { const found = []; for (let e = document.querySelector('.replan-canvas'); e; e = e.parentElement) if "
        "(e.title) found.push(e.title); return [...found, ...[...document.querySelectorAll('.p-tooltip, "
        ".node-tooltip')].map((e) => e.innerText)].join(' '); }"
    )
    assert "JSON" not in over, over
    assert comfy.js("(id) => app.graph.getNodeById(id).type", node) == "RePlanRegionEditor"


def test_the_right_side_panel_leaves_the_editor_its_width(comfy):
    """ComfyUI's panel shows the widgets of the chosen node, and set the width of this one: 712 pixels became 290."""
    node = with_plan(comfy)
    width = "() => document.querySelector('[data-node-id] .replan-editor, .dom-widget .replan-editor').offsetWidth"
    before = comfy.js(width)
    comfy.js("async () => { await app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', true); }")
    try:
        comfy.js("(id) => { app.canvas.deselectAll?.(); app.canvas.selectNode?.(app.graph.getNodeById(id)); }", node)
        comfy.until(
            "() => [...document.querySelectorAll('*')].some((e) => !e.children.length && e.textContent.trim() === "
            "'follow_upstream' && !e.closest('[data-node-id]'))"
        )
        comfy.drawn()
        assert comfy.js(width) == before
    finally:
        comfy.js("async () => { await app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', false); }")
        comfy.shown()


def test_the_editor_grows_with_its_node_and_has_names_for_screen_readers(comfy):
    node = with_plan(comfy)
    width = "() => document.querySelector('.replan-canvas').offsetWidth"
    before = comfy.js(width)
    comfy.js(
        "(id) => { const n = app.graph.getNodeById(id); n.setSize([n.size[0] + 200, n.size[1] + 100]); "
        "app.canvas.setDirty(true, true); }",
        node,
    )
    comfy.until(f"(before) => ({width})() > before + 150", before)
    comfy.shown()
    comfy.draw([420, 20, 560, 80])
    assert comfy.near(comfy.box(3), [420, 20, 560, 80], 3)
    comfy.chosen("r4")
    assert comfy.editor().get_by_role("listbox", name="Regions").get_by_role("option", selected=True).count() == 1
    assert "Region 4 of 4" in comfy.editor('[aria-live="polite"]').inner_text()
    nameless = comfy.js(
        "() => [...document.querySelectorAll('.replan-editor :is(button, input, textarea, select, "
        "canvas)')].filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label') || e.title)).length"
    )
    assert nameless == 0
