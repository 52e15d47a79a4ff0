"""Merging plans and expanding regions."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_boxes import reference_expand
from replan.planner.plan import KEEP_UNCHANGED, Notice, PlanError, Region, RegionMask, RegionPlan
from replan.planner.plans.change import expand_regions, merge_plans
from replan.planner.plans.plan_json import plan_from_json
from replan.planner.plans.resize import stretch
from replan.planner.replies.build import read_plan

SIZE = (640, 480)


def plan(prompt, *regions, size=SIZE, **more):
    return RegionPlan(
        size, prompt, tuple(Region(name, (10, 20, 110, 220), f"hint of {name}") for name in regions), **more
    )


def test_merging_keeps_order_and_ids_and_renames_a_clash_with_a_warning():
    merged = merge_plans(plan("a", "r1", "hat"), plan("a", "r1", "r2"), plan("a", "r2"))
    assert merged.ids[:2] == ("r1", "hat")
    assert merged.ids[3] == "r2"
    assert len(set(merged.ids)) == 5
    assert [region.hint for region in merged.regions] == [
        "hint of r1",
        "hint of hat",
        "hint of r1",
        "hint of r2",
        "hint of r2",
    ]
    assert len(merged.warnings) == 2
    assert f"'r1' of plan 2 is called '{merged.ids[2]}'" in merged.warnings[0]


@pytest.mark.parametrize(
    ("prompts", "merged"),
    [
        ((KEEP_UNCHANGED, KEEP_UNCHANGED), KEEP_UNCHANGED),
        (("", " "), KEEP_UNCHANGED),
        ((KEEP_UNCHANGED, "at dusk", ""), "at dusk"),
        (("at dusk", "in oil"), "at dusk. in oil"),
        (("At dusk.", "in oil", "At dusk."), "At dusk. in oil"),
    ],
)
def test_merged_global_prompts_lose_nothing_that_was_asked_for(prompts, merged):
    assert merge_plans(*(plan(prompt) for prompt in prompts)).global_prompt == merged


def test_merging_keeps_reasoning_warnings_and_unknown_keys():
    merged = merge_plans(
        plan("a", reasoning="one", notices=(Notice("x", "x"),), extra={"k": 1}),
        plan("a", reasoning="two", notices=(Notice("x", "x"), Notice("y", "y")), extra={"k": 2, "m": 3}),
    )
    assert (merged.reasoning, merged.warnings, merged.extra) == ("one\n\ntwo", ("x", "y"), {"k": 1, "m": 3})


def test_one_plan_merges_to_itself_and_none_is_refused():
    alone = plan("at dusk", "r1", reasoning="x", notices=(Notice("w", "w"),))
    assert merge_plans(alone) == alone
    with pytest.raises(PlanError):
        merge_plans()


def test_plans_for_images_of_different_sizes_do_not_merge():
    with pytest.raises(PlanError, match="640x480.*plan 2.*320x240"):
        merge_plans(plan("a", "r1"), plan("a", "r1", size=(320, 240)))


def test_expansion_by_ratio_and_by_pixels():
    before = plan("a", "r1")
    assert expand_regions(before, 0.15).regions[0].box == pytest.approx((0, 0, 125, 250))
    assert expand_regions(before, 0.05).regions[0].box == pytest.approx((5, 10, 115, 230))
    assert expand_regions(before, 7.5, "pixels").regions[0].box == (2.5, 12.5, 117.5, 227.5)
    assert expand_regions(before, -0.25).regions[0].box == (35, 70, 85, 170)


def test_a_box_over_the_border_expands_as_in_the_published_code_from_what_was_written():
    """By the published code, [-40, -20, 50, 60] of 250x250 pixels covers the patches (0, 0, 17, 19) at 1024x1024."""
    item = {"bbox_2d": [-40, -20, 50, 60], "hint": "red"}
    read = plan_from_json({"image_size": [250, 250], "regions": [item]})
    assert read.regions[0].box == (0, 0, 50, 60), "clamped for everything else"
    for mode in ("ratio", "published"):
        large = stretch((250, 250), (1024, 1024)).map_plan(expand_regions(read, 0.15, mode))
        rows, columns = np.nonzero(large.regions[0].cells((1024, 1024), 64, 64))
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (0, 0, 17, 19)


def test_a_reply_s_box_over_the_border_expands_from_what_was_written():
    text = '<gen_image>at dusk</gen_image><region>[{"bbox_2d": [50, 60, -40, -20], "hint": "red"}]</region>'
    plan, _ = read_plan(text, (250, 250), "pixels")
    assert plan.regions[0].box == (0, 0, 50, 60)
    assert expand_regions(plan, 0.15, "published").regions[0].box == reference_expand(
        (-40, -20, 50, 60), (250, 250), 0.15
    )


@given(
    st.tuples(*[st.integers(-200, 900)] * 4).filter(lambda b: b[0] < min(b[2], 640) and b[1] < min(b[3], 480)),
    st.floats(0, 3),
)
def test_the_published_mode_gives_the_published_boxes(box, value):
    if box[2] <= 0 or box[3] <= 0:
        return
    read = plan_from_json({"image_size": list(SIZE), "regions": [{"bbox_2d": list(box), "hint": "red"}]})
    assert expand_regions(read, value, "published").regions[0].box == reference_expand(box, SIZE, value)


def test_a_box_that_was_moved_after_reading_expands_from_where_it_is():
    read = plan_from_json({"image_size": list(SIZE), "regions": [{"bbox_2d": [-40, -20, 50, 60], "hint": "red"}]})
    moved = read.with_regions([replace(read.regions[0], box=(10.0, 0.0, 60.0, 60.0))])
    assert expand_regions(moved, 0.1).regions[0].box == pytest.approx((5, 0, 65, 66))


numbers = st.floats(-10, 10)


@given(
    st.floats(0, 600),
    st.floats(0, 400),
    st.floats(1, 600),
    st.floats(1, 400),
    numbers,
    st.sampled_from(["ratio", "pixels"]),
)
def test_expanded_boxes_stay_on_the_image_and_never_vanish(x, y, w, h, value, mode):
    before = RegionPlan(SIZE, "a", (Region("r1", (x, y, x + w, y + h), "a"),))
    try:
        x1, y1, x2, y2 = expand_regions(before, value, mode).regions[0].box
    except PlanError as error:
        assert value < 0
        assert "'r1'" in str(error)
        return
    assert 0 <= x1 < x2 <= 640
    assert 0 <= y1 < y2 <= 480
    if value >= 0:
        assert x1 <= x
        assert y1 <= y
        assert x2 >= min(x + w, 640)
        assert y2 >= min(y + h, 480)


@pytest.mark.parametrize(("value", "mode"), [(math.nan, "ratio"), (math.inf, "pixels"), (0.1, "percent")])
def test_a_wrong_expansion_is_refused_by_value(value, mode):
    with pytest.raises(PlanError, match="found"):
        expand_regions(plan("a", "r1"), value, mode)


def test_a_mask_is_kept_and_the_warning_says_that_it_does_not_grow():
    mask = RegionMask((1, 2), (1, 1))
    before = RegionPlan(SIZE, "a", (Region("r1", (10, 20, 110, 220), "a", mask=mask),))
    assert expand_regions(before, 0.1).regions[0].mask == mask
    assert "'r1'" in expand_regions(before, 0.1).warnings[0]
    assert expand_regions(before, -0.1).warnings == ()
