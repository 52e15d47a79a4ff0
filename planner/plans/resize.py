"""Where an image's pixels go when it is brought to a working size, and how a plan goes with them.

Owns `Transform` (the affine map of one resize and its inverse), the working sizes the model families want
(`working_size`), and moving a plan between images (`Transform.map_plan`, `fit_plan`). The pixels themselves are
`images`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ..geometry import ROUNDING, Box, Size, area, shared, sides, touched
from ..plan import Notice, PlanError, Region, RegionMask, RegionPlan

TARGETS = ("flux_kontext", "flux2", "qwen_image_edit", "qwen_image_edit_plus", "multiple_of", "none")
METHODS = ("stretch", "crop", "pad")

# The sizes FLUX.1 Kontext was trained on (RePlan's flux_kontext.py; ComfyUI's FluxKontextImageScale has the same).
KONTEXT_SIZES = (
    (672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184), (944, 1104),
    (1024, 1024),
    (1104, 944), (1184, 880), (1248, 832), (1328, 800), (1392, 752), (1456, 720), (1504, 688), (1568, 672),
)  # fmt: skip

MEGAPIXEL = 1024 * 1024
# Each side is at least one multiple long: more is a linked number gone wrong, and all of the memory.
LARGEST_MULTIPLE = 4096


@dataclass(frozen=True)
class Transform:
    """An axis-aligned affine map from a source image to a working image.

    source_box (whole pixels of the source) is what is kept; it lands on working_box (whole pixels of the working
    image). `stretch`: both are whole images. `crop`: only part of the source is kept. `pad`: only part of the
    working image comes from the source. Sizes are (width, height); working = source * scale + offset.
    """

    source_size: Size
    working_size: Size
    source_box: tuple[int, int, int, int]
    working_box: tuple[int, int, int, int]
    method: str = "stretch"

    @property
    def scale(self) -> tuple[float, float]:
        """Working pixels per source pixel, (x, y)."""
        (sx1, sy1, sx2, sy2), (wx1, wy1, wx2, wy2) = self.source_box, self.working_box
        return (wx2 - wx1) / (sx2 - sx1), (wy2 - wy1) / (sy2 - sy1)

    @property
    def offset(self) -> tuple[float, float]:
        """Where source pixel (0, 0) lands in the working image, (x, y)."""
        (scale_x, scale_y), (sx1, sy1, *_), (wx1, wy1, *_) = self.scale, self.source_box, self.working_box
        return wx1 - sx1 * scale_x, wy1 - sy1 * scale_y

    @property
    def is_identity(self) -> bool:
        return self.source_size == self.working_size and self.source_box == self.working_box

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is cut away and nothing is added."""
        return self.source_box == (0, 0, *self.source_size) and self.working_box == (0, 0, *self.working_size)

    @property
    def inverse(self) -> Transform:
        """The map back; the inverse of a crop pads and the inverse of a pad crops."""
        back = {"crop": "pad", "pad": "crop"}.get(self.method, self.method)
        return Transform(self.working_size, self.source_size, self.working_box, self.source_box, back)

    def map_box(self, box: Box) -> Box:
        """`box` in working pixels, not clipped: a box outside what is kept lands outside the working image."""
        # Multiplied before it is divided, so that a box on a patch edge stays exactly on it.
        (sx1, sy1, sx2, sy2), (wx1, wy1, wx2, wy2) = self.source_box, self.working_box
        x1, y1, x2, y2 = box
        return (
            (x1 - sx1) * (wx2 - wx1) / (sx2 - sx1) + wx1,
            (y1 - sy1) * (wy2 - wy1) / (sy2 - sy1) + wy1,
            (x2 - sx1) * (wx2 - wx1) / (sx2 - sx1) + wx1,
            (y2 - sy1) * (wy2 - wy1) / (sy2 - sy1) + wy1,
        )

    def map_plan(self, plan: RegionPlan) -> RegionPlan:
        """The plan of the working image.

        A region that loses part of its box is clipped to the image, one that loses all of it is dropped; a notice says
        so unless the region is off. Raises PlanError when `plan` is for an image of another size.
        """
        if plan.image_size != self.source_size:
            raise PlanError(
                f"this transform is for an image of {sides(self.source_size)} pixels, the plan is for "
                f"{sides(plan.image_size)}; bring the plan to the image's size first"
            )
        mapped = [(region, *self._map_region(region)) for region in plan.regions]
        regions = tuple(moved for _, moved, _ in mapped if moved is not None)
        notices = [notice for region, _, notice in mapped if notice is not None and region.enabled]
        return replace(plan, image_size=self.working_size, regions=regions).with_notices(*notices)

    def _map_region(self, region: Region) -> tuple[Region | None, Notice | None]:
        """The region in working pixels (None when nothing is left), and what to tell (None when nothing is lost)."""
        if self.keeps_all:
            return replace(region, box=self.map_box(region.box)), None
        name = f"region '{region.id}'" + (f" ({_short(region.hint)})" if region.hint else "")
        gone = Notice(
            "region_dropped",
            f"{name} was dropped: it lies outside the part of the image that '{self.method}' keeps",
            "use the method 'stretch' or 'pad' to keep all of it",
            (region.id,),
        )
        kept = _intersection(region.box, self.source_box)
        share = area(kept) / shared(region.box, (0, 0, *self.source_size))
        box = self.map_box(kept)
        is_cut = share < 1 - ROUNDING
        # A remainder under one working pixel is the rounding of the cut, and would still claim whole patches.
        if share <= 0 or (is_cut and min(box[2] - box[0], box[3] - box[1]) < 1):
            return None, gone
        mask = None if region.mask is None else _cut_mask(region.mask, self)
        if mask is not None and not mask.to_array().any():
            return None, gone
        cut = Notice(
            "region_cut",
            f"{name} was cut to {share:.0%} of its size by '{self.method}'",
            "use the method 'stretch' or 'pad' to keep all of it",
            (region.id,),
        )
        return replace(region, box=box, mask=mask), cut if is_cut else None


