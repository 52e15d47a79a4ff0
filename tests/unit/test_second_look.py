"""The geometry and reading of a second look, and the vote over several replies."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.planner.asking.second_look import Cut, SecondLook, apply_second_look, cut_around, read_second_look
from replan.planner.asking.vote import vote
from replan.planner.geometry import iou, share_inside
from replan.planner.plan import PlanError, Region, RegionPlan

SIZE = (1288, 952)
CUT = Cut(100, 200, 436, 480)  # 336 x 280: just what Qwen2.5-VL sees of it
REGION = Region("r1", (180, 260, 340, 400), "a golden spoon")


@st.composite
def boxes_on_images(draw):
    width, height = draw(st.integers(1, 4000)), draw(st.integers(1, 4000))
    x1, y1 = draw(st.floats(-50, width - 0.5)), draw(st.floats(-50, height - 0.5))
    x2, y2 = draw(st.floats(max(x1, 0) + 0.25, width + 50)), draw(st.floats(max(y1, 0) + 0.25, height + 50))
    return (x1, y1, x2, y2), (width, height)


@settings(max_examples=300, deadline=None)
@given(boxes_on_images(), st.floats(0, 2), st.integers(1, 400))
def test_a_cut_out_holds_its_box_lies_on_the_image_and_is_no_strip(given_box, margin, least):
    (x1, y1, x2, y2), (width, height) = given_box
    cut = cut_around((x1, y1, x2, y2), (width, height), margin, least)
    assert 0 <= cut.left < cut.right <= width and 0 <= cut.top < cut.bottom <= height
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height))
    assert cut.left <= inside[0] + 1e-6 and cut.top <= inside[1] + 1e-6
    assert cut.right >= inside[2] - 1e-6 and cut.bottom >= inside[3] - 1e-6
    assert cut.size[0] >= min(least, width) and cut.size[1] >= min(least, height)
    assert cut.size[0] >= min(width, (inside[2] - inside[0]) * (1 + 2 * margin)) - 1e-6
    assert max(cut.size) <= 4 * min(cut.size) + 8 or min(cut.size) in (width, height)


@given(boxes_on_images())
def test_mapping_into_a_cut_out_and_back_is_the_identity(given_box):
    box, size = given_box
    cut = cut_around(box, size)
    assert cut.to_image(cut.from_image(box)) == pytest.approx(box, abs=1e-6)


def test_room_that_is_not_there_on_one_side_is_taken_on_the_other():
    assert cut_around((0, 0, 100, 100), SIZE, 0.5) == Cut(0, 0, 200, 200)
    assert cut_around((1188, 852, 1288, 952), SIZE, 0.5) == Cut(1088, 752, 1288, 952)
    assert cut_around((600, 400, 604, 800), SIZE, 0.0).size == (112, 400)


# In pixels of the cut-out, of the image it is 100 and 200 further on.
TIGHT = (200, 280, 320, 380)
ANSWERS = [
    ('{"meant": "yes", "bbox_2d": [100, 80, 220, 180]}', True, TIGHT),
    ('```json\n{"meant": true, "bbox_2d": [100, 80, 220, 180]}\n```', True, TIGHT),
    ("{'meant': 'Yes.', 'bbox': [220, 180, 100, 80]}", True, TIGHT),
    ('[{"bbox_2d": [100, 80, 220, 180], "label": "spoon"}]', None, TIGHT),
    ('Yes, that is it. {"bbox_2d": [100, 80, 220, 180]}', None, TIGHT),
    ("Yes. [100, 80, 220, 180]", True, TIGHT),
    ("Yes.", True, None),
    ('{"meant": "no", "bbox_2d": null}', False, None),
    ("No, this is a fork.", False, None),
    ("\u662f\u7684", True, None),
    ("\u4e0d\u662f", False, None),
    ('{"meant": "yes or no", "bbox_2d": [x1, y1, x2, y2]}', None, None),
    ('{"meant": "yes", "bbox_2d": [900, 900, 990, 990]}', True, None),
    ('{"meant": "yes", "bbox_2d": [100, 80', True, None),
    ("I cannot tell.", None, None),
    ("Not sure.", None, None),
    ("1. No\n2. [100, 80, 220, 180]", False, TIGHT),
    ("1) Yes\n2) [100, 80, 220, 180]", True, TIGHT),
    ("<think>No, or is it? [1, 2, 30, 40]</think>Yes: [100, 80, 220, 180]", True, TIGHT),
    ('<think>Perhaps {"meant": "no"}</think>{"meant": "yes", "bbox_2d": [100, 80, 220, 180]}', True, TIGHT),
    ("", None, None),
]


@pytest.mark.parametrize(("reply", "meant", "box"), ANSWERS, ids=[row[0][:40] for row in ANSWERS])
def test_a_second_look_is_read_as_tolerantly_as_a_plan(reply, meant, box):
    look = read_second_look(reply, CUT, "seen_pixels")
    assert look.meant is meant
    assert look.box == (None if box is None else pytest.approx(box))


def test_a_second_look_counts_what_its_coordinates_say():
    assert read_second_look(
        '{"meant": "yes", "bbox_2d": [500, 500, 1000, 1000]}', CUT, "relative_1000"
    ).box == pytest.approx((268, 340, 436, 480))
    shown_twice_as_large = read_second_look('{"bbox_2d": [200, 160, 440, 360]}', CUT, "seen_pixels", (672, 560))
    assert shown_twice_as_large.box == pytest.approx(TIGHT)
    assert read_second_look('{"box_2d": [500, 0, 1000, 500]}', CUT).box == pytest.approx((100, 340, 268, 480))


@settings(max_examples=100, deadline=None)
@given(
    st.text(max_size=60) | st.sampled_from([row[0] for row in ANSWERS]),
    st.text(max_size=5),
    st.integers(0, 40),
)
def test_any_answer_can_be_read_and_merged(reply, more, at):
    look = read_second_look(reply[:at] + more + reply[at:], CUT)
    region, _ = apply_second_look(REGION, look, CUT)
    assert region is not None
    x1, y1, x2, y2 = region.box
    assert CUT.left <= x1 < x2 <= CUT.right and CUT.top <= y1 < y2 <= CUT.bottom


MERGED = [
    (SecondLook(True, TIGHT), TIGHT, "moved its box"),
    (SecondLook(None, TIGHT), TIGHT, "moved its box"),
    (SecondLook(True, None), REGION.box, ""),
    (SecondLook(True, REGION.box), REGION.box, ""),
    (SecondLook(None, None), REGION.box, "no clear answer"),
    (SecondLook(False, TIGHT), REGION.box, "move or delete it"),
    (SecondLook(True, (100, 200, 140, 240)), REGION.box, "somewhere else"),
    (SecondLook(True, (100, 200, 436, 480)), REGION.box, "whole cut-out"),
    (SecondLook(True, (170, 250, 350, 410)), (170, 250, 350, 410), "moved its box"),
]


@pytest.mark.parametrize(("look", "box", "says"), MERGED, ids=[f"{row[0]}" for row in MERGED])
def test_a_tighter_box_is_taken_only_where_it_fits(look, box, says):
    region, done = apply_second_look(REGION, look, CUT)
    assert (region.box, region.hint, region.id) == (box, REGION.hint, REGION.id)
    assert says in str(done or "") and bool(says) == bool(done)


# ---- votes --------------------------------------------------------------------------------------------------

HAT, DOG, CUP = (10, 10, 110, 90), (300, 100, 500, 400), (600, 500, 700, 600)


def moved(box, by):
    return tuple(value + by for value in box)


def plan(*regions, prompt="at dusk"):
    return RegionPlan(
        SIZE, prompt, tuple(Region(f"x{number}", box, hint) for number, (box, hint) in enumerate(regions))
    )


def test_the_vote_takes_what_most_replies_agree_on():
    agreed = vote(
        [
            plan((HAT, "red hat"), (DOG, "black dog")),
            plan((moved(DOG, 6), "Black  dog"), (CUP, "blue cup")),
            plan((moved(HAT, 4), "a red hat"), (moved(DOG, 2), "a dark dog"), prompt="At  dusk"),
        ]
    )
    assert [(region.id, region.box) for region in agreed.regions] == [
        ("r1", moved(HAT, 2)),
        ("r2", moved(DOG, 2)),
    ]
    assert agreed.regions[1].hint == "black dog"
    assert agreed.global_prompt == "at dusk"
    assert any("'blue cup' is in 1 of 3" in warning for warning in agreed.warnings)


def test_a_region_is_on_when_most_replies_have_it_on():
    on = plan((HAT, "red hat"), (DOG, "black dog"))
    off = on.with_regions((replace(on.regions[0], box=moved(HAT, 9), hint="hat", enabled=False), on.regions[1]))
    agreed = vote([off, on, on])
    assert [(one.id, one.box, one.hint, one.enabled) for one in agreed.regions] == [
        ("r1", HAT, "red hat", True),
        ("r2", DOG, "black dog", True),
    ]
    assert agreed.warnings == ()
    agreed = vote([off, on, off])
    assert [(one.id, one.box, one.enabled) for one in agreed.regions] == [
        ("r1", moved(HAT, 9), False),
        ("r2", DOG, True),
    ]
    assert ["'red hat' is in 1 of 3 replies and was switched off" in said for said in agreed.warnings] == [True]
    nothing_on = [plan_off(off) for _ in range(3)]
    assert vote(nothing_on).active.regions == () and vote(nothing_on).warnings == ()
    agreed = vote([on, *nothing_on])
    assert agreed.active.regions == () and ["switched off" in said for said in agreed.warnings] == [True, True]


def plan_off(made):
    return made.with_regions(replace(region, enabled=False) for region in made.regions)


def test_a_reply_has_one_vote_for_a_region():
    agreed = vote([plan((HAT, "red"), (moved(HAT, 3), "red")), plan((DOG, "black")), plan((DOG, "black"))])
    assert [region.hint for region in agreed.regions] == ["black"]


def test_without_agreement_one_reply_is_taken_as_it_is_and_told():
    plans = [plan((HAT, "red")), plan((DOG, "black")), plan((CUP, "blue"))]
    agreed = vote(plans)
    assert agreed.regions == plans[0].regions
    assert any("agree on no region" in warning for warning in agreed.warnings)


def test_votes_on_plans_of_several_images_and_on_none_are_refused():
    with pytest.raises(PlanError, match="no plan"):
        vote([])
    with pytest.raises(PlanError, match="2 sizes"):
        vote([plan((HAT, "a")), RegionPlan((640, 480))])
    assert vote([plan((HAT, "a"))]) == plan((HAT, "a"))


@st.composite
def noisy_plans(draw):
    """Three to five replies that saw the same few separate things, each a little off."""
    spots = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=6, unique=True))
    plans = []
    for _ in range(draw(st.integers(3, 5))):
        regions = []
        for number, (column, row) in enumerate(spots):
            x, y = 200 * column + draw(st.floats(0, 12)), 220 * row + draw(st.floats(0, 12))
            regions.append(((x, y, x + 100, y + 100), f"thing {number}"))
        plans.append(plan(*draw(st.permutations(regions))))
    return spots, plans


@settings(max_examples=100, deadline=None)
@given(noisy_plans())
def test_what_every_reply_saw_is_kept_with_its_hint_whatever_the_order(made):
    spots, plans = made
    for order in (plans, plans[::-1]):
        agreed = vote(order)
        assert sorted(region.hint for region in agreed.regions) == sorted(
            f"thing {number}" for number in range(len(spots))
        )
        for region in agreed.regions:
            column, row = spots[int(region.hint.split()[1])]
            assert iou(region.box, (200 * column + 6, 220 * row + 6, 200 * column + 106, 220 * row + 106)) > 0.75
            edges = [[r.box[edge] for p in plans for r in p.regions if r.hint == region.hint] for edge in range(4)]
            assert all(min(values) <= value <= max(values) for value, values in zip(region.box, edges, strict=True))


@settings(max_examples=100, deadline=None)
@given(st.lists(boxes_on_images().map(lambda made: made[0]), min_size=1, max_size=5), st.integers(1, 5))
def test_equal_replies_give_their_own_plan(boxes, times):
    one = RegionPlan((5000, 5000), "x", tuple(Region(f"r{n}", box, f"hint {n}") for n, box in enumerate(boxes, 1)))
    agreed = vote([one] * times)
    assert agreed.regions == one.regions
    assert agreed.warnings == ()
    assert all(share_inside(region.box, region.box) == 1 for region in agreed.regions)
