"""Grouped attention in the other layouts the host calls it with, and under any table of rules."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.attention.components import build_layout
from replan.attention.grid import Grid, cover
from replan.attention.grouped import grouped_attention, to_device
from replan.attention.grouping import schedule_groups
from replan.attention.rules import Rules
from replan.planner.plan import Region, RegionMask, RegionPlan

HEADS, WIDTH = 2, 8
IMAGE = (320, 240)


def attend(dim, out_dim):
    """Plain attention with the sequence on axis `dim` of q, k, v ((B, H, L, D) or (B, L, H * D)), `out_dim` after."""

    def run(q, k, v, mask):
        if dim == 1:
            q, k, v = (x.unflatten(2, (HEADS, WIDTH)).transpose(1, 2) for x in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out if out_dim == 2 else out.transpose(1, 2).flatten(2)

    return run


def layout_and_names(plan, side, main, spans, hints, further, inactive=frozenset()):
    """The pack's layout of a call and the reference's names of its tokens. An inactive region covers no patch."""
    grid = Grid.of_latent(side, side + 3, 2)
    covered = cover(plan, grid)
    covered[sorted(inactive)] = False
    layout = build_layout(
        region_ids=plan.ids, main_tokens=main, image_spans=spans, hint_tokens=hints, noise_cover=covered,
        reference_tokens=(grid.tokens, *further), edited_reference=1, edited_cover=covered.copy(),
    )  # fmt: skip
    inside = {}
    for i, region in enumerate(plan.regions):
        patches = reference.patches_of(region.box, plan.image_size, grid.rows, grid.cols, grid.height, grid.width)
        if region.mask is not None:
            patches &= touched(region.mask.to_array(), region.box, plan.image_size, grid)
        inside[region.id] = set() if i in inactive else patches
    at = (grid.rows, grid.cols, inside)
    names = reference.tokens(plan.ids, main, spans, hints, at, at, further)
    assert len(names) == layout.tokens
    return layout, names


def touched(mask, box, image_size, grid):
    """Patches (r, c) in which lies some set cell, touched by the box, of a mask stretched over the image."""
    rows, cols = mask.shape
    found = set()
    for y, x in reference.patches_of(box, image_size, rows, cols, rows, cols):
        if mask[y, x]:
            cell = (x, y, x + 1, y + 1)
            found |= reference.patches_of(cell, (cols, rows), grid.rows, grid.cols, grid.height, grid.width)
    return found


def compare(layout, dense, table, *, dim=2, out_dim=1, bias=None, masks_work=True, cached=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    queries = layout.tokens - cached
    q, k, v = (torch.randn(2, HEADS, n, WIDTH, generator=generator) for n in (queries, layout.tokens, layout.tokens))
    expected = reference.attention(q, k, v, dense[:queries], bias)
    if out_dim == 2:
        expected = expected.unflatten(2, (HEADS, WIDTH)).transpose(1, 2)
    schedule = to_device(schedule_groups(layout, table, queries), q.device, masks_work)
    if dim == 1:
        q, k, v = (x.transpose(1, 2).flatten(2) for x in (q, k, v))
    ours = grouped_attention(
        attend(dim, out_dim), q, k, v, schedule, dim=dim, out_dim=out_dim, mask=bias,
        masked=attend(dim, out_dim) if masks_work else None,
    )  # fmt: skip
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() < 1e-5


def scattered(count, seed=3):
    """A plan of overlapping boxes, so that all ways of finding keys occur: ranges, indices, shared rows."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform((0, 0), (250, 180), (count, 2))
    sizes = rng.uniform(20, 200, (count, 2))
    return RegionPlan(
        IMAGE,
        "g",
        [
            Region(f"r{i}", (x, y, x + w, y + h), "hint")
            for i, ((x, y), (w, h)) in enumerate(zip(corners, sizes, strict=True))
        ],
    )


@pytest.mark.parametrize("dim", [1, 2], ids=["tokens-first", "heads-first"])
@pytest.mark.parametrize("out_dim", [1, 2], ids=["joined", "heads-kept"])
@pytest.mark.parametrize("masks_work", [True, False])
@pytest.mark.parametrize("masked", [None, "keys", "square"])
@pytest.mark.parametrize("count", [2, 20])
def test_every_layout_of_the_hosts_calls_gives_the_reference(dim, out_dim, masks_work, masked, count):
    """`skip_reshape` False hands q, k, v over as (B, L, H * D); `skip_output_reshape` True wants (B, H, L, D) back."""
    plan = scattered(count)
    layout, names = layout_and_names(plan, 24, 30, ((2, 6),), tuple(range(4, 4 + count)), (7,))
    dense = reference.dense_mask(names, lambda q, k: reference.allowed("replan", "after", q, k))
    bias = None
    if masked:
        bias = torch.zeros(2, 1, 1 if masked == "keys" else layout.tokens, layout.tokens)
        bias[..., :30] = torch.where(
            torch.randn(bias[..., :30].shape, generator=torch.Generator().manual_seed(1)) > 1, -1e4, 0.5
        )
    compare(
        layout,
        dense,
        Rules().table(layout.components, "after"),
        dim=dim,
        out_dim=out_dim,
        bias=bias,
        masks_work=masks_work,
    )


