"""One plan out of several replies to the same question: what most of them agree on, by the overlap of their boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import NamedTuple

from ..geometry import Box, iou
from ..plan import Notice, PlanError, Region, RegionPlan, shown

# Boxes with at least this IoU are the same region.
_LEAST_OVERLAP = 0.5


class _Vote(NamedTuple):
    """A region of one plan: which plan, and the region."""

    plan: int
    region: Region


def vote(plans: Sequence[RegionPlan]) -> RegionPlan:
    """The plan that the replies agree on.

    Regions of different plans are the same one when their boxes overlap by half (IoU); each plan has one vote for
    it. Those in more than half of the plans stay, in the order in which they first appear, and are on where more than
    half of the plans have them on: the box is the median of each edge, the hint the one said most often, or else that
    of the box nearest to the median. The global prompt is the one said most often. Reasoning and the rest are the
    first plan's among those that agree most. Where no region has enough votes, that plan is taken as it is.
    Notices say what was left out.

    Raises PlanError without plans, and for plans of images of different sizes.
    """
    if not plans:
        raise PlanError("there is no plan to vote on; ask the model at least once")
    sizes = {plan.image_size for plan in plans}
    if len(sizes) > 1:
        raise PlanError(
            f"the plans to vote on are for images of {len(sizes)} sizes, {sorted(sizes)}; ask about one image"
        )
    if len(plans) == 1:
        return plans[0]
    least = len(plans) // 2 + 1
    groups = _groups(plans)
    kept = [group for group in groups if len(group) >= least]
    agreeing = Counter(entry.plan for group in kept if len(_on(group)) >= least for entry in _on(group))
    nearest = max(
        range(len(plans)),
        key=lambda number: (agreeing[number] - (len(plans[number].active.regions) - agreeing[number]), -number),
    )
    base = plans[nearest]
    if any(map(_on, groups)) and not kept:
        return base.with_notices(
            Notice(
                "vote_disagrees",
                f"{len(plans)} replies agree on no region",
                f"the plan of reply {nearest + 1} was taken as it is: check it, or ask for more votes",
            )
        )
    regions = tuple(_agreed(group, least, f"r{number}") for number, group in enumerate(kept, 1))
    left_out = [
        Notice(
            "vote_left_out",
            f"the region {shown(_on(group)[0].region.hint)} is in {len(_on(group))} of {len(plans)} replies and was "
            f"{'switched off' if len(group) >= least else 'left out'}",
            f"{'switch it on' if len(group) >= least else 'draw it'}, if it is meant",
        )
        for group in groups
        if 0 < len(_on(group)) < least
    ]
    prompt = _most_said([plan.global_prompt for plan in plans])
    return replace(base, regions=regions, global_prompt=prompt).with_notices(*left_out)


def _groups(plans: Sequence[RegionPlan]) -> list[list[_Vote]]:
    """Regions that are the same one, at most one of each plan; the pairs that overlap most come together first."""
    groups: list[list[_Vote]] = []
    for number, plan in enumerate(plans):
        boxes = [_middle(group) for group in groups]
        pairs = sorted(
            (
                (iou(region.box, box), at, place)
                for place, region in enumerate(plan.regions)
                for at, box in enumerate(boxes)
            ),
            key=lambda pair: (-pair[0], pair[1], pair[2]),
        )
        taken: dict[int, int] = {}
        for overlap, at, place in pairs:
            if overlap >= _LEAST_OVERLAP and place not in taken and at not in taken.values():
                taken[place] = at
        for place, region in enumerate(plan.regions):
            if place in taken:
                groups[taken[place]].append(_Vote(number, region))
            else:
                groups.append([_Vote(number, region)])
    return groups


def _middle(group: Sequence[_Vote]) -> Box:
    """The median of each edge; since x1 < x2 in every box, it is so in the middle too."""
    x1, y1, x2, y2 = (median(entry.region.box[edge] for entry in group) for edge in range(4))
    return x1, y1, x2, y2


def _on(group: Sequence[_Vote]) -> list[_Vote]:
    """Those of the group that are switched on."""
    return [entry for entry in group if entry.region.enabled]


def _agreed(group: Sequence[_Vote], least: int, identity: str) -> Region:
    """The region of a group, on when at least `least` have it on; made of those that have it so."""
    on = len(_on(group)) >= least
    group = [entry for entry in group if entry.region.enabled == on]
    box = _middle(group)
    hint = _most_said([entry.region.hint for entry in group], strict=True)
    near = max(group, key=lambda entry: (entry.region.hint == hint, iou(entry.region.box, box)))
    return replace(near.region, id=identity, box=box)


def _most_said(texts: Sequence[str], strict: bool = False) -> str:
    """The text said most often, capitals and spaces aside, else the first; with `strict`, "" if none is said twice."""
    counted = Counter(" ".join(text.casefold().split()) for text in texts)
    best, times = counted.most_common(1)[0]
    if strict and times < 2:
        return ""
    return next(text for text in texts if " ".join(text.casefold().split()) == best)