def make_transform(source_size: Size, target: str, method: str = "stretch", multiple: int = 16) -> Transform:
    """The transform that brings an image of `source_size` to its working size (see `working_size`) by `method`.

    `crop` cuts the centre exactly as ComfyUI's FluxKontextImageScale does, so a plan mapped by it also fits an
    image from that node. `pad` keeps the aspect ratio to the nearest pixel and puts the image in the middle.
    """
    working = working_size(source_size, target, multiple)
    if method not in METHODS:
        raise PlanError(f"unknown method '{method}'; choose one of {', '.join(METHODS)}")
    source_box, working_box = (0, 0, *source_size), (0, 0, *working)
    if method == "crop":
        source_box = _centre_crop(source_size, working)
    elif method == "pad":
        scale = min(working[0] / source_size[0], working[1] / source_size[1])
        inner = [min(w, max(1, round(s * scale))) for s, w in zip(source_size, working, strict=True)]
        left, top = (working[0] - inner[0]) // 2, (working[1] - inner[1]) // 2
        working_box = (left, top, left + inner[0], top + inner[1])
    return Transform(source_size, working, source_box, working_box, method)


def stretch(source_size: Size, working_size: Size) -> Transform:
    """The transform that stretches the whole of one image over the whole of another."""
    return Transform(source_size, working_size, (0, 0, *source_size), (0, 0, *working_size))


