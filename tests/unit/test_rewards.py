"""What a planner's reply earns in training: the published rewards to the digit, and what their mended forms change."""

import importlib.util
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.planner.asking.templates import TEMPLATES, load_template
from replan.tools.training.rewards import (
    TASKS,
    Judged,
    UnknownTask,
    compute_score_unified,
    detection_reward,
    edit_reward,
    generation_reward,
    image_reward,
    judge_score,
    planning_reward,
    reply_text,
)
from replan.tools.training.rewards.tags import without_space_at_signs

ROOT = Path(__file__).resolve().parents[2]
THINK = "The cup stands left of the bottle; it should turn blue and the rest stays."
KEEP = "keep remaining part of image unchanged."
CUP = {"bbox_2d": [10, 20, 60, 80], "hint": "a blue cup"}
few = settings(max_examples=40)
both = pytest.mark.parametrize("published", [True, False], ids=["published", "mended"])


def reply(regions=(CUP,), prompt=KEEP, think=THINK, tail=""):
    """A reply as the edit template asks for it; think None: without reasoning."""
    body = regions if isinstance(regions, str) else json.dumps(list(regions))
    head = "" if think is None else f"<think>{think}</think>\n"
    return f"{head}<gen_image>{prompt}</gen_image>\n<region>{body}</region>{tail}"


def parts(reward):
    return tuple(round(value, 6) for value in reward.parts.values())


# ---- stage 1: the published numbers ----------------------------------------------------------------------------------


@both
def test_the_best_reply_earns_0_905(published):
    reward = edit_reward(reply(), published=published)
    assert reward.total == pytest.approx(0.905)
    assert parts(reward) == (1.0, 0.75, 0.9)
    assert reward.renders


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (reply([]), (1.0, 0.75, 0.5)),
        (reply([CUP] * 6), (1.0, 0.75, 0.7)),
        (reply("[{"), (1.0, 0.25, -0.5)),
        (reply("{}"), (1.0, 0.25, -0.5)),
        (reply([{**CUP, "bbox_2d": [1, 2, 3]}]), (1.0, 0.25, -0.5)),
        (reply([{**CUP, "bbox_2d": ["1", 2, 3, 4]}]), (1.0, 0.25, -0.5)),
        (reply([{**CUP, "hint": 7}]), (1.0, 0.25, -0.5)),
        (reply([{**CUP, "hint": "how to edit for this region"}]), (1.0, 0.75, -0.3)),
        (reply([CUP, {**CUP, "hint": ""}]), (1.0, 0.75, -0.3)),
        (reply([{**CUP, "bbox_2d": [10, 150, 150, 210]}]), (1.0, 0.75, -0.1)),
        (reply([{"bbox_2d": [150, 50, 200, 150], "hint": "keep this one apple unchanged"}]), (1.0, 0.75, -1.3)),
        (reply(""), (1.0, 0.5, 0.0)),
        (reply(think=""), (1.0, 0.5, 0.9)),
        (reply(think="x" * 25), (1.0, 0.625, 0.9)),
        (reply(think="x" * 513), (1.0, 0.5, 0.9)),
        (reply(think="Reasoning process"), (1.0, 0.5 + 0.25 * 17 / 50 - 20, 0.9)),
        (reply(prompt=""), (1.0, 0.5 - 20, 0.9)),
        (reply(prompt="y" * 5), (1.0, 0.5 + 0.25 / 4, 0.9)),
        (reply(prompt="Global edit instruction"), (1.0, 0.75 - 20, 0.9)),
        (reply(tail="<answer>It is blue.</answer>"), (0.0, 0.75, 0.9)),
        (reply(tail=" Done."), (0.0, 0.75, 0.9)),
        (f"<think>{THINK}</think><gen_image>{KEEP}</gen_image>", (1.0, 0.5, 0.0)),
        # The published pattern lets a tag hold anything, also other tags.
        (f"<think>a</think>{reply()}", (1.0, 0.25 / 50 + 0.5, 0.9)),
        (reply(think=None), (0.0, 0.5, 0.9)),
        ("a blue cup", (0.0, -20.0, 0.0)),
    ],
)
def test_stage_1_as_published(text, wanted):
    assert parts(edit_reward(text, published=True)) == tuple(round(value, 6) for value in wanted)


