"""Requests that need a look at the image, and the reply a planner should give: data for the toy world's planner.

"Make the leftmost red circle blue" names one of several look-alikes by where it lies or how large it is. The reply is
a plan in RePlan's tags: a box around that one, and a hint in words that the toy editor knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .edits import Instruction, Reference, about
from .scenes import (
    HELD_OUT_SEEDS,
    MOST,
    SIZE,
    TRAINING_SEEDS,
    Object,
    Scene,
    SceneError,
    held_out_scene,
    held_out_seed,
    random_state,
    training_scene,
)
from .tasks import CHANGES, Task

# What singles an object out: the one with the lowest value. Boxes decide, as a person's eye would.
WHICH: dict[str, Callable[[Scene, Object], float]] = {
    "leftmost": lambda scene, thing: scene.box(thing.id)[0],
    "rightmost": lambda scene, thing: -scene.box(thing.id)[2],
    "topmost": lambda scene, thing: scene.box(thing.id)[1],
    "lowest": lambda scene, thing: -scene.box(thing.id)[3],
    "largest": lambda scene, thing: -thing.radius,
    "smallest": lambda scene, thing: thing.radius,
}
CLEAR = 0.12  # of the scene's side, or of the radius: how far the next one is behind


class Request(NamedTuple):
    """text: what the user asks. task: the scene, and which objects are meant with which instruction of the editor."""

    text: str
    task: Task

    @property
    def reply(self) -> str:
        """The plan in the tags that the pack's own templates ask for."""
        plan = self.task.plan
        items = [{"bbox_2d": [round(edge) for edge in region.box], "hint": region.hint} for region in plan.regions]
        return f"<gen_image>{plan.global_prompt}</gen_image><region>{json.dumps(items)}</region>"


def training_requests(run: int, number: int, count: int, size: int = SIZE) -> list[Request]:
    """`count` requests about scene `number` of a training run: always the same ones."""
    random = random_state(run, f"run {run}, requests {number}")
    while True:
        scene = training_scene(int(random.randint(len(TRAINING_SEEDS))), size)
        requests = [one for one in (request(scene, random) for _ in range(3 * count)) if one]
        if len(requests) >= count:
            return requests[:count]


def held_out_request(seed: int, size: int = SIZE) -> Request:
    """The request of a held-out seed; its scene has a look-alike of object 0."""
    if seed not in HELD_OUT_SEEDS:
        raise SceneError(f"the seed {seed} is not a held-out one (held_out_seed gives one)")
    random = random_state(seed, "request")
    while True:
        found = request(held_out_scene(seed, size, count=int(random.randint(3, MOST + 1)), twins=1), random)
        if found:
            return found


def request(scene: Scene, random: np.random.RandomState, most: int = 2) -> Request | None:
    """A request about one or two objects, or None when this scene has nothing to single out clearly."""
    instructions: list[tuple[int, Instruction]] = []
    texts: list[str] = []
    kinds = [CHANGES[index] for index in random.permutation(len(CHANGES))]
    for identity in random.permutation(list(scene.ids))[: 1 + random.randint(most)]:
        thing = scene.object(int(identity))
        reference = Reference(thing.shape, thing.colour)
        words = _singled_out(scene, thing, reference, random)
        if words is None or thing.id in dict(instructions):
            continue
        instruction = about(thing, reference, kinds[len(instructions)], random)
        instruction = replace(
            instruction, text=instruction.text.replace("every ", "the ")
        )  # a hint is about one object
        instructions.append((thing.id, instruction))
        texts.append(_with(instruction, reference, words))
    return Request(" and ".join(texts), Task(scene, tuple(instructions))) if instructions else None


def _singled_out(scene: Scene, thing: Object, reference: Reference, random: np.random.RandomState) -> str | None:
    """Words that name this object alone: its own, or with its place or size among its look-alikes."""
    alike: Sequence[Object] = [other for other in scene.objects if reference.names(other)]
    if len(alike) == 1:
        return reference.words
    fitting = []
    for word, value in WHICH.items():
        first, second = sorted(value(scene, other) for other in alike)[:2]
        clear = CLEAR * (scene.size if word in ("leftmost", "rightmost", "topmost", "lowest") else thing.radius)
        if value(scene, thing) == first and second - first >= clear:
            fitting.append(word)
    return f"{fitting[random.randint(len(fitting))]} {reference.words}" if fitting else None


def _with(instruction: Instruction, reference: Reference, words: str) -> str:
    """The instruction's sentence with other words for the object."""
    return instruction.text.replace(f"the {reference.words}", f"the {words}", 1)


def held_out_requests(seed: int, count: int, size: int = SIZE) -> list[Request]:
    """Requests that no training saw."""
    return [held_out_request(held_out_seed(seed, index), size) for index in range(count)]
