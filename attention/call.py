"""What a model call says of itself: its step, its phase, which regions are active, and the mask that came with it.

Plain numbers and tensors; nothing here imports ComfyUI.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import torch

from .payload import RegionError

if TYPE_CHECKING:
    from ..planner.plan import Region
    from .rules import Phase, Rules

# Two sigmas this close (relative) are one: schedulers compute them in float32 and from tables of 1,000 entries.
_CLOSE = 1e-4


class Sampling(Protocol):
    """What is used of ComfyUI's model_sampling (comfy/model_sampling.py)."""

    sigma_max: float

    def percent_to_sigma(self, percent: float) -> float: ...


def mask_with_hints(mask: torch.Tensor, main_tokens: int, hint_tokens: int, image_tokens: int) -> torch.Tensor:
    """Make room for the hints behind the text in a mask that came with the conditioning; hints are never masked.

    A text mask (.., T), 0/1 when whole numbers and additive when floats; or a square one over text and image
    (.., T + I, T + I), as Redux with a strength brings.
    """
    fill = 0 if mask.is_floating_point() else 1  # True in a boolean mask
    if mask.shape[-1] == main_tokens and (mask.ndim == 2 or mask.shape[-2] == 1):
        return torch.nn.functional.pad(mask, (0, hint_tokens), value=fill)
    side = main_tokens + image_tokens
    if mask.ndim == 3 and mask.shape[-2:] == (side, side):
        room = mask.new_full((mask.shape[0], side + hint_tokens, side + hint_tokens), fill)
        positions = torch.arange(side, device=mask.device)
        positions[main_tokens:] += hint_tokens
        room[:, positions[:, None], positions[None, :]] = mask
        return room
    raise RegionError(
        f"the conditioning carries an attention mask of shape {tuple(mask.shape)}, and hints can only be joined "
        f"to one of the {main_tokens} text tokens or of all {side} tokens. Remove the node that adds it (a style "
        "model with 'attn_bias' beside a reference image, say), or bypass the regions"
    )


def step_of(sigmas: list[float], now: float) -> int:
    """Number of the current step, from 0: the last listed sigma that is not below the current one.

    sigmas: those of one sampler node, one more than it has steps. Samplers call the model between the listed sigmas
    (Heun, DPM2), so calls are never counted.
    """
    steps = max(len(sigmas) - 1, 1)
    if sigmas[0] < sigmas[-1]:  # an inversion runs towards noise
        sigmas, now = [-sigma for sigma in sigmas], -now
    at = [i for i, sigma in enumerate(sigmas[:steps]) if sigma >= now - _CLOSE * abs(now)]
    return at[-1] if at else 0


def starts_at_the_top(sampling: Sampling, sigmas: list[float]) -> bool:
    """Whether a sampler node starts with pure noise, and not lower (a later stage, or denoise below 1)."""
    return max(sigmas[0], sigmas[-1]) >= float(sampling.sigma_max) * (1 - _CLOSE)


def steps_before(rules: Rules, sampling: Sampling, sigmas: list[float]) -> list[bool]:
    """For each step of one sampler node, whether it runs under the before-rules; `rules` are those `for_family`.

    The switch is a noise level, so that nodes that share a schedule agree: a step is before it when it ends at or
    above it. Under schedulers even in percent ('simple', 'sgm_uniform') these are the first floor(share * steps) steps,
    as in RePlan's code. `switch_step` counts steps instead, of the node that starts with pure noise.
    """
    steps = max(len(sigmas) - 1, 1)
    if not rules.two_phases:
        return [False] * steps
    if rules.switch_step is not None:
        count = rules.switch_step if starts_at_the_top(sampling, sigmas) else 0
        return [i < count for i in range(steps)]
    switch = float(sampling.percent_to_sigma(rules.switch))
    ends = [min(sigmas[i], sigmas[min(i + 1, len(sigmas) - 1)]) for i in range(steps)]
    return [end >= switch * (1 - _CLOSE) for end in ends]


def phase_of(rules: Rules, sampling: Sampling, options: dict) -> Phase:
    """The phase of a model call, from its transformer_options; 'after' outside a sampler."""
    listed, current = options.get("sample_sigmas"), options.get("sigmas")
    if not rules.two_phases or listed is None or current is None:
        return "after"
    sigmas = listed.tolist()
    step = step_of(sigmas, float(current.reshape(-1)[0]))
    return "before" if steps_before(rules, sampling, sigmas)[step] else "after"


def inactive_regions(
    regions: tuple[Region, ...], percent_to_sigma: Callable[[float], float], options: dict
) -> frozenset[int]:
    """Plan indices of the regions whose start and end (percent of sampling) leave out the current sigma.

    percent_to_sigma: the model's (comfy.model_sampling). The bounds count as inside, as they do for ComfyUI's own
    timestep ranges (comfy.samplers.get_area_and_mult).
    """
    if all(region.start <= 0.0 and region.end >= 1.0 for region in regions) or options.get("sigmas") is None:
        return frozenset()
    now = float(options["sigmas"].reshape(-1)[0])
    return frozenset(
        i
        for i, region in enumerate(regions)
        if now > percent_to_sigma(region.start) or now < percent_to_sigma(region.end)
    )
