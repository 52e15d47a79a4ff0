"""RePlan's tag text: what its tags are, how a plan is written with them, and how words that look like tags are hidden.

    <think>reasoning</think><gen_image>global prompt</gen_image>
    <region>[{"bbox_2d": [x1, y1, x2, y2], "hint": "..."}]</region>

This is what the published planner answers and its page sends (replan.txt, replan.py and app.py of the published code).
Writing adds `<image_size>[w, h]</image_size>`, which the published readers skip, so that a text written here
says what its boxes count; whatever is not a default rides as a further key of its item, and so does a key that
is not known (`label`, `point_2d`), which reading keeps. Reading is `blocks` and `reply`.
"""

from __future__ import annotations

import math
import re
from typing import Any

from ..plan import KEEP_UNCHANGED, Region, RegionMask, RegionPlan
from .plan_json import REGION_KEYS, encode_json, mask_to_dict

# What a tag is called and what it means. The paper and its page call the global prompt <global>; models vary the rest.
MEANINGS = {
    "think": "think", "thinking": "think", "reasoning": "think",
    "gen_image": "gen_image", "gen-image": "gen_image", "global": "gen_image", "global_prompt": "gen_image", "global_edit": "gen_image",
    "region": "region", "regions": "region", "region_list": "region",
    "answer": "answer", "image_size": "image_size", "kind": "kind", "family": "kind", "outcome": "outcome",
    "scene": "scene", "scene_after": "scene_after", "ambiguous": "ambiguous",
}  # fmt: skip
_NAMES = f"(?i:{'|'.join(sorted(MEANINGS, key=len, reverse=True))})"
_REST = rf"\s{{0,8}}(?P<close>/?)\s{{0,8}}(?P<name>{_NAMES})(?:\s[^<>]{{0,80}})?>"
TAG = re.compile(f"<{_REST}")
_BODY = re.sub(r"\?P<\w+>", "?:", _REST)
_PLAIN_TAG = re.compile(rf"<(?={_BODY})")
_ESCAPED_TAG = re.compile(rf"&(?P<amps>(?:amp;)*)lt;(?={_BODY})")
# Other signs that models put around the names.
_ODD_TAG = re.compile(
    rf"(?:&lt;|[\uff1c\u300a\[])\s{{0,8}}(/?)\s{{0,8}}({_NAMES})\s{{0,8}}(?:&gt;|[\uff1e\u300b\]])",
    re.IGNORECASE,
)


def looks_tagged(text: str) -> bool:
    """Whether the text holds any of the tags."""
    return TAG.search(text) is not None


def begins_with_odd_tag(text: str) -> bool:
    """Whether the text begins with a tag in other signs; `[region]` looks like JSON otherwise."""
    return _ODD_TAG.match(text) is not None


def with_plain_tags(text: str) -> str:
    """`text` with angle brackets around its tags, if it has tags but writes them all in another way."""
    return text if looks_tagged(text) else _ODD_TAG.sub(r"<\1\2>", text)


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
    if not region.enabled:
        item["enabled"] = False
    if region.id != f"r{number}":
        item["id"] = region.id
    return item | {key: value for key, value in region.extra.items() if key not in REGION_KEYS}


def _whole(first: float, last: float) -> tuple[int, int]:
    start, stop = round(first), round(last)
    return (start, stop) if start < stop else (math.floor(first), math.floor(first) + 1)


def _escaped(text: str) -> str:
    """Hide tags that stand in a text: `<` becomes `&lt;`, and what is already so gets one `amp;` more."""
    return _PLAIN_TAG.sub("&lt;", _ESCAPED_TAG.sub(r"&amp;\g<amps>lt;", text))


def unescaped(text: str) -> str:
    """The text that `write_tags` hid tags in."""
    return _ESCAPED_TAG.sub(lambda m: f"&{m['amps'][4:]}lt;" if m["amps"] else "<", text)
