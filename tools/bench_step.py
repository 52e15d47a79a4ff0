"""One whole model step in the host: plain, and under region rules, over the same tokens.

The models are the host's own classes with random weights, made in this process and run by the host's sampler. The
plain step gets main text and hints as one text, so that both steps see as many tokens. Timed is what the host calls
the sampler (one Euler step): model call and what the pack does around it, without loading the model.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from bench_attention import make_plan
from bench_timing import Clock, Rounds, take_turns

FAMILIES = ("flux", "flux2", "qwen")


class Text(NamedTuple):
    """Tokens of the main prompt and of a hint as the family's own encoder pads them, and pictures in the prompt."""

    main: int
    hint: int
    image_spans: tuple[tuple[int, int], ...] = ()


TEXTS = {
    "flux": Text(256, 256),
    "flux2": Text(512, 512),
    "qwen": Text(260, 24, ((10, 206),)),  # the Plus encoder's picture of 384 x 384 is 14 x 14 tokens
}


def import_host(comfyui: Path, cpu: bool) -> None:
    """Make ComfyUI's modules importable; its choices are read once, when it is imported.

    On a CPU the host would choose an attention of its own that takes several times as long as torch's; with torch's,
    which it takes on most GPUs, what the rules cost shows more.
    """
    sys.path.insert(0, str(comfyui))
    import comfy.cli_args

    comfy.cli_args.args.cpu = cpu
    comfy.cli_args.args.use_pytorch_cross_attention = True


def _flux(real: bool) -> tuple[dict, dict]:
    heads, width = (24, 128) if real else (4, 64)
    sizes = dict(
        image_model="flux", in_channels=16, out_channels=16, vec_in_dim=768 if real else 64,
        context_in_dim=4096 if real else 64, hidden_size=heads * width, mlp_ratio=4.0, num_heads=heads,
        axes_dim=[16, 56, 56] if real else [16, 24, 24], theta=10000, patch_size=2, qkv_bias=True,
        guidance_embed=True, txt_ids_dims=[],
    )  # fmt: skip
    return sizes, dict(depth=19, depth_single_blocks=38) if real else dict(depth=1, depth_single_blocks=1)


