"""Choosing by scores: the best of several edits, and the regions of a plan that are not done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..planner.plan import Notice, PlanError, RegionPlan
from .scores import Scores

# Scores this close are a tie: what a model rounds and what a mean leaves of it.
_TIE = 1e-6
# What makes the scores of each producer say something about regions.
_ABOUT_REGIONS = {
    "judge": "connect the plan to RePlan Judge and turn per_region on",
    "alignment": "connect the image before the edit to 'before' of RePlan Alignment",
    "edit report": "connect the plan to RePlan Edit Report",
}


class Choice(NamedTuple):
    """Which edit was taken. index: from 0; tied: all that share the best score, index first; report: every score."""

    index: int
    tied: tuple[int, ...]
    report: str


def pick_best(scores: Sequence[Scores], by: str = "") -> Choice:
    """The edit with the best score `by` (by default the main one that all edits have); of equal ones the first.

    Edits without that score cannot win. Raises PlanError when none has it, naming the scores that there are, and when
    the edits' main scores are not the same one, which do not compare.
    """
    mains = sorted({one.main for one in scores if one.main})
    if not by and len(mains) > 1:
        raise PlanError(
            f"the edits' main scores are {', '.join(mains)}, which do not compare; write one that all edits have into "
            "'by', or score all of them in the same way"
        )
    ranked = [one.ranked(by) for one in scores]
    found = [value for value in ranked if value is not None]
    names = sorted({name for one in scores for name in one.image})
    what = by or next(iter(mains), "the main score")
    if not found:
        missing = f"; {_unanswered(scores)}" if any(one.missing for one in scores) else ""
        raise PlanError(
            f"none of {len(scores)} edits has the score '{what}'{missing}; choose one of {', '.join(names) or 'none'}"
        )
    best = max(found)
    tied = tuple(index for index, value in enumerate(ranked) if value is not None and best - value <= _TIE)
    lines = [f"Edit {tied[0] + 1} of {len(scores)} has the best {what}"]
    if len(tied) > 1:
        lines[0] += f", tied with {', '.join(str(index + 1) for index in tied[1:])}: the first was taken"
    for index, one in enumerate(scores):
        told = ", ".join(f"{name} {value:.4g}" for name, value in one.image.items()) or "no score"
        lost = f" (no answer: {', '.join(one.missing)})" if one.missing else ""
        lines.append(f"{'->' if index == tied[0] else '  '} {index + 1}: {told}{lost}")
    return Choice(tied[0], tied, "\n".join(lines))


class Failed(NamedTuple):
    """The regions that are not done. plan: these alone enabled, its notices say so; report: one line per region."""

    plan: RegionPlan
    count: int
    report: str


def failed_regions(plan: RegionPlan, scores: Scores, threshold: float = 0.5) -> Failed:
    """The plan of the enabled regions whose score lies below `threshold` (0..1).

    A region without an answer is not taken as failed, and told. Raises PlanError for scores without regions and for
    another threshold.
    """
    if not 0 <= threshold <= 1:
        raise PlanError(f"the threshold is {threshold}; give a share from 0 to 1, such as 0.5")
    name = scores.region_main
    if not name or (plan.active.regions and not scores.regions):
        remedy = _ABOUT_REGIONS.get(scores.by, "connect the plan to the node that gives them")
        raise PlanError(f"the scores of the {scores.by} do not say which regions are done; {remedy}")
    known = {region.id for region in plan.active.regions}
    if known and not known & set(scores.regions):
        raise PlanError(
            f"the scores name the regions {', '.join(scores.regions)}, the plan {', '.join(sorted(known))}; "
            "connect the plan that was judged"
        )
    lines, failed, unknown = [], [], []
    for region in plan.active.regions:
        value = scores.regions.get(region.id, {}).get(name)
        hint = f" ({region.hint})" if region.hint else ""
        if value is None:
            unknown.append(region.id)
            lines.append(f"? {region.id}: no answer about it; left out{hint}")
        elif value < threshold:
            failed.append(region)
            lines.append(f"x {region.id}: {name} {value:.3g} below {threshold:g}{hint}")
        else:
            lines.append(f"  {region.id}: {name} {value:.3g}{hint}")
    told = plan.with_regions(failed)
    if unknown:
        notice = Notice(
            "not_scored",
            f"nothing is known of {len(unknown)} region{'s' * (len(unknown) != 1)} ({', '.join(unknown)})",
            "judge again, or edit by eye",
            tuple(unknown),
        )
        told = told.with_notices(notice)
    total = len(plan.active.regions)
    return Failed(told, len(failed), "\n".join([f"{len(failed)} of {total} regions failed", *lines]))


def _unanswered(scores: Sequence[Scores]) -> str:
    return "questions without an answer: " + ", ".join(dict.fromkeys(name for one in scores for name in one.missing))
