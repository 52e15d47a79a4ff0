"""Draw the pack's icon: `python tools/icon.py`. A scene with three regions, each with its own edit.

Needs Pillow, so the project's environment (`.host/venv/bin/python tools/icon.py`).
"""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw

ICON = Path(__file__).resolve().parent.parent / "docs" / "images" / "icon.png"
SIDE, SCALE = 400, 4  # pixels; drawn larger and reduced, for smooth edges
PAPER, GROUND, GREY = (24, 27, 38), (38, 44, 61), (110, 120, 145)
RED, BLUE, GREEN = (255, 107, 107), (92, 160, 255), (94, 214, 152)


def star(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """The corners of a five-pointed star around a point."""
    turns = [math.pi * k / 5 for k in range(10)]
    lengths = [radius if k % 2 == 0 else radius * 0.45 for k in range(10)]
    return [(x + r * math.sin(t), y - r * math.cos(t)) for t, r in zip(turns, lengths, strict=True)]


def region(page: Image.Image, box: tuple[float, float, float, float], colour: tuple[int, int, int]) -> None:
    """A frame with a handle on each corner, as the editor draws a region."""
    layer = Image.new("RGBA", page.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    pen.rounded_rectangle(box, 18, fill=(*colour, 46), outline=(*colour, 255), width=14)
    for x in (box[0] + 7, box[2] - 7):
        for y in (box[1] + 7, box[3] - 7):
            pen.rounded_rectangle((x - 26, y - 26, x + 26, y + 26), 10, fill=(*colour, 255))
    page.alpha_composite(layer)


def icon() -> Image.Image:
    """(SIDE, SIDE), RGBA, with round corners."""
    side = SIDE * SCALE
    page = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    pen = ImageDraw.Draw(page)
    pen.rounded_rectangle((0, 0, side - 1, side - 1), 300, fill=(*PAPER, 255))
    pen.rounded_rectangle((150, 150, side - 150, side - 150), 190, fill=(*GROUND, 255))
    pen.polygon(star(560, 570, 190), fill=(*RED, 255))
    pen.ellipse((925, 395, 1225, 695), fill=(*BLUE, 255))
    pen.polygon([(800, 900), (1000, 1240), (600, 1240)], fill=(*GREEN, 255))
    for x, y in ((330, 960), (1180, 1010)):  # not meant: no region, no edit
        pen.ellipse((x, y, x + 150, y + 150), fill=(*GREY, 255))
    region(page, (320, 330, 790, 790), RED)
    region(page, (880, 350, 1280, 740), BLUE)
    region(page, (550, 850, 1050, 1290), GREEN)
    return page.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    drawn = icon().quantize(128, method=Image.Quantize.FASTOCTREE)
    drawn.save(ICON, optimize=True)
    print(f"{ICON}: {ICON.stat().st_size} bytes")
