"""A judge's reply to its score: read tolerantly, and never guessed.

A reply counts where it clearly says one value that its question knows. A refusal, a number off the scale and two values
that contradict each other are no answer, with the reason; nothing stands in for one.
"""

from __future__ import annotations

from .judge_questions import Question, Verdict


def read_answer(question: Question, text: str) -> Verdict:
    """What a reply says to its question, in JSON, fenced or not, or in clear words; it raises nothing.

    Verdict.value is None, and Verdict.why says why, for an empty reply, a refusal, a value off the question's scale,
    values that contradict each other, and reasoning without an end.
    """
    raise NotImplementedError
