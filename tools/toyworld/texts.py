"""The toy world's text encoder: a CLIP-L made from a seed, in ComfyUI's form, and the same encoder to train with.

A CLIP-L of random layers makes all texts alike (cosine 0.92 between two instructions), and nobody can tell "red"
from "blue" in them. Here every layer passes on what it gets: a token's feature is its own random vector, moved by its
place in the text, through the last norm. So words stay apart, and training needs no CLIP at all.

Places count up to `ORDERED`; further tokens have none. The padding that ComfyUI puts behind a text (up to 77 tokens)
is therefore one and the same token many times, at every layer of an editor, whose texts have no position. To train
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
ORDERED = 12  # tokens whose place shows, the first (start of text) included
PLACE = 0.5  # size of a place beside a word, whose entries are 1 and -1
SEED = 20_26
RECIPE = 1  # raise when the encoder changes: cached files of another recipe are written again


class Encoded(NamedTuple):
    """features: (L, 768). counts: (L,), how many tokens of the text each row stands for; they add up to 77."""

    features: torch.Tensor
    counts: torch.Tensor


@functools.cache
def _signs() -> np.ndarray:
    """One row of 1 and -1 for every word, then for every place: (WORDS + ORDERED, WIDTH) int8."""
    rows = WORDS + ORDERED
    bits = np.unpackbits(np.frombuffer(np.random.RandomState(SEED).bytes(rows * WIDTH // 8), np.uint8))
    return (2 * bits.astype(np.int8) - 1).reshape(rows, WIDTH)


def host_weights() -> dict[str, torch.Tensor]:
    """The encoder as ComfyUI's CLIPLoader reads it, fp16, 235 MiB, nearly all of them zeros or the words."""
    words, places = torch.from_numpy(_signs()[:WORDS]), torch.zeros(LENGTH, WIDTH)
    places[:ORDERED] = PLACE * torch.from_numpy(_signs()[WORDS:])
    out = {
        "embeddings.token_embedding.weight": words,
        "embeddings.position_embedding.weight": places,
        **_norm("final_layer_norm"),
    }
    for index in range(LAYERS):
        layer = f"encoder.layers.{index}."
        out |= _norm(f"{layer}layer_norm1") | _norm(f"{layer}layer_norm2")
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            out |= _nothing(f"{layer}self_attn.{name}", WIDTH, WIDTH)
        out |= _nothing(f"{layer}mlp.fc1", 4 * WIDTH, WIDTH) | _nothing(f"{layer}mlp.fc2", WIDTH, 4 * WIDTH)
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
        kept = numbers + [numbers[-1]] * (alone + 1 - len(numbers))  # padded with the end of the text
        counts = torch.ones(len(kept))
        counts[-1] = LENGTH - alone
        vectors = torch.from_numpy(_signs()[kept]).float()
        vectors[:ORDERED] += PLACE * torch.from_numpy(_signs()[WORDS:])
        keep = LENGTH if counts[-1] > 0 else alone
        features = torch.nn.functional.layer_norm(vectors, (WIDTH,))
        return Encoded(features[:keep], counts[:keep])

    def together(self, programs: Sequence[Sequence[str]]) -> Encoded:
        """Several texts per sample one behind the other: (B, L, 768) and (B, L), with counts of 0 where one is short."""
        rows = [[self.encode(text) for text in texts] for texts in programs]
        pad = functools.partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
        return Encoded(
            pad([torch.cat([one.features for one in row]) for row in rows]),
            pad([torch.cat([one.counts for one in row]) for row in rows]),
        )
