"""A region that is switched off: it stays in the plan, and everything done with the plan goes on as without it."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.planner.pictures.draw import draw_plan
from replan.planner.pictures.masks import region_masks
from replan.planner.plan import PlanError, Region, RegionMask, RegionPlan
from replan.planner.plans.change import expand_regions, merge_plans
from replan.planner.plans.lint import lint
from replan.planner.plans.plan_json import plan_from_json, plan_to_json
from replan.planner.plans.report import describe_plan
from replan.planner.plans.resize import fit_plan, make_transform
from replan.planner.plans.tags import write_tags
from replan.planner.replies import read_plan

SIZE = (96, 64)
HINTS = st.sampled_from(["", "red", "keep the sky unchanged", "add a hat", "the hint of this region"])
MASKS = st.lists(st.booleans(), min_size=6, max_size=6).map(
    lambda cells: RegionMask.from_array(np.reshape(cells, (2, 3)))
)


@st.composite
def plans(draw, size=SIZE):
    """Plans whose regions overlap, reach over the border, and are on or off."""
    regions = []
    for name in draw(st.permutations(["r1", "r2", "r3", "r4", "hat"]))[: draw(st.integers(0, 4))]:
        x1, y1 = draw(st.integers(-8, size[0] - 1)), draw(st.integers(-8, size[1] - 1))
        box = (x1, y1, draw(st.integers(max(x1, 0) + 1, size[0] + 8)), draw(st.integers(max(y1, 0) + 1, size[1] + 8)))
        mask = draw(st.none() | MASKS)
        extra = draw(st.just({}) | st.just({"strength": 2}) | st.just({"label": "cup"}))
        regions.append(Region(name, box, draw(HINTS), mask=mask, enabled=draw(st.booleans()), extra=extra))
    return RegionPlan(size, draw(st.sampled_from(["", "at dusk"])), tuple(regions))


def outcome(act, *args):
    """What it gives, or the words of its error."""
    try:
        return act(*args)
    except PlanError as error:
        return str(error)


def active(plan):
    return plan.active if isinstance(plan, RegionPlan) else plan


@settings(max_examples=150, deadline=None)
@given(plans(), plans(), st.sampled_from([-0.4, 0.15, 3.0]), st.sampled_from(["crop", "pad", "stretch"]))
def test_everything_that_is_done_with_a_plan_goes_on_as_without_the_regions_that_are_off(plan, other, value, method):
    without = plan.active
    assert all(region.enabled for region in without.regions)
    transform = make_transform(plan.image_size, "flux_kontext", method)
    for act, *args in [
        (lambda p: expand_regions(p, value),),
        (transform.map_plan,),
        (lambda p: fit_plan(p, (192, 128)),),
    ]:
        assert active(outcome(act, plan, *args)) == outcome(act, without, *args)
    assert active(outcome(merge_plans, plan, other)) == outcome(merge_plans, without, other.active)
    assert lint(plan, "replace the cup") == lint(without, "replace the cup")
    assert [line for line in describe_plan(plan).split("\n") if not line.startswith("Switched off: ")] == describe_plan(
        without
    ).split("\n")
    assert all(torch.equal(one, two) for one, two in zip(region_masks(plan), region_masks(without), strict=True))
    assert draw_plan(None, plan, 16).tobytes() == draw_plan(None, without, 16).tobytes()


@settings(max_examples=50, deadline=None)
@given(plans())
def test_what_is_off_is_written_and_read_back_so(plan):
    whole = RegionPlan(
        plan.image_size,
        "at dusk",
        tuple(
            Region(region.id, [max(0, edge) for edge in region.box], "red", enabled=region.enabled)
            for region in plan.regions
        ),
    )
    for text in (plan_to_json(whole), write_tags(whole)):
        assert [region.enabled for region in read_plan(text)[0].regions] == [region.enabled for region in plan.regions]


def test_a_region_is_on_unless_its_json_says_otherwise():
    written = json.loads(plan_to_json(RegionPlan(SIZE, "", (Region("r1", (0, 0, 9, 9), enabled=False),))))
    assert written["regions"][0]["enabled"] is False
    del written["regions"][0]["enabled"]
    assert plan_from_json(written).regions[0].enabled is True
    assert "enabled" not in plan_to_json(plan_from_json(written)), "an older version of the pack reads it as before"


def test_a_switch_that_is_neither_on_nor_off_is_refused_by_name():
    item = {"id": "r1", "bbox_2d": [0, 0, 9, 9], "enabled": "no"}
    with pytest.raises(PlanError, match="region 'r1': enabled must be true or false, found 'no'"):
        plan_from_json({"image_size": list(SIZE), "regions": [item]})


def test_the_report_names_what_is_switched_off():
    plan = RegionPlan(SIZE, "", (Region("r1", (0, 0, 9, 9), "red", enabled=False), Region("r2", (0, 0, 9, 9), "blue")))
    assert "1 region\n" in describe_plan(plan)
    assert "Switched off: r1 (red)" in describe_plan(plan)


def test_of_two_regions_with_one_id_the_one_that_is_on_keeps_it():
    off = RegionPlan(SIZE, "", (Region("r1", (0, 0, 9, 9), "red", enabled=False),))
    on = RegionPlan(SIZE, "", (Region("r1", (0, 0, 9, 9), "blue"),))
    merged = merge_plans(off, on)
    assert [(region.hint, region.enabled) for region in merged.regions] == [("red", False), ("blue", True)]
    assert merged.ids[1] == "r1" and merged.warnings == ()
