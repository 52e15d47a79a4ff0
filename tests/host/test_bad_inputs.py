"""What no node is meant to get: each is refused in words that name the node, or does no harm."""

import asyncio
import time

import execution
import pytest
import torch
from comfy_api.latest._io import get_finalized_class_inputs
from replan.attention.hints.attach import attach_hints
from replan.attention.payload import RegionError
from replan.attention.rules import make_rules
from replan.evaluation.choose import failed_regions
from replan.evaluation.judge_questions import build_questions
from replan.evaluation.report import edit_report
from replan.evaluation.scores import Scores
from replan.nodes import page_routes
from replan.nodes.alignment import RePlanAlignment
from replan.nodes.conditioning import RePlanRegionConditioning
from replan.nodes.editor import RePlanRegionEditor
from replan.nodes.evaluation import RePlanEditReport, RePlanFailedRegions, RePlanPickBest
from replan.nodes.images import RePlanRegionMasks, RePlanResize, RePlanRestore
from replan.nodes.judge import RePlanJudge
from replan.nodes.plans import RePlanExpandRegions, RePlanPlanFromBoxes, RePlanPlanFromMasks, RePlanPlanToText
from replan.nodes.previews import RePlanPlanPreview
from replan.nodes.rules import RePlanApplyRegionRules, RePlanRulesPreview
from replan.planner.pictures.draw import draw_plan
from replan.planner.plan import PlanError, Region, RegionPlan
from replan.planner.plans.resize import working_size

IMAGE = torch.rand(1, 40, 60, 3, generator=torch.Generator().manual_seed(0))
PLAN = RegionPlan((60, 40), regions=(Region("a", (5, 5, 30, 30), "red"),))
JUDGED = {
    "planner": [1], "before": [IMAGE], "after": [IMAGE], "instruction": ["red"], "seed": [0], "max_tokens": [9],
}  # fmt: skip
SCORES = Scores("judge", {"weighted": 1.0}, {"a": {"done": 0.0}}, "weighted", "done")


def run(node, **lists):
    """Call a node as ComfyUI does: every input a list, outputs merged."""
    _, _, v3_data = get_finalized_class_inputs(node.INPUT_TYPES(), dict.fromkeys(lists))
    v3_data["hidden_inputs"] = {}
    return asyncio.run(execution.get_output_data("prompt", "1", node, lists, v3_data=v3_data))[0]


@pytest.mark.parametrize(
    ("node", "given", "name"),
    [
        (RePlanPlanToText, {"plan": [None]}, "plan"),
        (RePlanPlanToText, {"plan": ["a text"]}, "plan"),
        (RePlanExpandRegions, {"plan": [None]}, "plan"),
        (RePlanPlanFromBoxes, {"boxes": [[[1, 2, 3, 4]]], "image": [None]}, "image"),
        (RePlanPlanFromMasks, {"masks": [None], "hints": ["a"]}, "masks"),
        (RePlanResize, {"image": [None], "target": ["none"], "method": ["crop"]}, "image"),
        (RePlanResize, {"image": [IMAGE], "plan": ["x"], "target": ["none"], "method": ["crop"]}, "plan"),
        (RePlanRestore, {"image": [IMAGE], "transform": [None]}, "transform"),
        (RePlanRegionMasks, {"plan": [None], "width": [0], "height": [0], "feather": [0]}, "plan"),
        (RePlanPlanPreview, {"plan": [None]}, "plan"),
        (RePlanRegionEditor, {"image": [None]}, "image"),
        (RePlanEditReport, {"before": [IMAGE], "after": [None]}, "after"),
        (RePlanEditReport, {"before": [IMAGE], "after": []}, "after"),
        (RePlanEditReport, {"before": [], "after": [IMAGE]}, "before"),
        (RePlanPickBest, {"images": [], "scores": [], "by": [""]}, "images"),
        (RePlanFailedRegions, {"plan": [PLAN], "scores": [], "threshold": [0.5]}, "scores"),
        (RePlanJudge, {**JUDGED, "planner": [None]}, "planner"),
        (RePlanJudge, {**JUDGED, "after": []}, "after"),
        (RePlanAlignment, {"after": [IMAGE], "plan": [PLAN], "clip_vision": [None], "clip": [1]}, "clip_vision"),
        (RePlanAlignment, {"after": [IMAGE], "plan": [PLAN], "clip_vision": [1], "clip": [None]}, "clip"),
        (RePlanPickBest, {"images": [IMAGE], "scores": ["x"], "by": [""]}, "scores"),
        (RePlanFailedRegions, {"plan": [PLAN], "scores": [None], "threshold": [0.5]}, "scores"),
        (RePlanApplyRegionRules, {"model": [None]}, "model"),
        (RePlanRulesPreview, {"family": ["flux"], "plan": ["x"]}, "plan"),
        (
            RePlanRegionConditioning,
            {"conditioning": [None], "clip": [None], "plan": [PLAN], "encoder": ["auto"], "use": ["hint"]}
            | {"hint_padding": ["host"]},
            "conditioning",
        ),
    ],
)
def test_nothing_and_values_of_other_sockets_are_refused_by_node_and_input(node, given, name):
    title = node.define_schema().display_name
    with pytest.raises(PlanError, match=f"{title}: at '{name}' arrived .*; look at the node that is connected"):
        run(node, **given)


