"""Words that single one object of a scene out: by its looks, its place or size among others, or by what one knows.

Texts are made of pieces; a piece may be about an object, so that whoever teaches a planner knows where to look when it
writes that piece. "The second square from the left" needs a reason before it is found; it comes along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .drawing import SHAPES
from .edits import Reference
from .requests import CLEAR, WHICH
from .scenes import Object, Scene

ORDINALS = ("first", "second", "third", "fourth", "fifth")
# From where one counts: which edge of a box (x1, y1, x2, y2), and whether the largest comes first.
FROM: Mapping[str, tuple[int, bool]] = {"left": (0, False), "right": (2, True), "top": (1, False), "bottom": (3, True)}
GAP = 6  # pixels between neighbours in an order, at least
# Where one object lies from another: which coordinate of the centre, and its sign.
BESIDE: Mapping[str, tuple[int, int]] = {
    "to the left of": (0, -1), "to the right of": (0, 1), "above": (1, -1), "below": (1, 1),
}  # fmt: skip
APART = 10  # pixels between centres from which one lies clearly beside another
PLACES = (("top left", "top", "top right"), ("left", "middle", "right"), ("bottom left", "bottom", "bottom right"))
SYNONYMS = {"largest": ("largest", "biggest"), "topmost": ("topmost", "highest")}

# What one knows of colours and shapes, in words that stand behind "in" and "into".
KNOWN_COLOURS: Mapping[str, tuple[str, ...]] = {
    "red": ("the traffic-light colour for stop", "the colour of a ripe tomato", "the colour of blood"),
    "green": ("the traffic-light colour for go", "the colour of grass", "the colour of a frog"),
    "blue": ("the colour of a clear sky", "the colour of the sea"),
    "yellow": ("the colour of a lemon", "the colour of a banana", "the colour of the sun"),
    "orange": ("the colour of a carrot", "the colour of a pumpkin"),
    "purple": ("the colour of a plum", "the colour of lavender"),
    "pink": ("the colour of a flamingo", "the colour of a pig"),
    "white": ("the colour of snow", "the colour of milk"),
}
KNOWN_SHAPES: Mapping[str, tuple[str, ...]] = {
    "circle": ("the shape of a wheel", "the shape of a coin"),
    "ring": ("the shape of a doughnut", "the shape with a round hole"),
    "square": ("the shape of a box", "the shape of a dice"),
    "triangle": ("the shape with three sides", "the shape of a slice of pizza"),
    "diamond": ("the shape of a kite", "the shape of a gem"),
    "star": ("the shape that shines at night", "the shape of a sheriff badge"),
    "cross": ("the shape of a plus sign", "the shape on an ambulance"),
}
FORMS = (
    "the {group} from the {side}: ", "the {words} is {thing}", "{known} is {value}. ", "object in {known}",
    "at the {place}", "in the {place}",
)  # fmt: skip


class Piece(NamedTuple):
    """A part of a text. about: the id of the object that it speaks of. image: in which of several images."""

    text: str
    about: int | None = None
    image: int = 0


Pieces = tuple[Piece, ...]


def joined(pieces: Iterable[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def plain(text: str) -> Pieces:
    return (Piece(text),)


class Named(NamedTuple):
    """words: behind "the", such as "second square from the left". reason: how it is found, "" for what is seen."""

    words: str
    reason: Pieces = ()


def plural(reference: Reference) -> str:
    words = reference.words
    return f"{words}es" if words.endswith("s") else f"{words}s"


def place(scene: Scene, identity: int) -> str:
    """Which ninth of the image the middle of an object's box lies in, in words."""
    x1, y1, x2, y2 = scene.box(identity)
    column, row = (min(2, int(3 * (low + high) / 2 / scene.size)) for low, high in ((x1, x2), (y1, y2)))
    word = PLACES[row][column]
    return f"in the {word}" if word == "middle" else f"at the {word}"


def shown(scene: Scene, identity: int, article: str = "the", image: int = 0) -> Piece:
    """An object by its looks and place: "the red circle at the top left"."""
    thing = scene.object(identity)
    words = f"{thing.colour} {thing.shape} {place(scene, identity)}"
    article = "an" if article == "a" and words[0] in "aeiou" else article
    return Piece(f"{article} {words}", identity, image)


def edges(box: Sequence[int], identity: int) -> Pieces:
    """Numbers in brackets, each about that object."""
    numbers = [Piece(f"{', ' if index else '['}{edge}", identity) for index, edge in enumerate(box)]
    return (*numbers, Piece("]"))


def box(scene: Scene, identity: int) -> Pieces:
    return edges(scene.box(identity), identity)


def listed(scene: Scene, reference: Reference, alike: Sequence[Object], side: str = "left") -> Pieces:
    """A group in order, by the edge that decides: "the squares from the left: [12, 57]. "."""
    edge, _ = FROM[side]
    numbers = [Piece(f"{', ' if n else '['}{scene.box(one.id)[edge]}", one.id) for n, one in enumerate(alike)]
    return (Piece(f"the {plural(reference)} from the {side}: "), *numbers, Piece("]. "))


