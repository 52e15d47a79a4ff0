"""Which hints are a model's words: they are marked when a reply is read, and stop to be when a person changes them."""

import json
from dataclasses import replace

import pytest
from replan.planner.plan import PlanError, Region, RegionPlan
from replan.planner.plans.change import expand_regions, merge_plans
from replan.planner.plans.editor_value import choose_plan
from replan.planner.plans.plan_json import plan_from_json, plan_to_json
from replan.planner.plans.tags import write_tags
from replan.planner.replies import read_plan

SIZE = (640, 480)
WORDS = "the cup (left), embedding:style"
ITEM = {"bbox_2d": [10, 20, 200, 300], "hint": WORDS, "negative_hint": "(grey)"}
PLAN = {"version": 1, "image_size": list(SIZE), "regions": [{**ITEM, "id": "r1"}]}


def read(text, **options):
    return read_plan(text, SIZE, "pixels", **options)[0]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([ITEM]),
        f"<think>two things</think><gen_image>keep</gen_image><region>{json.dumps([ITEM])}</region>",
        f"Here you are:\n```json\n{json.dumps([ITEM])}\n```",
    ],
)
def test_the_texts_of_a_reply_are_a_models(text):
    region = read(text).regions[0]
    assert region.hint == WORDS and region.plain_texts == (WORDS, "(grey)")


def test_a_plans_own_json_is_a_persons_unless_a_planner_wrote_it():
    assert read(json.dumps(PLAN)).regions[0].plain_texts == ()
    assert read(json.dumps(PLAN), by_model=True).regions[0].plain_texts == (WORDS, "(grey)")


def test_tags_written_from_a_plan_keep_typed_weights_and_a_models_words():
    typed = Region("r1", (10, 20, 200, 300), "a (red:1.3) cup")
    planned = Region("r2", (10, 20, 200, 300), " the cup (left)").with_plain_texts()
    mixed = replace(planned, id="r3", negative_hint="(grey:1.2)")
    text = write_tags(RegionPlan(SIZE, regions=(typed, planned, mixed)))
    assert [region.plain_texts for region in read_plan(text)[0].regions] == [(), (planned.hint.strip(),)] + [
        (planned.hint.strip(),)
    ]
    asked = read_plan(text, by_model=True)[0]
    assert [region.plain_texts[-1] for region in asked.regions] == [typed.hint, planned.hint.strip(), "(grey:1.2)"]


@pytest.mark.parametrize("value", ["a text", [1], {}, None])
def test_an_item_whose_list_of_plain_texts_is_none_is_a_models_and_told(value):
    plan = read(json.dumps([{**ITEM, "plain_texts": value}]))
    assert plan.regions[0].plain_texts[0] == WORDS
    assert any("item 1: region 'r1': plain_texts must be" in warning for warning in plan.warnings)


def test_a_text_that_is_no_prompt_syntax_needs_no_mark():
    assert read(json.dumps([{**ITEM, "hint": "the left cup", "negative_hint": "grey"}])).regions[0].plain_texts == ()


def test_the_mark_goes_with_the_plan():
    plan = read(json.dumps([ITEM]))
    assert plan_from_json(plan_to_json(plan)).regions == plan.regions
    for moved in (
        expand_regions(plan, 0.1),
        merge_plans(plan, RegionPlan(SIZE)),
        choose_plan("", plan, "always", SIZE).plan,
    ):
        assert moved.regions[0].plain_texts == (WORDS, "(grey)")
    stored = json.loads(plan_to_json(plan))
    assert choose_plan(json.dumps(stored), None, "never", SIZE).plan.regions[0].plain_texts == (WORDS, "(grey)")


def test_a_changed_text_is_no_longer_one_of_them():
    region = read(json.dumps([ITEM])).regions[0]
    changed = replace(region, hint="the (cup:1.3)")
    assert changed.hint not in changed.plain_texts and changed.negative_hint in changed.plain_texts


@pytest.mark.parametrize("value", ["a text", [1], {}, [None]])
def test_what_is_no_list_of_texts_is_refused(value):
    with pytest.raises(PlanError, match="region 'r1': plain_texts must be"):
        plan_from_json({**PLAN, "regions": [{**PLAN["regions"][0], "plain_texts": value}]})
    if value != "a text":
        with pytest.raises(PlanError, match="plain_texts must be texts"):
            Region("r1", (0, 0, 1, 1), "hat", plain_texts=(1,))
