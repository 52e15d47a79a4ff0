"""From items, in a text's own numbers, to the regions of a plan, in pixels of its image. See docs/coordinates.md.

A vision-language model answers in pixels of the image it saw (Qwen2.5-VL: sides rounded to multiples of 28) or
in 0..1000 (Qwen2-VL, Qwen3-VL, Gemma), seldom in pixels of the file. The published code uses the numbers as
they are on the file's pixels, which is off by up to 14 pixels a side on a photograph and by far more on a
large image; that is the choice `pixels` here.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..geometry import Box, Size
from ..plan import PlanError, Region, clamped, shown, usable_id, well_formed
from ..plans.plan_json import REGION_KEYS, mask_from_dict, texts_from_list
from ..plans.resize import smart_resize
from .boxes import Spelled
from .items import Item
from .notices import COORDINATES, Notices
from .texts import whole_characters
from .vocabulary import AS_CHOSEN, BOX_2D, Y_FIRST

# How far over the border a number may lie, as a share of the side, and still count what the others do: they overshoot.
_OVERSHOOT, _FAR = 0.1, 0.25
# Of the boxes, so many have to lie far outside the image that the model saw before all are taken for 0..1000.
_FAR_SHARE = 0.25
# Numbers up to 100 are percent on an image whose sides are so much longer: in pixels they all lay in its corner.
_PERCENT, _LEAST_FOR_PERCENT = 105, 300
# Around a point without a box: this share of the image's width and height to each side.
_AROUND_POINT = 0.1


class Frame(NamedTuple):
    """What the numbers of a box count: `span` (in x, in y) covers the image of `image_size` pixels.

    note: the choice in words, for the report. y_first: lists of numbers begin with the top edge; box_2d_y_first: those
    called box_2d do. doubt: what was guessed, and what a person should check about it.
    """

    span: tuple[float, float]
    image_size: Size
    note: str
    y_first: bool = False
    box_2d_y_first: bool = False
    doubt: tuple[str, ...] = ()

    def to_pixels(self, box: Spelled) -> tuple[float, ...]:
        """Map (x1, y1, x2, y2), or a point (x, y), to pixels of the image; nothing is rounded or clamped."""
        turned = {Y_FIRST: True, BOX_2D: self.box_2d_y_first, AS_CHOSEN: self.y_first}.get(box.order, False)
        span = (1.0, 1.0) if box.share else self.span
        mapped = []
        for at in range(0, len(box.numbers), 2):
            x, y = (box.numbers[at + 1], box.numbers[at]) if turned else (box.numbers[at], box.numbers[at + 1])
            mapped += [x * self.image_size[0] / span[0], y * self.image_size[1] / span[1]]
        return tuple(mapped)


def choose_frame(
    boxes: Sequence[Spelled], image_size: Size | None, coordinates: str = "auto", seen_size: Size = (0, 0)
) -> Frame:
    """Decide what the numbers of `boxes` count.

    boxes: as they were written, only looked at for `auto` (see `_guessed`).
    image_size: (width, height) of the image the plan is for; None takes `seen_size` as its size, with `pixels`.
    seen_size: the size the model saw, or zeros for the size that Qwen2.5-VL sees that image at.
    """
    if coordinates not in COORDINATES:
        raise PlanError(f"coordinates is one of {', '.join(COORDINATES)}, found {coordinates!r}")
    seen = (int(seen_size[0]), int(seen_size[1])) if min(seen_size) > 0 else None
    if seen is None and max(seen_size) > 0:
        raise PlanError(
            f"seen_width {seen_size[0]} and seen_height {seen_size[1]}: give both sides of the image that the "
            "model saw, or 0 for both"
        )
    if image_size is None:
        if seen is None or coordinates != "pixels":
            raise PlanError(
                "these boxes do not say which image they are for: connect the image, or give its size in pixels as "
                "seen_width and seen_height with coordinates 'pixels'"
            )
        return Frame(seen, seen, f"pixels of an image of {seen[0]}x{seen[1]} (no image is connected)")
    width, height = image_size
    of_image = f"across the image of {width}x{height}"
    if coordinates == "pixels":
        return Frame(image_size, image_size, f"pixels of the image, {width}x{height}")
    how, doubt, guessed = "as given", (), coordinates == "auto"
    if guessed:
        coordinates, doubt = _guessed(boxes, seen, image_size)
    if coordinates in ("relative_1000", "relative_1000_y_first"):
        first = coordinates == "relative_1000_y_first"
        return Frame(
            (1000, 1000), image_size, f"0..1000 {of_image}" + ", top edge first" * first, first, first or guessed, doubt
        )
    if coordinates in ("relative_1", "relative_100"):
        span = 1 if coordinates == "relative_1" else 100
        return Frame((span, span), image_size, f"0..{span} {of_image}", doubt=doubt)
    if seen is None:
        seen, how = smart_resize(width, height), "as Qwen2.5-VL sees it"
    note = f"pixels of the image the model saw, {seen[0]}x{seen[1]} ({how}), mapped to {width}x{height}"
    return Frame(seen, image_size, note, doubt=doubt)


def _guessed(boxes: Sequence[Spelled], seen: Size | None, image_size: Size) -> tuple[str, tuple[str, ...]]:
    """What `auto` takes the numbers for, and what to check about it.

    Each box has a vote, so that one that overshoots or is wrong does not decide for all. Most at most 1: relative_1.
    All spelled as models do that count in 0..1000, and most at most 1000: relative_1000. All at most 100 on a much
    larger image: relative_100. A quarter far outside the image that the model saw, and most at most 1000:
    relative_1000. Anything else: pixels of the image that the model saw.
    """
    boxes = [box for box in boxes if not box.share]
    largest = [max(abs(number) for number in box.numbers) for box in boxes]
    most = len(boxes) / 2
    fractions = sum(
        value <= 1 + _OVERSHOOT or value < 2 and sum(number % 1 != 0 for number in box.numbers) > 1
        for box, value in zip(boxes, largest, strict=True)
    )
    in_thousand = sum(value <= 1000 * (1 + _OVERSHOOT) for value in largest) > most
    if fractions > most:
        return "relative_1", ()
    if boxes and in_thousand and all(box.order == BOX_2D or box.thousandths for box in boxes):
        return "relative_1000", ()
    across, down = seen = seen or smart_resize(*image_size)
    choose = "choose the coordinates yourself if the boxes do not fit"
    if boxes and 5 <= max(largest) <= _PERCENT and min(seen) >= _LEAST_FOR_PERCENT:
        return "relative_100", (
            f"the boxes were read as percent, because no number is above {_PERCENT} and as pixels of the image the "
            f"model saw ({across}x{down}) all would lie in its corner", choose,
        )  # fmt: skip
    over = [
        max(*(number / across for number in box.numbers[0::2]), *(number / down for number in box.numbers[1::2]))
        for box in boxes
    ]
    far = sum(
        (value > 1 + _OVERSHOOT) / 2 + (value > 1 + _FAR) / 2
        for value, number in zip(over, largest, strict=True) if number <= 1000 * (1 + _OVERSHOOT)
    )  # fmt: skip
    if far and in_thousand:
        if far >= _FAR_SHARE * len(boxes):
            return "relative_1000", (
                f"the boxes were read as 0..1000, because as pixels of the image the model saw ({across}x{down}) some "
                "would lie far outside it", choose,
            )  # fmt: skip
        return "seen_pixels", (
            f"one of {len(boxes)} boxes lies far outside the image the model saw ({across}x{down}); all were read as "
            "its pixels",
            choose,
        )
    return "seen_pixels", ()


# ---- regions --------------------------------------------------------------------------------------------------------


def to_regions(items: Sequence[Item], frame: Frame, told: Notices) -> tuple[Region, ...]:
    """Regions in pixels of the frame's image, numbered after the unusable ones are gone.

    Inverted boxes are turned round, boxes over the border are clamped; a box that has no area or lies outside
    the image is dropped. A point without a box becomes a box around it, a fifth of the image wide and high.
    """
    kept = [(item, box) for item in items if (box := _inside(item, frame, told))]
    written = [item.keys.get("id") for item, _ in kept]
    names = _names([name if isinstance(name, str) and _can_name(name) else None for name in written])
    for (item, _), name, was in zip(kept, names, written, strict=True):
        if isinstance(was, str) and was and not _can_name(was):
            renamed = f"the id {shown(was)} cannot name a region in rules; it is called '{name}'"
            told.add("id_renamed", f"item {item.number}: {renamed}")
    extras: dict[tuple[int, tuple[str, ...]], Mapping[str, Any]] = {}  # each object once: it may hold hundreds of boxes
    regions = []
    for (item, box), name in zip(kept, names, strict=True):
        of = (id(item.keys), item.used)
        if of not in extras:
            extras[of] = _unknown_keys(item, told)
        regions.append(_region(item, box, name, extras[of], told).on_image(frame.image_size))
    return tuple(regions)


def on_image(mapped: Sequence[float], image_size: Size) -> Box | None:
    """The part of a box that lies on the image, all in its pixels; None if there is none, or only a point."""
    if len(mapped) == 2 or not all(map(math.isfinite, mapped)):
        return None
    inside = clamped(_in_order(mapped), image_size)
    return inside if inside[0] < inside[2] and inside[1] < inside[3] else None


def _in_order(mapped: Sequence[float]) -> Box:
    x1, y1, x2, y2 = mapped
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _inside(item: Item, frame: Frame, told: Notices) -> Box | None:
    """The item's box in pixels, as it was written, or None with a notice that says why none of it is on the image."""
    (width, height), mapped = frame.image_size, frame.to_pixels(item.spelled)
    point = len(mapped) == 2
    if point:
        x, y = mapped
        across, down = _AROUND_POINT * width, _AROUND_POINT * height
        around = (x - across, y - down, x + across, y + down)
        box = inside = clamped(around, frame.image_size) if 0 <= x <= width and 0 <= y <= height else None
    else:
        box, inside = _in_order(mapped), on_image(mapped, frame.image_size)
        if box[0] == box[2] or box[1] == box[3] or not all(map(math.isfinite, mapped)):
            told.add("dropped_no_area", f"item {item.number} was dropped: the box {_written(item)} has no area")
            return None
        if box != mapped:
            was = f"item {item.number}: the box {_written(item)} was inverted; its corners were exchanged"
            told.add("inverted", was)
    if inside is None:
        what = f"the {'point' if point else 'box'} {_written(item)}"
        outside = f"item {item.number} was dropped: {what} lies outside the image of {width}x{height}"
        told.add("dropped_outside", outside, "check which coordinates the boxes are written in")
        return None
    if point:
        only = f"item {item.number} has only a point, {_written(item)}, and no box"
        told.add("only_point", only, "a fifth of the image around it was taken: draw its box")
    elif inside != box and any(abs(edge - kept) > 0.01 for edge, kept in zip(box, inside, strict=True)):
        over = f"item {item.number}: the box {_written(item)} reaches over the border of the image and was clamped"
        told.add("clamped", f"{over} to it")
    return box


