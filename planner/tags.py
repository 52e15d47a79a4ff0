"""RePlan's tag text: what the published planner answers and its page sends (replan.txt, replan.py and app.py of the published code).

    <think>reasoning</think><gen_image>global prompt</gen_image>
    <region>[{"bbox_2d": [x1, y1, x2, y2], "hint": "..."}]</region>

Reading is one pipeline: find blocks -> repair JSON -> items -> regions. It is tolerant, because a model wrote the
text: what can be used is used, and everything that was repaired or dropped is told in the plan's warnings.
Writing adds `<image_size>[w, h]</image_size>`, which the published readers skip, so that a text written here
says what its boxes count; whatever is not a default rides as a further key of its item, and so does a key that
is not known (`label`, `point_2d`), which reading keeps.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from .loose_json import CUT_OFF, read_values
from .plan import (
    KEEP_UNCHANGED,
    LARGEST_SIDE,
    PlanError,
    Region,
    RegionMask,
    RegionPlan,
    clamped,
    shown,
    usable_id,
    well_formed,
)
from .plan_json import encode_json, mask_from_dict, mask_to_dict

Box = tuple[float, float, float, float]

_NAMES = ("think", "gen_image", "global", "region", "answer", "image_size")
_TAG_BODY = rf"\s{{0,8}}/?\s{{0,8}}(?i:{'|'.join(_NAMES)})\s{{0,8}}>"
_TAG = re.compile(rf"<\s{{0,8}}(?P<close>/?)\s{{0,8}}(?P<name>{'|'.join(_NAMES)})\s{{0,8}}>", re.IGNORECASE)
_PLAIN_TAG = re.compile(rf"<(?={_TAG_BODY})")
_ESCAPED_TAG = re.compile(rf"&(?P<amps>(?:amp;)*)lt;(?={_TAG_BODY})")
_FENCE = re.compile(r"```[a-zA-Z0-9_]{0,16}\s{0,8}")
_BOX_KEYS = ("bbox_2d", "bbox", "box_2d")
_REGION_KEYS = ("id", "bbox_2d", "hint", "negative_hint", "start", "end", "mask")
_OBJECT = re.compile(r'\{\s*["}]')
_PLAN_KEYS = ("image_size", "version")
_LIST_KEYS = ("regions", "region", "objects")
_QUOTES = "'\"\u2018\u2019\u201c\u201d"

# The boxes of the published template's example; the planner copied them for 71 of 2,624 inputs in one third party's runs.
_TEMPLATE_BOXES = ((10.0, 150.0, 150.0, 210.0), (150.0, 50.0, 200.0, 150.0))
_TEMPLATE_WORD = "apple"


class Item(NamedTuple):
    """One region as it was written: its box in the text's own numbers, unordered and unclamped.

    number: its place in the text, for messages. keys: the whole object.
    """

    number: int
    box: Box
    hint: str
    keys: Mapping[str, Any]


class Reply(NamedTuple):
    """A text taken apart: nothing is in pixels yet. image_size is what the text says itself, if it does."""

    global_prompt: str
    reasoning: str
    items: tuple[Item, ...]
    image_size: tuple[int, int] | None
    warnings: tuple[str, ...]


# ---- reading ------------------------------------------------------------------------------------------------


def looks_tagged(text: str) -> bool:
    """Whether the text holds any of the tags."""
    return _TAG.search(text) is not None


def read_tags(text: str) -> Reply:
    """Take a tagged text apart. Raises PlanError if it has neither a global nor a region block."""
    warnings: list[str] = []
    blocks = _find_blocks(text, warnings)
    if "region" not in blocks and "gen_image" not in blocks:
        raise PlanError(
            "the text has tags, but neither <gen_image> nor <region>, so there is no plan in it; the reply may have "
            f"been cut off before its end. It ends with {shown(text[-60:])}"
        )
    if "region" in blocks:
        values = _repaired(blocks["region"], warnings)
        items = _items(values, warnings)
    else:
        warnings.append("the text has no <region> block: the plan has no regions")
        items = ()
    size = read_values(blocks["image_size"]).values if "image_size" in blocks else []
    return Reply(
        _global_prompt(blocks.get("gen_image"), warnings),
        _whole_characters(_unescaped(blocks.get("think", "")), "<think>", warnings),
        items,
        _image_size(size[0]) if size else None,
        tuple(warnings),
    )


def read_list(text: str) -> Reply | None:
    """Take apart a text that is only a region list (or one region), perhaps in a code fence; None if it is not."""
    warnings: list[str] = []
    body = unfenced(text)
    if not body.startswith(("[", "{")):
        return None
    values = _repaired(body, warnings)
    first = values[0] if values else None
    if isinstance(first, dict):
        usable = _box_of(first) is not None or _list_in(first) is not None
    else:
        usable = isinstance(first, list) and (not first or any(isinstance(item, dict) for item in first))
    if not usable:
        return None
    whole = first if isinstance(first, dict) else {}
    said = whole.get("global_prompt")
    prompt = _global_prompt(said if isinstance(said, str) else None, warnings, "the text")
    # A plan whose JSON had slips still says which image its boxes are pixels of.
    return Reply(prompt, "", _items(values, warnings), _image_size(whole.get("image_size")), tuple(warnings))


def unfenced(text: str) -> str:
    """The text inside its first code fence, or the text itself if it has none or begins with JSON; stripped."""
    opening = _FENCE.search(text)
    if opening is None or text.lstrip().startswith(("[", "{")):
        return text.strip()
    # A text inside the JSON may hold a fence of its own.
    closing = text.find("```", _strict_end(text, opening.end()))
    return text[opening.end() : closing if closing >= 0 else len(text)].strip()


def _strict_end(text: str, at: int) -> int:
    """Where the proper JSON that begins at `at` ends, `at` if there is none."""
    try:
        return json.JSONDecoder().raw_decode(text, at)[1]
    except (ValueError, RecursionError):
        return at


def json_body(text: str) -> str | None:
    """The JSON that is the whole of `text`, perhaps in a code fence; None for another text.

    Words that look like tags may stand inside its texts (a sign that says <region>), not outside. JSON with
    slips counts as well if it can be read up to its end, and what begins as a plan's JSON in any case: its own
    reader says where it breaks off.
    """
    body = unfenced(text)
    if not body.startswith(("[", "{")):
        return None
    if not looks_tagged(text):
        return body
    before, _, after = text.partition(body)
    if looks_tagged(before) or looks_tagged(after):
        return None
    if begins_a_plan(body):
        return body
    loose = read_values(body)
    return None if CUT_OFF in loose.repairs or body[loose.end :].strip() else body


def begins_a_plan(body: str) -> bool:
    """Whether it is an object with a key that only a plan's JSON has; if it is not proper JSON, by its looks."""
    if not _OBJECT.match(body):
        return False
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return any(f'"{key}"' in body for key in _PLAN_KEYS)
    return any(key in value for key in _PLAN_KEYS)


