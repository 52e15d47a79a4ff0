"""Tasks of the toy world: what is meant, what else the words name, and the plan that tells them apart."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.planner.plan import KEEP_UNCHANGED
from replan.tools.toyworld.edits import KEEP, REMOVE, Reference, difference, written
from replan.tools.toyworld.scenes import HELD_OUT_SEEDS, SIZE, SceneError, training_scene
from replan.tools.toyworld.tasks import CHANGES, Task, held_out_task, region_plan

NAMED = Reference(training_scene(5).object(0).shape)
few = settings(max_examples=60, deadline=None)


def footprint(ids, *scenes):
    """Where these objects show in any of the scenes."""
    where = np.zeros((scenes[0].size,) * 2, bool)
    for scene, identity in itertools.product(scenes, ids):
        if identity in scene.ids:
            where |= scene.mask(identity)
    return where


@few
@given(st.integers(0, 10**6), st.sampled_from(CHANGES), st.booleans())
def test_a_task_means_one_object_and_its_lookalikes_are_named_only_when_ambiguous(offset, kind, ambiguous):
    task = held_out_task(HELD_OUT_SEEDS[offset], SIZE, kind, ambiguous)
    assert bool(task.others) == ambiguous
    assert set(task.others) == set(task.scene.lookalikes(0))
    changed = difference(task.scene, task.wanted)
    assert changed.any()
    assert not (changed & ~footprint(task.meant, task.scene, task.wanted)).any()
    everywhere = difference(task.scene, task.literal)
    assert (task.wanted == task.literal) == (not ambiguous)
    for identity in task.others:
        assert (everywhere & task.scene.mask(identity)).any()


@few
@given(st.integers(0, 10**6), st.sampled_from(CHANGES))
def test_a_tasks_region_covers_all_that_should_change(offset, kind):
    task = held_out_task(HELD_OUT_SEEDS[offset], SIZE, kind, True)
    (region,) = task.plan.regions
    assert (region.hint, task.plan.global_prompt) == (task.instructions[0][1].text, KEEP_UNCHANGED)
    assert task.plan.image_size == (SIZE, SIZE)
    x1, y1, x2, y2 = (int(edge) for edge in region.box)
    outside = difference(task.scene, task.wanted)
    outside[y1:y2, x1:x2] = False
    assert not outside.any()


def test_a_plan_has_a_region_for_each_hint_and_keeps_negative_hints():
    scene = training_scene(5)
    hints = {identity: f"hint {identity}" for identity in scene.ids}
    plan = region_plan(scene, hints, global_prompt="x", negative_hints={scene.ids[0]: "blue"})
    assert plan.ids == tuple(f"o{identity}" for identity in scene.ids)
    assert [region.box for region in plan.regions] == [scene.box(identity) for identity in scene.ids]
    assert [region.negative_hint for region in plan.regions] == ["blue"] + [""] * (len(hints) - 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(CHANGES), st.integers(2, 8), st.booleans(), st.booleans())
def test_a_task_of_several_regions_keeps_a_lookalike_back(offset, kind, regions, ambiguous, near):
    task = held_out_task(HELD_OUT_SEEDS[offset], SIZE, kind, ambiguous, regions=regions, near=near)
    assert len(set(task.meant)) == len(task.plan.regions) == regions
    assert task.meant[0] == 0
    if ambiguous:
        assert set(task.others) & set(task.scene.lookalikes(0))
    changed = difference(task.scene, task.wanted)
    assert not (changed & ~footprint(task.meant, task.scene, task.wanted)).any()
    hints = {region.id: region.hint for region in task.plan.regions}
    for identity, instruction in task.instructions:
        assert hints[f"o{identity}"] == instruction.text
        if identity in task.wanted.ids:
            assert task.wanted.object(identity) == instruction.changed(task.scene.object(identity))


def test_near_means_the_nearest():
    task = held_out_task(HELD_OUT_SEEDS[3], SIZE, REMOVE, True, count=9, regions=2, near=True)
    x, y = task.scene.object(0).centre
    apart = {o.id: (o.centre[0] - x) ** 2 + (o.centre[1] - y) ** 2 for o in task.scene.objects if o.id != 0}
    assert task.meant[1] in sorted(apart, key=apart.get)[:2]  # the very nearest may be the one kept back


@pytest.mark.parametrize(
    "wrong, said",
    [
        (lambda: held_out_task(HELD_OUT_SEEDS.start, SIZE, KEEP, True), "asks for a change"),
        (lambda: held_out_task(5, SIZE, REMOVE, True), "not a held-out one"),
        (lambda: Task(training_scene(5), ((0, written(KEEP)),)), "does not name the meant object"),
        (lambda: region_plan(training_scene(5), {0: ""}, negative_hints={1: ""}), "have no hint"),
        (lambda: held_out_task(HELD_OUT_SEEDS.start, SIZE, REMOVE, True, count=3, regions=3), "do not fit a scene"),
        (
            lambda: Task(training_scene(5), ((0, written(REMOVE, NAMED)), (0, written(REMOVE, NAMED)))),
            "meant twice",
        ),
    ],
)
def test_what_cannot_be_is_refused(wrong, said):
    with pytest.raises(SceneError, match=said):
        wrong()
