"""A planner of a few ten thousand parameters that learns a handful of answers by heart in seconds.

Its replies are its own: they come token by token out of the model, by the code that runs large ones. It shows whether a
picture, an instruction and a conversation reach the model and whether its words come back; never how well anything
plans.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from replan.planner.asking.conversation import Planned, PlanRequest
from replan.planner.asking.follow_up import SENTENCES, ask_again
from replan.planner.asking.planning import plan_images
from replan.planner.asking.second_look import cut_around
from replan.planner.asking.templates import (
    Message,
    coordinates_in_words,
    load_template,
    planner_messages,
    second_look_messages,
)
from replan.planner.models import folder
from replan.planner.models.interface import Sampling, VlmSpec
from replan.planner.pictures.images import resize_pixels
from replan.tools.training.planner_model import Sizes, make_model, make_processor, save

SMALL = Sizes(
    width=64,
    layers=2,
    heads=2,
    key_heads=1,
    inner=128,
    vision_width=32,
    vision_layers=2,
    vision_heads=2,
    vision_inner=64,
)
STEPS = 90


class Lesson(NamedTuple):
    """What is asked, what is shown (each (1, H, W, 3)), and the answer to learn."""

    messages: Sequence[Message]
    images: Sequence[torch.Tensor]
    answer: str


def learn(path: Path, lessons: Sequence[Lesson], steps: int = STEPS) -> Path:
    """Write a folder with a model that gives these answers."""
    save(make_model(0, SMALL), make_processor(), path, torch.float32)
    model = folder.load(path, "fp32", "cpu")
    network = model.network.requires_grad_(True)
    batches = [_batch(model, lesson) for lesson in lessons]
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(steps):
            for batch in batches:
                (network(**batch).loss / len(batches)).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return save(network, model.processor, path, torch.float32)


def _batch(model: folder.FolderModel, lesson: Lesson) -> dict[str, torch.Tensor]:
    asked = model.inputs(lesson.messages, lesson.images)
    answer = model.processor.tokenizer(f"{lesson.answer}<|im_end|>", return_tensors="pt")["input_ids"]
    length = asked["input_ids"].shape[1]
    ids = torch.cat([asked["input_ids"], answer], 1)
    labels = ids.clone()
    labels[:, :length] = -100
    types = torch.nn.functional.pad(asked["mm_token_type_ids"], (0, answer.shape[1]))
    seen = {name: value for name, value in asked.items() if name in ("pixel_values", "image_grid_thw")}
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": types,
        "labels": labels,
        **seen,
    }


# ---- what it learns -----------------------------------------------------------------------------------------

# The whole question is the instruction: the small model learns no long prompts.
ASK = load_template("ask", "{{instruction}}")
MOST = 128 * 128  # pixels that it sees
PIXELS = coordinates_in_words("seen_pixels", (128, 128))
LEFT, RIGHT = (16, 32, 56, 96), (72, 32, 112, 96)
# Answers that are not the box itself: they show what happens to a reply.
LOOKED = (32, 48, 80, 112)
MENDING = f"- {SENTENCES['no_plan']}"


def square(box) -> torch.Tensor:
    """A red block on grey, (1, 128, 128, 3)."""
    image = torch.full((1, 128, 128, 3), 0.5)
    image[:, box[1] : box[3], box[0] : box[2]] = torch.tensor([1.0, 0.0, 0.0])
    return image


GREY = torch.full((1, 128, 128, 3), 0.5)


def reply(box, hint="blue", think="a red square", **more) -> str:
    region = json.dumps([{"bbox_2d": list(box), "hint": hint, **more}])
    return (
        f"<think>{think}</think><gen_image>keep remaining part of image unchanged.</gen_image><region>{region}</region>"
    )


def request(instruction="paint it blue", **changes) -> PlanRequest:
    return PlanRequest(instruction, ASK, Sampling(120), most_pixels=MOST)._replace(**changes)


def make_plan(planner, image, asked) -> Planned:
    (planned,) = plan_images(planner, image, asked)
    return planned


def closer(box) -> tuple[torch.Tensor, object]:
    """What a second look at the box shows the model, and where that was cut out."""
    cut = cut_around(tuple(map(float, box)), (128, 128))
    seen = VlmSpec("", 16, MOST, MOST).seen_size(cut.size, MOST)
    return resize_pixels(square(LEFT)[:, cut.top : cut.bottom, cut.left : cut.right], seen), cut


def teach(path: Path) -> Path:
    """Write a folder with a model that finds the red block, left or right, alone or beside another image; that answers
    "no" where there is none, and a plan when it is asked again; that plans for the whole image, and answers a
    question; and that switches its region off."""
    asked, globally, question, off = (
        planner_messages(ASK, instruction, PIXELS)
        for instruction in ("paint it blue", "make it night", "what is it", "not now")
    )
    beside = planner_messages(ASK, "paint it blue", PIXELS, images=2)
    again = ask_again(asked, "no", [SENTENCES["no_plan"]])
    piece, _ = closer(LEFT)
    words = coordinates_in_words("seen_pixels", (piece.shape[2], piece.shape[1]))
    look = second_look_messages(load_template("second_look"), "blue", "paint it blue", words)
    lessons = [
        Lesson(asked, [square(LEFT)], reply(LEFT)),
        Lesson(asked, [square(RIGHT)], reply(RIGHT)),
        Lesson(asked, [GREY], "no"),
        Lesson(again, [GREY], reply(LEFT, "green")),
        Lesson(beside, [square(LEFT), square(RIGHT)], reply(LEFT, "green")),
        Lesson(globally, [square(LEFT)], "<gen_image>night</gen_image><region>[]</region>"),
        Lesson(question, [square(LEFT)], "<answer>a square</answer>"),
        Lesson(off, [square(LEFT)], reply(LEFT, enabled=False)),
        Lesson(look, [piece], json.dumps({"meant": "yes", "bbox_2d": list(LOOKED)})),
    ]
    return learn(path, lessons, 130)
