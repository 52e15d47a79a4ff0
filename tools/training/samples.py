"""Training samples: number n of a run is always the same, so an interrupted training needs no record of chance.

A sample is a scene, a program of instructions and the image they ask for. It holds no region of any kind.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..toyworld.edits import KEEP, KINDS, RESHAPE, Instruction, edited, random_program
from ..toyworld.scenes import SIZE, TRAINING_SEEDS, Scene, random_state, training_scene

SAMPLE_KINDS = (*KINDS, RESHAPE)  # a new shape is the hardest to draw: twice as often as the others
EMPTY_SHARE = 0.25  # of the texts that ask for nothing
PIECES = 4  # of a scene and its edit, two of each


class Sample(NamedTuple):
    """source, target: (size, size, 3) uint8. texts: the instructions; which objects they name is not recorded."""

    source: np.ndarray
    target: np.ndarray
    texts: tuple[str, ...]


def sample(run: int, number: int, size: int = SIZE, variant: int = 0) -> Sample:
    """Sample `number` of the run with this seed (both any whole number from 0).

    variant: another program on the same scene.
    """
    scene, after, texts = _drawn(run, number, size, variant)
    return Sample(scene.pixels, after.pixels, texts)


def before_and_after(run: int, number: int, size: int = SIZE, variant: int = 0) -> tuple[Scene, Scene]:
    """The scenes of a sample, before and after its instructions."""
    return _drawn(run, number, size, variant)[:2]


@functools.lru_cache(maxsize=4)  # a sample's images are asked for, then its scenes
def _drawn(run: int, number: int, size: int, variant: int) -> tuple[Scene, Scene, tuple[str, ...]]:
    random = random_state(run, f"run {run}, sample {number}")
    seed = int(random.randint(len(TRAINING_SEEDS)))
    scene = _scene(seed, size)
    counts = 1 + random.randint(3, size=variant + 1)
    program = random_program(scene, seed + variant, count=int(counts[variant]), kinds=SAMPLE_KINDS)
    return scene, edited(scene, program), tuple(_text(instruction, random) for instruction in program)


_scene = functools.lru_cache(maxsize=2)(training_scene)  # variants share it


def _text(instruction: Instruction, random: np.random.RandomState) -> str:
    """Its words; "keep the image unchanged" is sometimes no words at all, as a user's empty hint."""
    return "" if instruction.kind == KEEP and random.random_sample() < EMPTY_SHARE else instruction.text


_shared = functools.lru_cache(maxsize=2)(sample)


class ImageBatches(Dataset):
    """Batches for the codec: item k is that of step first + k, (batch, 3, crop, crop) uint8.

    Scenes and edited scenes take turns. crop: the side of the random piece taken from each, at most `size`; a scene
    gives several pieces when they are smaller, since drawing it takes longer than cutting it.
    """

    def __init__(self, run: int, batch: int, size: int, crop: int, first: int, stop: int) -> None:
        self.run, self.batch, self.size, self.crop, self.first, self.stop = (
            run,
            batch,
            size,
            crop,
            first,
            stop,
        )

    def __len__(self) -> int:
        return self.stop - self.first

    def __getitem__(self, index: int) -> torch.Tensor:
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = (self.first + index) * self.batch
        images = np.stack([self._piece(number) for number in range(first, first + self.batch)])
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def _piece(self, number: int) -> np.ndarray:
        pieces = PIECES if self.crop < self.size else 2
        one = _shared(self.run, number // pieces, self.size)
        top, left = random_state(self.run, f"crop {number}").randint(0, self.size - self.crop + 1, 2)
        return (one.source, one.target)[number % 2][top : top + self.crop, left : left + self.crop]


def in_order(batches: Dataset, workers: int) -> DataLoader:
    """The batches one after the other, made ahead by `workers` processes (0: by this one)."""
    return DataLoader(batches, batch_size=None, shuffle=False, num_workers=workers)