@pytest.mark.parametrize("kind", [torch.uint8, torch.bool, torch.int64, torch.complex64])
@pytest.mark.parametrize(
    ("node", "given"),
    [
        (RePlanEditReport, {"before": [IMAGE], "after": [IMAGE]}),
        (RePlanPickBest, {"images": [IMAGE], "scores": [SCORES], "by": [""]}),
        (RePlanJudge, JUDGED),
        (RePlanAlignment, {"after": [IMAGE], "plan": [PLAN], "clip_vision": [1], "clip": [1]}),
        (RePlanResize, {"image": [IMAGE], "target": ["flux_kontext"], "method": ["crop"]}),
        (RePlanRegionEditor, {"image": [IMAGE]}),
    ],
)
def test_an_image_that_holds_no_floats_is_refused_and_not_taken_for_white(node, given, kind):
    name = next(one for one in ("after", "images", "image") if one in given)
    title = node.define_schema().display_name
    found = str(kind).removeprefix("torch.")
    with pytest.raises(PlanError, match=f"{title}: an image holds floats from 0 to 1, found {found}"):
        run(node, **{**given, name: [(given[name][0] * 255).to(kind)]})


@pytest.mark.parametrize(
    ("node", "given"),
    [
        (RePlanEditReport, {"before": [IMAGE], "after": [IMAGE], "threshold": [None], "plan": [None]}),
        (RePlanPickBest, {"images": [IMAGE], "scores": [SCORES], "by": [None]}),
        (RePlanFailedRegions, {"plan": [PLAN], "scores": [SCORES], "threshold": [None]}),
    ],
)
def test_a_widget_that_arrives_as_nothing_has_its_default(comfy_env, node, given):
    assert run(node, **given)


def test_values_far_above_white_are_told():
    made = edit_report(IMAGE, IMAGE * 255)
    assert [notice.code for notice in made.notices] == ["out_of_range"]
    assert "'after' has values up to 25" in str(made.notices[0])
    assert not edit_report(IMAGE, torch.full_like(IMAGE, 1.0)).notices


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_judge_is_shown_no_image_that_is_not_finite(bad):
    with pytest.raises(PlanError, match="'after' holds values that are not finite"):
        build_questions(IMAGE, torch.full_like(IMAGE, bad), "red")


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_the_editor_shows_an_image_of_any_channels(comfy_env, channels):
    (plans, _, previews, *_) = run(RePlanRegionEditor, image=[torch.rand(1, 40, 60, channels)], plan=[PLAN])
    assert plans == [PLAN] and previews[0].shape[-1] == 3


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_edit_that_is_not_finite_does_not_spoil_the_original_outside_the_mask(bad):
    edit, mask = torch.full_like(IMAGE, bad), torch.zeros(1, 40, 60)
    mask[:, :20] = 1
    (transform,) = run(RePlanResize, image=[IMAGE], target=["none"], method=["stretch"])[2]
    ((back,),) = run(RePlanRestore, image=[edit], transform=[transform], original=[IMAGE], mask=[mask], feather=[0])
    assert torch.equal(back[:, 20:], IMAGE[:, 20:])


