"""What a model call says of itself: its step, which regions are active in it, and the mask that came with it.

Plain numbers and tensors; nothing here imports the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from .payload import RegionError

if TYPE_CHECKING:
    from ..planner.plan import Region


def with_hints(mask: torch.Tensor, main_tokens: int, hint_tokens: int, image_tokens: int) -> torch.Tensor:
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


def step_of(options: dict) -> tuple[int, int]:
    """Number of the current step and of all steps: the last listed sigma that is not below the current one.

    Samplers call the model between the listed sigmas (Heun, DPM2), so calls are never counted.
    """
    listed = options.get("sample_sigmas")
    current = options.get("sigmas")
    if listed is None or current is None:
        return 0, 1
    now = float(current.reshape(-1)[0])
    sigmas = listed.tolist()
    steps = max(len(sigmas) - 1, 1)
    if sigmas[0] < sigmas[-1]:  # an inversion runs towards noise
        sigmas, now = [-sigma for sigma in sigmas], -now
    at = [i for i, sigma in enumerate(sigmas[:steps]) if sigma >= now - 1e-4 * abs(now)]
    return (at[-1] if at else 0), steps


def inactive_regions(
    regions: tuple[Region, ...], percent_to_sigma: Callable[[float], float], options: dict
) -> frozenset[int]:
    """Plan indices of the regions whose start and end (percent of sampling) leave out the current sigma.

    percent_to_sigma: the model's (comfy.model_sampling). The bounds count as inside, as they do for the host's own
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
