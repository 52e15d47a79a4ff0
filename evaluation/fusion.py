"""A region's features in the context of its scene: gated cross-attention (Region in Context, section 3.2.2).

With e_r the region's tokens and e_f the whole image's:

    r = CNN_r(e_r), f = CNN_f(e_f)
    h = MHA(query r, keys and values f), g = sigmoid(W_g r + b_g)
    z = r + g * h, f_r = W_p LN(z) + b_p

The paper does not say how tokens become one vector; here f_r is their mean. No trained weights are published, so the
weights are files of one's own: safetensors with the number of heads in the metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ..planner.plan import PlanError

Grid = tuple[int, int]  # rows and columns of an image's tokens


class GatedFusion(nn.Module):
    """Tokens of a region and of its scene to one vector that is compared with a text's.

    width: C of the tokens. inner: D. out: E of the text's features. heads: of the attention; they divide D. kernel:
    side of both convolutions, an odd number; 1 mixes no neighbours. operations: where the layers come from, as in
    ComfyUI's models (torch.nn, or a class of comfy.ops).
    """

    def __init__(self, width: int, inner: int, out: int, heads: int, kernel: int = 3, operations=nn) -> None:
        super().__init__()
        self.cnn_region = operations.Conv2d(width, inner, kernel, padding=kernel // 2)
        self.cnn_scene = operations.Conv2d(width, inner, kernel, padding=kernel // 2)
        self.attention = nn.MultiheadAttention(inner, heads, batch_first=True)
        self.gate = operations.Linear(inner, inner)
        self.norm = operations.LayerNorm(inner)
        self.project = operations.Linear(inner, out)

    @property
    def width(self) -> int:
        """C of the tokens it takes."""
        return self.cnn_region.in_channels

    @property
    def out(self) -> int:
        """E of the vector it gives."""
        return self.project.out_features

    def forward(self, region: torch.Tensor, scene: torch.Tensor, region_grid: Grid, scene_grid: Grid) -> torch.Tensor:
        """region (B, Lr, C) and scene (B, Lf, C), row by row over their grids (rows, columns) -> (B, E).

        Raises PlanError for tokens of another width, and ValueError for a grid that does not hold the tokens.
        """
        for tokens, grid in ((region, region_grid), (scene, scene_grid)):
            if tokens.shape[-1] != self.width:
                raise PlanError(
                    f"the fusion weights are for tokens of {self.width} features, this vision model's have "
                    f"{tokens.shape[-1]}; load the weights that were trained with it, or choose 'mean'"
                )
            if tokens.shape[1] != grid[0] * grid[1]:
                raise ValueError(f"{tokens.shape[1]} tokens do not fill a grid of {grid[0]}x{grid[1]}")
        own = _convolved(self.cnn_region, region, region_grid)
        context = _convolved(self.cnn_scene, scene, scene_grid)
        seen = self.attention(own, context, context, need_weights=False)[0]
        fused = own + torch.sigmoid(self.gate(own)) * seen
        return self.project(self.norm(fused)).mean(1)


def _convolved(convolution: nn.Conv2d, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
    """(B, L, C) -> (B, L, D), the tokens laid out over their grid."""
    return convolution(tokens.transpose(1, 2).unflatten(2, grid)).flatten(2).transpose(1, 2)


def save_fusion(fusion: GatedFusion, file: Path, half: bool = True) -> None:
    """Write the weights as safetensors, in fp16 or as they are; `load_fusion` gives an equal module."""
    from safetensors.torch import save_file

    weights = {
        name: (value.half() if half else value).detach().cpu().contiguous()
        for name, value in fusion.state_dict().items()
    }
    save_file(weights, file, metadata={"heads": str(fusion.attention.num_heads)})


def load_fusion(file: str | Path) -> GatedFusion:
    """The fusion of a file, in float32. Raises PlanError for a file that holds none, or whose shapes do not fit."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            heads = (opened.metadata() or {}).get("heads", "")
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no dict)
    except (OSError, SafetensorError) as error:
        raise PlanError(f"the fusion weights {file} cannot be read ({error}); give a whole safetensors file") from None
    return fusion_of(weights, heads, Path(file).name)


def fusion_of(weights: Mapping[str, torch.Tensor], heads: str, name: str = "fusion weights") -> GatedFusion:
    """The fusion of a state dict. heads: as the file's metadata says it. Raises PlanError as `load_fusion`."""
    needed = {"cnn_region.weight": 4, "project.weight": 2}
    if any(key not in weights or weights[key].ndim != axes for key, axes in needed.items()):
        raise PlanError(
            f"{name} holds no gated fusion: expected {' and '.join(needed)} among its {len(weights)} tensors; choose a "
            "file that evaluation.fusion.save_fusion wrote"
        )
    inner, width, kernel = weights["cnn_region.weight"].shape[:3]
    if not heads.isascii() or not heads.isdigit() or not int(heads) or inner % int(heads) or kernel % 2 == 0:
        raise PlanError(
            f"{name}: found {heads or 'no'} heads in the metadata, {inner} inner features and a kernel of {kernel}; "
            "expected a number of heads that divides the features, and an odd kernel. Save it with "
            "evaluation.fusion.save_fusion"
        )
    fusion = GatedFusion(width, inner, weights["project.weight"].shape[0], int(heads), kernel)
    wanted = {key: tuple(value.shape) for key, value in fusion.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    for key in sorted({*wanted, *found}):
        if wanted.get(key) != found.get(key):
            raise PlanError(
                f"{name}: '{key}' has the shape {found.get(key, 'nothing')}, expected {wanted.get(key, 'nothing')}; "
                "the file is of another module, or cut off"
            )
    if not all(torch.isfinite(value).all() for value in weights.values()):
        raise PlanError(f"{name} holds values that are not finite; train or copy it again")
    fusion.load_state_dict({key: value.float() for key, value in weights.items()})
    return fusion.eval().requires_grad_(False)
