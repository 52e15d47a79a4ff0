"""In which coordinates a box is written, and how it gets to pixels of the image. See docs/coordinates.md.

A vision-language model answers in pixels of the image it saw (Qwen2.5-VL: sides rounded to multiples of 28) or
in 0..1000 (Qwen2-VL, Qwen3-VL, Gemma), seldom in pixels of the file. The published code uses the numbers as
they are on the file's pixels, which is off by up to 14 pixels a side on a photograph and by far more on a
large image; that is the choice `pixels` here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from .plan import PlanError
from .resize import Size

CHOICES = ("auto", "pixels", "seen_pixels", "relative_1000", "relative_1")

Box = tuple[float, float, float, float]


def smart_resize(
    width: int, height: int, factor: int = 28, min_pixels: int = 3136, max_pixels: int = 12845056
) -> Size:
    """The (width, height) at which a Qwen-VL model sees an image (qwen_vl_utils 0.0.14, `smart_resize`).

    Each side is rounded to a multiple of `factor`; an area outside min_pixels..max_pixels is first scaled into
    it. Raises PlanError for an aspect ratio above 200, as the library does.
    """
    if min(width, height) < 1:
        raise PlanError(f"an image of {width}x{height} pixels has no area")
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


class Frame(NamedTuple):
    """What the numbers of a box count: `span` (in x, in y) covers the image of `image_size` pixels.

    note: the choice in words, for the report.
    """

    span: tuple[float, float]
    image_size: Size
    note: str

    def to_pixels(self, box: Sequence[float]) -> Box:
        """Map (x1, y1, x2, y2) to pixels of the image; nothing is rounded or clamped."""
        x1, y1, x2, y2 = box
        (width, height), (across, down) = self.image_size, self.span
        return x1 * width / across, y1 * height / down, x2 * width / across, y2 * height / down


def choose_frame(
    boxes: Sequence[Sequence[float]],
    image_size: Size | None,
    coordinates: str = "auto",
    seen_size: Size = (0, 0),
) -> Frame:
    """Decide what the numbers of `boxes` count.

    boxes: the numbers as they were written, only looked at for `auto`: all at most 1 means relative_1, anything
        else pixels of the image the model saw. (0..1000 cannot be told from pixels; it has to be chosen.)
    image_size: (width, height) of the image the plan is for; None takes `seen_size` as its size, with `pixels`.
    seen_size: the size the model saw, or zeros for the size that Qwen2.5-VL sees that image at.
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
    if coordinates == "auto":
        numbers = [abs(value) for box in boxes for value in box]
        coordinates = "relative_1" if numbers and max(numbers) <= 1.0 else "seen_pixels"
    if coordinates == "pixels":
        return Frame(image_size, image_size, f"pixels of the image, {width}x{height}")
    if coordinates == "relative_1000":
        return Frame((1000, 1000), image_size, f"0..1000 across the image of {width}x{height}")
    if coordinates == "relative_1":
        return Frame((1, 1), image_size, f"0..1 across the image of {width}x{height}")
    how = "as given"
    if seen is None:
        seen, how = smart_resize(width, height), "as Qwen2.5-VL sees it"
    return Frame(seen, image_size, f"pixels of the image the model saw, {seen[0]}x{seen[1]} ({how}), mapped to {width}x{height}")
