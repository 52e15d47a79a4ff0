"""The toy world's editor: a small Flux.1 in diffusers' form to train, in ComfyUI's form to run.

ComfyUI's own Flux adds in place, which autograd refuses, so training uses diffusers' `FluxTransformer2DModel`.
`comfyui_weights` gives the same model under the names ComfyUI reads: `comfyui_check.py` holds both to the same output.

The pooled text vector has no effect, by weights of zero where it enters: a model that may read the instruction there
learns to, and then hints, which come as text tokens, do nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from diffusers import FluxTransformer2DModel

from .codec import CHANNELS

TEXT_WIDTH = 768  # the width of CLIP-L
PATCH = 2  # latent cells along a patch's side
HEAD_WIDTH = 128
AXES = (16, 56, 56)  # of a head, for a token's image, row and column: what ComfyUI's loader assumes


class Size(NamedTuple):
    """heads: of 128 each, which makes the width. double, single: how many blocks of each kind."""

    heads: int = 1
    double: int = 3
    single: int = 8


def make_editor(seed: int, size: Size = Size()) -> FluxTransformer2DModel:  # noqa: B008 (a tuple)
    """An untrained editor from a seed. It leaves torch's own random numbers as they were.

    Every block begins as the identity and the output as zero (adaLN-Zero, section 3.2 of arXiv 2212.09748).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        editor = FluxTransformer2DModel(
            patch_size=1,
            in_channels=CHANNELS * PATCH**2,
            num_layers=size.double,
            num_single_layers=size.single,
            attention_head_dim=HEAD_WIDTH,
            num_attention_heads=size.heads,
            joint_attention_dim=TEXT_WIDTH,
            pooled_projection_dim=TEXT_WIDTH,
            guidance_embeds=False,
            axes_dims_rope=AXES,
        )
    for name, value in editor.named_parameters():
        if name.startswith("proj_out.") or ("norm" in name and ".linear." in name):
            torch.nn.init.zeros_(value)
    torch.nn.init.zeros_(_pooled_in(editor))
    _pooled_in(editor).requires_grad_(False)
    return editor


def _pooled_in(editor: FluxTransformer2DModel) -> torch.nn.Parameter:
    return editor.time_text_embed.text_embedder.linear_1.weight


