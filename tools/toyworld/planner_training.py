"""Teaching the toy world's planner: requests with their scenes in, plans out, by the likelihood of the plan's tokens.

What the model reads is what RePlan Planner gives it with a template that holds nothing but the instruction
(`TEMPLATE`): one turn, the picture first. Its own tokenizer knows some five hundred pieces, so the pack's long
templates would cost it more tokens than everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from PIL import Image

from .planner_model import TURN_END
from .planner_requests import Request, held_out_request, training_request
from .scenes import held_out_seed

TEMPLATE = "{{instruction}}"
IGNORED = -100  # a token that the loss leaves out, by torch's convention


def conversation(request: Request, processor) -> str:
    """The text up to the reply, with the picture's mark in it."""
    parts = [{"type": "image"}, {"type": "text", "text": request.text}]
    return processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False)


def batch_of(requests: Sequence[Request], processor) -> dict[str, torch.Tensor]:
    """Model inputs and `labels`: of each conversation only the reply and its end are to be learnt."""
    end = processor.tokenizer.decode([TURN_END])
    texts = [conversation(one, processor) + one.reply + end for one in requests]
    pictures = [Image.fromarray(one.task.scene.pixels) for one in requests]
    inputs = dict(
        processor(
            text=texts, images=pictures, return_tensors="pt", padding=True,
            text_kwargs={"padding_side": "right"}, images_kwargs={"do_resize": False},
        )
    )  # fmt: skip
    replies = [len(processor.tokenizer(one.reply + end)["input_ids"]) for one in requests]
    lengths = inputs["attention_mask"].sum(1)
    places = torch.arange(inputs["input_ids"].shape[1])
    learnt = (places < lengths[:, None]) & (places >= (lengths - torch.tensor(replies))[:, None])
    return {**inputs, "labels": inputs["input_ids"].masked_fill(~learnt, IGNORED)}


def planner_loss(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, float]:
    """Mean cross-entropy of the replies' tokens, and the share of them that would be written."""
    logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits[:, :-1].float()
    labels = batch["labels"][:, 1:]
    learnt = labels != IGNORED
    loss = torch.nn.functional.cross_entropy(logits[learnt], labels[learnt])
    right = logits.detach().argmax(-1)[learnt] == labels[learnt]
    return loss, float(right.float().mean())


def training_batch(run: int, step: int, count: int, size: int, processor) -> dict[str, torch.Tensor]:
    """The batch of a step: the same one whenever it is asked for."""
    first = step * count
    return batch_of([training_request(run, first + index, size) for index in range(count)], processor)


def held_out_requests(seed: int, count: int, size: int) -> list[Request]:
    """Requests that no training saw."""
    return [held_out_request(held_out_seed(seed, index), size) for index in range(count)]