def working_size(source_size: Size, target: str, multiple: int = 16) -> Size:
    """(width, height) that `target` wants for an image of `source_size`.

    flux_kontext: of the 17 preset sizes the one with the nearest aspect ratio.
    flux2: 1024^2 pixels, sides rounded to multiples of 16, its patch. ComfyUI's FLUX.2 templates scale to one
        megapixel too, but to any size, of which the VAE then crops up to 15 pixels.
    qwen_image_edit: 1024^2 pixels, sides rounded to multiples of 32, as RePlan's qwen_image.py does.
        With a VAE connected, ComfyUI's TextEncodeQwenImageEdit scales whatever it gets to 1024^2 again with
        plain rounding; encode the reference latent separately to keep this size.
    qwen_image_edit_plus: about 1024^2 pixels, a size that TextEncodeQwenImageEditPlus leaves as it is.
    multiple_of: each side to the nearest multiple of `multiple`.
    none: as it is.
    """
    width, height = source_size
    if target == "none":
        return width, height
    if target == "multiple_of":
        if not 1 <= multiple <= LARGEST_MULTIPLE:
            raise PlanError(
                f"the sides cannot be multiples of {multiple}; give a number of at least 1 and at most "
                f"{LARGEST_MULTIPLE}"
            )
        return _nearest(width, multiple), _nearest(height, multiple)
    aspect = width / height
    if target == "flux_kontext":
        _, *size = min((abs(aspect - w / h), w, h) for w, h in KONTEXT_SIZES)
        return size[0], size[1]
    ideal_width = math.sqrt(MEGAPIXEL * aspect)
    ideal_height = ideal_width / aspect
    if target == "flux2":
        return _nearest(ideal_width, 16), _nearest(ideal_height, 16)
    if target == "qwen_image_edit":
        return _nearest(ideal_width, 32), _nearest(ideal_height, 32)
    if target == "qwen_image_edit_plus":
        return _plus_size(ideal_width, ideal_height)
    raise PlanError(f"unknown target '{target}'; choose one of {', '.join(TARGETS)}")


def plus_reference_size(size: Size) -> Size:
    """What ComfyUI's TextEncodeQwenImageEditPlus makes of an image before its VAE (its formula)."""
    scale = math.sqrt(MEGAPIXEL / (size[0] * size[1]))
    return round(size[0] * scale / 8.0) * 8, round(size[1] * scale / 8.0) * 8


def _plus_size(ideal_width: float, ideal_height: float) -> Size:
    """A size near the ideal one that `plus_reference_size` does not change.

    Multiples of 16, the model's patch, when one is within 2 % of the aspect ratio; else of 8, the node's own
    step (an odd half patch is then padded by the model).
    """
    for step, tolerance in ((16, 0.02), (8, math.inf)):
        columns, rows = round(ideal_width / step), round(ideal_height / step)
        sizes = (
            (step * c, step * r)
            for c in range(max(1, columns - 4), columns + 5)
            for r in range(max(1, rows - 4), rows + 5)
        )
        stable = [
            (abs(math.log(w / h * ideal_height / ideal_width)), abs(w * h - MEGAPIXEL), w, h)
            for w, h in sizes
            if plus_reference_size((w, h)) == (w, h)
        ]
        if stable and min(stable)[0] <= tolerance:
            return min(stable)[2:]
    return _nearest(ideal_width, 8), _nearest(ideal_height, 8)


def same_aspect(size: Size, other: Size) -> bool:
    """Whether one size can be the other scaled evenly and rounded, each side being off by at most one pixel."""
    return _scales_to(size, other) or _scales_to(other, size)


def _scales_to(size: Size, other: Size) -> bool:
    low = max((other[i] - 1) / size[i] for i in (0, 1))
    return low <= min((other[i] + 1) / size[i] for i in (0, 1))


def shape_notice(plan: RegionPlan, size: Size, what: str = "this image has") -> Notice | None:
    """What to tell of a plan that is put on `size`, the same image at another size; None when it just fits.

    The plan is stretched; `size` may have been cropped instead. Could that put an edge more than a patch off (16
    pixels where the image has the models' usual 1024 x 1024), PlanError; below that a notice is returned. A
    side that is off by one pixel was rounded. `what` leads to the size in the message.
    """
    shift = plan.shift_on(*size)
    found = (
        f"the plan is for an image of {sides(plan.image_size)} pixels and {what} {sides(size)}, another aspect ratio"
    )
    # On a thumbnail a patch is less than a pixel, so rounding is none of its business.
    if shift > math.sqrt(size[0] * size[1]) / 64 and not _scales_to(plan.image_size, size):
        raise PlanError(
            f"{found}, so its boxes could land {shift:.0f} pixels away; connect the image the plan was made for, and "
            "let RePlan Resize bring both to another size together"
        )
    if same_aspect(plan.image_size, size):
        return None
    return Notice(
        "other_shape",
        f"{found}: it was stretched, and if the image was cropped, boxes are off by up to {math.ceil(shift)} pixels",
        "crop image and plan together with RePlan Resize",
    )


