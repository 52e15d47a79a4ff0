"""Tiny checkpoints with random weights that ComfyUI's stock loaders accept, written from fixed seeds.

They are real files for real loaders: names and shapes come from ComfyUI's own modules, only the sizes that
its loaders read from the file are small. The weights are scaled so that a model's output depends on its
text, its reference image and its step. What they paint is noise.

Run by the environment that has torch:  python tools/tiny_models.py --comfyui DIR [--models DIR] [name ...]
"""

import argparse
import os
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_MODELS = ROOT / ".host" / "models"

RECIPE = "4"  # raise when any weight changes: cached files of another recipe are written again
HIDDEN = 256  # two heads of 128
TEXT = 768  # the width of CLIP-L, which stands in for the large text encoders


class Tiny(NamedTuple):
    """One checkpoint: the folder and file name below the models folder, and how its tensors are made."""

    folder: str
    file: str
    build: Callable[[], dict]

    def path(self, models: Path) -> Path:
        return models / self.folder / self.file


def _gain(key: str) -> float:
    """Extra scale where random weights would blur the text away: sharper attention, and more of its result."""
    if "attn" in key and key.endswith(("proj.weight", "to_out.0.weight", "to_add_out.weight")):
        return 3.0
    if any(part in key for part in ("query_norm", "key_norm", ".norm_q", ".norm_k", "norm_added_")):
        return 1.5
    return 1.0


def randomise(shapes: dict, seed: int, dtype=None) -> dict:
    """Give every tensor of a state dict (on any device, `meta` included) random values of a sensible size.

    Matrices and kernels get variance 1 / fan-in, so signals keep their size through any depth; modulation
    and final layers too, which training code usually starts at zero. Norm weights are near 1, biases small.
    Each tensor has a seed of its own, so adding one leaves the others as they were.
    """
    import torch

    out = {}
    for key, like in shapes.items():
        generator = torch.Generator().manual_seed(seed * 2**32 + zlib.crc32(key.encode()))
        shape = tuple(like.shape)
        if not like.dtype.is_floating_point:
            out[key] = torch.zeros(shape, dtype=like.dtype)
            continue
        noise = torch.randn(shape, generator=generator)
        if sum(size > 1 for size in shape) >= 2:
            value = noise * (1.0 if "embedding" in key else noise[0].numel() ** -0.5) * _gain(key)
        elif key.endswith(("bias", "running_mean")):
            value = noise * 0.05
        else:
            value = (1.0 + 0.05 * noise) * _gain(key)
        out[key] = value.to(dtype or torch.float32).contiguous()
    return out


def _shapes(build: Callable[[object], object]) -> dict:
    """The state dict of a module of ComfyUI, on the meta device: names and shapes, no memory."""
    import comfy.ops
    import torch

    with torch.device("meta"):
        return build(comfy.ops.disable_weight_init).state_dict()


def flux1(channels: int = 16, guidance: bool = True, double: int = 2, single: int = 2) -> dict:
    """A Flux.1: two heads of 128, patch 2, text 768 wide. `channels` is 16 (dev, Kontext) or 96 (Fill)."""
    import comfy.ldm.flux.model as flux
    import torch

    size = dict(
        in_channels=channels, out_channels=16, vec_in_dim=TEXT, context_in_dim=TEXT, hidden_size=HIDDEN,
        mlp_ratio=4.0, num_heads=HIDDEN // 128, depth=double, depth_single_blocks=single,
        axes_dim=[16, 56, 56], theta=10000, patch_size=2, qkv_bias=True, guidance_embed=guidance,
        txt_ids_dims=[],
    )  # fmt: skip
    return randomise(_shapes(lambda ops: flux.Flux(**size, dtype=torch.float32, operations=ops)), 1)


def flux2(guidance: bool = False, double: int = 2, single: int = 2) -> dict:
    """A FLUX.2: patch 1 on 128 latent channels, shared modulation, running text positions (klein: no guidance)."""
    import comfy.ldm.flux.model as flux
    import torch

    size = dict(
        in_channels=128, out_channels=128, vec_in_dim=None, context_in_dim=TEXT, hidden_size=HIDDEN,
        mlp_ratio=3.0, num_heads=HIDDEN // 128, depth=double, depth_single_blocks=single,
        axes_dim=[32, 32, 32, 32], theta=2000, patch_size=1, qkv_bias=False, guidance_embed=guidance,
        txt_ids_dims=[3], global_modulation=True, mlp_silu_act=True, ops_bias=False,
        default_ref_method="index", ref_index_scale=10.0,
    )  # fmt: skip
    return randomise(_shapes(lambda ops: flux.Flux(**size, dtype=torch.float32, operations=ops)), 2)


def qwen_image(layers: int = 1, index_timestep_zero: bool = False) -> dict:
    """A Qwen-Image of one layer, bf16: 24 heads and text 3584 are fixed in the loader, so 0.34 G parameters."""
    import comfy.ldm.qwen_image.model as qwen
    import torch

    def build(ops):
        return qwen.QwenImageTransformer2DModel(num_layers=layers, dtype=torch.bfloat16, operations=ops)

    weights = randomise(_shapes(build), 3, torch.bfloat16)
    if index_timestep_zero:  # how the loader tells the 2511 edition
        weights["__index_timestep_zero__"] = torch.tensor([])
    return weights


