"""Image files as ComfyUI's Load Image shows them: upright by their EXIF, 16 bits a colour as 8, the first frame."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from replan.planner.plan import PlanError

# What Pillow raises for files that are broken, and for headers that claim more pixels than any image has.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error, OverflowError, Image.DecompressionBombError)
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)


def read_rgb(file: Path | str) -> Image.Image:
    """An image in 8 bits RGB. Raises PlanError for a file that is none."""
    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16"):  # convert() would cut off all above 255
                image = Image.fromarray((np.asarray(image, np.float32) / 257).round().astype(np.uint8))
            return image.convert("RGB")
    except _BROKEN as error:
        raise _unreadable(file, error) from None


def size_of(file: Path | str) -> tuple[int, int]:
    """(width, height) of `read_rgb`, from the file's head. Raises PlanError."""
    try:
        with Image.open(file) as image:
            turned = image.getexif().get(_ORIENTATION) in _TURNED
            return image.size[::-1] if turned else image.size
    except _BROKEN as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path | str, error: Exception) -> PlanError:
    why = getattr(error, "strerror", None) or ("" if isinstance(error, UnidentifiedImageError) else str(error))
    why = why or type(error).__name__
    return PlanError(f"{file} cannot be read as an image ({why}); make it again")
