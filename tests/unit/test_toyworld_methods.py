"""The benchmark's methods: each builds a prompt, and boxes shift as they should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.attention.rules import PRESETS, foreign_cells, make_rules
from replan.tools.host_server import Graph
from replan.tools.toyworld.methods import MAIN, METHODS, edit_graph, plan_of, shifted
from replan.tools.toyworld.scenes import HELD_OUT_SEEDS, SIZE
from replan.tools.toyworld.tasks import held_out_task

FILES = {"editor": "e", "codec": "c", "text_encoder": "t"}


def task_for(method, offset=1):
    regions = method.regions or 2
    return held_out_task(HELD_OUT_SEEDS[offset], SIZE, "recolour", method.ambiguous, regions=regions, near=method.near)


def nodes(graph, kind):
    return [node["inputs"] for node in graph.prompt.values() if node["class_type"] == kind]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_method_builds_a_prompt_of_its_own(method):
    task, graph = task_for(method), Graph()
    edit_graph(graph, method, task, FILES, "scene.png")
    texts = {node["text"] for node in nodes(graph, "CLIPTextEncode")}
    said = {one.text for _, one in task.asked}
    assert bool(nodes(graph, "RePlanApplyRegionRules")) == (method.kind == "rules")
    assert bool(said & texts) == (method.kind in ("plain", "core_masks"))
    assert len(nodes(graph, "KSampler")) == 1
    for rules in nodes(graph, "RePlanRules"):
        made, warnings = make_rules(rules["preset"], rules["switch"], rules["switch_step"], "flux", rules["matrix"])
        assert not foreign_cells(made, plan_of(method, task).ids)
        assert not [warning for warning in warnings if method.preset != "no_global_prompt"]


def test_all_that_the_issue_names_is_there():
    assert set(MAIN) == {"plain", "core_masks", "replan", "local_first"}
    assert set(PRESETS) < set(METHODS)
    assert len({method.what for method in METHODS.values()}) > 25


def test_negative_hints_lie_on_what_is_named_but_not_meant():
    task = held_out_task(HELD_OUT_SEEDS[5], SIZE, "recolour", True)
    plan = plan_of(METHODS["negative_hints"], task)
    negative = {region.id: region.negative_hint for region in plan.regions}
    assert negative == {"o0": "", **{f"o{i}": task.asked[0][1].text for i in task.others}}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.7]), st.integers(1, 4))
def test_shifted_boxes_stay_boxes_and_move_by_no_more_than_their_share(offset, share, regions):
    task = held_out_task(HELD_OUT_SEEDS[offset], SIZE, "remove", True, regions=regions)
    moved = shifted(task.plan, share, task.scene)
    assert moved.ids == task.plan.ids
    for before, after in zip(task.plan.regions, moved.regions, strict=True):
        x1, y1, x2, y2 = after.box
        assert 0 <= x1 < x2 <= SIZE and 0 <= y1 < y2 <= SIZE
        width, height = before.box[2] - before.box[0], before.box[3] - before.box[1]
        if share < 0.5:  # beyond that corners may change places
            off = np.abs(np.subtract(after.box, before.box))
            assert (off <= share * np.array([width, height, width, height]) + 1e-9).all()
    assert (moved == task.plan) == (share == 0)
    assert shifted(task.plan, share, task.scene) == moved
