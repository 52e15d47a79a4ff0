"""What the published code does with a box, for comparison (spec 1.6, 2.2, 2.4, 11). Nothing here imports the pack.

Three things differ from the pack: the planner's numbers are used unmapped on the file's pixels (`coordinates` =
`pixels` does the same), the expanded box is cut to whole numbers, so its right and bottom edges lose up to a
pixel, and a box outside the image becomes an inverted one that covers no patch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# floor and ceil of an edge that lies on a patch border up to rounding must give that border
_ROUNDING = 1e-6


def reference_expand(
    box: Sequence[float], image_size: tuple[int, int], value: float, mode: str = "ratio"
) -> tuple[int, int, int, int]:
    """Expand a box in pixels as the published `expand_bbox`: move out, clamp, cut to whole numbers."""
    x1, y1, x2, y2 = box
    width, height = image_size
    dx, dy = (value * (x2 - x1), value * (y2 - y1)) if mode == "ratio" else (value, value)
    return int(max(0, x1 - dx)), int(max(0, y1 - dy)), int(min(width, x2 + dx)), int(min(height, y2 + dy))


def patch_range(box: Sequence[float], image_size: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int, int, int]:
    """Patches a box touches: (col0, row0, col1, row1), ends exclusive, of a grid of (columns, rows) over the image.

    First edges are rounded down, last edges up, and all are clamped to the grid (spec 2.4). A box outside the
    image gives an empty range.
    """
    edges = []
    for first, last, side, count in zip(box[:2], box[2:], image_size, grid, strict=True):
        start = math.floor(first * count / side + _ROUNDING)
        stop = math.ceil(last * count / side - _ROUNDING)
        edges.append((min(max(start, 0), count), min(max(stop, 0), count)))
    (col0, col1), (row0, row1) = edges
    return col0, row0, col1, row1
