"""The rule matrix of RePlanRules on the real page, in both renderers."""

import json

import pytest
from matrix_page import PLAN, Matrix, text

ALL = ["H all", "N all", "I all"]
PLAIN = ["Main", "ImgP", *ALL, "N.BG", "I.BG", "Ref all"]


def test_the_preset_is_shown_and_a_press_changes_one_cell_and_changes_it_back(comfy):
    matrix = Matrix(comfy)
    assert matrix.headings() == PLAIN
    assert matrix.state("Main", "H all") == "-"
    assert matrix.state("N all", "H all") == "o"
    assert matrix.state("ImgP", "H all") == "x"
    matrix.press("ImgP", "H all")
    matrix.waits(text(after={"image_prompt|hint:*": False}))
    assert matrix.state("ImgP", "H all") == "- changed set"
    matrix.press("ImgP", "H all")
    matrix.waits("")
    for value in (True, False, None):
        matrix.press("N all", "H all")
        matrix.waits("" if value is None else text(after={"noise:*|hint:*": value}))
    matrix.press("Main", "Main")
    assert matrix.stored() is None, "a component always sees itself"


def test_a_drag_gives_the_same_to_all_on_its_way_and_is_one_step_to_undo(comfy):
    matrix = Matrix(comfy)
    comfy.tab.mouse.move(*matrix.centre("Main", "ImgP"))
    comfy.tab.mouse.down()
    comfy.tab.mouse.move(*matrix.centre("Main", "I all"), steps=12)
    comfy.tab.mouse.up()
    comfy.tab.mouse.move(*matrix.centre("I.BG", "I all"))
    drawn = text(after={"main|image_prompt": False, "main|noise:*": False, "main|image:*": False})
    matrix.waits(drawn)  # Main does not see the hints anyway: nothing to store
    comfy.key("Control+z")
    matrix.waits("")
    comfy.key("Control+Shift+z")
    matrix.waits(drawn)
    matrix.button("Undo (Ctrl+Z)").click()
    matrix.waits("")
    comfy.key("Control+z", "Control+z", "Control+z")
    assert comfy.js("(id) => app.graph.getNodeById(id)?.type", matrix.id) == "RePlanRules", (
        "the graph's undo stayed out of it"
    )
    comfy.tab.mouse.move(*matrix.centre("Main", "ImgP"))
    comfy.tab.mouse.down()
    comfy.tab.mouse.move(*matrix.centre("Main", "I all"), steps=1)  # fast: it is seen at the two ends alone
    comfy.tab.mouse.up()
    matrix.waits(drawn)
    said = matrix.root(".replan-said").inner_text()
    comfy.tab.mouse.move(*matrix.centre("I.BG", "I all"))
    assert matrix.root(".replan-said").inner_text() != said
    comfy.tab.mouse.move(*matrix.centre("Main", "I all"))
    assert matrix.root(".replan-said").inner_text() == said, "what the pointer is on, the current cell too"
    comfy.key("Control+z")
    matrix.button("Redo (Ctrl+Shift+Z)").click()
    matrix.waits(drawn)
    matrix.button("Clear").click()
    matrix.waits("")


SLOW = """(wait) => { window.fetchAtOnce ??= window.fetch; window.fetch = async (address, ...rest) => {
  if (wait && String(address?.url ?? address).includes('replan/matrix')) await new Promise((done) => setTimeout(done,
  wait)); return window.fetchAtOnce(address, ...rest); }; }"""


@pytest.fixture
def answers_are_late(comfy):
    """The rule matrix's answers take half a second."""
    comfy.js(SLOW, 500)
    yield
    comfy.js(SLOW, 0)


