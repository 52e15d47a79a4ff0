"""The plan as JSON (strict, exact) and as tag text (tolerant): round trips, repairs, and every refusal."""

import contextlib
import copy
import json
import pickle
import time
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from machine import pace
from replan.planner.plan import KEEP_UNCHANGED, Notice, PlanError, Region, RegionMask, RegionPlan, fresh_id, usable_id
from replan.planner.plans.change import expand_regions
from replan.planner.plans.plan_json import plan_from_json, plan_to_json
from replan.planner.plans.tags import write_tags
from replan.planner.replies import ReplyError, read_plan
from replan.planner.replies.vocabulary import NO_WORDS

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
PIECE = st.sampled_from(
    [
        "</region>",
        "<gen_image>",
        "< / think >",
        "&lt;region>",
        "&amp;lt;answer>",
        "&LT;REGION>",
        "<GLOBAL>",
        "</analysis>",
        "<candidates>",
        "< | channel|>",
        "\u25c1think\u25b7",
        "[THINK]",
        "<thought>",
        "</mm:think>",
        "<|/thinking|>",
        "<|channel|>analysis<|message|>",
        "assistantfinal",
        "&lt;b>",
        "```",
        '"',
        "'",
        "},{",
        "]",
        "\\",
        "\n",
        "a < b",
        " red hat ",
        "(red:1.3)",
        "embedding:style",
    ]
)
HARD_TEXT = st.lists(TEXT | PIECE, max_size=4).map("".join)


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    cells = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    import numpy as np

    return RegionMask.from_array(np.array(cells).reshape(height, width))


@st.composite
def plans(draw):
    width, height = draw(st.integers(1, 3000)), draw(st.integers(1, 3000))
    names = draw(
        st.lists(st.one_of(TEXT.filter(usable_id), st.sampled_from(["r1", "r2", "r3", "r4"])), max_size=4, unique=True)
    )
    regions = []
    for name in names:
        x1, y1 = draw(st.floats(0, width, exclude_max=True)), draw(st.floats(0, height, exclude_max=True))
        x2, y2 = draw(st.floats(x1, width, exclude_min=True)), draw(st.floats(y1, height, exclude_min=True))
        start = draw(st.floats(0, 1, exclude_max=True))
        region = Region(
            name,
            (x1, y1, x2, y2),
            draw(HARD_TEXT.filter(str.strip)),
            draw(HARD_TEXT),
            start,
            draw(st.floats(start, 1, exclude_min=True)),
            draw(st.none() | masks()),
            draw(st.booleans()),
            extra=draw(st.just({}) | st.dictionaries(TEXT.map("x_{}".format), TEXT, max_size=2)),
        )
        marked = [text for text in region.with_plain_texts().plain_texts if draw(st.booleans())]
        regions.append(replace(region, plain_texts=marked))
    more = draw(st.dictionaries(TEXT.map("x_{}".format), st.lists(st.integers()), max_size=2))
    return RegionPlan((width, height), draw(HARD_TEXT), tuple(regions), draw(HARD_TEXT), extra=more)


# ---- JSON ---------------------------------------------------------------------------------------------------


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


def broken(**change):
    region = {
        "id": "hat",
        "bbox_2d": [1, 2, 30, 40],
        "hint": "red",
        "negative_hint": "",
        "start": 0.0,
        "end": 1.0,
        "mask": None,
    }
    top = {"version": 1, "image_size": [100, 80], "global_prompt": "", "reasoning": ""}
    for key, value in change.items():
        (top if key in top else region)[key] = value
    return {**top, "regions": [region]}


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


# ---- tags ---------------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(plans())
def test_tags_give_the_plan_back_rounded_to_whole_pixels(plan):
    # "nil" and the like are what a model writes for a hint that it has not; they are read as that, and told.
    assume(all(region.hint.casefold().strip(" .") not in NO_WORDS for region in plan.regions))
    # The hint comes back without space around it, which must not make it the other text.
    assume(all(region.hint.strip() != region.negative_hint for region in plan.regions))
    back = read_plan(write_tags(plan))[0]
    assert back.image_size == plan.image_size
    assert back.reasoning == plan.reasoning.strip()
    assert back.global_prompt == (plan.global_prompt.strip() or KEEP_UNCHANGED)
    assert back.ids == plan.ids
    for region, was in zip(back.regions, plan.regions, strict=True):
        assert all(abs(a - b) <= 1 for a, b in zip(region.box, was.box, strict=True))
        marked = tuple(text.strip() if text == was.hint else text for text in was.plain_texts)
        assert region == replace(was, box=region.box, hint=was.hint.strip(), plain_texts=marked)
    # what is whole already stays as it is
    assert replace(read_plan(write_tags(back))[0], notices=()) == replace(back, notices=())


