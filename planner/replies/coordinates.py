"""In which coordinates a box is written, and how it gets to pixels of the image. See docs/coordinates.md.

A vision-language model answers in pixels of the image it saw (Qwen2.5-VL: sides rounded to multiples of 28) or
in 0..1000 (Qwen2-VL, Qwen3-VL, Gemma), seldom in pixels of the file. The published code uses the numbers as
they are on the file's pixels, which is off by up to 14 pixels a side on a photograph and by far more on a
large image; that is the choice `pixels` here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..geometry import Size
from ..plan import PlanError
from ..plans.resize import smart_resize
from .item_boxes import AS_CHOSEN, BOX_2D, Y_FIRST

CHOICES = ("auto", "pixels", "seen_pixels", "relative_1000", "relative_1", "relative_1000_y_first")

# How far over the border of the image the model saw, as a share of its side, a number may lie and still be taken for a
# pixel of it; models overshoot by a few pixels.
_OVERSHOOT = 0.1


class Frame(NamedTuple):
    """What the numbers of a box count: `span` (in x, in y) covers the image of `image_size` pixels.

    note: the choice in words, for the report. y_first: lists of numbers begin with the top edge; so do those called
    box_2d where `box_2d_y_first`. doubt: what was guessed, and what a person should check about it.
    """

    span: tuple[float, float]
    image_size: Size
    note: str
    y_first: bool = False
    box_2d_y_first: bool = False
    doubt: tuple[str, ...] = ()

    def to_pixels(self, numbers: Sequence[float], order: str = AS_CHOSEN, share: bool = False) -> tuple[float, ...]:
        """Map (x1, y1, x2, y2), or a point (x, y), to pixels of the image; nothing is rounded or clamped.

        order: how these numbers are ordered (`item_boxes`). share: they are shares of the image, 0..1, whatever the
        others count.
        """
        turned = order == Y_FIRST or order == BOX_2D and self.box_2d_y_first or order == AS_CHOSEN and self.y_first
        span = (1.0, 1.0) if share else self.span
        mapped = []
        for at in range(0, len(numbers), 2):
            x, y = (numbers[at + 1], numbers[at]) if turned else (numbers[at], numbers[at + 1])
            mapped += [x * self.image_size[0] / span[0], y * self.image_size[1] / span[1]]
        return tuple(mapped)


def choose_frame(
    boxes: Sequence[Sequence[float]],
    image_size: Size | None,
    coordinates: str = "auto",
    seen_size: Size = (0, 0),
    thousandths: bool = False,
) -> Frame:
    """Decide what the numbers of `boxes` count.

    boxes: the numbers as they were written, only looked at for `auto`: all at most 1 means relative_1; a number far
        over the border of the image the model saw, and none above 1000, means relative_1000; anything else pixels of
        the image the model saw. (0..1000 cannot be told from pixels otherwise; it has to be chosen.)
    image_size: (width, height) of the image the plan is for; None takes `seen_size` as its size, with `pixels`.
    seen_size: the size the model saw, or zeros for the size that Qwen2.5-VL sees that image at.
    thousandths: the way the boxes are spelled belongs to models that count in 0..1000; for `auto`.
    """
    if coordinates not in CHOICES:
        raise PlanError(f"coordinates is one of {', '.join(CHOICES)}, found {coordinates!r}")
    seen = (int(seen_size[0]), int(seen_size[1])) if min(seen_size) > 0 else None
    if seen is None and max(seen_size) > 0:
        raise PlanError(
            f"seen_width {seen_size[0]} and seen_height {seen_size[1]}: give both sides of the image that the "
            "model saw, or 0 for both"
        )
    if image_size is None:
        if seen is None or coordinates != "pixels":
            raise PlanError(
                "these boxes do not say which image they are for: connect the image, or give its size in pixels as "
                "seen_width and seen_height with coordinates 'pixels'"
            )
        return Frame(seen, seen, f"pixels of an image of {seen[0]}x{seen[1]} (no image is connected)")
    width, height = image_size
    doubt: tuple[str, ...] = ()
    if coordinates == "auto":
        coordinates, doubt = _guessed(boxes, image_size, seen, thousandths)
    if coordinates == "pixels":
        return Frame(image_size, image_size, f"pixels of the image, {width}x{height}")
    if coordinates in ("relative_1000", "relative_1000_y_first"):
        first = coordinates.endswith("y_first")
        note = f"0..1000 across the image of {width}x{height}" + ", top edge first" * first
        return Frame((1000, 1000), image_size, note, first, True, doubt)
    if coordinates == "relative_1":
        return Frame((1, 1), image_size, f"0..1 across the image of {width}x{height}")
    how = "as given"
    if seen is None:
        seen, how = smart_resize(width, height), "as Qwen2.5-VL sees it"
    return Frame(
        seen, image_size, f"pixels of the image the model saw, {seen[0]}x{seen[1]} ({how}), mapped to {width}x{height}"
    )


def _guessed(
    boxes: Sequence[Sequence[float]], image_size: Size, seen: Size | None, thousandths: bool
) -> tuple[str, tuple[str, ...]]:
    """What `auto` takes the numbers for, and what to check about it."""
    numbers = [abs(value) for box in boxes for value in box]
    largest = max(numbers, default=0.0)
    if numbers and largest <= 1.0:
        return "relative_1", ()
    if thousandths and largest <= 1000:
        return "relative_1000", ()
    if largest > 1000 or largest <= min(seen or image_size):
        return "seen_pixels", ()
    across, down = seen or smart_resize(*image_size)
    far = any(
        max(box[0::2], default=0) > across * (1 + _OVERSHOOT) or max(box[1::2], default=0) > down * (1 + _OVERSHOOT)
        for box in boxes
    )
    if not far:
        return "seen_pixels", ()
    return "relative_1000", (
        f"the boxes were read as 0..1000, because as pixels of the image the model saw ({across}x{down}) some would lie far "
        "outside it",
        "choose the coordinates yourself if the boxes do not fit",
    )
