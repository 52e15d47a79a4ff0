"""Exact attention under a rule table, without a mask: one plain call per group of queries.

Works through whatever attention function it is handed (ComfyUI's kernel, or another pack's replacement), with
ComfyUI's calling convention: q, k, v as (B, H, L, D) when `skip_reshape`, else (B, L, H * D).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from .grouping import GroupSchedule

Tensor = torch.Tensor
# How the caller runs one attention: (q, k, v, mask or None) -> (B, L, H * D) or, as asked, (B, H, L, D).
Attend = Callable[[Tensor, Tensor, Tensor, "Tensor | None"], Tensor]

# Copying by ranges beats copying by index as long as the ranges are few.
_FEW_RANGES = 16


class Span(NamedTuple):
    """`count` positions along a sequence: as half-open ranges where they are few, else as an index."""

    count: int
    ranges: tuple[tuple[int, int], ...] = ()
    index: Tensor | None = None

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


def _ranges(positions: np.ndarray) -> tuple[tuple[int, int], ...] | None:
    """Positions, in the order they are wanted, as half-open ranges; None when that takes too many."""
    if len(positions) == 0:
        return ()
    breaks = np.flatnonzero(np.diff(positions) != 1) + 1
    if len(breaks) >= _FEW_RANGES:
        return None
    edges = np.concatenate(([0], breaks, [len(positions)]))
    return tuple((int(positions[a]), int(positions[b - 1]) + 1) for a, b in zip(edges[:-1], edges[1:], strict=True))


class DeviceGroup(NamedTuple):
    """One group on a device; see grouping.Group."""

    queries: Span
    start: int | None
    slot: Span
    sees_all: bool


class DeviceSchedule(NamedTuple):
    """A GroupSchedule on a device: what is kept between layers and steps, all of it made before the model runs.

    groups: those with calls of their own; few, few_rows, few_sees: the queries of joined ones, see
    grouping.FewQueries (few_rows on the CPU: a device would be waited for); atom: of each key.
    """

    queries: int
    keys: int
    groups: tuple[DeviceGroup, ...]
    base: Span
    few: Span | None
    few_rows: Tensor | None
    few_sees: Tensor | None
    atom: Tensor | None

    @property
    def nbytes(self) -> int:
        """Index memory kept between layers, in bytes (views of one tensor counted once)."""
        spans = [self.base, *(span for group in self.groups for span in (group.queries, group.slot))]
        spans += [] if self.few is None else [self.few]
        tensors = [span.index for span in spans] + [self.few_rows, self.few_sees, self.atom]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t is not None}
        return sum(storages.values()) + sum(16 * len(span.ranges) for span in spans)


def to_device(schedule: GroupSchedule, device: torch.device, masked: bool) -> DeviceSchedule:
    """Put a schedule's positions on `device`.

    masked: the joined groups run in masked calls; else they are groups like all others, and the positions of their
    keys are kept too.
    """
    few = schedule.few if masked else None
    alone = [group for group in schedule.groups if not (few and group.joined)]
    spans = _spans([group.queries for group in alone], device, torch.int64)
    slots = _spans([np.flatnonzero(group.slot[schedule.atom]) for group in alone], device, torch.int32)
    groups = [
        DeviceGroup(queries, group.start, slot, group.sees_all)
        for group, queries, slot in zip(alone, spans, slots, strict=True)
    ]
    return DeviceSchedule(
        schedule.queries,
        schedule.keys,
        tuple(groups),
        _spans([schedule.base], device, torch.int32)[0],
        Span(len(few.queries), index=torch.as_tensor(few.queries, device=device)) if few else None,
        torch.as_tensor(few.row) if few else None,
        torch.as_tensor(few.sees, device=device) if few else None,
        torch.as_tensor(schedule.atom, dtype=torch.int32, device=device) if few else None,
    )


def _spans(positions: list[np.ndarray], device: torch.device, dtype: torch.dtype) -> list[Span]:
    """A Span of each; the indices among them are parts of one tensor, moved to the device at once."""
    ranges = [_ranges(some) for some in positions]
    listed = [some for some, found in zip(positions, ranges, strict=True) if found is None]
    index = torch.as_tensor(np.concatenate(listed or [np.empty(0)]), dtype=dtype, device=device)
    parts = iter(index.split([len(some) for some in listed]))
    return [
        Span(len(some), found) if found is not None else Span(len(some), index=next(parts))
        for some, found in zip(positions, ranges, strict=True)
    ]


def grouped_attention(
    attend: Attend,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    schedule: DeviceSchedule,
    *,
    dim: int,
    out_dim: int,
    mask: Tensor | None = None,
    masked: Attend | None = None,
) -> Tensor:
    """Attention in which every query sees the keys its group may see, equal to dense attention under the table.

    attend: runs one attention call. dim: the sequence axis of q, k, v (2 for (B, H, L, D), 1 for (B, L, C));
    out_dim: that of its result. mask: a mask that came with the call, (.., 1 or Lq, Lk), additive or boolean;
    its part for each group is handed on. masked: runs a call whose mask must be honoured, for a schedule with joined
    groups.
    """
    if len(schedule.groups) == 1 and schedule.groups[0].sees_all and schedule.few is None:
        return attend(q, k, v, mask)
    out: Tensor | None = None

    def store(span: Span, result: Tensor) -> None:
        nonlocal out
        if out is None:
            shape = list(result.shape)
            shape[out_dim] = schedule.queries
            out = result.new_empty(shape)
        span.put(out, out_dim, result)

    shared: list[DeviceGroup] = []
    for group in schedule.groups:
        if group.start is not None:
            shared.append(group)
            continue
        rows = _rows(mask, group.queries)
        if group.sees_all:
            store(group.queries, attend(group.queries.take(q, dim), k, v, rows))
        else:
            keys = group.slot
            part = _columns(rows, (keys,))
            store(group.queries, attend(group.queries.take(q, dim), keys.take(k, dim), keys.take(v, dim), part))
    if schedule.few is not None:
        _few_queries(masked, q, k, v, schedule, dim, mask, store)
    if shared:
        _shared_layout(attend, q, k, v, schedule, shared, dim, mask, store)
    return out


def _shared_layout(attend, q, k, v, schedule: DeviceSchedule, groups: list[DeviceGroup], dim: int, mask, store) -> None:
    """Lay keys and values out once as [layers | slot]; each group fills the slot and attends a slice."""
    base = schedule.base.count
    slot = max(group.slot.count for group in groups)
    keys, values = (_room(x, dim, base + slot) for x in (k, v))
    schedule.base.copy(k, dim, keys.narrow(dim, 0, base))
    schedule.base.copy(v, dim, values.narrow(dim, 0, base))
    for group in groups:
        count = group.slot.count
        if count:
            group.slot.copy(k, dim, keys.narrow(dim, base, count))
            group.slot.copy(v, dim, values.narrow(dim, base, count))
        length = base + count - group.start
        part = _columns(_rows(mask, group.queries), (schedule.base, group.slot), group.start)
        store(
            group.queries,
            attend(
                group.queries.take(q, dim),
                keys.narrow(dim, group.start, length),
                values.narrow(dim, group.start, length),
                part,
            ),
        )


def _room(x: Tensor, dim: int, length: int) -> Tensor:
    shape = list(x.shape)
    shape[dim] = length
    return x.new_empty(shape)


def _few_queries(masked, q, k, v, schedule: DeviceSchedule, dim: int, mask, store) -> None:
    """All small groups over all keys, with a mask of just their rows, in calls of bounded size."""
    keys = schedule.keys
    # A mask of at most half the bytes of q, so the peak stays within one more copy of q, k, v and the output.
    rows = max(32, min(1024, q.numel() * q.element_size() // (2 * keys * 4)))
    table = torch.zeros(schedule.few_sees.shape, dtype=q.dtype, device=q.device).masked_fill_(
        ~schedule.few_sees, float("-inf")
    )
    for at in range(0, schedule.few.count, rows):
        some = schedule.few.index[at : at + rows]
        span = Span(len(some), index=some)
        # The few groups here are spread over the keys once, then repeated whole for each of their queries.
        row = schedule.few_rows[at : at + rows]
        first, last = int(row[0]), int(row[-1]) + 1
        bias = table[first:last].index_select(1, schedule.atom).index_select(0, (row - first).to(q.device))
        incoming = _rows(mask, span)
        if incoming is not None:
            bias = bias + _additive(incoming, q.dtype)
        store(span, masked(span.take(q, dim), k, v, bias))


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
