"""A judge of a few ten thousand parameters that learns its answers by heart: see `learned_planner`.

It was shown a red block that turned blue, and the same block left red. Its replies come token by token out of the
model; they show whether the questions and both images reach it, never how well anything judges.
"""

from __future__ import annotations

import json
from pathlib import Path

from learned_planner import LEFT, Lesson, learn, square
from replan.evaluation.judge import Question, build_questions
from replan.planner.models.interface import VlmSpec
from replan.planner.plan import Region, RegionPlan

INSTRUCTION = "paint it blue"
PLAN = RegionPlan((128, 128), regions=(Region("r1", tuple(map(float, LEFT)), "blue"),))
# How the small model sees images, at the least area that the node offers.
SPEC, MOST = VlmSpec("", 16, 4096, 262144), 50176
BEFORE = square(LEFT)
AFTER = BEFORE[..., [2, 1, 0]].contiguous()
# What it answers when the block is blue, and what it answers otherwise when it is still red: to Quality no score.
BLUE = {"target": 5, "effect": 5, "consistency": 5, "quality": 4, "done": "yes", "kept": "yes"}
RED = {"quality": None, "done": "no"}


def reply(question: Question, said) -> str:
    return "no" if said is None else json.dumps({question.key: said})


def teach(path: Path, plan: RegionPlan | None = PLAN, steps: int = 100) -> Path:
    """Write a folder with the judge. plan: None where no region is asked about, which halves the work."""
    lessons = []
    for after, answers in ((AFTER, BLUE), (BEFORE, RED)):
        for question in build_questions(BEFORE, after, INSTRUCTION, plan, spec=SPEC, most_pixels=MOST):
            if question.score in answers:
                answer = reply(question, answers[question.score])
                lessons.append(Lesson(question.messages, question.images, answer))
    return learn(path, lessons, steps)
