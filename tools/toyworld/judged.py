"""Edits to judge, good and bad ones, with exact scores: data for the judge in the toy world's planner.

An edit is made of what was asked and of what went wrong: nothing changed, the look-alikes changed too, another object,
another value, half of it, a side effect, a blur. `exact_answers` measures it on the published scales; the reason is
what a judge would say who saw both images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .edits import Reference, about, difference
from .lessons import PLAIN, example
from .naming import Piece, Pieces, plain, shown
from .scenes import (
    HELD_OUT_SEEDS,
    SIZE,
    TRAINING_SEEDS,
    Scene,
    SceneError,
    held_out_scene,
    held_out_seed,
    random_state,
    training_scene,
)
from .scoring import exact_answers
from .tasks import CHANGES, Task

# What becomes of the edit, and how often.
FATES = ("done", "nothing", "lookalikes", "another", "value", "partly", "side effect")
_FATE_SHARES = (0.34, 0.1, 0.14, 0.14, 0.12, 0.04, 0.12)
_FLAWED = 0.5  # of the edits, the share that is not drawn cleanly
_REASONS = {
    5: "no trace of it",
    4: "hardly a trace of it",
    3: "some soft borders",
    2: "plain faults",
    1: "it is broken",
}
_FORMS = (
    "meant is",
    "it changed",
    "it did not change but",
    "it is gone",
    "nothing else changed",
    "changed too",
    "small",
)


@dataclass(frozen=True)
class JudgedEdit:
    """An edit and what it is worth.

    text: the instruction. made: the scene that the edited image was drawn from. after: (size, size, 3) uint8. scores:
    1 to 5 by question.
    """

    task: Task
    text: str
    made: Scene
    after: np.ndarray
    scores: dict[str, int]

    def reply(self, question: str) -> Pieces:
        """The answer to one of the published questions, in its JSON. Image 0 is the original, 1 the edited one."""
        scene, meant = self.task.scene, self.task.meant
        if question == "quality":
            reason = plain(_REASONS[self.scores[question]])
        elif question == "consistency":
            reason = self._others()
        else:
            reason = ()
            for number, identity in enumerate(meant):
                now = self._changed(identity) if question == "target" else self._now(identity)
                reason += (*plain(". meant is " if number else "meant is "), shown(scene, identity), *plain(". "), *now)
        ending = f'", "{question}_score": {self.scores[question]}}}'
        return (Piece('{"reasoning": "'), *reason, Piece(ending))

    def _changed(self, identity: int) -> Pieces:
        """Whether a meant object changed, or which one did instead."""
        if _differs(self.task.scene, self.made, identity):
            return plain("it changed")
        others = [one for one in self.task.scene.ids if _differs(self.task.scene, self.made, one)]
        if others:
            return (*plain("it did not change but "), shown(self.task.scene, others[0]))
        return plain("it did not change")

    def _now(self, identity: int) -> Pieces:
        """What a meant object is in the edited image."""
        if identity not in self.made.ids:
            return plain("it is gone")
        thing = self.made.object(identity)
        smaller = "small " if thing.radius < self.task.scene.object(identity).radius else ""
        words = f"{smaller}{thing.pattern} {thing.colour} {thing.shape}"
        return (*plain("it is "), Piece(f"a {words}", identity, 1))

    def _others(self) -> Pieces:
        """What else changed."""
        others = [one for one in self.task.scene.ids if one not in self.task.meant]
        changed = [one for one in others if _differs(self.task.scene, self.made, one)]
        if changed:
            return (shown(self.task.scene, changed[0]), *plain(" changed too"))
        return plain("nothing else changed")


def _differs(before: Scene, after: Scene, identity: int) -> bool:
    return identity not in after.ids or before.object(identity) != after.object(identity)


def training_judged(run: int, number: int, size: int = SIZE) -> JudgedEdit:
    """Edit `number` of a training run: always the same one."""
    random = random_state(run, f"run {run}, judged {number}")
    return _judged(lambda: training_scene(int(random.randint(len(TRAINING_SEEDS))), size), random)


def held_out_judged(seed: int, size: int = SIZE) -> JudgedEdit:
    """The edit of a held-out seed."""
    if seed not in HELD_OUT_SEEDS:
        raise SceneError(f"the seed {seed} is not a held-out one (held_out_seed gives one)")
    return _judged(lambda: held_out_scene(seed, size, twins=1), random_state(seed, "judged"))


def held_out_judgements(seed: int, count: int, size: int = SIZE) -> list[JudgedEdit]:
    """Edits that no training saw."""
    return [held_out_judged(held_out_seed(seed, index), size) for index in range(count)]


def _judged(scene_of: Callable[[], Scene], random: np.random.RandomState) -> JudgedEdit:
    asked = None
    while asked is None or asked.task is None:
        template = (PLAIN, "edit", "edit", "hypothetical")[random.randint(4)]
        asked = example(scene_of(), template, random)
    task = asked.task
    made = _made(task, FATES[int(random.choice(len(FATES), p=_FATE_SHARES))], random)
    after = made.pixels
    if random.random_sample() < _FLAWED:
        after = _flawed(task.scene, made, random)
    return JudgedEdit(task, asked.text, made, after, exact_answers(task, after))


def _made(task: Task, fate: str, random: np.random.RandomState) -> Scene:
    """The scene that an edit with this fate leads to."""
    scene, instructions = task.scene, dict(task.instructions)
    others = [identity for identity in scene.ids if identity not in task.meant]
    one = task.meant[random.randint(len(task.meant))]
    if fate == "nothing":
        return scene
    if fate == "lookalikes":
        return task.literal
    if fate == "another" and others:
        other = scene.object(others[random.randint(len(others))])
        wrong = about(other, Reference(other.shape, other.colour), instructions[one].kind, random)
        rest = replace(task, instructions=tuple(pair for pair in task.instructions if pair[0] != one)).wanted
        return wrong.apply(rest, (other.id,))
    if fate == "value":
        thing = scene.object(one)
        kind = instructions[one].kind if random.randint(2) else str(CHANGES[random.randint(len(CHANGES))])
        wrong = about(thing, Reference(thing.shape, thing.colour), kind, random)
        return Task(scene, tuple((i, wrong if i == one else edit) for i, edit in task.instructions)).wanted
    if fate == "partly" and len(task.meant) > 1:
        return Task(scene, tuple(pair for pair in task.instructions if pair[0] != one)).wanted
    if fate == "side effect" and others:
        other = scene.object(others[random.randint(len(others))])
        kind = str(CHANGES[random.randint(len(CHANGES))])
        return about(other, Reference(other.shape, other.colour), kind, random).apply(task.wanted, (other.id,))
    return task.wanted


def _flawed(scene: Scene, made: Scene, random: np.random.RandomState) -> np.ndarray:
    """Drawn as a small editor draws: the change not all there, smeared, with noise in some place or everywhere."""
    before, wanted = scene.pixels.astype(np.float32), made.pixels.astype(np.float32)
    after = wanted
    if random.random_sample() < 0.4:
        after = after + (before - after) * random.uniform(0.1, 0.9)
    size = scene.size
    where = np.ones((size, size, 1), np.float32)
    changed = difference(scene, made)
    if random.random_sample() < 0.7 and changed.any():
        rows, columns = np.nonzero(changed)
        where[:] = 0
        where[max(rows.min() - 4, 0) : rows.max() + 5, max(columns.min() - 4, 0) : columns.max() + 5] = 1
    if random.random_sample() < 0.6:
        after = after + where * (_smeared(after, int(random.randint(1, 5))) - after)
    noise = random.standard_normal((size, size, 3)).astype(np.float32)
    if random.random_sample() < 0.5:
        noise = _smeared(noise, 2) * 4
    after = after + where * noise * float(np.exp(random.uniform(0, 4)))
    return np.clip(np.rint(after), 0, 255).astype(np.uint8)


def _smeared(image: np.ndarray, reach: int) -> np.ndarray:
    """The mean over squares of 2 reach + 1 pixels."""
    for axis in (0, 1):
        padded = np.pad(image, [(reach + 1, reach) if n == axis else (0, 0) for n in range(3)], mode="edge")
        total = padded.cumsum(axis, dtype=np.float64)
        width, length = 2 * reach + 1, image.shape[axis]
        total = np.take(total, range(width, width + length), axis) - np.take(total, range(length), axis)
        image = (total / width).astype(np.float32)
    return image


def texts() -> list[str]:
    """Every text that the words come from, for a tokenizer."""
    return [*_REASONS.values(), *_FORMS]
