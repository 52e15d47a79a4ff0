"""The many ways in which models spell a box, brought to four numbers. Knows keys and orders, not pixels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..geometry import Box
from ..plan import shown

# Code and words of what is wrong with an item.
Problem = tuple[str, str]
BAD = "dropped_bad_box"

# Order of the numbers: as the coordinates say, left edge first, top edge first, or as `box_2d` has them (Gemini and
# Gemma: top edge first, 0..1000; other models use the key for pixels, left edge first).
AS_CHOSEN, X_FIRST, Y_FIRST, BOX_2D = "as chosen", "x first", "y first", "box_2d"

_LIST_KEYS = {
    "bbox_2d": AS_CHOSEN, "bbox": AS_CHOSEN, "bbox2d": AS_CHOSEN, "2d_bbox": AS_CHOSEN, "bounding_box": AS_CHOSEN,
    "boundingbox": AS_CHOSEN, "box": AS_CHOSEN, "boxes": AS_CHOSEN, "bboxes": AS_CHOSEN, "coordinates": AS_CHOSEN,
    "coords": AS_CHOSEN, "bbox_xyxy": X_FIRST, "bbox_yxyx": Y_FIRST, "box_2d": BOX_2D,
}  # fmt: skip
_SIZE_KEYS = ("bbox_xywh", "xywh")
_POINT_KEYS = ("point_2d", "point", "points", "point2d", "center", "centre")
_EDGES = (
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
_CORNER_AND_SIZE = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))
_EDGE_NAMES = {name for names in (*_EDGES, *_CORNER_AND_SIZE) for name in names}
_NUMBER = re.compile(r"[-+]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,3})?\s{0,2}%?")
_LONGEST = 400


class Spelled(NamedTuple):
    """A box as it was written.

    numbers: four of them, or two for a point. order: one of the orders above. share: the numbers are shares of the
    image, 0..1, whatever else the coordinates are. keys: the keys of the item that it was taken from.
    """

    numbers: tuple[float, ...]
    order: str
    share: bool
    keys: tuple[str, ...]

    @property
    def is_point(self) -> bool:
        return len(self.numbers) == 2


def plain_key(key: Any) -> str:
    """A key without regard to capitals, hyphens and spaces."""
    return key.strip().lower().replace("-", "_").replace(" ", "_") if isinstance(key, str) else ""


def has_box(value: Mapping[str, Any]) -> bool:
    """Whether an object says where something is, well or badly."""
    names = {plain_key(key) for key, entry in value.items() if entry is not None and not _holds_objects(entry)}
    if names & {*_LIST_KEYS, *_SIZE_KEYS, *_POINT_KEYS}:
        return True
    return any(names.issuperset(edges) for edges in (*_EDGES, *_CORNER_AND_SIZE))


def _holds_objects(value: Any) -> bool:
    """Whether there are objects in a list that say more than where something is."""
    return isinstance(value, list) and any(
        isinstance(entry, dict) and not {plain_key(key) for key in entry} <= _EDGE_NAMES for entry in value
    )


def boxes_of(item: Mapping[str, Any]) -> tuple[list[Spelled], Problem | None]:
    """The boxes of an item (several for one hint are several), or none and what is wrong with it."""
    names = {plain_key(key): key for key, value in item.items() if value is not None}
    problem = None
    for name in (*_LIST_KEYS, *_SIZE_KEYS):
        if name in names:
            key = names[name]
            found, problem = _from_value(item[key], name, key)
            if found:
                return found, None
            break
    edges = _from_edges({name: item[key] for name, key in names.items()})
    if edges:
        return [Spelled(edges[0], X_FIRST, False, tuple(names[name] for name in edges[1]))], None
    for name in _POINT_KEYS:
        if name in names and not problem:
            numbers, share = _numbers(item[names[name]])
            if len(numbers) == 1 and isinstance(numbers[0], tuple):
                numbers = list(numbers[0])
            if len(numbers) == 2 and all(isinstance(value, float) for value in numbers):
                return [Spelled(tuple(numbers), AS_CHOSEN, share, (names[name],))], None
    return [], problem or ("dropped_no_box", f"it has no bbox_2d: {shown(dict(item))}")


def numbers_in(text: str) -> list[float]:
    """The finite numbers of a text, in order."""
    return [
        value for value in (_number(found.group()) for found in _NUMBER.finditer(text[:_LONGEST])) if value is not None
    ]


def _from_value(value: Any, name: str, key: str) -> tuple[list[Spelled], Problem | None]:
    """The boxes in the value of a key that names one."""
    order = _LIST_KEYS.get(name, X_FIRST)
    if isinstance(value, Mapping):
        named = {plain_key(inner): entry for inner, entry in value.items()}
        edges = _from_edges(named)
        return (
            ([Spelled(edges[0], X_FIRST, False, (key,))], None)
            if edges
            else ([], (BAD, f"a box is four numbers, found {shown(dict(value))}"))
        )
    if not isinstance(value, (list, str)):
        return [], (BAD, f"a box is four numbers, found no list: {shown(value)}")
    if isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
        several = [_from_value(entry, name, key) for entry in value]
        problem = next((problem for _, problem in several if problem), None)
        return ([], problem) if problem else ([box for found, _ in several for box in found], None)
    if isinstance(value, list) and not _all_numbers(value):
        return [], (BAD, f"its box holds what is not a finite number: {shown(value)}")
    numbers, share = _numbers(value)
    groups = [tuple(group) for group in numbers if isinstance(group, tuple)]
    if groups and len(groups) == len(numbers):
        if all(len(group) == 2 for group in groups) and len(groups) >= 2:
            xs, ys = zip(*groups, strict=True)
            corners = (*groups[0], *groups[1]) if len(groups) == 2 else (min(xs), min(ys), max(xs), max(ys))
            return [Spelled(corners, order, share, (key,))], None
        if all(len(group) == 4 for group in groups):
            return [Spelled(group, order, share, (key,)) for group in groups], None
    if groups or len(numbers) not in (2, 4):
        return [], (BAD, f"a box is four numbers, found {len(numbers)} values: {shown(value)}")
    flat = tuple(numbers)
    if len(flat) == 4 and name in _SIZE_KEYS:
        flat = (flat[0], flat[1], flat[0] + flat[2], flat[1] + flat[3])
    return [Spelled(flat, order, share, (key,))], None


def _from_edges(named: Mapping[str, Any]) -> tuple[Box, tuple[str, ...]] | None:
    """A box of named edges, or of a corner and a size, and the names it used."""
    for names in (*_EDGES, *_CORNER_AND_SIZE):
        if all(name in named for name in names):
            found = [_number(named[name]) for name in names]
            if all(value is not None for value in found):
                a, b, c, d = found
                return ((a, b, c, d) if names in _EDGES else (a, b, a + c, b + d)), names  # type: ignore[operator]
    if all(isinstance(named.get(axis), list) and len(named[axis]) == 2 for axis in ("x", "y")):
        found = [_number(value) for value in (named["x"][0], named["y"][0], named["x"][1], named["y"][1])]
        if all(value is not None for value in found):
            return tuple(found), ("x", "y")  # type: ignore[return-value]
    return None


def _all_numbers(value: Sequence[Any]) -> bool:
    """Whether a list holds numbers only, also as texts and in lists of their own."""
    return all(
        _all_numbers(entry)
        if isinstance(entry, list)
        else _number(entry) is not None or isinstance(entry, str) and len(numbers_in(entry)) > 1
        for entry in value
    )


def _numbers(value: Any) -> tuple[list[Any], bool]:
    """Numbers, or tuples of them for each inner list; and whether they were percentages."""
    if isinstance(value, str):
        return list(numbers_in(value)), "%" in value
    if isinstance(value, list):
        if len(value) == 1 and isinstance(value[0], (list, str)):
            return _numbers(value[0])
        entries, share = [], False
        for entry in value:
            if isinstance(entry, list):
                inner, percent = _numbers(entry)
                # Lists that are nested any deeper are flattened: [[[1, 2], [3, 4]]] is one box.
                entries.append(
                    tuple(number for part in inner for number in (part if isinstance(part, tuple) else (part,)))
                )
                share = share or percent
            else:
                number = _number(entry)
                entries.append(tuple(numbers_in(entry)) if number is None and isinstance(entry, str) else number)
                share = share or (isinstance(entry, str) and "%" in entry)
        return entries, share
    if isinstance(value, Mapping):
        named = {plain_key(key): entry for key, entry in value.items()}
        point = [_number(named.get(axis)) for axis in ("x", "y")]
        return ([], False) if None in point else (point, False)
    return [], False


def _number(value: Any) -> float | None:
    """A finite number, also one written as text, with px, or as a percentage (then a share, 0..1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        if isinstance(value, str):
            text = value.strip().lower().removesuffix("px").strip()
            percent = text.endswith("%")
            number = float(text.rstrip("%").strip() if percent else text)
            number = number / 100 if percent else number
        else:
            number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