def test_what_is_pressed_before_an_answer_keeps_its_order(comfy, answers_are_late):
    """Undo took back the answered press before, and the one that waited was lost."""
    matrix = Matrix(comfy)
    first, second, third = (matrix.centre("ImgP", column) for column in ("H all", "N all", "I all"))
    one, two = {"image_prompt|hint:*": False}, {"image_prompt|noise:*": False}
    click = comfy.tab.mouse.click
    click(*first)
    comfy.key("Control+z")
    click(*second)
    matrix.waits(text(after=two))
    comfy.key("Control+z")
    matrix.waits("")
    click(*first)
    click(*second)
    comfy.key("Control+z")
    comfy.until("() => document.querySelector('.replan-matrix').getAttribute('aria-busy') === 'false'")
    assert matrix.stored() == {"after": one}, "undo takes back the last press alone"
    comfy.key("Control+Shift+z")
    matrix.waits(text(after={**one, **two}))
    click(*third)
    comfy.tab.get_by_role("button", name="Clear", exact=True).click()
    matrix.waits("")
    comfy.key("Control+z", "Control+z")
    matrix.waits(text(after={**one, **two}))


def test_a_press_stays_when_a_text_is_typed_before_its_answer(comfy, answers_are_late):
    matrix = Matrix(comfy)
    matrix.button("Text").click()
    field = matrix.root().get_by_label("Rule matrix as JSON")
    comfy.tab.mouse.click(*matrix.centre("ImgP", "H all"))
    field.fill('{"after": {"image_prompt|noise:*": false}}')
    matrix.waits(text(after={"image_prompt|noise:*": False, "image_prompt|hint:*": False}))


def test_the_keyboard_alone_changes_cells_and_each_is_said(comfy):
    matrix = Matrix(comfy)
    grid = matrix.root().get_by_role("grid")
    grid.focus()
    comfy.key("ArrowDown", "ArrowRight", "ArrowRight", " ")
    matrix.waits(text(after={"image_prompt|hint:*": False}))
    said = "image prompt does not see hint of all: differs from the preset"
    comfy.until("(said) => document.querySelector('.replan-said').textContent === said", said)
    current = matrix.root(f"#{grid.get_attribute('aria-activedescendant')}")
    assert current.get_attribute("aria-label") == said
    comfy.key("Delete")
    matrix.waits("")
    comfy.key("End", "Home", "Enter")
    matrix.waits(text(after={"image_prompt|main": False}))
    comfy.key("Control+z")
    matrix.waits("")
    comfy.key("Control+y")
    matrix.waits(text(after={"image_prompt|main": False}))
    assert comfy.js("() => app.graph.nodes.length") == 1, "Delete stayed inside"
    nameless = comfy.js(
        "() => [...document.querySelectorAll('.replan-matrix :is(button, textarea, td)')].filter((e) => "
        "!(e.getAttribute('aria-label') || e.textContent.trim())).length"
    )
    assert nameless == 0


def test_regions_come_from_the_editor_and_deleting_a_box_moves_no_cell(comfy):
    cells = text(after={"noise:cup|noise:r2": False, "hint:r2|noise:cup": False})
    matrix = Matrix(comfy, cells, with_editor=True)
    comfy.until("() => document.querySelectorAll('.replan-chips .replan-button').length === 3")
    assert matrix.headings() == [*PLAIN[:5], "H cup", "N cup", "I cup", "H r2", "N r2", "I r2", *PLAIN[5:]]
    assert matrix.state("N cup", "N r2") == "- changed set"
    assert "the cup is blue" in matrix.root('tbody th:has-text("N cup")').get_attribute("title")
    comfy.editor('[data-region="cup"]').click()
    comfy.editor('[role="listbox"]').focus()
    comfy.key("Delete")
    comfy.until("() => document.querySelectorAll('.replan-item').length === 1")
    matrix.root("tbody th").first.hover()
    matrix.root().get_by_text("The plan has no region cup").wait_for()
    assert matrix.widget("matrix") == cells
    assert matrix.state("N cup", "N r2") == "- changed set", "they wait, and are shown"
    matrix.button("r2: the table is of stone").click()
    assert "H r2" not in matrix.headings() and matrix.widget("matrix") == cells, "only out of sight"
    comfy.key("Enter")
    assert "H r2" in matrix.headings(), "the button keeps the focus"


