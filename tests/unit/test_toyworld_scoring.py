"""Scores of toy edits: the exact target is perfect, and each way to fail shows in the score that is named for it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.tools.toyworld.drawing import COLOURS
from replan.tools.toyworld.edits import difference
from replan.tools.toyworld.scenes import HELD_OUT_SEEDS, SIZE
from replan.tools.toyworld.scoring import (
    CAP,
    WORST,
    Outcome,
    Scores,
    alternatives,
    effect_by_kind,
    mean,
    outcomes,
    outside_regions,
    recognised,
    score,
)
from replan.tools.toyworld.tasks import CHANGES, held_out_task

few = settings(max_examples=25, deadline=None)
tasks = st.builds(
    lambda offset, kind, regions: held_out_task(HELD_OUT_SEEDS[offset], SIZE, kind, True, regions=regions),
    st.integers(0, 10**6),
    st.sampled_from(CHANGES),
    st.integers(1, 3),
)


@few
@given(tasks)
def test_what_was_meant_is_perfect(task):
    best = score(task, task.wanted.pixels)
    assert best == Scores(1, 1, CAP, 0, 0, 1, 1)


@few
@given(tasks)
def test_an_unchanged_picture_misses_the_target_and_nothing_else(task):
    same = score(task, task.scene.pixels)
    assert (same.target, same.effect, same.lookalikes_changed, same.outside_changed) == (0, 0, 0, 0)
    assert same.overall == pytest.approx(1 / 3)
    assert same.weighted == 0


@few
@given(st.integers(0, 10**6), st.sampled_from(CHANGES))
def test_the_words_alone_change_lookalikes_and_what_lies_outside(offset, kind):
    task = held_out_task(HELD_OUT_SEEDS[offset], SIZE, kind, True)
    literal = score(task, task.literal.pixels)
    assert (literal.target, literal.effect, literal.lookalikes_changed) == (1, 1, 1)
    moved = (task.literal.pixels != task.scene.pixels).any(-1) & outside_regions(task)
    assert (literal.consistency_psnr < CAP) == moved.any()


def test_a_wrong_change_reaches_the_target_without_the_effect():
    task = held_out_task(HELD_OUT_SEEDS[4], SIZE, "recolour", True)
    result = task.scene.pixels.copy()
    result[task.scene.mask(0)] = 255 - task.wanted.pixels[task.wanted.mask(0)].mean(0).astype(np.uint8)
    wrong = score(task, result)
    assert (wrong.target, wrong.effect) == (1, 0)
    assert wrong.weighted < wrong.overall


def flooded(task, box):
    """Everything in an object's box in the colour that most of it should have."""
    result, wanted = task.scene.pixels.copy(), task.wanted
    x1, y1, x2, y2 = box
    result[y1:y2, x1:x2] = np.median(wanted.pixels[wanted.mask(0)], axis=0).astype(np.uint8)
    return result


def a_task(kind, suits):
    """The first held-out task of a kind that suits."""
    tasks = (held_out_task(HELD_OUT_SEEDS[seed], SIZE, kind, True) for seed in range(400))
    return next(task for task in tasks if suits(task.scene.object(0), task.instructions[0][1]))


@pytest.mark.parametrize("kind", ["recolour", "reshape"])
def test_a_flooded_box_is_no_effect(kind):
    values = {"recolour": COLOURS, "reshape": ("circle",)}[kind]
    task = a_task(kind, lambda thing, one: thing.shape == "star" and thing.pattern == "plain" and one.value in values)
    found = outcomes(task, flooded(task, task.scene.box(0)))[0]
    assert (found.changed, found.reached) == (True, False)


def test_a_deleted_object_has_not_shrunk():
    task = a_task("shrink", lambda thing, _: thing.pattern == "plain")
    gone = task.scene.with_objects(thing for thing in task.scene.objects if thing.id != 0)
    assert not outcomes(task, gone.pixels)[0].reached


def test_a_dark_object_is_not_striped():
    task = a_task("repattern", lambda thing, one: one.value == "striped" and thing.shape == "square")
    result = task.scene.pixels.copy()
    where = difference(task.scene, task.wanted)
    result[task.scene.mask(0)] = task.wanted.pixels[where].mean(0).astype(np.uint8)
    assert not outcomes(task, result)[0].reached


