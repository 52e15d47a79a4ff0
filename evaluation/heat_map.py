"""One image that shows what an edit changed: before, after, and the change as a heat map under the plan's outlines."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from ..planner.pictures import labels
from ..planner.pictures.draw import READABLE_SIDE, draw_plan
from ..planner.plan import RegionPlan

# Larger panels show no more on a screen.
_PANEL = 1024
# Differences from here on have the last colour.
_STRONGEST = 0.5
# Black to yellow by way of red, rising in lightness, so that it reads in grey too.
_COLOURS = ((20, 0, 60), (120, 28, 109), (203, 65, 73), (251, 155, 6), (252, 255, 164))
_GROUND, _INK = (28, 28, 28), (235, 235, 235)
_GREY = 0.45
_STRIP = 64


def draw_change(
    before: torch.Tensor,
    after: torch.Tensor,
    change: torch.Tensor,
    plan: RegionPlan | None,
    threshold: float,
    line: str,
) -> Image.Image:
    """Before, after and heat map side by side (one below the other for wide images), each under its name.

    before, after: (C, H, W) in 0..1; change: (H, W), 0..1, and threshold, below which it fades; plan: for this size;
    line: a sentence below. Panels have at most 1024 pixels a side; small images are enlarged by a whole factor.
    """
    height, width = change.shape
    scale = min(1.0, _PANEL / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    factor = max(1, math.ceil(READABLE_SIDE / max(size)))
    panels = [_panel(before, size), _panel(after, size)]
    panels.append(_heat(panels[0], change, threshold))
    size = (size[0] * factor, size[1] * factor)
    panels = [panel.resize(size, Image.Resampling.NEAREST) if factor > 1 else panel for panel in panels]
    if plan is not None and plan.active.regions:
        panels[2] = draw_plan(panels[2], plan, hints=False)
    text = max(14, min(22, max(size) // 32))
    bar, gap = round(text * 1.8), 8
    beside = width < 1.6 * height
    across, down = (3, 1) if beside else (1, 3)
    whole = (across * size[0] + (across + 1) * gap, down * (size[1] + bar) + (down - 1) * gap + bar)
    sheet = Image.new("RGB", whole, _GROUND)
    draw = ImageDraw.Draw(sheet)
    for number, (panel, name) in enumerate(zip(panels, ("before", "after", "what changed"), strict=True)):
        column, row = (number, 0) if beside else (0, number)
        x, y = gap + column * (size[0] + gap), row * (size[1] + bar + gap)
        _write(draw, (x, y), name, text, bar)
        sheet.paste(panel, (x, y + bar))
    _legend(sheet, (x + size[0], y), text, bar)
    _write(draw, (gap, whole[1] - bar), _fitting(line, text, whole[0] - 2 * gap), text, bar)
    return sheet


def _panel(image: torch.Tensor, size: tuple[int, int]) -> Image.Image:
    levels = torch.empty(image[:3].shape, dtype=torch.uint8)
    # Strip by strip, so that what is worked on stays in the processor's cache.
    for values, into in zip(image[:3].split(_STRIP, 1), levels.split(_STRIP, 1), strict=True):
        into.copy_((values * 255).add_(0.5))
    levels = [Image.fromarray(plane.numpy()) for plane in levels]
    panel = Image.merge("RGB", levels if len(levels) == 3 else levels * 3)
    return panel if panel.size == size else panel.resize(size, Image.Resampling.BILINEAR)


def _heat(before: Image.Image, change: torch.Tensor, threshold: float) -> Image.Image:
    """The change in colours over the image before, which is dark and grey."""
    # The strongest of what falls on one pixel, so that a thin change is not lost.
    if change.shape != (before.height, before.width):
        change = F.adaptive_max_pool2d(change[None], (before.height, before.width))[0]
    heat = Image.fromarray((change * (255 / _STRONGEST)).clamp_(max=255).to(torch.uint8).numpy())
    # Pillow's tables and masks: a good deal faster than arithmetic on arrays of three colours.
    cover = heat.point([min(255, round(level * _STRONGEST / max(threshold, 1e-3))) for level in range(256)])
    ground = before.convert("L").point([round(level * _GREY) for level in range(256)]).convert("RGB")
    heat.putpalette(_ramp(256).tobytes())
    return Image.composite(heat.convert("RGB"), ground, cover)


def _ramp(steps: int) -> np.ndarray:
    """The colours from no difference to the strongest, (steps, 3) uint8."""
    stops, places = np.linspace(0, 1, len(_COLOURS)), np.linspace(0, 1, steps)
    return np.stack([np.interp(places, stops, [colour[i] for colour in _COLOURS]) for i in range(3)], 1).astype(
        np.uint8
    )


def _legend(sheet: Image.Image, corner: tuple[int, int], text: int, bar: int) -> None:
    """What the colours mean, right-aligned at `corner`, on one line."""
    draw = ImageDraw.Draw(sheet)
    high, low = f"{_STRONGEST:g}+", "0"
    wide, tall = text * 6, max(6, text // 2)
    x, y = corner[0] - _length(high, text), corner[1]
    _write(draw, (x, y), high, text, bar)
    x -= wide + text // 2
    colours = np.repeat(_ramp(wide)[None], tall, 0)
    sheet.paste(Image.fromarray(colours, "RGB"), (x, y + (bar - tall) // 2))
    _write(draw, (x - text // 2 - _length(low, text), y), low, text, bar)


def _write(draw: ImageDraw.ImageDraw, corner: tuple[int, int], words: str, text: int, bar: int) -> None:
    words, font = labels.readable(words, text)
    draw.text((corner[0], corner[1] + (bar - round(text * 1.2)) // 2), words, fill=_INK, font=font)


def _length(words: str, text: int) -> int:
    words, font = labels.readable(words, text)
    return math.ceil(font.getlength(words))


def _fitting(words: str, text: int, room: int) -> str:
    words, font = labels.readable(words, text)
    return labels.wrap(words, font, room, most_lines=1)[0]
