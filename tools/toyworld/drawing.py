"""How the toy world is drawn: shapes, palette, backgrounds, and pixels with exact coverage.

All drawing is integer arithmetic, so a scene has the same bytes on every machine. A pixel is `SUB` x `SUB`
samples; whoever lies on top of a sample owns it, and a pixel's colour is the mean over its samples. So edges are
smooth, and how much of each pixel an object shows is known exactly. Lengths are in units of 1/8 pixel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

SUB = 4  # samples along a pixel's side
SAMPLES = SUB * SUB
UNIT = 8  # units in a pixel: sample k lies at 2 k + 1
BACKGROUND = -1  # the owner of a sample without an object

# Far apart from each other and from the backgrounds, so that a picture's words can be told from its pixels.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 30, 35),
    "orange": (250, 135, 15),
    "yellow": (250, 225, 60),
    "green": (35, 150, 55),
    "blue": (40, 80, 215),
    "purple": (125, 35, 160),
    "pink": (250, 150, 200),
    "white": (250, 250, 250),
}
ACCENT = (35, 35, 40)  # the dark bands of a striped object
PATTERNS = ("plain", "striped")
TEXTURES = ("gradient", "clouds", "bands", "checks")


def _turned(points: Iterable[tuple[float, float]], radius: int, angle: int) -> list[tuple[int, int]]:
    """Corners in shares of the radius, turned by whole degrees, in whole units."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return [(round(radius * (x * cos - y * sin)), round(radius * (x * sin + y * cos))) for x, y in points]


def _on_circle(count: int, *radii: float) -> list[tuple[float, float]]:
    """`count` corners around the centre, the first at the top, taking their radii in turn."""
    turns = [2 * math.pi * k / count for k in range(count)]
    return [(radii[k % len(radii)] * math.sin(t), -radii[k % len(radii)] * math.cos(t)) for k, t in enumerate(turns)]


def _cross(arm: float, length: float) -> list[tuple[float, float]]:
    quarter = [(arm, -length), (arm, -arm), (length, -arm)]
    corners = []
    for _ in range(4):
        corners += quarter
        quarter = [(-y, x) for x, y in quarter]
    return corners


# Every shape lies inside the circle of its radius, so objects kept apart stay so whichever shape they take.
_ROUND: dict[str, tuple[float, float]] = {"circle": (0.9, 0.0), "ring": (0.97, 0.5)}  # outer and inner radius
_CORNERS: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.7, -0.7), (0.7, -0.7), (0.7, 0.7), (-0.7, 0.7)],
    "triangle": _on_circle(3, 1.0),
    "diamond": [(0.0, -1.0), (0.68, 0.0), (0.0, 1.0), (-0.68, 0.0)],
    "star": _on_circle(10, 1.0, 0.45),
    "cross": _cross(0.3, 0.92),
}
SHAPES = (*_ROUND, *_CORNERS)


def _inside(shape: str, x: np.ndarray, y: np.ndarray, radius: int, angle: int) -> np.ndarray:
    """Which samples lie in a shape. x (W,), y (H, 1): units from its centre; -> (H, W) bool."""
    if shape in _ROUND:
        outer, inner = (round(radius * share) for share in _ROUND[shape])
        distance = x * x + y * y
        return (distance <= outer * outer) & (distance >= inner * inner)
    corners = _turned(_CORNERS[shape], radius, angle)
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        crosses = (y1 > y) != (y2 > y)  # the edge passes this row ...
        side = (x2 - x1) * (y - y1) - (x - x1) * (y2 - y1)  # ... to the right of the sample?
        inside ^= crosses & ((side > 0) == (y2 > y1))
    return inside


class Drawn(NamedTuple):
    """One object as it is drawn: centre (x, y) and radius in units of 1/8 pixel, angle in whole degrees."""

    shape: str
    colour: str
    pattern: str
    centre: tuple[int, int]
    radius: int
    angle: int


class Painting(NamedTuple):
    """pixels: (H, W, 3) uint8. shown: (N, H, W) uint8, how many of a pixel's 16 samples each object owns."""

    pixels: np.ndarray
    shown: np.ndarray


