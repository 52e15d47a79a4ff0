"""The reward functions that TRL calls: stage 1 by the form of a reply, stage 2 by its image. Routed by `task_name`.

A function gives None for a record of another task, and TRL takes what the others give. A reply whose image could not be
made or judged has no reward at all: TRL leaves it out of its group's mean and spread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
from replan.tools.toyworld.scenes import random_state
from replan.tools.training.data import TrainingRecord
from replan.tools.training.rewards import (
    TASKS,
    Judged,
    Reward,
    planning_reward,
    reply_text,
    stage1_reward,
)

from .options import StageError, StageOptions

MOST = 4096  # replies whose form, and images whose scores, are kept


class World(Protocol):
    """Stage 2: what becomes of plans."""

    async def judged(self, prompts: Sequence[TrainingRecord], texts: Sequence[str]) -> list[Judged | None]:
        """The scores of each reply's edit, None where there is no image or no judge's word on it."""


class StageRewards:
    """What the replies of a stage earn.

    functions: TRL's reward functions, `form` and `image` as far as the prompts' tasks need them. form(number, text):
    the stage-1 `Reward` of a reply to the prompt of that number. Raises StageError for a task without a reward,
    and for plans to render without a world.
    """

    def __init__(self, prompts: Sequence[TrainingRecord], options: StageOptions, world: World | None = None) -> None:
        self.prompts = {one.number: one for one in prompts}
        self.options, self.world = options, world
        self.form = lru_cache(MOST)(self._form)  # the functions of a step, and equal replies of a group, share it
        self._judged: dict[tuple[int, str], Judged] = {}
        names = {one.task_name for one in prompts}
        if unknown := sorted(names - set(TASKS)):
            raise StageError(f"--task {unknown[0]} has no reward; choose from {', '.join(TASKS)}")
        rendered = {name for name in names if TASKS[name].is_rendered}
        if rendered and world is None:
            raise StageError(f"plans of the task {min(rendered)} are rendered: --comfyui URL,.. says where")
        self.functions: list[Callable] = []
        if names - rendered:
            self.functions.append(self._function(False))
        if rendered:
            self.functions.append(self._function(True))
        logging.getLogger("trl.trainer.grpo_trainer").addFilter(_without_record)

    def _form(self, number: int, text: str) -> Reward:
        one = self.prompts[number].reward_input(text)
        return stage1_reward(one, published=self.options.published, think_length=self.options.think_length)

    async def of(self, numbers: Sequence[int], texts: Sequence[str]) -> list[Reward]:
        """The reward of each reply to the prompt of that number. What renders is rendered once, however often said."""
        forms = [self.form(number, text) for number, text in zip(numbers, texts, strict=True)]
        keys = list(zip(numbers, texts, strict=True))
        staged = [TASKS[self.prompts[number].task_name].is_rendered for number in numbers]
        wanted = [key for key, form, stage2 in zip(keys, forms, staged, strict=True) if stage2 and form.renders]
        fresh = [key for key in dict.fromkeys(wanted) if key not in self._judged]
        if fresh:
            found = await self.world.judged([self.prompts[number] for number, _ in fresh], [text for _, text in fresh])
            self._judged.update((key, one) for key, one in zip(fresh, found, strict=True) if one is not None)
        how = {"sharp": self.options.sharp, "published": self.options.published}
        rewards = [
            planning_reward(form, self._judged.get(key), **how) if stage2 else form
            for key, form, stage2 in zip(keys, forms, staged, strict=True)
        ]
        while len(self._judged) > MOST:
            del self._judged[next(iter(self._judged))]
        return rewards

    def _function(self, rendered: bool) -> Callable:
        """A reward function of TRL's for the tasks whose plans are rendered, or for the others."""

        async def reward(completions, number, task_name, trainer_state=None, log_metric=None, **_) -> list:
            places = [place for place, name in enumerate(task_name) if TASKS[name].is_rendered == rendered]
            texts = [reply_text(completions[place]) for place in places]
            rewards = await self.of([number[place] for place in places], texts)
            for name, value in means(rewards).items():
                log_metric(name, value)
            totals = [one.total for one in rewards]
            if self.options.shuffled:
                step = trainer_state.global_step if trainer_state else 0
                order = random_state(step, f"shuffled {step}").permutation(len(totals))
                totals = [totals[place] for place in order]
            given: list[float | None] = [None] * len(completions)
            for place, total in zip(places, totals, strict=True):
                given[place] = total
            return given

        reward.__name__ = "image" if rendered else "form"
        return reward


def means(rewards: Sequence[Reward]) -> dict[str, float]:
    """For a log: the mean of each part among the replies that have it, the shares rendered and left out."""
    if not rewards:
        return {}
    names = sorted({name for one in rewards for name in one.parts})
    found = {name: float(np.mean([one.parts[name] for one in rewards if name in one.parts])) for name in names}
    found["renders"] = float(np.mean([one.renders for one in rewards]))
    found["excluded"] = float(np.mean([one.total is None for one in rewards]))
    return found


def _without_record(record: logging.LogRecord) -> bool:
    """Drops TRL's warning of a reply without a reward, which shows the whole record and its image.

    `excluded` counts such replies.
    """
    return not str(record.msg).startswith("All reward functions returned None")
