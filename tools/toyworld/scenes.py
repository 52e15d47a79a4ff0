"""What a toy scene is, and the generator: a seed gives a scene, and training never sees a held-out one.

A `Scene` is a value (background and objects, each with an id that edits keep); `Scene.painting` draws it. Seeds
below 2**31 are for training, those above for tests and benchmarks; `training_scene` and `held_out_scene` refuse
each other's. Random numbers come from numpy's RandomState, whose streams numpy has frozen for good.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .drawing import COLOURS, PATTERNS, SHAPES, TEXTURES, UNIT, Drawn, Painting, area, paint, texture

SIZE = 128  # pixels along a side
MOST = 9  # objects in a scene
TRAINING_SEEDS = range(0, 2**31)
HELD_OUT_SEEDS = range(2**31, 2**32)
LEAST_SHOWN = 0.75  # of an object's own area: none is hidden by another
CLOSEST = 0.9  # centres are at least so many times the sum of two radii apart

# Muted, of middle brightness: every colour of an object stands out.
_TONES = ((120, 120, 128), (135, 118, 100), (105, 125, 112), (112, 118, 145), (140, 125, 130), (98, 108, 112))
_STRIPED = 0.15  # of the objects


class SceneError(ValueError):
    """A scene that cannot be: a size the codec cannot take, too many objects, a seed of the other range."""


@dataclass(frozen=True)
class Object:
    """One object. `id` is its name through all edits of its scene; place and radius in units of 1/8 pixel."""

    id: int
    shape: str
    colour: str
    pattern: str
    centre: tuple[int, int]
    radius: int
    angle: int

    @property
    def drawn(self) -> Drawn:
        return Drawn(self.shape, self.colour, self.pattern, self.centre, self.radius, self.angle)

    def looks_like(self, other: Object) -> bool:
        """Whether words of shape and colour name both."""
        return (self.shape, self.colour) == (other.shape, other.colour)


@dataclass(frozen=True)
class Background:
    """A soft texture; its tones and directions follow from its seed."""

    kind: str
    seed: int

    def pixels(self, size: int) -> np.ndarray:
        """(size, size, 3) uint8, to be read only: it is shared."""
        return _background(self.kind, self.seed, size)


@functools.lru_cache(maxsize=16)  # a scene and its edits have the same one
def _background(kind: str, seed: int, size: int) -> np.ndarray:
    random = random_state(seed, "background")
    tone = np.array(_TONES[random.randint(len(_TONES))])
    step = int(random.randint(9, 17))
    pixels = texture(kind, size, (tuple(tone - step), tuple(tone + step)), random)
    pixels.flags.writeable = False
    return pixels


@dataclass(frozen=True)
class Scene:
    """An image as a value. size: pixels along a side, a multiple of 16. objects: the first lies at the bottom."""

    seed: int
    size: int
    background: Background
    objects: tuple[Object, ...]

    def __post_init__(self) -> None:
        checked_size(self.size)
        if len(set(self.ids)) != len(self.objects):
            raise SceneError(f"two objects of a scene share an id: {list(self.ids)}")

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(thing.id for thing in self.objects)

    @functools.cached_property
    def painting(self) -> Painting:
        """The pixels, and how much of each pixel every object shows, in the order of `objects`."""
        painting = paint(self.background.pixels(self.size), (thing.drawn for thing in self.objects))
        for array in painting:
            array.flags.writeable = False
        return painting

    @property
    def pixels(self) -> np.ndarray:
        """(size, size, 3) uint8."""
        return self.painting.pixels

    def object(self, identity: int) -> Object:
        """The object with this id. Raises KeyError when it has been removed."""
        return self.objects[self._index(identity)]

    def shown(self, identity: int) -> np.ndarray:
        """How much of each pixel an object shows, (size, size) uint8, 0..16."""
        return self.painting.shown[self._index(identity)]

    def mask(self, identity: int) -> np.ndarray:
        """The pixels an object shows in, even by a sixteenth: (size, size) bool."""
        return self.shown(identity) > 0

    def box(self, identity: int) -> tuple[int, int, int, int]:
        """The smallest box around an object's mask: (x1, y1, x2, y2) in pixels, the last two exclusive."""
        mask = self.mask(identity)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    def lookalikes(self, identity: int) -> tuple[int, ...]:
        """The other objects of the same shape and colour."""
        meant = self.object(identity)
        return tuple(other.id for other in self.objects if other.id != identity and other.looks_like(meant))

    def with_objects(self, objects: Iterable[Object]) -> Scene:
        """The same scene with other objects."""
        return replace(self, objects=tuple(objects))

    def _index(self, identity: int) -> int:
        if identity not in self.ids:
            raise KeyError(f"scene {self.seed} has no object {identity}; it has {list(self.ids)}")
        return self.ids.index(identity)