def fit_plan(plan: RegionPlan, size: Size) -> RegionPlan:
    """The plan for the same image at another `size`, stretched; see `shape_notice` for another aspect ratio."""
    if plan.image_size == size:
        return plan
    notice = shape_notice(plan, size)
    moved = stretch(plan.image_size, size).map_plan(plan)
    return moved.with_notices(notice) if notice else moved


def keep_pixels(plan: RegionPlan, size: Size) -> RegionPlan:
    """The plan's regions at the same pixels of another image of `size`, moved inside and cut to it; without masks."""

    def axis(low: float, high: float, side: int) -> tuple[float, float]:
        length = min(high - low, side)
        start = min(low, side - length)
        return start, start + length

    regions = []
    for region in plan.regions:
        x1, y1, x2, y2 = region.box
        (left, right), (top, bottom) = axis(x1, x2, size[0]), axis(y1, y2, size[1])
        regions.append(replace(region, box=(left, top, right, bottom), raw_box=None, mask=None))
    return replace(plan, image_size=size, regions=tuple(regions))


def _cut_mask(mask: RegionMask, transform: Transform) -> RegionMask:
    """The mask of the working image: a mask covers a whole image, so a crop or a pad changes its grid."""
    cells = mask.to_array()
    (sx1, sy1, sx2, sy2), (wx1, wy1, wx2, wy2) = transform.source_box, transform.working_box
    (source_w, source_h), (working_w, working_h) = transform.source_size, transform.working_size
    if mask.size == (source_h, source_w) and transform.working_box == (0, 0, working_w, working_h):
        return RegionMask.from_array(cells[sy1:sy2, sx1:sx2])
    cut = np.zeros((working_h, working_w), bool)
    rows = np.linspace(sy1, sy2, wy2 - wy1 + 1) * cells.shape[0] / source_h
    columns = np.linspace(sx1, sx2, wx2 - wx1 + 1) * cells.shape[1] / source_w
    cut[wy1:wy2, wx1:wx2] = touched(cells, rows, columns)
    return RegionMask.from_array(cut)


def _centre_crop(size: Size, working: Size) -> tuple[int, int, int, int]:
    """The part of an image with the aspect ratio of `working`, cut as comfy.utils.common_upscale cuts it."""
    (width, height), aspect, wanted = size, size[0] / size[1], working[0] / working[1]
    x = y = 0
    if aspect > wanted:
        x = min(round((width - width * (wanted / aspect)) / 2), (width - 1) // 2)
    elif aspect < wanted:
        y = min(round((height - height * (aspect / wanted)) / 2), (height - 1) // 2)
    return x, y, width - x, height - y


def _nearest(value: float, step: int) -> int:
    return max(1, round(value / step)) * step


def _intersection(a: Box, b: Box) -> Box:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def _short(hint: str) -> str:
    return hint if len(hint) <= 40 else hint[:37] + "..."


def smart_resize(width: int, height: int, factor: int = 28, min_pixels: int = 3136, max_pixels: int = 12845056) -> Size:
    """The (width, height) at which a Qwen-VL model sees an image (qwen_vl_utils 0.0.14, `smart_resize`).

    Each side is rounded to a multiple of `factor`; an area outside min_pixels..max_pixels is first scaled into
    it. Raises PlanError for an aspect ratio above 200, as the library does.
    """
    if min(width, height) < 1:
        raise PlanError(f"an image of {width}x{height} pixels has no area; give a width and a height of at least 1")
    if max(width, height) / min(width, height) > 200:
        raise PlanError(
            f"an image of {width}x{height} pixels is more than 200 times as long as wide; a vision-language model "
            "cannot see it, crop it first"
        )
    seen_width = max(factor, round(width / factor) * factor)
    seen_height = max(factor, round(height / factor) * factor)
    if seen_width * seen_height > max_pixels:
        beta = math.sqrt(width * height / max_pixels)
        seen_width = max(factor, math.floor(width / beta / factor) * factor)
        seen_height = max(factor, math.floor(height / beta / factor) * factor)
    elif seen_width * seen_height < min_pixels:
        beta = math.sqrt(min_pixels / (width * height))
        seen_width = math.ceil(width * beta / factor) * factor
        seen_height = math.ceil(height * beta / factor) * factor
    return seen_width, seen_height
