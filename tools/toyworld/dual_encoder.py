"""The toy world's dual encoder as ComfyUI reads it: a CLIP vision model, a CLIP-L and a gated fusion.

One trained file holds all three (`tools/training/dual_encoder.py`). Texts live in the last entries of a CLIP-L's
vector; the text projection keeps those alone, and the image tower's projection leaves the others at zero.
CLIPVisionLoader knows the published sizes only, so a node of the toy world's own loads the tower (`comfyui_nodes`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from .clip_l import MEANING_WIDTH, RECIPE, WIDTH, comfyui_weights
from .weights import WEIGHTS, checked, replace_file

DUAL = "toyworld_dual_encoder.safetensors"  # the published file
VISION, TEXTS, FUSION = (
    "toyworld_clip_vision.safetensors",
    "toyworld_descriptions_clip_l.safetensors",
    "toyworld_fusion.safetensors",
)
FOLDERS = {VISION: "clip_vision", TEXTS: "text_encoders", FUSION: "replan_fusion"}

IMAGE_MEAN, IMAGE_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's
CONFIG = {
    "model_type": "clip_vision_model",
    "num_channels": 3,
    "image_size": 96,
    "patch_size": 16,
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "hidden_act": "quick_gelu",
    "projection_dim": WIDTH,
}
GRID = CONFIG["image_size"] // CONFIG["patch_size"]
HEADS = "4"  # of the fusion


def parts_of(weights: Mapping[str, torch.Tensor]) -> tuple[dict, dict, dict]:
    """The trained file's tensors by part, with its own names: image tower, text layers, fusion."""
    names = ("vision", "texts", "fusion")
    vision, texts, fusion = (
        {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
        for name in names
    )
    return vision, texts, fusion


def comfyui_vision(vision: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tower as `comfy.clip_vision.ClipVisionModel(CONFIG)` takes it."""
    return {**vision, "visual_projection.weight": _padded(vision["visual_projection.weight"])}


def comfyui_clip_l(texts: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The text layers as CLIPLoader takes them: its projection keeps the entries that say what a text means."""
    kept = torch.zeros(WIDTH)
    kept[-MEANING_WIDTH:] = 1
    return {**comfyui_weights(texts), "text_projection.weight": torch.diag(kept).half()}


def comfyui_fusion(fusion: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The fusion as `evaluation.fusion.fusion_of` takes it."""
    return {**fusion, **{f"project.{name}": _padded(fusion[f"project.{name}"]) for name in ("weight", "bias")}}


def _padded(rows: torch.Tensor) -> torch.Tensor:
    """Zeros for the entries of a text's vector that say nothing of its meaning."""
    return torch.cat((rows.new_zeros((WIDTH - MEANING_WIDTH, *rows.shape[1:])), rows)).contiguous()


def ensure_dual_encoder(models: Path, weights: Path = WEIGHTS) -> dict[str, Path]:
    """Put the three files below a models folder laid out as ComfyUI's; the path of each. Raises WeightsError."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file, save_file

    source = checked(DUAL, weights)
    recipe = f"{RECIPE} {hashlib.sha256(source.read_bytes()).hexdigest()}"
    paths = {name: models / folder / name for name, folder in FOLDERS.items()}
    vision, texts, fusion = parts_of(load_file(source))

    makes = {
        VISION: lambda: comfyui_vision(vision),
        TEXTS: lambda: comfyui_clip_l(texts),
        FUSION: lambda: comfyui_fusion(fusion),
    }
    for name, make in makes.items():
        try:
            with safe_open(paths[name], "pt") as file:
                if (file.metadata() or {}).get("recipe") == recipe:
                    continue
        except (OSError, SafetensorError):
            pass  # missing or cut off
        metadata = {"recipe": recipe, "heads": HEADS, "config": json.dumps(CONFIG)}
        replace_file(paths[name], lambda part, make=make, metadata=metadata: save_file(make(), part, metadata=metadata))
    return paths