def test_the_task_without_reasoning():
    reward = edit_reward(reply(think=None), think=False, published=True)
    assert parts(reward) == (1.0, 1.0, 0.9)
    assert reward.total == pytest.approx(0.5 + 0.3 + 0.18)
    assert parts(edit_reward(reply("[", "ab", None), think=False, published=True)) == (1.0, -0.5 + 0.2, -0.5)
    assert edit_reward(reply(), think=False).parts["format"] == 0.0


@both
def test_the_generation_task(published):
    best = f"<think>{THINK}</think><gen_image>a red fox in snow, soft light</gen_image>"
    assert generation_reward(best, published=published).total == pytest.approx(0.6 + 0.4 * 0.66)
    assert generation_reward(reply(), published=published).parts["format"] == 0.0
    empty = generation_reward(best.replace("a red fox in snow, soft light", ""), published=published)
    assert empty.parts["content"] == pytest.approx(0.33 if published else -2.0)
    copied = generation_reward(best.replace("a red fox in snow, soft light", "Detailed prompt for the image editor"))
    assert copied.total < 0.0


@given(st.text(alphabet=" \n\t</>ab\u3000", max_size=60))
def test_the_published_cleaning_is_its_pattern(text):
    assert without_space_at_signs(text) == re.sub(r"\s*(<|>|/)\s*", r"\1", text)


PIECES = ["<think>", "</think>", "<gen_image>", "</gen_image>", "<region>", "</region>", " ", "a", "[]"]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_the_published_format_is_its_patterns(text):
    """Written here as published; the code itself looks for seams, because these take hours for a long reply."""
    text = text.strip()
    wanted = r"<think>.*?</think>\s*<gen_image>.*?</gen_image>"
    if re.search(r"<region>.*?</region>", text, re.DOTALL):
        wanted += r"\s*<region>.*?</region>"
    cleaned = re.sub(r"\s*(<|>|/)\s*", r"\1", text)
    assert edit_reward(text, published=True).parts["format"] == float(
        bool(re.fullmatch(wanted, cleaned.strip(), re.DOTALL))
    )


# ---- stage 1: what is mended -----------------------------------------------------------------------------------------


def test_texts_with_a_slash_stay_as_they_are():
    """Published, the white space around it goes before anything is read: of '1 / 2' three signs count."""
    slash = reply([{**CUP, "hint": "open 24 / 7, a < b"}], think="1 / 2")
    assert edit_reward(slash, published=True).parts["content"] == pytest.approx(0.5 + 0.25 * 3 / 50)
    assert edit_reward(slash).parts["content"] == pytest.approx(0.5 + 0.25 * 5 / 50)
    assert edit_reward(slash).parts["region"] == pytest.approx(0.9)


@pytest.mark.parametrize("space", ["< think >", "<think >"])
def test_white_space_in_a_tag_is_forgiven(space):
    assert edit_reward(reply().replace("<think>", space)).total == pytest.approx(0.905)


def test_a_plan_for_the_whole_image_may_be_rendered():
    whole = reply([], "turn the scene into a snowy winter evening")
    assert not edit_reward(whole, published=True).renders
    assert edit_reward(whole).renders
    assert edit_reward(whole).parts["region"] == pytest.approx(0.5)
    assert not edit_reward(reply([])).renders  # it changes nothing
    assert not edit_reward(reply("", "turn the scene into a snowy winter evening")).renders  # [] was asked for


@pytest.mark.parametrize("name", [name for name, (plans, _) in TEMPLATES.items() if plans and name != "detection"])
def test_a_copied_template_of_the_pack_earns_nothing(name):
    template = load_template(name).text
    tags = template[template.index("<think>") if "<think>" in template else template.index("<gen_image>") :]
    copied = tags[: tags.index("</region>") + len("</region>")]
    numbers = copied.replace("x1, y1, x2, y2", "10, 20, 60, 80")
    honest = edit_reward(reply(), think="<think>" in template).total
    assert edit_reward(numbers, think="<think>" in template).total < 0.25 < honest
    assert not edit_reward(numbers, think="<think>" in template).renders