def outputs(
    editor: FluxTransformer2DModel,
    noisy: torch.Tensor,
    reference: torch.Tensor,
    texts: torch.Tensor,
    sigma: torch.Tensor,
    counts: torch.Tensor | None = None,
) -> torch.Tensor:
    """The velocity (what the editor says noise minus image is), and what comes out at the reference's tokens, which
    ComfyUI drops: (2, B, 16, H, W).

    noisy, reference: latents (B, 16, H, W), H and W even; noisy = (1 - sigma) image + sigma noise, and the
    reference is the scene before the edit, placed as Kontext places it. texts: (B, L, 768), several instructions
    one behind the other, each encoded by itself. sigma: (B,), 0..1. counts: (B, L), how many equal tokens each row
    of the texts stands for, 0 for none (default: 1 each).
    """
    height, width = (side // PATCH for side in noisy.shape[-2:])
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    positions = torch.stack((torch.zeros_like(rows), rows, columns), -1).reshape(-1, 3)
    positions = torch.cat((positions, positions + torch.tensor((1, 0, 0)))).to(noisy)
    out = editor(
        hidden_states=torch.cat((_packed(noisy), _packed(reference)), 1),
        encoder_hidden_states=texts,
        pooled_projections=noisy.new_zeros(len(noisy), TEXT_WIDTH),
        timestep=sigma,
        img_ids=positions,
        txt_ids=noisy.new_zeros(texts.shape[1], 3),
        joint_attention_kwargs=None if counts is None else {"attention_mask": _bias(counts, 2 * height * width)},
    ).sample
    cells = out.unflatten(2, (-1, PATCH, PATCH)).unflatten(1, (2, height, width))  # (B, 2, h, w, C, 2, 2)
    return cells.permute(1, 0, 4, 2, 5, 3, 6).reshape(2, *noisy.shape)


def _bias(counts: torch.Tensor, image_tokens: int) -> torch.Tensor:
    """What the logits of the attention get: n equal keys weigh as one whose logit is log n higher."""
    keys = torch.cat((counts, counts.new_ones(len(counts), image_tokens)), 1).log()[:, None, None]
    return keys.to(torch.get_autocast_dtype(keys.device.type)) if torch.is_autocast_enabled(keys.device.type) else keys


def _packed(latents: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, tokens, C * 4)."""
    cells = latents.unflatten(3, (-1, PATCH)).unflatten(2, (-1, PATCH))  # (B, C, h, 2, w, 2)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


# (name in diffusers, name in the published weights, which ComfyUI keeps). A list of names on the left is one matrix
# on the right, row below row.
_TOP = (
    ("x_embedder", "img_in"),
    ("context_embedder", "txt_in"),
    ("time_text_embed.timestep_embedder.linear_1", "time_in.in_layer"),
    ("time_text_embed.timestep_embedder.linear_2", "time_in.out_layer"),
    ("time_text_embed.text_embedder.linear_1", "vector_in.in_layer"),
    ("time_text_embed.text_embedder.linear_2", "vector_in.out_layer"),
    ("proj_out", "final_layer.linear"),
    ("norm_out.linear", "final_layer.adaLN_modulation.1"),
)
_DOUBLE = (
    ("norm1.linear", "img_mod.lin"),
    ("norm1_context.linear", "txt_mod.lin"),
    ("attn.to_q attn.to_k attn.to_v", "img_attn.qkv"),
    ("attn.add_q_proj attn.add_k_proj attn.add_v_proj", "txt_attn.qkv"),
    ("attn.norm_q", "img_attn.norm.query_norm"),
    ("attn.norm_k", "img_attn.norm.key_norm"),
    ("attn.norm_added_q", "txt_attn.norm.query_norm"),
    ("attn.norm_added_k", "txt_attn.norm.key_norm"),
    ("attn.to_out.0", "img_attn.proj"),
    ("attn.to_add_out", "txt_attn.proj"),
    ("ff.net.0.proj", "img_mlp.0"),
    ("ff.net.2", "img_mlp.2"),
    ("ff_context.net.0.proj", "txt_mlp.0"),
    ("ff_context.net.2", "txt_mlp.2"),
)
_SINGLE = (
    ("norm.linear", "modulation.lin"),
    ("attn.to_q attn.to_k attn.to_v proj_mlp", "linear1"),
    ("attn.norm_q", "norm.query_norm"),
    ("attn.norm_k", "norm.key_norm"),
    ("proj_out", "linear2"),
)


def comfyui_weights(weights: dict[str, torch.Tensor], dtype: torch.dtype = torch.float16) -> dict[str, torch.Tensor]:
    """An editor's state dict (or its running average) as ComfyUI's UNETLoader reads it."""
    left = {key: value.detach().cpu() for key, value in weights.items()}
    out: dict[str, torch.Tensor] = {}
    for keys, name in _names(weights):
        value = torch.cat([left.pop(key) for key in keys])
        out[name] = _halves_swapped(name, value).to(dtype).contiguous()
    if left:
        raise ValueError(f"no name in ComfyUI for {sorted(left)[:4]}: these are not an editor's weights")
    return out


def trained_weights(exported: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The other way: a file that `comfyui_weights` made, as a state dict in fp32 to train on.

    Raises ValueError when it holds something else.
    """
    blocks = [len({key.split(".")[1] for key in exported if key.startswith(kind)}) for kind in ("double_", "single_")]
    like = make_editor(0, Size(1, *blocks)).state_dict()
    left = {key: value.float() for key, value in exported.items()}
    out: dict[str, torch.Tensor] = {}
    for keys, name in _names(like):
        rows = [like[key].shape[0] for key in keys]
        if name not in left or left[name].shape != (sum(rows), *like[keys[0]].shape[1:]):
            found = tuple(left[name].shape) if name in left else "nothing"
            raise ValueError(f"not the weights of a toy editor: {name} should have {sum(rows)} rows, found {found}")
        out |= dict(zip(keys, _halves_swapped(name, left.pop(name)).split(rows), strict=True))
    if left:
        raise ValueError(f"not the weights of a toy editor: they hold {sorted(left)[:4]} besides")
    return out


def _names(weights: dict[str, torch.Tensor]) -> Iterator[tuple[list[str], str]]:
    """Which keys of a state dict make which tensor of the published form."""

    def blocks(prefix: str) -> int:
        return len({key.split(".")[1] for key in weights if key.startswith(f"{prefix}.")})

    parts = [(_TOP, "", "")]
    for kind, table, name in (
        ("transformer_blocks", _DOUBLE, "double_blocks"),
        ("single_transformer_blocks", _SINGLE, "single_blocks"),
    ):
        parts += [(table, f"{kind}.{index}.", f"{name}.{index}.") for index in range(blocks(kind))]
    for table, source, target in parts:
        for names, name in table:
            for kind in ("weight", "bias"):
                keys = [f"{source}{part}.{kind}" for part in names.split()]
                if keys[0] in weights:  # norms have no bias
                    yield keys, f"{target}{name}.{kind}"


def _halves_swapped(name: str, value: torch.Tensor) -> torch.Tensor:
    """The last modulation gives scale and shift in diffusers, shift and scale in the published form."""
    return torch.cat(value.chunk(2)[::-1]) if name.startswith("final_layer.adaLN_modulation.") else value
