"""The plan as JSON, strict and exact: round trips, repairs, and every refusal."""

import copy
import json
import pickle
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_strategies import GOOD, broken, plans
from replan.planner.plan import KEEP_UNCHANGED, Notice, PlanError, Region, RegionPlan
from replan.planner.plans.change import expand_regions
from replan.planner.plans.plan_json import plan_from_json, plan_to_json
from replan.planner.plans.tags import write_tags
from replan.planner.replies import read_plan


@settings(max_examples=80, deadline=None)
@given(plans())
def test_json_gives_the_same_plan_back_exactly_with_what_it_does_not_know(plan):
    assert plan_from_json(plan_to_json(plan)) == plan


@settings(max_examples=80, deadline=None)
@given(plans(), st.sampled_from(["", "\ufeff", " \n\ufeff"]), st.booleans())
def test_every_text_that_is_written_is_read_back_whatever_tags_its_words_look_like(plan, before, fenced):
    words = {"hint": "a </answer> sign saying <gen_image> ``` ", "negative_hint": "<region>[</region>"}
    regions = tuple(
        replace(region, hint=words["hint"] + region.hint, negative_hint=words["negative_hint"])
        for region in plan.regions
    )
    plan = replace(
        plan,
        regions=regions,
        global_prompt=f"a <global> sign {plan.global_prompt}",
        reasoning=f"<think>{plan.reasoning}",
    )
    text = plan_to_json(plan)
    assert read_plan(before + (f"Here:\n```json\n{text}\n```\nDone." if fenced else text))[0] == plan
    back = read_plan(before + write_tags(plan))[0]
    assert back.global_prompt == plan.global_prompt.strip()
    assert back.reasoning == plan.reasoning.strip()
    assert [r.hint for r in back.regions] == [r.hint.strip() for r in plan.regions]


@pytest.mark.parametrize(
    "words", ["write <region> on it", "a sign saying <gen_image>", "x </answer>", "a <global> or <think> sign"]
)
def test_a_region_list_whose_words_look_like_tags_is_a_list(words):
    item = f'{{"bbox_2d": [1, 2, 30, 40], "hint": "{words}"}}'
    for text in (
        f"[{item}]",
        item,
        f"[{item},]",
        f"```json\n[{item}]\n```",
        f'{{"regions": [{item}], "global_prompt": "{words}"}}',
    ):
        plan = read_plan(text, (640, 427), "pixels")[0]
        assert [region.hint for region in plan.regions] == [words]
        assert plan.global_prompt == (words if "global_prompt" in text else KEEP_UNCHANGED)


def test_tags_around_json_are_tags_and_a_slip_in_a_plan_with_tag_words_is_repaired():
    for text in (
        f"<gen_image>dusk</gen_image><region>```json\n[{GOOD}]\n```</region>",
        f"```\n<gen_image>dusk</gen_image><region>[{GOOD}]</region>\n```",
        f"[<gen_image>dusk</gen_image><region>[{GOOD}]</region>",
        f"[1] <gen_image>dusk</gen_image><region>[{GOOD}]</region>",
    ):
        plan = read_plan(text, (640, 427), "pixels")[0]
        assert (plan.global_prompt, [region.hint for region in plan.regions]) == ("dusk", ["red hat"])
    plan = read_plan('{"image_size": [10, 10], "global_prompt": "a <global> sign",\n "regions": [,]}')[0]
    assert (plan.global_prompt, plan.image_size) == ("a <global> sign", (10, 10))
    assert [notice.code for notice in plan.notices] == ["repaired"]


def test_a_box_over_the_border_is_clamped_with_a_warning_and_one_inside_stays_exact():
    plan = plan_from_json(
        {"image_size": [192, 128], "regions": [{"bbox_2d": [-50, -50, 500, 60]}, {"bbox_2d": [0, 0.1, 192, 128]}]}
    )
    assert [region.box for region in plan.regions] == [(0, 0, 192, 60), (0, 0.1, 192, 128)]
    assert len(plan.warnings) == 1
    assert f"region '{plan.ids[0]}'" in plan.warnings[0]
    assert "192x128" in plan.warnings[0]
    assert expand_regions(plan, 0.1).regions[0].box == (0, 0, 192, 71), "expanding starts from what was written"


def test_half_a_character_costs_a_list_only_that_character_and_an_unknown_key_nothing():
    half = "\ud83d"
    plan = read_plan('[{"bbox_2d": [1, 2, 30, 40], "hint": "bad \\ud83d half"}]', (640, 427), "pixels")[0]
    assert plan.regions[0].hint == "bad \ufffd half"
    assert any("half a character" in warning for warning in plan.warnings)
    assert read_plan(f"<gen_image>a {half}</gen_image><region>[]</region>", (64, 48))[0].global_prompt == "a \ufffd"
    plan = plan_from_json('{"image_size": [10, 10], "x": "\\ud83d", "y": "\\ud83d\\ude00"}')
    text = plan_to_json(plan)
    assert text.encode("utf-8")
    assert plan_from_json(text) == plan


def test_json_has_exactly_the_keys_of_version_1():
    plan = RegionPlan(
        (640, 427), "dusk", (Region("a", (1, 2, 3.5, 4), "red"),), "because", notices=(Notice("careful", "careful"),)
    )
    assert json.loads(plan_to_json(plan)) == {
        "version": 1,
        "image_size": [640, 427],
        "global_prompt": "dusk",
        "reasoning": "because",
        "regions": [
            {
                "id": "a",
                "bbox_2d": [1.0, 2.0, 3.5, 4.0],
                "hint": "red",
                "negative_hint": "",
                "start": 0.0,
                "end": 1.0,
                "mask": None,
            }
        ],
    }


