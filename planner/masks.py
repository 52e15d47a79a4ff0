"""A plan's regions as masks over an image: which pixels or patches each covers, and the background's mask.

Nodes that composite, inpaint or preview use these; the attention rules count patches of their own grids.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from .plan import PlanError, Region, RegionPlan
from .resize import ROUNDING, Size, aspect_gap, touched

# One patch of the models in use: a plan that is off by less is still a plan for this picture.
PATCH = 16

# 4 GiB of float32: above it the request is a mistake more often than a wish.
MOST_CELLS = 2**30


def touched_cells(region: Region, image_size: Size, grid: Size, cell: tuple[float, float] | None = None) -> np.ndarray:
    """The cells of a grid over the image that a region touches, as (grid height, grid width) bool.

    grid: (width, height) in cells. cell: (width, height) of one in pixels of the image; by default the grid
    covers the image exactly. Floor and ceil of the box's edges (spec 2.4), so a cell touched by less than a
    whole pixel counts; with a mask, only cells that touch its part inside the box.
    """
    cell = cell or (image_size[0] / grid[0], image_size[1] / grid[1])
    x1, y1, x2, y2 = region.box
    left, right = _span(x1 / cell[0], x2 / cell[0], grid[0])
    top, bottom = _span(y1 / cell[1], y2 / cell[1], grid[1])
    inside = np.zeros((grid[1], grid[0]), bool)
    inside[top:bottom, left:right] = True
    if region.mask is None:
        return inside
    height, width = region.mask.size
    to_x, to_y = width / image_size[0], height / image_size[1]
    cells = region.mask.to_array()
    mask_left, mask_right = _span(x1 * to_x, x2 * to_x, width)
    mask_top, mask_bottom = _span(y1 * to_y, y2 * to_y, height)
    boxed = np.zeros_like(cells)
    boxed[mask_top:mask_bottom, mask_left:mask_right] = cells[mask_top:mask_bottom, mask_left:mask_right]
    rows = np.arange(grid[1] + 1) * cell[1] * to_y
    columns = np.arange(grid[0] + 1) * cell[0] * to_x
    return inside & touched(boxed, rows, columns)


def region_masks(
    plan: RegionPlan, width: int = 0, height: int = 0, feather: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One mask per region, the background's and the regions' together, float32 in 0..1.

    width, height: of the masks in pixels; 0 takes the plan's own size, or keeps its aspect ratio when only one
    is 0. feather: width in pixels of the soft edge (see `soften`). Returns (N, height, width), (1, height,
    width) and (1, height, width); background = 1 - combined, combined = the largest of the masks. A plan
    without regions gives one empty mask, because nodes that loop over masks fail on none.
    Raises PlanError when the size has another aspect ratio than the plan.
    """
    size = mask_size(plan, width, height)
    count = max(1, len(plan.regions))
    if count * size[0] * size[1] > MOST_CELLS:
        raise PlanError(
            f"{count} masks of {size[0]}x{size[1]} pixels would take {count * size[0] * size[1] / 2**28:.0f} GiB; "
            "ask for a smaller width and height, or remove regions"
        )
    masks = torch.zeros((count, size[1], size[0]))
    for mask, region in zip(masks, plan.regions, strict=False):
        mask.copy_(torch.from_numpy(soften(touched_cells(region, plan.image_size, size), feather)))
    combined = masks.amax(0, keepdim=True)
    return masks, 1.0 - combined, combined


def mask_size(plan: RegionPlan, width: int, height: int) -> Size:
    """(width, height) of a plan's masks when these are asked for; 0 means "as the plan has it"."""
    plan_width, plan_height = plan.image_size
    if not width and not height:
        return plan.image_size
    size = (
        width or max(1, round(height * plan_width / plan_height)),
        height or max(1, round(width * plan_height / plan_width)),
    )
    if aspect_gap(plan.image_size, size) > PATCH:
        raise PlanError(
            f"masks of {size[0]}x{size[1]} pixels were asked for, but the plan is for an image of "
            f"{plan_width}x{plan_height}, another aspect ratio; leave width and height at 0, or bring image and plan "
            "to that size together with RePlan Resize"
        )
    return size


def soften(inside: np.ndarray, feather: float) -> np.ndarray:
    """Weights in 0..1 for an (h, w) bool mask whose edge rises over `feather` pixels, inside the mask.

    The soft edge lies inside, so what is outside stays exactly 0 and a composite leaves it untouched. The
    border of the image is no edge. A part thinner than twice the feather never reaches 1.
    """
    weights = inside.astype(np.float32)
    if feather <= 0 or not inside.any():
        return weights
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    # One cell of margin shows the mask's outer edge; where the image ends there is none to show.
    top, bottom = max(0, rows[0] - 1), min(inside.shape[0], rows[-1] + 2)
    left, right = max(0, columns[0] - 1), min(inside.shape[1], columns[-1] + 2)
    part = inside[top:bottom, left:right]
    if part.all():
        return weights
    if inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all():
        distance = np.minimum(_to_edge(part.any(1))[:, None], _to_edge(part.any(0))[None, :])
    else:
        from scipy.ndimage import distance_transform_edt  # slow to import

        distance = distance_transform_edt(part)
    ramp = np.clip((distance - 0.5) / feather, 0.0, 1.0)
    weights[top:bottom, left:right] = np.where(part, ramp * ramp * (3.0 - 2.0 * ramp), 0.0)
    return weights


def _to_edge(inside: np.ndarray) -> np.ndarray:
    """Distance of each cell of one run of True to the nearest False, infinite where there is none."""
    position = np.arange(len(inside))
    outside = np.flatnonzero(~inside)
    if not len(outside):
        return np.full(len(inside), np.inf)
    return np.abs(position[:, None] - outside[None, :]).min(1).astype(float)


def _span(low: float, high: float, count: int) -> tuple[int, int]:
    """The cells [first, last) of `count` that an interval touches."""
    first = math.floor(low + ROUNDING)
    last = max(first + 1, math.ceil(high - ROUNDING))
    return min(max(first, 0), count), min(max(last, 0), count)
