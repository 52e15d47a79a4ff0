"""What changed between two images, in numbers: where, how much, and what that did to the rest.

Images are planes here, (C, H, W) float32 in 0..1 on the CPU (`planes`); areas are (H, W) bool.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from ..planner.plan import RegionPlan

# PSNR of images that are equal: a score is a finite number. What float32 holds differs by less than 100 dB only where
# an image differs.
MOST_PSNR = 100.0
# A colour that differs by more than this (13 of 255 levels) is seen when one image replaces the other.
VISIBLE = 0.05
# Share of a region's visibly changed pixels, beyond what changed far outside too, from which it counts as edited fully.
_EDITED = 0.1
# A patch of the models, 16 pixels where an image has their usual 1024 x 1024.
_PATCHES = 64

_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03
_TILE = 32
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
    what lies within a patch (`border_width` pixels) of a region. edited: by region id, 0..1 (see `measure`).
    psnr (dB), ssim, brightness and colour (red, green, blue; what is left of the shift without its brightness): of the
    outside, after minus before. largest: the largest difference outside; identical: whether not one bit differs there.
    map: (H, W), for each pixel the difference of its colour that changed most.
    """

    regions: dict[str, Area | None]
    edited: dict[str, float]
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
    everywhere is no edit, and an edit of the whole image still is one.
    """
    height, width = before.shape[1:]
    difference = after - before
    strongest = difference.abs().amax(0)
    changed = strongest > threshold
    sums = _Sums(strongest, changed)
    regions = plan.active.regions if plan is not None else ()
    masks = {region.id: torch.from_numpy(region.cells((width, height), height, width)) for region in regions}
    inside = torch.zeros((height, width), dtype=torch.bool)
    for mask in masks.values():
        inside |= mask
    border_width = max(1, round(math.sqrt(width * height) / _PATCHES))
    border = _dilated(inside, border_width) & ~inside
    outside = sums.area(~inside)
    near = sums.area(border)
    areas = {name: sums.area(mask) for name, mask in masks.items()}
    far = _share_beyond(outside, near)
    edited = {
        name: min(1.0, max(0.0, area.changed - min(far, _EDITED)) / _EDITED)
        for name, area in areas.items()
        if area is not None
    }
    largest = float((strongest * ~inside).max())
    identical = outside is not None and largest == 0.0
    shift = None if outside is None else _shift(difference, inside)
    return Change(
        areas, edited, outside, near, border_width,
        psnr(before, after, inside),
        None if outside is None else ssim(before, after, inside),
        None if shift is None else shift[0],
        None if shift is None else shift[1],
        largest, identical, strongest,
    )  # fmt: skip


def planes(image: torch.Tensor) -> torch.Tensor:
    """An (H, W, C) image as (C, H, W) float32 on the CPU, in 0..1 and finite, as ComfyUI saves it (NaN is black)."""
    found = image.detach().to("cpu", torch.float32).movedim(-1, 0).contiguous()
    return torch.nan_to_num(found, nan=0.0, posinf=1.0, neginf=0.0).clamp_(0.0, 1.0)


def psnr(before: torch.Tensor, after: torch.Tensor, inside: torch.Tensor | None = None) -> float | None:
    """Peak signal to noise ratio in dB, for values of 0..1, of all pixels that are not `inside`; at most MOST_PSNR.

    (C, H, W) and (H, W) bool. None where every pixel is inside.
    """
    squares = (after - before).square_().sum(0)
    count = squares.numel() if inside is None else int((~inside).sum())
    if not count:
        return None
    total = squares.sum(dtype=torch.float64) if inside is None else (squares * ~inside).sum(dtype=torch.float64)
    mean = float(total) / (count * before.shape[0])
    return MOST_PSNR if mean <= 10 ** (-MOST_PSNR / 10) else -10.0 * math.log10(mean)


def ssim(before: torch.Tensor, after: torch.Tensor, inside: torch.Tensor | None = None) -> float | None:
    """Structural similarity (Wang et al. 2004), for values of 0..1: the mean over channels and windows.

    (C, H, W) and (H, W) bool. Windows are Gaussian, 11 x 11 with sigma 1.5, one around each pixel of the image, which
    is mirrored at its edges; those count that hold no pixel that is `inside`. None where there are none, and for an
    image of less than 6 pixels a side. Without `inside` this is what torchmetrics 1.9 gives.
    """
    channels, rows, columns = before.shape
    margin = _WINDOW // 2
    if min(rows, columns) <= margin:
        return None
    weights = torch.ones((rows, columns)) if inside is None else (~_dilated(inside, margin)).float()
    count = float(weights.sum(dtype=torch.float64))
    if not count:
        return None
    # The blur is two products with band matrices, strip by strip: a small part of what a convolution costs on a CPU.
    strips, tiles = -(-rows // _TILE), -(-columns // _TILE)
    short = (0, tiles * _TILE - columns, 0, strips * _TILE - rows)
    weights = F.pad(weights, short).view(strips, _TILE, tiles, _TILE).transpose(1, 2)
    # Around 0, where float32 loses least of a variance.
    first, second = (F.pad(F.pad(one - 0.5, (margin,) * 4, mode="reflect"), short) for one in (before, after))
    band = _band()
    down, across = band.expand(4 * channels, -1, -1), band.T.contiguous().expand(tiles, -1, -1)
    wide = tiles * _TILE + _WINDOW - 1
    maps = torch.empty((4, channels, _TILE + _WINDOW - 1, wide))
    total = 0.0
    for strip, weight in enumerate(weights):
        rows_of = slice(strip * _TILE, strip * _TILE + _TILE + _WINDOW - 1)
        a, b = first[:, rows_of], second[:, rows_of]
        if torch.equal(a, b):
            total += float(weight.sum(dtype=torch.float64)) * channels
            continue
        maps[0], maps[1] = a, b
        torch.mul(a, a, out=maps[2]).addcmul_(b, b)
        torch.mul(a, b, out=maps[3])
        blurred = torch.bmm(down, maps.view(4 * channels, -1, wide))
        windows = blurred.as_strided((tiles, 4 * channels * _TILE, _TILE + _WINDOW - 1), (_TILE, wide, 1))
        values = _similarity(*torch.bmm(windows, across).view(tiles, 4, channels, _TILE, _TILE).unbind(1))
        total += float((values * weight[:, None]).sum(dtype=torch.float64))
    return total / (count * channels)


def _similarity(a: torch.Tensor, b: torch.Tensor, squares: torch.Tensor, product: torch.Tensor) -> torch.Tensor:
    """SSIM of each window from its means of a, b, a^2 + b^2 and a b, for a and b around 0; overwrites them."""
    squares.addcmul_(a, a, value=-1).addcmul_(b, b, value=-1).add_(_K2**2)
    product.addcmul_(a, b, value=-1).mul_(2).add_(_K2**2)
    a.add_(0.5)
    b.add_(0.5)
    product.mul_((a * b).mul_(2).add_(_K1**2))
    squares.mul_(a.square_().addcmul_(b, b).add_(_K1**2))
    return product.div_(squares)


def _band() -> torch.Tensor:
    """(_TILE, _TILE + _WINDOW - 1): each row blurs one place of a tile."""
    offsets = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    kernel = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    kernel = (kernel / kernel.sum()).float()
    band = torch.zeros((_TILE, _TILE + _WINDOW - 1))
    for row in range(_TILE):
        band[row, row : row + _WINDOW] = kernel
    return band


class _Sums:
    """Sums over areas of one pair of images."""

    def __init__(self, strongest: torch.Tensor, changed: torch.Tensor):
        self.strongest, self.changed = strongest, changed

    def area(self, mask: torch.Tensor) -> Area | None:
        pixels = int(mask.sum())
        if not pixels:
            return None
        found = self.changed & mask
        count = int(found.sum())
        strength = float((self.strongest * found).sum(dtype=torch.float64)) / count if count else 0.0
        difference = float((self.strongest * mask).sum(dtype=torch.float64)) / pixels
        return Area(pixels, pixels / mask.numel(), count / pixels, strength, difference)


def _share_beyond(outside: Area | None, border: Area | None) -> float:
    """Share of changed pixels of the outside away from borders; 0 where there are none."""
    if outside is None:
        return 0.0
    pixels, changed = outside.pixels, outside.changed * outside.pixels
    if border is not None:
        pixels, changed = pixels - border.pixels, changed - border.changed * border.pixels
    return changed / pixels if pixels else 0.0


def _shift(difference: torch.Tensor, inside: torch.Tensor) -> tuple[float, tuple[float, ...]]:
    """By how much what is not inside became brighter, and redder, greener and bluer beside that."""
    outside = ~inside
    means = [float((plane * outside).sum(dtype=torch.float64)) / int(outside.sum()) for plane in difference[:3]]
    brightness = sum(weight * mean for weight, mean in zip(_LUMA, means, strict=True)) if len(means) == 3 else means[0]
    return brightness, tuple(mean - brightness for mean in means)


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
