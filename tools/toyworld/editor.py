"""The toy world's editor: a small Flux.1 in diffusers' form to train, in ComfyUI's form to run.

ComfyUI's own Flux adds in place, which autograd refuses, so training uses diffusers' `FluxTransformer2DModel`.
`host_weights` gives the same model under the names ComfyUI reads: `host_check.py` holds both to the same output.

The pooled text vector has no effect, by weights of zero where it enters: a model that may read the instruction there
learns to, and then hints, which come as text tokens, do nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers import FluxTransformer2DModel

from .codec import CHANNELS

TEXT = 768  # the width of CLIP-L
PATCH = 2  # latent cells along a patch's side
HEAD = 128
AXES = (16, 56, 56)  # of a head, for a token's picture, row and column: what ComfyUI's loader assumes


class Size(NamedTuple):
    """heads: of 128 each, which makes the width. double, single: how many blocks of each kind."""

    heads: int = 1
    double: int = 3
    single: int = 6


def make_editor(seed: int, size: Size = Size()) -> FluxTransformer2DModel:  # noqa: B008 (a tuple)
    """An untrained editor from a seed. It leaves torch's own random numbers as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        editor = FluxTransformer2DModel(
            patch_size=1,
            in_channels=CHANNELS * PATCH**2,
            num_layers=size.double,
            num_single_layers=size.single,
            attention_head_dim=HEAD,
            num_attention_heads=size.heads,
            joint_attention_dim=TEXT,
            pooled_projection_dim=TEXT,
            guidance_embeds=False,
            axes_dims_rope=AXES,
        )
    torch.nn.init.zeros_(_pooled_in(editor))
    _pooled_in(editor).requires_grad_(False)
    return editor


def _pooled_in(editor: FluxTransformer2DModel) -> torch.nn.Parameter:
    return editor.time_text_embed.text_embedder.linear_1.weight


def velocity(
    editor: FluxTransformer2DModel,
    noisy: torch.Tensor,
    reference: torch.Tensor,
    texts: torch.Tensor,
    sigma: torch.Tensor,
) -> torch.Tensor:
    """What the editor says noise minus picture is, as (B, 16, H, W).

    noisy, reference: latents (B, 16, H, W), H and W even; noisy = (1 - sigma) picture + sigma noise, and the
    reference is the scene before the edit, placed as Kontext places it. texts: (B, L, 768), several instructions
    one behind the other, each encoded by itself. sigma: (B,), 0..1.
    """
    height, width = (side // PATCH for side in noisy.shape[-2:])
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack((torch.zeros_like(rows), rows, columns), -1).reshape(-1, 3)
    pictures = torch.cat((places, places + torch.tensor((1, 0, 0)))).to(noisy)
    out = editor(
        hidden_states=torch.cat((_packed(noisy), _packed(reference)), 1),
        encoder_hidden_states=texts,
        pooled_projections=noisy.new_zeros(len(noisy), TEXT),
        timestep=sigma,
        img_ids=pictures,
        txt_ids=noisy.new_zeros(texts.shape[1], 3),
    ).sample[:, : height * width]
    cells = out.unflatten(2, (-1, PATCH, PATCH)).unflatten(1, (height, width))  # (B, h, w, C, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(noisy.shape)


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


def host_weights(weights: dict[str, torch.Tensor], dtype: torch.dtype = torch.float16) -> dict[str, torch.Tensor]:
    """An editor's state dict (or its running average) as ComfyUI's UNETLoader reads it."""
    left = {key: value.detach().cpu() for key, value in weights.items()}
    out: dict[str, torch.Tensor] = {}

    def move(table: tuple[tuple[str, str], ...], source: str = "", target: str = "") -> None:
        for names, name in table:
            for kind in ("weight", "bias"):
                keys = [f"{source}{part}.{kind}" for part in names.split()]
                if keys[0] not in left:  # norms have no bias
                    continue
                value = torch.cat([left.pop(key) for key in keys])
                if name == "final_layer.adaLN_modulation.1":  # scale and shift there, shift and scale here
                    value = torch.cat(value.chunk(2)[::-1])
                out[f"{target}{name}.{kind}"] = value.to(dtype).contiguous()

    def blocks(prefix: str) -> int:
        return len({key.split(".")[1] for key in weights if key.startswith(f"{prefix}.")})

    move(_TOP)
    for index in range(blocks("transformer_blocks")):
        move(_DOUBLE, f"transformer_blocks.{index}.", f"double_blocks.{index}.")
    for index in range(blocks("single_transformer_blocks")):
        move(_SINGLE, f"single_transformer_blocks.{index}.", f"single_blocks.{index}.")
    if left:
        raise ValueError(f"no name in ComfyUI for {sorted(left)[:4]}: these are not an editor's weights")
    return out
