"""RePlan's tag text: how a plan is written with its tags, and how words that look like tags are hidden in it.

    <think>reasoning</think><gen_image>global prompt</gen_image>
    <region>[{"bbox_2d": [x1, y1, x2, y2], "hint": "..."}]</region>

This is what the published planner answers and its page sends (replan.txt, replan.py and app.py of the published code).
Writing adds `<image_size>[w, h]</image_size>`, which the published readers skip, so that a text written here
says what its boxes count; whatever is not a default rides as a further key of its item, and so does a key that
is not known (`label`, `point_2d`), which reading keeps. Texts in tags are a model's words; where a region's are not,
because a person typed prompt syntax such as (red:1.3), its item has `plain_texts`. Reading is `replies`.
"""

from __future__ import annotations

import math
import re
from typing import Any

from ..plan import KEEP_UNCHANGED, Region, RegionMask, RegionPlan
from .plan_json import REGION_KEYS, encode_json, mask_to_dict

# What could begin a tag or another mark of a model: in a text it is hidden from every reader, whatever words it knows.
_MARK = r"(?=\s{0,8}(?:[/|]\s{0,8}){0,2}[^\W\d])"
_BEGINS = re.compile(f"<{_MARK}")
_HIDDEN = re.compile(f"&(?P<amps>(?:amp;)*)lt;{_MARK}")


def write_tags(plan: RegionPlan) -> str:
    """The plan as tag text: boxes as whole pixels of its image, at least one pixel wide and high.

    Read back, it gives the plan again, but for the rounding, its notices, the plan's own unknown keys (a region's
    are written), regions without a hint and space around a text.
    """
    width, height = plan.image_size
    reasoning = f"<think>{_escaped(plan.reasoning.strip())}</think>" if plan.reasoning.strip() else ""
    prompt = _escaped(plan.global_prompt.strip() or KEEP_UNCHANGED)
    items = [_written(region, number) for number, region in enumerate(plan.regions, 1)]
    # Inside JSON a tag in a hint can be hidden from every reader of tags, and from none of JSON.
    listed = encode_json(items).replace("<", "\\u003c")
    size = f"<image_size>[{width}, {height}]</image_size>"
    return f"{reasoning}<gen_image>{prompt}</gen_image><region>{listed}</region>{size}"


def _written(region: Region, number: int) -> dict[str, Any]:
    (x1, x2), (y1, y2) = (_whole(region.box[axis], region.box[axis + 2]) for axis in (0, 1))
    item: dict[str, Any] = {"bbox_2d": [x1, y1, x2, y2], "hint": region.hint}
    if region.plain_texts != region.with_plain_texts().plain_texts:
        # A reader strips the hint.
        item["plain_texts"] = [text.strip() if text == region.hint else text for text in region.plain_texts]
    if region.negative_hint:
        item["negative_hint"] = region.negative_hint
    if (region.start, region.end) != (0.0, 1.0):
        item |= {"start": region.start, "end": region.end}
    mask: RegionMask | None = region.mask
    if mask is not None:
        item["mask"] = mask_to_dict(mask)
    if not region.enabled:
        item["enabled"] = False
    if region.id != f"r{number}":
        item["id"] = region.id
    return item | {key: value for key, value in region.extra.items() if key not in REGION_KEYS}


def _whole(first: float, last: float) -> tuple[int, int]:
    start, stop = round(first), round(last)
    return (start, stop) if start < stop else (math.floor(first), math.floor(first) + 1)


def _escaped(text: str) -> str:
    """Hide what looks like a tag in a text: `<` becomes `&lt;`, and what is already so gets one `amp;` more."""
    return _BEGINS.sub("&lt;", _HIDDEN.sub(r"&amp;\g<amps>lt;", text))


def unescaped(text: str) -> str:
    """The text that `write_tags` hid tags in."""
    return _HIDDEN.sub(lambda m: f"&{m['amps'][4:]}lt;" if m["amps"] else "<", text)
