"""From the values of a region list to items: a box in the text's own numbers, a hint, and what else was said.

What cannot be used is dropped with its reason. Which numbers count what, and so pixels, is `coordinates` and
`regions`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..plan import shown
from ..plans.lint import ECHOED_HINTS
from .item_boxes import Problem, Spelled, boxes_of, has_box, numbers_in, plain_key
from .loose_json import read_values
from .notices import Notices

LIST_KEYS = (
    "regions",
    "region",
    "objects",
    "edits",
    "items",
    "boxes",
    "plan",
    "result",
    "region_list",
    "local_edits",
    "local_regions",
    "detections",
    # What a model's call of a tool holds.
    "arguments",
    "parameters",
)

_HINT_KEYS = (
    "hint", "hints", "hint_text", "prompt", "instruction", "edit", "edit_instruction", "edit_prompt", "edit_hint", "change", "action",
    "\u63d0\u793a", "\u7f16\u8f91", "\u6307\u4ee4",
)  # fmt: skip
# They name what is there, and stand for hints only where no item has any.
_LABEL_KEYS = (
    "label",
    "text_content",
    "description",
    "caption",
    "text",
    "name",
    "object",
    "object_name",
    "\u6807\u7b7e",
    "\u63cf\u8ff0",
)

# What the published template's example and the pack's own templates say in the place of a hint. The planner copied the
# published example for 71 of 2,624 inputs in one third party's runs.
_EXAMPLE_BOXES = ((10.0, 150.0, 150.0, 210.0), (150.0, 50.0, 200.0, 150.0))
_EXAMPLE_WORD = "apple"

# What models write for a hint or a label that they have not. ("empty" and "nothing" may be what is seen afterwards.)
NO_WORDS = ("none", "null", "nil", "n/a", "\u65e0")

_DEEPEST = 6
_MOST_ITEMS = 1000


class Item(NamedTuple):
    """One region as it was written: its box in the text's own numbers, unordered and unclamped.

    number: its place in the text, for messages. keys: the whole object; used: those keys that box and hint came from.
    """

    number: int
    spelled: Spelled
    hint: str
    keys: Mapping[str, Any]
    used: tuple[str, ...]

    @property
    def box(self) -> tuple[float, ...]:
        return self.spelled.numbers


def items_of(values: Sequence[Any], warnings: Notices) -> tuple[Item, ...]:
    """The usable objects among `values`, numbered as written; what was dropped or doubted goes into `warnings`."""
    objects = _objects(values)
    found: list[Item] = []
    labels_only = True
    for number, value in enumerate(objects, 1):
        problem, items = _items(value, number)
        if problem:
            warnings.add(problem[0], f"item {number} was dropped: {problem[1]}")
        labels_only = labels_only and (not items or not _said(items[0].keys, _HINT_KEYS)[0])
        found += items
    kept = _with_hints(found, labels_only, warnings)
    return tuple(item for item in kept if not _is_echo(item, warnings))


def without_repeats(items: Sequence[Item], warnings: Notices) -> tuple[Item, ...]:
    """Each item once: a model that runs in a loop writes the same one until it is stopped."""
    seen: set[tuple] = set()
    written: dict[int, str] = {}  # each object once: it may hold hundreds of boxes, each of them an item
    kept, repeats = [], 0
    for item in items:
        if id(item.keys) not in written:
            written[id(item.keys)] = json.dumps(item.keys, sort_keys=True, default=repr)
        text = (item.box, written[id(item.keys)])
        repeats += text in seen
        if text not in seen:
            kept.append(item)
        seen.add(text)
    if repeats:
        warnings.add("repeats", f"the text repeats items word for word; each was taken once and {repeats} left out")
    return tuple(kept)


# ---- values to objects --------------------------------------------------------------------------------------


def list_in(value: Mapping[str, Any]) -> Any:
    """What an object holds in the place of a list of regions, or None."""
    names = {plain_key(key): key for key in value}
    return next(
        (
            value[names[name]]
            for name in LIST_KEYS
            if name in names and isinstance(value[names[name]], (list, dict, str))
        ),
        None,
    )


def _objects(values: Sequence[Any]) -> list[Any]:
    """The items in values of any nesting: objects with a box, lists [box, hint], and what is neither as it is."""
    # Beside real items, a list of numbers or words is prose: "regions [1 in total]".
    real = any(_holds_object(value) for value in values)
    found: list[Any] = []
    for value in values:
        if not real or _holds_object(value) or not isinstance(value, list):
            _unwrap(value, 0, found)
        if len(found) > _MOST_ITEMS:
            break
    return found[:_MOST_ITEMS]


def _holds_object(value: Any, depth: int = 0) -> bool:
    """Whether there is an object in a value, at any depth that matters."""
    if isinstance(value, list) and depth < _DEEPEST:
        return any(_holds_object(entry, depth + 1) for entry in value)
    return isinstance(value, dict) or isinstance(value, str) and "{" in value


def _unwrap(value: Any, depth: int, found: list[Any]) -> None:
    if isinstance(value, str) and "{" in value:
        inner = read_values(
            value, value.index("{") if "[" not in value else min(value.index("{"), value.index("["))
        ).values
        if inner and depth < _DEEPEST:
            _unwrap(inner, depth + 1, found)
            return
    if isinstance(value, dict) and not has_box(value):
        listed = list_in(value)
        if listed is not None and depth < _DEEPEST:
            _unwrap(listed, depth + 1, found)
            return
        inner = list(value.values())
        if inner and depth < _DEEPEST:
            if all(isinstance(entry, dict) for entry in inner):
                for entry in inner:
                    _unwrap(entry, depth + 1, found)
                return
            if all(
                isinstance(entry, list) and len(entry) == 4 and not isinstance(entry[0], (list, dict))
                for entry in inner
            ):
                found.extend({"bbox_2d": box, "hint": hint} for hint, box in value.items())
                return
        found.append(value)
    elif isinstance(value, list) and depth < _DEEPEST:
        as_item = _listed_item(value)
        if as_item is not None:
            found.append(as_item)
        elif value and not any(isinstance(entry, (dict, list, str)) for entry in value):
            found.append(value)
        else:
            for entry in value:
                _unwrap(entry, depth + 1, found)
    else:
        found.append(value)


def _listed_item(value: list[Any]) -> dict[str, Any] | None:
    """An item written as a list: [[x1, y1, x2, y2], hint] or [x1, y1, x2, y2, hint], the hint first or last."""
    texts = [entry for entry in value if isinstance(entry, str) and not numbers_only(entry)]
    rest = [entry for entry in value if not (isinstance(entry, str) and not numbers_only(entry))]
    if len(texts) != 1 or not rest:
        return None
    box = rest[0] if len(rest) == 1 and isinstance(rest[0], list) else rest
    if len(box) != 4 or any(isinstance(entry, (dict, list)) for entry in box):
        return None
    return {"bbox_2d": box, "hint": texts[0]}


def numbers_only(text: str) -> bool:
    """Whether a text is nothing but numbers."""
    return bool(numbers_in(text)) and not any(char.isalpha() for char in text)


# ---- objects to items ---------------------------------------------------------------------------------------


def _items(value: Any, number: int) -> tuple[Problem | None, list[Item]]:
    """Read one object: its items (one for each of its boxes), or what is wrong with it."""
    if not isinstance(value, dict):
        return ("dropped_no_item", f"it is not an object with bbox_2d and hint but {shown(value)}"), []
    spelled, problem = boxes_of(value)
    if problem:
        return problem, []
    hint, key = _said(value, _HINT_KEYS)
    if not hint:
        label, _ = _said(value, _LABEL_KEYS)
        if not label:
            return ("dropped_no_hint", "it has no hint"), []
        # Whether the label stands for a hint is decided when all items are known.
        return None, [Item(number, box, "", value, box.keys) for box in spelled]
    return None, [Item(number, box, hint, value, (*box.keys, key)) for box in spelled]


def _said(value: Mapping[str, Any], names: Sequence[str]) -> tuple[str, str]:
    """The first text under one of the names that says something, and its key."""
    keys = {plain_key(key): key for key in value}
    for name in names:
        if name in keys:
            said = value[keys[name]]
            if isinstance(said, list) and said and all(isinstance(entry, str) for entry in said):
                said = ", ".join(entry.strip() for entry in said if entry.strip())
            if isinstance(said, str) and said.strip() and said.casefold().strip(" .") not in NO_WORDS:
                return said.strip(), keys[name]
    return "", ""


def _with_hints(items: Sequence[Item], labels_only: bool, warnings: Notices) -> list[Item]:
    """Items with labels in the place of hints if there are only labels; else those with labels are dropped."""
    kept = []
    for item in items:
        if item.hint:
            kept.append(item)
            continue
        label = _said(item.keys, _LABEL_KEYS)[0]
        if labels_only:
            kept.append(item._replace(hint=label))
        else:
            warnings.add(
                "dropped_no_hint", f"item {item.number} was dropped: it has no hint, only the label {shown(label)}"
            )
    if kept and labels_only:
        warnings.add(
            "labels_as_hints",
            "no item has a hint, so each label stands for its hint",
            "a label names what is there, a hint says what should be seen afterwards: write the hints, or ask for a plan instead of a detection",
        )
    return kept


def _is_echo(item: Item, warnings: Notices) -> bool:
    """Whether an item is copied from the planner's instructions; a box from there with words of its own is doubted."""
    hint = item.hint.casefold().strip(" .")
    box = [round(value) for value in item.box]
    example = item.box in _EXAMPLE_BOXES
    if hint in ECHOED_HINTS or (example and _EXAMPLE_WORD in hint):
        warnings.add(
            "dropped_echo",
            f"item {item.number} was dropped: {box} {shown(item.hint)} is copied from the planner's instructions",
        )
        return True
    if example:
        warnings.add(
            "template_echo",
            f"item {item.number}: the box {box} is the one in the planner's instructions",
            "check that it fits the image",
        )
    return False