@st.composite
def tables(draw):
    """A plan with masks and inactive regions, and a table of any booleans over its components with the diagonal on."""
    count = draw(st.integers(0, 8))
    regions = []
    for i in range(count):
        x, y = draw(st.integers(0, 300)), draw(st.integers(0, 220))
        box = (x, y, x + draw(st.integers(10, 200)), y + draw(st.integers(10, 160)))
        mask = None
        if draw(st.booleans()):
            cells = np.random.default_rng(draw(st.integers(0, 2**31))).random((6, 8)) > 0.6
            # At least where the box is, so that the region has a patch.
            cells[min(y * 6 // IMAGE[1], 5), min(x * 8 // IMAGE[0], 7)] = True
            mask = RegionMask.from_array(cells.astype(float))
        regions.append(Region(f"r{i}", box, "hint", mask=mask))
    spans = draw(st.sampled_from([(), ((1, 4),)]))
    return dict(
        plan=RegionPlan(IMAGE, "g", regions),
        side=draw(st.integers(2, 24)),
        main=draw(st.integers(5, 40)),
        spans=spans,
        hints=tuple(draw(st.lists(st.integers(1, 40), min_size=count, max_size=count))),
        further=tuple(draw(st.lists(st.integers(1, 30), max_size=2))),
        inactive=frozenset(i for i in range(count) if draw(st.sampled_from([True, False, False]))),
        density=draw(st.sampled_from([0.1, 0.5, 0.9])),
        seed=draw(st.integers(0, 2**31)),
        masks_work=draw(st.booleans()),
        dim=draw(st.sampled_from([1, 2])),
        cached=draw(st.booleans()),
    )


@settings(max_examples=150, deadline=None)
@given(case=tables())
def test_any_table_of_rules_with_masks_and_inactive_regions_gives_the_reference(case):
    layout, names = layout_and_names(
        *(case[key] for key in ("plan", "side", "main", "spans", "hints", "further", "inactive"))
    )
    keys = [part.key for part in layout.components]
    table = np.random.default_rng(case["seed"]).random((len(keys), len(keys))) < case["density"]
    np.fill_diagonal(table, True)
    number = {key: i for i, key in enumerate(keys)}
    dense = reference.dense_mask(names, lambda q, k: bool(table[number[q], number[k]]))
    cached = sum(case["further"]) if case["cached"] else 0
    compare(layout, dense, table, dim=case["dim"], masks_work=case["masks_work"], cached=cached, seed=case["seed"])


@pytest.mark.parametrize("masks_work", [True, False])
@pytest.mark.parametrize(("count", "overlap"), [(3, False), (40, True)])
def test_a_call_with_a_square_mask_of_its_own_needs_one_more_copy_and_the_masks_parts(masks_work, count, overlap):
    """A square mask is L x L as it comes; on top of one more copy of q, k, v and the output a call may hold one
    group's rows and columns of it (twice: as taken, and in the kernel's own terms), never a second whole mask."""
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 600, (count, 2)) if overlap else np.array([(i * 330, i * 330) for i in range(count)])
    plan = RegionPlan(
        (1000, 1000), "g", [Region(f"r{i}", (x, y, x + 300, y + 300), "hint") for i, (x, y) in enumerate(corner)]
    )
    grid = Grid(32, 32, 32, 32)
    covered = cover(plan, grid)
    layout = build_layout(
        region_ids=plan.ids, main_tokens=128, image_spans=(), hint_tokens=(16,) * count, noise_cover=covered,
        reference_tokens=(grid.tokens,), edited_reference=1, edited_cover=covered,
    )  # fmt: skip
    table = Rules().table(layout.components, "after")
    schedule = to_device(schedule_groups(layout, table, layout.tokens), torch.device("cpu"), masks_work)
    q, k, v = (torch.randn(1, HEADS, layout.tokens, 32) for _ in range(3))
    bias = torch.zeros(1, 1, layout.tokens, layout.tokens)
    plain = attend(2, 1)
    largest = max(group.queries.count for group in schedule.groups)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as run:
        grouped_attention(plain, q, k, v, schedule, dim=2, out_dim=1, mask=bias, masked=plain if masks_work else None)
    live = peak = 0
    for event in run.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    copies = 4 * q.numel() * 4
    assert peak - q.numel() * 4 < copies * 1.02 + 2.1 * largest * layout.tokens * 4