@pytest.mark.parametrize(
    ("text", "format_", "most"),
    [
        (reply([CUP] * 200), 1.0, 0.35),
        (reply([{"bbox_2d": [n, 20, n + 50, 80], "hint": f"a blue cup {n}"} for n in range(200)]), 1.0, 0.83),
        (reply(think=""), 0.0, 0.4),
        (reply(think=" .. "), 0.0, 0.4),
        (reply([{**CUP, "hint": "the hint of this region"}]), 1.0, 0.63),
        (reply([{**CUP, "hint": "how to edit for this region"}]), 1.0, 0.63),
        (reply([{"bbox_2d": [10, 150, 150, 210], "hint": "change the color of this one apple to blue"}]), 1.0, 0.63),
        (reply([CUP, {**CUP, "bbox_2d": [60, 20, 60, 80]}]), 1.0, 0.75),
        (reply([{**CUP, "bbox_2d": [float("nan"), 20, 60, 80]}]), 1.0, 0.63),
        (f"<think>a</think>{reply()}", 0.0, 0.5),
        (reply(tail=" Done."), 0.0, 0.5),
        ("Sure: " + reply(), 0.0, 0.5),
        (reply(prompt="Edit: the edit of the whole image, or the sentence of rule 5!"), 1.0, 0.1),
    ],
)
def test_a_reply_that_tries_the_reward_earns_less(text, format_, most):
    reward = edit_reward(text)
    assert reward.parts["format"] == format_
    assert reward.total <= most
    assert not reward.renders


def test_words_that_come_again_are_no_reasoning():
    assert edit_reward(reply(think="cup " * 40), published=True).total == pytest.approx(0.905)
    assert edit_reward(reply(think="cup " * 40)).parts["content"] == pytest.approx(0.5 + 0.25 * 3 / 50)
    assert edit_reward(reply(), think_length=200).total < edit_reward(reply(think=THINK * 2)).total


def test_a_slip_that_the_editor_repairs_costs_less_than_a_list_that_nobody_reads():
    slip, lost = edit_reward(reply(json.dumps([CUP])[:-1])), edit_reward(reply("a cup, to the left"))
    assert edit_reward(reply()).total > slip.total > lost.total
    assert (parts(slip), parts(lost)) == ((1.0, 0.5, 0.4), (1.0, 0.25, -0.5))
    assert not slip.renders


def test_a_reply_beyond_what_a_model_writes_is_not_read_as_a_plan():
    assert edit_reward(reply(think=THINK * 1000)).parts["region"] == -0.5
    assert edit_reward(reply(think=THINK * 1000), published=True).parts["region"] == pytest.approx(0.9)


def test_a_box_off_the_image_counts_only_where_its_size_is_known():
    off = reply([{**CUP, "bbox_2d": [700, 20, 760, 80]}])
    assert edit_reward(off).renders
    assert edit_reward(off, image_size=(640, 480)).parts["region"] == pytest.approx(-0.5)
    with pytest.raises(ValueError, match="image_size is"):
        edit_reward(off, image_size=(640, 0))


@pytest.mark.parametrize("tail", ["<answer>It is blue.</answer>", "\n<ambiguous>the other cup</ambiguous>\n"])
def test_the_tags_that_the_templates_ask_for_besides_are_no_fault(tail):
    assert edit_reward(reply(tail=tail)).total == pytest.approx(0.905)
    kind = reply().replace("</think>", "</think><kind>physical</kind><outcome>a puddle</outcome>")
    assert edit_reward(kind).total == pytest.approx(0.905)


@both
@pytest.mark.parametrize("given", [None, 7, b"x", [], {}, [None], {"content": None}, float("nan")], ids=str)
def test_what_is_no_text_counts_as_an_empty_reply(given, published):
    assert edit_reward(given, published=published) == edit_reward("", published=published)
    assert detection_reward(given, "[]", published=published).parts["format"] == 0.0


