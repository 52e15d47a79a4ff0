"""Plans from plans: put several together, and make boxes larger or smaller."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import replace

from ..plan import KEEP_UNCHANGED, PlanError, Region, RegionPlan, fresh_id

EXPAND_MODES = ("ratio", "pixels")


def merge_plans(*plans: RegionPlan) -> RegionPlan:
    """One plan with the regions of all, in the order of the plans.

    All must be for an image of one size. Ids stay; one that an earlier plan has too is replaced by a fresh one,
    with a warning, since rules refer to regions by id. Global prompts are joined into one text, each once,
    because each asks for something: the placeholder "keep ... unchanged" and empty ones give way to the others.
    Reasoning and warnings are kept, each once; of an unknown key the first plan's value stays.
    """
    if not plans:
        raise PlanError("there is no plan to merge; connect at least one")
    first = plans[0]
    taken = {identity for plan in plans for identity in plan.active.ids}
    regions: list[tuple[int, Region]] = []
    renamed: list[str] = []
    for number, plan in enumerate(plans, 1):
        if plan.image_size != first.image_size:
            raise PlanError(
                f"plan 1 is for an image of {first.image_size[0]}x{first.image_size[1]} pixels and plan {number} for "
                f"{plan.image_size[0]}x{plan.image_size[1]}; bring them to one size first, with RePlan Resize"
            )
        regions += [(number, region) for region in plan.regions]
    names: dict[int, str] = {}
    used: set[str] = set()
    # Those that are on keep their names first: rules refer to them.
    for place in sorted(range(len(regions)), key=lambda place: not regions[place][1].enabled):
        number, region = regions[place]
        names[place] = region.id
        if region.id in used:
            names[place] = fresh_id(taken | used)
            taken.add(names[place])
            if region.enabled:
                renamed.append(
                    f"region '{region.id}' of plan {number} is called '{names[place]}' here, because an earlier plan has "
                    "that id"
                )
        used.add(names[place])
    merged = replace(
        first,
        global_prompt=_joined_prompt([plan.global_prompt for plan in plans]),
        regions=tuple(replace(region, id=names[place]) for place, (_, region) in enumerate(regions)),
        reasoning="\n\n".join(dict.fromkeys(plan.reasoning for plan in plans if plan.reasoning)),
        notices=(),
        extra={key: value for plan in reversed(plans) for key, value in plan.extra.items()},
    )
    return merged.with_notices(*(notice for plan in plans for notice in plan.notices)).with_warnings(*renamed)


def _joined_prompt(prompts: list[str]) -> str:
    """The prompts that ask for something, each once, as sentences one after another."""
    wanted = list(dict.fromkeys(text.strip() for text in prompts if text.strip() and text.strip() != KEEP_UNCHANGED))
    if len(wanted) < 2:
        return next((text for text in prompts if text.strip() and text.strip() in wanted), KEEP_UNCHANGED)
    ended = [text if unicodedata.category(text[-1]).startswith("P") else f"{text}." for text in wanted[:-1]]
    return " ".join([*ended, wanted[-1]])


def expand_regions(plan: RegionPlan, value: float, mode: str = "ratio") -> RegionPlan:
    """Move every side of every box out by `value` (RePlan's expand_bbox), then clamp it to the image.

    mode: `ratio`, `value` times the box's side on that axis (0.15: 1.3 times as wide and high), or `pixels`.
    Numbers stay floats: nothing is cut to whole pixels. A negative value shrinks; a box that would vanish is a
    PlanError. Masks stay, and since a mask selects inside its box, a warning says that it does not grow.
    """
    if mode not in EXPAND_MODES:
        raise PlanError(f"the mode is one of {', '.join(EXPAND_MODES)}, found {mode!r}")
    if not math.isfinite(value):
        raise PlanError(f"the value must be a finite number, found {value!r}")
    width, height = plan.image_size
    regions = []
    for region in plan.regions:
        if not region.enabled:
            regions.append(region)
            continue
        x1, y1, x2, y2 = region.box
        dx, dy = (value * (x2 - x1), value * (y2 - y1)) if mode == "ratio" else (value, value)
        box = (max(0.0, x1 - dx), max(0.0, y1 - dy), min(float(width), x2 + dx), min(float(height), y2 + dy))
        if box[0] >= box[2] or box[1] >= box[3]:
            raise PlanError(
                f"region '{region.id}': a value of {value} ({mode}) leaves nothing of its box of "
                f"{x2 - x1:g}x{y2 - y1:g} pixels; use a smaller shrink"
            )
        regions.append(replace(region, box=box))
    changed = plan.with_regions(regions)
    masked = ", ".join(f"'{region.id}'" for region in plan.active.regions if region.mask is not None)
    if masked and value > 0:
        changed = changed.with_warnings(
            f"expanding does not reach beyond a mask: {masked} stay within theirs; grow the mask instead"
        )
    return changed
