"""Attention under region rules beside its alternatives, on random q, k, v: time, memory and agreement.

`plain_no_hints` is what the model did before there were hints, `plain` sees all tokens and follows no rule,
`grouped` is the pack's, `grouped_no_masks` the same where a kernel cannot be trusted with masks, `dense` one boolean
mask through torch's attention, `flex` torch's FlexAttention with a block mask, `varlen` all groups in one launch of
torch's attention for sequences of many lengths (tools/gpu_check.py asks for it: it runs on CUDA only).
"""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from bench_timing import Clock, take_turns, transient_bytes
from replan.attention.components import Layout, build_layout
from replan.attention.grid import Grid, cover
from replan.attention.grouped import DeviceSchedule, grouped_attention, to_device
from replan.attention.grouping import schedule_groups
from replan.attention.rules import Rules
from replan.planner.plan import Region, RegionPlan

MIB = 2**20
IMAGE = (1000, 1000)


class Case(NamedTuple):
    """One attention call: `side` x `side` patches of noise and as many of a reference, the main text, the hints."""

    side: int
    regions: int
    overlap: bool
    hint: int
    main: int

    @property
    def tokens(self) -> int:
        return 2 * self.side**2 + self.main + self.regions * self.hint


class Shape(NamedTuple):
    """What else an attention call has."""

    heads: int
    width: int
    dtype: torch.dtype
    device: torch.device


def make_plan(count: int, overlap: bool) -> RegionPlan:
    """`count` regions: in a grid without touching, or large ones strewn so that most overlap (the same each time)."""
    rng = np.random.default_rng(1)
    across = int(np.ceil(np.sqrt(count)))
    step = IMAGE[0] / across
    regions = []
    for i in range(count):
        if overlap:
            x, y = rng.uniform(0, 0.6 * IMAGE[0], 2)
            box = (x, y, x + rng.uniform(150, 400), y + rng.uniform(150, 400))
        else:
            x, y = i % across * step, i // across * step
            box = (x + 0.05 * step, y + 0.05 * step, x + 0.8 * step, y + 0.8 * step)
        regions.append(Region(f"r{i + 1}", tuple(map(float, box)), "hint"))
    return RegionPlan(IMAGE, "", regions)


def make_layout(case: Case) -> Layout:
    plan = make_plan(case.regions, case.overlap)
    grid = Grid(case.side, case.side, case.side, case.side)
    covered = cover(plan, grid)
    return build_layout(
        region_ids=plan.ids, main_tokens=case.main, image_spans=(), hint_tokens=(case.hint,) * case.regions,
        noise_cover=covered, reference_tokens=(grid.tokens,), edited_reference=1, edited_cover=covered,
    )  # fmt: skip


def attend(q, k, v, mask=None):
    """The host's attention_pytorch: (B, H, L, D) in, (B, L, H * D) out."""
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).reshape(q.shape[0], q.shape[2], -1)


# FlexAttention


def flex_method(atom: torch.Tensor, atom_sees: torch.Tensor, q, k, v) -> Callable[[], torch.Tensor]:
    """FlexAttention with a block mask, compiled for this length: token i sees token j iff atom_sees[atom[i], atom[j]].

    One kernel for all lengths (`dynamic`) does not compile on a CPU, or writes where it must not (torch 2.11).
    """
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    length = len(atom)
    block_mask = create_block_mask(
        lambda b, h, i, j: atom_sees[atom[i], atom[j]], None, None, length, length, device=q.device
    )
    torch.compiler.reset()
    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda: compiled(q, k, v, block_mask=block_mask).transpose(1, 2).reshape(1, length, -1)


@torch.no_grad()
def run_flex(tokens: int, heads: int, width: int, dtype: str, device: str) -> None:
    q, k, v = (torch.randn(1, heads, tokens, width, dtype=getattr(torch, dtype), device=device) for _ in range(3))
    atom = torch.zeros(tokens, dtype=torch.int64, device=device)
    flex_method(atom, torch.ones(1, 1, dtype=torch.bool, device=device), q, k, v)()


@functools.cache
def flex_problem(tokens: int, shape: Shape, limit: float) -> str | None:
    """Why FlexAttention cannot be used here at this length, or None when it can.

    Tried in a process of its own, which may crash or be ended after `limit` seconds; torch keeps on disk what it
    compiled, so that it is a short matter in this one then.
    """
    arguments = (tokens, shape.heads, shape.width, str(shape.dtype).removeprefix("torch."), str(shape.device))
    tools = str(Path(__file__).resolve().parent)
    code = (
        f"import sys; sys.path.insert(0, {tools!r}); import bench; bench.import_pack(); "
        f"import torch; torch.set_num_threads({torch.get_num_threads()}); "
        f"import bench_attention; bench_attention.run_flex(*{arguments!r})"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return f"torch had not compiled it after {limit:.0f} s"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if "Error" in line]
    return lines[-1][:200] if lines else f"it ended with status {done.returncode}"


# Variable-length attention


