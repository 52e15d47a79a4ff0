"""A plan in words a person can check before running it."""

from __future__ import annotations

from collections.abc import Iterable

from ..plan import RegionPlan

# What else a reply may say and a plan keeps under that name.
SAID = ("answer", "family", "outcome", "scene")


def describe_plan(plan: RegionPlan, *notes: str, findings: Iterable[object] = ()) -> str:
    """Image size, `notes`, global prompt, the regions numbered with id, box, hint and what a reply said is there now, what else
    a reply said, the warnings and the findings."""
    width, height = plan.image_size
    regions = plan.active.regions
    count = len(regions)
    lines = [f"Plan for an image of {width}x{height} pixels, {count} region{'s' * (count != 1)}"]
    lines += notes
    lines.append(f"Global prompt: {plan.global_prompt or '(empty)'}")
    for number, region in enumerate(regions, 1):
        box = ", ".join(f"{value:.1f}".removesuffix(".0") for value in region.box)
        lines.append(f"{number}. {region.id} [{box}] {region.hint or '(no hint)'}")
        shows = region.extra.get("description")
        if isinstance(shows, str) and shows.strip() not in ("", region.hint):
            lines.append(f"   now: {shows.strip()}")
        if region.negative_hint:
            lines.append(f"   not: {region.negative_hint}")
        if (region.start, region.end) != (0.0, 1.0):
            lines.append(f"   active from {region.start:g} to {region.end:g} of sampling")
        if region.mask is not None:
            lines.append(
                f"   mask of {region.mask.size[1]}x{region.mask.size[0]} cells, {sum(region.mask.rle[1::2])} of them inside"
            )
    off = [f"{region.id} ({region.hint or 'no hint'})" for region in plan.regions if not region.enabled]
    if off:
        lines.append(f"Switched off: {', '.join(off)}")
    lines += [f"{name[0].upper()}{name[1:]}: {plan.extra[name]}" for name in SAID if plan.extra.get(name)]
    lines += [f"Warning: {warning}" for warning in plan.warnings]
    lines += [f"Check: {finding}" for finding in findings]
    return "\n".join(lines)
