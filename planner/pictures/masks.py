"""A plan's regions as masks over an image: which pixels or patches each covers, and the background's mask.

Nodes that composite, inpaint or preview use these; the attention rules count patches of their own grids.
"""

from __future__ import annotations

import numpy as np
import torch

from ..geometry import Size
from ..plan import Notice, PlanError, RegionPlan
from ..plans.resize import shape_notice

# 4 GiB of float32: above it the request is a mistake more often than a wish.
MOST_CELLS = 2**30


def region_masks(
    plan: RegionPlan, width: int = 0, height: int = 0, feather: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One mask per enabled region, the background's and the regions' together, float32 in 0..1.

    width, height: of the masks in pixels; 0 takes the plan's own size, or keeps its aspect ratio when only one
    is 0. feather: width in pixels of the soft edge (see `soften`). Returns (N, height, width), (1, height,
    width) and (1, height, width); background = 1 - combined, combined = the largest of the masks. A plan
    without regions gives one empty mask, because nodes that loop over masks fail on none.
    Raises PlanError when the size has another aspect ratio than the plan, and for a negative number.
    """
    for name, value in (("width", width), ("height", height), ("feather", feather)):
        at_least_zero(value, name)
    plan = plan.active
    size = mask_size(plan, width, height)
    count = max(1, len(plan.regions))
    if count * size[0] * size[1] > MOST_CELLS:
        raise PlanError(
            f"{count} masks of {size[0]}x{size[1]} pixels would take {count * size[0] * size[1] / 2**28:.0f} GiB; "
            "ask for a smaller width and height, or remove regions"
        )
    masks = torch.zeros((count, size[1], size[0]))
    for mask, region in zip(masks, plan.regions, strict=False):
        mask.copy_(torch.from_numpy(soften(region.cells(plan.image_size, size[1], size[0]), feather)))
    combined = masks.amax(0, keepdim=True)
    return masks, 1.0 - combined, combined


def at_least_zero(value: float, name: str) -> None:
    """PlanError for a negative number of pixels: ComfyUI checks what is typed and not what is linked."""
    if not value >= 0:
        raise PlanError(f"{name} is {value}, but pixels cannot be negative; give 0 or more")


def mask_size(plan: RegionPlan, width: int, height: int) -> Size:
    """(width, height) of a plan's masks when these are asked for; 0 means "as the plan has it"."""
    plan_width, plan_height = plan.image_size
    if not width and not height:
        return plan.image_size
    size = (
        width or max(1, round(height * plan_width / plan_height)),
        height or max(1, round(width * plan_height / plan_width)),
    )
    mask_notice(plan, size)
    return size


def mask_notice(plan: RegionPlan, size: Size) -> Notice | None:
    """What to tell of masks of this size, see `resize.shape_notice`; PlanError when the plan does not fit them."""
    return shape_notice(plan, size, "the masks that were asked for have")


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
