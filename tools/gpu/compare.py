"""Ours beside dense attention: what a run under region rules must equal, and how much it may differ by.

The reduced models, conditionings and the dense reference are those of the tests (tests/host/region_models.py,
dense.py); the reference is a float64 softmax under a boolean L x L mask, written without the pack.

A difference is only rounding if ComfyUI's own attention rounds as much. So every comparison measures that too: the
same model over the same tokens without rules, by ComfyUI's attention and by the float64 one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import dense
import reference
import region_models as models
import torch
from replan.attention.families import FAMILIES
from replan.attention.rules import make_rules
from replan.attention.wrappers import add_region_rules

BOXES = ((0, 0, 40, 40), (30, 30, 80, 70), (60, 5, 96, 50))
HINTS = (7, 12, 5)
TEXT_TOKENS = 20
# How much more than ComfyUI's own attention ours may round: other kernels on other shapes, and steps that carry it on.
TIMES_OWN = 4.0
# What is rounding whatever was measured, of the largest value of the result.
FLOOR = {torch.float32: 1e-4, torch.bfloat16: 0.0, torch.float16: 0.0}
# The rules must change the result by this many times the difference, or agreement would show nothing.
LEAST_EFFECT = 3.0


class Setting(NamedTuple):
    """One run of a reduced model under rules."""

    family: str
    dtype: torch.dtype
    preset: str = "replan"
    side: int = 6
    steps: int = 2
    cfg: float = 1.0
    batch: int = 1

    def rules(self):
        return make_rules(self.preset, switch=0.5)[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return models.latent_shape(self.family, self.side, self.side, self.batch)

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        return ((2, 6),) if FAMILIES[self.family].image_prompt else ()

    def positive(self) -> list:
        """A conditioning with hints, the edited image and a second reference of another size."""
        references = [
            models.seeded(*models.latent_shape(self.family, self.side, self.side), seed=9),
            models.seeded(*models.latent_shape(self.family, 4, 3), seed=11),
        ]
        carried = models.conditioning(TEXT_TOKENS, references)
        # Padded hints of FLUX.2 are most of the tokens, so once is enough.
        padding = "host" if self.dtype is torch.float32 and self.side == 6 else "trim"
        return models.with_hints(carried, models.plan_of(BOXES), HINTS, spans=self.spans, padding=padding)

    def phase(self, step: int) -> str:
        return "before" if self.preset == "local_first" and step < self.steps // 2 else "after"

    def sample(self, model, positive) -> torch.Tensor:
        return models.sample(model, positive, None, self.shape, steps=self.steps, cfg=self.cfg)


def _all_see_all(func, q, k, v, heads, *args, **kwargs):
    """ComfyUI's attention in float64, without rules; its mask is kept."""
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
    bias = args[0] if args else kwargs.get("mask")
    if bias is not None and bias.ndim == 3:
        bias = bias[:, None]
    return reference.attention(q, k, v, mask, bias).to(q.dtype)


def compare(setting: Setting, make: Callable[[], object], ours=None) -> dict:
    """A row: how far a run under rules is from dense attention, beside ComfyUI's own rounding and the rules' effect.

    make: gives the model without rules; ours: the model with rules, when it is not just that one.
    """
    positive = setting.positive()
    ours = ours or add_region_rules(make(), setting.rules(), 1)
    result = setting.sample(ours, positive)
    expected = dense.dense_run(
        make(), positive, setting.family, edited=(setting.side, setting.side), further=(12,), preset=setting.preset,
        phases=setting.phase, spans=setting.spans, rows=setting.side, cols=setting.side, batch=setting.batch,
        steps=setting.steps, cfg=setting.cfg,
    )  # fmt: skip
    joined = dense.joined(positive, setting.family, positive[0][1]["model_conds"]["replan_hints"].text.padding)
    plain = setting.sample(make(), joined)
    exact = setting.sample(dense.under_dense_mask(make(), _all_see_all), joined)

    scale = expected.abs().max().item()

    def apart(a: torch.Tensor, b: torch.Tensor) -> float:
        return (a - b).abs().max().item() / scale

    difference, own, effect = apart(result, expected), apart(plain, exact), apart(result, plain)
    allowed = max(FLOOR[setting.dtype], TIMES_OWN * own)
    return {
        "difference": difference,
        "own_rounding": own,
        "effect": effect,
        "ok": bool(torch.isfinite(result).all()) and difference <= allowed and effect >= LEAST_EFFECT * difference,
    }


def type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