def test_tags_are_written_as_the_published_page_writes_them():
    plan = RegionPlan((640, 427), "dusk", (Region("r1", (1.4, 2.6, 30.2, 40.9), 'a "red" </region> hat'),))
    text = write_tags(plan)
    assert text.startswith(
        '<gen_image>dusk</gen_image><region>[{"bbox_2d": [1, 3, 30, 41], "hint": "a \\"red\\" \\u003c/region> '
        'hat"}]</region>'
    )


def test_a_box_thinner_than_a_pixel_is_written_one_pixel_wide():
    plan = RegionPlan((640, 427), "dusk", (Region("r1", (9.6, 2.2, 9.9, 2.4), "x"),))
    assert '"bbox_2d": [9, 2, 10, 3]' in write_tags(plan)


def read(region_block, image_size=(640, 427), coordinates="pixels"):
    return read_plan(f"<gen_image>dusk</gen_image><region>{region_block}</region>", image_size, coordinates)[0]


GOOD = '{"bbox_2d": [1, 2, 30, 40], "hint": "red hat"}'


@pytest.mark.parametrize(
    "block",
    [
        f"[{GOOD}]",
        f"```json\n[{GOOD}]\n```",
        f"[{GOOD},]",
        f"[{GOOD}",
        GOOD,
        f"{GOOD},",
        GOOD[:-1],
        "[{'bbox_2d': [1, 2, 30, 40], 'hint': 'red hat'}]",
        "[{bbox_2d: [1, 2, 30, 40], hint: 'red hat'}]",
        '[{"bbox": ["1", "2", "30", "40.0"], "hint": "red hat"}]',
        '[{"box_2d": [1, 2, 30, 40,], "hint": "red hat", "point_2d": null}]',
        '[{"bbox_2d": [1, 2, 30, 40] "hint": "red hat"}]',
        '[{"hint": "red hat" "bbox_2d": [1, 2, 30, 40]}]',
        '[{"bbox_2d": [30, 40, 1, 2], "hint": "red hat"}]',
        '{"regions": [{"bbox_2d": [1, 2, 30, 40], "hint": "red hat"}]}',
        "[{'bbox_2d': (1), 'hint': None}, {'bbox_2d': [1, 2, 30, 40], 'hint': 'red hat'}]",
    ],
)
def test_a_region_list_that_is_nearly_json_is_read(block):
    plan = read(block)
    assert [(region.box, region.hint) for region in plan.regions] == [((1, 2, 30, 40), "red hat")]
    assert plan.global_prompt == "dusk"


def test_quotes_and_apostrophes_inside_single_quoted_hints_survive():
    plan = read("""[{'bbox_2d': [1, 2, 30, 40], 'hint': 'the man's "big" hat'},]""")
    assert plan.regions[0].hint == """the man's "big" hat"""
    assert any("single quotes" in warning for warning in plan.warnings)


