"""What each token of a picture shows, told to the planner while it learns and left out of what is published.

A published vision tower has seen the world before it learns to answer. This one starts from nothing, and the few boxes
of its replies reach it through attention that does not know yet where to look. So small heads are asked: of every token,
which shape and colour lies there and how far its edges are (behind the vision tower), and where those edges are in the
picture (behind the first layers of the language model, which alone knows places). And where an edge of a box is about
to be written, two heads of attention of a later layer are told to look at the tokens that show the thing that is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from .drawing import COLOURS, SHAPES
from .scenes import Scene
from .tasks import Task

LEAST = 0.2  # of a token's area that an object covers for the token to show it
PLACES = 2  # layers of the language model that come before its states are asked for places
LOOKING, HEADS = 3, (0, 2)  # the layer, and its heads, that are told where to look; each reads keys of its own
COLOUR_NAMES = tuple(COLOURS)


class Shown(NamedTuple):
    """For each token of the pictures, row by row: shape and colour (-1: background), edges (x1, y1, x2, y2) and middle in pixels.

    meant: for each box of the replies, in their order, the share of its thing in each token of its picture.
    """

    shape: torch.Tensor
    colour: torch.Tensor
    edges: torch.Tensor
    middle: torch.Tensor
    meant: torch.Tensor

    def to(self, device: str) -> Shown:
        return Shown(*(value.to(device) for value in self))


def shown_together(tasks: Sequence[Sequence[Task]], cell: int) -> Shown:
    """What each square of `cell` pixels shows, for several scenes with the tasks about each."""
    columns = zip(*(shown_by(one[0].scene, cell) for one in tasks), strict=True)
    shape, colour, edges, middle = (torch.from_numpy(np.concatenate(column)) for column in columns)
    meant = np.stack([_covered(task.scene, cell)[task.scene.ids.index(identity)] for one in tasks for task in one for identity in task.meant])
    return Shown(shape, colour, edges.float(), middle.float(), torch.from_numpy(meant / meant.sum(1, keepdims=True)).float())


def _covered(scene: Scene, cell: int) -> np.ndarray:
    """How many samples of each square each object shows: (objects, squares)."""
    side = scene.size // cell
    shown = scene.painting.shown.reshape(-1, side, cell, side, cell)
    return shown.sum((2, 4), dtype=np.int64).reshape(-1, side * side)


def shapes_and_colours(scene: Scene, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Of what covers most of each square, -1 where that is too little: (n,), (n,)."""
    if not scene.objects:
        nothing = np.full((scene.size // cell) ** 2, -1)
        return nothing, nothing
    covered = _covered(scene, cell)
    most = covered.argmax(0)
    empty = covered.max(0) < LEAST * 16 * cell * cell
    shapes = np.array([SHAPES.index(thing.shape) for thing in scene.objects])[most]
    colours = np.array([COLOUR_NAMES.index(thing.colour) for thing in scene.objects])[most]
    return np.where(empty, -1, shapes), np.where(empty, -1, colours)


def shown_by(scene: Scene, cell: int) -> tuple[np.ndarray, ...]:
    """Shape, colour, edges and middle of each square: (n,), (n,), (n, 4), (n, 2)."""
    side = scene.size // cell
    across, down = np.meshgrid(np.arange(side), np.arange(side))
    middle = np.stack([across.ravel(), down.ravel()], 1) * cell + cell / 2
    if not scene.objects:
        return *shapes_and_colours(scene, cell), np.zeros((side * side, 4)), middle
    edges = np.array([scene.box(thing.id) for thing in scene.objects])[_covered(scene, cell).argmax(0)]
    return *shapes_and_colours(scene, cell), edges, middle


def answers(scene: Scene, cell: int) -> np.ndarray:
    """(6, n) float32: each square's shape and colour, and where the edges x1, y1, x2, y2 are from its middle, in squares.

    Shape and colour are -1 and the edges 0 where there is nothing.
    """
    shapes, colours, edges, middle = shown_by(scene, cell)
    apart = np.where(shapes >= 0, (edges - np.tile(middle, 2)).T / cell, 0)
    return np.concatenate([shapes[None], colours[None], apart]).astype(np.float32)


class Sight(torch.nn.Module):
    """The heads. width: of the language model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.what = torch.nn.Linear(width, 1 + len(SHAPES) + len(COLOURS) + 4)
        self.where = torch.nn.Linear(width, 4)

    def loss(self, seen: torch.Tensor, placed: torch.Tensor, shown: Shown) -> torch.Tensor:
        """seen, placed: (n, width), what the vision tower and the language model's layers make of each token."""
        there = shown.shape >= 0
        object_, shape, colour, offset = self.what(seen.float()).split([1, len(SHAPES), len(COLOURS), 4], 1)
        entropy = torch.nn.functional.cross_entropy
        loss = torch.nn.functional.binary_cross_entropy_with_logits(object_[:, 0], there.float())
        if not there.any():
            return loss
        apart = (shown.edges - shown.middle.repeat(1, 2))[there] / 16
        places = shown.edges[there] / 32 - 2
        return (
            loss + entropy(shape[there], shown.shape[there]) + entropy(colour[there], shown.colour[there])
            + (offset[there] - apart).abs().mean() + (self.where(placed.float())[there] - places).abs().mean()
        )  # fmt: skip


def astray(looks: torch.Tensor, meant: torch.Tensor) -> torch.Tensor:
    """How far attention is from what is meant. looks: (edges, heads, tokens), a share of 1. meant: (edges, tokens)."""
    return -(meant[:, None] * torch.log(looks.clamp(min=1e-6))).sum(2).mean()
