"""Muon (https://kellerjordan.github.io/posts/muon/) in float32 where bfloat16 is slow.

torch.optim.Muon computes in bfloat16 everywhere. On a CPU without instructions for it a step takes longer than the
model's own: torch 2.11 multiplied 256 x 640 matrices at 83 GFLOPS in float32 and 2 in bfloat16. Same rule, same state.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch

COEFFICIENTS, ROUNDS = (3.4445, -4.7750, 2.0315), 5  # of the Newton-Schulz iteration


class Muon(torch.optim.Optimizer):
    """For matrices only. A step has the size of AdamW's (`match_rms_adamw` in torch), so one rate serves both."""

    def __init__(
        self,
        matrices: Iterable[torch.nn.Parameter],
        lr: float,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        half: bool = False,
    ) -> None:
        """half: turn in bfloat16 on a CPU too."""
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.half = half

    @torch.no_grad()
    def step(self) -> None:
        """One update; matrices of one shape are turned together."""
        for group in self.param_groups:
            together: dict[torch.Size, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                kept = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
                together[matrix.shape].append((matrix, matrix.grad.lerp(kept, group["momentum"])))
            for shape, pairs in together.items():
                rate = group["lr"] * 0.2 * max(shape) ** 0.5
                for (matrix, _), change in zip(
                    pairs, orthogonal(torch.stack([c for _, c in pairs]), self.half), strict=True
                ):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(change, alpha=-rate)


def orthogonal(matrices: torch.Tensor, half: bool = False) -> torch.Tensor:
    """(N, A, B): each with its singular values moved to about 1."""
    a, b, c = COEFFICIENTS
    wide = matrices.bfloat16() if matrices.is_cuda or half else matrices.float()
    wide = wide.mT if matrices.shape[1] > matrices.shape[2] else wide
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ROUNDS):
        square = wide @ wide.mT
        wide = a * wide + (b * square + c * square @ square) @ wide
    return (wide.mT if matrices.shape[1] > matrices.shape[2] else wide).to(matrices.dtype)
