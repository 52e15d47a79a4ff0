"""Tasks: held-out scenes in which certain objects are meant, each with an instruction whose words may name others too.

A task says what should come out, what the words alone would ask for, and the plan that tells the two apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from replan.planner.plan import KEEP_UNCHANGED, Region, RegionPlan

from .drawing import PATTERNS
from .edits import KEEP, KINDS, Instruction, Reference, about, edited
from .scenes import MOST, Scene, SceneError, held_out_scene, random_state

CHANGES = tuple(kind for kind in KINDS if kind != KEEP)


@dataclass(frozen=True)
class Task:
    """One question to an editor. instructions: each meant object's id with its own; nothing else is to change."""

    scene: Scene
    instructions: tuple[tuple[int, Instruction], ...]

    def __post_init__(self) -> None:
        for identity, instruction in self.instructions:
            if identity not in instruction.named(self.scene):
                raise SceneError(f"{instruction.text!r} does not name the meant object {identity}")
        if len(set(self.meant)) != len(self.instructions):
            raise SceneError(f"an object is meant twice: {list(self.meant)}")

    @property
    def meant(self) -> tuple[int, ...]:
        return tuple(identity for identity, _ in self.instructions)

    @property
    def others(self) -> tuple[int, ...]:
        """What is named but not meant; empty when every instruction is unambiguous."""
        named = {identity for _, instruction in self.instructions for identity in instruction.named(self.scene)}
        return tuple(identity for identity in self.scene.ids if identity in named.difference(self.meant))

    @property
    def wanted(self) -> Scene:
        """What should come out: each meant object edited, nothing else."""
        after = self.scene
        for identity, instruction in self.instructions:
            after = instruction.apply(after, (identity,))
        return after

    @property
    def literal(self) -> Scene:
        """What the words ask for: everything they name edited."""
        return edited(self.scene, [instruction for _, instruction in self.instructions])

    @property
    def plan(self) -> RegionPlan:
        """A box around each meant object with the same words as its hint, everything else kept."""
        return region_plan(self.scene, {identity: one.text for identity, one in self.instructions}, self.wanted)


def held_out_task(
    seed: int,
    size: int,
    kind: str,
    ambiguous: bool,
    count: int | None = None,
    regions: int = 1,
    near: bool = False,
) -> Task:
    """A task on a held-out scene; all meant objects are called by shape and colour.

    kind: of the edit of object 0, the others take the next kinds in turn. ambiguous: whether object 0 has
    look-alikes, one of which at least is not meant. count: objects (default: drawn, 3..9). regions: how many objects
    are meant; near: those nearest to object 0 rather than any, in a scene of nine.
    """
    if kind not in CHANGES:
        raise SceneError(f"a task asks for a change, one of {', '.join(CHANGES)}; found {kind!r}")
    random = random_state(seed, "task")
    drawn = int(random.randint(3, MOST + 1))
    fewest = MOST if near else regions + ambiguous  # neighbours are near only where it is crowded
    count = max(drawn, fewest) if count is None else count
    if not 1 <= regions <= count - ambiguous:
        raise SceneError(
            f"{regions} regions do not fit a scene of {count} objects, {'one' if ambiguous else 'none'} kept back"
        )
    twins = int(random.randint(1, min(count, 4))) if ambiguous else 0
    scene = held_out_scene(seed, size, count, twins)
    # Look-alikes must be able to change too: stripes are asked of a group that has none, and the other way round.
    group = {0, *scene.lookalikes(0)}
    pattern = PATTERNS[int(random.randint(len(PATTERNS)))]
    scene = scene.with_objects(replace(o, pattern=pattern) if o.id in group else o for o in scene.objects)
    instructions = [(0, _instruction(scene, 0, kind, random))]
    for place, identity in enumerate(_further(scene, regions - 1, ambiguous, near, random), 1):
        instructions.append(
            (identity, _instruction(scene, identity, CHANGES[(CHANGES.index(kind) + place) % len(CHANGES)], random))
        )
    return Task(scene, tuple(instructions))


def _instruction(scene: Scene, identity: int, kind: str, random: np.random.RandomState) -> Instruction:
    thing = scene.object(identity)
    return about(thing, Reference(thing.shape, thing.colour), kind, random)


def _further(scene: Scene, count: int, ambiguous: bool, near: bool, random: np.random.RandomState) -> list[int]:
    """Which objects are meant besides object 0: look-alikes are as welcome as others, but the last one is kept back."""
    kept_back = scene.lookalikes(0)[-1:] if ambiguous else ()
    able = [identity for identity in scene.ids if identity != 0 and identity not in kept_back]
    if not near:
        return [able[index] for index in random.permutation(len(able))[:count]] if count else []
    x, y = scene.object(0).centre

    def distance(identity: int) -> int:
        cx, cy = scene.object(identity).centre
        return (x - cx) ** 2 + (y - cy) ** 2

    return sorted(able, key=distance)[:count]


def region_plan(
    scene: Scene,
    hints: Mapping[int, str],
    after: Scene | None = None,
    global_prompt: str = KEEP_UNCHANGED,
    negative_hints: Mapping[int, str] | None = None,
) -> RegionPlan:
    """A plan for a scene: the box of each object (by id) with its hint. Region ids are o0, o1, ... by object.

    after: what should come out. With it a box also covers the object as it will be: a star that replaces a square
    reaches further. negative_hints: by object; each of these objects has a hint, if only an empty one.
    """
    negative_hints = negative_hints or {}
    if unknown := sorted(set(negative_hints) - set(hints)):
        raise SceneError(f"negative hints for the objects {unknown}, which have no hint; give them '' at least")
    regions = []
    for identity, hint in hints.items():
        boxes = [state.box(identity) for state in (scene, after) if state is not None and identity in state.ids]
        left_top, right_bottom = np.min(boxes, 0)[:2], np.max(boxes, 0)[2:]
        box = tuple(float(edge) for edge in (*left_top, *right_bottom))
        regions.append(Region(f"o{identity}", box, hint, negative_hints.get(identity, "")))
    return RegionPlan((scene.size, scene.size), global_prompt, tuple(regions))
