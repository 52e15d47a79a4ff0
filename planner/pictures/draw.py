"""A plan drawn over its image: boxes, hints, masks and, if wanted, the patches each region covers.

Pure drawing with Pillow; no font is shipped, so `labels` finds one that has the hint's letters or says less.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from ..plan import PlanError, Region, RegionPlan
from ..plans.resize import shape_notice
from . import labels
from .masks import at_least_zero

# Distinct in hue and in lightness, so that neighbours differ for colour-blind readers too.
COLOURS = (
    (230, 25, 75),
    (60, 180, 75),
    (0, 130, 200),
    (255, 225, 25),
    (245, 130, 48),
    (145, 30, 180),
    (70, 240, 240),
    (240, 50, 230),
)

# An image smaller than this is enlarged, or no label could be read on it.
READABLE_SIDE = 384

# As many pixels are drawn without an image: a plan may name any size, and this is an image of 8192x8192.
MOST_GREY = 2**26

# Above this many regions labels would hide the image: only ids are written, where they fall.
MOST_LABELS = 60


_HEX = re.compile(r"#[0-9a-fA-F]{6}")


def colours(plan: RegionPlan) -> list[tuple[int, int, int]]:
    """The colour of each region of `plan`, the same in every preview and on the page: its own, else its place's.

    A person chooses one in the region editor, which keeps it with the region: `"editor": {"color": "#rrggbb"}`.
    """
    found = []
    for index, region in enumerate(plan.regions):
        about = region.extra.get("editor")
        own = about.get("color") if isinstance(about, Mapping) else None
        if isinstance(own, str) and _HEX.fullmatch(own):
            found.append((int(own[1:3], 16), int(own[3:5], 16), int(own[5:7], 16)))
        else:
            found.append(COLOURS[index % len(COLOURS)])
    return found


def draw_plan(
    image: Image.Image | np.ndarray | None, plan: RegionPlan, patch: int = 0, hints: bool = True
) -> Image.Image:
    """The plan's enabled regions over an image, as an RGB image.

    image: an image, an (H, W, 3 or 4) array (float 0..1 or uint8), or None for plain grey. It may be another size of
    the plan's image; another aspect ratio raises PlanError (see `resize.shape_notice`). patch: side, in pixels of the
    plan's image, of the patches to show, 0 for none. A small image comes back enlarged by a whole factor.
    """
    at_least_zero(patch, "patch")
    plan = plan.active
    base = _as_image(image, plan)
    shape_notice(plan, base.size)
    factor = max(1, math.ceil(READABLE_SIDE / max(base.size)))
    if factor > 1:
        base = base.resize((base.width * factor, base.height * factor), Image.Resampling.NEAREST)
    size = base.size
    scale = (size[0] / plan.image_size[0], size[1] / plan.image_size[1])
    tints = colours(plan)
    for region, tint in zip(plan.regions, tints, strict=True):
        if patch > 0:
            base = _tint_patches(base, plan, region, tint, patch, scale)
        elif region.mask is not None and hints:
            base = _tint(base, region.cells(plan.image_size, size[1], size[0]), tint, 0.4)
    draw = ImageDraw.Draw(base, "RGBA")
    if patch > 0:
        _draw_grid(draw, size, (patch * scale[0], patch * scale[1]))
    width = max(2, round(min(size) / 300))
    boxes = [_on_canvas(region.box, scale, size) for region in plan.regions]
    # Large boxes first, so that a small one inside them stays visible.
    for index in sorted(range(len(boxes)), key=lambda i: -_area(boxes[i])):
        _outline(draw, boxes[index], tints[index], width)
    texts = [_label(region, hints and len(plan.regions) <= MOST_LABELS) for region in plan.regions]
    if not plan.regions:
        boxes, texts, tints = [(0, 0, size[0], size[1])], ["no regions"], [COLOURS[0]]
    labels.write(draw, size, boxes, texts, tints)
    return base


def _label(region: Region, with_hint: bool) -> str:
    if not with_hint:
        return region.id
    when = "" if (region.start, region.end) == (0.0, 1.0) else f" {region.start:.0%}-{region.end:.0%}"
    return f"{region.id}{when}: {region.hint.strip() or '(no hint)'}"


def _as_image(image: Image.Image | np.ndarray | None, plan: RegionPlan) -> Image.Image:
    if image is None:
        width, height = plan.image_size
        if width * height > MOST_GREY:
            raise PlanError(
                f"the plan is for an image of {width}x{height} pixels, too large to draw without it; connect the "
                "image, at any size"
            )
        return Image.new("RGB", plan.image_size, (96, 96, 96))
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise PlanError(f"an image has the shape (height, width, 3), found {pixels.shape}")
    if pixels.dtype != np.uint8:
        pixels = (np.nan_to_num(pixels.astype(np.float32)).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    if pixels.shape[2] == 1:
        pixels = pixels.repeat(3, 2)
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, :3]), "RGB")


def _tint(base: Image.Image, inside: np.ndarray, tint: tuple[int, int, int], strength: float) -> Image.Image:
    cover = Image.fromarray(inside.astype(np.uint8) * round(255 * strength), "L")
    base.paste(Image.new("RGB", base.size, tint), mask=cover)
    return base


def _tint_patches(
    base: Image.Image,
    plan: RegionPlan,
    region: Region,
    tint: tuple[int, int, int],
    patch: int,
    scale: tuple[float, float],
) -> Image.Image:
    grid = (math.ceil(plan.image_size[0] / patch), math.ceil(plan.image_size[1] / patch))
    cells = region.cells(plan.image_size, grid[1], grid[0], plan.image_size[1] / patch, plan.image_size[0] / patch)
    columns = np.minimum(((np.arange(base.width) + 0.5) / (patch * scale[0])).astype(int), grid[0] - 1)
    rows = np.minimum(((np.arange(base.height) + 0.5) / (patch * scale[1])).astype(int), grid[1] - 1)
    return _tint(base, cells[np.ix_(rows, columns)], tint, 0.4)


def _draw_grid(draw: ImageDraw.ImageDraw, size: tuple[int, int], step: tuple[float, float]) -> None:
    if min(step) < 3:
        return  # the lines alone would cover the image
    for i in range(1, math.ceil(size[0] / step[0])):
        draw.line((i * step[0], 0, i * step[0], size[1]), fill=(255, 255, 255, 70))
    for i in range(1, math.ceil(size[1] / step[1])):
        draw.line((0, i * step[1], size[0], i * step[1]), fill=(255, 255, 255, 70))


def _on_canvas(box, scale: tuple[float, float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box in whole pixels of the canvas, at least one pixel wide, inside it."""
    x1, y1, x2, y2 = box
    left, right = _inside(x1 * scale[0], x2 * scale[0], size[0])
    top, bottom = _inside(y1 * scale[1], y2 * scale[1], size[1])
    return left, top, right, bottom


def _inside(low: float, high: float, end: int) -> tuple[int, int]:
    first = min(max(0, round(low)), end - 1)
    return first, max(min(end, round(high)), first + 1)


def _outline(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], line: tuple[int, int, int], width: int) -> None:
    x1, y1, x2, y2 = box
    right, bottom = x2 - 1, y2 - 1
    # A dark rim on both sides keeps the line visible on a background of its own colour.
    draw.rectangle((x1 - 1, y1 - 1, right + 1, bottom + 1), outline=(0, 0, 0, 150))
    inner = (x1 + width, y1 + width, right - width, bottom - width)
    if inner[0] <= inner[2] and inner[1] <= inner[3]:
        draw.rectangle(inner, outline=(0, 0, 0, 150))
    draw.rectangle((x1, y1, right, bottom), outline=line, width=min(width, x2 - x1, y2 - y1))


def _area(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
