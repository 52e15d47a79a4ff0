"""The edit report: what an edit changed inside each region, at its borders and outside, as image, text and scores."""

from __future__ import annotations

from typing import NamedTuple

import torch
from PIL import Image

from ..planner.geometry import sides
from ..planner.pictures.images import image_size, resize_pixels
from ..planner.plan import Notice, PlanError, RegionPlan
from ..planner.plans.resize import fit_plan, same_aspect
from .heat_map import draw_change
from .metrics import MOST_PSNR, VISIBLE, Area, Change, measure, planes
from .scores import Scores

# Regions with a lower score `edited` are told as unedited; the default threshold of RePlan Failed Regions.
_DONE = 0.5


class EditReport(NamedTuple):
    """One edit. image: see `heat_map`; scores: see docs/evaluation.md; notices: what makes the figures doubtful."""

    image: Image.Image
    text: str
    scores: Scores
    change: Change
    notices: tuple[Notice, ...]


def edit_report(
    before: torch.Tensor, after: torch.Tensor, plan: RegionPlan | None = None, threshold: float = VISIBLE
) -> EditReport:
    """What an edit changed. before, after: (1, H, W, C) with values of 0..1; plan: for either of them, at any size.

    threshold: 0..1, the difference of a colour above which a pixel counts as changed. `after` is brought to the size of
    `before` where it is the same image at another size. Raises PlanError for images of other shapes, naming both sizes,
    and for a plan of another image.
    """
    if not 0 <= threshold < 1:
        raise PlanError(f"the threshold is {threshold:g}; give a difference from 0 to below 1, such as {VISIBLE}")
    first, second, notices = _comparable(before, after)
    size = image_size(before)
    if plan is not None:
        fitted = fit_plan(plan, size)
        notices += [notice for notice in fitted.notices if notice not in plan.notices]
        plan = fitted.active
    change = measure(first, second, plan, threshold)
    if change.outside is None:
        notices.append(
            Notice(
                "no_outside",
                "the regions cover the whole image, so nothing lies outside them; "
                f"outside_psnr is {MOST_PSNR:g} and outside_changed 0 for want of pixels",
                "do not rank edits by what happened outside",
            )
        )
    text = "\n".join(_lines(change, plan, size, threshold, notices))
    image = draw_change(first, second, change.map, plan, threshold, _headline(change))
    return EditReport(image, text, _scores(change, plan), change, tuple(notices))


def _comparable(before: torch.Tensor, after: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[Notice]]:
    """Both as (C, H, W) planes of one size and with the same channels, and what was done for that."""
    size, other = image_size(before), image_size(after)
    for name, image in (("before", before), ("after", after)):
        if image.shape[-1] not in (1, 3, 4):
            raise PlanError(f"'{name}' has {image.shape[-1]} channels; an image has 3, 4 with alpha, or 1")
    notices = []
    for name, image in (("before", before), ("after", after)):
        # A sum says it at a fraction of the cost, as nearly all images are finite.
        total = image.sum(dtype=torch.float32)
        broken = 0 if torch.isfinite(total) else int((~torch.isfinite(image)).any(-1).sum())
        if not broken and total > image.numel():
            most = float(image.max())
            notices.append(
                Notice(
                    "out_of_range",
                    f"'{name}' has values up to {most:g}, where white is 1; all above was taken as white, as ComfyUI "
                    "saves it",
                    "look at the node that made it; an image holds values from 0 to 1",
                )
            )
        if broken:
            notices.append(
                Notice(
                    "not_finite",
                    f"'{name}' holds values that are not finite (NaN or infinity) in {broken} of "
                    f"{image.shape[1] * image.shape[2]} pixels; NaN was taken as black, as ComfyUI saves it",
                    "run the VAE or the model that made it in bf16 or fp32",
                )
            )
    if size != other:
        if not same_aspect(size, other):
            raise PlanError(
                f"'before' has {sides(size)} pixels and 'after' {sides(other)}, another aspect ratio, so no pixel of "
                "one belongs to one of the other; bring the edited image back with RePlan Restore, or connect as "
                "'before' the image of RePlan Resize that was edited"
            )
        notices.append(
            Notice(
                "resized",
                f"'after' has {sides(other)} pixels and was resized to the {sides(size)} of 'before', which changes "
                "every pixel a little",
                "bring it back with RePlan Restore, or connect as 'before' the image of RePlan Resize that was edited",
            )
        )
        after = resize_pixels(torch.nan_to_num(after.float(), nan=0.0), size)
    channels = {before.shape[-1], after.shape[-1]}
    if channels == {3, 4} or channels == {1, 4}:
        notices.append(
            Notice(
                "alpha_left_out", "only one of the images has an alpha channel, which was left out of the comparison"
            )
        )
    first, second = planes(before[0]), planes(after[0])
    if len(channels) > 1:
        first, second = (one[:3].expand(3, -1, -1) for one in (first, second))
    return first, second, notices