def test_a_completion_of_messages_is_its_last_text():
    assert reply_text([{"role": "user", "content": "b"}, {"role": "assistant", "content": "a"}]) == "a"
    assert reply_text([{"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}]) == "a"


@both
@pytest.mark.parametrize(
    "text",
    [
        "<think>" * 150_000, " " * 10**6 + "x", "<think></think><gen_image></gen_image>" * 25_000 + "<region></region>",
        reply("[" * 10**6), reply("}{" * 500_000), reply("7" * 10**6), reply(think="word " * 200_000), "a. " * 350_000,
    ],
    ids=["open", "space", "seams", "deep", "braces", "digits", "words", "sentences"],
)  # fmt: skip
def test_a_reply_of_a_megabyte_takes_no_time(text, published):
    """The published cleaning takes 18 s for 40,000 spaces and grows with their square; here it is about a second."""
    start = time.process_time()
    edit_reward(text, published=published)
    detection_reward(text, json.dumps([CUP]), published=published)
    assert time.process_time() - start < 15


# ---- properties ------------------------------------------------------------------------------------------------------

numbers = st.integers(-5, 700) | st.floats(-1e3, 1e3)
regions = st.fixed_dictionaries({"bbox_2d": st.lists(numbers, min_size=3, max_size=5), "hint": st.text(max_size=30)})
replies = st.one_of(
    st.text(max_size=200),
    st.builds(reply, st.lists(regions, max_size=8), st.text(max_size=60), st.text(max_size=90), st.text(max_size=5)),
    st.builds(reply, st.text(max_size=40), st.just(KEEP), st.just(THINK)),
)


@few
@given(replies, st.booleans())
def test_totals_stay_within_bounds(text, think):
    mended, published = edit_reward(text, think=think), edit_reward(text, think=think, published=True)
    most = 0.905 if think else 0.98
    assert -1.0 <= mended.total <= most + 1e-9
    assert -20 < published.total <= most + 1e-9
    assert set(mended.parts) == {"format", "content", "region"}
    assert not mended.renders or mended.parts["format"] == 1.0
    assert -0.2 <= planning_reward(mended, Judged(5, 5, 5)).total <= 1.0 + 0.2 * most + 1e-9


@few
@given(st.lists(regions, max_size=6), st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_regions_changes_nothing(listed, random, published):
    shuffled = random.sample(listed, len(listed))
    first, second = edit_reward(reply(listed), published=published), edit_reward(reply(shuffled), published=published)
    assert first.total == pytest.approx(second.total)
    assert first.renders == second.renders


# ---- detection -------------------------------------------------------------------------------------------------------


def thing(x, y=10, side=40, **more):
    return {"bbox_2d": [x, y, x + side, y + side], "point_2d": [x + side / 2, y + side / 2], "label": "cup", **more}


def found(things, think=THINK, tail=""):
    body = things if isinstance(things, str) else json.dumps(things)
    return f"<think>{think}</think><region>{body}</region>{tail}"


TRUTH = json.dumps([thing(10), thing(200)])


@both
def test_a_perfect_detection_earns_5(published):
    assert parts(detection_reward(found([thing(200), thing(10)]), TRUTH, published=published)) == (1.0, 3.0, 1.0)


@both
@pytest.mark.parametrize(
    ("things", "wanted"),
    [
        ([thing(10)], 1.5),
        ([thing(10), thing(200), thing(400)], 2.0),
        ([thing(10), thing(215, point_2d=[230, 30])], 2.5),  # IoU 0.45, edges off by 7.5, point 10 off: two of three
        ([thing(10), thing(200, point_2d=[245, 30])], 2.5),  # near the true point, but outside its own box
        ([thing(400), thing(600)], 0.0),
    ],
)
def test_accuracy_is_the_best_match_over_the_greater_number(things, wanted, published):
    assert detection_reward(found(things), TRUTH, published=published).parts["accuracy"] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("text", "format_"),
    [
        (found("[{"), 0.25), (found("{}"), 0.5), (found([{"bbox_2d": [1, 2, 3, 4], "label": "cup"}]), 0.75),
        (found([7]), 0.75), ("no tags", 0.0), (found([], "Reasoning process"), -20.0),
        (found([], tail="<answer>none</answer>"), 0.0),
    ],
)  # fmt: skip
def test_the_format_of_a_detection_as_published(text, format_):
    assert detection_reward(text, TRUTH, published=True).parts["format"] == format_


def test_what_is_mended_in_detection():
    assert detection_reward(found([], tail="<answer>nothing</answer>"), "[]").total == pytest.approx(5.0)
    assert detection_reward(found([]), "[]", published=True).parts["accuracy"] == 0.0
    odd = found([thing(10), {"label": "cup"}, thing(200)])
    assert detection_reward(odd, TRUTH, published=True).parts["accuracy"] == 0.0
    assert detection_reward(odd, TRUTH).parts["accuracy"] == pytest.approx(2.0)
    # Published, numbers with a point are sentences that repeat.
    numbers_ = found([thing(10.5, 10.5), thing(10.5, 10.5), thing(10.5, 10.5)])
    assert detection_reward(numbers_, TRUTH, published=True).parts["non_repeat"] == 0.0
    assert detection_reward(numbers_, TRUTH).parts["non_repeat"] == 1.0
    assert detection_reward(found([thing(10)], "Look. Look. Look."), TRUTH).parts["non_repeat"] == 0.0
    no_point = json.dumps([{"bbox_2d": [10, 10, 50, 50]}])
    assert detection_reward(found([thing(10)]), no_point).parts["accuracy"] == pytest.approx(3.0)
    assert detection_reward(found([], "Reasoning process"), TRUTH).parts["format"] == -2.0
    many = found([thing(10)] + [thing(600 + n) for n in range(400)])
    assert detection_reward(many, TRUTH, published=True).parts["accuracy"] == pytest.approx(3 / 120)
    assert detection_reward(many, TRUTH).parts["accuracy"] == pytest.approx(3 / 401)


@pytest.mark.parametrize("truth", ["", "[{", "{}", None, '[{"bbox_2d": [1, 2, 3]}]'])
def test_a_ground_truth_that_is_none_is_an_error(truth):
    with pytest.raises(ValueError, match="the ground truth"):
        detection_reward(found([thing(10)]), truth)
    assert detection_reward(found([thing(10)]), truth, published=True).parts["accuracy"] == 0.0


things_anywhere = st.builds(thing, st.integers(0, 600), st.integers(0, 400), st.integers(1, 90))


@few
@given(st.lists(things_anywhere, min_size=1, max_size=9), st.randoms(use_true_random=False), st.booleans())
def test_detection_does_not_look_at_the_order(things, random, published):
    shuffled = random.sample(things, len(things))
    one = detection_reward(found(things), TRUTH, published=published)
    assert one.parts["accuracy"] == pytest.approx(
        detection_reward(found(shuffled), TRUTH, published=published).parts["accuracy"]
    )
    assert 0.0 <= one.parts["accuracy"] <= 3.0
    same = detection_reward(found(shuffled), json.dumps(things), published=published)
    assert same.parts["accuracy"] == pytest.approx(3.0)


# ---- stage 2 ---------------------------------------------------------------------------------------------------------


@both
def test_stage_2_of_judged_5_5_3_is_0_848(published):
    reward = planning_reward(edit_reward(reply()), Judged(5, 5, 3), published=published)
    assert reward.total == pytest.approx(0.848, abs=5e-4)
    assert reward.total == pytest.approx(2 / 3 + 0.2 * 0.905)
    assert reward.named("edit")["edit_image"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("judged", "sharp", "plain"),
    [
        ((5, 5, 5), 1.0, 0.8), ((5, 3, 5), 1 / 3, 8 / 15), ((1, 5, 5), 2 / 3, 8 / 15), ((1, 1, 5), 0.0, 2 / 15),
        ((4, 4, 4), 1.0, 8.8 / 15),
    ],
)  # fmt: skip
def test_the_image_reward_sharp_and_plain(judged, sharp, plain):
    assert image_reward(Judged(*judged)) == pytest.approx(sharp)
    assert image_reward(Judged(*judged), sharp=0) == pytest.approx(plain)


def test_a_failed_judge_leaves_the_reply_out_instead_of_scoring_0():
    stage1 = edit_reward(reply())
    for judged in (None, Judged(None, 5, 5), Judged(5, None, 5), Judged(5, 5, None)):
        assert planning_reward(stage1, judged).total is None
    assert planning_reward(stage1, Judged(5, 1, None)).total == pytest.approx(1 / 3 + 0.181)  # it would count nothing
    assert planning_reward(stage1, None, published=True).total == pytest.approx(0.181)
    assert planning_reward(stage1, Judged(5, 5, None), published=True).total == pytest.approx(2 / 3 + 0.181)
    assert "overall" not in planning_reward(stage1, None).named("edit")


def test_a_plan_behind_the_gate_earns_a_fifth_of_its_form():
    gated = edit_reward(reply([]), published=True)
    assert planning_reward(gated, Judged(5, 5, 5), published=True).total == pytest.approx(0.2 * 0.825)


@pytest.mark.parametrize(
    ("text", "published", "mended"),
    [
        ('```json\n{"effect_score": 5, "reasoning": "blue"}\n```', 5, 5),
        ('{"effect_score": 3}', 3, 3),
        ("Of 2 cups 1 is blue now.", 2, None),
        ('{"effect_score": 4}', 4, None),  # no value of the scale
        ('{"effect_score": null}', None, None),
        ("I cannot see the images.", None, None),
        ("", None, None),
    ],
)
def test_a_judges_reply(text, published, mended):
    assert judge_score(text, "effect", published=True) == published
    assert judge_score(text, "effect") == mended


# ---- tasks -----------------------------------------------------------------------------------------------------------


def test_rewards_are_routed_by_their_task():
    inputs = [
        {"task_name": "detection", "response": found([thing(10), thing(200)]), "ground_truth": TRUTH},
        {"task_name": "text_refinement_edit", "response": reply()},
        {"task_name": "edit_region_planning", "response": reply()},
        {"task_name": "text_refinement", "response": "x"},
        {"task_name": "edit_region_planning", "response": reply([])},
        {"task_name": "edit_region_planning_nothink", "response": reply(think=None)},
        {"task_name": "text_refinement_edit_nothink", "response": reply(think=None)},
    ]
    asked = []

    def judge(these):
        asked.extend(these)
        return [Judged(5, 5, 3), None]

    totals = [reward.total for reward in compute_score_unified(inputs, judge)]
    assert asked == [inputs[2], inputs[5]]
    assert totals[:3] == [pytest.approx(5.0), pytest.approx(0.905), pytest.approx(0.8476667)]
    assert totals[4:] == [pytest.approx(0.165), None, pytest.approx(0.98)]
    assert {one["task_name"] for one in inputs} == set(TASKS)


def test_an_unknown_task_and_a_missing_judge_are_errors():
    with pytest.raises(UnknownTask, match="'edit' has no reward; known are text_refinement"):
        compute_score_unified([{"task_name": "edit", "response": ""}])
    planning = [{"task_name": "edit_region_planning", "response": reply()}]
    with pytest.raises(ValueError, match="needs a judge for 1 of 1"):
        compute_score_unified(planning)
    with pytest.raises(ValueError, match="gave 0 answers for 1"):
        compute_score_unified(planning, lambda these: [])


def test_the_size_of_the_image_comes_with_the_record():
    one = {"task_name": "text_refinement_edit", "response": reply(), "extra_info": {"image_size": [9, 9]}}
    assert compute_score_unified([one])[0].parts["region"] < 0


@pytest.mark.parametrize(
    "kind", [json.dumps, lambda extra: {"image_size": np.array(extra["image_size"])}], ids=["json", "arrays"]
)
def test_what_a_record_brings_counts_the_same_as_json_and_as_arrays_of_parquet(kind):
    wanted = json.loads(TRUTH)
    arrays = np.array([{name: np.array(value) for name, value in item.items()} for item in wanted], dtype=object)
    one = {"task_name": "text_refinement_edit", "response": reply(), "extra_info": kind({"image_size": [9.0, 9.0]})}
    two = {"task_name": "detection", "response": found([thing(10)]), "ground_truth": arrays}
    small, matched = compute_score_unified([one, two])
    assert small.parts["region"] < 0
    assert matched == detection_reward(found([thing(10)]), TRUTH)


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"task_name": ["edit"]}, {}, "has no reward"),
        ({"extra_info": "train"}, {}, "extra_info is a mapping"),
        ({"extra_info": 5}, {}, "extra_info is a mapping"),
        *(({"extra_info": {"image_size": size}}, {}, "image_size is .width, height") for size in (
            5, math.nan, "x", [True, 5], [1, 2, 3], [math.nan, 5], [0.5, 5], [0, 5],
        )),
        ({}, {"sharp": "4"}, "sharp is a number from 0"),
        ({}, {"sharp": math.nan}, "sharp is a number from 0"),
        ({}, {"think_length": 0}, "think_length is a number from 1"),
        ({}, {"published": "no"}, "published is true or false"),
        ({}, {"judge": lambda these: [5]}, "the judge gives Judged"),
        ({}, {"judge": lambda these: [Judged(math.nan, 5, 5)]}, "the judge gives Judged"),
        ({}, {"judge": lambda these: [Judged("5", 5, 5)]}, "the judge gives Judged"),
    ],
)  # fmt: skip
def test_records_options_and_scores_of_another_kind_are_errors_that_say_so(changes, options, said):
    one = {"task_name": "edit_region_planning", "response": reply(), **changes}
    with pytest.raises(ValueError, match=said):
        compute_score_unified([one], **options)


