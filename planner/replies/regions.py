"""From items, in a text's own numbers, to the regions of a plan, in pixels of its image."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..geometry import Box
from ..plan import Notice, PlanError, Region, clamped, shown, usable_id, well_formed
from ..plans.plan_json import REGION_KEYS, mask_from_dict
from .coordinates import Frame
from .items import Item
from .notices import Notices

# Around a point without a box: this share of the image's width and height to each side.
_AROUND_POINT = 0.1


def to_regions(items: Sequence[Item], frame: Frame) -> tuple[tuple[Region, ...], tuple[Notice, ...]]:
    """Regions in pixels of the frame's image, numbered after the unusable ones are gone, and warnings.

    Inverted boxes are turned round, boxes over the border are clamped; a box that has no area or lies outside
    the image is dropped. A point without a box becomes a box around it, a fifth of the image wide and high.
    """
    warnings = Notices()
    kept = [(item, box) for item in items if (box := _inside(item, frame, warnings))]
    written = [item.keys.get("id") for item, _ in kept]
    names = _names([name if isinstance(name, str) and _can_name(name) else None for name in written])
    for (item, _), name, was in zip(kept, names, written, strict=True):
        if isinstance(was, str) and was and not _can_name(was):
            warnings.add(
                "id_renamed",
                f"item {item.number}: the id {shown(was)} cannot name a region in rules; it is called '{name}'",
            )
    regions = [_region(item, box, name, warnings) for (item, box), name in zip(kept, names, strict=True)]
    return tuple(regions), tuple(warnings)


def _inside(item: Item, frame: Frame, warnings: Notices) -> Box | None:
    """The item's box on the image, or None with a warning that says why there is none."""
    width, height = frame.image_size
    written = [round(value, 3) for value in item.box]
    mapped = frame.to_pixels(item.box, item.spelled.order, item.spelled.share)
    if item.spelled.is_point:
        x, y = mapped
        mapped = (
            x - _AROUND_POINT * width,
            y - _AROUND_POINT * height,
            x + _AROUND_POINT * width,
            y + _AROUND_POINT * height,
        )
        if 0 <= x <= width and 0 <= y <= height:
            warnings.add(
                "only_point",
                f"item {item.number} has only a point, {written}, and no box",
                "a fifth of the image around it was taken: draw its box",
            )
            return clamped(mapped, frame.image_size)
    x1, y1, x2, y2 = mapped
    if x1 > x2 or y1 > y2:
        warnings.add("inverted", f"item {item.number}: the box {written} was inverted; its corners were exchanged")
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    if not all(math.isfinite(value) for value in (x1, y1, x2, y2)) or x1 == x2 or y1 == y2:
        warnings.add("dropped_no_area", f"item {item.number} was dropped: the box {written} has no area")
        return None
    box = (x1, y1, x2, y2)
    inside = clamped(box, frame.image_size)
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        warnings.add(
            "dropped_outside",
            f"item {item.number} was dropped: the box {written} lies outside the image of {width}x{height}",
            "check which coordinates the boxes are written in",
        )
        return None
    if max(abs(a - b) for a, b in zip(box, inside, strict=True)) > 0.01:
        warnings.add(
            "clamped",
            f"item {item.number}: the box {written} reaches over the border of the image and was clamped to it",
        )
    return inside


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


def _region(item: Item, box: Box, name: str, warnings: Notices) -> Region:
    """The region with what else its item says; what it says wrongly is left out, with a warning."""
    hint = whole_characters(item.hint, f"item {item.number}: the hint", warnings)
    region = Region(name, box, hint, extra=_unknown_keys(item, warnings))
    more: dict[str, Any] = {
        key: item.keys[key] for key in ("negative_hint", "start", "end", "enabled") if key in item.keys
    }
    try:
        if item.keys.get("mask") is not None:
            more["mask"] = mask_from_dict(item.keys["mask"], f"region '{name}'")
        return replace(region, **more)
    except PlanError as error:
        warnings.add("value_left_out", f"item {item.number}: {error}; only its box and hint were used")
        return region


def whole_characters(text: str, what: str, warnings: Notices) -> str:
    """`text` with each half of a character replaced; `what` names it in the warning."""
    whole = well_formed(text)
    if whole != text:
        warnings.add("half_character", f"{what} holds half a character, which was replaced: {shown(text)}")
    return whole


def _unknown_keys(item: Item, warnings: Notices) -> dict[str, Any]:
    """The keys that a plan does not know, for whoever wrote them, as far as JSON can write them again."""
    kept = {key: value for key, value in item.keys.items() if key not in (*REGION_KEYS, *item.used)}
    for key, value in list(kept.items()):
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            warnings.add(
                "value_left_out",
                f"item {item.number}: the key {shown(key)} was left out, its value is not JSON: {shown(value)}",
            )
            del kept[key]
    return kept