def _find_blocks(text: str, warnings: list[str]) -> dict[str, str]:
    """The content of the first block of each name; a block without its end reaches to the next tag."""
    blocks: dict[str, str] = {}
    again: dict[str, int] = {}
    tags = list(_TAG.finditer(text))
    closings: dict[str, deque[int]] = {}
    for index, tag in enumerate(tags):
        if tag["close"]:
            closings.setdefault(tag["name"].lower(), deque()).append(index)
    at = 0
    while at < len(tags):
        tag = tags[at]
        name = tag["name"].lower()
        at += 1
        if tag["close"]:
            continue
        key = "gen_image" if name == "global" else name
        ends = closings.get(name, deque())
        while ends and ends[0] < at:
            ends.popleft()
        start = tag.end()
        if ends:
            end = tags[ends[0]].start()
            if name == "region" and name not in blocks:
                # A hint may hold the closing tag in its text: trust the JSON over the tag.
                end = max(end, _json_end(text, start))
            while at < len(tags) and tags[at].start() < end:
                at += 1
        else:
            end = tags[at].start() if at < len(tags) else len(text)
            if key not in blocks:
                reach = "the next tag" if at < len(tags) else "the end"
                warnings.append(f"<{name}> is not closed; it was read up to {reach}")
        if key in blocks:
            again[key] = again.get(key, 1) + 1
        else:
            blocks[key] = text[start:end].strip()
    for key, count in again.items():
        if key != "answer":
            warnings.append(f"the text has {count} <{key}> blocks; the first was used")
    return blocks