def test_two_phases(comfy):
    matrix = Matrix(comfy)
    matrix.press("ImgP", "H all")
    matrix.button("Two phases").click()
    one = {"image_prompt|hint:*": False}
    matrix.waits(text(before=one, after=one))  # nothing changes before someone changes it
    matrix.press("N.BG", "N all")
    matrix.waits(text(before={**one, "noise_background|noise:*": False}, after=one))
    matrix.button("After the switch").click()
    assert matrix.state("N.BG", "N all") == "x"
    matrix.button("One phase").click()
    matrix.waits(text(after=one))
    matrix.button("Clear").click()
    matrix.waits("")
    comfy.js(
        "(id) => { const n = app.graph.getNodeById(id); for (const [name, value] of [['preset', 'local_first'], "
        "['switch', 0.3]]) { const w = n.widgets.find((one) => one.name === name); w.value = value; "
        "w.callback?.(value); } }",
        matrix.id,
    )
    matrix.root("tbody th").first.hover()
    matrix.root().get_by_text("Before: the first 30% of the noise schedule").wait_for()
    matrix.button("Before the switch").click()
    assert matrix.state("N.BG", "N all") == "-", "the preset's own before-rules"
    matrix.press("N.BG", "N all")
    matrix.waits(text(before={"noise_background|noise:*": True}))


def test_another_region_has_rows_on_request_and_a_cell_of_its_own(comfy):
    matrix = Matrix(comfy, with_editor=True)
    matrix.button("other: every region but that of the other side of a cell").click()
    assert matrix.headings()[5:8] == ["H other", "N other", "I other"]
    matrix.press("N all", "N other")
    matrix.waits(text(after={"noise:*|noise:other": False}))
    assert matrix.state("N cup", "N r2") == "- changed" and matrix.state("N all", "N all") == "o changed"
    matrix.press("Main", "N other")
    matrix.waits(text(after={"noise:*|noise:other": False}))
    assert "fixed" in matrix.state("Main", "N other"), "the other side is no region"
    saved = comfy.workflow()
    comfy.empty()
    comfy.load(saved)
    matrix.at_rest()
    assert "N other" in matrix.headings(), "a cell speaks of it"


def test_images_in_the_text_have_a_row_only_where_the_family_may_have_them(comfy):
    matrix = Matrix(comfy)
    choose = (
        "([id, value]) => { const w = app.graph.getNodeById(id).widgets.find((one) => one.name === 'family'); "
        "w.value = value; w.callback?.(value); }"
    )
    for family, shown in (("flux", False), ("qwen", True), ("auto", True)):
        comfy.js(choose, [matrix.id, family])
        comfy.until(
            "(shown) => [...document.querySelectorAll('.replan-grid tbody th')].some((one) => one.textContent === "
            "'ImgP') === shown",
            shown,
        )


def test_what_cannot_be_read_is_shown_and_kept_and_can_be_corrected(comfy):
    for value in ("{broken <b>", '{"version": 9, "after": {}}', '{"after": {"picture|main": true}}'):
        comfy.empty()
        matrix = Matrix(comfy, value)
        matrix.root().get_by_text("kept as it is").wait_for()
        field = matrix.root().get_by_label("Rule matrix as JSON")
        assert field.input_value() == value == matrix.widget("matrix")
        assert comfy.workflow()["nodes"][0]["widgets_values"][4] == value
        assert comfy.prompt()[str(matrix.id)]["inputs"]["matrix"] == value
    field.fill('{"after": {"image_prompt|hint:*": false}}')
    comfy.until("() => document.querySelector('.replan-grid td')?.offsetWidth > 0")
    assert matrix.state("ImgP", "H all") == "- changed set"
    assert matrix.widget("matrix") == '{"after": {"image_prompt|hint:*": false}}'