@pytest.mark.parametrize("mask", [torch.ones(1, 40, 0), torch.tensor(1.0), torch.ones(60)])
def test_a_mask_without_an_area_is_refused(mask):
    (transform,) = run(RePlanResize, image=[IMAGE], target=["none"], method=["stretch"])[2]
    with pytest.raises(PlanError, match="RePlan Restore: a mask has the shape"):
        run(RePlanRestore, image=[IMAGE], transform=[transform], original=[IMAGE], mask=[mask])


def test_a_plan_of_a_giant_image_is_not_drawn_without_it():
    giant = RegionPlan((1_000_000, 1_000_000), regions=PLAN.regions)
    with pytest.raises(PlanError, match="1000000x1000000 pixels, too large to draw without it; connect the image"):
        draw_plan(None, giant)


def test_a_linked_multiple_does_not_take_all_of_the_memory():
    with pytest.raises(PlanError, match="multiples of 1000000; give a number of at least 1 and at most 4096"):
        working_size((60, 40), "multiple_of", 1_000_000)


@pytest.mark.parametrize("threshold", [float("nan"), -1, 5])
def test_a_threshold_that_no_score_can_meet_is_refused(threshold):
    with pytest.raises(PlanError, match="the threshold is"):
        failed_regions(PLAN, SCORES, threshold)


@pytest.mark.parametrize("matrix", ["[" * 200_000, '{"a":' * 100_000])
def test_a_matrix_of_endless_depth_is_refused(matrix):
    with pytest.raises(RegionError, match="the rule matrix is not JSON"):
        make_rules("replan", matrix=matrix)


def test_scores_of_endless_depth_are_refused():
    with pytest.raises(PlanError, match="these are no scores"):
        Scores.from_json("[" * 200_000)


def _mask(side):
    return {"size": [side, side], "rle": [0, 1, side * side - 1]}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"plan": {"image_size": [8, 8], "regions": [{"bbox_2d": [0, 0, 8, 8], "mask": _mask(16384)}]}}, "masks of"),
        ({"plan": {"image_size": [8, 8], "regions": []}, "expand": 10**400}, "expanded by more than"),
    ],
)
def test_a_few_bytes_do_not_keep_the_page_waiting(asked, words):
    began = time.process_time()
    with pytest.raises(PlanError, match=words):
        page_routes.patches({"patch": 16, "expand": 0, **asked})
    assert time.process_time() - began < 2


def test_a_text_that_is_no_hint_is_refused_before_it_is_tokenised(load_tiny):
    plan = RegionPlan((8, 8), regions=(Region("r1", (0, 0, 8, 8), "cup " * 100_000),))
    with pytest.raises(RegionError, match="region 'r1' has 400000 characters"):
        attach_hints([[torch.zeros(1, 4, 8), {}]], load_tiny("clip_l"), plan)


def test_a_script_that_gives_single_values_gets_a_single_conditioning(load_tiny):
    import nodes

    clip = load_tiny("clip_l")
    text = nodes.CLIPTextEncode().encode(clip, "a cup")[0]
    settings = ("auto", "hint", "host")
    alone = RePlanRegionConditioning.execute(text, clip, PLAN, *settings).args[0]
    listed = RePlanRegionConditioning.execute([text], [clip], [PLAN], *([one] for one in settings)).args[0]
    assert len(alone) == len(listed[0]) == 1
    assert torch.equal(alone[0][0], listed[0][0][0]) and alone[0][1].keys() == listed[0][0][1].keys()