def _json_end(text: str, start: int) -> int:
    """Where the JSON that begins at `start` (perhaps in a code fence) ends; 0 if there is none, or no end to it."""
    fence = _FENCE.match(text, start + len(text[start : start + 64]) - len(text[start : start + 64].lstrip()))
    at = fence.end() if fence else start
    if text[at : at + 64].lstrip()[:1] not in ("[", "{"):
        return 0
    loose = read_values(text, at)
    return 0 if CUT_OFF in loose.repairs else loose.end


def _repaired(block: str, warnings: list[str]) -> list[Any]:
    """The values in a region block; what had to be repaired goes into `warnings`."""
    body = unfenced(block)
    loose = read_values(body)
    if loose.repairs:
        warnings.append(f"the region list is not proper JSON and was repaired: {', '.join(loose.repairs)}")
    if not loose.values:
        warnings.append(f"the region list cannot be read and the plan has no regions: {shown(body)}")
    return loose.values


def _list_in(value: Mapping[str, Any]) -> list[Any] | None:
    """The list of an object that only wraps it."""
    return next((value[key] for key in _LIST_KEYS if isinstance(value.get(key), list)), None)


def _box_of(value: Mapping[str, Any]) -> Any:
    return next((value[key] for key in _BOX_KEYS if value.get(key) is not None), None)


def _items(values: Sequence[Any], warnings: list[str]) -> tuple[Item, ...]:
    """The usable objects among `values`, numbered as written; each of the others is named in `warnings`."""
    flat: list[Any] = []
    for value in values:
        if isinstance(value, dict) and _box_of(value) is None:
            value = _list_in(value) or value
        flat.extend(value if isinstance(value, list) else [value])
    items = []
    for number, value in enumerate(flat, 1):
        problem, item = _item(value, number)
        if item is None:
            warnings.append(f"item {number} was dropped: {problem}")
            continue
        echo = _template_echo(item)
        if echo:
            warnings.append(echo[1])
        if not echo or echo[0]:
            items.append(item)
    return tuple(items)


def _item(value: Any, number: int) -> tuple[str, Item | None]:
    """Read one object; on failure say what is wrong with it."""
    if not isinstance(value, dict):
        return f"it is not an object with bbox_2d and hint but {shown(value)}", None
    box = _box_of(value)
    if box is None:
        return f"it has no bbox_2d: {shown(value)}", None
    if not isinstance(box, list) or len(box) != 4:
        found = f"{len(box)} values" if isinstance(box, list) else "no list"
        return f"a box is four numbers, found {found}: {shown(box)}", None
    numbers = tuple(_number(entry) for entry in box)
    if any(entry is None for entry in numbers):
        return f"its box holds what is not a finite number: {shown(box)}", None
    hint = value.get("hint")
    if not isinstance(hint, str) or not hint.strip():
        label = f", only the label {shown(value['label'])}" if value.get("label") else ""
        return f"it has no hint{label}", None
    return "", Item(number, numbers, hint.strip(), value)  # type: ignore[arg-type]


