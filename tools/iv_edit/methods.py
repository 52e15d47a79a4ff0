"""The ways to edit a record that a benchmark compares, and the plans that some of them give to the workflow.

A method says which columns the workflow gets. The boxes of `perturbed_N` are those of a plan with each corner moved by
up to N % of the box (RePlan, appendix G); `sequential` edits one region after another, each on the result before.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from replan.planner.plan import KEEP_UNCHANGED, PlanError, Region, RegionPlan
from replan.planner.plans.plan_json import plan_from_json
from replan.planner.replies import read_plan
from replan.tools.batches.items import BatchError
from replan.tools.iv_edit.image_files import read_rgb, size_of
from replan.tools.iv_edit.records import Record

PERTURBED = (0, 10, 20, 50, 70)  # percent, as published
_WHITE = 127


class Method(NamedTuple):
    """One way to edit. columns: what the workflow gets of a record. what: in words."""

    columns: tuple[str, ...]
    what: str


METHODS = {
    "plain": Method(("image", "instruction"), "the instruction as the prompt, no regions"),
    "rephrased": Method(("image", "instruction"), "the instruction as short commands: by the workflow, or --texts"),
    "replan": Method(("image", "instruction"), "the workflow plans and edits"),
    "replan_boxes": Method(("image", "instruction", "plan"), "edits by boxes that are given"),
    "sequential": Method(("image", "instruction", "plan"), "one region after another, each on the result before"),
    **{
        f"perturbed_{share}": Method(("image", "instruction", "plan"), f"box corners moved by up to {share} %")
        for share in PERTURBED
    },
}  # fmt: skip


def method_of(name: str) -> Method:
    """A method by its name. Raises BatchError with the names there are."""
    share = share_of(name)
    if share is not None and share <= 1:
        return METHODS["perturbed_0"]._replace(what=f"box corners moved by up to {share:.0%} of the box's sides")
    if name not in METHODS:
        raise BatchError(f"--method {name}: there are {', '.join(METHODS)}")
    return METHODS[name]


def share_of(name: str) -> float | None:
    """How far `perturbed_N` moves corners, as a share of the box; None for other methods."""
    found = re.fullmatch(r"perturbed_(\d{1,3})", name)
    return int(found[1]) / 100 if found else None


def recorded_plan(record: Record, coordinates: str = "auto") -> RegionPlan:
    """The plan that a record itself gives: its boxes, else its answer, else the box of its mask.

    Boxes come with the instruction as their hint. coordinates: what the numbers of an answer count, as for
    `replies.read_plan`. Raises PlanError for a record without any.
    """
    size = size_of(record.image)
    if record.boxes:
        boxes = [_clamped(box, size) for box in record.boxes]
        return RegionPlan(size, KEEP_UNCHANGED, _regions([box for box in boxes if box], record.instruction))
    if record.answer:
        return read_plan(record.answer, size, coordinates)[0]
    if record.mask:
        scaled = read_rgb(record.mask).convert("L").resize(size)
        box = scaled.point(lambda value: 255 * (value > _WHITE)).getbbox()
        if box is None:
            raise PlanError(f"its mask {record.mask} has no white pixel")
        return RegionPlan(size, KEEP_UNCHANGED, _regions([box], record.instruction))
    raise PlanError("it has no boxes, no answer and no mask to plan by; take --plans METHOD")


def plan_of_result(folder: Path) -> RegionPlan:
    """The plan that a result was edited by. Raises PlanError where result.json has none."""
    try:
        found = json.loads((folder / "result.json").read_text(encoding="utf-8")).get("plan")
    except (OSError, ValueError, AttributeError):
        found = None
    if not isinstance(found, dict):
        raise PlanError(f"{folder} holds no result.json with one plan; edit it with that method first")
    return plan_from_json(found)


def perturbed(plan: RegionPlan, share: float, name: str, seed: int = 0) -> RegionPlan:
    """Each coordinate of each corner moved by up to `share` of the box's side, the same for the same name and seed.

    Boxes stay in the image and at least a pixel wide; masks, which would not move along, are dropped.
    """
    drawn = random.Random(hashlib.sha256(json.dumps([seed, name]).encode("utf-8", "surrogatepass")).digest())
    width, height = plan.image_size
    regions = []
    for region in plan.regions:
        x1, y1, x2, y2 = region.box
        moves = [drawn.uniform(-share, share) for _ in range(4)]
        left, right = _between(x1 + moves[0] * (x2 - x1), x2 + moves[2] * (x2 - x1), width)
        top, bottom = _between(y1 + moves[1] * (y2 - y1), y2 + moves[3] * (y2 - y1), height)
        regions.append(replace(region, box=(left, top, right, bottom), mask=None))
    return plan.with_regions(regions)


def one_by_one(plan: RegionPlan) -> list[RegionPlan]:
    """A plan for each region alone; what the plan asks of the whole image is asked once, with the first."""
    regions = plan.active.regions
    if not regions:
        return [plan]
    parts = [plan.with_regions([region]) for region in regions]
    return [parts[0], *(replace(part, global_prompt=KEEP_UNCHANGED) for part in parts[1:])]


def plans(
    name: str, records: list[Record], planned: Callable[[Record], RegionPlan], seed: int, say: Callable[[str], None]
) -> Iterator[tuple[Record, RegionPlan]]:
    """Records with the plan that a method edits them by; one without a plan is told and left out."""
    share = share_of(name)
    for record in records:
        try:
            plan = planned(record)
            yield record, plan if share is None else perturbed(plan, share, record.name, seed)
        except (PlanError, OSError) as error:
            say(f"row {record.row}, {record.name}, is left out: {error}")


def _between(low: float, high: float, most: int) -> tuple[float, float]:
    low, high = sorted((min(max(low, 0.0), float(most)), min(max(high, 0.0), float(most))))
    if high - low < 1:
        low = min(max(low, 0.0), most - 1.0)
        high = low + 1
    return low, high


def _regions(boxes: list, hint: str) -> tuple[Region, ...]:
    if not boxes:
        raise PlanError("none of its boxes lies in the image")
    return tuple(Region(f"r{number}", tuple(map(float, box)), hint) for number, box in enumerate(boxes, 1))


def _clamped(box: tuple[float, ...], size: tuple[int, int]) -> tuple[float, ...] | None:
    (x1, y1, x2, y2), (width, height) = box, size
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    return inside if inside[0] < inside[2] and inside[1] < inside[3] else None
