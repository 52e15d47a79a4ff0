"""What each image token of a scene shows, and the loss of a head that says it: extra lessons for editor and planner.

A published model has seen the world before it learns to edit or to plan; these start from nothing. So heads that are
not published are trained to say of each token whether it shows an object, of which shape and colour, and where its
edges are.
"""

from __future__ import annotations

import numpy as np
import torch

from ..toyworld.drawing import COLOURS, SAMPLES, SHAPES
from ..toyworld.scenes import Scene

LEAST_COVERED = 0.2  # of a token's area that an object covers for the token to show it
COLOUR_NAMES = tuple(COLOURS)
CONTENT_PARTS = (1, len(SHAPES), len(COLOURS), 4)  # an object or not, its shape, its colour, its edges
CONTENT_WIDTH = sum(CONTENT_PARTS)  # of what a head says about a token


def covered_samples(scene: Scene, cell: int) -> np.ndarray:
    """How many samples of each square of `cell` pixels each object shows: (objects, squares)."""
    side = scene.size // cell
    shown = scene.painting.shown.reshape(-1, side, cell, side, cell)
    return shown.sum((2, 4), dtype=np.int64).reshape(-1, side * side)


def contents(scene: Scene, cell: int) -> tuple[np.ndarray, ...]:
    """Of the object that covers most of each square: shape and colour (-1 where it covers too little) and edges.

    Also the square's middle. (n,), (n,), (n, 4) and (n, 2), the last two in pixels of the scene.
    """
    side = scene.size // cell
    across, down = np.meshgrid(np.arange(side), np.arange(side))
    middle = np.stack([across.ravel(), down.ravel()], 1) * cell + cell / 2
    if not scene.objects:
        nothing = np.full(side * side, -1)
        return nothing, nothing, np.zeros((side * side, 4)), middle
    covers = covered_samples(scene, cell)
    most, empty = covers.argmax(0), covers.max(0) < LEAST_COVERED * SAMPLES * cell * cell
    shapes = np.array([SHAPES.index(thing.shape) for thing in scene.objects])[most]
    colours = np.array([COLOUR_NAMES.index(thing.colour) for thing in scene.objects])[most]
    edges = np.array([scene.box(thing.id) for thing in scene.objects])[most]
    return np.where(empty, -1, shapes), np.where(empty, -1, colours), edges, middle


def packed_contents(scene: Scene, cell: int) -> np.ndarray:
    """(6, n) float32: each square's shape and colour, and its edges x1, y1, x2, y2 from its middle, in squares.

    Shape and colour are -1 and the edges 0 where there is nothing.
    """
    shapes, colours, edges, middle = contents(scene, cell)
    offsets = np.where(shapes >= 0, (edges - np.tile(middle, 2)).T / cell, 0)
    return np.concatenate([shapes[None], colours[None], offsets]).astype(np.float32)


def content_loss(
    said: torch.Tensor, shape: torch.Tensor, colour: torch.Tensor, edges: torch.Tensor, edge_weight: float = 1.0
) -> torch.Tensor:
    """Mean loss of what a head says (..., CONTENT_WIDTH) about tokens.

    shape, colour: (...), -1 for background. edges: (..., 4), from the token's middle in tokens' sides.
    """
    is_object, shapes, colours, offsets = said.split(CONTENT_PARTS, -1)
    there = shape >= 0
    loss = torch.nn.functional.binary_cross_entropy_with_logits(is_object[..., 0], there.float())
    if not there.any():
        return loss
    entropy = torch.nn.functional.cross_entropy
    apart = (offsets - edges)[there].abs().mean()
    return loss + entropy(shapes[there], shape[there]) + entropy(colours[there], colour[there]) + edge_weight * apart
