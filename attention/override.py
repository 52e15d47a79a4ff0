"""What one attention call of a ruled model call does: it runs by groups, through whatever attention was chosen.

`wrappers` installs `region_attention` for one model call and hands it that call's `CallState`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import comfy.model_management
import torch

from .grouped import DeviceSchedule, grouped_attention
from .payload import RegionError
from .schedules import CallTokens, ScheduleKey, Schedules

STATE_KEY = "replan"
OVERRIDE_KEY = "optimized_attention_override"
NODE = "RePlan Apply Region Rules"

# ComfyUI's functions that honour a mask without complaint (its flash attention warns at every call, and
# replacements of other packs may drop a mask in silence). Elsewhere every group is a plain call.
_MASKS_WORK = frozenset(
    f"attention_{name}" for name in ("basic", "sub_quad", "split", "xformers", "pytorch", "sage")
) | {"attention3_sage"}


@dataclass
class CallState:
    """What the override needs to know of one model call; rides in its transformer_options.

    tokens: those that the call brings, before any the model adds; may_lead: a patch may put more before the text;
    previous: the override found; schedules: where schedules come from; warn_once: see `wrappers`; joint_calls: how
    many attention calls were ruled.
    """

    tokens: CallTokens
    may_lead: bool
    previous: Callable | None
    schedules: Schedules
    warn_once: Callable[[object, str], None]
    joint_calls: int = 0
    built: dict[tuple[int, int], DeviceSchedule] = field(default_factory=dict)

    def schedule(self, queries: int, lead: int, device: torch.device) -> DeviceSchedule:
        found = self.built.get((queries, lead))
        if found is None:
            with naming():
                found = self.schedules.get(ScheduleKey(self.tokens, queries, lead, device))
            self.built[queries, lead] = found
        return found


@torch.compiler.disable
def region_attention(func, q, k, v, heads, *args, **kwargs):
    """The override: the joint attention of a ruled call runs by groups, any other passes through.

    Not compiled: which group a query is in changes from step to step, and a compiled block would keep the first.
    """
    state: CallState = kwargs["transformer_options"][STATE_KEY]
    tokens = state.tokens
    run = func if state.previous is None else _chained(state.previous, func)
    dim = 2 if kwargs.get("skip_reshape", False) else 1
    queries, keys = q.shape[dim], k.shape[dim]
    lead = keys - tokens.image_tokens - tokens.text_tokens
    if queries not in (keys, keys - tokens.reference_tokens) or keys <= tokens.image_tokens:
        state.warn_once(
            ("pass", queries, keys),
            f"an attention call of {queries} queries and {keys} keys is not the joint one of text and image (an "
            "IP-Adapter or PuLID, say); it passes through without rules",
        )
        return run(q, k, v, heads, *args, **kwargs)
    if lead < 0 or (lead > 0 and not state.may_lead):
        raise RegionError(
            f"{NODE}: an attention call has {keys} tokens where {tokens.text_tokens} of text and "
            f"{tokens.image_tokens} of image were expected; another node changes the number of tokens inside the "
            "model (token merging, say). Remove it, or bypass the regions"
        )
    state.joint_calls += 1
    # On the device of q: the text may still lie on the CPU when the call is prepared.
    schedule = state.schedule(queries, lead, q.device)
    mask = args[0] if args else kwargs.pop("mask", None)
    rest = args[1:]

    def attend(q_part, k_part, v_part, mask_part):
        comfy.model_management.throw_exception_if_processing_interrupted()
        if args:
            return run(q_part, k_part, v_part, heads, mask_part, *rest, **kwargs)
        return run(q_part, k_part, v_part, heads, mask=mask_part, **kwargs)

    out_dim = 2 if kwargs.get("skip_output_reshape", False) else 1
    masks_work = state.previous is None and getattr(func, "__name__", "") in _MASKS_WORK
    return grouped_attention(attend, q, k, v, schedule, dim=dim, out_dim=out_dim, mask=mask, masks_work=masks_work)


def _chained(previous: Callable, func: Callable) -> Callable:
    def run(*args, **kwargs):
        return previous(func, *args, **kwargs)

    return run


@contextmanager
def naming() -> Iterator[None]:
    """Put this node's name in front of what is refused while a model samples: ComfyUI names the sampler there."""
    try:
        yield
    except RegionError as error:
        if str(error).startswith("RePlan "):
            raise
        raise RegionError(f"{NODE}: {error}") from error