class Packed(NamedTuple):
    """Queries that see the same keys are one sequence: the tokens of all, one sequence after the other.

    queries, keys: token numbers; query_ends, key_ends: int32, where each sequence ends, from 0.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    query_ends: torch.Tensor
    key_ends: torch.Tensor


def pack_groups(atom: torch.Tensor, atom_sees: torch.Tensor) -> Packed:
    sets, group = torch.unique(atom_sees, dim=0, return_inverse=True)
    token_group = group[atom]
    queries = [(token_group == number).nonzero()[:, 0] for number in range(len(sets))]
    keys = [sees[atom].nonzero()[:, 0] for sees in sets]

    def ends(parts: list[torch.Tensor]) -> torch.Tensor:
        sizes = torch.tensor([0, *map(len, parts)])
        return sizes.cumsum(0).to(atom.device, torch.int32)

    return Packed(torch.cat(queries), torch.cat(keys), ends(queries), ends(keys))


def varlen_method(atom: torch.Tensor, atom_sees: torch.Tensor, q, k, v, kernel=None) -> Callable[[], torch.Tensor]:
    """One launch for all groups; each group's keys are copied, so its memory grows with their number.

    kernel: torch's varlen_attn, or one of its form: (tokens, H, D) thrice, ends, the longest sequences.
    """
    if kernel is None:
        from torch.nn.attention.varlen import varlen_attn as kernel
    packed = pack_groups(atom, atom_sees)
    longest = [int(ends.diff().max()) for ends in (packed.query_ends, packed.key_ends)]

    def call() -> torch.Tensor:
        rows = [
            x[0].index_select(1, at).transpose(0, 1)
            for x, at in ((q, packed.queries), (k, packed.keys), (v, packed.keys))
        ]
        found = kernel(*rows, packed.query_ends, packed.key_ends, *longest)
        out = torch.empty_like(found)
        out[packed.queries] = found
        return out.reshape(1, len(atom), -1)

    return call


# One case


@torch.no_grad()
def measure(
    case: Case, shape: Shape, clock: Clock, rounds: int, limit: float, flex: bool, no_masks: bool, varlen=False
) -> dict:
    """One row of the results: seconds (medians), ratios (medians over rounds), memory, largest difference."""
    begun = time.perf_counter()
    layout = make_layout(case)
    table = Rules().table(layout.components, "after")
    groups = schedule_groups(layout, table, layout.tokens)
    schedule = to_device(groups, shape.device, masked=True)
    index_seconds = time.perf_counter() - begun

    members = layout.members.astype(np.float32)
    atom_sees = torch.as_tensor((members @ table.astype(np.float32) @ members.T) > 0, device=shape.device)
    atom = torch.as_tensor(layout.atom, dtype=torch.int64, device=shape.device)
    dense_mask = atom_sees[atom][:, atom]

    generator = torch.Generator(shape.device).manual_seed(0)

    def random(tokens: int) -> torch.Tensor:
        size = (1, shape.heads, tokens, shape.width)
        return torch.randn(size, generator=generator, device=shape.device, dtype=shape.dtype)

    q, k, v = (random(layout.tokens) for _ in range(3))
    fewer = [random(layout.tokens - case.regions * case.hint) for _ in range(3)]

    def grouped(schedule: DeviceSchedule) -> torch.Tensor:
        return grouped_attention(attend, q, k, v, schedule, dim=2, out_dim=1, masked=attend)

    calls: dict[str, Callable[[], torch.Tensor]] = {
        "plain_no_hints": lambda: attend(*fewer),
        "plain": lambda: attend(q, k, v),
        "grouped": lambda: grouped(schedule),
        "dense": lambda: attend(q, k, v, dense_mask),
    }
    if no_masks and schedule.few is not None:
        unmasked = to_device(groups, shape.device, masked=False)
        calls["grouped_no_masks"] = lambda: grouped(unmasked)
    if flex:
        calls["flex"] = flex_method(atom, atom_sees, q, k, v)
    if varlen:
        calls["varlen"] = varlen_method(atom, atom_sees, q, k, v)
    expected = calls["dense"]()
    error = max((calls[name]() - expected).abs().max().item() for name in calls if "plain" not in name)
    del expected
    ran = take_turns({name: (lambda call=call: clock(call)) for name, call in calls.items()}, rounds, limit)
    extra = {name: transient_bytes(calls[name], shape.device) for name in ("plain", "grouped", "dense")}
    return {
        "tokens": layout.tokens,
        "image_tokens": 2 * case.side**2,
        "main_tokens": case.main,
        "hint_tokens": case.hint,
        "regions": case.regions,
        "overlap": case.overlap,
        "groups": len(groups.groups),
        "few_queries": 0 if schedule.few is None else schedule.few.count,
        "heads": shape.heads,
        "head_dim": shape.width,
        "rounds": ran.count,
        **{
            name: ran.median(name)
            for name in ("plain_no_hints", "plain", "grouped", "grouped_no_masks", "dense", "flex", "varlen")
        },
        "ratios": {
            "grouped/plain": ran.ratio("grouped", "plain"),
            "grouped_no_masks/plain": ran.ratio("grouped_no_masks", "plain"),
            "dense/plain": ran.ratio("dense", "plain"),
            "flex/plain": ran.ratio("flex", "plain"),
            "varlen/plain": ran.ratio("varlen", "plain"),
            "dense/grouped": ran.ratio("dense", "grouped"),
            "plain/plain_no_hints": ran.ratio("plain", "plain_no_hints"),
            "grouped/plain_no_hints": ran.ratio("grouped", "plain_no_hints"),
        },
        "plain_extra_mib": extra["plain"] / MIB,
        "grouped_extra_mib": extra["grouped"] / MIB,
        "dense_extra_mib": extra["dense"] / MIB,
        "one_copy_mib": 4 * q.numel() * q.element_size() / MIB,
        "kept_index_bytes": schedule.nbytes,
        "kept_dense_bytes": dense_mask.numel(),
        "index_seconds": index_seconds,
        "largest_difference": error,
    }