def in_order(scene: Scene, reference: Reference, side: str = "left") -> list[Object]:
    """The objects that a reference names, in the order from a side of the image."""
    edge, largest_first = FROM[side]
    sign = -1 if largest_first else 1
    alike = [thing for thing in scene.objects if reference.names(thing)]
    return sorted(alike, key=lambda thing: (sign * scene.box(thing.id)[edge], thing.id))


# ---- ways to name ----------------------------------------------------------------------------------------------------


def _by_looks(scene: Scene, thing: Object, reference: Reference, random: np.random.RandomState) -> Named | None:
    return Named(reference.words) if _alone(scene, reference) else None


def _by_extreme(scene: Scene, thing: Object, reference: Reference, random: np.random.RandomState) -> Named | None:
    alike = [other for other in scene.objects if reference.names(other)]
    fitting = []
    for word, value in WHICH.items():
        if reference.shape is None and word in ("largest", "smallest"):
            continue  # of different shapes the eye cannot tell
        first, *rest = sorted(value(scene, other) for other in alike)
        far = CLEAR * (thing.radius if word in ("largest", "smallest") else scene.size)
        if rest and value(scene, thing) == first and rest[0] - first >= far:
            fitting.append(word)
    if not fitting:
        return None
    word = _one_of(random, fitting)
    return Named(f"{_one_of(random, SYNONYMS.get(word, (word,)))} {reference.words}")


def _by_order(scene: Scene, thing: Object, reference: Reference, random: np.random.RandomState) -> Named | None:
    side = _one_of(random, tuple(FROM))
    alike = in_order(scene, reference, side)
    found = [scene.box(one.id)[FROM[side][0]] for one in alike]
    if not 2 <= len(alike) <= len(ORDINALS) or min(np.abs(np.diff(found))) < GAP:
        return None
    number = alike.index(thing)
    return Named(f"{ORDINALS[number]} {reference.words} from the {side}", listed(scene, reference, alike, side))


def _by_neighbour(scene: Scene, thing: Object, reference: Reference, random: np.random.RandomState) -> Named | None:
    alike = [other for other in scene.objects if reference.names(other)]
    anchors = [one for one in scene.objects if one not in alike and _alone(scene, _full(one))]
    if len(alike) < 2 or not anchors:
        return None
    anchor, word = _one_of(random, anchors), _one_of(random, tuple(BESIDE))
    axis, sign = BESIDE[word]
    ahead = {other.id: sign * (_middle(scene, other)[axis] - _middle(scene, anchor)[axis]) for other in alike}
    clear = ahead.pop(thing.id) >= APART and max(ahead.values()) <= -APART
    if not clear:
        return None
    return Named(f"{reference.words} {word} the {_full(anchor).words}", (shown(scene, anchor.id), Piece(". ")))


def _by_knowledge(scene: Scene, thing: Object, reference: Reference, random: np.random.RandomState) -> Named | None:
    asked = Reference(colour=thing.colour) if random.randint(2) else Reference(shape=thing.shape)
    if not _alone(scene, asked):
        return None
    known = KNOWN_COLOURS[asked.colour] if asked.colour else KNOWN_SHAPES[asked.shape]
    words, value = _one_of(random, known), asked.colour or f"a {asked.shape}"
    return Named(f"object in {words}", plain(f"{words} is {value}. "))


_WAYS: tuple[Callable[[Scene, Object, Reference, np.random.RandomState], Named | None], ...] = (
    _by_looks, _by_extreme, _by_order, _by_order, _by_neighbour, _by_knowledge,
)  # fmt: skip


def name(scene: Scene, thing: Object, random: np.random.RandomState, say: str = "any") -> Named | None:
    """Words that name this object alone, in a way drawn at random; None where the way that was drawn does not fit.

    say: "any", or the one thing that the words may say of it: "shape" or "colour".
    """
    references = (_full(thing), Reference(shape=thing.shape), Reference(colour=thing.colour))
    reference = references[{"any": int(random.randint(3)), "shape": 1, "colour": 2}[say]]
    ways = _WAYS if say == "any" else _WAYS[:-2]
    return ways[random.randint(len(ways))](scene, thing, reference, random)


def _full(thing: Object) -> Reference:
    return Reference(thing.shape, thing.colour)


def _alone(scene: Scene, reference: Reference) -> bool:
    return sum(reference.names(other) for other in scene.objects) == 1


def _middle(scene: Scene, thing: Object) -> tuple[float, float]:
    x1, y1, x2, y2 = scene.box(thing.id)
    return (x1 + x2) / 2, (y1 + y2) / 2


def _one_of(random: np.random.RandomState, values: Sequence):
    return values[int(random.randint(len(values)))]


def texts() -> list[str]:
    """Every text that the words come from, for a tokenizer."""
    known = [text for table in (KNOWN_COLOURS, KNOWN_SHAPES) for texts in table.values() for text in texts]
    synonyms = [word for words in SYNONYMS.values() for word in words]
    plurals = [plural(Reference(shape=shape)) for shape in SHAPES] + [plural(Reference(colour="red"))]
    return [*ORDINALS, *FROM, *BESIDE, *(word for row in PLACES for word in row), *synonyms, *known, *plurals, *FORMS]
