"""The many ways in which models spell a box, brought to numbers. Knows keys and orders, not pixels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..plan import shown
from .vocabulary import AS_CHOSEN, BOX_ORDERS, CENTRE_SIZE, CORNER_SIZE, EDGES, LISTS, PAIRS, POINTS, X_FIRST, plain

Numbers = tuple[float, ...]
# A sign behind a digit is a dash between two numbers: "10-110".
NUMBER = re.compile(r"(?:(?<!\d)[-+])?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,3})?\s{0,2}%?")
_NAMED_NUMBER = re.compile(r"\b[A-Za-z]\w{0,20}\s{0,4}[:=]")


class Spelled(NamedTuple):
    """A box as it was written.

    numbers: four of them, or two for a point. order: AS_CHOSEN, X_FIRST, Y_FIRST or BOX_2D of the vocabulary. share:
    the numbers are shares of the image, 0..1, whatever else the coordinates are. thousandths: it stands in marks of a
    model that counts in 0..1000; for `auto`. used: the keys of the item that it was taken from.
    """

    numbers: Numbers
    order: str = AS_CHOSEN
    share: bool = False
    thousandths: bool = False
    used: tuple[str, ...] = ()


class Fields:
    """An object by its keys as they are looked up; null counts as no value."""

    def __init__(self, item: Mapping[str, Any]):
        self.item = item
        self.keys: dict[str, str] = {}
        for key, value in item.items():
            if isinstance(key, str) and value is not None:
                word = plain(key)
                # Of keys that are one word, the one with the fewest other signs: "hint", not "hint}".
                if len(key) <= len(self.keys.get(word, key)):
                    self.keys[word] = key

    def key(self, words: Mapping[str, int], among: type | tuple[type, ...] = object) -> str | None:
        """The key that comes first in a line of the vocabulary and whose value is of such a type."""
        found = [word for word in self.keys if word in words and isinstance(self.item[self.keys[word]], among)]
        return self.keys[min(found, key=words.__getitem__)] if found else None

    def under(self, table: Mapping[str, str]) -> dict[str, str]:
        """The key for each meaning that a table of the vocabulary gives to keys of this object."""
        return {table[word]: key for word, key in reversed(self.keys.items()) if word in table}


def boxes_of(fields: Fields) -> tuple[list[Spelled], str]:
    """The boxes of an item (several for one hint are several), or none and what is wrong ("" if there is no box)."""
    problem, point = "", []
    for word, key in fields.keys.items():
        value = fields.item[key]
        if word in BOX_ORDERS and not _holds_items(value):
            found, wrong = _from_value(value, BOX_ORDERS[word])
            found = [box._replace(used=(key,)) for box in found]
            if found and len(found[0].numbers) == 4:
                return found, ""
            point = point or found
            problem = problem or ("" if word in LISTS else wrong)
    edges = _from_edges(fields)
    if edges and len(edges.numbers) == 4:
        return [edges], ""
    key = fields.key(POINTS)
    if key is not None and not point:
        point = [box._replace(used=(key,)) for box in _from_value(fields.item[key], AS_CHOSEN)[0]]
    point = point or ([edges] if edges and not problem else [])
    return (point, "") if len(point) == 1 else ([], problem)


def _holds_items(value: Any) -> bool:
    """Whether it is an object, or there are objects in a list, that say more than where something is."""
    if isinstance(value, dict):
        return not all(plain(key) in EDGES or plain(key) in PAIRS or plain(key) in BOX_ORDERS for key in value)
    return isinstance(value, list) and any(
        not all(plain(key) in EDGES or plain(key) in PAIRS for key in entry)
        for entry in value
        if isinstance(entry, dict)
    )


def _from_value(value: Any, order: str) -> tuple[list[Spelled], str]:
    """The boxes in the value of a key that names one, or what is wrong with it."""
    if isinstance(value, Mapping):
        found, _ = boxes_of(Fields(value))
        return found, "" if found else f"a box is four numbers, found {shown(dict(value))}"
    if isinstance(value, str) and not any(sign.isdigit() for sign in value):
        return [], "" if value.strip() else f"a box is four numbers, found {shown(value)}"
    if not isinstance(value, (list, str)):
        return [], f"a box is four numbers, found no list: {shown(value)}"
    numbers = _read(value)
    if numbers is None:
        return [], f"its box holds what is not a finite number: {shown(value)}"
    while len(numbers) == 1 and isinstance(numbers[0], list):
        numbers = numbers[0]
    groups = [_flat(group) for group in numbers if isinstance(group, list)]
    if not groups:
        groups = [tuple(numbers)]
    elif len(groups) < len(numbers) or not all(len(group) in (4, 8) for group in groups):
        points = _flat(numbers) if len(groups) == len(numbers) and all(len(group) == 2 for group in groups) else ()
        groups = [points if len(points) == 4 else _around(points)] if points else []
    if not groups or any(len(group) not in (2, 4) and (len(group) < 8 or len(group) % 2) for group in groups):
        return [], f"a box is four numbers, found {len(numbers)} values: {shown(value)}"
    share = _is_percent(value)
    boxes = [group if len(group) < 8 else _around(group) for group in groups]
    if order in (CORNER_SIZE, CENTRE_SIZE):
        back = 0.5 if order == CENTRE_SIZE else 0.0
        corners = ((box[0] - back * box[2], box[1] - back * box[3], *box[2:]) for box in boxes if len(box) == 4)
        boxes = [(x, y, x + w, y + h) for x, y, w, h in corners]
    named = isinstance(value, list) and isinstance(value[0], Mapping)
    order = X_FIRST if named or order in (CORNER_SIZE, CENTRE_SIZE) else order
    return [Spelled(box, order, share) for box in boxes], ""


def _flat(numbers: Sequence[Any]) -> Numbers:
    """Lists that are nested any deeper as one: [[[1, 2], [3, 4]]] is one box."""
    return tuple(part for number in numbers for part in (_flat(number) if isinstance(number, list) else (number,)))


def _around(points: Numbers) -> Numbers:
    """The box around points whose x and y alternate."""
    return min(points[0::2]), min(points[1::2]), max(points[0::2]), max(points[1::2])


def _from_edges(fields: Fields) -> Spelled | None:
    """A box of named edges, sizes, centres or corners; or a point of x and y alone."""
    keys, pairs = fields.under(EDGES), fields.under(PAIRS)
    if not keys and not pairs:
        return None
    one = {edge: number for edge, key in keys.items() if (number := read_number(fields.item[key])) is not None}
    two = {
        role: _flat(pair) for role, key in pairs.items() if (pair := _read(fields.item[key])) and len(_flat(pair)) == 2
    }
    used = tuple(dict.fromkeys([*(keys[edge] for edge in one), *(pairs[role] for role in two)]))
    for axis in "xy":
        if f"{axis}0" in one:  # counted from 0: x0, x1
            last = one.get(f"{axis}1", one.get(f"{axis}2", math.nan))
            one |= {f"{axis}1": one[f"{axis}0"], f"{axis}2": last}
    for names, role in (("wh", "size"), (("x1", "y1"), "first"), (("x2", "y2"), "last"), (("cx", "cy"), "centre")):
        one |= dict(zip(names, two[role], strict=True)) if role in two else {}
    corners = [two[role] for role in ("first", "last", "upper", "lower") if role in two]
    if "x range" in two and "y range" in two:
        (x1, x2), (y1, y2) = two["x range"], two["y range"]
        box: Numbers | None = (x1, y1, x2, y2)
    else:
        box = _four(one)
        if box is None and len(corners) > 1:
            box = _around(_flat([list(corner) for corner in corners]))
        if box is None and {"x", "y"} <= one.keys():
            box = (one["x"], one["y"])
    return Spelled(box, X_FIRST, _is_percent({key: fields.item[key] for key in used}), used=used) if box else None


def _four(one: Mapping[str, float]) -> Numbers | None:
    """Four edges from edges, a corner and a size, or a centre and a size; None if some are missing."""
    edges = []
    for axis, side in (("x", "w"), ("y", "h")):
        first, last, size, centre = (one.get(name) for name in (f"{axis}1", f"{axis}2", side, f"c{axis}"))
        first = one.get(axis) if first is None else first
        if first is None and size is not None:
            first = last - size if last is not None else None if centre is None else centre - size / 2
        if last is None and first is not None and size is not None:
            last = first + size
        if first is None or last is None or not math.isfinite(last):
            return None
        edges.append((first, last))
    (x1, x2), (y1, y2) = edges
    return x1, y1, x2, y2


def _read(value: Any) -> list[Any] | None:
    """The numbers of a list, of a text, or of an object that says where something is; nested as they are written.

    None if there is something else among them.
    """
    if isinstance(value, Mapping):
        edges = _from_edges(fields := Fields(value))
        if edges:
            return list(edges.numbers)
        size = fields.under(EDGES)
        sides = [read_number(value[size[side]]) for side in "wh" if side in size]
        return sides if len(sides) == 2 and None not in sides else None
    if isinstance(value, str):
        return list(numbers_in(value)) or None
    if not isinstance(value, list):
        return None
    numbers = []
    for entry in value:
        number = None if isinstance(entry, (list, Mapping)) else read_number(entry)
        inner = _read(entry) if number is None else None
        if number is None and (inner is None or isinstance(entry, str) and len(inner) < 2):
            return None
        numbers.append(inner if number is None else number)
    return numbers


def numbers_in(text: str) -> list[float]:
    """The finite numbers of a text, in order; `x1=` and the like name them."""
    if "=" in text or ":" in text:
        text = _NAMED_NUMBER.sub(" ", text)
    found = (float(number.rstrip("%")) / (100 if "%" in number else 1) for number in NUMBER.findall(text))
    return [number for number in found if math.isfinite(number)]


def read_number(value: Any) -> float | None:
    """A finite number, also one written as text, with px, or as a percentage (then a share, 0..1)."""
    share = 1
    if isinstance(value, str):
        value = value.strip().lower().removesuffix("px").strip()
        share = 100 if value.endswith("%") else 1
        value = value.rstrip("%").strip()
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value) / share
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _is_percent(value: Any) -> bool:
    """Whether numbers were written as percentages."""
    return "%" in (value if isinstance(value, str) else str(value))