def clip_l() -> dict:
    """A CLIP-L text encoder, fp16 (its sizes are fixed in the loader: 123 M parameters)."""
    import json

    import comfy
    import comfy.clip_model as clip
    import torch

    config = json.loads((Path(comfy.__path__[0]) / "sd1_clip_config.json").read_text(encoding="utf-8"))
    shapes = _shapes(lambda ops: clip.CLIPTextModel(config, torch.float16, "meta", ops))
    return randomise(shapes, 4, torch.float16)


def taesd(channels: int) -> dict:
    """A TAESD. `channels` is 16 for Flux.1, 128 for FLUX.2 (32 channels packed two by two)."""
    import comfy.taesd.taesd as tae
    import torch

    with torch.device("meta"):
        shapes = tae.TAESD(latent_channels=channels).state_dict()
    weights = randomise(shapes, 5 + channels)
    last = max(int(key.split(".")[1]) for key in weights if key.startswith("taesd_decoder."))
    weights[f"taesd_decoder.{last}.weight"] *= 0.2  # a picture's range is 0..1: stay inside it, around grey
    weights[f"taesd_decoder.{last}.bias"] += 0.5
    weights["vae_scale"], weights["vae_shift"] = torch.tensor(1.0), torch.tensor(0.0)
    return weights


def _half(weights: dict, side: str) -> dict:
    prefix = f"taesd_{side}."
    return {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}


def wan_vae(dim: int = 8) -> dict:
    """A Wan 2.1 VAE, the one Qwen-Image uses (latents with a time axis). The loader reads `dim` from the file."""
    import comfy.ldm.wan.vae as wan
    import torch

    with torch.device("meta"):
        shapes = wan.WanVAE(dim=dim, z_dim=16, temperal_downsample=[False, True, True]).state_dict()
    return randomise(shapes, 6)


def flux1_lora(rank: int = 4, strength: float = 1.0) -> dict:
    """A LoRA for the tiny Flux.1's attention, in the common `lora_A` / `lora_B` form."""
    import torch

    shapes = {}
    for block in range(2):
        for name, rows in (("img_attn.qkv", 3 * HIDDEN), ("txt_attn.qkv", 3 * HIDDEN), ("img_attn.proj", HIDDEN)):
            key = f"diffusion_model.double_blocks.{block}.{name}"
            shapes[f"{key}.lora_A.weight"] = torch.empty(rank, HIDDEN, device="meta")
            shapes[f"{key}.lora_B.weight"] = torch.empty(rows, rank, device="meta")
    weights = randomise(shapes, 7)
    return {key: value * strength for key, value in weights.items()}


MODELS: dict[str, Tiny] = {
    "flux1": Tiny("diffusion_models", "tiny_flux1.safetensors", flux1),
    "flux1_fill": Tiny("diffusion_models", "tiny_flux1_fill.safetensors", lambda: flux1(channels=96)),
    "flux2": Tiny("diffusion_models", "tiny_flux2.safetensors", flux2),
    "qwen_image": Tiny("diffusion_models", "tiny_qwen_image.safetensors", qwen_image),
    "clip_l": Tiny("text_encoders", "tiny_clip_l.safetensors", clip_l),
    "vae_flux1": Tiny("vae", "tiny_vae_flux1.safetensors", lambda: taesd(16)),
    "vae_qwen": Tiny("vae", "tiny_vae_qwen.safetensors", wan_vae),
    # VAELoader offers the pair as "taef2".
    "taef2_encoder": Tiny("vae_approx", "taef2_encoder.safetensors", lambda: _half(taesd(128), "encoder")),
    "taef2_decoder": Tiny("vae_approx", "taef2_decoder.safetensors", lambda: _half(taesd(128), "decoder")),
    "lora_flux1": Tiny("loras", "tiny_lora_flux1.safetensors", flux1_lora),
}
LARGE = ("qwen_image",)  # 0.7 GB: written when asked for by name
SMALL = tuple(name for name in MODELS if name not in LARGE)


def _recipe(path: Path) -> str | None:
    """The recipe a file was written by, or None when there is no readable file."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("recipe")
    except Exception:  # missing, cut short or not ours: write it again
        return None


def ensure_models(names: Iterable[str] = SMALL, models: Path = DEFAULT_MODELS) -> dict[str, Path]:
    """Write the named checkpoints that are not there yet; give each one's path. Needs ComfyUI importable."""
    from safetensors.torch import save_file

    paths = {}
    for name in names:
        tiny = MODELS[name]
        paths[name] = path = tiny.path(models)
        if _recipe(path) == RECIPE:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            save_file(tiny.build(), unfinished, metadata={"recipe": RECIPE, "made_by": "RePlan tests"})
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description="Write tiny random checkpoints for tests and the demo.")
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"of {', '.join(MODELS)} (default: all but {LARGE[0]})"
    )
    parser.add_argument("--comfyui", type=Path, required=True, help="the ComfyUI folder whose modules give the shapes")
    parser.add_argument("--models", type=Path, default=DEFAULT_MODELS, help="where to write (default: .host/models)")
    args = parser.parse_args()
    for name in args.names:
        if name not in MODELS:
            parser.error(f"no checkpoint called {name!r}; there are {', '.join(MODELS)}")
    sys.path.insert(0, str(args.comfyui))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    for name, path in ensure_models(args.names or SMALL, args.models).items():
        print(f"{name}: {path} ({path.stat().st_size / 2**20:.0f} MiB)")


if __name__ == "__main__":
    main()
