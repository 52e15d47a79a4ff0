"""JSON values to items: each value is looked at once, for what it says of a plan or of one of its regions.

An item is a box in the text's own numbers with a hint, and whatever else was said. What cannot be used is dropped with
its reason. What the numbers count, and so pixels, is `pixels`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..plan import LARGEST_SIDE, shown
from . import vocabulary as known
from .boxes import Fields, Spelled, boxes_of, numbers_in, read_number
from .notices import Notices
from .segments import OPENING, has_tags, split

_OWN_KEYS = ("image_size", "version")
_REMARKS = {name: known.words(*said) for name, said in known.REMARKS.items()}
_NO_COLUMNS = {*known.GLOBAL_PROMPT, *known.REASONING, *set().union(*_REMARKS.values())}
_PARTS = set().union(
    known.GLOBAL_PROMPT, known.LISTS, known.GLOBAL_ONLY, map(known.plain, _OWN_KEYS), *_REMARKS.values()
)
_NO_HINTS = {*known.NO_LABELS, *_PARTS}
# Keys that name no thing, perhaps with a number behind: region_1, item 2, data.
_NO_NAMES = {"", "r", *known.LISTS, *known.ENVELOPES, *known.NO_LABELS, *known.LABELS, *known.BOX_ORDERS}
_NO_WORDS = re.compile(r"\s*(?:#[0-9a-fA-F]{3,8}|https?://\S*|[^A-Za-z\u0080-\uffff]*|\S+\.(?:png|jpe?g|webp))\s*\Z")
_DEEPEST = 16
MOST_ITEMS = 500
_TOO_MANY = f"the text holds more than {MOST_ITEMS} items; the others were left out"


class Item(NamedTuple):
    """One region as it was written: its box in the text's own numbers, unordered and unclamped.

    number: its place in the text, for messages. hint: "" where only `label` says something. keys: the whole object;
    used: those keys that box and hint came from.
    """

    number: int
    spelled: Spelled
    hint: str
    label: str
    keys: Mapping[str, Any]
    used: tuple[str, ...]


@dataclass
class Found:
    """What values say of a plan.

    listed: whether there is a region list, be it empty. count: its items, those that were dropped too. told: code,
    number (0 for none) and words of what happened to them. unread: what stands in the place of the list. texts: those
    in which a reply may stand, the likeliest first. plan: the object that has a key that only a plan's own JSON has.
    """

    prompt: str = ""
    reasoning: str = ""
    size: tuple[int, int] | None = None
    said: dict[str, Any] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    count: int = 0
    listed: bool = False
    global_only: bool = False
    told: list[tuple[str, int, str]] = field(default_factory=list)
    unread: str = ""
    texts: list[str] = field(default_factory=list)
    plan: Mapping[str, Any] | None = None
    repairs: tuple[str, ...] = ()

    @property
    def is_list(self) -> bool:
        return self.count > 0 or self.listed

    @property
    def is_whole(self) -> bool:
        """Whether the list has usable items, or is empty because it says so."""
        return bool(self.items) or self.listed and not self.count

    @property
    def says_something(self) -> bool:
        return bool(self.is_list or self.prompt or self.unread or self.global_only or self.plan)

    def join(self, other: Found) -> None:
        """Add what another piece of the same answer says."""
        self.items += (
            [one._replace(number=one.number + self.count) for one in other.items] if self.count else other.items
        )
        self.told += [(code, number and number + self.count, text) for code, number, text in other.told]
        self.said = {**other.said, **self.said}
        self.texts += other.texts
        self.repairs += other.repairs
        self.count += other.count
        for name in ("prompt", "reasoning", "size", "listed", "global_only", "unread", "plan"):
            setattr(self, name, getattr(self, name) or getattr(other, name))

    def add(
        self,
        boxes: Sequence[Spelled],
        hint: str,
        label: str = "",
        keys: Mapping[str, Any] | None = None,
        used: tuple[str, ...] = (),
    ) -> None:
        """Add a thing, an item for each of its boxes."""
        self.count += 1
        self.items += [Item(self.count, box, hint, label, keys or {}, used) for box in boxes]

    def drop(self, code: str, problem: str) -> None:
        """Count an item that cannot be used, and say why."""
        self.count += 1
        self.told.append((code, self.count, f"was dropped: {problem}"))


def find(values: Sequence[Any], in_list: bool = False) -> Found:
    """What `values` say of a plan; in_list: they stand where a region list was asked for."""
    found, prose = Found(), Found()
    if len(values) == 1:
        _value(values[0], found, 0, in_list)
        return found
    if len(values) > MOST_ITEMS:
        found.told.append(("dropped_too_many", 0, _TOO_MANY))
    for value in values[:MOST_ITEMS]:
        one = Found()
        _value(value, one, 0, in_list)
        # Beside real items, a list of numbers or words is prose: "regions [1 in total]".
        (prose if isinstance(value, list) and not one.items and not one.listed else found).join(one)
    if not found.is_list:
        found.join(prose)
    return found


# ---- one value ------------------------------------------------------------------------------------------------------


def _value(value: Any, found: Found, depth: int, in_list: bool, name: str = "") -> None:
    """Look at a value.

    in_list: it is a member of a region list, so it should be an item. name: the key it stands under.
    """
    count = found.count
    if count > MOST_ITEMS or depth > _DEEPEST:
        return
    if count == MOST_ITEMS:
        found.count += 1
        found.told.append(("dropped_too_many", 0, _TOO_MANY))
    elif isinstance(value, dict):
        _object(Fields(value), found, depth, in_list, name)
    elif isinstance(value, list) and value:
        _list(value, found, depth, in_list)
    elif isinstance(value, list):
        found.listed = found.listed or in_list or depth == 0
    else:
        if isinstance(value, str) and may_hold_a_reply(value):
            for segment in split(value, Notices()) if not has_tags(value) else ():
                for inner in segment.values:
                    _value(inner, found, depth + 1, in_list)
            found.texts += [value] if found.count == count else []
        if in_list and found.count == count:
            found.drop("dropped_no_item", f"it is not an object with bbox_2d and hint but {shown(value)}")


def _list(value: list[Any], found: Found, depth: int, in_list: bool) -> None:
    """Look at a list: an item [box, hint], a list of boxes beside one of hints, or one of items."""
    texts = [entry for entry in value if _is_text(entry)]
    rest = [entry for entry in value if not _is_text(entry)]
    if len(texts) == 1 and (_is_box(rest) or len(rest) == 1 and _is_box(rest[0])):
        _object(Fields({"bbox_2d": rest if len(rest) == 4 else rest[0], "hint": texts[0]}), found, depth, True, "")
    elif len(value) == 2 and is_pair(*value):
        boxes, hints = value if _is_text(value[1][0]) else value[::-1]
        _object(Fields({"bbox_2d": boxes, "hint": hints}), found, depth, True, "")
    elif not any(isinstance(entry, (dict, list, str)) for entry in value):
        if in_list:
            found.drop("dropped_no_item", f"it is not an object with bbox_2d and hint but {shown(value)}")
    else:
        # Its members are items where one of them is an object; words and numbers alone are prose.
        listed = in_list or any(isinstance(entry, dict) for entry in value)
        for entry in value:
            _value(entry, found, depth + 1, listed)


def _object(fields: Fields, found: Found, depth: int, in_list: bool, name: str) -> None:
    """Look at an object: a table, an item, the parts of a plan, or what holds these."""
    item = fields.item
    if _table(fields, found):
        _parts(fields, found, depth, with_list=False)
    elif not _item(fields, found, name) and not _parts(fields, found, depth):
        count, texts = found.count, len(found.texts)
        if item and all(map(_is_box, item.values())):
            for hint, box in item.items():
                _item(Fields({"bbox_2d": box, "hint": hint}), found, "")
            return
        for word, key in sorted(fields.keys.items(), key=lambda pair: known.ENVELOPES.get(pair[0], 99)):
            if isinstance(item[key], (dict, list)):
                _value(item[key], found, depth + 1, False, key)
            elif isinstance(item[key], str) and word not in known.REASONING and may_hold_a_reply(item[key]):
                found.texts.append(item[key])
        if in_list and (count, texts) == (found.count, len(found.texts)):
            found.drop("dropped_no_box", f"it has no bbox_2d: {shown(item)}")


def is_pair(first: Any, second: Any) -> bool:
    """Whether of two lists one holds boxes and the other words."""
    if not isinstance(first, list) or not isinstance(second, list) or not first or not second:
        return False
    boxes, hints = (first, second) if _is_text(second[0]) else (second, first)
    return all(map(_is_box, boxes)) and all(map(_is_text, hints))


def _is_text(value: Any) -> bool:
    """Whether it is a text that is more than numbers."""
    return isinstance(value, str) and (any(sign.isalpha() for sign in value) or not numbers_in(value))


def _is_box(value: Any) -> bool:
    """Whether it is a list of four numbers or of what may be some, or an object of edges."""
    if isinstance(value, dict):
        return bool(value) and all(known.plain(key) in known.EDGES for key in value)
    return isinstance(value, list) and len(value) == 4 and not any(isinstance(entry, (list, dict)) for entry in value)


def may_hold_a_reply(text: str) -> bool:
    """Whether there may be JSON or a tag in a text."""
    return "<" in text or "&lt;" in text or OPENING.search(text) is not None


# ---- parts of a plan ------------------------------------------------------------------------------------------------


def _parts(fields: Fields, found: Found, depth: int, with_list: bool = True) -> bool:
    """Take the parts of a plan from an object, perhaps without its list; False if it has none that only a plan has."""
    item = fields.item
    null = any(value is None and known.plain(key) in known.LISTS for key, value in item.items())
    if not null and fields.keys.keys().isdisjoint(_PARTS):
        return False
    prompt = fields.key(known.GLOBAL_PROMPT, (str, list, dict))
    listed = fields.key(known.LISTS, (list, dict))
    if listed is None:
        texts = {key: word for word, key in fields.keys.items() if word in known.LISTS and isinstance(item[key], str)}
        listed = next((key for key in texts if texts[key] in known.REGION_TAGS or _is_list_text(item[key])), None)
    said = {
        name: item[key] for name, keys in _REMARKS.items() if (key := fields.key(keys)) is not None and key != listed
    }
    only = fields.key(known.GLOBAL_ONLY)
    only = only is not None and (item[only] is True or words_of(item[only]).casefold() in known.GLOBAL_WORDS)
    own = depth == 0 and any(key in item for key in _OWN_KEYS)
    if prompt is None and listed is None and not own and not only and not said.keys() & {"answer", "ambiguous"}:
        return False
    reasoning, size = fields.key(known.REASONING, (str, list)), fields.key(known.IMAGE_SIZE, (list, dict, str))
    found.prompt = found.prompt or (words_of(item[prompt]) if prompt is not None and prompt != listed else "")
    found.reasoning = found.reasoning or (words_of(item[reasoning]) if reasoning is not None else "")
    found.size = found.size or (image_size_of(item[size]) if size is not None else None)
    found.said = {**said, **found.said}
    found.plan = item if own else found.plan
    found.global_only = found.global_only or only
    found.listed = found.listed or null
    if listed is not None and with_list:
        value = item[listed]
        if isinstance(value, str) and (known.NOTHING.fullmatch(value[:200]) or not value.strip()):
            found.listed = True
            return True
        _value(value, found, depth + 1, isinstance(value, list))
        found.listed = found.listed or value in ([], {})
        if isinstance(value, str) and not found.is_list:
            found.unread = value
    return True


def _is_list_text(text: str) -> bool:
    return may_hold_a_reply(text) or known.NOTHING.fullmatch(text[:200]) is not None


def image_size_of(value: Any) -> tuple[int, int] | None:
    """(width, height), or None if the value is no size of an image."""
    if isinstance(value, dict):
        keys = Fields(value).under(known.EDGES)
        value = [value[keys[side]] for side in "wh" if side in keys]
    value = numbers_in(value) if isinstance(value, str) else value
    sides = [read_number(side) for side in value] if isinstance(value, list) and len(value) == 2 else [None]
    if any(side is None or not 1 <= side <= LARGEST_SIDE for side in sides):
        return None
    return int(sides[0]), int(sides[1])  # type: ignore[arg-type]


def words_of(value: Any) -> str:
    """The words of a text, of a list of texts, or of an object that holds them; "" if they say that there are none."""
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return ", ".join(entry.strip() for entry in value if entry.strip())
    if isinstance(value, dict):
        key = Fields(value).key(known.WORDS, str)
        value = "" if key is None else value[key]
    return value.strip() if isinstance(value, str) and value.casefold().strip(" .") not in known.NO_WORDS else ""


# ---- items ----------------------------------------------------------------------------------------------------------


def _item(fields: Fields, found: Found, name: str) -> bool:
    """Take the items of an object, one for each of its boxes, or tell what is wrong with it; False if it has no box."""
    boxes, problem = boxes_of(fields)
    hint, key = _words_under(fields, known.HINTS)
    label, _ = _words_under(fields, known.LABELS)
    if not boxes and not problem and (hint or label):
        boxes = _only_box(fields, found)
    if not boxes:
        if problem:
            found.drop("dropped_bad_box", problem)
        return bool(problem)
    if not hint and not label and not _NO_NAMES & {known.plain(name.rstrip("0123456789_ -")), known.plain(name)}:
        label = name.strip()
    if not hint and not label:
        hint, key = _only_words(fields, boxes[0].used)
        if hint:
            taken = f"has no hint under a known key; {shown(hint)} was taken from {shown(key)}"
            found.told.append(("other_words", found.count + 1, taken))
    if hint or label:
        found.add(boxes, hint, label, fields.item, (*boxes[0].used, key) if hint else boxes[0].used)
    else:
        found.drop("dropped_no_hint", "it has no hint")
    return True


def _only_box(fields: Fields, found: Found) -> list[Spelled]:
    """The one list of four numbers of an object that has words, under whatever key it stands."""
    keys = [key for key, value in fields.item.items() if isinstance(value, list) and _is_box(value)]
    boxes = boxes_of(Fields({"bbox_2d": fields.item[keys[0]]}))[0] if len(keys) == 1 else []
    if boxes:
        taken = f"has no box under a known key; {shown(fields.item[keys[0]])} was taken from {shown(keys[0])}"
        found.told.append(("other_words", found.count + 1, taken))
    return [box._replace(used=(keys[0],)) for box in boxes]


def _words_under(fields: Fields, line: Mapping[str, int]) -> tuple[str, str]:
    """The first words under one of a line of the vocabulary, and their key."""
    for word in sorted(fields.keys.keys() & line.keys(), key=line.__getitem__):
        said = words_of(fields.item[fields.keys[word]])
        if said:
            return said, fields.keys[word]
    return "", ""


def _only_words(fields: Fields, used: Sequence[str]) -> tuple[str, str]:
    """The one text of an object that can only be its words, and its key."""
    others = {word: key for word, key in fields.keys.items() if isinstance(fields.item[key], str) and key not in used}
    texts = [(words_of(fields.item[key]), key) for word, key in others.items() if word not in _NO_HINTS]
    texts = [(text, key) for text, key in texts if text and not _NO_WORDS.match(text)]
    return texts[0] if len(texts) == 1 else ("", "")


def _table(fields: Fields, found: Found) -> bool:
    """Take the rows of an object of parallel lists: boxes and words, or edges by name. False if it is none."""
    lists = {word: value for word, key in fields.keys.items() if isinstance(value := fields.item[key], list) and value}
    texts = [word for word, value in lists.items() if all(map(_is_text, value)) and word not in _NO_COLUMNS]
    texts.sort(key=lambda word: known.HINTS.get(word, 1000 + known.LABELS.get(word, 1000)))
    boxes = [word for word, value in lists.items() if all(map(_is_box, value))]
    boxes.sort(key=lambda word: word not in known.BOX_ORDERS)
    edges = [word for word, value in lists.items() if word in known.EDGES]
    columns = boxes[:1] if boxes and texts else edges if len(edges) >= 4 else []
    if len({len(lists[word]) for word in columns}) != 1:
        return False
    count, words = len(lists[columns[0]]), lists[texts[0]] if texts else []
    unknown = {word: "hint" for word in texts[:1] if word not in known.HINTS and word not in known.LABELS}
    unknown |= {word: "bbox_2d" for word in columns if word not in known.BOX_ORDERS and word not in known.EDGES}
    names = {**fields.keys, **unknown}
    if texts and len(words) != count:
        told = (
            f"there are {count} boxes and {len(words)} texts under {shown(fields.keys[texts[0]])}; each was taken "
            "with the other of its place"
        )
        found.told.append(("lengths_differ", 0, told))
    shared = {
        key: fields.item[key]
        for word, key in fields.keys.items()
        if word not in known.GLOBAL_PROMPT and not isinstance(fields.item[key], (list, dict))
    }
    for row in range(count):
        cells = {names[word]: value[row] for word, value in lists.items() if row < len(value) in (count, len(words))}
        if not _item(Fields({**shared, **cells}), found, ""):
            found.drop("dropped_no_box", f"it has no bbox_2d: {shown(cells)}")
    for text in words[count:]:
        found.drop("dropped_no_box", f"there is no box for {shown(text)}")
    return True
