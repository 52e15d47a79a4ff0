"""The plan's own text: JSON, version 1. Owns what the keys are; the values are checked by `plan`.

    {"version": 1, "image_size": [w, h], "global_prompt": "", "reasoning": "",
     "regions": [{"id": "r1", "bbox_2d": [x1, y1, x2, y2], "hint": "", "negative_hint": "",
                  "start": 0.0, "end": 1.0, "mask": null | {"size": [h, w], "rle": [zeros, ones, ...]},
                  "enabled": true, "plain_texts": []}]}

Boxes are pixels of the image of `image_size`. Reading is strict: a value that is wrong is an error that names
the region and the value. Only a box that reaches over the border is clamped, with a notice. A key that is
not there has the default above (a region without an id gets one); a key that is not known is kept and written
again. Notices are about one reading and are not written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..plan import KEEP_UNCHANGED, Notice, PlanError, Region, RegionMask, RegionPlan, fresh_id, shown

VERSION = 1

_PLAN_KEYS = ("version", "image_size", "global_prompt", "reasoning", "regions")
REGION_KEYS = ("id", "bbox_2d", "hint", "negative_hint", "start", "end", "mask", "enabled", "plain_texts")
_HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")


def plan_to_json(plan: RegionPlan, indent: int | None = 2) -> str:
    """Write `plan` as JSON of version 1; floats and unknown keys come back exactly from `plan_from_json`."""
    data = {
        **plan.extra,
        "version": VERSION,
        "image_size": list(plan.image_size),
        "global_prompt": plan.global_prompt,
        "reasoning": plan.reasoning,
        "regions": [_region_to_dict(region) for region in plan.regions],
    }
    return encode_json(data, indent)


def plan_from_json(source: str | Mapping[str, Any]) -> RegionPlan:
    """Read a plan from its JSON text, or from the object that such a text holds.

    Raises PlanError for text that is not JSON (with line and column), for a later version, and for every
    value that a plan cannot hold.
    """
    data = decode_json(source) if isinstance(source, str) else source
    if not isinstance(data, Mapping):
        raise PlanError(f"a plan is a JSON object with image_size and regions, found {shown(data)}")
    version = data.get("version", VERSION)
    if version != VERSION or isinstance(version, bool):
        if isinstance(version, int) and version > VERSION:
            raise PlanError(
                f"this plan is of version {shown(version)} and this pack reads version {VERSION}; update the pack"
            )
        raise PlanError(f"a plan's version is the number {VERSION}, found {shown(version)}")
    if "image_size" not in data:
        raise PlanError('the plan has no "image_size": [width, height], the image its boxes refer to; add it')
    items = data.get("regions", [])
    if not isinstance(items, list):
        raise PlanError(f"a plan's regions are a list, found {shown(items)}")
    taken = {item["id"] for item in items if isinstance(item, Mapping) and isinstance(item.get("id"), str)}
    regions = []
    for number, item in enumerate(items, 1):
        regions.append(_region_from_dict(item, number, taken))
        taken.add(regions[-1].id)
    plan = RegionPlan(
        image_size=_whole_pair(data["image_size"], "a plan's image_size is two whole numbers [width, height]"),
        global_prompt=_text(data.get("global_prompt", KEEP_UNCHANGED), "the plan's global_prompt"),
        regions=tuple(regions),
        reasoning=_text(data.get("reasoning", ""), "the plan's reasoning"),
        extra={key: value for key, value in data.items() if key not in _PLAN_KEYS},
    )
    return _on_the_image(plan)


def _on_the_image(plan: RegionPlan) -> RegionPlan:
    """The plan with its boxes clamped to its image, and a notice for each that reached over the border."""
    regions, notices = [], []
    for region in plan.regions:
        regions.append(region.on_image(plan.image_size))
        if regions[-1] is not region:
            width, height = plan.image_size
            text = f"region '{region.id}': the box {list(region.box)} reaches over the border of the image of "
            text += f"{width}x{height} pixels and was clamped to it"
            notices.append(Notice("clamped", text, regions=(region.id,)))
    return plan.with_regions(regions).with_notices(*notices) if notices else plan


def encode_json(data: Any, indent: int | None = None) -> str:
    """`json.dumps` that any file can hold: letters as they are, half a character (in an unknown key) escaped."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=indent)
    return _HALF_CHARACTER.sub(lambda half: f"\\u{ord(half.group()):04x}", text)


