"""Stage 2: what the image of a plan is worth to a judge, beside a fifth of stage 1 (qwen_vl_reward, remote_reward).

A reply is rendered only if its stage 1 says so (`Reward.renders`). Sharp (the published runs): Target, Effect and
Consistency count 1 from a score of 4 on, else 0, and the image is worth (T + E + C E) / 3. Plain: (T + E + w C) / 15
with w = max(E - 3, 0) / 5.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from .value import Reward

STAGE1 = 0.2
SHARP = 4.0
_FENCED = re.compile(r"```json\s*(\{.*?\})\s*```", re.DOTALL)
_DIGIT = re.compile(r"\b([1-5])\b")


class Judged(NamedTuple):
    """A judge's scores of one edit, 1 to 5; None for a question without an answer."""

    target: float | None
    effect: float | None
    consistency: float | None


def image_reward(judged: Judged | None, *, sharp: float = SHARP, published: bool = False) -> float | None:
    """What a rendered image is worth, 0..1 (plain: 0..0.8); None where an answer that it depends on is missing.

    judged: None where there is no image, because the renderer failed. sharp: the score from which an answer counts,
    0 for the plain branch. Published, what is missing counts as 0.
    """
    if judged is None:
        return 0.0 if published else None
    if published:
        judged = Judged(*(score or 0.0 for score in judged))
    target, effect, consistency = judged
    if target is None or effect is None:
        return None
    weight = float(effect >= sharp) if sharp else max(effect - 3.0, 0.0) / 5.0
    if consistency is None and weight:
        return None
    consistency = consistency or 0.0
    if sharp:
        return ((target >= sharp) + weight + (consistency >= sharp) * weight) / 3.0
    return (target + effect + weight * consistency) / 3.0 / 5.0


def planning_reward(
    stage1: Reward, judged: Judged | None = None, *, sharp: float = SHARP, published: bool = False
) -> Reward:
    """Stage 2 of a reply with that stage-1 reward; its parts, image and the judge's scores.

    judged: looked at only where `stage1.renders`; a plan that is not rendered earns nothing for its image.
    """
    image = image_reward(judged, sharp=sharp, published=published) if stage1.renders else 0.0
    scores = judged._asdict() if stage1.renders and judged is not None else {}
    parts = {**stage1.parts, "stage1": stage1.total}
    parts |= {name: value for name, value in {**scores, "image": image}.items() if value is not None}
    total = None if image is None else image + STAGE1 * stage1.total
    return Reward(total, parts, stage1.renders)


def judge_score(text: str, question: str, *, published: bool = False) -> float | None:
    """The score in a judge's reply to `question` ("target", "effect" or "consistency"); None if there is none.

    By default the judge node's own reader, which takes a value of the scale that the reply clearly says, and no other.
    Published: the key QUESTION_score of a fenced JSON block, else of the whole reply, else the first digit from 1 to 5.
    """
    if not published:
        from replan.evaluation.judge import Question, read_answer
        from replan.evaluation.judge_questions import SCALES

        return read_answer(Question(question, (), (), f"{question}_score", SCALES[question]), text).value
    fenced = _FENCED.search(text)
    for one in ([fenced[1]] if fenced else []) + [text]:
        try:
            found = json.loads(one)
        except (ValueError, RecursionError):
            continue
        score = found.get(f"{question}_score") if isinstance(found, dict) else None
        return float(score) if isinstance(score, (int, float)) else None
    digit = _DIGIT.search(text)
    return float(digit[1]) if digit else None
