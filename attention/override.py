"""What one attention call of a ruled model call does: it runs by groups, through whatever attention was chosen.

`wrappers` installs `region_attention` for one model call and hands it that call's `CallState`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import comfy.model_management
import torch
from comfy.ldm.modules.attention import attention_pytorch, optimized_attention_for_device

from .grouped import DeviceSchedule, grouped_attention
from .payload import RegionError, name_node
from .run import Run
from .schedules import CallTokens, ScheduleKey

STATE_KEY = "replan"
OVERRIDE_KEY = "optimized_attention_override"
NODE = "RePlan Apply Region Rules"


@dataclass
class Side:
    """Rows of a model call that share one schedule: the positive's, the negative's, or all.

    start, end: rows of the batch, first, last: the conditionings they come from, both half-open; tokens: what they
    hold; options: their own entries of transformer_options, where the call has other rows too (an override of another
    pack may read `cond_or_uncond`).
    """

    start: int
    end: int
    tokens: CallTokens
    first: int = 0
    last: int = 1
    options: dict = field(default_factory=dict)


@dataclass
class CallState:
    """What the override needs to know of one model call; rides in its transformer_options.

    sides: together all rows of the call, in order; they differ in what is text, not in how long it is. may_lead: a
    patch may put tokens before the text; previous: the override found; joint_calls: attention calls that were ruled.
    """

    sides: list[Side]
    may_lead: bool
    previous: Callable | None
    run: Run
    joint_calls: int = 0
    ready: dict[tuple[int, int], list[DeviceSchedule]] = field(default_factory=dict)

    @property
    def tokens(self) -> CallTokens:
        return self.sides[0].tokens

    def prepare(self, queries: int, lead: int, device: torch.device) -> list[DeviceSchedule]:
        """The schedules of all sides, for attention of `queries` over text, image and `lead` tokens more."""
        with naming():
            masked = self.previous is None  # an override of another pack may drop masks
            keys = [ScheduleKey(side.tokens, queries, lead, device, masked) for side in self.sides]
            self.ready[queries, lead] = [self.run.schedules.get(key) for key in keys]
        return self.ready[queries, lead]

    def lead(self, keys: int) -> int:
        """How many tokens come before the text where text and image have `keys` together; RegionError if none can."""
        lead = keys - self.tokens.image_tokens - self.tokens.text_tokens
        if lead < 0 or (lead > 0 and not self.may_lead):
            raise self._wrong(keys)
        return lead

    def read_lengths(self, args: dict) -> dict:
        """The last `post_input` patch: those before it have set the lengths, and no block has run yet.

        It is put there only when there are others: USO puts images before the text, FluxKVCache leaves out the
        queries of references whose keys it kept.
        """
        text, image = args["txt"].shape[1], args["img"].shape[1]
        whole = self.tokens.image_tokens
        if image not in (whole, whole - self.tokens.reference_tokens):
            raise self._wrong(text + image)
        self.prepare(text + image, self.lead(text + whole), args["img"].device)
        return args

    def _wrong(self, keys: int) -> RegionError:
        return RegionError(
            f"{NODE}: an attention call has {keys} tokens where {self.tokens.text_tokens} of text and "
            f"{self.tokens.image_tokens} of image were expected; another node changes the number of tokens inside "
            "the model (token merging, say). Remove it, or bypass the regions"
        )


@torch.compiler.disable
def region_attention(func, q, k, v, heads, *args, **kwargs):
    """The override: the joint attention of a ruled call runs by groups, any other passes through.

    Not compiled: which group a query is in changes from step to step, and a compiled block would keep the first.
    """
    options = kwargs["transformer_options"]
    state: CallState = options[STATE_KEY]
    tokens = state.tokens
    chosen = func if state.previous is None else _chained(state.previous, func)
    dim = 2 if kwargs.get("skip_reshape", False) else 1
    queries, keys = q.shape[dim], k.shape[dim]
    if queries not in (keys, keys - tokens.reference_tokens) or keys <= tokens.image_tokens:
        state.run.warn(
            f"an attention call of {queries} queries and {keys} keys is not the joint one of text and image (an "
            "IP-Adapter or PuLID, say); it passes through without rules"
        )
        return chosen(q, k, v, heads, *args, **kwargs)
    lead = state.lead(keys)
    state.joint_calls += 1
    # Ready since before the model ran, but where another node's block hands on fewer queries than the model gave it.
    schedules = state.ready.get((queries, lead)) or state.prepare(queries, lead, q.device)
    mask = args[0] if args else kwargs.pop("mask", None)
    rest = args[1:]
    out_dim = 2 if kwargs.get("skip_output_reshape", False) else 1

    def ruled(side: Side, schedule: DeviceSchedule) -> torch.Tensor:
        own = {**kwargs, "transformer_options": {**options, **side.options}} if side.options else kwargs

        def through(attention: Callable):
            def attend(q_part, k_part, v_part, mask_part):
                comfy.model_management.throw_exception_if_processing_interrupted()
                if args:
                    return attention(q_part, k_part, v_part, heads, mask_part, *rest, **own)
                return attention(q_part, k_part, v_part, heads, mask=mask_part, **own)

            return attend

        rows = slice(side.start, side.end)
        part = mask[rows] if mask is not None and mask.ndim > 2 and mask.shape[0] == len(q) else mask
        return grouped_attention(
            through(chosen), q[rows], k[rows], v[rows], schedule, dim=dim, out_dim=out_dim, mask=part,
            masked=through(masked_attention(q.device)) if state.previous is None else None,
        )  # fmt: skip

    results = [ruled(side, schedule) for side, schedule in zip(state.sides, schedules, strict=True)]
    return results[0] if len(results) == 1 else torch.cat(results)


def masked_attention(device: torch.device) -> Callable:
    """ComfyUI's attention for a masked call on `device`.

    Not the function the model was about to call: that may drop a mask, or do without it in another function and say so
    in the log at every call, and nothing but its name tells. torch's own honours every mask; where ComfyUI does not
    use it (a CPU, an old card), ComfyUI names another.
    """
    if comfy.model_management.pytorch_attention_enabled():
        return attention_pytorch
    return optimized_attention_for_device(device, mask=True)


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
        name_node(error, NODE)
        raise
