"""Plans from boxes and masks: every form the host has, and every mistake named."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replan.planner.plan import KEEP_UNCHANGED, PlanError
from replan.planner.plans.change import expand_regions
from replan.planner.plans.inputs import plan_from_masks, plans_from_boxes
from replan.planner.plans.report import describe_plan

SIZE = (640, 480)
BOUNDING = {"x": 64, "y": 48, "width": 256, "height": 192}
ELEMENT = {"type": "obj", "bbox": [100, 100, 500, 500], "desc": "a red hat"}
CORNERS = [64, 48, 320, 240]


@pytest.mark.parametrize("as_text", [False, True], ids=["value", "json"])
@pytest.mark.parametrize(
    "boxes",
    [
        BOUNDING,
        [BOUNDING],
        [[BOUNDING]],
        ELEMENT,
        [ELEMENT],
        CORNERS,
        [CORNERS],
        [[CORNERS]],
        [tuple(CORNERS)],
        [{**BOUNDING, "score": 0.9, "label": "hat"}],
        tuple(CORNERS),
        [[tuple(CORNERS)]],
        {"bboxes": [CORNERS], "labels": ["hat"]},
        [{"bboxes": [CORNERS], "labels": ["hat"]}],
        {"boxes": [CORNERS]},
        [{"bbox": CORNERS, "label": "hat", "score": 0.9}],
    ],
    ids=str,
)
def test_every_form_of_a_box_is_the_same_region(boxes, as_text):
    plan = plans_from_boxes(json.dumps(boxes) if as_text else boxes, SIZE, "make it red")[0]
    assert [(r.id, r.box, r.hint) for r in plan.regions] == [("r1", (64, 48, 320, 240), "make it red")]
    assert (plan.image_size, plan.global_prompt, plan.warnings) == (SIZE, KEEP_UNCHANGED, ())


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_arrays_and_tensors_of_a_detector_are_boxes(dtype):
    import torch

    array = np.array([CORNERS, CORNERS], dtype)
    for boxes in (array, torch.tensor(array), list(array), [tuple(array[0]), tuple(array[1])]):
        plan = plans_from_boxes(boxes, SIZE, "a\nb")[0]
        assert [region.box for region in plan.regions] == [(64, 48, 320, 240)] * 2
    assert len(plans_from_boxes([array[:1], array[1:]], SIZE, "a", images=2)) == 2


def test_labels_of_a_detector_are_hints_where_no_line_is_given():
    data = [{"bboxes": [[35.0, 60.0, 182.0, 100.0], [2, 4, 100, 90]], "labels": ["a dog", "a cat"]}]
    assert [(r.box, r.hint) for r in plans_from_boxes(data, SIZE)[0].regions] == [
        ((35, 60, 182, 100), "a dog"),
        ((2, 4, 100, 90), "a cat"),
    ]
    plans = plans_from_boxes(data * 2, SIZE, "one\ntwo", images=2)
    assert [[r.hint for r in plan.regions] for plan in plans] == [["one", "two"]] * 2
    with pytest.raises(PlanError, match="2 boxes and 1 labels"):
        plans_from_boxes({"bboxes": [CORNERS, CORNERS], "labels": ["a"]}, SIZE)


def test_lines_are_hints_in_order_and_win_over_descriptions():
    plan = plans_from_boxes([ELEMENT, BOUNDING], SIZE, " one \ntwo\n\n", "dusk")[0]
    assert [region.hint for region in plan.regions] == ["one", "two"]
    assert plan.global_prompt == "dusk"


def test_an_elements_box_is_top_left_bottom_right_in_thousandths():
    plan = plans_from_boxes([{"bbox": [100, 200, 300, 400], "desc": "a"}], SIZE)[0]
    assert plan.regions[0].box == (128, 48, 256, 144)


def test_without_lines_descriptions_are_the_hints():
    writing = {"type": "text", "bbox": [0, 0, 500, 500], "text": "OPEN", "desc": "in neon"}
    described = {**BOUNDING, "metadata": {"type": "obj", "desc": "a blue door"}}
    assert [r.hint for r in plans_from_boxes([ELEMENT, writing], SIZE)[0].regions] == [
        "a red hat",
        'the text "OPEN", in neon',
    ]
    assert plans_from_boxes([described], SIZE)[0].regions[0].hint == "a blue door"


@pytest.mark.parametrize(
    ("boxes", "hints", "names"),
    [
        ([CORNERS, CORNERS], "one", ("2 boxes", "1 hint;")),
        ([CORNERS], "one\ntwo", ("1 box and", "2 hints")),
        ([CORNERS], "", ("box 1 has no hint",)),
        ([CORNERS, CORNERS, CORNERS], "one\n\nthree", ("box 2 has no hint",)),
        ([ELEMENT, {**ELEMENT, "desc": ""}], "", ("box 2 has no hint",)),
        ([[1, 2, 3, 4, 5]], "a", ("box 1", "found 5")),
        ([[1, 2, 3]], "a", ("box 1", "found 3")),
        ([[320, 48, 64, 240]], "a", ("box 1", "no area")),
        ([{**BOUNDING, "width": 0}], "a", ("box 1", "no area")),
        ([{**BOUNDING, "width": -5}], "a", ("box 1", "no area")),
        ([{**BOUNDING, "x": float("nan")}], "a", ("box 1", "nan")),
        ([{**BOUNDING, "x": "5"}], "a", ("box 1", "'5'")),
        ([{"x": 1, "y": 2, "width": 3}], "a", ("box 1", "height")),
        ([{"bbox_2d": CORNERS, "hint": "a"}], "a", ("box 1", "RePlan Plan from Text")),
        ([[float("inf"), 2, 3, 4]], "a", ("box 1", "finite")),
        ([CORNERS, [700, 48, 900, 240]], "a\nb", ("box 2", "outside the image of 640x480")),
        ([{**ELEMENT, "bbox": [100, 100, 500]}], "a", ("box 1", "[100, 100, 500]")),
        ([{**ELEMENT, "bbox": [500, 100, 100, 500]}], "a", ("box 1", "no area")),
        ([{**ELEMENT, "bbox": [100, 100, 500, 1500]}], "a", ("box 1", "1500", "0..1000")),
        ([5], "a", ("found 1",)),
        (7, "a", ("found 7",)),
        (None, "a", ("found None",)),
        ("", "a", ("empty",)),
        ("not json", "a", ("the boxes' text", "line 1")),
        ([[1, 2, 10**400, 4]], "a", ("box 1", "too large")),
        ([{**BOUNDING, "x": 10**400}], "a", ("box 1", "too large")),
        ([CORNERS, None], "a\nb", ("box 2", "None")),
    ],
    ids=str,
)
def test_a_wrong_box_or_count_is_refused_by_name(boxes, hints, names):
    with pytest.raises(PlanError) as caught:
        plans_from_boxes(boxes, SIZE, hints)[0]
    assert all(name in str(caught.value) for name in names), str(caught.value)


def test_a_box_over_the_border_is_clamped_with_a_warning():
    plan = plans_from_boxes([{"x": -3, "y": 400, "width": 20, "height": 100}], SIZE, "a")[0]
    assert plan.regions[0].box == (0, 400, 17, 480)
    assert "clamped" in plan.warnings[0]
    wider = expand_regions(plan, 0.15)
    assert wider.regions[0].box == (0, 385, 20, 480), "it grows from the box as it was drawn, as one that was read"


def test_boxes_for_each_image_of_a_batch_are_a_plan_each():
    plans = plans_from_boxes([[BOUNDING], [{**BOUNDING, "x": 0}]], SIZE, "red", images=2)
    assert [plan.regions[0].box[0] for plan in plans] == [64, 0]
    assert len(plans_from_boxes([[BOUNDING]], SIZE, "red", images=2)) == 1
    with pytest.raises(PlanError, match="3 images and 2 images"):
        plans_from_boxes([[BOUNDING]] * 3, SIZE, "red", images=2)
    with pytest.raises(PlanError, match="2 images"):
        plans_from_boxes([[BOUNDING]] * 2, SIZE, "red")[0]
    with pytest.raises(PlanError, match="2 boxes and 1 hint for image 2"):
        plans_from_boxes([[BOUNDING], [BOUNDING, BOUNDING]], SIZE, "red", images=2)


@pytest.mark.parametrize("boxes", [[], [[]], "[]"], ids=str)
def test_no_boxes_are_a_plan_without_regions_that_says_so(boxes):
    plan = plans_from_boxes(boxes, SIZE, "", "dusk")[0]
    assert (plan.regions, plan.global_prompt) == ((), "dusk")
    assert "no boxes" in plan.warnings[0] and "connect boxes" in plan.notices[0].remedy


def test_no_masks_are_a_plan_without_regions_that_says_so():
    plan = plan_from_masks(np.zeros((0, 48, 64), np.float32), "", "dusk")
    assert (plan.regions, plan.global_prompt, plan.image_size) == ((), "dusk", (64, 48))
    assert "no masks" in plan.warnings[0] and "connect a mask" in plan.notices[0].remedy


@given(st.integers(1, 20), st.integers(1, 20), st.data())
def test_a_masks_box_is_tight_and_its_mask_is_kept(height, width, data):
    cells = np.array(data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width)))
    mask = cells.reshape(height, width).astype(np.float32)
    if not mask.any():
        with pytest.raises(PlanError, match="mask 1 of 1 is empty"):
            plan_from_masks(mask[None], "red")
        return
    plan = plan_from_masks(mask[None], "red")
    region = plan.regions[0]
    x1, y1, x2, y2 = (int(value) for value in region.box)
    assert plan.image_size == (width, height)
    assert np.array_equal(region.mask.to_array(), mask > 0.5)
    assert mask[y1:y2, x1:x2].sum() == mask.sum()
    for edge in (mask[y1, :], mask[y2 - 1, :], mask[:, x1], mask[:, x2 - 1]):
        assert edge.any()


def test_wrong_masks_are_refused_by_number():
    masks = np.zeros((2, 8, 8), np.float32)
    masks[0, 2:4, 2:4] = 1
    with pytest.raises(PlanError, match="mask 2 of 2 is empty"):
        plan_from_masks(masks, "a\nb")
    masks[1] = 0.4
    with pytest.raises(PlanError, match="largest value is 0.4"):
        plan_from_masks(masks, "a\nb")
    masks[1] = 1
    with pytest.raises(PlanError, match="2 masks and 1 hint;"):
        plan_from_masks(masks, "a")
    with pytest.raises(PlanError, match="mask 1 has no hint"):
        plan_from_masks(masks, "")
    with pytest.raises(PlanError, match="shape"):
        plan_from_masks(masks[None], "a\nb")


def test_a_report_names_everything_a_person_should_check():
    plan = plans_from_boxes(
        [{"x": -3, "y": 400, "width": 20, "height": 100.5}, BOUNDING], SIZE, "red hat\nblue door", "dusk"
    )[0]
    text = describe_plan(plan, "Boxes as drawn")
    for part in (
        "640x480",
        "2 regions",
        "Boxes as drawn",
        "dusk",
        "1. r1 [0, 400, 17, 480] red hat",
        "2. r2",
        "Warning: box 1",
    ):
        assert part in text, text


def test_a_byte_order_mark_before_boxes_is_skipped_and_one_mask_is_counted_as_one():
    assert plans_from_boxes("\ufeff" + json.dumps([CORNERS]), SIZE, "a")[0].regions[0].box == (64, 48, 320, 240)
    with pytest.raises(PlanError, match="there is 1 mask and 2 hints"):
        plan_from_masks(np.ones((1, 4, 4)), "a\nb")
