"""How well an edit did what was meant, measured on pixels against the exact target. No model judges anything.

Target and Effect are asked of every meant object, over the pixels that its edit changes; for the Effect what was asked
must also be recognised: of all values of the property, the wanted one is nearest. So neither a flooded box nor a blot
in place of a star is an effect; that an object lost its stripes on the way, or its colour where only stripes were
asked for, is none of the Effect's business, but the published judge's Quality's. Consistency is asked of everything
outside the regions. Overall and Weighted follow the published judge (RePlan's evaluation code: Overall is the mean of
the criteria; Weighted multiplies Consistency with Effect), on a scale of 0..1 and without its Quality, which pixels
cannot tell.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from replan.planner.plan import Region, RegionPlan

from .drawing import ACCENT, COLOURS, PATTERNS, SHAPES
from .edits import RECOLOUR, REPATTERN, RESHAPE, Instruction, difference
from .scenes import Object, Scene
from .tasks import Task

if TYPE_CHECKING:
    from .lessons import Example

HALF_WAY = 0.5  # of the distance between before and after: closer than that counts as reached
VISIBLE = 0.15  # of the range of a colour: a pixel that moved further has changed
WORST, BEST = 15.0, 30.0  # dB outside the regions: Consistency 0 and 1
PATCH = 16  # pixels: regions are whole patches
CAP = 60.0  # dB, for an image without any error
GOOD_IOU = 0.5  # from which a box counts as found
# dB between an edited image and the nearest of what it could be, from which Quality is 2, 3, 4 and 5.
_QUALITY = (18.0, 22.0, 26.0, 30.0)


@dataclass(frozen=True)
class Scores:
    """One edit, or the mean of many. All in 0..1 but `consistency_psnr` (dB).

    target: share of the scene's meant objects that changed. effect: share that became what was asked. outside_changed:
    share of the pixels outside the regions. lookalikes_changed: whether anything named but not meant changed (in the
    mean: the share of scenes in which it did, of those that have such objects; NaN without any).
    """

    target: float
    effect: float
    consistency_psnr: float
    outside_changed: float
    lookalikes_changed: float
    overall: float
    weighted: float

    @property
    def consistency(self) -> float:
        """0..1, of one edit or the mean of many: what Overall has besides Target and Effect."""
        return 3 * self.overall - self.target - self.effect

    @property
    def spilled(self) -> str:
        """What became of the look-alikes of one edit, in words."""
        if math.isnan(self.lookalikes_changed):
            return "no look-alikes"
        return f"look-alikes {'changed' if self.lookalikes_changed else 'left alone'}"


class Outcome(NamedTuple):
    """What became of one meant object.

    kind: of its edit. changed: half the way gone. reached: half the way left at most, and recognised.
    """

    kind: str
    changed: bool
    reached: bool


def outcomes(task: Task, result: np.ndarray) -> list[Outcome]:
    """One for each meant object, in the task's order. result: (size, size, 3) uint8, the edited picture."""
    source, wanted, found = _pixels(task.scene), _pixels(task.wanted), _found(task, result)
    rows = []
    for identity, instruction in task.instructions:
        where = difference(task.scene, instruction.apply(task.scene, (identity,)))
        half = HALF_WAY * _off(source, wanted, where)
        reached = _off(found, wanted, where) <= half and recognised(task, identity, result)
        rows.append(Outcome(instruction.kind, _off(found, source, where) >= half, reached))
    return rows


def recognised(task: Task, identity: int, result: np.ndarray) -> bool:
    """Whether a meant object's region is nearer to what is wanted than to all else it could have become.

    That is: `alternatives`, its box flooded with its colour, its outline filled with the stripes' dark. By squared
    error over the region's patches, but for pixels of the other edits and of look-alikes, which have scores of their
    own.
    """
    near, right, others = _region(task, identity)
    found = result.astype(np.int32)[near]
    return np.square(found - right).sum() < np.square(found - others).sum((1, 2)).min()


def alternatives(before: Object, instruction: Instruction) -> set[Object | None]:
    """What an object could wrongly be after its edit: as before, gone (None), or with another value of the property."""
    after = instruction.changed(before)
    name, values = {
        RECOLOUR: ("colour", tuple(COLOURS)),
        RESHAPE: ("shape", SHAPES),
        REPATTERN: ("pattern", PATTERNS),
    }.get(instruction.kind, ("radius", (before.radius,)))
    return {None, before, *(replace(before, **{name: value}) for value in values)} - {after}


