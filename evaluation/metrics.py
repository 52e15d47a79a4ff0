"""What changed between two images, in numbers: where, how much, and what that did to the rest.

Images are planes here, (C, H, W) float32 in 0..1 on the CPU (`planes`); areas are (H, W) bool.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from ..planner.plan import RegionPlan

# PSNR of images that are equal: a score is a finite number. What float32 holds differs by less than 100 dB only where
# an image differs.
MOST_PSNR = 100.0
# A colour that differs by more than this (13 of 255 levels) is seen when one image replaces the other.
VISIBLE = 0.05
# Share of a region's visibly changed pixels, beyond what changed far outside too, from which it counts as edited fully.
_EDITED = 0.1
# Share of a region that has to lie in no other one for that part to speak for it.
_OWN = 0.2
# A patch of the models, 16 pixels where an image has their usual 1024 x 1024.
_PATCHES = 64

_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03
_STRIP = 64
_LUMA = (0.2126, 0.7152, 0.0722)


@dataclass(frozen=True)
class Area:
    """What changed in one area of the image.

    share: of the image's pixels; changed: share of the area's pixels that changed visibly; strength: mean difference of
    those, in their colour that changed most; difference: the same mean over all pixels of the area. All 0..1.
    """

    pixels: int
    share: float
    changed: float
    strength: float
    difference: float


@dataclass(frozen=True)
class Change:
    """What an edit changed. None where an area has no pixels.

    regions: by id, in the plan's order. outside: what lies in no region, the whole image without a plan; border: of it,
    what lies within a patch (`border_width` pixels) of a region. edited: by region id, 0..1 (see `measure`);
    overlapped: ids of those for which only the part counts that lies in no other.
    psnr (dB), ssim, brightness and colour (red, green, blue; what is left of the shift without its brightness): of the
    outside, after minus before. largest: the largest difference outside; identical: whether not one bit differs there.
    map: (H, W), for each pixel the difference of its colour that changed most.
    """

    regions: dict[str, Area | None]
    edited: dict[str, float]
    overlapped: tuple[str, ...]
    outside: Area | None
    border: Area | None
    border_width: int
    psnr: float | None
    ssim: float | None
    brightness: float | None
    colour: tuple[float, ...] | None
    largest: float
    identical: bool
    map: torch.Tensor = field(repr=False, compare=False)


def measure(before: torch.Tensor, after: torch.Tensor, plan: RegionPlan | None, threshold: float = VISIBLE) -> Change:
    """What changed between two images of (C, H, W) planes of one size, by the enabled regions of a plan for that size.

    threshold: 0..1, the difference of any colour above which a pixel counts as changed. A region is edited by
    min(1, (its share of changed pixels - that of the outside away from borders, at most 0.1) / 0.1): what a VAE changes
    everywhere is no edit, and an edit of the whole image still is one. Where a fifth of it or more lies in no other
    region, its share is that part's.
    """
    height, width = before.shape[1:]
    regions = plan.active.regions if plan is not None else ()
    masks = {region.id: torch.from_numpy(region.cells((width, height), height, width)) for region in regions}
    inside, shared = torch.zeros((2, height, width), dtype=torch.bool)
    for mask in masks.values():
        shared |= inside & mask
        inside |= mask
    beyond = ~inside
    border_width = max(1, round(math.sqrt(width * height) / _PATCHES))
    difference = _Difference(before, after, beyond)
    changed = difference.strongest > threshold
    outside = _area(difference.strongest, changed, beyond)
    near = _area(difference.strongest, changed, _dilated(inside, border_width) & beyond)
    areas = {name: _area(difference.strongest, changed, mask) for name, mask in masks.items()}
    far = min(_share_beyond(outside, near), _EDITED)
    edited, overlapped = {}, []
    for name, area in areas.items():
        if area is not None:
            # What another region changed says nothing of this one, as long as enough of it lies in no other.
            own = _area(difference.strongest, changed, masks[name] & ~shared) if shared.any() else area
            counts = own if own is not None and own.pixels >= _OWN * area.pixels else area
            if counts.pixels < area.pixels:
                overlapped.append(name)
            edited[name] = min(1.0, max(0.0, counts.changed - far) / _EDITED)
    empty = outside is None
    identical = not empty and difference.largest == 0.0
    return Change(
        areas, edited, tuple(overlapped), outside, near, border_width,
        None if empty else difference.psnr,
        None if empty else ssim(before, after, inside, identical),
        None if empty else difference.brightness,
        None if empty else difference.colour,
        difference.largest, identical, difference.strongest,
    )  # fmt: skip


def planes(image: torch.Tensor) -> torch.Tensor:
    """An (H, W, C) image as (C, H, W) float32 on the CPU, in 0..1 and finite, as ComfyUI saves it (NaN is black)."""
    found = image.detach().to("cpu", torch.float32).movedim(-1, 0).contiguous()
    least, most = (float(value) for value in found.aminmax())
    if least >= 0.0 and most <= 1.0:  # false for NaN
        return found
    return torch.nan_to_num(found, nan=0.0, posinf=1.0, neginf=0.0).clamp_(0.0, 1.0)


class _Difference:
    """The difference of two (C, H, W) images: of each pixel, and of all that are in `area`, (H, W) bool.

    strongest: (H, W), that of the colour that changed most. psnr (dB, at most MOST_PSNR), brightness, colour and
    largest: of the area; without meaning where it is empty.
    """

    def __init__(self, before: torch.Tensor, after: torch.Tensor, area: torch.Tensor):
        count = max(1, np.count_nonzero(area.numpy()))
        self.strongest = torch.zeros(area.shape)
        one, weight, squares, means = torch.empty(area.shape), area.float(), 0.0, []
        for first, second in zip(before, after, strict=True):
            torch.sub(second, first, out=one)
            torch.maximum(self.strongest, one.abs(), out=self.strongest)
            one.mul_(weight)
            means.append(_total(one) / count)
            squares += _total(one.square_())
        self.largest = float(torch.mul(self.strongest, weight, out=one).max())
        mean = squares / (count * len(before))
        self.psnr = MOST_PSNR if mean <= 10 ** (-MOST_PSNR / 10) else -10.0 * math.log10(mean)
        means = means[:3]
        luma = _LUMA if len(means) == 3 else (1.0,)
        self.brightness = sum(weight * mean for weight, mean in zip(luma, means, strict=True))
        self.colour = tuple(mean - self.brightness for mean in means)


def _total(values: torch.Tensor) -> float:
    """The sum of (..., H, W) float32, in rows, so that millions of pixels lose nothing to rounding."""
    return float(values.sum(-1).sum(dtype=torch.float64))


def psnr(before: torch.Tensor, after: torch.Tensor) -> float:
    """Peak signal to noise ratio in dB of two (C, H, W) images in 0..1; at most MOST_PSNR, which equal images have."""
    return _Difference(before, after, torch.ones(before.shape[1:], dtype=torch.bool)).psnr


def ssim(
    before: torch.Tensor, after: torch.Tensor, inside: torch.Tensor | None = None, identical: bool = False
) -> float | None:
    """Structural similarity (Wang et al. 2004), for values of 0..1: the mean over channels and windows.

    (C, H, W) and (H, W) bool. Windows are Gaussian, 11 x 11 with sigma 1.5, one around each pixel of the image, which
    is mirrored at its edges; those count that hold no pixel that is `inside`. None where there are none, and for an
    image of less than 6 pixels a side. identical: all pixels that are not inside are known to be equal. Without
    `inside` this is what torchmetrics 1.9 gives.
    """
    channels, rows, columns = before.shape
    margin = _WINDOW // 2
    if min(rows, columns) <= margin:
        return None
    counted = np.ones((rows, columns), bool) if inside is None else ~_dilated(inside, margin).numpy()
    count = np.count_nonzero(counted)
    if not count:
        return None
    if identical:
        return 1.0
    # Strip by strip, so that what is worked on stays in the processor's cache.
    maps = torch.empty((4, channels, _STRIP + 2 * margin, columns + 2 * margin))
    total = 0.0
    for top in range(0, rows, _STRIP):
        bottom = min(top + _STRIP, rows)
        parts = before[:, top - margin : bottom + margin], after[:, top - margin : bottom + margin]
        if top < margin or bottom + margin > rows:
            taken = _mirrored(torch.arange(top - margin, bottom + margin), rows)
            parts = before.index_select(1, taken), after.index_select(1, taken)
        if torch.equal(*parts):
            total += np.count_nonzero(counted[top:bottom]) * channels
            continue
        strip = maps[:, :, : bottom - top + 2 * margin]
        a, b, squares, product = strip
        for part, into in zip(parts, (a, b), strict=True):
            # Around 0, where float32 loses least of a variance.
            torch.sub(part, 0.5, out=into[..., margin:-margin])
            into[..., :margin] = into[..., margin + 1 : 2 * margin + 1].flip(-1)
            into[..., -margin:] = into[..., -2 * margin - 1 : -margin - 1].flip(-1)
        torch.mul(a, a, out=squares).addcmul_(b, b)
        torch.mul(a, b, out=product)
        for left, right in _runs(counted[top:bottom].any(0)):
            values = _similarity(*_blurred(_blurred(strip[..., left : right + 2 * margin], 2), 3))
            total += _total(values.mul_(torch.from_numpy(counted[top:bottom, left:right])))
    return total / (count * channels)


def _runs(used: np.ndarray) -> list[tuple[int, int]]:
    """Where a row of bools is set, first and end of each run; short gaps, cheaper filtered than skipped, are in it."""
    places = np.flatnonzero(used)
    if not len(places):
        return []
    parts = np.split(places, np.flatnonzero(np.diff(places) > _STRIP) + 1)
    return [(part[0], part[-1] + 1) for part in parts]


def _blurred(maps: torch.Tensor, axis: int) -> torch.Tensor:
    """The Gaussian mean of each window along an axis, which loses a window but one."""
    size = maps.shape[axis] - _WINDOW + 1
    offsets = [offset - _WINDOW // 2 for offset in range(_WINDOW)]
    kernel = [math.exp(-(offset**2) / (2 * _SIGMA**2)) for offset in offsets]
    mean = maps.narrow(axis, 0, size) * (kernel[0] / sum(kernel))
    for place in range(1, _WINDOW):
        mean.add_(maps.narrow(axis, place, size), alpha=kernel[place] / sum(kernel))
    return mean


def _similarity(a: torch.Tensor, b: torch.Tensor, squares: torch.Tensor, product: torch.Tensor) -> torch.Tensor:
    """SSIM of each window from its means of a, b, a^2 + b^2 and a b, for a and b around 0; overwrites them."""
    squares.addcmul_(a, a, value=-1).addcmul_(b, b, value=-1).add_(_K2**2)
    product.addcmul_(a, b, value=-1).mul_(2).add_(_K2**2)
    a.add_(0.5)
    b.add_(0.5)
    product.mul_((a * b).mul_(2).add_(_K1**2))
    squares.mul_(a.square_().addcmul_(b, b).add_(_K1**2))
    return product.div_(squares)


def _mirrored(positions: torch.Tensor, count: int) -> torch.Tensor:
    """Positions off 0..count - 1 mirrored at the ends."""
    positions = positions.abs()
    return torch.where(positions < count, positions, 2 * (count - 1) - positions)


def _area(strongest: torch.Tensor, changed: torch.Tensor, mask: torch.Tensor) -> Area | None:
    """changed, mask: (H, W) bool, the pixels that count as changed, and those of the area."""
    # numpy counts bools several times as fast as torch.
    rows, columns = (np.flatnonzero(mask.numpy().any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    whole, (strongest, changed, mask) = mask.numel(), (one[part] for one in (strongest, changed, mask))
    changed = changed & mask
    pixels, count = (np.count_nonzero(one.numpy()) for one in (mask, changed))
    of_area = strongest * mask
    difference = _total(of_area)
    strength = _total(of_area.mul_(changed)) / count if count else 0.0
    return Area(pixels, pixels / whole, count / pixels, strength, difference / pixels)


def _share_beyond(outside: Area | None, border: Area | None) -> float:
    """Share of changed pixels of the outside away from borders; 0 where there are none."""
    if outside is None:
        return 0.0
    pixels, changed = outside.pixels, outside.changed * outside.pixels
    if border is not None:
        pixels, changed = pixels - border.pixels, changed - border.changed * border.pixels
    return changed / pixels if pixels else 0.0


def _dilated(mask: torch.Tensor, reach: int) -> torch.Tensor:
    """(H, W) bool: all within `reach` rows and columns of a set cell."""
    for axis in (0, 1):
        done = 0
        while done < reach:
            step = min(2 * done + 1, reach - done, mask.shape[axis])
            size = mask.shape[axis] - step
            wider = mask.clone()
            wider.narrow(axis, 0, size).logical_or_(mask.narrow(axis, step, size))
            wider.narrow(axis, step, size).logical_or_(mask.narrow(axis, 0, size))
            mask, done = wider, done + step
    return mask
