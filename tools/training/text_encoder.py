"""The trained part of the toy world's text encoder: three layers that learn to say what a sentence asks.

They see sentences only, no image. A quarter of the last `MEANING_WIDTH` entries of a text's end holds the kind of edit,
a quarter each the colour and the shape of what is named, the last one the new colour, shape or pattern. Each word has a
code of 1 and -1 there; what the sentence leaves out has zeros. `toyworld/clip_l.py` makes a CLIP-L of these layers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..toyworld.clip_l import (
    END,
    END_MASK,
    HEAD_WIDTH,
    LENGTH,
    MEANING_WIDTH,
    POSITION_SCALE,
    POSITIONS,
    SEED,
    TRAINED_HEADS,
    TRAINED_LAYERS,
    VOCABULARY,
    WIDTH,
    sign_vectors,
)
from ..toyworld.drawing import COLOURS, PATTERNS, SHAPES
from ..toyworld.edits import KEEP, KINDS, Instruction, random_wording
from ..toyworld.scenes import random_state

# What each quarter of a text's meaning can hold.
CODED_WORDS: tuple[tuple[str, ...], ...] = (KINDS, tuple(COLOURS), SHAPES, (*COLOURS, *SHAPES, *PATTERNS))
CODE_SCALE = 1.5  # of a code's entries in the features, where a word's own are about 0.8
QUARTER = MEANING_WIDTH // len(CODED_WORDS)
EMPTY_SHARE = 0.3  # of the sentences that ask to keep everything: no words at all


class EncodedText(NamedTuple):
    """features: (L, 768). counts: (L,), how many tokens of the text each row stands for; they add up to 77."""

    features: torch.Tensor
    counts: torch.Tensor


_norm = functools.partial(torch.nn.functional.layer_norm, normalized_shape=(WIDTH,))


class _Layer(torch.nn.Module):
    """A layer of CLIP that reads and writes the last `MEANING_WIDTH` entries, and never attends to a text's end."""

    def __init__(self) -> None:
        super().__init__()
        inner = TRAINED_HEADS * HEAD_WIDTH
        self.q, self.k, self.v = (torch.nn.Linear(MEANING_WIDTH, inner) for _ in range(3))
        self.out = torch.nn.Linear(inner, MEANING_WIDTH)
        self.fc1 = torch.nn.Linear(MEANING_WIDTH, 2 * MEANING_WIDTH)
        self.fc2 = torch.nn.Linear(2 * MEANING_WIDTH, MEANING_WIDTH)

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        """(B, L, WIDTH) -> the same."""
        normed = _norm(stream)
        query, key, value = (
            part(normed[..., -MEANING_WIDTH:]).unflatten(2, (TRAINED_HEADS, HEAD_WIDTH)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        # The last entry of each head is not trained: there END, by its flag, gets a logit that hides it.
        ones = torch.ones_like(query[..., :1])
        query = torch.cat((query[..., :-1], END_MASK * ones), -1)
        key = torch.cat((key[..., :-1], -END_MASK * normed[:, None, :, :1] * ones), -1)
        attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = self._added(stream, self.out(attended.transpose(1, 2).flatten(2)))
        inner = self.fc1(_norm(stream)[..., -MEANING_WIDTH:])
        return self._added(stream, self.fc2(inner * torch.sigmoid(1.702 * inner)))  # CLIP's "quick" GELU

    @staticmethod
    def _added(stream: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        return stream + torch.nn.functional.pad(change, (WIDTH - MEANING_WIDTH, 0))


class TextLayers(torch.nn.Module):
    """The trained layers: token vectors to features. (B, L, WIDTH) -> the same."""

    def __init__(self, seed: int = SEED) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = torch.nn.ModuleList(_Layer() for _ in range(TRAINED_LAYERS))

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            stream = layer(stream)
        return _norm(stream)


class TokenVectors:
    """Texts to the vectors of their tokens, as ComfyUI's tokenizer numbers them."""

    def __init__(self, comfyui: Path) -> None:
        """comfyui: the folder of a ComfyUI, for the word numbers of its CLIP tokenizer."""
        from transformers import CLIPTokenizer

        self._tokenizer = CLIPTokenizer.from_pretrained(comfyui / "comfy" / "sd1_tokenizer", local_files_only=True)

    def length(self, text: str) -> int:
        """How many tokens a text has, its start and its end included."""
        return len(self._tokenizer(text)["input_ids"])

    def __call__(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(L, WIDTH) vectors, the padding once at the shared position, and (L,) counts as in `EncodedText`."""
        numbers = self._tokenizer(text)["input_ids"]
        if len(numbers) > LENGTH:
            raise ValueError(f"an instruction has at most {LENGTH} tokens, this one {len(numbers)}: {text[:60]!r}")
        single = max(POSITIONS, len(numbers))
        numbers = numbers + [END] * (min(single + 1, LENGTH) - len(numbers))
        counts = torch.ones(len(numbers))
        if len(numbers) > single:
            counts[-1] = LENGTH - single
        signs = sign_vectors()
        positions = VOCABULARY + np.minimum(np.arange(len(numbers)), POSITIONS)
        return torch.from_numpy(signs[numbers]) + POSITION_SCALE * torch.from_numpy(signs[positions]), counts


class TextEncoder:
    """Texts to features as ComfyUI gives them, with its padding once."""

    def __init__(self, comfyui: Path, layers: Mapping[str, torch.Tensor]) -> None:
        """layers: the state dict of the trained `TextLayers`."""
        self._vectors, self._layers = TokenVectors(comfyui), TextLayers()
        self._layers.load_state_dict({name: value.float() for name, value in layers.items()})
        self._cache: dict[str, EncodedText] = {}

    def encode(self, text: str) -> EncodedText:
        if text not in self._cache:
            vectors, counts = self._vectors(text)
            with torch.no_grad():
                self._cache[text] = EncodedText(self._layers(vectors[None])[0], counts)
        return self._cache[text]

    def encode_programs(self, programs: Sequence[Sequence[str]]) -> EncodedText:
        """Several texts per sample one behind the other: (B, L, 768) and (B, L); counts are 0 where one is short."""
        rows = [[self.encode(text) for text in texts] for texts in programs]
        pad = functools.partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
        return EncodedText(
            pad([torch.cat([one.features for one in row]) for row in rows]),
            pad([torch.cat([one.counts for one in row]) for row in rows]),
        )


# What the layers learn


class Sentences(NamedTuple):
    """vectors: (B, L, 768), sentences as `TokenVectors` gives them. ends: (B, L) bool, their last token and padding.

    words: (B, 4), of each quarter which word of `CODED_WORDS`, -1 for none.
    """

    vectors: torch.Tensor
    ends: torch.Tensor
    words: torch.Tensor

    def to(self, device: str) -> Sentences:
        return Sentences(*(value.to(device) for value in self))


@functools.cache
def word_codes() -> tuple[torch.Tensor, ...]:
    """Of each quarter: (words + 1, QUARTER); the last row, of what the sentence leaves out, is zeros."""
    random = np.random.RandomState(SEED)
    codes = (2.0 * random.randint(0, 2, (len(words), QUARTER)) - 1 for words in CODED_WORDS)
    return tuple(CODE_SCALE * torch.from_numpy(np.vstack((rows, np.zeros(QUARTER)))).float() for rows in codes)


def coded_words(instruction: Instruction) -> tuple[int, int, int, int]:
    """Which word of each quarter of `CODED_WORDS` an instruction uses, -1 for none."""
    named = instruction.reference
    used = (instruction.kind, named and named.colour, named and named.shape, instruction.value)
    return tuple(words.index(word) if word else -1 for words, word in zip(CODED_WORDS, used, strict=True))


def training_sentences(run: int, step: int, count: int, vectors_of: TokenVectors) -> Sentences:
    """The sentences of a step, always the same ones; one in twenty is empty, which asks to keep everything."""
    random = random_state(run, f"run {run}, sentences {step}")
    vectors, words = [], []
    for _ in range(count):
        instruction = random_wording(random)
        text = "" if instruction.kind == KEEP and random.random_sample() < EMPTY_SHARE else instruction.text
        vectors.append(vectors_of(text)[0])
        words.append(coded_words(instruction))
    padded = torch.nn.utils.rnn.pad_sequence(vectors, batch_first=True)
    return Sentences(padded, padded[..., 0] > 1, torch.tensor(words))


def text_loss(layers: TextLayers, batch: Sentences) -> tuple[torch.Tensor, float]:
    """How far the ends' last entries are from their codes; also the share of sentences with all four words right."""
    features = layers(batch.vectors)[..., -MEANING_WIDTH:]
    wanted = torch.cat([table.to(features)[batch.words[:, part]] for part, table in enumerate(word_codes())], 1)
    loss = (features - wanted[:, None])[batch.ends].square().mean()
    right = (decode_words(features.detach()) == batch.words[:, None]).all(-1)
    return loss, float(right[batch.ends].float().mean())


def decode_words(features: torch.Tensor) -> torch.Tensor:
    """What features say, in the numbers of `coded_words`: (..., >= MEANING_WIDTH) -> (..., 4)."""
    quarters = features[..., -MEANING_WIDTH:].split(QUARTER, -1)
    nearest = [
        torch.cdist(part.float(), table.to(part).float()).argmin(-1)
        for part, table in zip(quarters, word_codes(), strict=True)
    ]
    return torch.stack(
        [torch.where(one == len(words), -1, one) for one, words in zip(nearest, CODED_WORDS, strict=True)], -1
    )