@functools.lru_cache(maxsize=64)
def _region(task: Task, identity: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a meant object's region: its pixels, their wanted colours (n, 3), and those of each alternative (k, n, 3)."""
    changes = {one: difference(task.scene, edit.apply(task.scene, (one,))) for one, edit in task.instructions}
    own = changes.pop(identity)
    others = np.logical_or.reduce([difference(task.wanted, task.literal), *changes.values()])
    region = task.plan.regions[task.meant.index(identity)]
    near = _patches(region.box, task.scene.size) & (own | ~others)
    before = task.scene.object(identity)
    after = dict(task.instructions)[identity].changed(before)
    rest = {one: edit.changed(task.scene.object(one)) for one, edit in task.instructions if one != identity}

    def shown(thing: Object | None) -> np.ndarray:
        now = (thing if one.id == identity else rest.get(one.id, one) for one in task.scene.objects)
        return task.scene.with_objects(one for one in now if one is not None).pixels[near].astype(np.int32)

    flooded, dark = (task.wanted.pixels.astype(np.int32) for _ in range(2))
    left, top, right, bottom = (int(edge) for edge in region.box)
    flooded[top:bottom, left:right] = COLOURS[(after or before).colour]
    dark[task.wanted.mask(identity) if after else own] = ACCENT
    wrong = [shown(thing) for thing in alternatives(before, dict(task.instructions)[identity])]
    return near, shown(after), np.stack([*wrong, flooded[near], dark[near]])


def score(task: Task, result: np.ndarray) -> Scores:
    """Scores of an edited picture: (size, size, 3) uint8."""
    source, found = _pixels(task.scene), _found(task, result)
    rows = outcomes(task, result)
    outside = outside_regions(task)
    moved = np.abs(found - source).max(-1) > VISIBLE
    psnr = _psnr(float(np.square(found - source)[outside].mean())) if outside.any() else CAP
    target, effect = (float(np.mean([getattr(row, name) for row in rows])) for name in ("changed", "reached"))
    consistency = min(1.0, max(0.0, (psnr - WORST) / (BEST - WORST)))
    return Scores(
        target,
        effect,
        psnr,
        float(moved[outside].mean()) if outside.any() else 0.0,
        _others_changed(task, source, found),
        (target + effect + consistency) / 3,
        (target + effect + effect * consistency) / 3,
    )


def effect_by_kind(rows: Iterable[Outcome]) -> dict[str, float]:
    """The share of objects that became what was asked, for each kind of edit among them."""
    kinds: dict[str, list[bool]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row.reached)
    return {kind: float(np.mean(reached)) for kind, reached in sorted(kinds.items())}


def outside_regions(task: Task) -> np.ndarray:
    """The pixels in no patch that the box of a meant object touches: (size, size) bool."""
    regions = [_patches(region.box, task.scene.size) for region in task.plan.regions]
    return ~np.logical_or.reduce([np.zeros((task.scene.size,) * 2, bool), *regions])


def _patches(box: Sequence[float], size: int) -> np.ndarray:
    """The pixels of the patches that a box (x1, y1, x2, y2) touches: (size, size) bool."""
    left, top = (int(edge) // PATCH * PATCH for edge in box[:2])
    right, bottom = (math.ceil(edge / PATCH) * PATCH for edge in box[2:])
    inside = np.zeros((size, size), bool)
    inside[top:bottom, left:right] = True
    return inside


def mean(scores: Iterable[Scores]) -> Scores:
    """The mean of each score over scenes; of the look-alikes over the scenes that have some."""
    rows: Sequence[Scores] = list(scores)
    if not rows:
        raise ValueError("no scores to take the mean of")
    columns = {field.name: np.array([getattr(row, field.name) for row in rows]) for field in fields(Scores)}
    named = columns["lookalikes_changed"]
    out = {name: float(column.mean()) for name, column in columns.items()}
    out["lookalikes_changed"] = float(named[~np.isnan(named)].mean()) if not np.isnan(named).all() else math.nan
    return Scores(**out)


def _others_changed(task: Task, source: np.ndarray, found: np.ndarray) -> float:
    """1 when an object that is named but not meant has gone half the way of an instruction that names it."""
    if not task.others:
        return math.nan
    meant = difference(task.scene, task.wanted)  # where objects touch, these pixels are meant to change
    for identity in task.others:
        for _, instruction in task.instructions:
            if identity not in instruction.named(task.scene):
                continue
            after = instruction.apply(task.scene, (identity,))
            where = difference(task.scene, after) & ~meant
            if where.any() and _off(found, source, where) >= HALF_WAY * _off(_pixels(after), source, where):
                return 1.0
    return 0.0


def _found(task: Task, result: np.ndarray) -> np.ndarray:
    if result.shape != task.scene.pixels.shape:
        raise ValueError(f"the edited picture is {result.shape}, the scene {task.scene.pixels.shape}")
    return result.astype(np.float64) / 255


def _pixels(scene: Scene) -> np.ndarray:
    return scene.pixels.astype(np.float64) / 255


def _off(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    """Root mean square difference over some pixels."""
    return float(np.sqrt(np.square(one - other)[where].mean()))


def _psnr(mean_square: float) -> float:
    return CAP if mean_square <= 0 else min(CAP, -10 * math.log10(mean_square))


# The published judge's scales


def exact_answers(task: Task, result: np.ndarray) -> dict[str, int]:
    """The published questions on their published scales, out of exact measures. result: (size, size, 3) uint8.

    Target: every meant object changed. Effect: all, some or none became what was asked. Consistency: by thirds of the
    way from 15 to 30 dB outside the regions. Quality, which pixels cannot tell: how near the image is to the nearest
    of three that are well made, the scene, what is wanted, and what the words alone ask for.
    """
    found = score(task, result)
    drawn = (task.scene, task.wanted, task.literal)
    errors = [np.square(result.astype(float) - one.pixels.astype(float)).mean() for one in drawn]
    kept = (found.consistency_psnr - WORST) / (BEST - WORST)
    nearest = 10 * np.log10(255**2 / max(min(errors), 1e-3))
    return {
        "target": 5 if found.target == 1 else 1,
        "effect": 5 if found.effect == 1 else 3 if found.effect > 0 else 1,
        "consistency": 5 if kept >= 2 / 3 else 3 if kept >= 1 / 3 else 1,
        "quality": 1 + sum(bool(nearest >= bound) for bound in _QUALITY),
    }


# Plans


class PlanScore(NamedTuple):
    """A plan beside the true one.

    ious: of each meant object with the region in its place, 0 without one. hints: how many hints are as wanted. state:
    "clean", "repaired" (read with warnings, or with another number of regions) or "failed" (no plan in the reply).
    """

    ious: tuple[float, ...]
    hints: int
    state: str

    @property
    def good(self) -> bool:
        return min(self.ious) >= GOOD_IOU


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2)."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared)


def score_plan(wanted: RegionPlan, plan: RegionPlan | None, repaired: bool = False) -> PlanScore:
    """Score a plan. Regions are compared in their order: requests name one object after the other."""
    if plan is None:
        return PlanScore((0.0,) * len(wanted.regions), 0, "failed")
    ious = [0.0] * len(wanted.regions)
    hints = 0
    for index, (want, region) in enumerate(zip(wanted.regions, plan.regions, strict=False)):
        ious[index] = iou(want.box, region.box)
        hints += want.hint == region.hint
    clean = not repaired and len(plan.regions) == len(wanted.regions)
    return PlanScore(tuple(ious), hints, "clean" if clean else "repaired")


def plan_figures(scores: Sequence[PlanScore]) -> dict[str, float | int]:
    """Shares of scenes (all their boxes good) and of objects with a good box, the mean IoU, and the replies' states."""
    ious = [value for one in scores for value in one.ious]
    return {
        "scenes": len(scores),
        "objects": len(ious),
        "scenes_found": round(sum(one.good for one in scores) / len(scores), 4),
        "objects_found": round(sum(value >= GOOD_IOU for value in ious) / len(ious), 4),
        "mean_iou": round(float(np.mean(ious)), 4),
        "hints_right": round(sum(one.hints for one in scores) / len(ious), 4),
        "replies_repaired": sum(one.state == "repaired" for one in scores),
        "replies_failed": sum(one.state == "failed" for one in scores),
    }


# Answers to the pack's templates


class Answered(NamedTuple):
    """A reply to a template beside what is right.

    boxes: the plan's, or those of what was to be found; None where nothing is to be located. kind, answer: whether the
    word of a hypothetical kind and the answer to a question are right; None where none is asked for.
    """

    boxes: PlanScore | None
    kind: bool | None
    answer: bool | None

    @property
    def good(self) -> bool:
        return (self.boxes is None or self.boxes.good) and self.answer is not False


def score_answer(example: Example, plan: RegionPlan | None) -> Answered:
    """Score what a reply was read as, None for a reply that holds nothing."""
    said = plan.extra if plan else {}
    kind = said.get("kind") == example.kind if example.kind else None
    if example.task:
        return Answered(score_plan(example.task.plan, plan, bool(plan and plan.warnings)), kind, None)
    if not example.found:
        located = bool(plan and plan.regions)  # what is not there, or a question that locates nothing
        return Answered(None, kind, not located and said.get("answer") == example.answer)
    things = [example.scene.object(identity) for identity in example.found]
    hints = {thing.id: f"{thing.colour} {thing.shape}" for thing in things}
    return Answered(score_plan(_in_place(example.scene, hints), plan), kind, None)


def _in_place(scene: Scene, hints: dict[int, str]) -> RegionPlan:
    regions = [Region(f"o{one}", tuple(map(float, scene.box(one))), hint) for one, hint in hints.items()]
    return RegionPlan((scene.size, scene.size), regions=tuple(regions))


def answer_figures(answers: Sequence[Answered]) -> dict[str, float | int]:
    """Shares of scenes (right in all that is asked), of kinds, of answers in words, and the figures of plans."""
    boxes = [one.boxes for one in answers if one.boxes is not None]
    out: dict[str, float | int] = {"scenes": len(answers), "right": _share([one.good for one in answers])}
    for name in ("kind", "answer"):
        told = [value for one in answers if (value := getattr(one, name)) is not None]
        if told:
            out[f"{name}_right"] = _share(told)
    if boxes:
        out |= {key: value for key, value in plan_figures(boxes).items() if key != "scenes"}
    return out


def _share(values: Sequence[bool]) -> float:
    return round(sum(values) / len(values), 4)
