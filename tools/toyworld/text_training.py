"""Teaching the toy world's text encoder to read: what a sentence asks is to stand at its end, in fixed places.

It sees sentences only, no picture. A quarter of the `MEANING` entries says the kind of edit, a quarter each the colour
and the shape of what is named, the last one the new colour, shape or pattern; every word has a code of 1 and -1 there,
what is not said has zeros.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch

from .drawing import COLOURS, PATTERNS, SHAPES
from .edits import KEEP, KINDS, Instruction, random_wording
from .scenes import random_state
from .texts import MEANING, SEED, Reader, Words

SAID: tuple[tuple[str, ...], ...] = (KINDS, tuple(COLOURS), SHAPES, (*COLOURS, *SHAPES, *PATTERNS))
CODE = 1.5  # size of a code's entries in the features, where a word's own are about 0.8
PART = MEANING // len(SAID)
EMPTY = 0.3  # of the sentences that ask for nothing: no words at all


class Sentences(NamedTuple):
    """vectors: (B, L, 768), sentences as `texts.Words` gives them. ends: (B, L) bool, their last token and padding.

    asked: (B, 4), of each quarter which word of `SAID`, -1 for none.
    """

    vectors: torch.Tensor
    ends: torch.Tensor
    asked: torch.Tensor

    def to(self, device: str) -> Sentences:
        return Sentences(*(value.to(device) for value in self))


@functools.cache
def codes() -> tuple[torch.Tensor, ...]:
    """Of each quarter: (words + 1, PART), the last row, of what is not said, zeros."""
    random = np.random.RandomState(SEED)
    made = (2.0 * random.randint(0, 2, (len(words), PART)) - 1 for words in SAID)
    return tuple(CODE * torch.from_numpy(np.vstack((rows, np.zeros(PART)))).float() for rows in made)


def asked(instruction: Instruction) -> tuple[int, int, int, int]:
    """Which word of each quarter of `SAID` an instruction says, -1 for none."""
    named = instruction.reference
    said = (instruction.kind, named and named.colour, named and named.shape, instruction.value)
    return tuple(words.index(word) if word else -1 for words, word in zip(SAID, said, strict=True))


def sentences(run: int, step: int, count: int, words: Words) -> Sentences:
    """The sentences of a step, always the same ones; one in twenty is empty, which asks to keep everything."""
    random = random_state(run, f"run {run}, sentences {step}")
    vectors, wanted = [], []
    for _ in range(count):
        said = random_wording(random)
        text = "" if said.kind == KEEP and random.random_sample() < EMPTY else said.text
        vectors.append(words(text)[0])
        wanted.append(asked(said))
    together = torch.nn.utils.rnn.pad_sequence(vectors, batch_first=True)
    return Sentences(together, together[..., 0] > 1, torch.tensor(wanted))


def text_loss(reader: Reader, batch: Sentences) -> tuple[torch.Tensor, float]:
    """How far the ends' last entries are from their codes; also the share of sentences of which all four are nearest."""
    found = reader(batch.vectors)[..., -MEANING:]
    wanted = torch.cat([table.to(found)[batch.asked[:, part]] for part, table in enumerate(codes())], 1)
    loss = (found - wanted[:, None])[batch.ends].square().mean()
    return loss, float((understood(found.detach()) == batch.asked[:, None]).all(-1)[batch.ends].float().mean())


def understood(features: torch.Tensor) -> torch.Tensor:
    """What features say, in the numbers of `asked`: (..., >= MEANING) -> (..., 4)."""
    parts = features[..., -MEANING:].split(PART, -1)
    nearest = [
        torch.cdist(part.float(), table.to(part).float()).argmin(-1) for part, table in zip(parts, codes(), strict=True)
    ]
    return torch.stack([torch.where(one == len(words), -1, one) for one, words in zip(nearest, SAID, strict=True)], -1)