def test_json_without_optional_keys_has_their_defaults_and_fresh_ids():
    regions = [{"bbox_2d": [1, 2, 3, 4], "hint": "a"}, {"id": "r1", "bbox_2d": [1, 2, 3, 4]}]
    plan = plan_from_json({"image_size": [10, 10], "regions": regions})
    assert plan.global_prompt == KEEP_UNCHANGED
    assert plan.ids[1] == "r1"
    assert len(set(plan.ids)) == 2
    assert plan_from_json('{"image_size": [10, 10]}').regions == ()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"bbox_2d": [1, 2, 3, 4, 5]}, ("hat", "5")),
        ({"bbox_2d": [30, 2, 1, 40]}, ("hat", "30.0, 2.0, 1.0, 40.0")),
        ({"bbox_2d": [1, 2, 1, 40]}, ("hat", "no area")),
        ({"bbox_2d": [float("nan"), 2, 3, 4]}, ("hat", "nan")),
        ({"bbox_2d": [float("inf"), 2, 3, 4]}, ("hat", "inf")),
        ({"bbox_2d": ["1", 2, 3, 4]}, ("hat", "'1'")),
        ({"bbox_2d": [True, 2, 3, 4]}, ("hat", "True")),
        ({"bbox_2d": None}, ("hat", "None")),
        ({"bbox_2d": [200, 2, 300, 40]}, ("hat", "100x80")),
        ({"bbox_2d": [1, 2, 10**400, 40]}, ("hat", "1000", "too large")),
        ({"image_size": [10**400, 80]}, ("image size", "1000", "give the size")),
        ({"mask": {"size": [10**6, 10**6], "rle": [10**12]}}, ("hat", "[1000000, 1000000]", "make it smaller")),
        ({"start": float("nan")}, ("hat", "start", "nan", "give a number between 0 and 1")),
        ({"hint": "bad \ud83d half"}, ("hat", "hint", "'\\ud83d'", "bad ")),
        ({"negative_hint": "\udc00"}, ("hat", "negative_hint", "'\\udc00'")),
        ({"global_prompt": "bad \ud83d half"}, ("global_prompt", "'\\ud83d'")),
        ({"id": "a\ud83d"}, ("id", "'\\ud83d'")),
        ({"hint": 3}, ("hat", "hint", "3")),
        ({"negative_hint": None}, ("hat", "negative_hint", "None")),
        ({"start": 0.8, "end": 0.2}, ("hat", "0.8", "0.2")),
        ({"end": 2}, ("hat", "end", "2")),
        ({"mask": {"size": [2, 2], "rle": [3]}}, ("hat", "3", "4")),
        ({"mask": {"size": [2], "rle": [2]}}, ("hat", "[2]")),
        ({"mask": {"size": [2, 2], "rle": [1.5, 2.5]}}, ("hat", "1.5")),
        ({"mask": "all"}, ("hat", "all")),
        ({"id": ""}, ("region 1", "''")),
        ({"image_size": [100]}, ("image_size", "[100]")),
        ({"image_size": [100, 80.5]}, ("image_size", "80.5")),
        ({"image_size": [0, 80]}, ("size", "0")),
        ({"global_prompt": ["x"]}, ("global_prompt", "['x']")),
        ({"version": 2}, ("version 2", "version 1")),
        ({"version": "one"}, ("version", "'one'")),
    ],
)
def test_json_with_a_wrong_value_is_refused_naming_region_and_value(change, names):
    with pytest.raises(PlanError) as caught:
        plan_from_json(broken(**change))
    assert all(name in str(caught.value) for name in names), str(caught.value)


def test_json_with_a_key_that_is_missing_or_an_id_twice_is_refused():
    with pytest.raises(PlanError, match="image_size"):
        plan_from_json({"version": 1, "regions": []})
    with pytest.raises(PlanError, match="'x' has no \"bbox_2d\""):
        plan_from_json({"image_size": [10, 10], "regions": [{"id": "x", "hint": "a"}]})
    twice = [{"id": "x", "bbox_2d": [1, 2, 3, 4]}] * 2
    with pytest.raises(PlanError, match="share the id 'x'"):
        plan_from_json({"image_size": [10, 10], "regions": twice})


def test_a_slip_in_a_plans_json_is_repaired_and_told_and_its_values_are_still_checked():
    plan = read_plan('{"version": 1,\n "image_size": [10 10]}')[0]
    assert (plan.image_size, [notice.code for notice in plan.notices]) == ((10, 10), ["repaired"])
    with pytest.raises(PlanError, match="line 2, column"):
        plan_from_json('{"version": 1,\n "image_size": [10 10]}')
    with pytest.raises(PlanError):
        plan_from_json("[" * 100_000)
    with pytest.raises(PlanError, match="image_size is two whole numbers"):
        read_plan('{"image_size": [10, %s]}' % ("9" * 5000))[0]


@settings(max_examples=30, deadline=None)
@given(plans())
def test_a_plan_cannot_be_changed_and_can_be_hashed_copied_and_pickled(plan):
    source = {"k": 1}
    plan = replace(plan, regions=tuple(replace(region, extra=source) for region in plan.regions), extra=source)
    source["k"] = 2
    for value in (plan, *plan.regions):
        assert value.extra == {"k": 1}
        with pytest.raises(TypeError):
            value.extra["k"] = 3
        assert hash(value) == hash(replace(value, extra={}))
        assert value != replace(value, extra={})
        for twin in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert (twin, hash(twin)) == (value, hash(value))
            with pytest.raises(TypeError):
                twin.extra["k"] = 3