def _written(item: Item) -> list[float]:
    return [round(value, 3) for value in item.spelled.numbers]


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


def _region(item: Item, box: Box, name: str, extra: Mapping[str, Any], told: Notices) -> Region:
    """The region with what else its item says; what it says wrongly is left out, with a warning.

    Its texts are a model's words, unless the item itself lists those that are.
    """
    hint = whole_characters(item.hint, f"item {item.number}: the hint", told)
    more = {key: item.keys[key] for key in ("negative_hint", "start", "end", "enabled") if key in item.keys}
    try:
        if item.keys.get("mask") is not None:
            more["mask"] = mask_from_dict(item.keys["mask"], f"region '{name}'")
        if "plain_texts" in item.keys:
            plain = texts_from_list(item.keys["plain_texts"], f"region '{name}': plain_texts")
            return Region(name, box, hint, extra=extra, plain_texts=plain, **more)
        region = Region(name, box, hint, extra=extra, **more)
    except PlanError as error:
        told.add("value_left_out", f"item {item.number}: {error}; only its box and hint were used")
        region = Region(name, box, hint, extra=extra)
    return region.with_plain_texts()


def _unknown_keys(item: Item, told: Notices) -> dict[str, Any]:
    """The keys that a plan does not know, for whoever wrote them, as far as JSON can write them again."""
    kept = {key: value for key, value in item.keys.items() if key not in (*REGION_KEYS, *item.used)}
    for key, value in list(kept.items()):
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            left_out = f"the key {shown(key)} was left out, its value is not JSON: {shown(value)}"
            told.add("value_left_out", f"item {item.number}: {left_out}")
            del kept[key]
    return kept
