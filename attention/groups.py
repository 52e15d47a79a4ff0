"""From a layout and a table to groups of queries, and where each group finds its keys.

Queries that see the same keys are one group and need no mask. Most groups see the same large core (all image
tokens, say) and differ in little, so keys and values are laid out once per call as

    [ outer layers | core | slot ]

where a group attends one slice that ends in the slot, after putting what else it sees there. What one call needs
is then one more copy of its keys and values, whatever the number of groups. Everything here is numbers; `grouped`
runs it on tensors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .components import Layout, unique_rows

# Groups with fewer queries than this share one masked call where masks are honoured: a kernel call of a few
# queries reads every key for them alone (measured by tools/bench.py on a CPU; see docs/benchmark.md).
FEW_QUERIES = 48
# A group joins the shared layout only if it sees at least this part of the core; else its keys are gathered.
_CORE_SHARE = 0.8


class Group(NamedTuple):
    """Queries (positions, ascending) that see the same keys.

    start: where its slice of the shared layout begins; slot: positions of the keys to put into the slot,
    ascending. start is None when the keys are gathered on their own; slot then holds all of them.
    sees_all: the group sees every key as it lies in the call, nothing to move.
    """

    queries: np.ndarray
    start: int | None
    slot: np.ndarray
    sees_all: bool = False


class FewQueries(NamedTuple):
    """The queries of all small groups, for masked calls: query i sees key j iff sees[row[i], atom[j]]."""

    queries: np.ndarray
    row: np.ndarray
    sees: np.ndarray
    atom: np.ndarray


class IndexPlan(NamedTuple):
    """How one attention call is split.

    groups: all groups, largest first; joint: which of them, by number, are in `few` (empty when few is None);
    base: positions of the keys of the shared layout before the slot, in its order; slot: the slot's length;
    queries, keys: the lengths this plan was made for.
    """

    groups: tuple[Group, ...]
    joint: frozenset[int]
    few: FewQueries | None
    base: np.ndarray
    slot: int
    queries: int
    keys: int


def plan_groups(layout: Layout, sees: np.ndarray, queries: int) -> IndexPlan:
    """Split the first `queries` tokens of a layout into groups under a component table (C, C).

    A query sees a key if any of its components may see any of the key's (union, spec 2.4). Fewer queries than
    keys happen when the host caches the keys of references.
    """
    keys = layout.tokens
    atom = layout.atom
    members = layout.members.astype(np.float32)
    atom_sees = (members @ sees.astype(np.float32) @ members.T) > 0
    sizes = np.bincount(atom, minlength=len(layout.members))
    asked = np.flatnonzero(np.bincount(atom[:queries], minlength=len(layout.members)))
    sets, set_of_asked = unique_rows(atom_sees[asked][:, sizes > 0])
    visible = np.zeros((len(sets), len(sizes)), dtype=bool)
    visible[:, sizes > 0] = sets
    set_of_atom = np.full(len(sizes), -1)
    set_of_atom[asked] = set_of_asked
    query_set = set_of_atom[atom[:queries]]
    counts = np.bincount(query_set, minlength=len(sets))

    order = np.argsort(-counts, kind="stable")
    small = {int(g) for g in order if counts[g] < FEW_QUERIES and not visible[g][sizes > 0].all()}
    if len(small) < 2:
        small = set()
    layers = _shared_layers(visible, sizes, [int(g) for g in order if not visible[g][sizes > 0].all()], counts)
    starts, base = _lay_out(layers, atom)
    by_position = np.argsort(query_set, kind="stable")
    bounds = np.concatenate(([0], np.cumsum(counts)))
    base_tokens = len(base)

    groups: list[Group] = []
    joint: set[int] = set()
    slot = 0
    for g in order:
        g = int(g)
        mine = by_position[bounds[g] : bounds[g + 1]]
        if visible[g][sizes > 0].all():
            groups.append(Group(mine, None, np.empty(0, dtype=np.int64), sees_all=True))
            continue
        group = _place(mine, visible[g], layers, starts, atom)
        if group.start is not None and len(group.slot) > max(base_tokens // 2, FEW_QUERIES):
            group = Group(mine, None, np.flatnonzero(visible[g][atom]))
        if group.start is not None:
            slot = max(slot, len(group.slot))
        if g in small:
            joint.add(len(groups))
        groups.append(group)

    few = None
    if joint:
        which = np.flatnonzero(np.isin(query_set, sorted(small)))
        rows = {g: i for i, g in enumerate(sorted(small))}
        row = np.array([rows[int(s)] for s in query_set[which]], dtype=np.int32)
        few = FewQueries(which, row, visible[sorted(small)], atom)
    return IndexPlan(tuple(groups), frozenset(joint), few, base, slot, queries, keys)


def _shared_layers(visible: np.ndarray, sizes: np.ndarray, order: list[int], counts: np.ndarray) -> list[np.ndarray]:
    """The layers of the shared layout, outermost first, as boolean rows over atoms; the last is the core.

    Inwards, each next group by size that still sees most of the core peels off what it does not see. Outwards,
    atoms that most of the remaining large groups have beyond the first layer are put in front of it.
    """
    if not order:
        return []
    core = visible[order[0]].copy()
    layers = [core]
    for g in order[1:]:
        inner = core & visible[g]
        if sizes[inner].sum() >= _CORE_SHARE * sizes[core].sum() and (inner != core).any():
            layers[-1] = core & ~inner
            layers.append(inner)
            core = inner
    first = visible[order[0]]
    beyond = [visible[g] & ~first for g in order[1:] if (visible[g] & first == first).all()]
    if len(beyond) > 1:
        share = np.mean(beyond, axis=0)
        outer = (share > 0.5) & (sizes > 0)
        if outer.any():
            layers.insert(0, outer)
    return [layer & (sizes > 0) for layer in layers]


def _lay_out(layers: list[np.ndarray], atom: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Where each layer starts in the shared layout, and the positions of its keys in order."""
    parts = [np.flatnonzero(layer[atom]) for layer in layers]
    starts = np.concatenate(([0], np.cumsum([len(part) for part in parts]))).astype(int)
    base = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    return starts.tolist(), base


def _place(queries: np.ndarray, visible: np.ndarray, layers: list[np.ndarray], starts: list[int], atom: np.ndarray) -> Group:
    """Give a group the longest slice of whole layers it sees, and the slot for the rest."""
    first = len(layers)
    while first > 0 and (visible | ~layers[first - 1]).all():
        first -= 1
    if first == len(layers):
        return Group(queries, None, np.flatnonzero(visible[atom]))
    rest = visible.copy()
    for layer in layers[first:]:
        rest &= ~layer
    return Group(queries, starts[first], np.flatnonzero(rest[atom]))
