"""Judges' replies by kind: each gives the score that a person would read from it, or none and why.

A case in `judge_replies/` is `=== its name`, the question, the reply, a line `---`, and the score, or `none:` and a
piece of the reason; `reasoning:` and `read:` are looked at where written. The text that is asked for is GRAND OPENING.
"""

import re
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from machine import pace
from replan.evaluation.judge import Question, build_questions, read_answer
from replan.planner.plan import Region, RegionPlan

FOLDER = Path(__file__).resolve().parents[1] / "judge_replies"


class Case(NamedTuple):
    kind: str
    name: str
    question: str
    reply: str
    score: float | None
    why: str
    said: dict[str, str]

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def load_cases() -> list[Case]:
    cases = []
    for file in sorted(FOLDER.glob("*.txt")):
        for part in re.split(r"^=== ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            head, _, expected = part.partition("\n---\n")
            name, question, *reply = head.split("\n", 2)
            score, *lines = expected.strip().split("\n")
            none = score.startswith("none: ")
            said = dict(line.split(": ", 1) for line in lines)
            value = None if none else float(score)
            why = score.removeprefix("none: ") if none else ""
            cases.append(Case(file.stem, name, question, "".join(reply), value, why, said))
    return cases


@cache
def questions() -> dict[str, Question]:
    plan = RegionPlan((64, 64), regions=(Region("r1", (8, 8, 40, 40), 'a sign that reads "GRAND OPENING"'),))
    image = torch.zeros(1, 64, 64, 3)
    found = {question.score: question for question in build_questions(image, image, "open the shop", plan)}
    return {**found, "text": found["text_right"]}


CASES = load_cases()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_reply_gives_the_score_a_person_would_read(case):
    verdict = read_answer(questions()[case.question], case.reply)
    assert verdict.value == case.score, verdict
    assert case.why in verdict.why if case.why else not verdict.why
    for name, wanted in case.said.items():
        assert getattr(verdict, name) == wanted


def test_the_cases_are_many_and_of_every_kind():
    assert len(CASES) >= 120 and len({str(case) for case in CASES}) == len(CASES)
    assert min(Counter(case.kind for case in CASES).values()) >= 9


_PIECES = st.sampled_from(
    [*'{}[]":,5317-\n \\\0', "/5", "/10", "%", "score", "effect_score", "quality", "yes", "no", "done", "texts", "if"]
    + [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "```",
        "null",
        "NaN",
        "1e999",
        "{}",
        "out of",
        "\\boxed{5}",
        "not",
    ]
    + ["\u8bc4\u5206", "\uff15", "\u5206", "\ud800", "GRAND", "OPENING", "final"]
)


def check(text: str) -> None:
    for question in questions().values():
        verdict = read_answer(question, text)
        assert verdict.value is None or verdict.value in (question.scale or (0.0, 1.0))
        assert (verdict.value is None) == bool(verdict.why)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(_PIECES, max_size=14).map("".join)))
def test_no_text_breaks_the_reader_or_gives_a_score_off_the_scale(text):
    check(text)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 400), st.integers(0, 400))
def test_no_damaged_reply_breaks_the_reader_or_gives_a_score_off_the_scale(case, start, length):
    check(case.reply[:start] + case.reply[start + length :])


@pytest.mark.parametrize(
    "text",
    ["score " * 8000, "5 " * 20000, "[" * 20000, '{"a": "' * 4000, "1, " * 20000, "yes\n" * 20000, "9" * 100000],
)
def test_long_replies_are_read_in_time_in_step_with_their_length(text):
    begun = time.process_time()
    for name in ("effect", "done", "text"):
        read_answer(questions()[name], text)
    assert time.process_time() - begun < 3 * pace()


def test_a_reply_of_a_megabyte_is_no_answer_and_takes_no_time():
    begun = time.process_time()
    verdict = read_answer(questions()["effect"], '{"effect_score": 5} ' * 60_000)
    assert verdict.value is None and "1200000 characters" in verdict.why
    assert time.process_time() - begun < 0.1 * pace()
