"""A judge asked about one edit: each question from the cache, or by a provider with tries and waits, and read.

A reply is kept under the hash of its images, its question and its model; a question that got no reply is not.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from replan.evaluation.judge import Verdict, assemble, build_questions, read_model_answer
from replan.evaluation.judge_questions import MOST_PIXELS, Question
from replan.evaluation.scores import Scores
from replan.planner.models.interface import Answer, Part
from replan.planner.plan import RegionPlan
from replan.tools.batches.results import hidden, write_whole
from replan.tools.iv_edit.image_files import read_rgb
from replan.tools.iv_edit.providers import Busy, Provider, Refused, png_of

RETRIES, DELAY, LONGEST_WAIT = 3, 2.0, 120.0  # the wait after try n is DELAY * 2^n seconds, as in upstream's judge


class Replies:
    """Replies on disk. hide: takes keys out of what is written."""

    def __init__(self, folder: Path, hide: Callable[[str], str] = str) -> None:
        self.folder, self.hide = Path(folder), hide

    def key(self, provider: Provider, question: Question) -> str:
        images = [hashlib.sha256(png_of(image)).hexdigest() for image in question.images]
        said = [
            [one.role, [part if part is not Part.IMAGE else None for part in one.parts]] for one in question.messages
        ]
        told = json.dumps([provider.label, provider.model, images, said, question.schema])
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()

    def get(self, key: str) -> Answer | None:
        try:
            return Answer(**json.loads(self._file(key).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def put(self, key: str, answer: Answer) -> None:
        file = self._file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(hidden(answer._asdict(), self.hide)).encode("utf-8", "backslashreplace"))

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


class Judge:
    """A provider with its cache and its patience. stop: set when the user wants to end; waits then end too."""

    def __init__(
        self, provider: Provider, replies: Replies, retries: int = RETRIES, delay: float = DELAY,
        most_pixels: int = MOST_PIXELS, stop: threading.Event | None = None, say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self.provider, self.replies, self.retries, self.delay = provider, replies, retries, delay
        self.most_pixels, self.stop, self.say = most_pixels, stop or threading.Event(), say
        self.asked = self.kept = self.tries_again = 0

    def answer(self, question: Question, fresh: bool = False) -> Answer:
        """The reply to a question. fresh: not the one that is kept. Raises Busy when all tries failed, Refused,
        JudgeError."""
        key = self.replies.key(self.provider, question)
        found = None if fresh else self.replies.get(key)
        if found is not None:
            self.kept += 1
            return found
        for number in range(self.retries + 1):
            try:
                answer = self.provider.ask(question)
                break
            except Busy as error:
                if number == self.retries or self.stop.is_set():
                    raise
                self.tries_again += 1
                wait = self.delay * 2**number * random.uniform(1, 1.25)  # so that threads do not come back at once
                wait = min(LONGEST_WAIT, max(wait, error.wait or 0))
                self.say(f"{question.name}: {error}; trying again in {wait:.0f} s")
                self.stop.wait(wait)
        self.asked += 1
        self.replies.put(key, answer)
        return answer

    def judge(
        self,
        before: Path,
        after: Path,
        instruction: str,
        referring: str = "",
        plan: RegionPlan | None = None,
        fresh: Collection[str] = (),
    ) -> tuple[Scores, list[dict[str, Any]]]:
        """Scores of one edit, and each question with its reply. fresh: names of questions to ask anew.

        Raises PlanError for what cannot be asked, and what `answer` raises.
        """
        questions = build_questions(
            read_image(before), read_image(after), instruction, plan, referring=referring, spec=self.provider.spec,
            most_pixels=self.most_pixels,
        )  # fmt: skip
        verdicts, told = [], []
        for question in questions:
            begun = time.monotonic()
            try:
                answer = self.answer(question, question.name in fresh)
                verdict = read_model_answer(question, answer)
            except Refused as error:
                answer, verdict = Answer("", True, 0, 0), Verdict(None, str(error))
            verdicts.append((question, verdict))
            told.append(
                {
                    "question": question.name, "value": verdict.value, "why": verdict.why,
                    "reasoning": verdict.reasoning, "reply": answer.text, "tokens_read": answer.asked,
                    "tokens_written": answer.tokens, "seconds": round(time.monotonic() - begun, 3),
                }
            )  # fmt: skip
        return assemble(verdicts), told


def read_image(file: Path) -> torch.Tensor:
    """(1, H, W, 3) in 0..1. Raises PlanError for a file that is no image."""
    return torch.from_numpy(np.asarray(read_rgb(file), dtype=np.float32) / 255)[None]