def decode_json(text: str, what: str = "the plan's JSON") -> Any:
    """`json.loads` with a PlanError that says where the text stops being JSON; a byte order mark is skipped."""
    text = text.lstrip("\ufeff")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise PlanError(
            f"{what} cannot be read: {error.msg} at line {error.lineno}, column {error.colno}, "
            f"near {shown(text[max(0, error.pos - 20) : error.pos + 20])}"
        ) from None
    except RecursionError:
        raise PlanError(f"{what} cannot be read: its lists are nested too deeply; write them flat") from None
    except ValueError:  # Python reads no whole number of more than some thousand digits
        raise PlanError(
            f"{what} cannot be read: a number in it has too many digits; give pixels of the image"
        ) from None


def mask_to_dict(mask: RegionMask) -> dict[str, list[int]]:
    """A mask as the plan's JSON holds it: size [height, width] and run lengths."""
    return {"size": list(mask.size), "rle": list(mask.rle)}


def mask_from_dict(data: Any, name: str) -> RegionMask:
    """A mask out of its JSON (`mask_to_dict`). Raises PlanError, which calls its region `name`."""
    if not isinstance(data, Mapping) or not {"size", "rle"} <= data.keys():
        raise PlanError(f'{name}: a mask is null or {{"size": [h, w], "rle": [...]}}, found {shown(data)}')
    size = _whole_pair(data["size"], f"{name}: a mask's size is two whole numbers [height, width]")
    runs = data["rle"]
    if not isinstance(runs, list) or any(isinstance(run, bool) or not isinstance(run, int) for run in runs):
        raise PlanError(f"{name}: a mask's rle is a list of whole numbers, found {shown(runs)}")
    try:
        return RegionMask(size, tuple(runs))
    except PlanError as error:
        raise PlanError(f"{name}: {error}") from None


def _region_to_dict(region: Region) -> dict[str, Any]:
    return {
        **region.extra,
        "id": region.id,
        "bbox_2d": list(region.box),
        "hint": region.hint,
        "negative_hint": region.negative_hint,
        "start": region.start,
        "end": region.end,
        "mask": None if region.mask is None else mask_to_dict(region.mask),
        **({} if region.enabled else {"enabled": False}),
        **({"plain_texts": list(region.plain_texts)} if region.plain_texts else {}),
    }


def _region_from_dict(item: Any, number: int, taken: set[str]) -> Region:
    if not isinstance(item, Mapping):
        raise PlanError(f'region {number}: a region is an object with "bbox_2d" and "hint", found {shown(item)}')
    identity = item.get("id", None)
    if identity is None:
        identity = fresh_id(taken)
    if not isinstance(identity, str) or not identity:
        raise PlanError(f"region {number}: an id is a text that is not empty, found {shown(identity)}")
    name = f"region '{identity}'"
    if "bbox_2d" not in item:
        raise PlanError(f'{name} has no "bbox_2d": [x1, y1, x2, y2]; add its box in pixels of the plan\'s image')
    box = item["bbox_2d"]
    if not isinstance(box, list) or not all(_is_number(value) for value in box):
        raise PlanError(f"{name}: bbox_2d is four numbers [x1, y1, x2, y2], found {shown(box)}")
    mask = item.get("mask")
    return Region(
        id=identity,
        box=box,
        hint=_text(item.get("hint", ""), f"{name}: the hint"),
        negative_hint=_text(item.get("negative_hint", ""), f"{name}: the negative_hint"),
        start=item.get("start", 0.0),
        end=item.get("end", 1.0),
        mask=None if mask is None else mask_from_dict(mask, name),
        enabled=item.get("enabled", True),
        plain_texts=texts_from_list(item.get("plain_texts", []), f"{name}: plain_texts"),
        extra={key: value for key, value in item.items() if key not in REGION_KEYS},
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole_pair(value: Any, what: str) -> tuple[int, int]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or any(isinstance(v, bool) or not isinstance(v, int) for v in value)
    ):
        raise PlanError(f"{what}, found {shown(value)}")
    return value[0], value[1]


def texts_from_list(value: Any, what: str) -> tuple[str, ...]:
    """A list of texts as a tuple. Raises PlanError, which calls the value `what`."""
    if not isinstance(value, list):
        raise PlanError(f"{what} must be a list of texts, found {shown(value)}")
    return tuple(_text(text, what) for text in value)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise PlanError(f"{what} must be text, found {shown(value)}")
    return value
