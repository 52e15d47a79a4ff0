"""Toy edits: an instruction changes every object it names and no other, and the mask says exactly where."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.planner.plan import KEEP_UNCHANGED
from replan.tools.toyworld.drawing import COLOURS, SHAPES
from replan.tools.toyworld.edits import (
    KEEP,
    KINDS,
    RECOLOUR,
    REMOVE,
    RESHAPE,
    TEMPLATES,
    Instruction,
    Reference,
    commute,
    difference,
    edited,
    random_instruction,
    random_program,
    written,
)
from replan.tools.toyworld.scenes import SceneError, random_state, training_scene

few = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 10**6)
CHANGES = KINDS[:-1]


def footprint(ids, *scenes):
    """Where these objects show in any of the scenes."""
    where = np.zeros((scenes[0].size,) * 2, bool)
    for scene, identity in itertools.product(scenes, ids):
        if identity in scene.ids:
            where |= scene.mask(identity)
    return where


@few
@given(seeds, st.sampled_from(CHANGES))
def test_an_instruction_changes_every_named_object_and_no_other(seed, kind):
    scene = training_scene(seed)
    instruction = random_instruction(scene, random_state(seed, "test"), (kind,))
    named = instruction.named(scene)
    after = edited(scene, (instruction,))
    assert named
    for thing in scene.objects:
        if thing.id not in named:
            assert after.object(thing.id) == thing
        elif kind == REMOVE:
            assert thing.id not in after.ids
        else:
            assert after.object(thing.id) == instruction.changed(thing)
    assert after != scene


@few
@given(seeds, st.sampled_from(CHANGES))
def test_pixels_change_where_named_objects_were_or_are_and_nowhere_else(seed, kind):
    scene = training_scene(seed)
    instruction = random_instruction(scene, random_state(seed, "test"), (kind,))
    after = edited(scene, (instruction,))
    changed = difference(scene, after)
    named = [i for i in instruction.named(scene) if i not in after.ids or after.object(i) != scene.object(i)]
    assert not (changed & ~footprint(named, scene, after)).any()
    for identity in named:
        assert (changed & scene.mask(identity)).any()
    if kind == REMOVE:
        assert (changed == footprint(named, scene)).all()
    if kind == RECOLOUR:  # dark bands stay dark
        plain = [i for i in named if scene.object(i).pattern == "plain"]
        assert (changed >= footprint(plain, scene)).all()


@few
@given(seeds)
def test_keeping_unchanged_is_the_identity(seed):
    scene = training_scene(seed)
    for form in range(len(TEMPLATES[KEEP])):
        keep = written(KEEP, form=form)
        assert keep.named(scene) == ()
        assert edited(scene, (keep,)) == scene
        assert keep.apply(scene, scene.ids) == scene
        assert not difference(scene, edited(scene, (keep,))).any()


def test_keeping_unchanged_uses_the_words_of_a_plan():
    assert written(KEEP).text == KEEP_UNCHANGED


@few
@given(seeds, st.integers(1, 4))
def test_a_program_gives_the_same_picture_in_any_order(seed, count):
    scene = training_scene(seed)
    program = random_program(scene, seed, count)
    assert 1 <= len(program) <= count
    assert sum(instruction.kind == KEEP for instruction in program) <= 1
    target = edited(scene, program).pixels
    for order in itertools.permutations(program):
        assert (edited(scene, order).pixels == target).all()


@few
@given(seeds)
def test_keep_vetoes_nothing(seed):
    scene = training_scene(seed)
    program = random_program(scene, seed, 2, keep=0.0)
    assert (edited(scene, (written(KEEP), *program, written(KEEP))).pixels == edited(scene, program).pixels).all()


@few
@given(seeds)
def test_the_same_seed_gives_the_same_words_and_bytes(seed):
    pictures = []
    for _ in range(2):
        scene = training_scene(seed)
        program = random_program(scene, seed, 3)
        pictures.append((tuple(i.text for i in program), edited(scene, program).pixels.tobytes()))
    assert pictures[0] == pictures[1]


def test_what_is_named_is_settled_before_any_edit():
    scene = training_scene(3).with_objects(training_scene(3).objects[:2])
    one, two = scene.objects
    scene = scene.with_objects((_like(one, "circle", "red"), _like(two, "star", "blue")))
    program = (written(RECOLOUR, Reference(colour="red"), "blue"), written(RECOLOUR, Reference(colour="blue"), "green"))
    assert [thing.colour for thing in edited(scene, program).objects] == ["blue", "green"]


def test_several_edits_of_one_object_take_effect_in_order():
    scene = training_scene(3)
    every = [Reference(shape=shape) for shape in sorted({thing.shape for thing in scene.objects})]
    red, blue = ([written(RECOLOUR, reference, colour) for reference in every] for colour in ("red", "blue"))
    assert {thing.colour for thing in edited(scene, [*red, *blue]).objects} == {"blue"}
    assert {thing.colour for thing in edited(scene, [*blue, *red]).objects} == {"red"}
    assert not commute(scene, [*red, *blue])
    removed = [written(REMOVE, reference) for reference in every]
    assert edited(scene, [*removed, *red]).objects == edited(scene, [*red, *removed]).objects == ()
    assert commute(scene, [*removed, *red])


def _like(thing, shape, colour):
    return dataclasses.replace(thing, shape=shape, colour=colour, pattern="plain")


@pytest.mark.parametrize(
    "reference, words, names",
    [
        (Reference(shape="circle"), "circle", {0, 1}),
        (Reference(colour="red"), "red object", {0, 2}),
        (Reference("circle", "red"), "red circle", {0}),
    ],
)
def test_references_by_shape_by_colour_and_by_both(reference, words, names):
    looks = [("circle", "red"), ("circle", "blue"), ("star", "red"), ("star", "blue")]
    scene = next(s for s in map(training_scene, range(99)) if len(s.objects) == 4)
    scene = scene.with_objects(
        dataclasses.replace(_like(thing, *look), id=index)
        for index, (thing, look) in enumerate(zip(scene.objects, looks, strict=True))
    )
    instruction = written(RECOLOUR, reference, "green")
    assert instruction.text == f"make the {words} green"
    assert set(instruction.named(scene)) == names


@few
@given(seeds, st.sampled_from(CHANGES))
def test_an_instruction_says_what_it_means(seed, kind):
    scene = training_scene(seed)
    instruction = random_instruction(scene, random_state(seed, "test"), (kind,))
    assert instruction.reference.words in instruction.text
    assert instruction.value in instruction.text
    assert "{" not in instruction.text
    others = {*SHAPES, *COLOURS} - {*instruction.reference.words.split(), instruction.value}
    assert not others & set(instruction.text.split())


def test_every_template_is_used_with_the_and_with_every():
    for kind in CHANGES:
        value = {RECOLOUR: "red", RESHAPE: "star", "repattern": "striped"}.get(kind, "")
        texts = {written(kind, Reference(shape="ring"), value, form).text for form in range(60)}
        assert len(texts) == 2 * len(TEMPLATES[kind])
        assert {("every ring" in text, "the ring" in text) for text in texts} == {(True, False), (False, True)}


@pytest.mark.parametrize(
    "wrong, said",
    [
        (lambda: Reference(), "neither"),
        (lambda: Instruction("x", "polish", Reference("ring")), "no edit is called 'polish'"),
        (lambda: written("polish"), "no edit is called 'polish'"),
        (lambda: Instruction("x", REMOVE), "only 'keep' has none"),
        (lambda: Instruction("x", KEEP, Reference("ring")), "only 'keep' has none"),
        (lambda: written(RECOLOUR, Reference("ring"), "star"), "nothing to recolour to"),
        (lambda: random_instruction(training_scene(5), random_state(1, ""), naming=77), "no object 77"),
    ],
)
def test_what_cannot_be_is_refused(wrong, said):
    with pytest.raises(SceneError, match=said):
        wrong()
