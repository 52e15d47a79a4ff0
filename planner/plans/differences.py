"""What differs between two plans, in words: what a person changed since a plan came."""

from __future__ import annotations

from ..plan import Region, RegionPlan


def differences(before: RegionPlan, after: RegionPlan) -> list[str]:
    """One line for each difference that decides the edit; none for reasoning, notices and unknown keys."""
    lines = []

    def compare(name: str, was: object, now: object) -> None:
        if was != now:
            lines.append(f"{name} {was} -> {now}")

    compare("image size", "x".join(map(str, before.image_size)), "x".join(map(str, after.image_size)))
    compare("global prompt:", f'"{before.global_prompt}"', f'"{after.global_prompt}"')
    old = {region.id: region for region in before.regions}
    for region in after.regions:
        was = old.pop(region.id, None)
        if was is None:
            lines.append(f"{region.id} added: {region.hint or '(no hint)'}")
            continue
        if was.box != region.box:
            lines.append(f"{region.id} box: {_rounded(was)} -> {_rounded(region)}")
        compare(f"{region.id} hint:", f'"{was.hint}"', f'"{region.hint}"')
        compare(f"{region.id} negative hint:", f'"{was.negative_hint}"', f'"{region.negative_hint}"')
        compare(f"{region.id} active:", f"{was.start:g}-{was.end:g}", f"{region.start:g}-{region.end:g}")
        if was.mask != region.mask:
            lines.append(f"{region.id} mask {'changed' if region.mask else 'removed'}")
        if was.enabled != region.enabled:
            lines.append(f"{region.id} switched {'on' if region.enabled else 'off'}")
    lines += [f"{region.id} deleted: {region.hint or '(no hint)'}" for region in old.values()]
    stayed = set(before.ids) & set(after.ids)
    if [one for one in before.ids if one in stayed] != [one for one in after.ids if one in stayed]:
        lines.append("regions are in another order")
    return lines


def _rounded(region: Region) -> str:
    return f"[{', '.join(f'{edge:.1f}'.removesuffix('.0') for edge in region.box)}]"
