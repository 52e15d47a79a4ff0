"""The plan nodes as ComfyUI runs them: schemas, lists, batches, sockets that grow, errors with the node's name."""

import asyncio
from dataclasses import replace

import execution
import pytest
import torch
from comfy_api.latest._io import get_finalized_class_inputs
from replan.nodes.plans import (
    NODES,
    RePlanExpandRegions,
    RePlanMergePlans,
    RePlanPlanFromBoxes,
    RePlanPlanFromMasks,
    RePlanPlanFromText,
    RePlanPlanToText,
)
from replan.planner.plan import KEEP_UNCHANGED, Notice, PlanError, Region, RegionMask, RegionPlan

TAGS = '<gen_image>at dusk</gen_image><region>[{"bbox_2d": [64.4, 47.6, 322, 238], "hint": "red"}]</region>'
IMAGE = torch.zeros(1, 480, 640, 3)


def run(node, **lists):
    """Call a node as ComfyUI does: every input a list, mapped over the lists, outputs merged."""
    _, _, v3_data = get_finalized_class_inputs(node.INPUT_TYPES(), dict.fromkeys(lists))
    v3_data["hidden_inputs"] = {}
    outputs, *_ = asyncio.run(execution.get_output_data("prompt", "1", node, lists, v3_data=v3_data))
    return outputs


def plan(*names, prompt="at dusk"):
    return RegionPlan((640, 480), prompt, tuple(Region(name, (64, 48, 320, 240), "red") for name in names))


PUBLIC = {
    "RePlanPlanFromText": (
        ["text", "image?", "coordinates?", "seen_width?", "seen_height?"],
        ["REGION_PLAN", "STRING", "STRING"],
    ),
    "RePlanPlanToText": (["plan", "format?"], ["STRING"]),
    "RePlanPlanFromBoxes": (["boxes", "image", "hints?", "global_prompt?"], ["REGION_PLAN", "STRING", "STRING"]),
    "RePlanPlanFromMasks": (["masks", "hints?", "global_prompt?"], ["REGION_PLAN", "STRING", "STRING"]),
    "RePlanMergePlans": (["plans"], ["REGION_PLAN"]),
    "RePlanExpandRegions": (["plan", "value?", "mode?"], ["REGION_PLAN"]),
}


def test_ids_sockets_and_their_order_are_the_public_contract():
    found = {}
    for node in NODES:
        inputs = node.GET_SCHEMA().inputs
        found[node.GET_SCHEMA().node_id] = (
            [f"{entry.id}{'?' * bool(entry.optional)}" for entry in inputs],
            list(node.RETURN_TYPES),
        )
    assert found == PUBLIC


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_every_node_explains_itself(node):
    schema = node.GET_SCHEMA()
    assert schema.display_name.startswith("RePlan ")
    assert schema.category.startswith("RePlan/")
    assert schema.description
    assert schema.search_aliases
    assert all(entry.tooltip for entry in [*schema.inputs, *schema.outputs])
    assert node.__name__ == schema.node_id


def test_a_text_becomes_a_plan_with_its_prompt_and_report():
    (plan,), (prompt,), (report,) = run(RePlanPlanFromText, text=[TAGS], image=[IMAGE])
    assert plan.regions[0].box == pytest.approx((64, 48, 320, 240))
    assert prompt == "at dusk"
    assert "644x476" in report


def test_one_text_is_one_plan_for_a_whole_batch_and_several_texts_are_a_list():
    batch = torch.zeros(3, 480, 640, 3)
    assert len(run(RePlanPlanFromText, text=[TAGS], image=[batch])[0]) == 1
    plans, prompts, reports = run(RePlanPlanFromText, text=[TAGS, TAGS.replace("dusk", "dawn")], image=[batch])
    assert [plan.global_prompt for plan in plans] == prompts == ["at dusk", "at dawn"]
    assert len(reports) == 2


@pytest.mark.parametrize("format", ["json", "tags"])
def test_a_plan_survives_being_a_text_with_every_widget_at_its_default(format):
    ((text,),) = run(RePlanPlanToText, plan=[plan("r1", "hat")], format=[format])
    for image in ({}, {"image": [IMAGE]}):
        assert run(RePlanPlanFromText, text=[text], **image)[0] == [plan("r1", "hat")]


def test_boxes_of_each_image_of_a_batch_are_a_list_of_plans():
    box = {"x": 64, "y": 48, "width": 256, "height": 192}
    batch = torch.zeros(2, 480, 640, 3)
    plans, prompts, reports = run(RePlanPlanFromBoxes, boxes=[[[box], [{**box, "x": 0}]]], image=[batch], hints=["red"])
    assert [plan.regions[0].box[0] for plan in plans] == [64, 0]
    assert prompts == [KEEP_UNCHANGED] * 2
    assert len(reports) == 2
    plans, *_ = run(RePlanPlanFromBoxes, boxes=[[box]], image=[batch], hints=["red"])
    assert len(plans) == 1


