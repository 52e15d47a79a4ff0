"""Images and texts as features, by the encoders that ComfyUI has loaded: CLIP_VISION and CLIP.

ComfyUI's CLIP vision models give one vector an image in the space of their texts. Its SigLIP models have no pooling
head there and its DINO models no text side: those compare images with images only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn.functional import normalize

from ..planner.plan import PlanError
from .fusion import Grid

PAIR = "connect the two of one model, such as CLIP ViT-L (CLIPVisionLoader) and clip_l (CLIPLoader)"
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|(?<=[\u3002\uff01\uff1f\uff1b])")


class ImageFeatures(NamedTuple):
    """Of one image. pooled: (C,) of length 1. tokens: (1, L, D), one a patch, row by row over `grid`."""

    pooled: torch.Tensor
    tokens: torch.Tensor
    grid: Grid


class TextFeatures(NamedTuple):
    """Of one text. pooled: (C,) of length 1. parts: how many pieces were encoded apart and averaged."""

    pooled: torch.Tensor
    parts: int


class ImageEncoder:
    """A CLIP_VISION. name: what it calls the likeness of two images, "dino" or "clip_i"."""

    def __init__(self, clip_vision: Any) -> None:
        self._model = clip_vision
        self.kind: str = getattr(clip_vision, "model_type", "clip_vision_model")
        self.name = "dino" if self.kind.startswith("dino") else "clip_i"

    @property
    def has_text_space(self) -> bool:
        """Whether its vectors can be compared with a text's."""
        return self.kind == "clip_vision_model"

    @torch.no_grad()  # features are kept, and with gradients on (a script) each would keep all that led to it
    def __call__(self, image: torch.Tensor) -> ImageFeatures:
        """Features of one image (1, H, W, C) in 0..1. All of it is seen: it is stretched to the encoder's square."""
        out = self._model.encode_image(image[..., :3], crop=False)
        pooled = out["image_embeds"].float()
        # SigLIP without its pooling head gives all tokens.
        pooled = pooled.mean(1) if pooled.ndim == 3 else pooled
        tokens = out["last_hidden_state"].float()
        rows, columns = _grid(tokens.shape[1], *out["image_sizes"][0][-2:])
        return ImageFeatures(
            unit(pooled[0], f"the vision model ({self.kind})"), tokens[:, -rows * columns :], (rows, columns)
        )


def _grid(tokens: int, height: int, width: int) -> Grid:
    """Rows and columns of the patches: the finest grid of square ones that has no more cells than there are tokens.

    What is left are class and register tokens, which stand before the patches.
    """
    for patch in range(1, max(height, width) + 1):
        rows, columns = height // patch, width // patch
        if rows * columns <= tokens:
            return max(rows, 1), max(columns, 1)
    return 1, tokens


class TextEncoder:
    """A CLIP whose pooled text is compared with images. Each text is encoded once.

    trivial_projection: whether its projection into the common space turned out to change nothing. ComfyUI makes one
    for a file that has none.
    """

    def __init__(self, clip: Any) -> None:
        self._clip = clip
        self.trivial_projection = False
        self._texts: dict[str, TextFeatures] = {}
        self._pieces: dict[str, torch.Tensor] = {}

    def __call__(self, text: str) -> TextFeatures:
        """Features of a text, word by word: brackets are no weights.

        Lines are encoded apart, and of one that is longer than the encoder takes (CLIP: 77 tokens) its sentences; the
        mean counts.
        Raises PlanError for an encoder that has no vector for a whole text.
        """
        if text not in self._texts:
            parts = pieces(text, lambda piece: _windows(self._tokens(piece)) == 1)
            pooled = torch.stack([self._encoded(part) for part in parts]).mean(0)
            self._texts[text] = TextFeatures(unit(pooled, "the CLIP"), len(parts))
        return self._texts[text]

    def _tokens(self, text: str) -> dict[str, list]:
        plain = re.sub(r"([()])", r"\\\1", text).replace("embedding:", "embedding :")
        return self._clip.tokenize(plain)

    def _encoded(self, text: str) -> torch.Tensor:
        """(C,) of length 1."""
        if text not in self._pieces:
            self._pieces[text] = self._encode(text)
        return self._pieces[text]

    @torch.no_grad()
    def _encode(self, text: str) -> torch.Tensor:
        _, pooled = self._clip.encode_from_tokens(self._tokens(text), return_pooled=True)
        if not torch.is_tensor(pooled) or pooled.ndim != 2:
            raise PlanError(
                "the CLIP gives no vector for a whole text (T5 and language models have none), so nothing can be "
                f"compared with it; {PAIR}"
            )
        projection = _left_out_projection(self._clip.cond_stage_model, pooled.shape[-1])
        pooled = pooled.float()
        projected = pooled if projection is None else projection(pooled).float()
        self.trivial_projection |= projection is not None and torch.allclose(projected, pooled)
        return unit(projected[0], "the CLIP")


def pieces(text: str, fits: Callable[[str], bool]) -> list[str]:
    """A text in pieces that fit: its lines, else their sentences, else parts of those, cut between words."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        return [piece for line in lines for piece in pieces(line, fits)]
    text = text.strip()
    if fits(text):
        return [text]
    sentences = [part.strip() for part in _SENTENCE.split(text) if part.strip()]
    if len(sentences) > 1:
        return [piece for sentence in sentences for piece in pieces(sentence, fits)]
    middle = len(text) // 2
    spaces = [match.start() for match in re.finditer(r"\s", text)]
    cut = min(spaces, key=lambda place: abs(place - middle)) if spaces else middle
    if not 0 < cut < len(text):
        return [text]
    return [piece for part in (text[:cut], text[cut:]) for piece in pieces(part, fits)]


def _windows(tokens: Any) -> int:
    """How many times the encoder would run over a text; of all but the first, the pooled vector knows nothing."""
    return max((len(rows) for rows in tokens.values()), default=1) if isinstance(tokens, dict) else 1


def _left_out_projection(model: torch.nn.Module, width: int) -> torch.nn.Module | None:
    """The text projection that the encoder has and ComfyUI does not apply (SD 1, Flux: they sample without it)."""
    for part in model.modules():
        if getattr(part, "return_projected_pooled", None) is False:
            projection = getattr(getattr(part, "transformer", None), "text_projection", None)
            if getattr(projection, "in_features", None) == width:
                return projection
    return None


def unit(vector: torch.Tensor, what: str) -> torch.Tensor:
    """The vector at length 1, on the CPU. PlanError for one without direction."""
    vector = vector.detach().cpu()
    length = float(vector.norm())
    if not math.isfinite(length) or length == 0:
        raise PlanError(
            f"{what} gives {'only zeros' if length == 0 else 'values that are not finite'}; its file may lack the "
            f"projection into the common space, as the CLIP of an SD 1.5 checkpoint does. {PAIR[0].upper()}{PAIR[1:]}"
        )
    return normalize(vector, dim=0)


def likeness(one: torch.Tensor, other: torch.Tensor) -> float:
    """Cosine of two unit vectors, -1..1. Raises PlanError when they are of different widths."""
    if one.shape != other.shape:
        raise PlanError(
            f"the vision model gives {one.shape[-1]} features and the CLIP {other.shape[-1]}, so they are not of one "
            f"model; {PAIR}"
        )
    return float((one * other).sum())
