"""What a region's row and its menu do: name, colour, order, align, copies for other editors."""

from editor_plan import PLAN, with_plan

CHOOSE = """(text) => [...document.querySelectorAll('.replan-menu:popover-open button')].find((one) =>
  one.textContent === text).click()"""


def shown(comfy) -> list:
    """What only shows, of each region."""
    return [region.get("editor") for region in comfy.regions()]


def test_a_region_is_named_and_coloured_and_the_rest_keep_their_colours(comfy):
    with_plan(comfy)
    comfy.click(500, 200, button="right")
    comfy.chosen("right")
    comfy.key("Escape")
    comfy.until("() => !document.querySelector(':popover-open')")
    row = comfy.editor('[data-region="right"]')
    assert row.get_attribute("title") == "the table"
    row.click(button="right")
    comfy.js(CHOOSE, "Rename")
    comfy.tab.keyboard.type("plate")
    comfy.editor().get_by_label("Colour", exact=True).fill("#102030")
    assert (comfy.regions()[2]["id"], shown(comfy)[2]) == ("right", {"name": "plate", "color": "#102030"})
    assert comfy.editor('[data-region="right"] .replan-name').inner_text().startswith("plate")
    comfy.focus()
    comfy.key("Control+z")
    assert shown(comfy)[2] == {"name": "plate"}
    comfy.click(150, 100)
    comfy.key("Delete")
    comfy.wait_regions(2)
    assert shown(comfy) == [{"color": "#3cb44b"}, {"name": "plate", "color": "#0082c8"}], "no place changes a colour"
    sides = (
        "() => [...document.querySelectorAll('.replan-item .replan-button')].flatMap((one) => [one.offsetWidth, "
        "one.offsetHeight])"
    )
    assert min(comfy.js(sides)) >= 28
    comfy.key("Control+z", "Control+z")
    comfy.wait_regions(3)
    assert shown(comfy) == [None] * 3


def test_several_are_arranged_in_one_step_and_copied_into_another_editor(comfy):
    with_plan(comfy)
    comfy.click(250, 200)
    comfy.key("Control+a")
    comfy.click(250, 200, button="right")
    comfy.js(CHOOSE, "Align left edges")
    comfy.until(
        "() => JSON.parse(app.graph.nodes[0].widgets.find((w) => w.name === 'regions').value).regions.every((one) => "
        "one.bbox_2d[0] === 100)"
    )
    comfy.focus()
    comfy.key("Control+z")
    assert [region["bbox_2d"] for region in comfy.regions()] == [region["bbox_2d"] for region in PLAN["regions"]]
    comfy.click(500, 200)
    comfy.key("Control+c")
    comfy.empty()
    with_plan(comfy, {**PLAN, "image_size": [300, 300], "regions": []})
    comfy.focus()
    comfy.key("Control+v")
    comfy.wait_regions(1)
    (region,) = comfy.regions()
    assert (region["hint"], region["bbox_2d"]) == ("the table", [170, 100, 300, 300]), "its pixels, moved inside"
