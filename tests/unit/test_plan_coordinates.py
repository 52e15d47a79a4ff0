"""Coordinate conventions and the published numbers (spec 1.6, 14.1, 14.2)."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_boxes import patch_range, reference_expand
from replan.planner.plan import PlanError, Region, RegionPlan
from replan.planner.plans.change import expand_regions
from replan.planner.plans.plan_json import plan_to_json
from replan.planner.plans.report import describe_plan
from replan.planner.plans.resize import smart_resize
from replan.planner.plans.tags import write_tags
from replan.planner.replies import read_plan
from replan.planner.replies.boxes import Spelled
from replan.planner.replies.pixels import choose_frame

# example: image, seen, planner box, mapped, Flux size, expanded, Flux patches, Qwen size, Qwen patches (spec 14.1)
PUBLISHED = {
    "festival": ((640, 427), (644, 420), (488, 190, 644, 415), (485.0, 193.2, 640.0, 421.9), (1248, 832), (464, 156,
    640, 427), (56, 18, 78, 52), (1248, 832), (59, 23, 78, 51)),
    "cream#1": ((640, 480), (644, 476), (30, 175, 308, 358), (29.8, 176.5, 306.1, 361.0), (1184, 880), (0, 147, 349,
    385), (0, 16, 41, 45), (1184, 896), (3, 20, 36, 42)),
    "cream#2": ((640, 480), (644, 476), (108, 56, 282, 175), (107.3, 56.5, 280.2, 176.5), (1184, 880), (81, 38, 308,
    192), (9, 4, 36, 22), (1184, 896), (12, 6, 33, 21)),
    "apple": ((500, 399), (504, 392), (273, 60, 431, 218), (270.8, 61.1, 427.6, 221.9), (1104, 944), (249, 36, 454,
    241), (34, 5, 63, 36), (1152, 928), (39, 8, 63, 32)),
    "keyboard": ((640, 464), (644, 476), (320, 283, 443, 316), (318.0, 275.9, 440.2, 308.0), (1184, 880), (301, 278,
    461, 320), (34, 32, 54, 38), (1216, 864), (38, 32, 53, 37)),
    "sunglasses": ((640, 427), (644, 420), (91, 89, 252, 406), (90.4, 90.5, 250.4, 412.8), (1248, 832), (66, 41, 276,
    427), (8, 4, 34, 52), (1248, 832), (11, 10, 31, 50)),
    "carrot#1": ((640, 480), (644, 476), (298, 189, 479, 326), (296.1, 190.6, 476.0, 328.7), (1184, 880), (270, 168,
    506, 346), (31, 19, 59, 40), (1184, 896), (34, 22, 56, 39)),
    "carrot#2": ((640, 480), (644, 476), (425, 192, 618, 262), (422.4, 193.6, 614.2, 264.2), (1184, 880), (396, 181,
    640, 272), (45, 20, 74, 32), (1184, 896), (49, 22, 72, 31)),
}  # fmt: skip


def reply(box):
    return f'<gen_image>x</gen_image><region>[{{"bbox_2d": {list(box)}, "hint": "a"}}]</region>'


def grid(size):
    return size[0] // 16, size[1] // 16


def patches(plan, cells):
    """The patches of the plan's first region, as `patch_range` gives them, by the pack's own count."""
    rows, columns = np.nonzero(plan.regions[0].cells(plan.image_size, cells[1], cells[0]))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("row", PUBLISHED.values(), ids=PUBLISHED)
def test_published_boxes_are_mapped_from_what_the_planner_saw_to_the_image(row):
    image, seen, box, mapped, *_ = row
    assert smart_resize(*image) == seen
    plan, note = read_plan(reply(box), image)
    assert plan.regions[0].box == pytest.approx(mapped, abs=0.06)
    assert f"{seen[0]}x{seen[1]}" in note
    assert plan.warnings == ()  # also not for x2 = 644 on an image 640 wide


@pytest.mark.parametrize("row", PUBLISHED.values(), ids=PUBLISHED)
def test_reference_compatible_mode_gives_the_published_patches(row):
    image, _, box, _, flux, expanded, flux_patches, qwen, qwen_patches = row
    assert reference_expand(box, image, 0.15) == expanded
    assert patch_range(expanded, image, grid(flux)) == flux_patches
    assert patch_range(reference_expand(box, image, 0.0), image, grid(qwen)) == qwen_patches
    # The pack's own nodes come to the same patches with the planner's numbers left unmapped.
    plan = read_plan(reply(box), image, "pixels")[0]
    assert patches(expand_regions(plan, 0.0), grid(qwen)) == qwen_patches


@pytest.mark.parametrize("row", PUBLISHED.values(), ids=PUBLISHED)
@pytest.mark.parametrize(("value", "size"), [(0.15, 4), (0.0, 7)], ids=["flux", "qwen"])
def test_by_default_the_patches_are_those_of_exact_arithmetic(row, value, size):
    image, seen, box, working = row[0], row[1], row[2], row[size]
    share = Fraction(15, 100) if value else Fraction(0)
    expected = []
    for axis in (0, 1):
        first, last = (Fraction(box[axis + at]) * image[axis] / seen[axis] for at in (0, 2))
        first, last = first - share * (last - first), last + share * (last - first)
        first, last = max(first, Fraction(0)), min(last, Fraction(image[axis]))
        patch = Fraction(image[axis], working[axis] // 16)
        expected.append((math.floor(first / patch), math.ceil(last / patch)))
    plan = expand_regions(read_plan(reply(box), image)[0], value)
    (col0, col1), (row0, row1) = expected
    assert patches(plan, grid(working)) == (col0, row0, col1, row1)


def test_mapping_changes_the_patches_of_published_boxes():
    """Otherwise the tests above could not tell the two modes apart."""
    differ = 0
    for image, _, box, _, _, _, _, qwen, qwen_patches in PUBLISHED.values():
        plan = read_plan(reply(box), image)[0]
        differ += patches(plan, grid(qwen)) != qwen_patches
    assert differ >= 4


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((640, 480), (644, 476)),
        ((719, 389), (728, 392)),
        ((500, 375), (504, 364)),
        ((1540, 600), (1540, 588)),
        ((10, 10), (56, 56)),
        ((28, 2000), (28, 1988)),
    ],
)
def test_smart_resize_gives_the_published_sizes(size, seen):
    assert smart_resize(*size) == seen


def test_smart_resize_refuses_a_size_without_area_and_says_what_to_give():
    with pytest.raises(PlanError, match="0x10 pixels has no area; give a width"):
        smart_resize(0, 10)


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_smart_resize_stays_within_its_bounds(width, height):
    if max(width, height) / min(width, height) > 200:
        with pytest.raises(PlanError, match=f"{width}x{height}"):
            smart_resize(width, height)
        return
    seen = smart_resize(width, height)
    assert all(side > 0 and side % 28 == 0 for side in seen)
    assert 3136 <= seen[0] * seen[1] <= 12_845_056


def test_an_image_above_the_limit_is_seen_smaller():
    seen = smart_resize(8000, 6000)
    assert seen == (4116, 3080)
    assert read_plan(reply((0, 0, 4116, 3080)), (8000, 6000))[0].regions[0].box == (0, 0, 8000, 6000)


@pytest.mark.parametrize(
    ("coordinates", "seen", "box"),
    [
        ("pixels", (0, 0), (64, 48, 320, 240)),
        ("seen_pixels", (1280, 960), (128, 96, 640, 480)),
        ("auto", (1280, 960), (128, 96, 640, 480)),
        ("seen_pixels", (0, 0), (64.4, 47.6, 322, 238)),
        ("auto", (0, 0), (64.4, 47.6, 322, 238)),
        ("relative_1000", (0, 0), (100, 100, 500, 500)),
        ("relative_1", (0, 0), (0.1, 0.1, 0.5, 0.5)),
        ("auto", (0, 0), (0.1, 0.1, 0.5, 0.5)),
        ("auto", (1280, 960), (0.1, 0.1, 0.5, 0.5)),
    ],
)
def test_every_convention_lands_on_the_same_pixels(coordinates, seen, box):
    plan = read_plan(reply(box), (640, 480), coordinates, seen)[0]
    assert plan.regions[0].box == pytest.approx((64, 48, 320, 240))


def frame_of(boxes, size, thousandths=False):
    return choose_frame([Spelled(tuple(map(float, box)), thousandths=thousandths) for box in boxes], size)


def test_auto_looks_at_all_boxes_before_it_decides():
    assert frame_of([(0, 0, 1, 1), (0, 0, 300, 300)], (640, 480)).span == (644, 476)
    assert frame_of([(0, 0, 1, 1), (0, 0.5, 1, 1)], (640, 480)).span == (1, 1)
    assert frame_of([], (640, 480)).span == (644, 476)


def test_one_side_of_the_seen_size_and_an_unknown_choice_are_refused():
    with pytest.raises(PlanError, match="both sides"):
        read_plan(reply((1, 2, 3, 4)), (640, 480), "auto", (640, 0))[0]
    with pytest.raises(PlanError, match="found 'percent'"):
        read_plan(reply((1, 2, 3, 4)), (640, 480), "percent")[0]


@pytest.mark.parametrize(
    ("coordinates", "seen"), [("auto", (0, 0)), ("pixels", (0, 0)), ("auto", (640, 480)), ("relative_1000", (640, 480))]
)
def test_tags_without_an_image_ask_for_the_image(coordinates, seen):
    with pytest.raises(PlanError, match="connect the image"):
        read_plan(reply((1, 2, 3, 4)), None, coordinates, seen)[0]


def test_tags_without_an_image_take_the_size_given_with_pixels():
    plan = read_plan(reply((1, 2, 3, 4)), None, "pixels", (640, 480))[0]
    assert (plan.image_size, plan.regions[0].box) == ((640, 480), (1, 2, 3, 4))


PLAN = RegionPlan((640, 480), "dusk", (Region("hat", (64, 48, 320, 240), "red"),))


@pytest.mark.parametrize("write", [plan_to_json, write_tags])
def test_how_boxes_were_read_is_said_of_plans_with_boxes_only(write):
    empty = RegionPlan((640, 480), "dusk")
    assert read_plan(write(PLAN))[1].startswith("Boxes read as ")
    assert read_plan(write(empty))[1] == ""
    assert read_plan("<gen_image>dusk</gen_image>", (640, 480), "relative_1000")[1] == ""
    assert "\n\n" not in describe_plan(empty, "")


@pytest.mark.parametrize("write", [plan_to_json, write_tags])
@pytest.mark.parametrize("image", [None, (640, 480), (1280, 960), (320, 240)])
def test_a_text_that_names_its_image_size_goes_to_the_connected_image(write, image):
    plan = read_plan(write(PLAN), image)[0]
    scale = 1 if image is None else image[0] / 640
    assert plan.image_size == (image or (640, 480))
    assert plan.regions[0].box == tuple(scale * value for value in (64, 48, 320, 240))
    assert plan.warnings == ()


@pytest.mark.parametrize("write", [plan_to_json, write_tags])
def test_a_text_for_an_image_of_another_shape_is_refused_naming_both(write):
    with pytest.raises(PlanError, match="640x480.*512x512.*RePlan Resize"):
        read_plan(write(PLAN), (512, 512))[0]


@pytest.mark.parametrize("write", [plan_to_json, write_tags])
def test_a_small_difference_in_shape_is_a_warning(write):
    plan = read_plan(write(PLAN), (1184, 880))[0]
    assert plan.regions[0].box == pytest.approx((118.4, 88, 592, 440))
    assert any("640x480" in w and "1184x880" in w for w in plan.warnings)


@pytest.mark.parametrize("write", [plan_to_json, write_tags])
def test_a_choice_that_a_text_with_its_own_size_overrules_is_told(write):
    plan = read_plan(write(PLAN), None, "relative_1000")[0]
    assert plan.regions == PLAN.regions
    assert any("relative_1000" in warning for warning in plan.warnings)


def test_a_box_outside_the_image_covers_no_patch():
    assert patch_range((700, 10, 800, 20), (640, 480), (40, 30)) == (40, 0, 40, 2)
    assert patch_range((16, 16, 32, 32), (640, 480), (40, 30)) == (1, 1, 2, 2)


# ---- what `auto` takes numbers for, and orders ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "note"),
    [
        ((0, 0, 1, 1), "0..1 across"),
        ((0, 0, 1.5, 1), "the model saw, 644x476"),
        ((10, 10, 660, 490), "the model saw, 644x476"),
        ((10, 10, 708, 470), "the model saw, 644x476"),
        ((10, 10, 709, 470), "0..1000 across"),
        ((10, 10, 600, 524), "0..1000 across"),
        ((10, 10, 1000, 1000), "0..1000 across"),
        ((10, 10, 1001, 1000), "0..1000 across"),
        ((10, 10, 1200, 1000), "the model saw, 644x476"),
    ],
)
def test_auto_takes_numbers_far_outside_for_thousandths(box, note):
    frame = frame_of([(5, 5, 50, 50), box] if max(box) > 2 else [box], (640, 480))
    assert note in frame.note
    assert bool(frame.doubt) == ("1000" in note)


def test_a_large_image_leaves_thousandths_to_be_chosen_unless_their_spelling_shows_them():
    box = [(10, 10, 990, 990)]
    assert "the model saw" in frame_of(box, (2000, 2000)).note
    assert "0..1000" in frame_of(box, (2000, 2000), thousandths=True).note
    assert frame_of(box, (2000, 2000), thousandths=True).doubt == ()
    assert "the model saw" in frame_of([(10, 10, 1990, 990)], (2000, 2000), thousandths=True).note


@pytest.mark.parametrize(
    ("key", "coordinates", "box"),
    [
        ("bbox_2d", "relative_1000", (64, 96, 192, 192)),
        ("bbox_2d", "relative_1000_y_first", (128, 48, 256, 144)),
        ("box_2d", "auto", (128, 48, 256, 144)),
        ("box_2d", "relative_1000", (64, 96, 192, 192)),
        ("box_2d", "relative_1000_y_first", (128, 48, 256, 144)),
        ("box_2d", "pixels", (100, 200, 300, 400)),
        ("bbox_yxyx", "pixels", (200, 100, 400, 300)),
        ("bbox_xyxy", "relative_1000_y_first", (64, 96, 192, 192)),
    ],
)
def test_the_order_of_the_edges_follows_the_choice_and_the_key(key, coordinates, box):
    plan = read_plan(f'[{{"{key}": [100, 200, 300, 400], "hint": "a"}}]', (640, 480), coordinates)[0]
    assert plan.regions[0].box == pytest.approx(box)


def test_edges_that_have_names_are_never_turned_and_shares_are_shares_everywhere():
    named = '[{"box": {"top": 100, "left": 200, "bottom": 300, "right": 400}, "hint": "a"}]'
    assert read_plan(named, (1000, 1000), "relative_1000_y_first")[0].regions[0].box == (200, 100, 400, 300)
    shares = '[{"bbox_2d": ["10%", "20%", "30%", "40%"], "hint": "a"}]'
    for coordinates in ("auto", "pixels", "relative_1000", "relative_1"):
        assert read_plan(shares, (640, 480), coordinates)[0].regions[0].box == pytest.approx((64, 96, 192, 192))
