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
from .sight import covered, shown_by
from .tasks import Task

PLACES = 2  # layers of the language model that come before its states are asked for places
LOOKING, HEADS = 3, (0, 2)  # the layer, and its heads, that are told where to look; each reads keys of its own


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
    meant = np.stack(
        [
            covered(task.scene, cell)[task.scene.ids.index(identity)]
            for one in tasks
            for task in one
            for identity in task.meant
        ]
    )
    return Shown(
        shape, colour, edges.float(), middle.float(), torch.from_numpy(meant / meant.sum(1, keepdims=True)).float()
    )


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
