"""Edits of varied quality for measuring alignment scores: rendered ones, kept as files, and exact ones, drawn.

Rendered: the region rules with several noises, and the plain instruction. Drawn from the scene itself: no edit, the
wanted image, what the words alone ask for, and edits that go wrong in one way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from .drawing import COLOURS, SHAPES
from .editing import Editing
from .edits import RECOLOUR, RESHAPE, Instruction
from .methods import METHODS
from .scenes import SIZE, random_state
from .tasks import Task

NOISES = 4  # edits of each scene under the region rules
RULES = tuple(f"replan{noise}" for noise in range(NOISES))
RENDERED = (*RULES, "plain")
DRAWN = ("no_edit", "wanted", "literal", "wrong_object", "wrong_value")


def render(
    editing: Editing, folder: Path, seed: int, scenes: int, say: Callable[[str], None] = print,
    stop: Callable[[], bool] = lambda: False,
) -> int:  # fmt: skip
    """Render what is not in the folder yet, scene by scene; how many scenes are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(scenes):
        for name in RENDERED:
            file = folder / f"{index:04}_{name}.png"
            if file.exists():
                continue
            if stop():
                return index
            method = METHODS["plain" if name == "plain" else "replan"]
            noise = 0 if name == "plain" else RULES.index(name)
            edit = editing.run(method, editing.task(method, seed, index), noise=noise)
            part = file.with_suffix(".part")
            Image.fromarray(edit.pixels).save(part, "PNG")
            part.replace(file)
        say(f"scene {index + 1} of {scenes}")
    return scenes


def rendered(folder: Path, index: int) -> dict[str, np.ndarray] | None:
    """The rendered edits of a scene by name, (size, size, 3) uint8; None when one is missing."""
    files = {name: folder / f"{index:04}_{name}.png" for name in RENDERED}
    if not all(file.is_file() for file in files.values()):
        return None
    return {name: np.asarray(Image.open(file).convert("RGB")) for name, file in files.items()}


def task_of(seed: int, index: int, size: int = SIZE) -> Task:
    """The task of a scene; what `Editing.task` gives for the methods that are rendered."""
    return Editing.task(METHODS["replan"], seed, index, size)


def drawn(task: Task) -> dict[str, np.ndarray]:
    """The exact edits of a scene by name, (size, size, 3) uint8."""
    return {name: scene.pixels for name, scene in _scenes(task)}


def _scenes(task: Task) -> Iterator:
    scene = task.scene
    yield "no_edit", scene
    yield "wanted", task.wanted
    yield "literal", task.literal
    random = random_state(scene.seed, "wrong edits")
    first, instruction = task.instructions[0]
    others = [identity for identity in scene.ids if identity not in task.meant]
    if others:
        yield "wrong_object", instruction.apply(scene, (others[random.randint(len(others))],))
    wrong = _with_wrong_value(instruction, task, random)
    if wrong:
        rest = scene
        for identity, one in task.instructions:
            rest = (wrong if identity == first else one).apply(rest, (identity,))
        yield "wrong_value", rest


def _with_wrong_value(instruction: Instruction, task: Task, random: np.random.RandomState) -> Instruction | None:
    """The same instruction with another new colour or shape; None for other kinds, which have no third value."""
    values = {RECOLOUR: tuple(COLOURS), RESHAPE: SHAPES}.get(instruction.kind)
    if values is None:
        return None
    thing = task.scene.object(task.meant[0])
    free = [value for value in values if value not in (instruction.value, thing.colour, thing.shape)]
    return replace(instruction, value=free[random.randint(len(free))])