def test_an_input_that_is_no_mapping_is_an_error(verl_module):
    for call in (compute_score_unified, verl_module.compute_score_batch):
        with pytest.raises(ValueError, match="an input is a mapping with task_name and response, found 'None'"):
            call([None])


# ---- verl ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def verl_module():
    """The adapter as verl's `get_custom_reward_fn` and EasyR1 load it: by its path, as a module of no package."""
    file = ROOT / "tools" / "training" / "rewards" / "for_verl.py"
    spec = importlib.util.spec_from_file_location("custom_module", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_verl_calls_it_for_each_reply(verl_module):
    """By keyword, as its naive reward manager does; every reply must give the same keys."""
    call = verl_module.compute_score
    edit = call(
        data_source="TainU/IV-Edit", solution_str=reply(), ground_truth="",
        extra_info={"task_name": "text_refinement_edit", "num_turns": None, "rollout_reward_scores": {}},
    )  # fmt: skip
    detection = call(data_source="detection", solution_str=found([thing(10)]), ground_truth=TRUTH, extra_info=None)
    assert edit["score"] == pytest.approx(0.905)
    assert detection["score"] == pytest.approx(3.5)
    assert list(edit) == list(detection)
    assert all(isinstance(value, float) for value in edit.values())
    with pytest.raises(ValueError, match="has no reward"):
        call("openai/gsm8k", "42", "42", {})
    down = call("edit_region_planning", reply(), "", {}, judge=lambda these: [None], reward_router_address=None)
    assert (down["score"], down["excluded"]) == (pytest.approx(0.181), 1.0)


def test_easyr1_calls_it_for_a_batch(verl_module):
    inputs = [{"response": reply(), "response_length": 90, "ground_truth": "", "task_name": "text_refinement_edit"}]
    (score,) = verl_module.compute_score_batch(inputs, published=True)
    assert score["overall"] == pytest.approx(0.905)
    assert score["text_refinement_edit_region"] == pytest.approx(0.9)
    plain = [{"response": reply(), "response_length": 90, "ground_truth": ""}]
    (same,) = verl_module.compute_score_batch(plain, task_name="text_refinement_edit", published=True)
    assert same == score
    with pytest.raises(ValueError, match="task_name '' has no reward"):
        verl_module.compute_score_batch(plain)


def test_scoring_loads_no_torch():
    """A trainer's workers score in processes of their own."""
    code = (
        "import sys, importlib.util as u; s = u.spec_from_file_location('custom_module', sys.argv[1]);"
        "m = u.module_from_spec(s); s.loader.exec_module(m);"
        "print(m.compute_score('text_refinement_edit', sys.argv[2], '')['score'], 'torch' in sys.modules)"
    )
    file = ROOT / "tools" / "training" / "rewards" / "for_verl.py"
    command = [sys.executable, "-c", code, str(file), reply()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    score, torch_is_there = done.stdout.split()
    assert float(score) == pytest.approx(0.905)
    assert torch_is_there == "False"
