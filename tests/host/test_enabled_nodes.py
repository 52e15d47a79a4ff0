"""A region that is switched off, through the nodes: what comes out is what comes out without it."""

import asyncio
import json

import execution
import pytest
import torch
from comfy_api.latest._io import get_finalized_class_inputs
from replan.attention.payload import PAYLOAD_KEY
from replan.nodes.conditioning import RePlanRegionConditioning
from replan.nodes.editor import RePlanRegionEditor
from replan.nodes.images import RePlanRegionMasks
from replan.nodes.previews import RePlanPlanPreview
from replan.nodes.rules import RePlanRules, RePlanRulesPreview
from replan.planner.plan import Region, RegionPlan
from replan.planner.plans.plan_json import plan_to_json

ON = Region("r2", (8, 8, 40, 40), "a red hat", "blue")
PLAN = RegionPlan((96, 64), "at dusk", (Region("r1", (0, 0, 48, 32), "", enabled=False), ON))
IMAGE = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def folders(comfy_env):
    """The nodes with a preview write into ComfyUI's temporary folder."""


def run(node, **inputs):
    """Call a node as ComfyUI does; returns its outputs and what it gives the page."""
    lists = {name: [value] for name, value in inputs.items()}
    _, _, v3_data = get_finalized_class_inputs(node.INPUT_TYPES(), dict.fromkeys(lists))
    v3_data["hidden_inputs"] = {}
    outputs, ui, *_ = asyncio.run(execution.get_output_data("prompt", "1", node, lists, v3_data=v3_data))
    return [values[0] for values in outputs], ui


def same(one, two):
    if torch.is_tensor(one):
        return torch.equal(one, two)
    return one == two


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        (RePlanRegionMasks, {"width": 0, "height": 0, "feather": 2}),
        (RePlanPlanPreview, {"image": IMAGE, "patch": 16}),
        (RePlanRulesPreview, {"family": "flux"}),
    ],
)
def test_a_node_gives_what_it_gives_without_the_region_that_is_off(node, inputs):
    with_it, without = (run(node, plan=plan, **inputs)[0] for plan in (PLAN, PLAN.active))
    assert all(same(one, two) for one, two in zip(with_it, without, strict=True))


def test_the_editor_passes_the_region_on_and_draws_and_masks_the_others_only():
    with_it, without = (
        run(RePlanRegionEditor, image=IMAGE, regions=plan_to_json(plan))[0] for plan in (PLAN, PLAN.active)
    )
    assert with_it[0] == PLAN
    assert all(same(one, two) for one, two in zip(with_it[1:], without[1:], strict=True))


def test_the_rules_page_lists_the_regions_that_are_on():
    _, page = run(RePlanRules, preset="replan", switch=-1.0, switch_step=-1, family="flux", plan=PLAN)
    assert [region["id"] for region in json.loads(page["replan_regions"][0])] == ["r2"]


@pytest.mark.parametrize("use", ["hint", "negative_hint"])
def test_the_conditioning_carries_the_regions_that_are_on_and_is_untouched_when_none_is(use, load_tiny):
    clip = load_tiny("clip_l")
    conditioning = clip.encode_from_tokens_scheduled(clip.tokenize("a calm street"))
    given = {"conditioning": conditioning, "clip": clip, "encoder": "auto", "use": use, "hint_padding": "host"}
    (out,), _ = run(RePlanRegionConditioning, plan=PLAN, **given)
    assert out[0][1]["model_conds"][PAYLOAD_KEY].text.plan.regions == (ON,)
    off = RegionPlan((96, 64), "", (Region("r1", (0, 0, 9, 9), "red", "blue", enabled=False),))
    assert run(RePlanRegionConditioning, plan=off, **given)[0][0] is conditioning
