"""From boxes in image pixels to patches of a latent grid.

A plan is written in pixels of an image; a model call brings a latent of its own size, padded up to whole
patches. Every patch that a box touches belongs to its region (spec 2.4, published code).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .payload import RegionError

if TYPE_CHECKING:
    from ..planner.plan import Region, RegionPlan

# Corners are products of floats; a corner this close to a patch border lies on it.
_ON_BORDER = 1e-6
# How far (in patches) an edge may land from where it was drawn before a plan is refused.
_FARTHEST = 1.0


class Grid(NamedTuple):
    """A latent's patches: whole ones (rows, cols) and the part the latent fills (height, width), in patches."""

    rows: int
    cols: int
    height: float
    width: float

    @classmethod
    def of_latent(cls, height: int, width: int, patch: int) -> Grid:
        """The grid of a latent of `height` x `width` cells; the host pads it up to whole patches."""
        return cls(-(-height // patch), -(-width // patch), height / patch, width / patch)

    @property
    def tokens(self) -> int:
        return self.rows * self.cols


def check_aspect(image_size: tuple[int, int], grid: Grid, what: str) -> str | None:
    """Compare a plan's image with the latent it is applied to.

    If the latent had been cropped or padded from the plan's image instead of stretched, every edge would be
    off by up to half the excess. More than one patch: RegionError; a visible part of one: a warning is
    returned; none: None. `what` names the latent in the message.
    """
    width, height = image_size
    scale = max(grid.width / width, grid.height / height)
    shift = max(width * scale - grid.width, height * scale - grid.height) / 2
    if shift <= 0.05:
        return None
    found = (
        f"the plan is drawn on an image of {width}x{height} pixels, but {what} has {grid.cols}x{grid.rows} "
        "patches, another aspect ratio"
    )
    if shift > _FARTHEST:
        raise RegionError(
            f"RePlan Apply Region Rules: {found}: boxes could land {shift:.1f} patches away. Send image and "
            "plan through RePlan Resize together, and encode the image it returns"
        )
    return (
        f"{found}; boxes may be off by {shift:.2f} patches (a crop such as FluxKontextImageScale does this; "
        "RePlan Resize moves the plan along with the image)"
    )


def patch_range(box: tuple[float, ...], image_size: tuple[int, int], grid: Grid) -> tuple[int, int, int, int]:
    """The patches a box touches, as (col0, row0, col1, row1), the last two exclusive, clamped to the grid."""
    x1, y1, x2, y2 = box
    across, down = grid.width / image_size[0], grid.height / image_size[1]
    return (
        max(0, math.floor(x1 * across + _ON_BORDER)),
        max(0, math.floor(y1 * down + _ON_BORDER)),
        min(grid.cols, math.ceil(x2 * across - _ON_BORDER)),
        min(grid.rows, math.ceil(y2 * down - _ON_BORDER)),
    )


def region_patches(region: Region, image_size: tuple[int, int], grid: Grid) -> np.ndarray:
    """The patches of one region as a boolean (rows, cols): those its box touches and its mask touches."""
    col0, row0, col1, row1 = patch_range(region.box, image_size, grid)
    cells = np.zeros((grid.rows, grid.cols), dtype=bool)
    cells[row0:row1, col0:col1] = True
    if region.mask is not None:
        cells &= _mask_patches(region.mask.to_array(), grid)
    if not cells.any():
        raise RegionError(
            f"RePlan Apply Region Rules: region '{region.id}' with box {[round(v, 1) for v in region.box]} covers "
            f"no patch of the {grid.cols}x{grid.rows} latent"
            + (" where its mask is set" if region.mask is not None else "")
            + "; move or enlarge the box, or delete the region"
        )
    return cells


def cover(plan: RegionPlan, grid: Grid) -> np.ndarray:
    """Which region covers which patch: boolean (regions, rows * cols), row-major."""
    if not plan.regions:
        return np.zeros((0, grid.tokens), dtype=bool)
    return np.stack([region_patches(region, plan.image_size, grid).ravel() for region in plan.regions])


def _mask_patches(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """The patches that a mask (stretched over the image) touches, by sums over rectangles of mask cells."""
    height, width = mask.shape
    sums = np.zeros((height + 1, width + 1), dtype=np.int64)
    sums[1:, 1:] = mask.cumsum(0).cumsum(1)
    top, bottom = _cell_ranges(grid.rows, grid.height, height)
    left, right = _cell_ranges(grid.cols, grid.width, width)
    inside = (
        sums[bottom[:, None], right[None]]
        - sums[top[:, None], right[None]]
        - sums[bottom[:, None], left[None]]
        + sums[top[:, None], left[None]]
    )
    return inside > 0


def _cell_ranges(patches: int, extent: float, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """For each patch along one axis, the half-open range of mask cells that overlap it."""
    edges = np.minimum(np.arange(patches + 1) / extent, 1.0) * cells
    first = np.clip(np.floor(edges[:-1] + _ON_BORDER), 0, cells).astype(np.int64)
    last = np.clip(np.ceil(edges[1:] - _ON_BORDER), 0, cells).astype(np.int64)
    return first, np.maximum(first, last)