def checked_size(size: int) -> int:
    """Return `size`, or raise SceneError: the editor sees patches of 16 pixels, and small scenes hold few objects."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 64 or size % 16:
        raise SceneError(f"a scene's size is a multiple of 16 of at least 64 pixels, found {size!r}")
    return size


def random_state(seed: int, purpose: str) -> np.random.RandomState:
    """Random numbers of a seed for one purpose: drawing more for one leaves the others as they were."""
    return np.random.RandomState([seed & 0xFFFFFFFF, zlib.crc32(purpose.encode())])


def training_scene(seed: int, size: int = SIZE, count: int | None = None) -> Scene:
    """A scene to train on. `count`: how many objects (default: drawn from 2..9). Refuses a held-out seed."""
    if seed not in TRAINING_SEEDS:
        raise SceneError(f"the seed {seed} is not one for training; those are {_range_text(TRAINING_SEEDS)}")
    return _scene(seed, size, count, None)


def held_out_scene(seed: int, size: int = SIZE, count: int | None = None, twins: int | None = None) -> Scene:
    """A scene to test on. `count` as above; `twins`: how many look-alikes object 0 has. Refuses a training seed."""
    if seed not in HELD_OUT_SEEDS:
        raise SceneError(
            f"the seed {seed} is not a held-out one; those are {_range_text(HELD_OUT_SEEDS)} (held_out_seed gives one)"
        )
    return _scene(seed, size, count, twins)


def held_out_seed(run: int, index: int) -> int:
    """The seed of scene `index` of a run with any whole number as its seed: always a held-out one."""
    return HELD_OUT_SEEDS[random_state(run, f"run {run}, scene {index}").randint(len(HELD_OUT_SEEDS))]


def _range_text(seeds: range) -> str:
    return f"{seeds.start} to {seeds.stop - 1}"


def _scene(seed: int, size: int, count: int | None, twins: int | None) -> Scene:
    checked_size(size)
    random = random_state(seed, "scene")
    drawn_count, drawn_twins = int(random.randint(2, MOST + 1)), int(random.choice((0, 0, 1, 1, 2, 3)))
    count = drawn_count if count is None else count
    if not 1 <= count <= MOST:
        raise SceneError(f"a scene has 1 to {MOST} objects, not {count}")
    twins = min(drawn_twins, count - 1) if twins is None else twins
    if not 0 <= twins < count:
        raise SceneError(f"{count} objects cannot hold {twins} look-alikes of one of them")
    background = Background(str(random.choice(TEXTURES)), int(random.randint(2**31)))
    kinds = _kinds(random, count, twins)
    share = 1.0
    while True:
        places = _places(random, size, [colour for _, colour in kinds], share)
        if places is not None:
            things = tuple(
                Object(index, shape, colour, _pattern(random), centre, radius, int(random.randint(-12, 13)))
                for index, ((shape, colour), (centre, radius)) in enumerate(zip(kinds, places, strict=True))
            )
            order = random.permutation(count)
            scene = Scene(seed, size, background, tuple(things[index] for index in order))
            if _all_shown(scene):
                return scene
        share *= 0.97  # a crowded scene takes smaller objects


def _kinds(random: np.random.RandomState, count: int, twins: int) -> list[tuple[str, str]]:
    """Shape and colour of each object: object 0, its look-alikes, then others, half of them like it in one way.

    Those make the words count: "the red circle" is neither every circle nor everything red.
    """
    shapes, colours = list(SHAPES), list(COLOURS)
    first = (str(random.choice(shapes)), str(random.choice(colours)))
    kinds = [first] * (1 + twins)
    while len(kinds) < count:
        kind = (str(random.choice(shapes)), str(random.choice(colours)))
        like = random.randint(4)
        kind = (first[0], kind[1]) if like == 0 else (kind[0], first[1]) if like == 1 else kind
        if kind != first:
            kinds.append(kind)
    return kinds


def _pattern(random: np.random.RandomState) -> str:
    return PATTERNS[int(random.random_sample() < _STRIPED)]


def _places(
    random: np.random.RandomState, size: int, colours: Sequence[str], share: float
) -> list[tuple[tuple[int, int], int]] | None:
    """Centre and radius of each object, or None when they do not fit. Objects of one colour never touch."""
    low, high = size * UNIT * 0.085 * share, size * UNIT * 0.155 * share
    places: list[tuple[tuple[int, int], int]] = []
    for index, colour in enumerate(colours):
        for _ in range(60):
            radius = int(random.randint(int(low), int(high) + 1))
            edge = radius + UNIT
            x, y = (int(v) for v in random.randint(edge, size * UNIT - edge, 2))
            if all(
                (x - cx) ** 2 + (y - cy) ** 2 >= _apart(radius + other, colour == colours[k]) ** 2
                for k, ((cx, cy), other) in enumerate(places)
            ):
                places.append(((x, y), radius))
                break
        if len(places) <= index:
            return None
    return places


def _apart(radii: int, same_colour: bool) -> float:
    return radii + 2 * UNIT if same_colour else radii * CLOSEST


def _all_shown(scene: Scene) -> bool:
    """Whether each object shows enough of itself."""
    for index, thing in enumerate(scene.objects):
        if int(scene.painting.shown[index].sum()) < LEAST_SHOWN * area(thing.drawn, scene.size):
            return False
    return True
