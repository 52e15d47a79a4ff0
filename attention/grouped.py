"""Exact attention under a rule table, without a mask: one plain call per group of queries.

Works through whatever attention function it is handed (the host's kernel, or another pack's replacement), with
the host's calling convention: q, k, v as (B, H, L, D) when `skip_reshape`, else (B, L, H * D).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from .groups import IndexPlan

Tensor = torch.Tensor
# How the caller runs one attention: (q, k, v, mask or None) -> (B, L, H * D) or, as asked, (B, H, L, D).
Attend = Callable[[Tensor, Tensor, Tensor, "Tensor | None"], Tensor]

# Copying by ranges beats copying by index as long as the ranges are few.
_FEW_RANGES = 16


class Span(NamedTuple):
    """Positions along a sequence: as ranges where they are few, as an index tensor where not."""

    ranges: tuple[tuple[int, int], ...]
    index: Tensor | None
    count: int

    @classmethod
    def of(cls, positions: np.ndarray, device: torch.device) -> Span:
        """`positions` in the order they are wanted (each ascending run becomes a range)."""
        if len(positions) == 0:
            return cls((), None, 0)
        breaks = np.flatnonzero(np.diff(positions) != 1) + 1
        if len(breaks) < _FEW_RANGES:
            edges = np.concatenate(([0], breaks, [len(positions)]))
            ranges = tuple((int(positions[a]), int(positions[b - 1]) + 1) for a, b in zip(edges[:-1], edges[1:], strict=True))
            return cls(ranges, None, len(positions))
        return cls((), torch.as_tensor(positions, dtype=torch.int64, device=device), len(positions))

    def take(self, x: Tensor, dim: int) -> Tensor:
        """The positions of `x` along `dim`; a view when they are one range."""
        if self.index is not None:
            return x.index_select(dim, self.index)
        if len(self.ranges) == 1:
            start, end = self.ranges[0]
            return x.narrow(dim, start, end - start)
        return torch.cat([x.narrow(dim, start, end - start) for start, end in self.ranges], dim)

    def copy(self, x: Tensor, dim: int, out: Tensor) -> None:
        """Write the positions of `x` along `dim` into `out` (whose length there is `count`)."""
        if self.index is not None:
            out.copy_(x.index_select(dim, self.index))
            return
        at = 0
        for start, end in self.ranges:
            out.narrow(dim, at, end - start).copy_(x.narrow(dim, start, end - start))
            at += end - start

    def put(self, out: Tensor, dim: int, x: Tensor) -> None:
        """Write `x` to the positions of `out` along `dim`."""
        if self.index is not None:
            out.index_copy_(dim, self.index, x)
            return
        at = 0
        for start, end in self.ranges:
            out.narrow(dim, start, end - start).copy_(x.narrow(dim, at, end - start))
            at += end - start

    @property
    def nbytes(self) -> int:
        return 0 if self.index is None else self.index.numel() * self.index.element_size()


class Step(NamedTuple):
    """One group on a device; see groups.Group."""

    queries: Span
    start: int | None
    slot: Span
    sees_all: bool
    joint: bool


class DevicePlan(NamedTuple):
    """An IndexPlan on a device: what is kept between layers and steps."""

    plan: IndexPlan
    steps: tuple[Step, ...]
    base: Span
    few: Span | None
    few_rows: Tensor | None
    few_sees: Tensor | None
    atom: Tensor | None

    @property
    def nbytes(self) -> int:
        """Index memory kept between layers, in bytes."""
        spans = [self.base, *(span for step in self.steps for span in (step.queries, step.slot))]
        tensors = [t for t in (self.few_rows, self.few_sees, self.atom) if t is not None]
        few = self.few.nbytes if self.few is not None else 0
        return sum(span.nbytes for span in spans) + few + sum(t.numel() * t.element_size() for t in tensors)


def to_device(plan: IndexPlan, device: torch.device) -> DevicePlan:
    """Put an index plan's positions on `device`."""
    steps = tuple(
        Step(Span.of(g.queries, device), g.start, Span.of(g.slot, device), g.sees_all, i in plan.joint)
        for i, g in enumerate(plan.groups)
    )
    few = plan.few
    return DevicePlan(
        plan,
        steps,
        Span.of(plan.base, device),
        Span.of(few.queries, device) if few else None,
        torch.as_tensor(few.row, device=device) if few else None,
        torch.as_tensor(few.sees, device=device) if few else None,
        torch.as_tensor(few.atom, device=device) if few else None,
    )


