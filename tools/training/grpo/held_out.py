"""Greedy replies to prompts that are not trained on, and what they are worth."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from replan.tools.toyworld.scoring import plan_figures
from replan.tools.training.data import TrainingRecord
from replan.tools.training.planner_measure import score_reply
from replan.tools.training.rewards.editing import GATE

from .stage_rewards import StageRewards, means

GROUP = 16  # prompts answered at once


class HeldOut(NamedTuple):
    """Prompts with the greedy replies of one moment. figures: `reward`, its parts, `format` and, of the toy world,
    `found` (whole scenes) and `iou`."""

    prompts: Sequence[TrainingRecord]
    replies: Sequence[str]
    figures: dict[str, float]


@torch.no_grad()
def greedy_replies(
    model, processor, prompts: Sequence[TrainingRecord], most_tokens: int, group: int = GROUP
) -> list[str]:
    """What the model writes, always its likeliest token; no chance is used up by it."""
    training, device = model.training, next(model.parameters()).device
    model.eval()
    written: list[str] = []
    side = processor.tokenizer.padding_side
    processor.tokenizer.padding_side = "left"
    try:
        for first in range(0, len(prompts), group):
            some = prompts[first : first + group]
            texts = [
                processor.apply_chat_template(one.messages, add_generation_prompt=True, tokenize=False) for one in some
            ]
            inputs = processor(text=texts, images=[one.opened() for one in some], padding=True, return_tensors="pt").to(
                device
            )
            ids = model.generate(**inputs, max_new_tokens=most_tokens, do_sample=False)
            written += processor.tokenizer.batch_decode(
                ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
            )
    finally:
        processor.tokenizer.padding_side = side
        model.train(training)
    return written


def measured(rewards: StageRewards, prompts: Sequence[TrainingRecord], replies: Sequence[str]) -> HeldOut:
    """What greedy replies are worth; plans of stage 2 are rendered and judged."""
    numbers = [one.number for one in prompts]
    given = asyncio.run(rewards.of(numbers, replies))
    totals = [one.total for one in given if one.total is not None]
    figures = {"reward": float(np.mean(totals)) if totals else 0.0, **means(given)}
    forms = [rewards.form(number, text) for number, text in zip(numbers, replies, strict=True)]
    figures["format"] = float(np.mean([is_valid(form.parts) for form in forms]))
    if all(one.request for one in prompts):
        plans = plan_figures([score_reply(one.request, text) for one, text in zip(prompts, replies, strict=True)])
        figures |= {"found": float(plans["scenes_found"]), "iou": float(plans["mean_iou"])}
    return HeldOut(prompts, replies, {name: round(value, 4) for name, value in figures.items()})


def is_valid(parts) -> bool:
    """Whether a reply has its tags as asked and, in them, a plan that can be carried out."""
    return parts.get("format") == 1.0 and parts.get("region", 1.0) >= GATE