def test_texts_stay_texts(comfy, request):
    data = json.loads((request.config.rootpath / "tests" / "js" / "texts.json").read_text(encoding="utf-8"))
    cells = {f"noise:{one}|main": False for one in data["hostile"] if "|" not in one}
    Matrix(comfy, text(after=cells))
    comfy.until("() => document.querySelectorAll('.replan-grid td').length > 1000")
    assert comfy.js("() => window.hacked") is None
    assert (
        comfy.js(
            "() => document.querySelectorAll('.replan-matrix :is(script, img, iframe, svg, video, audio, object, "
            "embed, link, style, form)').length"
        )
        == 0
    )


def test_reload_copies_subgraphs_and_a_change_of_renderer_keep_it(comfy):
    cells = text(before={}, after={"image_prompt|hint:*": False})
    matrix = Matrix(comfy, cells)
    saved = comfy.workflow()
    comfy.empty()
    comfy.load(saved)
    matrix.at_rest()
    assert matrix.widget("matrix") == cells and matrix.state("ImgP", "H all") == "- changed set"
    first = comfy.renderer
    comfy.use("nodes2" if first == "classic" else "classic")
    try:
        matrix.at_rest()
        matrix.press("ImgP", "Main")
        both = text(before={}, after={"image_prompt|hint:*": False, "image_prompt|main": False})
        matrix.waits(both)
    finally:
        comfy.use(first)
    matrix.at_rest()
    comfy.js(
        "(id) => { app.canvas.selectItems([app.graph.getNodeById(id)]); app.canvas.copyToClipboard(); "
        "app.canvas.pasteFromClipboard(); }",
        matrix.id,
    )
    values = "() => app.graph.nodes.map((n) => n.widgets.find((w) => w.name === 'matrix').value)"
    comfy.until(f"() => ({values})().length === 2")
    assert comfy.js(values) == [both, both]
    comfy.js(
        "(id) => { app.graph.remove(app.graph.nodes.find((n) => n.id !== id)); const made = "
        "app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)])); app.canvas.setGraph(made.subgraph); }",
        matrix.id,
    )
    comfy.look()
    matrix.at_rest()
    matrix.press("ImgP", "Main")
    inside = "() => [...app.rootGraph.subgraphs.values()][0].nodes[0].widgets.find((w) => w.name === 'matrix').value"
    comfy.until(f"(wanted) => ({inside})() === wanted", cells)
    comfy.js("() => app.canvas.setGraph(app.rootGraph)")


def test_the_graphs_own_undo_takes_a_change_back_and_the_matrix_goes_on(comfy):
    matrix = Matrix(comfy)
    matrix.press("ImgP", "H all")
    one = text(after={"image_prompt|hint:*": False})
    matrix.waits(one)
    matrix.press("ImgP", "N all")
    matrix.waits(text(after={"image_prompt|hint:*": False, "image_prompt|noise:*": False}))
    comfy.graph_undo()
    matrix.waits(one)
    comfy.until("() => document.querySelectorAll('.replan-grid [data-state~=set]').length === 1")
    matrix.at_rest()
    matrix.press("ImgP", "H all")
    matrix.waits("")


def test_it_collapses_and_the_workflow_knows(comfy):
    matrix = Matrix(comfy)
    height = "(id) => app.graph.getNodeById(id).size[1]"
    before = comfy.js(height, matrix.id)
    matrix.button("Rule matrix").click()
    comfy.until("() => !document.querySelector('.replan-grid').offsetParent")
    comfy.until(f"(id) => ({height})(id) < 300", matrix.id)  # all of its height, not only the least it needs
    saved = comfy.workflow()
    comfy.empty()
    comfy.load(saved)
    comfy.until(
        "() => document.querySelector('.replan-matrix [aria-expanded]')?.getAttribute('aria-expanded') === 'false'"
    )
    matrix.button("Rule matrix").click()
    comfy.until("() => document.querySelector('.replan-grid').offsetHeight > 60")
    comfy.until(f"([id, before]) => Math.abs(({height})(id) - before) < 20", [matrix.id, before])


