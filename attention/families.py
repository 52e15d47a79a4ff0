"""The model families that region rules can address, and what differs between them.

This file knows ComfyUI's diffusion models by class name; `wrappers` and `override` call them. A family says how its
latents become patches and how hints join its text. The order of tokens is the same in all, `[text | noise | reference 1
| reference 2 ..]`: a family of another order needs more than an entry here (who relies on it:
`components.build_layout`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from .grid import Grid
from .payload import HintText, RegionError


class TypicalText(NamedTuple):
    """Tokens of a short global prompt and of a short hint, and where images lie in the first, for previews."""

    main: int
    hint: int
    image_spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Family:
    """One family of joint-attention models; everything that differs between them stands in its entry.

    name: as in rules, widgets and docs; base: class name of ComfyUI's model (comfy.model_base).
    encoders: ComfyUI's names of the text encoders whose states are this family's text.
    preset, switch: the published default rules: a preset, and until when (percent of sampling) its before-rules hold.
    typical: for previews; with image spans, its text may hold images (the component image_prompt).
    least_text: the model pads each prompt to so many tokens, with zeros on the left.
    published_text: tokens of every prompt in the published code (hint_padding 'reference'), or 0.
    output_patches: ComfyUI calls `attn1_output_patch` in its blocks, as Normalized Attention Guidance needs.
    """

    name: str
    base: str
    encoders: tuple[str, ...]
    preset: str
    switch: float
    typical: TypicalText
    least_text: int = 0
    published_text: int = 0
    output_patches: bool = True

    @property
    def image_prompt(self) -> bool:
        return bool(self.typical.image_spans)

    def hint_tokens(self, tokens: int, padding: str) -> int:
        """How many tokens a hint encoded to `tokens` has at the model; padding: one of HINT_PADDINGS."""
        return tokens if padding == "trim" else max(tokens, self.least_text)

    def prepare(self, hint: torch.Tensor, text: HintText) -> torch.Tensor:
        """A hint (B, L, C) as the model would see it as a prompt alone."""
        missing = self.hint_tokens(hint.shape[1], text.padding) - hint.shape[1]
        return torch.nn.functional.pad(hint, (0, 0, missing, 0)) if missing else hint

    def grid(self, latent: torch.Tensor, patch: int, what: str) -> Grid:
        """The patches of a latent (B, C, H, W) or (B, C, 1, H, W)."""
        if latent.ndim == 5 and latent.shape[2] != 1:
            raise RegionError(
                f"{what} has {latent.shape[2]} frames or layers, and regions are placed on single images only "
                "(Qwen-Image-Layered and video latents are not supported); connect the latent of one image"
            )
        if latent.ndim not in (4, 5):
            raise RegionError(f"{what} has shape {tuple(latent.shape)}, not an image latent; connect an image's latent")
        return Grid.of_latent(latent.shape[-2], latent.shape[-1], patch)


# Presets and switches: flux and qwen have those of the published command line (run_replan.py), but for flux without
# its before-phase of one step of 28, which the published web page, library and evaluation leave out. flux2: a third
# party's runs of klein. See docs/rules.md. FLUX.2 pads in model_base.Flux2.extra_conds.
FAMILIES = {
    family.name: family
    for family in (
        Family("flux", "Flux", ("t5xxl",), "replan", 0.05, TypicalText(256, 256), published_text=512),
        Family(
            "flux2",
            "Flux2",
            ("mistral3_24b", "qwen3_4b", "qwen3_8b"),
            "replan",
            0.05,
            TypicalText(512, 512),
            least_text=512,
        ),
        Family(
            "qwen",
            "QwenImage",
            ("qwen25_7b",),
            "local_first",
            0.5,
            TypicalText(220, 20, ((0, 198),)),
            output_patches=False,
        ),
    )
}


def family_of_encoder(encoder: str) -> Family | None:
    """The family whose text a text encoder makes (ComfyUI's name of it), or None."""
    return next((family for family in FAMILIES.values() if encoder in family.encoders), None)


def family_of(model: object) -> Family:
    """The family of one of ComfyUI's models (an instance from comfy.model_base), or RegionError.

    Exact classes: a subclass such as LongCatImage or MageFlow places its text or image positions by rules of
    its own, so joining hints to it is not known to be right.
    """
    name = type(model).__name__
    if name == "Flux" and getattr(getattr(model.diffusion_model, "params", None), "txt_ids_dims", None):
        name = "Flux with running text positions (Ovis-Image)"
    for family in FAMILIES.values():
        if family.base == name:
            return family
    raise RegionError(
        f"the model is a {name} ({type(getattr(model, 'diffusion_model', None)).__name__}), and region rules know "
        "Flux.1 (dev, Kontext, fill), FLUX.2 (dev, klein) and Qwen-Image (Edit, 2509, 2511) only. Load one of these, "
        "or bypass this node and RePlan Region Conditioning"
    )


def patch_size(model: object) -> int:
    """Latent cells per patch side: 2 for Flux.1 and Qwen-Image, 1 for FLUX.2; 16 pixels each. Or RegionError."""
    size = getattr(model.diffusion_model, "patch_size", None)
    if not isinstance(size, int):
        raise RegionError(
            f"the model's blocks are {type(model.diffusion_model).__name__}, not ComfyUI's own, so "
            "their attention cannot be ruled (some quantised loaders bring such blocks); load the model with "
            "ComfyUI's own loader"
        )
    return size
