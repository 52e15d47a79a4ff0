"""The plan as tag text, read tolerantly: round trips, repairs, and every refusal."""

import contextlib
import time
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from machine import pace
from plan_strategies import GOOD, PIECE, TEXT, broken, plans
from replan.planner.plan import KEEP_UNCHANGED, PlanError, Region, RegionPlan, fresh_id
from replan.planner.plans.plan_json import plan_from_json, plan_to_json
from replan.planner.plans.tags import write_tags
from replan.planner.replies import ReplyError, read_plan
from replan.planner.replies.vocabulary import NO_WORDS


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
