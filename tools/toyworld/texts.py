"""The toy world's text encoder: a CLIP-L made from a seed, in ComfyUI's form, and the same encoder to train with.

A CLIP-L of random layers makes all texts alike (cosine 0.92 between two instructions), and nobody can tell "red"
from "blue" in them. Here most layers pass on what they get. A token's feature has two parts: its own random vector,
moved by its place in the text; and, from the first layer's attention, the mean of all words up to it that mean
something by themselves ("red", not "the"), in directions of its own. The second part is what a trained encoder gives too: an editor that sees several texts one behind the
other, without positions, can tell which "blue" belongs to which "circle". So training needs no CLIP at all.

Places count up to `ORDERED`; all further tokens share one. The padding that ComfyUI puts behind a text (up to 77
tokens) counts as no word, and is therefore one and the same token many times, at every layer of an editor. To train
on it once, with its count added to the logits of the attention, gives the same numbers in half the time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

WIDTH, LAYERS, WORDS, LENGTH = 768, 12, 49408, 77  # of CLIP-L
END = WORDS - 1  # the token that ends a text, and that pads it
START = WORDS - 2
SMALL = (320, 518, 531, 539, 550, 593, 1095, 1505)  # a the to of an with into every
ORDERED = 12  # tokens whose place shows, the first (start of text) included
PLACE = 0.5  # size of a place beside a word, whose entries are 1 and -1
CONTEXT = 3.0  # size of the mean of the words beside a token's own vector
MARKED = 8.0  # in that mean a text's start weighs about exp(-8) of a word, small words exp(-16), its end exp(-32)
HEADS = 12
SEED = 20_26
RECIPE = 4  # raise when the encoder changes: cached files of another recipe are written again


class Encoded(NamedTuple):
    """features: (L, 768). counts: (L,), how many tokens of the text each row stands for; they add up to 77."""

    features: torch.Tensor
    counts: torch.Tensor


@functools.cache
def _signs() -> np.ndarray:
    """One row of 1 and -1 for every word, then for every place, the shared one last: (WORDS + ORDERED + 1, WIDTH) int8.

    The first entry tells words (-1), the start of a text (0), small words (1) and its end (3) apart; places have 0
    there. So what pads an empty text has nothing but the start before it, wherever it stands.
    """
    rows = WORDS + ORDERED + 1
    bits = np.unpackbits(np.frombuffer(np.random.RandomState(SEED).bytes(rows * WIDTH // 8), np.uint8))
    signs = 2 * bits.astype(np.int8).reshape(rows, WIDTH) - 1
    signs[:, 0] = -1
    signs[list(SMALL), 0] = 1
    signs[[START, END], 0] = 0, 3
    signs[WORDS:, 0] = 0
    return signs


@functools.cache
def _turn() -> torch.Tensor:
    """Where the mean of the words goes: each direction to another one, with another sign. (WIDTH, WIDTH)."""
    random = np.random.RandomState(SEED + 1)
    turn = torch.zeros(WIDTH, WIDTH)
    turn[torch.from_numpy(random.permutation(WIDTH)), torch.arange(WIDTH)] = CONTEXT
    return turn * torch.from_numpy(2.0 * random.randint(0, 2, WIDTH) - 1).float()


def _vectors(numbers: Sequence[int]) -> torch.Tensor:
    """The tokens of a text at their places: (L, WIDTH)."""
    places = np.minimum(np.arange(len(numbers)), ORDERED)
    return torch.from_numpy(_signs()[list(numbers)]) + PLACE * torch.from_numpy(_signs()[WORDS + places])


def host_weights() -> dict[str, torch.Tensor]:
    """The encoder as ComfyUI's CLIPLoader reads it, fp16, 235 MiB, nearly all of them zeros or the words."""
    words, places = torch.from_numpy(_signs()[:WORDS]), torch.arange(LENGTH).clamp(max=ORDERED)
    out = {
        "embeddings.token_embedding.weight": words,
        "embeddings.position_embedding.weight": PLACE * torch.from_numpy(_signs()[WORDS:])[places],
        **_norm("final_layer_norm"),
    }
    for index in range(LAYERS):
        layer = f"encoder.layers.{index}."
        out |= _norm(f"{layer}layer_norm1") | _norm(f"{layer}layer_norm2")
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            out |= _nothing(f"{layer}self_attn.{name}", WIDTH, WIDTH)
        out |= _nothing(f"{layer}mlp.fc1", 4 * WIDTH, WIDTH) | _nothing(f"{layer}mlp.fc2", WIDTH, 4 * WIDTH)
    # The first layer's attention: every head asks for words, all of which answer alike.
    attention, firsts = "encoder.layers.0.self_attn.", torch.arange(0, WIDTH, WIDTH // HEADS)
    out[f"{attention}q_proj.bias"][firsts] = (WIDTH / HEADS) ** 0.5
    out[f"{attention}k_proj.weight"][firsts, 0] = -MARKED
    out[f"{attention}v_proj.weight"] = torch.eye(WIDTH)
    out[f"{attention}out_proj.weight"] = _turn()
    half = {f"text_model.{name}": value.to(torch.float16).contiguous() for name, value in out.items()}
    return {**half, "text_projection.weight": torch.eye(WIDTH, dtype=torch.float16)}


def _norm(name: str) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": torch.ones(WIDTH), f"{name}.bias": torch.zeros(WIDTH)}


def _nothing(name: str, rows: int, columns: int) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": torch.zeros(rows, columns), f"{name}.bias": torch.zeros(rows)}


class TextEncoder:
    """Texts to features as ComfyUI gives them, with its padding kept once."""

    def __init__(self, comfyui: Path) -> None:
        """comfyui: the folder of a ComfyUI, for the word numbers of its CLIP tokenizer."""
        from transformers import CLIPTokenizer

        self._tokenizer = CLIPTokenizer.from_pretrained(
            comfyui / "comfy" / "sd1_tokenizer", local_files_only=True
        )
        self._known: dict[str, Encoded] = {}

    def encode(self, text: str) -> Encoded:
        if text not in self._known:
            self._known[text] = self._encode(text)
        return self._known[text]

    def _encode(self, text: str) -> Encoded:
        numbers = self._tokenizer(text)["input_ids"]
        if len(numbers) > LENGTH:
            raise ValueError(
                f"an instruction has at most {LENGTH} tokens, this one {len(numbers)}: {text[:60]!r}"
            )
        alone = max(ORDERED, len(numbers))
        kept = numbers + [END] * (alone + 1 - len(numbers))
        counts = torch.ones(len(kept))
        counts[-1] = LENGTH - alone
        vectors = _vectors(kept)
        norm = functools.partial(torch.nn.functional.layer_norm, normalized_shape=(WIDTH,))
        seen = norm(vectors)
        weight = (-MARKED * seen[:, :1]).exp()
        mean = (weight * seen).cumsum(0) / weight.cumsum(0)
        features = norm(vectors + mean @ _turn().T)
        keep = LENGTH if counts[-1] > 0 else alone
        return Encoded(features[:keep], counts[:keep])

    def together(self, programs: Sequence[Sequence[str]]) -> Encoded:
        """Several texts per sample one behind the other: (B, L, 768) and (B, L), with counts of 0 where one is short."""
        rows = [[self.encode(text) for text in texts] for texts in programs]
        pad = functools.partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
        return Encoded(
            pad([torch.cat([one.features for one in row]) for row in rows]),
            pad([torch.cat([one.counts for one in row]) for row in rows]),
        )
