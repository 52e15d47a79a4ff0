"""Edit instructions for toy scenes: their words, which objects they name, and the exact picture they ask for.

An instruction names objects by shape, by colour or by both, and applies to every object it names, whether it says
"the red circle" or "every red circle". What it names is settled on the picture as it is before any edit, as an
editor sees it; several instructions then take effect in order, each on the objects it named. Tasks, in which one of
several objects is meant, are in `tasks.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from replan.planner.plan import KEEP_UNCHANGED

from .drawing import COLOURS, PATTERNS, SHAPES
from .scenes import Object, Scene, SceneError, random_state

RECOLOUR, RESHAPE, REPATTERN, SHRINK, REMOVE, KEEP = "recolour", "reshape", "repattern", "shrink", "remove", "keep"
KINDS = (RECOLOUR, RESHAPE, REPATTERN, SHRINK, REMOVE, KEEP)
SHRUNK = 0.6  # of the radius

# {which}: "the red circle" or "every red circle"; {value}: a colour, a shape or a pattern.
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    RECOLOUR: ("make {which} {value}", "change the colour of {which} to {value}", "paint {which} {value}"),
    RESHAPE: ("turn {which} into a {value}", "replace {which} with a {value}", "change {which} to a {value}"),
    REPATTERN: ("make {which} {value}", "give {which} a {value} pattern", "change the pattern of {which} to {value}"),
    SHRINK: ("make {which} smaller", "shrink {which}"),
    REMOVE: ("remove {which}", "delete {which}", "erase {which}"),
    KEEP: (KEEP_UNCHANGED, "keep the image unchanged", "do not change anything"),
}
_CHOICES: Mapping[str, tuple[str, ...]] = {RECOLOUR: tuple(COLOURS), RESHAPE: SHAPES, REPATTERN: PATTERNS}
_FIELD: Mapping[str, str] = {RECOLOUR: "colour", RESHAPE: "shape", REPATTERN: "pattern"}


@dataclass(frozen=True)
class Reference:
    """Words for objects: a shape, a colour, or both."""

    shape: str | None = None
    colour: str | None = None

    def __post_init__(self) -> None:
        if self.shape is None and self.colour is None:
            raise SceneError("a reference names a shape, a colour or both; found neither")

    @property
    def words(self) -> str:
        return " ".join(word for word in (self.colour, self.shape or "object") if word)

    def names(self, thing: Object) -> bool:
        return self.shape in (None, thing.shape) and self.colour in (None, thing.colour)


@dataclass(frozen=True)
class Instruction:
    """A sentence and what it means.

    kind: of KINDS. reference: what it names (None for KEEP, which names nothing). value: the new colour, shape or
    pattern (empty for the other kinds).
    """

    text: str
    kind: str
    reference: Reference | None = None
    value: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SceneError(f"no edit is called {self.kind!r}; there are {', '.join(KINDS)}")
        if (self.reference is None) != (self.kind == KEEP):
            raise SceneError(f"a {self.kind!r} instruction with the reference {self.reference!r}: only 'keep' has none")
        if self.value not in _CHOICES.get(self.kind, ("",)):
            raise SceneError(
                f"{self.value!r} is nothing to {self.kind} to; choose from {_CHOICES.get(self.kind, ('',))}"
            )

    def named(self, scene: Scene) -> tuple[int, ...]:
        """The ids of the objects it names in a scene, look-alikes included."""
        if self.reference is None:
            return ()
        return tuple(thing.id for thing in scene.objects if self.reference.names(thing))

    def changed(self, thing: Object) -> Object | None:
        """The object after the edit, None when it is removed."""
        if self.kind == REMOVE:
            return None
        if self.kind == SHRINK:
            return replace(thing, radius=int(thing.radius * SHRUNK))
        return thing if self.kind == KEEP else replace(thing, **{_FIELD[self.kind]: self.value})

    def apply(self, scene: Scene, ids: Iterable[int]) -> Scene:
        """The scene with exactly these objects edited; an id that an earlier edit removed is passed over."""
        wanted = set(ids)
        after = [self.changed(thing) if thing.id in wanted else thing for thing in scene.objects]
        return scene.with_objects(thing for thing in after if thing is not None)


def written(kind: str, reference: Reference | None = None, value: str = "", form: int = 0) -> Instruction:
    """An instruction in words. form: chooses the template and, by turns, "the" or "every"; any number >= 0."""
    if kind not in KINDS:
        raise SceneError(f"no edit is called {kind!r}; there are {', '.join(KINDS)}")
    templates = TEMPLATES[kind]
    which = "" if reference is None else f"{('the', 'every')[form // len(templates) % 2]} {reference.words}"
    return Instruction(templates[form % len(templates)].format(which=which, value=value), kind, reference, value)


def edited(scene: Scene, instructions: Sequence[Instruction]) -> Scene:
    """The scene after all instructions: each names objects in `scene` itself, then they take effect in order."""
    after = scene
    for instruction in instructions:
        after = instruction.apply(after, instruction.named(scene))
    return after


def difference(source: Scene, target: Scene) -> np.ndarray:
    """The pixels in which two scenes differ, (size, size) bool."""
    return (source.pixels != target.pixels).any(-1)


def commute(scene: Scene, instructions: Sequence[Instruction]) -> bool:
    """Whether the order of the instructions makes no difference: no object gets the same property twice.

    Flux gives text no position, so a model that sees several texts cannot know their order.
    """
    done: set[tuple[int, str]] = set()
    for instruction in instructions:
        new = {(identity, instruction.kind) for identity in instruction.named(scene)}
        if done & new:
            return False
        done |= new
    return True


def random_instruction(
    scene: Scene, random: np.random.RandomState, kinds: Sequence[str] = KINDS, naming: int | None = None
) -> Instruction:
    """An instruction that changes at least one object of the scene, or KEEP if `kinds` has it and it is drawn.

    naming: the id of an object it names (default: any).
    """
    able = [identity for identity in scene.ids if naming in (None, identity)]
    if not able:
        raise SceneError(f"scene {scene.seed} has no object {'to name' if naming is None else naming}")
    thing = scene.object(able[random.randint(len(able))])
    reference = (
        Reference(thing.shape, thing.colour),
        Reference(shape=thing.shape),
        Reference(colour=thing.colour),
        Reference(thing.shape, thing.colour),  # both words: as often as either one alone
    )[random.randint(4)]
    return about(thing, reference, str(kinds[random.randint(len(kinds))]), random)


def about(thing: Object, reference: Reference, kind: str, random: np.random.RandomState) -> Instruction:
    """An instruction of this kind that changes `thing`."""
    form = int(random.randint(60))
    if kind == KEEP:
        return written(KEEP, form=form)
    values = [""] if kind not in _FIELD else [v for v in _CHOICES[kind] if v != getattr(thing, _FIELD[kind])]
    return written(kind, reference, values[random.randint(len(values))], form)


def random_wording(random: np.random.RandomState) -> Instruction:
    """An instruction of any kind about no scene in particular, for those who only read."""
    kind = KINDS[random.randint(len(KINDS))]
    shape, colour = (names[random.randint(len(names))] for names in (SHAPES, tuple(COLOURS)))
    named = (Reference(shape, colour), Reference(shape=shape), Reference(colour=colour))[random.randint(3)]
    values = _CHOICES.get(kind, ("",))
    reference = None if kind == KEEP else named
    return written(kind, reference, values[random.randint(len(values))], int(random.randint(60)))


def random_program(
    scene: Scene, seed: int, count: int = 2, keep: float = 0.3, kinds: Sequence[str] = KINDS
) -> tuple[Instruction, ...]:
    """Up to `count` instructions for one training sample, in any order the same picture (`commute`).

    keep: how often each is KEEP (one at most), which the others must not take as a veto. kinds: of the others.
    """
    random = random_state(seed, "program")
    edits = [kind for kind in kinds if kind != KEEP]
    program: tuple[Instruction, ...] = ()
    for _ in range(20 * count):
        kept = any(instruction.kind == KEEP for instruction in program)
        drawn = (KEEP,) if random.random_sample() < keep and not kept else edits
        longer = (*program, random_instruction(scene, random, drawn))
        if commute(scene, longer):
            program = longer
        if len(program) == count:
            break
    return program
