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

# What a kernel call costs a group beside its own work, in queries over all keys; what copying a key costs, in
# queries over that key; and what a mask makes of a query's work. A group is joined with others in masked calls,
# where masks are honoured, if that is cheaper (fitted on a CPU with tools/bench.py; see docs/benchmark.md).
_CALL = 5.0
_COPY = 36.0
_MASKED = 1.3
# A group joins the shared layout only if it sees at least this part of the core; else its keys are gathered.
_CORE_SHARE = 0.8


class Group(NamedTuple):
    """Queries (positions, ascending) that see the same keys.

    start: where its slice of the shared layout begins; slot: the atoms whose keys go into the slot, boolean (A).
    start is None when the keys are gathered on their own; slot then holds all of them. sees_all: the group sees
    every key as it lies in the call, nothing to move. joined: its queries are in `FewQueries` too.
    """

    queries: np.ndarray
    start: int | None
    slot: np.ndarray
    sees_all: bool = False
    joined: bool = False


class FewQueries(NamedTuple):
    """The queries of all joined groups, group by group, for masked calls: query i sees key j iff sees[row[i], atom[j]].

    The rows of `sees` (joined groups, A) are in the order of the groups.
    """

    queries: np.ndarray
    row: np.ndarray
    sees: np.ndarray


class GroupSchedule(NamedTuple):
    """How one attention call is split.

    groups: all groups, largest first; few: the joined ones' queries, None without any; base: positions of the
    keys of the shared layout before the slot, in its order; atom: the atom of each key; queries, keys: the
    lengths this schedule was made for.
    """

    groups: tuple[Group, ...]
    few: FewQueries | None
    base: np.ndarray
    atom: np.ndarray
    queries: int
    keys: int


def schedule_groups(layout: Layout, sees: np.ndarray, queries: int) -> GroupSchedule:
    """Split the first `queries` tokens of a layout into groups under a component table (C, C).

    A query sees a key if any of its components may see any of the key's (union, as the published bitmask). Fewer
    queries than keys happen when ComfyUI caches the keys of references.
    """
    keys = layout.tokens
    atom = layout.atom
    members = layout.members.astype(np.float32)
    atom_sees = (members @ sees.astype(np.float32) @ members.T) > 0
    np.fill_diagonal(atom_sees, True)  # padding, which is of no component, sees itself
    sizes = np.bincount(atom, minlength=len(layout.members))
    asked = np.flatnonzero(np.bincount(atom[:queries], minlength=len(layout.members)))
    sets, set_of_asked = unique_rows(atom_sees[asked][:, sizes > 0])
    visible = np.zeros((len(sets), len(sizes)), dtype=bool)
    visible[:, sizes > 0] = sets
    set_of_atom = np.full(len(sizes), -1)
    set_of_atom[asked] = set_of_asked
    query_set = set_of_atom[atom[:queries]]
    counts = np.bincount(query_set, minlength=len(sets))

    order = [int(g) for g in np.argsort(-counts, kind="stable")]
    whole = visible[:, sizes > 0].all(axis=1)
    layers = _shared_layers(visible, sizes, [g for g in order if not whole[g]])
    starts, base = _lay_out(layers, atom)
    by_position = np.argsort(query_set, kind="stable")
    bounds = np.concatenate(([0], np.cumsum(counts)))

    groups: list[Group] = []
    joined: list[int] = []
    for g in order:
        mine = by_position[bounds[g] : bounds[g + 1]]
        if whole[g]:
            groups.append(Group(mine, None, np.zeros(len(sizes), dtype=bool), sees_all=True))
            continue
        start, slot = _place(visible[g], layers, starts)
        if start is not None and sizes[slot].sum() > max(len(base) // 2, 64):
            start, slot = None, visible[g]
        seen, copied = sizes[visible[g]].sum(), sizes[slot].sum()
        alone = len(mine) * seen + _CALL * keys + _COPY * copied
        joins = _MASKED * len(mine) * keys < alone
        if joins:
            joined.append(g)
        groups.append(Group(mine, start, slot, joined=joins))
    if len(joined) < 2:
        joined = []
        groups = [group._replace(joined=False) for group in groups]

    few = None
    if joined:
        which = np.concatenate([by_position[bounds[g] : bounds[g + 1]] for g in joined])
        few = FewQueries(which, np.repeat(np.arange(len(joined), dtype=np.int32), counts[joined]), visible[joined])
    return GroupSchedule(tuple(groups), few, base, atom, queries, keys)


def _shared_layers(visible: np.ndarray, sizes: np.ndarray, order: list[int]) -> list[np.ndarray]:
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


def _place(visible: np.ndarray, layers: list[np.ndarray], starts: list[int]) -> tuple[int | None, np.ndarray]:
    """Where the longest slice of whole layers that a group sees begins, and the atoms left for the slot."""
    first = len(layers)
    while first > 0 and (visible | ~layers[first - 1]).all():
        first -= 1
    if first == len(layers):
        return None, visible
    return starts[first], visible & ~np.any(layers[first:], axis=0)
