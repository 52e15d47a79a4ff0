"""What the toy world's planner is asked by the pack's own templates: words that single out, answers that are right."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.planner.replies import read_plan
from replan.tools.toyworld import judged
from replan.tools.toyworld.edits import Reference
from replan.tools.toyworld.lessons import EDITS, LOOKS, PLAIN, SHARES, Example, held_out_example, training_examples
from replan.tools.toyworld.naming import BESIDE, FROM, KNOWN_COLOURS, KNOWN_SHAPES, ORDINALS, in_order, joined, name
from replan.tools.toyworld.scenes import HELD_OUT_SEEDS, SIZE, SceneError, held_out_seed, random_state, training_scene
from replan.tools.toyworld.scoring import answer_figures, exact_answers, score_answer
from replan.tools.toyworld.situations import HYPOTHETICAL_KINDS, SITUATIONS, fits
from replan.tools.training.planner_measure import answered

few = settings(max_examples=25, deadline=None)
TEMPLATES = tuple(name for name in SHARES if name != PLAIN)


@few
@given(st.integers(0, 10**6))
def test_what_is_named_is_the_thing_itself(number):
    """Ordinals, sides, neighbours and common sense, each read back from its words."""
    random = random_state(number, "names")
    scene = training_scene(number)
    for thing in scene.objects:
        named = name(scene, thing, random)
        if named is None:
            continue
        words = named.words
        if found := re.search(r"in (the (?:colour|shape|traffic).*)", words):
            tables = [(value, texts) for table in (KNOWN_COLOURS, KNOWN_SHAPES) for value, texts in table.items()]
            (value,) = [value for value, texts in tables if found[1] in texts]
            fitting = [other for other in scene.objects if value in (other.colour, other.shape)]
        elif found := re.fullmatch(rf"({'|'.join(ORDINALS)}) (.+) from the (.+)", words):
            row = in_order(scene, _reference(found[2]), found[3])
            edge, last_first = FROM[found[3]]
            edges = [scene.box(one.id)[edge] for one in row]
            assert edges == sorted(edges, reverse=last_first)
            fitting = [row[ORDINALS.index(found[1])]]
        elif found := re.fullmatch(rf"(.+?) ({'|'.join(BESIDE)}) the (.+)", words):
            (anchor,) = [other for other in scene.objects if _reference(found[3]).names(other)]
            axis, sign = BESIDE[found[2]]
            fitting = [
                other for other in scene.objects
                if _reference(found[1]).names(other)
                and sign * (_middle(scene, other) - _middle(scene, anchor))[axis] > 0
            ]  # fmt: skip
        else:
            continue  # by looks or by an extreme: test_training_planner.py
        assert [one.id for one in fitting] == [thing.id]


def _reference(words: str) -> Reference:
    parts = words.replace("object", "").split()
    colours = [word for word in parts if word in KNOWN_COLOURS]
    shapes = [word for word in parts if word in KNOWN_SHAPES]
    return Reference(shapes[0] if shapes else None, colours[0] if colours else None)


def _middle(scene, thing) -> np.ndarray:
    box = np.array(scene.box(thing.id))
    return (box[:2] + box[2:]) / 2


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_right_answer_is_read_as_right_and_clean(template):
    """By the pack's own reader: every box, kind and answer; nothing that it would have to repair."""
    examples = [held_out_example(template, held_out_seed(4, index)) for index in range(15)]
    answers = [answered(one, one.wanted) for one in examples]
    figures = answer_figures(answers)
    assert figures["right"] == 1.0 and figures.get("kind_right", 1.0) == figures.get("answer_right", 1.0) == 1.0
    assert figures["hints_right"] == 1.0 and figures["replies_repaired"] == figures["replies_failed"] == 0
    assert ("kind_right" in figures) == (template == "hypothetical")
    for one in examples:
        plan, _ = read_plan(one.wanted, (SIZE, SIZE), "seen_pixels", (SIZE, SIZE), by_model=True)
        assert bool(plan.reasoning) == (template != "edit_no_reasoning")


def test_a_wrong_answer_is_told():
    one = held_out_example("hypothetical", held_out_seed(4, 1))
    wrong = next(kind for kind in HYPOTHETICAL_KINDS if kind != one.kind)
    assert answered(one, one.wanted.replace(f"<kind>{one.kind}", f"<kind>{wrong}")).kind is False
    assert not answered(one, "I see nothing").good and not score_answer(one, None).kind
    asked = [held_out_example("unified", held_out_seed(4, index)) for index in range(30)]
    question = next(one for one in asked if one.answer and not one.found and one.task is None)
    assert answered(question, question.wanted).good
    assert not answered(question, "<think>so</think><answer>purple rain</answer>").good
    search = next(one for one in asked if one.found)
    assert not answered(search, search.wanted.split("<region>")[0] + "<region>[]</region>").good


@few
@given(st.integers(0, 10**6))
def test_examples_speak_of_what_is_there_and_edits_change_what_they_say(number):
    for one in training_examples(3, number, 4):
        assert isinstance(one, Example) and one.template in SHARES
        for piece in one.reply:
            assert piece.about is None or piece.about in one.scene.ids
        if one.task:
            assert one.template in (PLAIN, "unified", *EDITS)
            for identity, instruction in one.task.instructions:
                thing = one.scene.object(identity)
                assert instruction.changed(thing) != thing
        else:
            assert one.template in LOOKS


def test_every_kind_of_situation_has_several_edits_and_fits_something():
    for kind in HYPOTHETICAL_KINDS:
        own = [one for one in SITUATIONS if one.kind == kind]
        assert len({one.edit for one in own}) >= 3 and len(own) >= 6
    scene = training_scene(3)
    assert all(any(fits(one, thing) for thing in scene.objects) or one.value == "plain" for one in SITUATIONS)
    texts = [text for one in SITUATIONS for text in one.texts]
    assert len(set(texts)) == len(texts)


def test_examples_are_the_same_each_time_and_held_out_ones_apart():
    assert training_examples(1, 7, 3) == training_examples(1, 7, 3) != training_examples(2, 7, 3)
    assert held_out_example("edit", held_out_seed(3, 1)).scene.seed in HELD_OUT_SEEDS
    with pytest.raises(SceneError, match="not a held-out one"):
        held_out_example("edit", 5)
    with pytest.raises(SceneError, match="not a held-out one"):
        judged.held_out_judged(5)


def test_edits_to_judge_are_of_every_worth_and_their_scores_exact():
    edits = [judged.training_judged(1, number) for number in range(24)]
    for one in edits[:6]:
        assert one.scores == exact_answers(one.task, one.after)
        assert joined(one.reply("effect")).endswith(f'"effect_score": {one.scores["effect"]}}}')
    for question, values in (("target", {1, 5}), ("effect", {1, 5}), ("quality", {1, 2, 3, 4, 5})):
        assert len({one.scores[question] for one in edits} & values) >= 2
    again = judged.training_judged(1, 5)
    assert (again.after == edits[5].after).all() and again.text == edits[5].text
    assert any((one.after != one.made.pixels).any() for one in edits)


def test_a_judges_reason_names_what_changed():
    edits = [judged.training_judged(2, number) for number in range(16)]
    nothing = next(one for one in edits if one.made == one.task.scene)
    assert "it did not change" in joined(nothing.reply("target")) and nothing.scores["target"] == 1
    done = next(one for one in edits if one.made == one.task.wanted and (one.after == one.made.pixels).all())
    assert "it changed" in joined(done.reply("target")) and done.scores["effect"] == 5
    assert "nothing else changed" in joined(done.reply("consistency"))
