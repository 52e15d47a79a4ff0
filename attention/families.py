"""The model families that region rules can address, and what differs between them.

This file, `wrappers` and `override` alone know ComfyUI's diffusion models. A family says how its latents become patches and
how hints join its text; the order of tokens is the same in all: `[text | noise | reference 1 | reference 2 ..]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .grid import Grid
from .payload import HintText, RegionError

# FLUX.2 pads every prompt to this length with zeros on the left (the host does it in model_base.Flux2.extra_conds).
_FLUX2_TEXT = 512


def _as_encoded(hint: torch.Tensor, text: HintText) -> torch.Tensor:
    return hint


def _left_padded(hint: torch.Tensor, text: HintText) -> torch.Tensor:
    """FLUX.2 sees each prompt left-padded to 512; a hint is a prompt of its own, so it gets the same."""
    missing = _FLUX2_TEXT - hint.shape[1]
    if text.padding == "trim" or missing <= 0:
        return hint
    return torch.nn.functional.pad(hint, (0, 0, missing, 0))


@dataclass(frozen=True)
class Family:
    """One family of joint-attention models.

    name: as in rules and docs; base: class name of the host's model (comfy.model_base); prepare: a hint
    (B, L, C) as the model would see it as a prompt alone.
    """

    name: str
    base: str
    prepare: Callable[[torch.Tensor, HintText], torch.Tensor]

    def grid(self, latent: torch.Tensor, patch: int, what: str) -> Grid:
        """The patches of a latent (B, C, H, W) or (B, C, 1, H, W)."""
        if latent.ndim == 5 and latent.shape[2] != 1:
            raise RegionError(
                f"{what} has {latent.shape[2]} frames or layers; regions are placed on "
                "single images only (Qwen-Image-Layered and video latents are not supported)"
            )
        if latent.ndim not in (4, 5):
            raise RegionError(f"{what} has shape {tuple(latent.shape)}, not an image latent")
        return Grid.of_latent(latent.shape[-2], latent.shape[-1], patch)


_FAMILIES = (
    Family("flux", "Flux", _as_encoded),
    Family("flux2", "Flux2", _left_padded),
    Family("qwen", "QwenImage", _as_encoded),
)


def family_of(model: object) -> Family:
    """The family of one of the host's models (an instance from comfy.model_base), or RegionError.

    Exact classes: a subclass such as LongCatImage or MageFlow places its text or image positions by rules of
    its own, so joining hints to it is not known to be right.
    """
    name = type(model).__name__
    if name == "Flux" and getattr(getattr(model.diffusion_model, "params", None), "txt_ids_dims", None):
        name = "Flux with running text positions (Ovis-Image)"
    for family in _FAMILIES:
        if family.base == name:
            return family
    raise RegionError(
        f"the model is a {name} ({type(getattr(model, 'diffusion_model', None)).__name__}), and region rules know Flux.1 (dev, Kontext, fill), FLUX.2 "
        "(dev, klein) and Qwen-Image (Edit, 2509, 2511) only. Load one of these, or bypass this node and "
        "RePlan Region Conditioning"
    )


def patch_size(model: object) -> int:
    """Latent cells per patch side: 2 for Flux.1 and Qwen-Image, 1 for FLUX.2; 16 pixels each. Or RegionError."""
    size = getattr(model.diffusion_model, "patch_size", None)
    if not isinstance(size, int):
        raise RegionError(
            f"the model's blocks are {type(model.diffusion_model).__name__}, not the host's own, so "
            "their attention cannot be ruled (some quantised loaders bring such blocks); load the model with the "
            "host's own loader"
        )
    return size
