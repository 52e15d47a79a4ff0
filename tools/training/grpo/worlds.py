"""Stage 2's world: a plan is rendered by ComfyUI, and what came out is judged by a model or measured exactly."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from replan.evaluation.judge_questions import build_questions
from replan.planner.plan import PlanError
from replan.planner.plans.plan_json import plan_to_json
from replan.planner.replies import read_plan
from replan.tools.iv_edit import asking, providers
from replan.tools.toyworld.iv_records import workflow
from replan.tools.toyworld.scoring import exact_answers
from replan.tools.training.data import TrainingRecord
from replan.tools.training.rewards import Judged, judge_score

from .options import EXACT, TOY, StageError, StageOptions
from .render import Render


class Judge(Protocol):
    def judge(self, prompt: TrainingRecord, after: bytes) -> Judged | None:
        """The scores of an edited image, a PNG file; None for no answer. Called by several threads at once."""


class ExactJudge:
    """The toy world's scorer, on the published scales."""

    def judge(self, prompt: TrainingRecord, after: bytes) -> Judged | None:
        answers = exact_answers(prompt.request.task, pixels_of(after))
        return Judged(*(float(answers[name]) for name in Judged._fields))


class ModelJudge:
    """A model behind OpenAI's interface, asked the published questions."""

    def __init__(self, options: StageOptions, folder: Path) -> None:
        key = os.environ.get("OPENAI_API_KEY", "")
        provider = providers.OpenAIJudge(options.judge_model, options.judge, key, options.judge_timeout)
        self.asked, self.published = asking.Judge(provider, asking.Replies(folder)), options.published

    def judge(self, prompt: TrainingRecord, after: bytes) -> Judged | None:
        before = np.asarray(prompt.opened(), np.float32) / 255
        images = [torch.from_numpy(image)[None] for image in (before, pixels_of(after).astype(np.float32) / 255)]
        questions = build_questions(
            *images, prompt.instruction, None, referring=prompt.referring, spec=self.asked.provider.spec,
            most_pixels=self.asked.most_pixels,
        )  # fmt: skip
        found: dict[str, float | None] = {}
        for question in questions:
            if question.name not in Judged._fields:
                continue
            try:
                reply = self.asked.answer(question).text
            except providers.Refused:  # this question; the others may do
                continue
            except providers.Busy:  # the judge, which would keep the others waiting as long
                return None
            found[question.name] = judge_score(reply, question.name, published=self.published)
        return Judged(*(found.get(name) for name in Judged._fields))


class RenderedWorld:
    """Renders what plans say, and has it judged. in_turns: all images first, then ComfyUI frees its memory."""

    def __init__(self, render: Render, judge: Judge, workers: int = 8, in_turns: bool = False) -> None:
        self.render, self.judge, self.in_turns = render, judge, in_turns
        self._pool = ThreadPoolExecutor(workers, "judge")

    async def judged(self, prompts: Sequence[TrainingRecord], texts: Sequence[str]) -> list[Judged | None]:
        pairs = list(zip(prompts, texts, strict=True))
        if not self.in_turns:
            return await asyncio.gather(*(self._both(prompt, text) for prompt, text in pairs))
        images = await asyncio.gather(*(self.image(prompt, text) for prompt, text in pairs))
        await asyncio.to_thread(self.render.free)
        return await asyncio.gather(
            *(self._judge(prompt, image) for prompt, image in zip(prompts, images, strict=True))
        )

    async def image(self, prompt: TrainingRecord, text: str) -> bytes | None:
        """The edited image as a PNG file; None for a reply without a plan and where it cannot be made."""
        before = await asyncio.to_thread(prompt.opened)
        plan = plan_of(prompt, text, before.size)
        if plan is None:
            return None
        file = io.BytesIO()
        before.save(file, "PNG")
        return await self.render.render(file.getvalue(), plan_to_json(plan), prompt.instruction, prompt.number)

    async def _both(self, prompt: TrainingRecord, text: str) -> Judged | None:
        return await self._judge(prompt, await self.image(prompt, text))

    async def _judge(self, prompt: TrainingRecord, image: bytes | None) -> Judged | None:
        if image is None:
            return None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self.judge.judge, prompt, image)
        except providers.JudgeError as error:
            raise StageError(f"{error}; mend that, and the same command goes on from the last checkpoint") from None


def world_of(options: StageOptions, out: Path, seed: int, say=print) -> RenderedWorld:
    """What the options say. Raises StageError for servers, a workflow or a judge that cannot be used."""
    if options.judge == EXACT:
        if options.records != TOY:
            raise StageError(
                f"--judge exact measures the toy world's images alone, and --records is {options.records}; give the "
                "address of an OpenAI-compatible server"
            )
        judge: Judge = ExactJudge()
    else:
        if not options.judge_model:
            raise StageError(f"no --judge_model: give the name that the server at {options.judge} has for the judge")
        judge = ModelJudge(options, out / "judge")
    render = Render.of(
        options.comfyui, workflow_file(options, out), options.render_timeout, options.patience, seed, say
    )  # fmt: skip
    render.check()
    return RenderedWorld(render, judge, options.workers, options.in_turns)


def workflow_file(options: StageOptions, out: Path) -> Path:
    """What edits: the file of --workflow, or the toy editor's, written to `out`."""
    if options.workflow != TOY:
        return Path(options.workflow)
    file = out / "toy_edit_api.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(workflow("plan", options.render_steps), indent=1), encoding="utf-8")
    return file


def plan_of(prompt: TrainingRecord, text: str, size: tuple[int, int]):
    """The plan of a reply in pixels of the image, as RePlan Planner reads it; None for a reply without one."""
    try:
        return read_plan(text, size, "seen_pixels", tuple(prompt.counts_in), by_model=True)[0]
    except PlanError:
        return None


def pixels_of(file: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"))
