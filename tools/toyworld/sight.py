"""What each square of a picture shows: what editor and planner are asked while they learn to see."""

from __future__ import annotations

import numpy as np

from .drawing import COLOURS, SAMPLES, SHAPES
from .scenes import Scene

LEAST = 0.2  # of a square's area that an object covers for the square to show it
COLOUR_NAMES = tuple(COLOURS)


def covered(scene: Scene, cell: int) -> np.ndarray:
    """How many samples of each square each object shows: (objects, squares)."""
    side = scene.size // cell
    shown = scene.painting.shown.reshape(-1, side, cell, side, cell)
    return shown.sum((2, 4), dtype=np.int64).reshape(-1, side * side)


def shown_by(scene: Scene, cell: int) -> tuple[np.ndarray, ...]:
    """Of what covers most of each square: shape and colour, -1 where that is too little, and edges; and its own middle.

    (n,), (n,), (n, 4) and (n, 2), the last two in pixels.
    """
    side = scene.size // cell
    across, down = np.meshgrid(np.arange(side), np.arange(side))
    middle = np.stack([across.ravel(), down.ravel()], 1) * cell + cell / 2
    if not scene.objects:
        nothing = np.full(side * side, -1)
        return nothing, nothing, np.zeros((side * side, 4)), middle
    covers = covered(scene, cell)
    most, empty = covers.argmax(0), covers.max(0) < LEAST * SAMPLES * cell * cell
    shapes = np.array([SHAPES.index(thing.shape) for thing in scene.objects])[most]
    colours = np.array([COLOUR_NAMES.index(thing.colour) for thing in scene.objects])[most]
    edges = np.array([scene.box(thing.id) for thing in scene.objects])[most]
    return np.where(empty, -1, shapes), np.where(empty, -1, colours), edges, middle


def answers(scene: Scene, cell: int) -> np.ndarray:
    """(6, n) float32: each square's shape and colour, and where the edges x1, y1, x2, y2 are from its middle, in squares.

    Shape and colour are -1 and the edges 0 where there is nothing.
    """
    shapes, colours, edges, middle = shown_by(scene, cell)
    apart = np.where(shapes >= 0, (edges - np.tile(middle, 2)).T / cell, 0)
    return np.concatenate([shapes[None], colours[None], apart]).astype(np.float32)