@few
@given(tasks, st.integers(0, 2**31))
def test_a_result_is_judged_by_all_of_its_region_and_no_more(task, seed):
    """The meant picture stays perfect for an object however wrong the rest of the picture is."""
    near = ~outside_regions(task)[..., None]
    wild = np.random.RandomState(seed).randint(0, 256, task.wanted.pixels.shape).astype(np.uint8)
    assert all(row.reached for row in outcomes(task, np.where(near, task.wanted.pixels, wild)))
    source = task.scene.pixels
    assert not any(row.reached for row in outcomes(task, np.where(near, wild, source)))


def test_a_blot_is_no_star():
    task = a_task("reshape", lambda thing, one: one.value == "star" and thing.pattern == "plain")
    blot = task.wanted.with_objects(
        replace(thing, shape="circle") if thing.id == 0 else thing for thing in task.wanted.objects
    )
    assert not recognised(task, 0, blot.pixels) and recognised(task, 0, task.wanted.pixels)


@few
@given(tasks, st.data())
def test_every_alternative_is_told_from_what_is_wanted(task, data):
    """A picture of any alternative is not recognised, and what is wanted is never among them."""
    identity, instruction = task.instructions[0]
    before = task.scene.object(identity)
    others = alternatives(before, instruction)
    assert instruction.changed(before) not in others and before in others
    assert len(others) == {"recolour": 8, "reshape": 7, "repattern": 2, "shrink": 2, "remove": 1}[instruction.kind]
    wrong = data.draw(st.sampled_from(sorted(others, key=repr)))
    now = (wrong if thing.id == identity else thing for thing in task.scene.objects)
    assert not recognised(task, identity, task.scene.with_objects(thing for thing in now if thing is not None).pixels)


@few
@given(tasks, st.integers(0, 2**31))
def test_a_soft_or_noisy_picture_is_still_recognised(task, seed):
    """What a small codec does to a picture is no other object."""
    noise = np.random.RandomState(seed).normal(0, 8, task.wanted.pixels.shape)
    noisy = np.clip(task.wanted.pixels + noise, 0, 255).astype(np.uint8)
    assert all(row.reached for row in outcomes(task, noisy))


def test_lost_stripes_do_not_count_against_a_new_colour():
    task = a_task("recolour", lambda thing, one: thing.pattern == "striped" and one.value == "green")
    plain = task.wanted.with_objects(
        replace(thing, pattern="plain") if thing.id == 0 else thing for thing in task.wanted.objects
    )
    assert recognised(task, 0, plain.pixels)


def test_outcomes_tell_the_meant_objects_apart_by_kind():
    task = held_out_task(HELD_OUT_SEEDS[4], SIZE, "remove", True, regions=2)
    (first, gone), (_, other) = task.instructions
    half = gone.apply(task.scene, (first,)).pixels  # the first edit alone
    assert outcomes(task, half) == [Outcome("remove", True, True), Outcome(other.kind, False, False)]
    assert effect_by_kind([*outcomes(task, half), Outcome("remove", True, False)]) == {"remove": 0.5, other.kind: 0.0}


def test_consistency_falls_with_noise_outside_and_not_with_noise_inside():
    task = held_out_task(HELD_OUT_SEEDS[9], SIZE, "recolour", True)
    noise = np.random.RandomState(0).randint(-90, 91, task.scene.pixels.shape)
    noisy = np.clip(task.wanted.pixels + noise, 0, 255).astype(np.uint8)
    outside = outside_regions(task)[..., None]
    without = score(task, np.where(outside, task.wanted.pixels, noisy))
    within = score(task, np.where(outside, noisy, task.wanted.pixels))
    assert without.consistency_psnr == CAP
    assert WORST - 3 < within.consistency_psnr < 20
    assert within.outside_changed > 0.3 > without.outside_changed


def test_the_mean_leaves_scenes_without_lookalikes_out():
    rows = [Scores(1, 1, 30, 0, 1, 1, 1), Scores(0, 0, 20, 0.5, math.nan, 0, 0)]
    assert mean(rows) == Scores(0.5, 0.5, 25, 0.25, 1, 0.5, 0.5)
    assert math.isnan(mean(rows[1:]).lookalikes_changed)
    with pytest.raises(ValueError, match="no scores"):
        mean([])


@pytest.mark.parametrize(
    ("value", "said"), [(1.0, "look-alikes changed"), (0.0, "look-alikes left alone"), (math.nan, "no look-alikes")]
)
def test_what_became_of_lookalikes_is_said_in_words(value, said):
    assert Scores(1, 1, 30, 0, value, 1, 1).spilled == said


def test_a_picture_of_another_size_is_refused():
    task = held_out_task(HELD_OUT_SEEDS[9], SIZE, "recolour", True)
    with pytest.raises(ValueError, match="the scene"):
        score(task, task.wanted.pixels[::2])
