"""What a box is, how much two boxes share, and which cells of a grid over an image a box or a mask covers.

A grid is a mask's pixels, a latent's patches or a preview's squares; `plan.Region.cells` and
`plan.RegionPlan.shift_on` give it to the rest of the pack.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Size = tuple[int, int]  # (width, height) in pixels
Box = tuple[float, float, float, float]  # x1, y1, x2, y2: left, top, right, bottom

# Corners are products of floats: an edge this close to a border (in cells or pixels) lies on it.
ROUNDING = 1e-6


def sides(size: Size) -> str:
    """As sizes are written in messages, 1024x768."""
    return f"{size[0]}x{size[1]}"


# How boxes are arranged: the axis (0 across, 1 down), and the share of the line that they go on; None: equal gaps.
ARRANGEMENTS: dict[str, tuple[int, float | None]] = {
    "left": (0, 0.0),
    "centre": (0, 0.5),
    "right": (0, 1.0),
    "top": (1, 0.0),
    "middle": (1, 0.5),
    "bottom": (1, 1.0),
    "across": (0, None),
    "down": (1, None),
}


def arranged(boxes: Sequence[Box], how: str) -> list[Box]:
    """The boxes with an edge or their middles on one line, or with equal gaps, within what they span together.

    how: a key of ARRANGEMENTS. Boxes keep their sizes; equal gaps go by the order of their middles.
    """
    axis, share = ARRANGEMENTS[how]
    low, high = min(box[axis] for box in boxes), max(box[axis + 2] for box in boxes)
    lengths = [box[axis + 2] - box[axis] for box in boxes]
    gap = (high - low - sum(lengths)) / max(1, len(boxes) - 1)
    found, start = list(boxes), low
    for place in sorted(range(len(boxes)), key=lambda place: boxes[place][axis] + boxes[place][axis + 2]):
        edges = list(boxes[place])
        edges[axis] = start if share is None else low + (high - low - lengths[place]) * share
        edges[axis + 2] = edges[axis] + lengths[place]
        found[place] = (edges[0], edges[1], edges[2], edges[3])
        start += lengths[place] + gap
    return found


def box_cells(
    box: Sequence[float],
    mask: np.ndarray | None,
    image_size: tuple[int, int],
    grid: tuple[int, int],
    extent: tuple[float, float],
) -> np.ndarray:
    """The cells that a box touches and, with a mask, that a mask cell inside the box touches.

    After RePlan's process_region_guidance.

    box: (x1, y1, x2, y2) in pixels of an image of image_size (width, height). mask: (h, w) bool, stretched over
    the image. grid: (rows, cols); extent: the (height, width) of it that the image fills, in cells. Returns
    (rows, cols) bool: first edges rounded down, last edges up, at least one cell, clamped to the grid.
    """
    rows, cols = grid
    inside = np.zeros(grid, bool)
    inside[_window(box, image_size, grid, extent)] = True
    if mask is None:
        return inside
    part = _window(box, image_size, mask.shape, mask.shape)
    boxed = np.zeros_like(mask)
    boxed[part] = mask[part]
    down, across = mask.shape[0] / extent[0], mask.shape[1] / extent[1]
    # Box, mask cell and grid cell are upright: when each two of them overlap, all three do in one place.
    return inside & touched(boxed, np.arange(rows + 1) * down, np.arange(cols + 1) * across)


def touched(cells: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Which cells of another grid touch a set cell of this one.

    cells: (h, w) bool. rows, columns: the other grid's edges, in cells of this one, increasing, n + 1 each.
    Returns (n_rows, n_columns) bool; sharing only an edge is not touching.
    """
    sums = np.zeros((cells.shape[0] + 1, cells.shape[1] + 1), np.int64)
    sums[1:, 1:] = cells.cumsum(0).cumsum(1)

    def bounds(edges: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        first = np.clip(np.floor(edges[:-1] + ROUNDING), 0, count).astype(int)
        last = np.clip(np.ceil(edges[1:] - ROUNDING), 0, count).astype(int)
        return first, np.maximum(first, last)

    top, bottom = bounds(rows, cells.shape[0])
    left, right = bounds(columns, cells.shape[1])
    inside = sums[np.ix_(bottom, right)] - sums[np.ix_(top, right)] - sums[np.ix_(bottom, left)]
    return inside + sums[np.ix_(top, left)] > 0


def crop_shift(image_size: tuple[float, float], width: float, height: float) -> float:
    """How far an edge can land from where it belongs, in the units of `width` and `height`.

    A box on an image of `image_size` is stretched over width x height. Had that image been cut from the
    centre of the image at one scale, as ComfyUI's own resizing cuts it, its outer edges would be off by this
    much: half of what was cut away. 0 for equal aspect ratios.
    """
    scale = max(width / image_size[0], height / image_size[1])
    return max(image_size[0] * scale - width, image_size[1] * scale - height) / 2


def _window(
    box: Sequence[float], image_size: tuple[int, int], grid: tuple[int, int], extent: tuple[float, float]
) -> tuple[slice, slice]:
    """The rows and columns of a grid that a box touches, clamped to the grid."""
    x1, y1, x2, y2 = box
    (width, height), (down, across) = image_size, extent
    return _span(y1 * down / height, y2 * down / height, grid[0]), _span(
        x1 * across / width, x2 * across / width, grid[1]
    )


def _span(low: float, high: float, count: int) -> slice:
    """The cells of `count` that an interval touches."""
    first = math.floor(low + ROUNDING)
    last = max(first + 1, math.ceil(high - ROUNDING))
    return slice(min(max(first, 0), count), min(max(last, 0), count))


# ---- two boxes in any one unit ---------------------------------------------------------------------------


def area(box: Sequence[float]) -> float:
    """Width times height; 0 for a box without area."""
    width, height = box[2] - box[0], box[3] - box[1]
    return width * height if width > 0 and height > 0 else 0.0


def shared(first: Sequence[float], second: Sequence[float]) -> float:
    """The area that both boxes cover."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return width * height if width > 0 and height > 0 else 0.0


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union, 0..1."""
    common = shared(first, second)
    union = area(first) + area(second) - common
    return common / union if union > 0 else 0.0


def share_inside(inner: Sequence[float], outer: Sequence[float]) -> float:
    """How much of `inner` lies inside `outer`, 0..1."""
    whole = area(inner)
    return shared(inner, outer) / whole if whole > 0 else 0.0