def _flux2(real: bool) -> tuple[dict, dict]:
    heads, width = (24, 128) if real else (4, 64)  # the real one is klein 4B
    sizes = dict(
        image_model="flux2", in_channels=128, out_channels=128, vec_in_dim=None,
        context_in_dim=7680 if real else 64, hidden_size=heads * width, mlp_ratio=3.0, num_heads=heads,
        axes_dim=[width // 4] * 4, theta=2000, patch_size=1, qkv_bias=False, guidance_embed=False,
        txt_ids_dims=[3], global_modulation=True, mlp_silu_act=True, ops_bias=False,
        default_ref_method="index", ref_index_scale=10.0,
    )  # fmt: skip
    return sizes, dict(depth=5, depth_single_blocks=20) if real else dict(depth=1, depth_single_blocks=1)


def _qwen(real: bool) -> tuple[dict, dict]:
    sizes = dict(image_model="qwen_image")
    if not real:
        sizes |= dict(num_attention_heads=4, attention_head_dim=64, joint_attention_dim=64, axes_dims_rope=(16, 24, 24))
    return sizes, dict(num_layers=60 if real else 2)


def make_model(family: str, device: torch.device, real: bool):
    """A ModelPatcher of the host with random weights, and its layers. A real one has as many layers as fit."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    sizes, layers = {"flux": _flux, "flux2": _flux2, "qwen": _qwen}[family](real)
    name = {"flux": "Flux", "flux2": "Flux2", "qwen": "QwenImage"}[family]
    dtype = torch.bfloat16 if real else torch.float32

    def build(device):
        config = getattr(comfy.supported_models, name)({**sizes, **layers})
        config.set_inference_dtype(dtype, None)
        return getattr(comfy.model_base, name)(config, device=device)

    if real:
        needed = sum(weight.numel() * weight.element_size() for weight in build(torch.device("meta")).parameters())
        share = 0.7 * torch.cuda.mem_get_info(device)[0] / needed
        if share < 1:
            layers = {key: max(1, int(count * share)) for key, count in layers.items()}
    model = build(device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0, weight[0].numel() ** -0.5, generator=generator)
            else:
                weight.fill_(0.0 if key.endswith("bias") else 1.0)
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device), layers


def forget_models() -> None:
    """Let go of the memory of models that are no longer used."""
    import comfy.model_management

    comfy.model_management.unload_all_models()
    gc.collect()
    comfy.model_management.soft_empty_cache()


def latent_of(family: str, side: int) -> torch.Tensor:
    """An empty latent of side x side patches."""
    shape = {"flux": (1, 16, 2 * side, 2 * side), "flux2": (1, 128, side, side), "qwen": (1, 16, 1, 2 * side, 2 * side)}
    return torch.zeros(shape[family])


def conditionings(family: str, width: int, regions: int, side: int) -> tuple[list, list]:
    """The same tokens as plain conditioning (one text) and as conditioning with regions."""
    from replan.attention.payload import PAYLOAD_KEY, HintCond, HintText

    text = TEXTS[family]
    generator = torch.Generator().manual_seed(1)

    def random(tokens: int) -> torch.Tensor:
        return torch.randn(1, tokens, width, generator=generator)

    main = random(text.main)
    hints = tuple(random(text.hint) for _ in range(regions))
    reference = torch.randn(latent_of(family, side).shape, generator=generator)
    extras = {"reference_latents": [reference], "guidance": 2.5}
    carried = HintText(make_plan(regions, False), hints, text.main, float(main.norm()), text.image_spans)
    ruled = {**extras, "model_conds": {PAYLOAD_KEY: HintCond(carried)}}
    return [[torch.cat([main, *hints], 1), extras]], [[main, ruled]]


class _Timer:
    """A wrapper around the host's sampler that notes how long it took."""

    def __init__(self, clock: Clock):
        self.clock = clock
        self.seconds = 0.0

    def __call__(self, executor, *args, **kwargs):
        kept = []
        self.seconds = self.clock(lambda: kept.append(executor(*args, **kwargs)))
        return kept[0]


def _step(model, conditioning: list, latent: torch.Tensor, clock: Clock) -> Callable[[], float]:
    import comfy.sample
    from comfy.patcher_extension import WrappersMP

    timer = _Timer(clock)
    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "replan_bench", timer)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(2))

    negative = [[torch.zeros_like(conditioning[0][0]), {}]]

    def run() -> float:
        # At CFG 1 the host leaves the negative out: one model call.
        comfy.sample.sample(
            model, noise, 1, 1.0, "euler", "simple", conditioning, negative, latent, disable_pbar=True, seed=3
        )
        return timer.seconds

    return run


@torch.no_grad()
def measure(
    family: str, model, layers: dict, counts: list[int], side: int, clock: Clock, rounds: int, limit: float
) -> list[dict]:
    """A row of the results for each number of regions."""
    from replan.attention.rules import Rules
    from replan.attention.wrappers import add_region_rules

    width = _text_width(model)
    ruled_model = add_region_rules(model, Rules(), 1)
    rows = []
    for count in counts:
        plain, ruled = conditionings(family, width, count, side)
        latent = latent_of(family, side)
        ran: Rounds = take_turns(
            {"plain": _step(model, plain, latent, clock), "rules": _step(ruled_model, ruled, latent, clock)},
            rounds,
            limit / len(counts),
        )
        rows.append(
            {
                "family": family,
                "regions": count,
                "tokens": 2 * side**2 + TEXTS[family].main + count * TEXTS[family].hint,
                "hint_tokens": TEXTS[family].hint,
                "layers": layers,
                "rounds": ran.count,
                "plain": ran.median("plain"),
                "rules": ran.median("rules"),
                "ratio": ran.ratio("rules", "plain"),
            }
        )
    return rows


def _text_width(model) -> int:
    return model.model.diffusion_model.txt_in.weight.shape[1]
