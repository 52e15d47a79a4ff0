"""The toy world's text encoder as ComfyUI's CLIPLoader reads it: a CLIP-L written from a seed and three trained layers.

In a CLIP-L of random layers all texts are alike (cosine 0.92 between two instructions). Here each word is a random
vector of its own plus its position's, and three narrow layers, trained on sentences alone
(`tools/training/text_encoder.py`), write what the text asks into the last `MEANING_WIDTH` entries of its end. An editor
that sees several texts one behind the other, without positions, can then tell which "blue" belongs to which "circle";
when a word knew only the mean of the words before it, 391,000 samples did not teach which objects were meant.

All other layers pass on what they get. Positions count up to `POSITIONS`; all further tokens share one. No token
attends to the padding that ComfyUI puts behind a text (up to 77 tokens), so padding is one token repeated, in every
layer of an editor: training uses it once, with its count added to the attention's logits, in half the time.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import torch

WIDTH, LAYERS, VOCABULARY, LENGTH = 768, 12, 49408, 77  # of CLIP-L
HEAD_WIDTH = 64
END = VOCABULARY - 1  # the token that ends a text, and that pads it
POSITIONS = 12  # tokens whose position shows, the first (start of text) included
POSITION_SCALE = 0.5  # of a position's entries beside a word's, which are 1 and -1
END_FLAG = 6.0  # of END in the first entry, where all others have 0
END_MASK = 10.0  # how hard attention to END is suppressed: its logits are about -40
MEANING_WIDTH, TRAINED_LAYERS, TRAINED_HEADS = 128, 3, 2  # entries that the trained layers read and write; their number
SEED = 20_26
RECIPE = 5  # raise when the encoder changes: cached files of another recipe are written again


@functools.cache
def sign_vectors() -> np.ndarray:
    """A row of 1 and -1 for each word, then for each position, the shared one last: (words + positions, WIDTH) int8.

    The first entry tells a text's end from all else.
    """
    rows = VOCABULARY + POSITIONS + 1
    bits = np.unpackbits(np.frombuffer(np.random.RandomState(SEED).bytes(rows * WIDTH // 8), np.uint8))
    signs = 2 * bits.astype(np.int8).reshape(rows, WIDTH) - 1
    signs[:, 0] = 0
    signs[END, 0] = END_FLAG
    return signs


def comfyui_weights(layers: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The encoder as CLIPLoader reads it, fp16, 235 MiB, nearly all of them zeros or the words.

    layers: the state dict of the trained `TextLayers`.
    """
    positions = torch.from_numpy(sign_vectors()[VOCABULARY:])[torch.arange(LENGTH).clamp(max=POSITIONS)]
    out = {
        "embeddings.token_embedding.weight": torch.from_numpy(sign_vectors()[:VOCABULARY]),
        "embeddings.position_embedding.weight": POSITION_SCALE * positions,
        **_identity_norm("final_layer_norm"),
    }
    for index in range(LAYERS):
        layer = f"encoder.layers.{index}."
        out |= _identity_norm(f"{layer}layer_norm1") | _identity_norm(f"{layer}layer_norm2")
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            out |= _zero_linear(f"{layer}self_attn.{name}", WIDTH, WIDTH)
        out |= _zero_linear(f"{layer}mlp.fc1", 4 * WIDTH, WIDTH) | _zero_linear(f"{layer}mlp.fc2", WIDTH, 4 * WIDTH)
    meaning, inner = slice(WIDTH - MEANING_WIDTH, WIDTH), slice(0, TRAINED_HEADS * HEAD_WIDTH)
    last = torch.arange(HEAD_WIDTH - 1, TRAINED_HEADS * HEAD_WIDTH, HEAD_WIDTH)  # of each head
    for index in range(TRAINED_LAYERS):
        attention, mlp = f"encoder.layers.{index}.self_attn.", f"encoder.layers.{index}.mlp."
        for name, target, rows, columns in (
            ("q", f"{attention}q_proj", inner, meaning),
            ("k", f"{attention}k_proj", inner, meaning),
            ("v", f"{attention}v_proj", inner, meaning),
            ("out", f"{attention}out_proj", meaning, inner),
            ("fc1", f"{mlp}fc1", slice(0, 2 * MEANING_WIDTH), meaning),
            ("fc2", f"{mlp}fc2", meaning, slice(0, 2 * MEANING_WIDTH)),
        ):
            out[f"{target}.weight"][rows, columns] = layers[f"layers.{index}.{name}.weight"].float()
            out[f"{target}.bias"][rows] = layers[f"layers.{index}.{name}.bias"].float()
        for name in ("q_proj", "k_proj"):
            out[f"{attention}{name}.weight"][last] = 0
            out[f"{attention}{name}.bias"][last] = END_MASK if name == "q_proj" else 0
        out[f"{attention}k_proj.weight"][last, 0] = -END_MASK
    half = {f"text_model.{name}": value.to(torch.float16).contiguous() for name, value in out.items()}
    return {**half, "text_projection.weight": torch.eye(WIDTH, dtype=torch.float16)}


def _identity_norm(name: str) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": torch.ones(WIDTH), f"{name}.bias": torch.zeros(WIDTH)}


def _zero_linear(name: str, rows: int, columns: int) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": torch.zeros(rows, columns), f"{name}.bias": torch.zeros(rows)}
