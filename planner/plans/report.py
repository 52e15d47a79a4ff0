"""A plan in words a person can check before running it."""

from __future__ import annotations

from collections.abc import Iterable

from ..plan import RegionPlan

# What else a reply may say, each kept in a plan's `extra` under that name, and how the report calls it. kind: of the
# reasoning that a hypothetical instruction needs. scene: the image before the edit, scene_after: as it should be
# afterwards. ambiguous: what else the instruction could mean, one meaning a line.
TITLES = {
    "answer": "Answer",
    "ambiguous": "The instruction could also mean",
    "kind": "Kind",
    "outcome": "Outcome",
    "scene": "Scene",
    "scene_after": "Scene after the edit",
}
# What a reply may say of one region, likewise.
TITLES_OF_REGION = {"description": "now", "description_after": "after"}


def describe_plan(plan: RegionPlan, *notes: str, findings: Iterable[object] = ()) -> str:
    """A plan in words: image size, `notes`, global prompt, regions, what else a reply said, warnings and findings.

    The regions are numbered, with id, box, hint and what a reply said is there before and after the edit.
    """
    width, height = plan.image_size
    regions = plan.active.regions
    count = len(regions)
    lines = [f"Plan for an image of {width}x{height} pixels, {count} region{'s' * (count != 1)}"]
    lines += filter(None, notes)
    lines.append(f"Global prompt: {plan.global_prompt or '(empty)'}")
    for number, region in enumerate(regions, 1):
        box = ", ".join(f"{value:.1f}".removesuffix(".0") for value in region.box)
        lines.append(f"{number}. {region.id} [{box}] {region.hint or '(no hint)'}")
        for key, name in TITLES_OF_REGION.items():
            shows = region.extra.get(key)
            if isinstance(shows, str) and shows.strip() not in ("", region.hint):
                lines.append(f"   {name}: {shows.strip()}")
        if region.negative_hint:
            lines.append(f"   not: {region.negative_hint}")
        if (region.start, region.end) != (0.0, 1.0):
            lines.append(f"   active from {region.start:g} to {region.end:g} of sampling")
        if region.mask is not None:
            lines.append(
                f"   mask of {region.mask.size[1]}x{region.mask.size[0]} cells, {sum(region.mask.rle[1::2])} of them "
                "inside"
            )
    off = [f"{region.id} ({region.hint or 'no hint'})" for region in plan.regions if not region.enabled]
    if off:
        lines.append(f"Switched off: {', '.join(off)}")
    for key, name in TITLES.items():
        said = plan.extra.get(key)
        if isinstance(said, str) and said.strip():
            lines.append(f"{name}: {'; '.join(said.splitlines()) if key == 'ambiguous' else said}")
    lines += [f"Warning: {warning}" for warning in plan.warnings]
    lines += [f"Check: {finding}" for finding in findings]
    return "\n".join(lines)
