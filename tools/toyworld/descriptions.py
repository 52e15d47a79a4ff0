"""What a toy scene shows, in words: one line an object, for alignment scores and for what learns to give them."""

from __future__ import annotations

from dataclasses import replace

from .drawing import COLOURS, PATTERNS, SHAPES
from .edits import SHRINK
from .scenes import Object, Scene
from .tasks import Task

NOTHING = "nothing"  # what a region shows whose object is gone
_STRIPED = PATTERNS[1]


def in_words(shape: str, colour: str, pattern: str, small: bool = False) -> str:
    """An object in words: "a small striped red circle"."""
    return " ".join(("a", *(["small"] if small else []), *([_STRIPED] if pattern == _STRIPED else []), colour, shape))


# Every text there is about one object or none.
TEXTS = (
    NOTHING,
    *(
        in_words(shape, colour, pattern, small)
        for small in (False, True)
        for pattern in PATTERNS
        for colour in COLOURS
        for shape in SHAPES
    ),
)


def object_text(thing: Object | None, small: bool = False) -> str:
    """small: whether an edit has shrunk it."""
    return NOTHING if thing is None else in_words(thing.shape, thing.colour, thing.pattern, small)


def scene_text(scene: Scene, small: frozenset[int] = frozenset()) -> str:
    """One line an object, by id. small: ids of those that an edit has shrunk."""
    things = sorted(scene.objects, key=lambda thing: thing.id)
    return "\n".join(object_text(thing, thing.id in small) for thing in things) or NOTHING


def described_plan(task: Task):
    """The task's plan, its regions and its scene described as they should be after the edit."""
    shrunk = frozenset(identity for identity, one in task.instructions if one.kind == SHRINK)
    wanted = task.wanted
    regions = []
    for identity, region in zip(task.meant, task.plan.regions, strict=True):
        thing = wanted.object(identity) if identity in wanted.ids else None
        regions.append(replace(region, extra={"description_after": object_text(thing, identity in shrunk)}))
    return replace(task.plan, regions=tuple(regions), extra={"scene_after": scene_text(wanted, shrunk)})