@functools.lru_cache(maxsize=8)
def _positions(size: int) -> np.ndarray:
    return np.arange(size * SUB, dtype=np.int32) * (UNIT // SUB) + 1


def _per_pixel(samples: np.ndarray) -> np.ndarray:
    """(H, W) bool over samples -> how many of each pixel's, (H / SUB, W / SUB) uint8."""
    rows = samples.reshape(samples.shape[0], -1, SUB).sum(2, dtype=np.uint8)
    return rows.reshape(-1, SUB, rows.shape[1]).sum(1, dtype=np.uint8)


def _window(drawn: Drawn, size: int) -> tuple[slice, slice]:
    """The samples (rows, columns) that an object can own, whole pixels of a square image of `size` pixels."""
    spans = []
    for middle in reversed(drawn.centre):
        low = max((middle - drawn.radius) // UNIT - 1, 0)
        high = min((middle + drawn.radius) // UNIT + 2, size)
        spans.append(slice(low * SUB, high * SUB))
    return spans[0], spans[1]


def area(drawn: Drawn, size: int) -> int:
    """How many samples an object owns in an image of `size` pixels when nothing lies on top of it."""
    return int(_inside_window(drawn, size).sum())


@functools.lru_cache(maxsize=64)  # a scene's edits draw most of its objects again
def _inside_window(drawn: Drawn, size: int) -> np.ndarray:
    """Which samples of its window lie in an object; to be read only."""
    rows, columns = _window(drawn, size)
    at = _positions(size)
    x, y = at[columns] - drawn.centre[0], (at[rows] - drawn.centre[1])[:, None]
    inside = _inside(drawn.shape, x, y, drawn.radius, drawn.angle)
    inside.flags.writeable = False
    return inside


def paint(background: np.ndarray, objects: Iterable[Drawn]) -> Painting:
    """Draw objects, the first at the bottom, over a background of (H, W, 3) uint8 with H = W."""
    objects = tuple(objects)
    size = len(background)
    owner = np.full((size * SUB, size * SUB), BACKGROUND, np.int8)
    for index, drawn in enumerate(objects):
        owner[_window(drawn, size)][_inside_window(drawn, size)] = index

    total = np.zeros((size, size, 3), np.int32)
    shown = np.zeros((len(objects), size, size), np.uint8)
    free = np.full((size, size), SAMPLES, np.int32)
    for index, drawn in enumerate(objects):
        rows, columns = _window(drawn, size)
        pixels = tuple(slice(span.start // SUB, span.stop // SUB) for span in (rows, columns))
        owned = owner[rows, columns] == index
        count = _per_pixel(owned).astype(np.int32)
        shown[index][pixels] = count
        free[pixels] -= count
        if drawn.pattern == "striped":
            y = (_positions(size)[rows] - drawn.centre[1])[:, None]
            bands = ((y + 3 * drawn.radius) * 5 // (2 * drawn.radius)) % 2 == 1
            dark = _per_pixel(owned & bands).astype(np.int32)
            total[pixels] += dark[..., None] * np.array(ACCENT, np.int32)
            count = count - dark
        total[pixels] += count[..., None] * np.array(COLOURS[drawn.colour], np.int32)
    total += free[..., None] * background.astype(np.int32)
    return Painting(((total + SAMPLES // 2) // SAMPLES).astype(np.uint8), shown)


def _wave(position: np.ndarray, period: int) -> np.ndarray:
    """A triangle wave 0..256."""
    phase = position % period
    return np.minimum(phase, period - phase) * 512 // period


def texture(kind: str, size: int, tones: tuple[tuple[int, int, int], ...], random: np.random.RandomState) -> np.ndarray:
    """A soft background between two tones, as (size, size, 3) uint8.

    kind: of TEXTURES. random: gives directions, periods and the clouds' values.
    """
    x, y = np.arange(size)[None, :], np.arange(size)[:, None]
    if kind == "gradient":
        dx, dy = random.randint(-4, 5), random.randint(1, 5)
        slope = x * dx + y * dy
        share = (slope - slope.min()) * 256 // max(int(np.ptp(slope)), 1)
    elif kind == "clouds":
        cell = size // 4
        values = random.randint(0, 257, (6, 6))
        offset = random.randint(0, cell, 2)
        (row, down), (column, right) = divmod(y + offset[0], cell), divmod(x + offset[1], cell)
        top = values[row, column] * (cell - right) + values[row, column + 1] * right
        bottom = values[row + 1, column] * (cell - right) + values[row + 1, column + 1] * right
        share = (top * (cell - down) + bottom * down) // (cell * cell)
    elif kind == "bands":
        dx, dy = random.randint(0, 3), random.randint(1, 3)
        share = _wave(x * dx + y * dy, int(random.randint(24, 48)))
    elif kind == "checks":
        period = int(random.randint(24, 48))
        share = (_wave(x, period) + _wave(y, period)) // 2
    else:
        raise ValueError(f"no texture is called {kind!r}; there are {', '.join(TEXTURES)}")
    share = np.broadcast_to(share, (size, size))[..., None]
    one, two = (np.array(tone, np.int64) for tone in tones)
    return ((one * (256 - share) + two * share + 128) // 256).astype(np.uint8)
