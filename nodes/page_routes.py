"""What the page asks of the pack between runs, on ComfyUI's own server: POST /replan/<question>, JSON there and back.

An answer is 200; what cannot be answered is {"error": why, in words for a person}. The page's side is
web/js/common/ask.js.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from ..attention.payload import RegionError
from ..attention.rules_page import matrix_for_page
from ..planner.geometry import ARRANGEMENTS, arranged
from ..planner.plan import PlanError, RegionMask, checked_box
from ..planner.plans.change import expand_regions
from ..planner.plans.differences import differences
from ..planner.plans.editor_value import question_on, read_stored
from ..planner.plans.plan_json import encode_json, plan_from_json, plan_to_json
from ..planner.plans.resize import keep_pixels
from ..planner.replies import read_plan

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 20
MOST_CELLS = 1 << 24  # of all regions' grids together, and of their masks: a few bytes write a mask of any size
MOST_EXPANDED = 1000
MOST_ROWS = 120  # regions with rows of their own in the rule matrix


def add_routes() -> None:
    """Add the routes to ComfyUI's server. It is there when ComfyUI loads the pack, and before it starts to listen."""
    from server import PromptServer, web

    async def reply(request) -> Any:
        answer = ANSWERS.get(request.match_info["question"])
        status, found = (404, _error("no such question")) if answer is None else await _answer(answer, request.content)
        return web.Response(text=found, status=status, content_type="application/json")

    PromptServer.instance.routes.post("/replan/{question}")(reply)


async def _answer(answer, content) -> tuple[int, str]:
    body = b""
    async for part in content.iter_any():  # counted here: a body in chunks does not say how long it is
        body += part
        if len(body) > MOST_BYTES:
            return 413, _error(f"the text has more than {MOST_BYTES >> 20} MiB, more than the editor takes at once")
    try:
        return 200, await asyncio.to_thread(lambda: encode_json(answer(_asked(body))))
    except PlanError as error:
        return 400, _error(str(error))
    except Exception:  # the page shows it; the log says where
        log.exception("a question of the page could not be answered")
        return 500, _error("the pack could not answer; ComfyUI's log says why")


def _error(text: str) -> str:
    return encode_json({"error": text})


def _asked(body: bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, Mapping):
        raise PlanError("the question is not a JSON object")
    return data


def read(asked: Mapping[str, Any]) -> dict[str, Any]:
    """A plan out of any text that RePlan Plan from Text reads.

    asked: text, image_size [width, height] of the image, coordinates. The answer: plan, on that image; note, what
    its boxes were read as ("" without regions); warnings, what was repaired, dropped or guessed.
    """
    size = plan_from_json({"image_size": asked.get("image_size")}).image_size
    text, coordinates = _value(asked, "text", str), _value(asked, "coordinates", str)
    try:
        plan, note = read_plan(text, size, coordinates)
    except PlanError as why:
        try:
            copied, note = read_plan(text, None, coordinates)
        except PlanError:
            raise why from None  # without a size there is more that cannot be read
        if not copied.extra.get("part"):  # the page marks regions that were copied, and they go onto any image
            raise
        plan = keep_pixels(copied, size)
    return {"plan": json.loads(plan_to_json(plan)), "note": note, "warnings": list(plan.warnings)}


def check(asked: Mapping[str, Any]) -> dict[str, Any]:
    """asked: value, a stored value of the editor, and where it is known image_size [width, height].

    The answer: problem, why a run would refuse the value, or ""; with a size also question, what has to be answered
    before the value can be used on an image of that size, or "".
    """
    try:
        stored = read_stored(_value(asked, "value", str))
    except PlanError as error:
        return {"problem": str(error)}
    if "image_size" not in asked:
        return {"problem": ""}
    size = plan_from_json({"image_size": asked["image_size"]}).image_size
    return {"problem": "", "question": question_on(stored, size)}


def patches(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The patches that each region covers, masks included.

    asked: plan, patch (its side in pixels of the plan's image), expand (a ratio, as RePlan Expand Regions takes it).
    The answer: size [rows, columns], and cells, region id -> run lengths over them as a plan's mask has them.
    """
    plan = plan_from_json(_value(asked, "plan", Mapping)).active
    masked = sum(math.prod(region.mask.size) for region in plan.regions if region.mask is not None)
    if masked > MOST_CELLS:
        raise PlanError(f"masks of {masked} cells are too many to show; draw smaller ones, or switch some off")
    expand = _value(asked, "expand", (int, float))
    if abs(expand) > MOST_EXPANDED:
        raise PlanError(f"boxes expanded by more than {MOST_EXPANDED} times their size cannot be shown")
    plan = expand_regions(plan, expand)
    patch = max(1, _value(asked, "patch", int))
    width, height = plan.image_size
    rows, columns = (-(-side // patch) for side in (height, width))
    if rows * columns * len(plan.regions) > MOST_CELLS:
        raise PlanError(
            f"{rows * columns} patches for each of {len(plan.regions)} regions are too many to show; switch some off"
        )
    cells = {
        region.id: region.cells(plan.image_size, rows, columns, height / patch, width / patch)
        for region in plan.regions
    }
    return {"size": [rows, columns], "cells": {name: RegionMask.from_array(one).rle for name, one in cells.items()}}


def changes(asked: Mapping[str, Any]) -> dict[str, Any]:
    """asked: before, after, two plans. The answer: lines, what differs, in words."""
    before, after = (plan_from_json(_value(asked, name, Mapping)) for name in ("before", "after"))
    return {"lines": differences(before, after)}


def matrix(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The rule matrix as the page shows it: what `matrix_for_page` takes and answers; problem: why unreadable."""
    regions = _value(asked, "regions", list)
    if len(regions) > MOST_ROWS:
        raise PlanError(f"rows for {len(regions)} regions are too many to show; at most {MOST_ROWS}, switch some off")
    given = [_value(asked, name, str) for name in ("text", "preset", "family")]
    try:
        switch = _value(asked, "switch", (int, float)), _value(asked, "switch_step", int)
        answer = matrix_for_page(*given, [str(one) for one in regions], _value(asked, "changes", list), *switch)
        return {"problem": "", **answer}
    except RegionError as error:
        return {"problem": str(error)}


def arrange(asked: Mapping[str, Any]) -> dict[str, Any]:
    """asked: boxes, id -> [x1, y1, x2, y2] in any unit; how, a key of ARRANGEMENTS. The answer: boxes, arranged."""
    boxes = {name: checked_box(box, f"region '{name}'") for name, box in _value(asked, "boxes", Mapping).items()}
    how = _value(asked, "how", str)
    if how not in ARRANGEMENTS:
        raise PlanError(f"boxes are arranged as one of {', '.join(ARRANGEMENTS)}, found {how!r}")
    return {"boxes": dict(zip(boxes, arranged(list(boxes.values()), how) if boxes else [], strict=True))}


ANSWERS = {
    "read": read,
    "check": check,
    "patches": patches,
    "changes": changes,
    "matrix": matrix,
    "arrange": arrange,
}


def _value(asked: Mapping[str, Any], name: str, kind) -> Any:
    value = asked.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise PlanError(f"the question's '{name}' is missing, or of a wrong type")
    return value
