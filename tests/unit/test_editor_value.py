"""What the region editor's stored value means: the plan of the node, the question to the user, the saved plan."""

import copy
import json

import pytest
from replan.planner.plan import PlanError, Region, RegionPlan
from replan.planner.plans.editor_value import choose_plan, question_on, read_stored, remember_plan
from replan.planner.plans.plan_json import plan_to_json

SIZE = (600, 400)
UPSTREAM = RegionPlan(SIZE, "a cup", (Region("u1", (0, 0, 60, 40), "from upstream"),))
MINE = RegionPlan(SIZE, "my cup", (Region("m1", (30, 40, 90, 80), "mine", negative_hint="not", start=0.1, end=0.9),))


def stored(plan=MINE, edited=True, **more) -> str:
    data = json.loads(plan_to_json(plan))
    data["regions"] = [{**region, "locked": True, "hidden": False} for region in data["regions"]]
    return json.dumps({**data, "editor": {"edited": edited, "origin": "drawn", "view": {"dim": 0.1}, **more}})


MARKER = '{"version": 1, "editor": {"edited": false}}'
NOTHING = '{"version": 1, "editor": {"edited": false, "empty": true}}'


@pytest.mark.parametrize(
    ("text", "upstream", "follow", "plan", "source"),
    [
        ("", None, "until_edited", RegionPlan(SIZE), "empty"),
        ("", UPSTREAM, "until_edited", UPSTREAM, "upstream"),
        (NOTHING, None, "until_edited", RegionPlan(SIZE), "empty"),
        (NOTHING, UPSTREAM, "until_edited", UPSTREAM, "upstream"),
        (NOTHING, UPSTREAM, "never", RegionPlan(SIZE), "empty"),
        (MARKER, UPSTREAM, "until_edited", UPSTREAM, "upstream"),
        (stored(), UPSTREAM, "until_edited", MINE, "stored"),
        (stored(edited=False), UPSTREAM, "until_edited", UPSTREAM, "upstream"),
        (stored(edited=False), None, "until_edited", MINE, "stored"),
        (stored(), UPSTREAM, "always", UPSTREAM, "upstream"),
        (stored(), None, "always", MINE, "stored"),
        (stored(), UPSTREAM, "never", MINE, "stored"),
        (stored(edited=False), UPSTREAM, "never", MINE, "stored"),
        ("", UPSTREAM, "never", RegionPlan(SIZE), "empty"),
        (plan_to_json(MINE), UPSTREAM, "until_edited", MINE, "stored"),
    ],
)
def test_which_plan_is_used(text, upstream, follow, plan, source):
    choice = choose_plan(text, upstream, follow, SIZE)
    assert (choice.plan, choice.source, choice.question) == (plan, source, "")
    assert choice.upstream == upstream


def test_what_only_the_page_needs_goes_no_further():
    plan = choose_plan(stored(), None, "until_edited", SIZE).plan
    assert not plan.extra and not plan.regions[0].extra


def test_a_hidden_region_is_sent_as_when_it_was_saved_and_named_and_one_that_is_off_is_not_sent():
    data = json.loads(stored())
    data["regions"][0]["hidden"] = True
    plan = choose_plan(json.dumps(data), None, "until_edited", SIZE).plan
    assert plan.active.regions == MINE.regions
    assert [(notice.code, notice.regions) for notice in plan.notices] == [("hidden_but_on", ("m1",))]
    data["regions"][0]["enabled"] = False
    plan = choose_plan(json.dumps(data), None, "until_edited", SIZE).plan
    assert plan.ids == ("m1",) and plan.active.regions == () and plan.notices == ()


def test_keys_that_nobody_honours_are_told_by_the_plan_that_is_stored_and_those_of_the_page_are_not():
    data = json.loads(stored())
    data["regions"][0] |= {"strength": 2, "label": "cup"}
    (notice,) = choose_plan(json.dumps(data), None, "until_edited", SIZE).plan.notices
    assert notice.code == "not_honoured" and "'strength' of region 'm1'" in notice.text


