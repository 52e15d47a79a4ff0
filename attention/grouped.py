"""Exact attention under a rule table, without a mask: one plain call per group of queries.

Works through whatever attention function it is handed (the host's kernel, or another pack's replacement), with
the host's calling convention: q, k, v as (B, H, L, D) when `skip_reshape`, else (B, L, H * D).
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
    """`count` positions along a sequence: as ranges where they are few; as an index; or as the atoms they are of.

    atoms (boolean, A) and atom (int, L) stand for the positions whose atom is in `atoms`, ascending; they are worked
    out when needed, because one index for each of hundreds of groups would be as large as a mask.
    """

    count: int
    ranges: tuple[tuple[int, int], ...] = ()
    index: Tensor | None = None
    atoms: Tensor | None = None
    atom: Tensor | None = None

    def resolved(self) -> Span:
        """The same positions as ranges or as an index."""
        if self.atoms is None:
            return self
        inside = self.atoms[self.atom.long()]
        if inside.device.type == "cpu":
            return Span(self.count, index=inside.nonzero().squeeze(1))
        # The number of positions is known, so a stable sort finds them without waiting for the device.
        return Span(self.count, index=torch.argsort(~inside, stable=True)[: self.count])

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
    joint: bool


class DeviceSchedule(NamedTuple):
    """A GroupSchedule on a device: what is kept between layers and steps."""

    queries: int
    keys: int
    groups: tuple[DeviceGroup, ...]
    base: Span
    few: Span | None
    few_rows: Tensor | None
    few_sees: Tensor | None
    atom: Tensor

    @property
    def nbytes(self) -> int:
        """Index memory kept between layers, in bytes (views of one tensor counted once)."""
        spans = [self.base, *(span for group in self.groups for span in (group.queries, group.slot))]
        spans += [] if self.few is None else [self.few]
        tensors = [t for span in spans for t in (span.index, span.atoms) if t is not None]
        tensors += [t for t in (self.few_rows, self.few_sees, self.atom) if t is not None]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        return sum(storages.values()) + sum(16 * len(span.ranges) for span in spans)


def to_device(schedule: GroupSchedule, device: torch.device) -> DeviceSchedule:
    """Put a schedule's positions on `device`."""
    atom = torch.as_tensor(schedule.atom, dtype=torch.int32, device=device)
    # One tensor for all groups' queries and one for all scattered slots; a group's index is a part of it.
    order = torch.as_tensor(
        np.concatenate([group.queries for group in schedule.groups]), dtype=torch.int64, device=device
    )
    keys = [np.flatnonzero(group.slot[schedule.atom]) for group in schedule.groups]
    slot_ranges = [_ranges(positions) for positions in keys]
    few = schedule.few
    few_sees = torch.as_tensor(few.sees, device=device) if few else None
    # A joined group whose keys are gathered has its atoms among the rows of `few_sees` already.
    row_of = {i: row for row, i in enumerate(i for i, group in enumerate(schedule.groups) if group.joint)}
    shared = {i for i in row_of if slot_ranges[i] is None and schedule.groups[i].start is None}
    scattered = [i for i, found in enumerate(slot_ranges) if found is None and i not in shared]
    atoms = torch.as_tensor(np.array([schedule.groups[i].slot for i in scattered], dtype=bool), device=device)
    slots = {i: Span(len(keys[i]), atoms=atoms[row], atom=atom) for row, i in enumerate(scattered)}
    slots |= {i: Span(len(keys[i]), atoms=few_sees[row_of[i]], atom=atom) for i in shared}
    groups, at = [], 0
    for i, group in enumerate(schedule.groups):
        count, ranges = len(group.queries), _ranges(group.queries)
        queries = Span(count, index=order[at : at + count]) if ranges is None else Span(count, ranges)
        slot = slots.get(i) or Span(len(keys[i]), slot_ranges[i])
        groups.append(DeviceGroup(queries, group.start, slot, group.sees_all, group.joint))
        at += count
    ranges = _ranges(schedule.base)
    index = torch.as_tensor(schedule.base, device=device) if ranges is None else None
    base = Span(len(schedule.base), ranges or (), index)
    return DeviceSchedule(
        schedule.queries,
        schedule.keys,
        tuple(groups),
        base,
        Span(len(few.queries), index=torch.as_tensor(few.queries, device=device)) if few else None,
        torch.as_tensor(few.row) if few else None,  # stays here: a device would be waited for
        few_sees,
        atom,
    )


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
    masks_work: bool,
) -> Tensor:
    """Attention in which every query sees the keys its group may see, equal to dense attention under the table.

    attend: runs one attention call. dim: the sequence axis of q, k, v (2 for (B, H, L, D), 1 for (B, L, C));
    out_dim: that of its result. mask: a mask that came with the call, (.., 1 or Lq, Lk), additive or boolean;
    its part for each group is handed on. masks_work: whether `attend` is known to honour masks; then the
    smallest groups share masked calls.
    """
    one_call = len(schedule.groups) == 1 and schedule.groups[0].sees_all
    if one_call:
        return attend(q, k, v, mask)
    out: Tensor | None = None
    joint_ran = not masks_work or schedule.few is None

    def store(span: Span, result: Tensor) -> None:
        nonlocal out
        if out is None:
            shape = list(result.shape)
            shape[out_dim] = schedule.queries
            out = result.new_empty(shape)
        span.put(out, out_dim, result)

    shared: list[DeviceGroup] = []
    for group in schedule.groups:
        if group.joint and not joint_ran:
            continue
        if group.start is not None:
            shared.append(group)
            continue
        if group.sees_all:
            store(group.queries, attend(group.queries.take(q, dim), k, v, _rows(mask, group.queries)))
        else:
            keys = group.slot.resolved()
            part = _columns(_rows(mask, group.queries), (keys,))
            store(group.queries, attend(group.queries.take(q, dim), keys.take(k, dim), keys.take(v, dim), part))
    if not joint_ran:
        _few_queries(attend, q, k, v, schedule, dim, mask, store)
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
        rest = group.slot.resolved()
        if count:
            rest.copy(k, dim, keys.narrow(dim, base, count))
            rest.copy(v, dim, values.narrow(dim, base, count))
        length = base + count - group.start
        part = _columns(_rows(mask, group.queries), (schedule.base, rest), group.start)
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


def _few_queries(attend, q, k, v, schedule: DeviceSchedule, dim: int, mask, store) -> None:
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
