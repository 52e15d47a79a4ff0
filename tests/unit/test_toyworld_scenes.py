"""Toy scenes: the same bytes from the same seed, exact masks, nothing hidden, training apart from tests."""

import dataclasses
import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.tools.toyworld.drawing import (
    ACCENT,
    COLOURS,
    PATTERNS,
    SAMPLES,
    SHAPES,
    TEXTURES,
    UNIT,
    Drawn,
    paint,
)
from replan.tools.toyworld.scenes import (
    HELD_OUT_SEEDS,
    LEAST_SHOWN,
    MOST,
    SIZE,
    TRAINING_SEEDS,
    SceneError,
    held_out_scene,
    held_out_seed,
    training_scene,
)

few = settings(max_examples=40, deadline=None)
training = st.integers(TRAINING_SEEDS.start, TRAINING_SEEDS.stop - 1)
held_out = st.integers(HELD_OUT_SEEDS.start, HELD_OUT_SEEDS.stop - 1)


def test_a_seed_gives_these_bytes_on_every_machine():
    digest = hashlib.sha256()
    for seed in range(40):
        digest.update(training_scene(seed).pixels.tobytes())
    assert digest.hexdigest() == "c62e15895240197a34fc7e66fd11e045369d7af6b4bd39e042097dfac7627b0b"


@few
@given(training)
def test_the_same_seed_gives_the_same_scene_and_bytes(seed):
    one, two = training_scene(seed), training_scene(seed)
    assert one == two
    assert one.pixels.tobytes() == two.pixels.tobytes()


def test_scenes_of_neighbouring_seeds_differ():
    pictures = {training_scene(seed).pixels.tobytes() for seed in range(30)}
    pictures |= {held_out_scene(HELD_OUT_SEEDS[seed]).pixels.tobytes() for seed in range(30)}
    assert len(pictures) == 60


@few
@given(held_out, st.sampled_from((64, 96, 128, 192, 256)))
def test_every_object_shows_most_of_itself_and_lies_inside_the_picture(seed, size):
    scene = held_out_scene(seed, size)
    assert scene.pixels.shape == (size, size, 3)
    assert 2 <= len(scene.objects) <= MOST
    blank = scene.background.pixels(size)
    for thing in scene.objects:
        alone = paint(blank, (thing.drawn,)).shown[0]
        assert int(scene.shown(thing.id).sum()) >= LEAST_SHOWN * int(alone.sum())
        assert all(thing.radius <= middle <= size * UNIT - thing.radius for middle in thing.centre)


@few
@given(held_out)
def test_masks_say_exactly_which_pixels_an_object_has_a_share_in(seed):
    scene = held_out_scene(seed)
    assert int(scene.painting.shown.sum(0).max()) <= SAMPLES
    free = scene.painting.shown.sum(0) == 0
    assert (scene.pixels == scene.background.pixels(SIZE))[free].all()
    for thing in scene.objects:
        repainted = scene.with_objects(
            dataclasses.replace(other, colour=next(c for c in COLOURS if c != thing.colour), pattern="plain")
            if other.id == thing.id
            else other
            for other in scene.objects
        )
        changed = (repainted.pixels != scene.pixels).any(-1)
        assert (changed == scene.mask(thing.id)).all()


@few
@given(held_out)
def test_a_box_is_the_smallest_around_its_mask(seed):
    scene = held_out_scene(seed)
    for identity in scene.ids:
        x1, y1, x2, y2 = scene.box(identity)
        mask = scene.mask(identity)
        assert mask.sum() == mask[y1:y2, x1:x2].sum()
        assert mask[y1].any() and mask[y2 - 1].any() and mask[:, x1].any() and mask[:, x2 - 1].any()


@few
@given(held_out, st.integers(1, MOST), st.data())
def test_as_many_objects_and_lookalikes_as_asked_for(seed, count, data):
    twins = data.draw(st.integers(0, count - 1))
    scene = held_out_scene(seed, SIZE, count, twins)
    assert sorted(scene.ids) == list(range(count))
    assert sorted(scene.lookalikes(0)) == list(range(1, twins + 1))


def test_objects_of_one_colour_never_touch():
    for seed in range(40):
        scene = training_scene(seed)
        for one, two in itertools.combinations(scene.objects, 2):
            if one.colour == two.colour:
                distance = np.hypot(*np.subtract(one.centre, two.centre))
                assert distance >= one.radius + two.radius


