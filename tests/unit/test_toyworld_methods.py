"""The benchmark's methods: each builds a prompt, and boxes shift as they should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.attention.components import components
from replan.attention.rules import PRESETS, foreign_cells, make_rules
from replan.planner.plans.change import expand_regions
from replan.tools.host_server import Graph
from replan.tools.toyworld.editing import _ruled, edit_graph
from replan.tools.toyworld.methods import MAIN, METHODS, chosen, plan_of, shifted
from replan.tools.toyworld.scenes import HELD_OUT_SEEDS, SIZE
from replan.tools.toyworld.tasks import held_out_task

FILES = {"editor": "e", "codec": "c", "text_encoder": "t"}


def task_for(method, offset=1):
    regions = method.regions or 2
    return held_out_task(HELD_OUT_SEEDS[offset], SIZE, "recolour", method.ambiguous, regions=regions, near=method.near)


def nodes(graph, kind):
    return [node["inputs"] for node in graph.prompt.values() if node["class_type"] == kind]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_method_builds_one_prompt_with_the_tasks_own_words(method):
    task, graph = task_for(method), Graph()
    edit_graph(graph, method, task, FILES, "scene.png")
    texts = {node["text"] for node in nodes(graph, "CLIPTextEncode")}
    said = {one.text for _, one in task.instructions}
    assert bool(nodes(graph, "RePlanApplyRegionRules")) == (method.kind == "rules")
    assert bool(said & texts) == (method.kind in ("plain", "core_masks"))
    assert len(nodes(graph, "KSampler")) == 1
    for rules in nodes(graph, "RePlanRules"):
        made, warnings = make_rules(rules["preset"], rules["switch"], rules["switch_step"], "flux", rules["matrix"])
        assert not foreign_cells(made, plan_of(method, task).ids)
        assert not [warning for warning in warnings if method.preset != "no_global_prompt"]


def test_all_that_the_issue_names_is_there():
    assert set(MAIN) == {"plain", "core_masks", "replan", "local_first"}
    assert set(PRESETS) - {"hints_only"} < set(METHODS)
    assert len({method.what for method in METHODS.values()}) > 25


def test_negative_hints_lie_on_what_is_named_but_not_meant():
    task = held_out_task(HELD_OUT_SEEDS[5], SIZE, "recolour", True)
    plan = plan_of(METHODS["negative_hints"], task)
    negative = {region.id: region.negative_hint for region in plan.regions}
    assert negative == {"o0": "", **{f"o{i}": task.instructions[0][1].text for i in task.others}}


def test_lookalikes_are_kept_by_regions_with_and_without_a_negative_hint():
    task = held_out_task(HELD_OUT_SEEDS[5], SIZE, "recolour", True)
    plans = [plan_of(METHODS[name], task) for name in ("kept_lookalikes", "negative_hints")]
    assert [region.hint for region in plans[0].regions] == [region.hint for region in plans[1].regions]
    assert not any(region.negative_hint for region in plans[0].regions)
    assert METHODS["kept_lookalikes"].guidance == METHODS["negative_hints"].guidance


def test_neighbours_overlap_once_their_boxes_have_grown():
    method = METHODS["overlapping"]
    touching = 0
    for seed in range(20):
        one, other = (region.box for region in expand_regions(task_for(method, seed).plan, method.expand).regions)
        touching += one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
    assert touching >= 18


KNOCKED = {  # what a knocked-out rule lets see, or keeps from seeing, that the preset does the other way round
    "without_hint_isolation": [("hint:o1", "hint:o2"), ("main", "hint:o1"), ("hint:o1", "main")],
    "without_region_constraint": [("noise:o1", "hint:o2"), ("image:o1", "hint:o2")],
    "without_background_constraint": [("noise_background", "hint:o1"), ("image_background", "hint:o1")],
    "without_interaction": [
        ("noise:o1", "noise:o2"),
        ("noise:o1", "noise_background"),
        ("image_background", "noise:o1"),
    ],
}


@pytest.mark.parametrize("name", [name for name in METHODS if name.startswith("without_")])
def test_a_knocked_out_rule_changes_its_own_cells_and_no_others(name):
    ids = ["o1", "o2"]
    graph = Graph()
    _ruled(graph, METHODS[name], "model", ids)
    given = nodes(graph, "RePlanRules")[0]
    rules, _ = make_rules(given["preset"], given["switch"], given["switch_step"], "flux", given["matrix"])
    plain, _ = make_rules("replan", -1.0, -1, "flux", "")
    parts = components(tuple(ids), image_prompt=False, edited=True, references=())
    keys = [part.key for part in parts]
    changed = rules.table(parts, "after") != plain.table(parts, "after")
    found = {(keys[row], keys[column]) for row, column in zip(*np.nonzero(changed), strict=True)}
    assert set(KNOCKED[name]) <= found
    about_text = {pair for pair in found if any(key.startswith(("hint", "main")) for key in pair)}
    assert about_text == (set() if name == "without_interaction" else found)
    if name == "without_interaction":
        assert ("noise:o1", "image:o1") not in found  # a region still sees its own reference


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("main", MAIN),
        ("plain,plain, replan", ("plain", "replan")),
        ("replan,main", ("replan", "plain", "core_masks", "local_first")),
    ],
)
def test_methods_are_chosen_by_name_each_once(words, names):
    assert chosen(words) == names
    assert chosen("plain,all")[0] == "plain" and set(chosen("all")) == set(METHODS)


@pytest.mark.parametrize("words", ["", ",", "plain,nothing"])
def test_no_method_and_unknown_methods_are_refused(words):
    with pytest.raises(ValueError, match="method"):
        chosen(words)


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
