"""From boxes in image pixels to patches of a latent grid.

A plan is written in pixels of an image; a model call brings a latent of its own size, padded up to whole
patches. Every patch that a box touches belongs to its region (RePlan's process_region_guidance).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..planner.plan import Region, RegionPlan
from .payload import RegionError

# How far (in patches) an edge may land from where it was drawn before a plan is refused.
_FARTHEST = 1.0
# A latent whose sides are at most this part of the image's may be a tile of it.
_MUCH_SMALLER = 0.75
# The side of a patch in pixels of the image, in all families: 2 x 2 latent cells of 8 pixels, or one of 16.
PATCH_PIXELS = 16


class Grid(NamedTuple):
    """A latent's patches: whole ones (rows, cols) and the part the latent fills (height, width), in patches."""

    rows: int
    cols: int
    height: float
    width: float

    @classmethod
    def of_latent(cls, height: int, width: int, patch: int) -> Grid:
        """The grid of a latent of `height` x `width` cells; ComfyUI pads it up to whole patches."""
        return cls(-(-height // patch), -(-width // patch), height / patch, width / patch)

    @property
    def tokens(self) -> int:
        return self.rows * self.cols


def check_aspect(image_size: tuple[int, int], grid: Grid, what: str) -> str | None:
    """Compare a plan's image with the latent it is applied to.

    If the latent had been cropped from the plan's image instead of stretched, edges would be off by up to
    `RegionPlan.shift_on`. More than one patch: RegionError; a visible part of one: a warning is returned; none: None.
    `what` names the latent in the message.
    """
    width, height = image_size
    shift = RegionPlan(image_size).shift_on(grid.width, grid.height)
    if shift <= 0.05:
        return None
    found = (
        f"the plan is drawn on an image of {width}x{height} pixels, but {what} has {grid.cols}x{grid.rows} "
        "patches, another aspect ratio"
    )
    if shift > _FARTHEST:
        raise RegionError(
            f"{found}: boxes could land {shift:.1f} patches away. Send image and "
            "plan through RePlan Resize together, and encode the image it returns"
        )
    return (
        f"{found}; boxes may be off by {shift:.2f} patches (a crop such as FluxKontextImageScale does this; "
        "RePlan Resize moves the plan along with the image)"
    )


def check_size(image_size: tuple[int, int], grid: Grid) -> str | None:
    """A warning where a latent is much smaller than the image its plan is drawn on: it may be a tile of it.

    Whether it is cannot be known: a tiled upscaler that samples each tile as a run of its own says nothing. A latent
    as large as the image, or larger, is a whole one by all that is usual.
    """
    width, height = round(grid.width * PATCH_PIXELS), round(grid.height * PATCH_PIXELS)
    if width > _MUCH_SMALLER * image_size[0] or height > _MUCH_SMALLER * image_size[1]:
        return None
    return (
        f"the plan is drawn on an image of {image_size[0]}x{image_size[1]} pixels and the latent is one of "
        f"{width}x{height}. The boxes are scaled to it, which is right for the whole image made smaller and wrong for "
        "a tile of it (tiled upscalers). Send image and plan through RePlan Resize together, and sample tiles without "
        "regions"
    )


def region_patches(region: Region, image_size: tuple[int, int], grid: Grid) -> np.ndarray:
    """The patches of one region as a boolean (rows, cols): see `Region.cells`."""
    cells = region.cells(image_size, *grid)
    if not cells.any():
        raise RegionError(
            f"region '{region.id}' with box {[round(v, 1) for v in region.box]} covers "
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