def test_the_hosts_own_box_node_feeds_ours_by_either_output():
    from comfy_extras.nodes_bounding_boxes import CreateBoundingBoxes

    drawn = [{"x": 64, "y": 48, "width": 256, "height": 192, "metadata": {"type": "obj", "desc": "a red hat"}}]
    _, boxes, elements = CreateBoundingBoxes.execute(640, 480, editor_state=drawn).result
    (from_boxes,), *_ = run(RePlanPlanFromBoxes, boxes=[boxes], image=[IMAGE], hints=["a red hat"])
    (from_elements,), *_ = run(RePlanPlanFromBoxes, boxes=[elements], image=[IMAGE])
    assert (
        from_boxes == from_elements == RegionPlan((640, 480), regions=(Region("r1", (64, 48, 320, 240), "a red hat"),))
    )


def test_masks_become_regions():
    masks = torch.zeros(2, 480, 640)
    masks[0, 10:20, 30:50] = 1
    masks[1, 100:, 200:] = 1
    (plan,), _, _ = run(RePlanPlanFromMasks, masks=[masks], hints=["red\nblue"])
    assert [region.box for region in plan.regions] == [(30, 10, 50, 20), (200, 100, 640, 480)]


def test_plans_merge_from_sockets_that_grow_and_lists_merge_one_by_one():
    merged = run(
        RePlanMergePlans, **{"plans.plan_1": [plan("r1"), plan("a")], "plans.plan_2": [plan("hat"), plan("b")]}
    )
    assert [each.ids for each in merged[0]] == [("r1", "hat"), ("a", "b")]
    assert run(RePlanMergePlans, **{"plans.plan_3": [plan("r1")], "plans.plan_1": [plan("hat")]})[0][0].ids == (
        "hat",
        "r1",
    )


def test_a_list_merges_with_one_plan_and_lists_of_other_lengths_are_refused():
    merged = run(RePlanMergePlans, **{"plans.plan_1": [plan("r1"), plan("a")], "plans.plan_2": [plan("hat")]})
    assert [each.ids for each in merged[0]] == [("r1", "hat"), ("a", "hat")]
    lists = {"plans.plan_1": [plan("a"), plan("b"), plan("c")], "plans.plan_2": [plan("d"), plan("e")]}
    with pytest.raises(PlanError, match="RePlan Merge Plans: one socket has 3 plans and another 2"):
        run(RePlanMergePlans, **lists)


def test_regions_expand_by_the_published_default():
    assert run(RePlanExpandRegions, plan=[plan("r1")])[0][0].regions[0].box == pytest.approx((25.6, 19.2, 358.4, 268.8))


@pytest.mark.parametrize(
    ("node", "inputs", "names"),
    [
        (RePlanPlanFromText, {"text": "hello"}, ("RePlan Plan from Text: ", "'hello'")),
        (RePlanPlanFromText, {"text": TAGS}, ("RePlan Plan from Text: ", "connect the image")),
        (
            RePlanPlanFromBoxes,
            {"boxes": [[1, 2, 3, 4, 5]], "image": IMAGE, "hints": "a"},
            ("RePlan Plan from Boxes: ", "found 5"),
        ),
        (RePlanPlanFromMasks, {"masks": torch.zeros(1, 8, 8), "hints": "a"}, ("RePlan Plan from Masks: ", "mask 1")),
        (RePlanExpandRegions, {"plan": plan("r1"), "value": -9.0}, ("RePlan Expand Regions: ", "'r1'", "-9.0")),
        (
            RePlanMergePlans,
            {"plans": {"a": [plan("r1")], "b": [RegionPlan((8, 8))]}},
            ("RePlan Merge Plans: ", "640x480", "8x8"),
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_an_error_begins_with_the_nodes_name_and_gives_the_value(node, inputs, names):
    with pytest.raises(PlanError) as caught:
        node.execute(**inputs)
    assert str(caught.value).startswith(names[0])
    assert all(name in str(caught.value) for name in names), str(caught.value)


def test_what_expanding_and_merging_change_unasked_is_logged_and_what_was_known_is_not(caplog):
    masked = replace(
        plan("r1"), regions=(replace(plan("r1").regions[0], mask=RegionMask((1, 2), (1, 1))),)
    ).with_notices(Notice("x", "known"))
    run(RePlanExpandRegions, plan=[masked])
    assert [(r.levelname, r.name) for r in caplog.records] == [("WARNING", "replan.nodes.notices")]
    assert "RePlan Expand Regions: expanding does not reach beyond a mask: 'r1'" in caplog.text
    caplog.clear()
    ((merged,),) = run(RePlanMergePlans, **{"plans.plan_1": [masked], "plans.plan_2": [plan("r1")]})
    assert len(caplog.records) == 1
    assert "RePlan Merge Plans: region 'r1' of plan 2" in caplog.text
    assert "known" in merged.warnings


def test_warnings_are_logged_for_those_who_connect_no_report(caplog):
    run(RePlanPlanFromText, text=["<gen_image>at dusk</gen_image>"], image=[IMAGE])
    assert "RePlan Plan from Text: the text has no <region> block" in caplog.text
