"""Plans from plans: put several together, and make boxes larger or smaller."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import replace

from ..plan import KEEP_UNCHANGED, Notice, PlanError, Region, RegionPlan, clamped, fresh_id

EXPAND_MODES = ("ratio", "pixels", "published")


def merge_plans(*plans: RegionPlan) -> RegionPlan:
    """One plan with the regions of all, in the order of the plans.

    All must be for an image of one size. Ids stay; one that an earlier plan has too is replaced by a fresh one,
    with a notice, since rules refer to regions by id. Global prompts are joined into one text, each once,
    because each asks for something: the placeholder "keep ... unchanged" and empty ones give way to the others.
    Reasoning and notices are kept, each once; of an unknown key the first plan's value stays.
    """
    if not plans:
        raise PlanError("there is no plan to merge; connect at least one")
    first = plans[0]
    taken = {identity for plan in plans for identity in plan.active.ids}
    regions: list[tuple[int, Region]] = []
    renamed: list[Notice] = []
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
                    Notice(
                        "region_renamed",
                        f"region '{region.id}' of plan {number} is called '{names[place]}' here, because an earlier "
                        "plan has that id",
                        "use the new id in cells of the rules that mean it",
                        (names[place],),
                    )
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
    return merged.with_notices(*(notice for plan in plans for notice in plan.notices), *renamed)


def _joined_prompt(prompts: list[str]) -> str:
    """The prompts that ask for something, each once, as sentences one after another."""
    wanted = list(dict.fromkeys(text.strip() for text in prompts if text.strip() and text.strip() != KEEP_UNCHANGED))
    if len(wanted) < 2:
        return next((text for text in prompts if text.strip() and text.strip() in wanted), KEEP_UNCHANGED)
    ended = [text if unicodedata.category(text[-1]).startswith("P") else f"{text}." for text in wanted[:-1]]
    return " ".join([*ended, wanted[-1]])


def expand_regions(plan: RegionPlan, value: float, mode: str = "ratio") -> RegionPlan:
    """Move every side of every box out by `value`, then clamp it to the image (RePlan's expand_bbox).

    mode: `ratio`, `value` times the box's side on that axis (0.15: 1.3 times as wide and high), `pixels`, or
    `published`, the ratio with every edge then cut to whole pixels as the published code does. A box that was clamped
    on reading starts from what was written, as there. A negative value shrinks; a box that would vanish is a
    PlanError. Masks stay, and since a mask selects inside its box, a notice says that it does not grow. Regions that
    are off stay as they are.
    """
    if mode not in EXPAND_MODES:
        raise PlanError(f"the mode is one of {', '.join(EXPAND_MODES)}, found {mode!r}")
    if not math.isfinite(value):
        raise PlanError(f"the value must be a finite number, found {value!r}")
    regions = []
    for region in plan.regions:
        if not region.enabled:
            regions.append(region)
            continue
        x1, y1, x2, y2 = region.unclamped(plan.image_size)
        dx, dy = (value, value) if mode == "pixels" else (value * (x2 - x1), value * (y2 - y1))
        box = clamped((x1 - dx, y1 - dy, x2 + dx, y2 + dy), plan.image_size)
        if mode == "published":
            box = tuple(float(int(edge)) for edge in box)
        if box[0] >= box[2] or box[1] >= box[3]:
            raise PlanError(
                f"region '{region.id}': a value of {value} ({mode}) leaves nothing of its box of "
                f"{x2 - x1:g}x{y2 - y1:g} pixels; use a {'larger value' if value >= 0 else 'smaller shrink'}"
            )
        regions.append(replace(region, box=box, raw_box=None))
    changed = plan.with_regions(regions)
    masked = tuple(region.id for region in plan.active.regions if region.mask is not None)
    if masked and value > 0:
        text = f"expanding does not reach beyond a mask: {', '.join(map(repr, masked))} stay within theirs"
        changed = changed.with_notices(Notice("mask_not_expanded", text, "grow the mask instead", masked))
    return changed
