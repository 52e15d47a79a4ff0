"""A model's text to a plan: what others use is here, the walk is in build.py.

The reader is loaded by its first reply: its patterns take half of the pack's import. CODES and ERROR_CODES are what
reading tells, by code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .notices import CODES, COORDINATES, ERROR_CODES, ReplyError

if TYPE_CHECKING:
    from ..geometry import Box, Size
    from ..plan import RegionPlan
    from .boxes import Fields

__all__ = ["CODES", "COORDINATES", "ERROR_CODES", "ReplyError", "read_box", "read_plan", "read_words"]


def read_plan(
    text: str,
    image_size: Size | None = None,
    coordinates: str = "auto",
    seen_size: Size = (0, 0),
    by_model: bool = False,
) -> tuple[RegionPlan, str]:
    """The plan in `text`, and in words which coordinates its boxes were read in: see `build.read_plan`."""
    from .build import read_plan as read

    return read(text, image_size, coordinates, seen_size, by_model)


def read_box(
    text: str, image_size: Size, coordinates: str = "auto", seen_size: Size = (0, 0)
) -> tuple[Fields | None, Box | None]:
    """The last object and the first box of a short reply about one thing: see `build.read_box`."""
    from .build import read_box as read

    return read(text, image_size, coordinates, seen_size)


def read_words(text: str) -> tuple[str, str]:
    """The words of a reply that was asked for a text alone, and its reasoning: see `segments.read_words`."""
    from .segments import read_words as read

    return read(text)
