"""No reply, however broken, makes the reader fail in any other way than by the pack's own error, or keeps it busy.

REPLAN_FUZZ=200000 sets how many mutated replies are read (2,000 without it). Its limit counts CPU time of a reference
machine, so a busy or slow one changes nothing. `tools/fuzz_replies.py` looks for new ones by coverage.
"""

import contextlib
import os
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine import pace
from replan.planner.asking.follow_up import points
from replan.planner.asking.second_look import cut_around, read_second_look
from replan.planner.plan import PlanError, RegionPlan
from replan.planner.plans.lint import lint
from replan.planner.plans.plan_json import plan_from_json, plan_to_json
from replan.planner.plans.report import describe_plan
from replan.planner.plans.tags import write_tags
from replan.planner.replies import COORDINATES, read_plan
from reply_corpus import IMAGE
from reply_mutations import LONGEST, PIECES, mutated, seeds

MUTATIONS = int(os.environ.get("REPLAN_FUZZ", "2000"))
SLOWEST = 0.05  # seconds for reading and checking one reply
CHOICES = COORDINATES


def read_and_check(reply: str, coordinates: str = "auto") -> RegionPlan | None:
    """The plan, read and checked, or None for a refusal; any other error passes."""
    try:
        plan, _ = read_plan(reply, IMAGE, coordinates)
    except PlanError as error:
        assert str(error).strip()
        return None
    points((*lint(plan, "make the spoon golden"), *plan.notices), plan)
    return plan


def seconds(reply: str, coordinates: str) -> float:
    """CPU seconds for one reply on the reference machine (machine.py).

    Measured again when it seems slow: garbage is collected, neighbours share the core.
    """
    least = float("inf")
    for _ in range(6):
        began = time.thread_time()
        read_and_check(reply, coordinates)
        took = time.thread_time() - began
        if took <= SLOWEST:
            return took
        least = min(least, took / pace())
        if least <= SLOWEST:
            break
    return least


@pytest.mark.timed
def test_mutated_replies_give_a_plan_or_the_packs_own_error_in_time():
    chance = random.Random(20260)
    plans = 0
    for number in range(MUTATIONS):
        reply = mutated(chance)
        coordinates = CHOICES[number % len(CHOICES)]
        took = seconds(reply, coordinates)
        assert took <= SLOWEST, f"{took:.3f} s for mutation {number}: {reply[:2000]!r}"
        if number % 20 == 0:
            plans += check_what_was_read(reply, coordinates)
    # Otherwise only refusals were tried.
    assert plans > MUTATIONS / 20 / 4


def check_what_was_read(reply: str, coordinates: str) -> bool:
    """A plan that was read can be told, written and read again."""
    plan = read_and_check(reply, coordinates)
    if plan is None:
        return False
    assert plan.image_size == IMAGE
    assert describe_plan(plan, findings=lint(plan))
    assert plan_from_json(plan_to_json(plan)).regions == plan.regions
    assert [region.id for region in read_plan(write_tags(plan), IMAGE)[0].regions] == list(plan.ids)
    return True


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(seeds()),
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 30), st.text(max_size=6) | st.sampled_from(PIECES)),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(CHOICES),
)
def test_replies_with_pieces_put_in_and_taken_out_are_read(reply, edits, coordinates):
    for at, length, piece in edits:
        reply = reply[:at] + piece + reply[at + length :]
    check_what_was_read(reply, coordinates)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=20).map("".join),
    st.sampled_from([None, (640, 427), (1, 1), (9000, 7)]),
)
def test_texts_of_pieces_are_read_for_any_image(text, size):
    with contextlib.suppress(PlanError):
        plan, _ = read_plan(text, size)
        lint(plan)
    read_second_look(text, cut_around((1, 2, 3, 4), (64, 48)))


@pytest.mark.timed
def test_hundreds_of_boxes_under_one_hint_are_read_in_time():
    boxes = ",".join(f"[{edge % 290}, {edge // 3}, 300, 400]" for edge in range(900))
    reply = f'[{{"bbox_2d": [{boxes}], "hint": "a"}}]'
    assert len(read_plan(reply, IMAGE, "pixels")[0].regions) == 900
    assert seconds(reply, "pixels") <= SLOWEST


@pytest.mark.parametrize("depth", [30, 300, 900, 5000])
@pytest.mark.parametrize("key", ["bbox_2d", "hint", "point_2d", "other", "mask", "id", "regions"])
def test_deep_nesting_is_refused_or_dropped(key, depth):
    for value in ("[" * depth + "1" + "]" * depth, '{"a": ' * depth + "1" + "}" * depth):
        item = f'{{"bbox_2d": [1, 2, 30, 40], "hint": "a", "{key}": {value}}}'
        for text in (
            f"[{item}]",
            f"<gen_image>x</gen_image><region>[{item}]</region>",
            value,
            f'{{"regions": {value}}}',
        ):
            read_and_check(text)
        read_second_look(f'{{"meant": "yes", "{key}": {value}}}', cut_around((1, 2, 3, 4), (64, 48)))


@pytest.mark.timed
@pytest.mark.parametrize(
    "piece",
    [
        *(piece for piece in PIECES if piece.strip()),
        '{"bbox_2d": [1,2,3,4], "hint": "a"}',
        '"a: 1, ',
        '"a": "b": ',
        '{"a": "b", ',
        "<region>[{",
        '<region>{"hint": "</region>',
        "<a>b</a>",
        "'a', ",
        '"//',
        "<ref>a</ref><box>1</box>",
    ],
)
def test_one_piece_over_and_over_takes_no_longer(piece):
    for before in ("", "[", "<gen_image>x</gen_image><region>[", '[{"hint": "'):
        text = (before + piece * LONGEST)[:LONGEST]
        assert seconds(text, "auto") <= SLOWEST, f"{before!r} and {piece!r} over and over"