def test_a_reply_cut_off_keeps_its_whole_items_and_says_so():
    plan = read_plan(
        f'<gen_image>dusk</gen_image><region>[{GOOD}, {{"bbox_2d": [5, 6, 70, 80], "hint": "make it bl',
        (640, 427),
        "pixels",
    )[0]
    assert len(plan.regions) == 1
    assert any("cut off" in warning for warning in plan.warnings)
    assert any("item 2 was dropped" in warning for warning in plan.warnings)
    # A box that was cut may have lost digits.
    plan = read_plan(
        f'<gen_image>dusk</gen_image><region>[{GOOD}, {{"hint": "x", "bbox_2d": [5, 6, 70, 8', (640, 427), "pixels"
    )[0]
    assert len(plan.regions) == 1


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ('{"bbox_2d": [1, 2, 3], "hint": "a"}', "four numbers, found 3"),
        ('{"bbox_2d": [1, 2, 3, 4, 5], "hint": "a"}', "four numbers, found 5"),
        ('{"bbox_2d": [1, 2, "x", 4], "hint": "a"}', "not a finite number"),
        ('{"bbox_2d": [1, 2, NaN, 4], "hint": "a"}', "not a finite number"),
        ('{"bbox_2d": [1, 2, 1e999, 4], "hint": "a"}', "not a finite number"),
        ('{"bbox_2d": [1, 2, true, 4], "hint": "a"}', "not a finite number"),
        ('{"bbox_2d": [1, 2, 1, 4], "hint": "a"}', "no area"),
        ('{"bbox_2d": [-9, -9, -1, -1], "hint": "a"}', "outside the image of 640x427"),
        ('{"bbox_2d": [1, 2, 3, 4], "hint": " "}', "no hint"),
        ('{"bbox_2d": [1, 2, 3, 4], "label": "apple"}', "only the label"),
        ('{"hint": "a"}', "no bbox_2d"),
        ("7", "not an object"),
    ],
)
def test_an_unusable_item_is_dropped_with_its_reason_before_regions_are_numbered(item, reason):
    plan = read(f"[{item}, {GOOD}]")
    assert plan.ids == ("r1",)
    assert plan.regions[0].hint == "red hat"
    assert any("item 1 was dropped" in warning and reason in warning for warning in plan.warnings), plan.warnings


def test_a_box_over_the_border_is_clamped_on_all_sides_and_reported():
    plan = read('[{"bbox_2d": [-5, -5, 700, 500], "hint": "a"}]')
    assert plan.regions[0].box == (0, 0, 640, 427)
    assert any("clamped" in warning for warning in plan.warnings)


def test_boxes_copied_from_the_planners_instructions_are_dropped_and_similar_ones_are_doubted():
    copied = '{"bbox_2d": [10, 150, 150, 210], "hint": "change this apple to a pear"}'
    plan = read(f'[{copied}, {GOOD}, {{"bbox_2d": [150, 50, 200, 150], "hint": "make the door blue"}}]')
    assert [region.hint for region in plan.regions] == ["red hat", "make the door blue"]
    assert any("item 1 was dropped" in w and "instructions" in w for w in plan.warnings)
    assert any("item 3" in w and "check" in w for w in plan.warnings)


def test_the_first_of_several_blocks_counts_and_the_others_are_reported():
    plan = read_plan(
        f"<think>I will write <region>[] here</think><gen_image>dusk</gen_image><region>[{GOOD}]</region>"
        '<region>[{"bbox_2d": [5, 6, 7, 8], "hint": "no"}]</region><answer>done</answer>',
        (640, 427),
        "pixels",
    )[0]
    assert [region.hint for region in plan.regions] == ["red hat"]
    assert any("2 <region> blocks" in warning for warning in plan.warnings)
    assert plan.reasoning.startswith("I will write")


def test_a_closing_tag_inside_a_hint_does_not_end_the_block():
    for block in (
        f'[{{"bbox_2d": [5, 6, 70, 80], "hint": "write </region> on it"}}, {GOOD}]',
        "```json\n[{'bbox_2d': [5, 6, 70, 80], 'hint': 'write </region> on it'}, " + GOOD + "]\n```",
    ):
        assert [region.hint for region in read(block).regions] == ["write </region> on it", "red hat"]


@pytest.mark.parametrize("tag", ["gen_image", "global", "GEN_IMAGE", " gen_image "])
def test_both_names_of_the_global_tag_are_read(tag):
    plan = read_plan(f"<{tag}> at dusk </{tag}><region>[]</region>", (640, 427))[0]
    assert (plan.global_prompt, plan.regions, plan.warnings) == ("at dusk", (), ())


@pytest.mark.parametrize("quotes", ["''", "\u2018\u2019", '""'])
def test_the_quoted_placeholder_is_the_placeholder(quotes):
    plan = read_plan(
        f"<gen_image>{quotes[0]}Keep remaining part of image "
        f"unchanged.{quotes[1]}</gen_image><region>[{GOOD}]</region>",
        (640, 427),
    )[0]
    assert plan.global_prompt == KEEP_UNCHANGED