def test_training_has_lookalikes_near_misses_and_every_kind_of_thing():
    scenes = [training_scene(seed) for seed in range(150)]
    things = [thing for scene in scenes for thing in scene.objects]
    assert {thing.shape for thing in things} == set(SHAPES)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.pattern for thing in things} == set(PATTERNS)
    assert {scene.background.kind for scene in scenes} == set(TEXTURES)
    assert {len(scene.objects) for scene in scenes} == set(range(2, MOST + 1))

    def share(test):
        pairs = [[test(a, b) for a, b in itertools.combinations(scene.objects, 2)] for scene in scenes]
        return np.mean([any(pair) for pair in pairs])

    assert share(lambda a, b: a.looks_like(b)) > 0.5
    assert share(lambda a, b: a.shape == b.shape and a.colour != b.colour) > 0.5
    assert share(lambda a, b: a.shape != b.shape and a.colour == b.colour) > 0.5


def test_a_scene_crowded_with_the_most_objects_is_found_quickly():
    for seed in range(20):
        assert len(held_out_scene(HELD_OUT_SEEDS[seed], SIZE, MOST, MOST - 1).objects) == MOST


def test_seed_ranges_are_disjoint_and_neither_generator_takes_the_others():
    assert not set(TRAINING_SEEDS[-2:]) & set(HELD_OUT_SEEDS[:2]) and TRAINING_SEEDS.stop == HELD_OUT_SEEDS.start
    with pytest.raises(SceneError, match="not one for training"):
        training_scene(HELD_OUT_SEEDS.start)
    with pytest.raises(SceneError, match="not a held-out one"):
        held_out_scene(TRAINING_SEEDS.stop - 1)


@given(st.integers(), st.integers(0, 10**6))
def test_any_run_seed_gives_held_out_scenes(run, index):
    assert held_out_seed(run, index) in HELD_OUT_SEEDS


@pytest.mark.parametrize("size", [0, -16, 48, 120, 128.0, True, "128"])
def test_a_size_the_codec_cannot_take_is_refused(size):
    with pytest.raises(SceneError, match="multiple of 16"):
        training_scene(1, size)


@pytest.mark.parametrize(
    "count, twins, said",
    [(0, 0, "1 to 9 objects"), (10, 0, "1 to 9 objects"), (3, 3, "look-alikes"), (3, -1, "look-alikes")],
)
def test_impossible_numbers_of_objects_are_refused(count, twins, said):
    with pytest.raises(SceneError, match=said):
        held_out_scene(HELD_OUT_SEEDS.start, SIZE, count, twins)


def test_pictures_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        training_scene(1).pixels[0] = 0


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_stays_inside_the_circle_of_its_radius_and_fills_a_good_part_of_it(shape):
    size, radius = 64, 20
    y, x = np.mgrid[:size, :size] + 0.5
    distance = np.hypot(x - 32, y - 32)
    for angle in range(-12, 13, 4):
        drawn = Drawn(shape, "red", "plain", (32 * UNIT, 32 * UNIT), radius * UNIT, angle)
        shown = paint(np.zeros((size, size, 3), np.uint8), (drawn,)).shown[0]
        assert not shown[distance > radius + 1].any()
        assert 0.3 < shown.sum() / SAMPLES / (np.pi * radius**2) < 0.9


@few
@given(held_out)
def test_whichever_shape_objects_take_none_is_hidden(seed):
    scene = held_out_scene(seed)
    scene = scene.with_objects(dataclasses.replace(thing, shape="circle") for thing in scene.objects)
    for thing in scene.objects:
        area = np.pi * (0.9 * thing.radius / UNIT) ** 2
        assert scene.shown(thing.id).sum() / SAMPLES > 0.7 * area


def test_a_circle_has_its_area_wherever_it_lies():
    for offset in range(UNIT):
        drawn = Drawn("circle", "red", "plain", (30 * UNIT + offset, 33 * UNIT - offset), 10 * UNIT, 0)
        shown = paint(np.zeros((64, 64, 3), np.uint8), (drawn,)).shown[0]
        assert shown.sum() / SAMPLES == pytest.approx(np.pi * 9**2, rel=0.02)


def test_edges_are_smooth_and_insides_are_exact():
    drawn = Drawn("circle", "red", "plain", (32 * UNIT, 32 * UNIT), 20 * UNIT, 0)
    painting = paint(np.zeros((64, 64, 3), np.uint8), (drawn,))
    full = painting.shown[0] == SAMPLES
    assert (painting.pixels[full] == COLOURS["red"]).all()
    assert len(np.unique(painting.shown[0])) > 8


def test_colours_are_far_apart():
    palette = [*COLOURS.values(), ACCENT]
    for one, two in itertools.combinations(palette, 2):
        assert np.linalg.norm(np.subtract(one, two)) > 80


def test_a_striped_object_has_bands_of_both_colours():
    for shape in SHAPES:
        drawn = Drawn(shape, "white", "striped", (32 * UNIT, 32 * UNIT), 14 * UNIT, 0)
        painting = paint(np.zeros((64, 64, 3), np.uint8), (drawn,))
        inside = painting.pixels[painting.shown[0] == SAMPLES]
        dark = np.abs(inside.astype(int) - ACCENT).max(-1) < 10
        assert 0.2 < dark.mean() < 0.8