def test_a_run_tells_the_regions_of_any_plan_and_they_are_kept(comfy, request):
    matrix = Matrix(comfy)
    comfy.js(
        """([id, plan]) => {
          const add = (type, x) => { const n = LiteGraph.createNode(type); n.pos = [x, 20]; app.graph.add(n);
          return n; };
          const rules = app.graph.getNodeById(id), from = add('RePlanPlanFromText', 620),
          shown = add('RePlanRulesPreview', 620);
          shown.pos[1] = 500;
          from.widgets.find((w) => w.name === 'text').value = plan;
          from.connect(0, rules, rules.inputs.findIndex((i) => i.name === 'plan'));
          from.connect(0, shown, shown.inputs.findIndex((i) => i.name === 'plan'));
          rules.connect(0, shown, shown.inputs.findIndex((i) => i.name === 'rules'));
        }""",
        # A plan of its own in each mode: the host does not tell again what it has kept.
        [matrix.id, json.dumps({**PLAN, "global_prompt": f"{request.node.name} {comfy.server.url}"})],
    )
    matrix.root().get_by_text("run once").wait_for()
    comfy.js(
        "async () => { window.ended = ''; for (const name of ['execution_success', 'execution_error']) "
        "app.api.addEventListener(name, () => { window.ended = name; }, { once: true }); await app.queuePrompt(0, 1); }"
    )
    comfy.until("() => window.ended", timeout=120_000)
    assert comfy.js("() => window.ended") == "execution_success"
    comfy.until("() => document.querySelectorAll('.replan-chips .replan-button').length === 3")
    assert "N r2" in matrix.headings()
    matrix.press("N cup", "N r2")
    matrix.waits(text(after={"noise:cup|noise:r2": False}))
    saved = comfy.workflow()
    comfy.empty()
    comfy.load(saved)
    matrix.at_rest()
    comfy.until("() => document.querySelectorAll('.replan-chips .replan-button').length === 3")


def test_a_finger_draws_too(comfy):
    matrix = Matrix(comfy)
    session = comfy.context.new_cdp_session(comfy.tab)
    start, end = matrix.centre("ImgP", "H all"), matrix.centre("ImgP", "N all")
    for kind, points in (("touchStart", [start]), ("touchMove", [end]), ("touchEnd", [])):
        session.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]},
        )
    matrix.waits(text(after={"image_prompt|hint:*": False, "image_prompt|noise:*": False}))
    session.detach()


def test_a_loop_of_plans_does_not_stop_the_page(comfy):
    """A run refuses a loop, but it can be drawn: the page looked for its beginning for ever."""
    matrix = Matrix(comfy, with_editor=True)
    comfy.js(
        """(id) => {
          const add = (x) => { const n = LiteGraph.createNode('RePlanExpandRegions'); n.pos = [x, 900];
          app.graph.add(n); return n; };
          const [one, other] = [add(0), add(300)], rules = app.graph.getNodeById(id);
          for (const [from, to] of [[one, other], [other, one], [one, rules]]) from.connect(0, to,
          to.inputs.findIndex((i) => i.name === 'plan'));
        }""",
        matrix.id,
    )
    matrix.root().get_by_text("Connect a plan").wait_for()
    matrix.press("ImgP", "H all")
    matrix.waits(text(after={"image_prompt|hint:*": False}))


def test_cells_of_hundreds_of_regions_open_with_rows_for_some_and_buttons_for_all(comfy):
    """Each had its rows and columns: the page stood still for minutes."""
    cells = {f"noise:a{i}|hint:b{i}": True for i in range(200)}
    matrix = Matrix(comfy, text(after=cells))
    assert len(matrix.headings()) <= len(PLAIN) + 3 * 24
    assert matrix.root(".replan-chips button").count() == 401
    assert matrix.widget("matrix") == text(after=cells)
