"""The toy world's text encoder: a small one, trained to read instructions, in the form of a CLIP-L that ComfyUI loads.

A CLIP-L of random layers makes all texts alike (cosine 0.92 between two instructions), and nobody can tell "red"
from "blue" in them. Here a word is its own random vector, moved by its place; and three narrow layers, trained on
sentences alone (`text_training.py`), write into the last `MEANING` entries of a text's end what the text asks: which
kind of edit, of which colour and shape, and to what. That is what a trained encoder gives too. An editor that sees
several texts one behind the other, without positions, can so tell which "blue" belongs to which "circle"; when every
word only knew the mean of those before it, 391,000 samples did not teach which objects were meant.

All other layers of the CLIP-L pass on what they get. Places count up to `ORDERED`; all further tokens share one. The
padding that ComfyUI puts behind a text (up to 77 tokens) is looked at by nobody, and is therefore one and the same
token many times, at every layer of an editor. To train on it once, with its count added to the logits of the
attention, gives the same numbers in half the time.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

WIDTH, LAYERS, WORDS, LENGTH = 768, 12, 49408, 77  # of CLIP-L
HEAD = 64  # entries of each of its heads
END = WORDS - 1  # the token that ends a text, and that pads it
ORDERED = 12  # tokens whose place shows, the first (start of text) included
PLACE = 0.5  # size of a place beside a word, whose entries are 1 and -1
FLAG = 6.0  # of END in the first entry, where all others have 0
HIDDEN = 10.0  # how hard END is kept from being looked at: its logits are about -40
MEANING, READING, HEADS = 128, 3, 2  # entries that the trained layers read and write, how many layers, heads of each
SEED = 20_26
RECIPE = 5  # raise when the encoder changes: cached files of another recipe are written again


class Encoded(NamedTuple):
    """features: (L, 768). counts: (L,), how many tokens of the text each row stands for; they add up to 77."""

    features: torch.Tensor
    counts: torch.Tensor


@functools.cache
def _signs() -> np.ndarray:
    """A row of 1 and -1 for every word, then for every place, the shared one last: (WORDS + ORDERED + 1, WIDTH) int8.

    The first entry tells a text's end from all else.
    """
    rows = WORDS + ORDERED + 1
    bits = np.unpackbits(np.frombuffer(np.random.RandomState(SEED).bytes(rows * WIDTH // 8), np.uint8))
    signs = 2 * bits.astype(np.int8).reshape(rows, WIDTH) - 1
    signs[:, 0] = 0
    signs[END, 0] = FLAG
    return signs


def _vectors(numbers: Sequence[int]) -> torch.Tensor:
    """The tokens of a text at their places: (L, WIDTH)."""
    places = np.minimum(np.arange(len(numbers)), ORDERED)
    return torch.from_numpy(_signs()[list(numbers)]) + PLACE * torch.from_numpy(_signs()[WORDS + places])


_norm = functools.partial(torch.nn.functional.layer_norm, normalized_shape=(WIDTH,))


class _Layer(torch.nn.Module):
    """A layer of CLIP that sees and changes only the last `MEANING` entries, and never looks at a text's end."""

    def __init__(self) -> None:
        super().__init__()
        inner = HEADS * HEAD
        self.q, self.k, self.v = (torch.nn.Linear(MEANING, inner) for _ in range(3))
        self.out = torch.nn.Linear(inner, MEANING)
        self.fc1, self.fc2 = torch.nn.Linear(MEANING, 2 * MEANING), torch.nn.Linear(2 * MEANING, MEANING)

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        """(B, L, WIDTH) -> the same."""
        seen = _norm(stream)
        query, key, value = (
            part(seen[..., -MEANING:]).unflatten(2, (HEADS, HEAD)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        # The last entry of each head is not trained: there END, by its flag, gets a logit that hides it.
        ones = torch.ones_like(query[..., :1])
        query = torch.cat((query[..., :-1], HIDDEN * ones), -1)
        key = torch.cat((key[..., :-1], -HIDDEN * seen[:, None, :, :1] * ones), -1)
        found = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = self._added(stream, self.out(found.transpose(1, 2).flatten(2)))
        inner = self.fc1(_norm(stream)[..., -MEANING:])
        return self._added(stream, self.fc2(inner * torch.sigmoid(1.702 * inner)))  # CLIP's "quick" GELU

    @staticmethod
    def _added(stream: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        return stream + torch.nn.functional.pad(change, (WIDTH - MEANING, 0))


class Reader(torch.nn.Module):
    """The trained layers: vectors of words to features. (B, L, WIDTH) -> the same."""

    def __init__(self, seed: int = SEED) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = torch.nn.ModuleList(_Layer() for _ in range(READING))

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            stream = layer(stream)
        return _norm(stream)


def host_weights(reader: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The encoder as ComfyUI's CLIPLoader reads it, fp16, 235 MiB, nearly all of them zeros or the words.

    reader: the state dict of a `Reader`.
    """
    places = torch.from_numpy(_signs()[WORDS:])[torch.arange(LENGTH).clamp(max=ORDERED)]
    out = {
        "embeddings.token_embedding.weight": torch.from_numpy(_signs()[:WORDS]),
        "embeddings.position_embedding.weight": PLACE * places,
        **_same_norm("final_layer_norm"),
    }
    for index in range(LAYERS):
        layer = f"encoder.layers.{index}."
        out |= _same_norm(f"{layer}layer_norm1") | _same_norm(f"{layer}layer_norm2")
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            out |= _nothing(f"{layer}self_attn.{name}", WIDTH, WIDTH)
        out |= _nothing(f"{layer}mlp.fc1", 4 * WIDTH, WIDTH) | _nothing(f"{layer}mlp.fc2", WIDTH, 4 * WIDTH)
    meant, inner = slice(WIDTH - MEANING, WIDTH), slice(0, HEADS * HEAD)
    last = torch.arange(HEAD - 1, HEADS * HEAD, HEAD)  # of each head
    for index in range(READING):
        attention, mlp = f"encoder.layers.{index}.self_attn.", f"encoder.layers.{index}.mlp."
        for name, target, rows, columns in (
            ("q", f"{attention}q_proj", inner, meant),
            ("k", f"{attention}k_proj", inner, meant),
            ("v", f"{attention}v_proj", inner, meant),
            ("out", f"{attention}out_proj", meant, inner),
            ("fc1", f"{mlp}fc1", slice(0, 2 * MEANING), meant),
            ("fc2", f"{mlp}fc2", meant, slice(0, 2 * MEANING)),
        ):
            out[f"{target}.weight"][rows, columns] = reader[f"layers.{index}.{name}.weight"].float()
            out[f"{target}.bias"][rows] = reader[f"layers.{index}.{name}.bias"].float()
        for name in ("q_proj", "k_proj"):
            out[f"{attention}{name}.weight"][last] = 0
            out[f"{attention}{name}.bias"][last] = HIDDEN if name == "q_proj" else 0
        out[f"{attention}k_proj.weight"][last, 0] = -HIDDEN
    half = {f"text_model.{name}": value.to(torch.float16).contiguous() for name, value in out.items()}
    return {**half, "text_projection.weight": torch.eye(WIDTH, dtype=torch.float16)}


def _same_norm(name: str) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": torch.ones(WIDTH), f"{name}.bias": torch.zeros(WIDTH)}


def _nothing(name: str, rows: int, columns: int) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": torch.zeros(rows, columns), f"{name}.bias": torch.zeros(rows)}


class Words:
    """Texts to the vectors of their tokens, as ComfyUI's tokenizer numbers them."""

    def __init__(self, comfyui: Path) -> None:
        """comfyui: the folder of a ComfyUI, for the word numbers of its CLIP tokenizer."""
        from transformers import CLIPTokenizer

        self._tokenizer = CLIPTokenizer.from_pretrained(comfyui / "comfy" / "sd1_tokenizer", local_files_only=True)

    def __call__(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(L, WIDTH) vectors, of the padding the first one with the shared place, and (L,) counts as in `Encoded`."""
        numbers = self._tokenizer(text)["input_ids"]
        if len(numbers) > LENGTH:
            raise ValueError(f"an instruction has at most {LENGTH} tokens, this one {len(numbers)}: {text[:60]!r}")
        alone = max(ORDERED, len(numbers))
        kept = numbers + [END] * (min(alone + 1, LENGTH) - len(numbers))
        counts = torch.ones(len(kept))
        if len(kept) > alone:
            counts[-1] = LENGTH - alone
        return _vectors(kept), counts


class TextEncoder:
    """Texts to features as ComfyUI gives them, with its padding kept once."""

    def __init__(self, comfyui: Path, reader: Mapping[str, torch.Tensor]) -> None:
        """reader: the state dict of a `Reader`."""
        self._words, self._reader = Words(comfyui), Reader()
        self._reader.load_state_dict({name: value.float() for name, value in reader.items()})
        self._known: dict[str, Encoded] = {}

    def encode(self, text: str) -> Encoded:
        if text not in self._known:
            vectors, counts = self._words(text)
            with torch.no_grad():
                self._known[text] = Encoded(self._reader(vectors[None])[0], counts)
        return self._known[text]

    def together(self, programs: Sequence[Sequence[str]]) -> Encoded:
        """Several texts per sample one behind the other: (B, L, 768) and (B, L), with counts of 0 where one is short."""
        rows = [[self.encode(text) for text in texts] for texts in programs]
        pad = functools.partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
        return Encoded(
            pad([torch.cat([one.features for one in row]) for row in rows]),
            pad([torch.cat([one.counts for one in row]) for row in rows]),
        )