def _number(value: Any) -> float | None:
    """A finite number, also one written as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _template_echo(item: Item) -> tuple[bool, str] | None:
    """(keep it?, warning) for a box that the planner copied from its own instructions."""
    if item.box not in _TEMPLATE_BOXES:
        return None
    box = [round(value) for value in item.box]
    if _TEMPLATE_WORD in item.hint.lower():
        return False, f"item {item.number} was dropped: {box} {shown(item.hint)} is copied from the planner's instructions"
    return True, f"item {item.number}: the box {box} is the one in the planner's instructions; check that it fits the image"


def _whole_characters(text: str, what: str, warnings: list[str]) -> str:
    whole = well_formed(text)
    if whole != text:
        warnings.append(f"{what} holds half a character, which was replaced: {shown(text)}")
    return whole


def _global_prompt(block: str | None, warnings: list[str], where: str = "<gen_image>") -> str:
    text = _whole_characters(_unescaped(block or ""), "the global prompt", warnings)
    if not text.strip():
        if where == "<gen_image>":
            warnings.append(f"the text has no <gen_image> block with text: the global prompt is {KEEP_UNCHANGED!r}")
        else:
            warnings.append(f"{where} has no global prompt: it is {KEEP_UNCHANGED!r}")
        return KEEP_UNCHANGED
    if text.strip(_QUOTES + " .\n").casefold() == KEEP_UNCHANGED.rstrip("."):
        return KEEP_UNCHANGED
    return text


def _image_size(value: Any) -> tuple[int, int] | None:
    sides = [_number(side) for side in value] if isinstance(value, list) else []
    if len(sides) != 2 or any(side is None or not 1 <= side <= LARGEST_SIDE for side in sides):
        return None
    return int(sides[0]), int(sides[1])


# ---- items to regions ---------------------------------------------------------------------------------------


def to_regions(
    items: Sequence[Item], to_pixels: Callable[[Box], Box], image_size: tuple[int, int]
) -> tuple[tuple[Region, ...], tuple[str, ...]]:
    """Regions in pixels of an image of `image_size`, numbered after the unusable ones are gone, and warnings.

    Inverted boxes are turned round, boxes over the border are clamped; a box that has no area or lies outside
    the image is dropped.
    """
    width, height = image_size
    warnings: list[str] = []
    kept: list[tuple[Item, Box]] = []
    for item in items:
        x1, y1, x2, y2 = item.box
        written = [round(value, 3) for value in item.box]
        if x1 > x2 or y1 > y2:
            warnings.append(f"item {item.number}: the box {written} was inverted; its corners were exchanged")
        box = to_pixels((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))
        if not all(math.isfinite(value) for value in box) or box[0] == box[2] or box[1] == box[3]:
            warnings.append(f"item {item.number} was dropped: the box {written} has no area")
            continue
        x1, y1, x2, y2 = inside = clamped(box, image_size)
        if x1 >= x2 or y1 >= y2:
            warnings.append(
                f"item {item.number} was dropped: the box {written} lies outside the image of {width}x{height}; "
                "check which coordinates the boxes are written in"
            )
            continue
        if max(abs(a - b) for a, b in zip(box, inside, strict=True)) > 0.01:
            warnings.append(f"item {item.number}: the box {written} reaches over the border of the image and was clamped to it")
        kept.append((item, inside))
    written = [item.keys.get("id") for item, _ in kept]
    names = _names([name if isinstance(name, str) and _can_name(name) else None for name in written])
    for (item, _), name, was in zip(kept, names, written, strict=True):
        if isinstance(was, str) and was and not _can_name(was):
            warnings.append(f"item {item.number}: the id {shown(was)} cannot name a region in rules; it is called '{name}'")
    regions = [_region(item, box, name, warnings) for (item, box), name in zip(kept, names, strict=True)]
    return tuple(regions), tuple(warnings)


def _can_name(identity: str) -> bool:
    return usable_id(identity) and well_formed(identity) == identity


def _names(written: Sequence[str | None]) -> list[str]:
    """An id for each region: the one written if there is one and no other like it, else r and its place."""
    count = Counter(name for name in written if name is not None)
    free = (f"r{number}" for number in itertools.count(len(written) + 1) if f"r{number}" not in count)
    names = []
    for place, name in enumerate(written, 1):
        if name is not None and count[name] == 1:
            names.append(name)
        else:
            names.append(f"r{place}" if f"r{place}" not in count else next(free))
    return names


def _region(item: Item, box: Box, name: str, warnings: list[str]) -> Region:
    """The region with what else its item says; what it says wrongly is left out, with a warning."""
    hint = _whole_characters(item.hint, f"item {item.number}: the hint", warnings)
    region = Region(name, box, hint, extra=_unknown_keys(item, warnings))
    more: dict[str, Any] = {key: item.keys[key] for key in ("negative_hint", "start", "end") if key in item.keys}
    try:
        if item.keys.get("mask") is not None:
            more["mask"] = mask_from_dict(item.keys["mask"], f"region '{name}'")
        return replace(region, **more)
    except PlanError as error:
        warnings.append(f"item {item.number}: {error}; only its box and hint were used")
        return region


def _unknown_keys(item: Item, warnings: list[str]) -> dict[str, Any]:
    """The keys that a plan does not know, for whoever wrote them, as far as JSON can write them again."""
    used = next(key for key in _BOX_KEYS if item.keys.get(key) is not None)
    kept = {key: value for key, value in item.keys.items() if key not in (*_REGION_KEYS, used)}
    for key, value in list(kept.items()):
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            warnings.append(f"item {item.number}: the key {shown(key)} was left out, its value is not JSON: {shown(value)}")
            del kept[key]
    return kept


# ---- writing ------------------------------------------------------------------------------------------------


def write_tags(plan: RegionPlan) -> str:
    """The plan as tag text: boxes as whole pixels of its image, at least one pixel wide and high.

    Read back, it gives the plan again, but for the rounding, its warnings, the plan's own unknown keys (a region's
    are written), regions without a hint and space around a text.
    """
    width, height = plan.image_size
    reasoning = f"<think>{_escaped(plan.reasoning.strip())}</think>" if plan.reasoning.strip() else ""
    prompt = _escaped(plan.global_prompt.strip() or KEEP_UNCHANGED)
    items = [_written(region, number) for number, region in enumerate(plan.regions, 1)]
    # Inside JSON a tag in a hint can be hidden from every reader of tags, and from none of JSON.
    listed = encode_json(items).replace("<", "\\u003c")
    return f"{reasoning}<gen_image>{prompt}</gen_image><region>{listed}</region><image_size>[{width}, {height}]</image_size>"


def _written(region: Region, number: int) -> dict[str, Any]:
    (x1, x2), (y1, y2) = (_whole(region.box[axis], region.box[axis + 2]) for axis in (0, 1))
    item: dict[str, Any] = {"bbox_2d": [x1, y1, x2, y2], "hint": region.hint}
    if region.negative_hint:
        item["negative_hint"] = region.negative_hint
    if (region.start, region.end) != (0.0, 1.0):
        item |= {"start": region.start, "end": region.end}
    mask: RegionMask | None = region.mask
    if mask is not None:
        item["mask"] = mask_to_dict(mask)
    if region.id != f"r{number}":
        item["id"] = region.id
    return item | {key: value for key, value in region.extra.items() if key not in _REGION_KEYS}


def _whole(first: float, last: float) -> tuple[int, int]:
    start, stop = round(first), round(last)
    return (start, stop) if start < stop else (math.floor(first), math.floor(first) + 1)


def _escaped(text: str) -> str:
    """Hide tags that stand in a text: `<` becomes `&lt;`, and what is already so gets one `amp;` more."""
    return _PLAIN_TAG.sub("&lt;", _ESCAPED_TAG.sub(r"&amp;\g<amps>lt;", text))


def _unescaped(text: str) -> str:
    return _ESCAPED_TAG.sub(lambda m: f"&{m['amps'][4:]}lt;" if m["amps"] else "<", text)