def grouped_attention(
    attend: Attend,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    plan: DevicePlan,
    *,
    dim: int,
    out_dim: int,
    mask: Tensor | None = None,
    masks_work: bool,
) -> Tensor:
    """Attention in which every query sees the keys its group may see, equal to dense attention under the table.

    attend: runs one attention call. dim: the sequence axis of q, k, v (2 for (B, H, L, D), 1 for (B, L, C));
    out_dim: that of its result. mask: a mask that came with the call, (.., 1 or Lq, Lk), additive or boolean;
    its part for each group is handed on. masks_work: whether `attend` is known to honour masks; then the
    smallest groups share masked calls.
    """
    one_call = len(plan.steps) == 1 and plan.steps[0].sees_all
    if one_call:
        return attend(q, k, v, mask)
    out: Tensor | None = None
    joint_ran = not masks_work or plan.few is None

    def store(span: Span, result: Tensor) -> None:
        nonlocal out
        if out is None:
            shape = list(result.shape)
            shape[out_dim] = plan.plan.queries
            out = result.new_empty(shape)
        span.put(out, out_dim, result)

    shared: list[Step] = []
    for step in plan.steps:
        if step.joint and not joint_ran:
            continue
        if step.start is not None:
            shared.append(step)
            continue
        if step.sees_all:
            store(step.queries, attend(step.queries.take(q, dim), k, v, _rows(mask, step.queries)))
        else:
            part = _columns(_rows(mask, step.queries), (step.slot,))
            store(step.queries, attend(step.queries.take(q, dim), step.slot.take(k, dim), step.slot.take(v, dim), part))
    if not joint_ran:
        _few_queries(attend, q, k, v, plan, dim, mask, store)
    if shared:
        _shared_layout(attend, q, k, v, plan, shared, dim, mask, store)
    return out


def _shared_layout(attend, q, k, v, plan: DevicePlan, steps: list[Step], dim: int, mask, store) -> None:
    """Lay keys and values out once as [layers | slot]; each group fills the slot and attends a slice."""
    base = plan.base.count
    slot = max(step.slot.count for step in steps)
    keys, values = (_room(x, dim, base + slot) for x in (k, v))
    plan.base.copy(k, dim, keys.narrow(dim, 0, base))
    plan.base.copy(v, dim, values.narrow(dim, 0, base))
    for step in steps:
        count = step.slot.count
        if count:
            step.slot.copy(k, dim, keys.narrow(dim, base, count))
            step.slot.copy(v, dim, values.narrow(dim, base, count))
        length = base + count - step.start
        part = _columns(_rows(mask, step.queries), (plan.base, step.slot), step.start)
        store(
            step.queries,
            attend(
                step.queries.take(q, dim), keys.narrow(dim, step.start, length), values.narrow(dim, step.start, length), part
            ),
        )


def _room(x: Tensor, dim: int, length: int) -> Tensor:
    shape = list(x.shape)
    shape[dim] = length
    return x.new_empty(shape)


def _few_queries(attend, q, k, v, plan: DevicePlan, dim: int, mask, store) -> None:
    """All small groups over all keys, with a mask of just their rows, in calls of bounded size."""
    keys = plan.plan.keys
    # A mask of at most half the bytes of q, so the peak stays within one more copy of q, k, v and the output.
    rows = max(32, min(1024, q.numel() * q.element_size() // (2 * keys * 4)))
    queries = plan.few.index if plan.few.index is not None else torch.cat(
        [torch.arange(a, b, device=q.device) for a, b in plan.few.ranges]
    )
    for at in range(0, len(queries), rows):
        some = queries[at : at + rows]
        span = Span((), some, len(some))
        sees = plan.few_sees[plan.few_rows[at : at + rows].long()].index_select(1, plan.atom.long())
        bias = torch.zeros(sees.shape, dtype=q.dtype, device=q.device).masked_fill_(~sees, float("-inf"))
        incoming = _rows(mask, span)
        if incoming is not None:
            bias = bias + _additive(incoming, q.dtype)
        store(span, attend(span.take(q, dim), k, v, bias))


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, float("-inf"))


def _rows(mask: Tensor | None, queries: Span) -> Tensor | None:
    """A mask's rows for some queries; a mask of one row holds for all of them."""
    if mask is None or mask.shape[-2] == 1:
        return mask
    return queries.take(mask, mask.ndim - 2)


def _columns(mask: Tensor | None, spans: tuple[Span, ...], start: int = 0) -> Tensor | None:
    """A mask's columns in the order the keys are laid out."""
    if mask is None:
        return None
    parts = [span.take(mask, mask.ndim - 1) for span in spans if span.count]
    joined = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
    return joined.narrow(-1, start, joined.shape[-1] - start)