@pytest.mark.parametrize("block", ["", "<gen_image>  </gen_image>"])
def test_without_a_global_text_the_placeholder_stands_and_is_reported(block):
    plan = read_plan(f"{block}<region>[{GOOD}]</region>", (640, 427))[0]
    assert plan.global_prompt == KEEP_UNCHANGED
    assert any("gen_image" in warning for warning in plan.warnings)


def test_without_a_region_block_the_plan_is_global_only_and_says_so():
    plan = read_plan("<think>hm</think><gen_image>at dusk</gen_image>", (640, 427))[0]
    assert (plan.global_prompt, plan.regions) == ("at dusk", ())
    assert any("no <region>" in warning for warning in plan.warnings)
    plan = read_plan("<gen_image>at dusk</gen_image><region>there is nothing to change</region>", (640, 427))[0]
    assert plan.regions == ()
    assert any("cannot be read" in warning for warning in plan.warnings)


def test_a_plan_with_nothing_to_edit_says_so_and_one_that_lost_all_its_items_is_refused():
    plan = read_plan("<region>[]</region>", (640, 427))[0]
    assert any("nothing is left to edit" in warning for warning in plan.warnings)
    with pytest.raises(ReplyError, match="item 1 was dropped: a box is four numbers") as caught:
        read_plan('<region>[{"bbox_2d": [1, 2, 3], "hint": "x"}]</region>', (640, 427))
    assert caught.value.code == "all_dropped"
    assert "dropped_bad_box" in [notice.code for notice in caught.value.notices]


@pytest.mark.parametrize(
    "text",
    [
        f"[{GOOD}]",
        GOOD,
        f"Here you are:\n```json\n[{GOOD}]\n```\nDone.",
        f'{{"global_prompt": "dusk", "regions": [{GOOD}]}}',
    ],
)
def test_a_bare_region_list_is_a_plan(text):
    plan = read_plan(text, (640, 427), "pixels")[0]
    assert [region.hint for region in plan.regions] == ["red hat"]
    assert plan.global_prompt == ("dusk" if "dusk" in text else KEEP_UNCHANGED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "make the hat red",
        "[1, 2, 3, 4]",
        "[[1, 2, 3, 4]]",
        '"text"',
        "7",
        '{"a": 1}',
        "[see below]",
        "<think>only this</think>",
    ],
)
def test_any_other_text_is_refused(text):
    with pytest.raises(PlanError):
        read_plan(text, (640, 427))[0]


def test_ids_that_are_written_stay_and_the_others_give_way():
    ids = ['"id": "r2", ', "", '"id": "hat", ', '"id": "x", ', '"id": "x", ', '"id": 7, ']
    plan = read(
        "[" + ", ".join("{" + name + GOOD[1:].replace("red", f"{place}") for place, name in enumerate(ids)) + "]"
    )
    assert plan.ids[0] == "r2"
    assert plan.ids[2] == "hat"
    assert len(set(plan.ids)) == 6


@pytest.mark.parametrize("name", ["a|b", "*", "|"])
def test_an_id_that_no_rule_could_name_is_refused_and_a_reader_of_answers_renames_it(name):
    with pytest.raises(PlanError, match=r"the id .* cannot name a region.*'\|'"):
        Region(name, (1, 2, 3, 4))
    with pytest.raises(PlanError, match="cannot name a region"):
        plan_from_json(broken(id=name))
    plan = read(f'[{{"id": "{name}", {GOOD[1:]}, {GOOD}, {{"id": "r1", {GOOD[1:]}]')
    assert plan.ids == ("r4", "r2", "r1")
    assert any("item 1" in w and name in w and "'r4'" in w for w in plan.warnings)
    assert read(f'[{{"id": "a*:b", {GOOD[1:]}]').ids == ("a*:b",)