def test_a_followed_plan_that_does_not_come_in_is_an_error_and_not_an_empty_plan():
    with pytest.raises(PlanError, match="nothing came in at 'plan'"):
        choose_plan(MARKER, None, "until_edited", SIZE)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"version": 2, "image_size": [1, 1]}',
        '{"version": 1, "image_size": [1, 1], "regions": [{}]}',
        "7",
    ],
)
def test_a_value_that_cannot_be_read_is_an_error(text):
    with pytest.raises(PlanError):
        choose_plan(text, UPSTREAM, "until_edited", SIZE)


def test_boxes_move_with_the_same_image_at_another_size():
    choice = choose_plan(stored(), None, "until_edited", (1200, 800))
    assert choice.plan.regions[0].box == (60, 80, 180, 160)
    assert choice.plan.image_size == (1200, 800)


def test_another_shape_is_a_question_and_the_plan_stays():
    choice = choose_plan(stored(), UPSTREAM.with_regions(()), "never", (600, 400))
    assert not choice.question
    choice = choose_plan(stored(), None, "until_edited", (400, 400))
    assert "600x400" in choice.question and "400x400" in choice.question and "stretch" in choice.question
    assert choice.plan == MINE
    assert question_on(read_stored(stored()), (400, 400)) == choice.question
    assert question_on(read_stored(stored()), (1200, 800)) == question_on(read_stored(""), (400, 400)) == ""


def test_a_plan_drawn_before_any_image_was_seen_is_stretched():
    drawn = RegionPlan((1024, 1024), "x", (Region("r1", (0, 0, 512, 512), "a"),))
    choice = choose_plan(stored(drawn, assumed_size=True), None, "until_edited", SIZE)
    assert choice.plan.regions[0].box == (0, 0, 300, 200)
    assert choose_plan(stored(drawn), None, "until_edited", SIZE).question


def test_an_unknown_way_to_follow_is_an_error():
    with pytest.raises(PlanError, match="until_edited, always, never"):
        choose_plan("", None, "sometimes", SIZE)


# ---- the plan in the result ---------------------------------------------------------------------------------


def graph(value: str, number: int = 7, **more) -> dict:
    return {
        "nodes": [
            {"id": 1, "type": "LoadImage"},
            {"id": number, "type": "RePlanRegionEditor", "widgets_values": ["until_edited", value]},
        ],
        **more,
    }


def test_the_plan_that_was_used_is_put_into_the_result():
    workflow = graph("")
    assert remember_plan(workflow, "7", 1, stored(edited=False))
    assert read_stored(workflow["nodes"][1]["widgets_values"][1]).plan == MINE


def test_an_edited_or_unreadable_value_is_never_replaced():
    for value in (stored(), "{"):
        workflow = graph(value)
        before = copy.deepcopy(workflow)
        assert not remember_plan(workflow, "7", 1, stored(UPSTREAM))
        assert workflow == before


def test_inside_a_subgraph_it_is_put_in_when_the_subgraph_is_used_once():
    outer = {
        "nodes": [{"id": 3, "type": "inner"}],
        "definitions": {"subgraphs": [{"id": "inner", **graph("")}]},
    }
    assert remember_plan(outer, "3:7", 1, stored(edited=False))
    twice = {
        "nodes": [{"id": 3, "type": "inner"}, {"id": 4, "type": "inner"}],
        "definitions": {"subgraphs": [{"id": "inner", **graph("")}]},
    }
    assert not remember_plan(twice, "3:7", 1, stored(edited=False))


@pytest.mark.parametrize(
    "workflow",
    [
        None,
        [],
        {},
        {"nodes": []},
        {"nodes": [{"id": 7}]},
        {"nodes": [{"id": 7, "widgets_values": ["a"]}]},
        {"nodes": [{"id": 7, "widgets_values": [1, 2]}]},
    ],
)
def test_a_workflow_of_another_form_is_left_alone(workflow):
    before = copy.deepcopy(workflow)
    assert not remember_plan(workflow, "7", 1, "x")
    assert workflow == before