def _scores(change: Change, plan: RegionPlan | None) -> Scores:
    image, missing = {}, []
    outside = {
        "outside_psnr": change.psnr,
        "outside_ssim": change.ssim,
        "outside_changed": None if change.outside is None else change.outside.changed,
        "outside_difference": None if change.outside is None else change.outside.difference,
        "outside_brightness_shift": None if change.brightness is None else abs(change.brightness),
        "outside_colour_shift": None if change.colour is None else max(map(abs, change.colour)),
    }
    for name, value in outside.items():
        if value is None:
            missing.append(name)
        else:
            image[name] = value
    if change.border is not None:
        image["border_changed"] = change.border.changed
    regions = {}
    for name, area in change.regions.items():
        if area is None:
            missing.append(f"{name} edited")
        else:
            regions[name] = {
                "edited": change.edited[name], "changed": area.changed, "strength": area.strength,
                "difference": area.difference,
            }  # fmt: skip
    if regions:
        image["edited"] = sum(values["edited"] for values in regions.values()) / len(regions)
        image["edited_and_kept"] = image["edited"] * (1.0 - image.get("outside_changed", 0.0))
    lower = (
        "outside_changed", "outside_difference", "outside_brightness_shift", "outside_colour_shift", "border_changed",
    )  # fmt: skip
    return Scores(
        "edit report", image, regions, "edited_and_kept" if regions else "", "edited" if change.regions else "",
        lower, tuple(missing),
    )  # fmt: skip


def _headline(change: Change) -> str:
    """What matters most, in one sentence."""
    where = "the outside" if change.regions else "the whole image"
    if change.outside is None:
        outside = "the regions cover the whole image"
    elif change.identical:
        outside = f"{where} is unchanged to the bit"
    elif not change.outside.changed:
        outside = f"{where} did not change visibly"
    else:
        outside = f"{_share(change.outside.changed)} of {where} changed"
    if not change.regions:
        return outside[0].upper() + outside[1:]
    unedited = [name for name, value in change.edited.items() if value < _DONE]
    inside = f"{len(change.edited) - len(unedited)} of {_count(len(change.regions))} changed"
    if unedited:
        inside += f" (not {', '.join(unedited)})"
    return f"{inside}; {outside}"


def _lines(
    change: Change, plan: RegionPlan | None, size: tuple[int, int], threshold: float, notices: list[Notice]
) -> list[str]:
    lines = [_headline(change)]
    hints = {region.id: region.hint for region in plan.regions} if plan is not None else {}
    if change.regions:
        lines += ["", "Regions"]
    for name, area in change.regions.items():
        what = f"  {name} ({hints[name]})" if hints.get(name) else f"  {name}"
        if area is None:
            lines.append(f"{what}: covers no pixel; its mask is empty inside its box")
        else:
            doubt = ""
            if change.edited[name] < _DONE:
                which = "its part in no other region" if name in change.overlapped else "it"
                doubt = f"; {which} looks unedited beside the rest"
            lines.append(f"{what}: {_area(area)}{doubt}")
    lines += ["", "Outside the regions" if change.regions else "The whole image"]
    outside = change.outside
    if outside is None:
        lines.append("  no pixels: the regions cover the whole image")
    else:
        of = "" if outside.share == 1 else f" ({_share(outside.share)} of the image)"
        if change.identical:
            lines.append(f"  unchanged to the bit{of}")
        else:
            lines.append(f"  {_area(outside)}{of}; the largest difference is {change.largest:.3g}")
        if change.border is not None and not change.identical:
            lines.append(f"  at the borders, within {change.border_width} pixels of a region: {_area(change.border)}")
        found = "none (too few pixels for its window of 11 x 11)" if change.ssim is None else f"{change.ssim:.4f}"
        lines.append(f"  PSNR {change.psnr:.2f} dB{' (the most that is given)' * change.identical}, SSIM {found}")
        if not change.identical:
            lines.append(f"  {_shift(change)}")
    lines += [
        "",
        f"Image of {sides(size)} pixels. A pixel counts as changed when one of its colours differs by more than "
        f"{threshold:g} of 0..1; the strength is the mean difference of those pixels.",
    ]
    if not change.regions:
        lines.append(
            f"{'No plan is connected' if plan is None else 'The plan has no enabled region'}, so these are figures of "
            "the whole image."
        )
    return lines + [f"Warning: {notice}" for notice in notices]


def _count(regions: int) -> str:
    return f"{regions} region{'s' * (regions != 1)}"


def _area(area: Area) -> str:
    if area.difference == 0:
        return "no pixel changed"
    if not area.changed:
        return f"no pixel changed visibly, mean difference {area.difference:.2g}"
    return f"{_share(area.changed)} of the pixels changed, strength {area.strength:.2f}"


def _shift(change: Change) -> str:
    """The shift in words: a number a person can see, or that there is none."""
    # Half a level of 255 in the mean of an area is noise.
    if max(abs(change.brightness), *map(abs, change.colour)) < 0.5 / 255:
        return "brightness and colours did not shift"
    parts = [f"brightness {change.brightness:+.3f}"]
    if len(change.colour) == 3:
        names = ("red", "green", "blue")
        parts += [f"{name} {value:+.3f}" for name, value in zip(names, change.colour, strict=True)]
    return f"shift: {', '.join(parts)}"


def _share(value: float) -> str:
    if 0 < value < 0.001:
        return "under 0.1 %"
    if 0.999 < value < 1:
        return "over 99.9 %"
    return f"{value * 100:.1f} %" if 0 < value < 1 else f"{value:.0%}".replace("%", " %")
