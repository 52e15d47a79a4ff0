"""How much two boxes share. Boxes are (x1, y1, x2, y2) with x1 < x2 and y1 < y2, in any one unit."""

from __future__ import annotations

from collections.abc import Sequence


def area(box: Sequence[float]) -> float:
    """Width times height; 0 for a box without area."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def shared(first: Sequence[float], second: Sequence[float]) -> float:
    """The area that both boxes cover."""
    return area(
        (
            max(first[0], second[0]),
            max(first[1], second[1]),
            min(first[2], second[2]),
            min(first[3], second[3]),
        )
    )


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union, 0..1."""
    common = shared(first, second)
    union = area(first) + area(second) - common
    return common / union if union > 0 else 0.0


def share_inside(inner: Sequence[float], outer: Sequence[float]) -> float:
    """How much of `inner` lies inside `outer`, 0..1."""
    whole = area(inner)
    return shared(inner, outer) / whole if whole > 0 else 0.0