def test_keys_that_are_not_known_are_kept_and_written_again():
    more = '"label": "hat", "point_2d": [7, 8], "score": {"p": [0.5, null]}'
    plan = read(f"[{GOOD[:-1]}, {more}}}]")
    assert plan.regions[0].extra == {"label": "hat", "point_2d": [7, 8], "score": {"p": [0.5, None]}}
    assert plan_from_json(plan_to_json(plan)).regions == plan.regions
    assert read_plan(write_tags(plan))[0].regions == plan.regions
    assert read_plan(f"[{GOOD[:-1]}, {more}}}]", (640, 427), "pixels")[0].regions == plan.regions
    assert read('[{"bbox": [1, 2, 30, 40], "hint": "red hat", "mask": 7, "label": "hat"}]').regions[0].extra == {
        "label": "hat"
    }


def test_a_key_that_json_cannot_write_is_left_out_with_a_warning():
    plan = read(f'[{GOOD[:-1]}, "score": NaN, "label": "hat"}}]')
    assert plan.regions[0].extra == {"label": "hat"}
    assert any("'score'" in warning for warning in plan.warnings)
    write_tags(plan), plan_to_json(plan)


def test_a_fresh_id_is_numbered_by_count_and_else_the_first_that_is_free():
    assert fresh_id(()) == "r1"
    assert fresh_id({"a", "b"}) == "r3"
    assert fresh_id({"r1", "r3"}) == "r2"
    assert fresh_id({"r1", "r2", "r4", "x", "r5", "r7"}) == "r3"


def test_a_wrong_extra_key_costs_the_key_and_not_the_region():
    plan = read('[{"bbox_2d": [1, 2, 30, 40], "hint": "red hat", "start": 0.9, "end": 0.1, "id": 7}]')
    assert plan.ids == ("r1",)
    assert (plan.regions[0].start, plan.regions[0].end) == (0.0, 1.0)
    assert any("starts at 0.9" in warning for warning in plan.warnings)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        PIECE
        | TEXT
        | st.sampled_from(
            ["<region>", "<gen_image>x</gen_image>", "[", "{", "}", GOOD, ",", '"bbox_2d":', "[1,2,3,4]", "```", ":"]
        ),
        max_size=12,
    ).map("".join)
)
def test_any_text_gives_a_plan_or_a_plan_error(text):
    with contextlib.suppress(PlanError):
        read_plan(text, (64, 48))[0]


@pytest.mark.timed
@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "< ",
        "<region>[",
        "<region>",
        "</region>",
        "[",
        "{",
        "[{",
        '{"a":',
        "'",
        '"',
        '" ',
        '", ',
        "\\",
        "[,",
        "```",
        "&amp;",
        "&",
        "1,",
        ' "a" ',
        "{'a': 'b' ",
    ],
)
def test_reading_takes_time_linear_in_the_length(piece):
    text = "<gen_image>x</gen_image><region>" + piece * (300_000 // len(piece))
    began = time.thread_time()
    read_plan(text, (64, 48))
    assert time.thread_time() - began < 4 * pace()


def test_the_choice_of_coordinates_is_told():
    large = GOOD.replace("40", "400")
    assert "644x420" in read_plan(f"<gen_image>x</gen_image><region>[{large}]</region>", (640, 427))[1]


@pytest.mark.parametrize("quote", ["'", ""])
def test_a_plan_with_slips_keeps_the_image_size_it_names(quote):
    text = "{~image_size~: [600, 400], ~regions~: [{~bbox_2d~: [324, 66, 426, 328], ~hint~: 'gold'}]}".replace(
        "~", quote
    )
    plan, _ = read_plan(text, (1200, 800))
    assert plan.regions[0].box == (648, 132, 852, 656)
    with pytest.raises(PlanError, match="600x400"):
        read_plan(text, (512, 512))


@pytest.mark.parametrize(
    "slip",
    [
        '"version": "two", "regions": [{~}]',
        '"regions": [{~}, {"hint": "no box"}]',
    ],
)
def test_a_wrong_value_in_a_plans_json_is_told_to_who_wrote_it_and_read_past_when_that_was_a_model(slip):
    region = '"bbox_2d": [324, 66, 426, 328], "hint": "gold"'
    text = '{"image_size": [600, 400], ' + slip.replace("~", region) + "}"
    with pytest.raises(PlanError):
        read_plan(text, (1200, 800))
    plan, _ = read_plan(text, (1200, 800), by_model=True)
    assert [(one.box, one.hint) for one in plan.regions] == [((648, 132, 852, 656), "gold")]
