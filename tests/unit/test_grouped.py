"""Grouped attention equals dense attention written independently, for any boxes, rules and sizes."""

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
from replan.attention.rules import PRESETS, Rules
from replan.planner.plan import Region, RegionPlan

torch.set_num_threads(2)


def plain(q, k, v, mask):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


@st.composite
def cases(draw):
    size = draw(st.tuples(st.integers(16, 600), st.integers(16, 600)))
    count = draw(st.one_of(st.integers(0, 6), st.integers(7, 40)))
    regions = []
    for i in range(count):
        x1 = draw(st.floats(0, size[0] - 4))
        y1 = draw(st.floats(0, size[1] - 4))
        x2 = draw(st.floats(x1 + 1, size[0] + 20))
        y2 = draw(st.floats(y1 + 1, size[1] + 20))
        regions.append(Region(f"r{i}", (x1, y1, x2, y2), "hint"))
    latent = draw(st.tuples(st.integers(2, 30), st.integers(2, 30)))
    edited = draw(st.one_of(st.none(), st.tuples(st.integers(2, 30), st.integers(2, 30))))
    spans = draw(st.sampled_from([(), ((1, 4),), ((0, 2), (5, 9))]))
    hints = tuple(draw(st.lists(st.integers(1, 70), min_size=count, max_size=count)))
    return dict(
        plan=RegionPlan(size, "g", regions),
        latent=latent,
        edited=edited,
        further=tuple(draw(st.lists(st.integers(1, 50), max_size=2))),
        main=draw(st.integers(10, 80)),
        spans=spans,
        hints=hints,
        preset=draw(st.sampled_from([name for name in PRESETS if name != "off"])),
        phase=draw(st.sampled_from(["before", "after"])),
        cached=draw(st.booleans()),
        masked=draw(st.sampled_from([None, "keys", "square"])),
        batch=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 2**31)),
    )


def both(case, masks_work):
    """The grouped result, and the reference's, for one drawn case."""
    plan, grid = case["plan"], Grid.of_latent(*case["latent"], 2)
    edited = None if case["edited"] is None else Grid.of_latent(*case["edited"], 2)
    layout = build_layout(
        region_ids=plan.ids,
        main_tokens=case["main"],
        image_spans=case["spans"],
        hint_tokens=case["hints"],
        noise_cover=cover(plan, grid),
        reference_tokens=(*([edited.tokens] if edited else []), *case["further"]),
        edited_reference=1 if edited else 0,
        edited_cover=cover(plan, edited) if edited else None,
    )
    rules = Rules(case["preset"])
    names = reference.tokens(
        plan.ids,
        case["main"],
        case["spans"],
        case["hints"],
        *(
            None
            if g is None
            else (
                g.rows,
                g.cols,
                {
                    r.id: reference.patches_of(r.box, plan.image_size, g.rows, g.cols, g.height, g.width)
                    for r in plan.regions
                },
            )
            for g in (grid, edited)
        ),
        case["further"],
    )
    assert len(names) == layout.tokens
    dense = reference.dense_mask(names, lambda q, k: reference.allowed(case["preset"], case["phase"], q, k))
    generator = torch.Generator().manual_seed(case["seed"])
    keys = layout.tokens
    queries = keys
    if case["cached"]:
        queries -= (edited.tokens if edited else 0) + sum(case["further"])

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    q, k, v = random(case["batch"], 2, queries, 8), random(case["batch"], 2, keys, 8), random(case["batch"], 2, keys, 8)
    bias = None
    if case["masked"]:
        rows = 1 if case["masked"] == "keys" else queries
        # A padding mask as the host makes it, that leaves everybody their own component's image tokens.
        bias = torch.zeros(case["batch"], 1, rows, keys)
        bias[..., : case["main"]] = torch.where(random(case["batch"], 1, rows, case["main"]) > 1, -1e4, 0.0)
    table = rules.table(layout.components, case["phase"])
    schedule = to_device(schedule_groups(layout, table, queries), q.device, masks_work)
    ours = grouped_attention(
        plain, q, k, v, schedule, dim=2, out_dim=1, mask=bias, masked=plain if masks_work else None
    )
    return ours, reference.attention(q, k, v, dense[:queries], bias)


@settings(max_examples=250, deadline=None)
@given(case=cases(), masks_work=st.booleans())
def test_grouped_attention_equals_the_dense_reference(case, masks_work):
    ours, expected = both(case, masks_work)
    assert (ours - expected).abs().max() < 1e-5


def layout_of(count, side, hint, overlap):
    """A square of side x side patches twice (noise and edited reference) with `count` boxes."""
    rng = np.random.default_rng(1)
    regions = []
    across = int(np.ceil(np.sqrt(count)))
    for i in range(count):
        if overlap:
            x, y = rng.uniform(0, 600, 2)
            box = (x, y, x + rng.uniform(150, 400), y + rng.uniform(150, 400))
        else:
            step = 1000 / across
            box = (
                i % across * step + 10,
                i // across * step + 10,
                (i % across + 0.8) * step,
                (i // across + 0.8) * step,
            )
        regions.append(Region(f"r{i}", box, "hint"))
    plan = RegionPlan((1000, 1000), "g", regions)
    grid = Grid(side, side, side, side)
    covered = cover(plan, grid)
    return build_layout(
        region_ids=plan.ids, main_tokens=256, image_spans=(), hint_tokens=(hint,) * count, noise_cover=covered,
        reference_tokens=(grid.tokens,), edited_reference=1, edited_cover=covered,
    )  # fmt: skip


def schedule_of(layout, preset="replan", phase="after", masked=True):
    table = Rules(preset).table(layout.components, phase)
    return to_device(schedule_groups(layout, table, layout.tokens), torch.device("cpu"), masked)


@pytest.mark.parametrize(("count", "overlap"), [(3, False), (16, False), (40, True)])
@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "off"])
def test_index_memory_stays_below_two_percent_of_a_dense_mask(count, overlap, preset):
    layout = layout_of(count, 46, 32, overlap)
    assert layout.tokens >= 4096
    assert schedule_of(layout, preset, "before").nbytes < 0.02 * layout.tokens**2


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "off"])
def test_where_masks_may_be_dropped_the_indices_of_many_groups_stay_below_a_tenth_of_a_copy(preset):
    """No group shares a masked call then, so each has an index of its keys. A copy is that of Flux in bf16."""
    layout = layout_of(40, 46, 32, True)
    copy = 4 * layout.tokens * 3072 * 2
    assert schedule_of(layout, preset, "before", masked=False).nbytes < 0.1 * copy


@pytest.mark.parametrize(("count", "overlap"), [(3, False), (16, False), (40, True)])
@pytest.mark.parametrize("preset", ["replan", "symmetric", "isolated_regions", "no_global_prompt", "local_first"])
@pytest.mark.parametrize("masked", [True, False])
def test_a_call_needs_at_most_one_more_copy_of_its_tensors(count, overlap, preset, masked):
    """Counts every tensor alive in the call by watching allocations of torch's CPU allocator."""
    layout = layout_of(count, 46, 32, overlap)
    schedule = schedule_of(layout, preset, "before", masked)
    q, k, v = (torch.randn(1, 2, layout.tokens, 32) for _ in range(3))
    own = 4 * q.numel() * 4
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as run:
        out = grouped_attention(plain, q, k, v, schedule, dim=2, out_dim=1, masked=plain if masked else None)
    live = peak = 0
    for event in run.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    assert out.shape == (1, layout.tokens, 64)
    # The output itself is the caller's; what is left is ours. Kernels' own scratch is counted in.
    assert peak - q.numel() * 4 < own * 1.02, f"{(peak - q.numel() * 4) / own:.2f} copies"


def test_queries_that_see_everything_are_one_plain_call():
    layout = layout_of(0, 8, 0, False)
    calls = []
    q = torch.randn(1, 1, layout.tokens, 8)
    grouped_attention(lambda *a: calls.append(a) or plain(*a), q, q, q, schedule_of(layout), dim=2, out_dim=1)
    assert len(calls) == 1
    assert calls[0][0] is q


def test_no_mask_is_ever_made_where_masks_may_be_dropped():
    layout = layout_of(40, 20, 8, True)
    masks = []
    schedule = schedule_of(layout, masked=False)
    q = torch.randn(1, 1, layout.tokens, 8)
    grouped_attention(lambda *a: masks.append(a[3]) or plain(*a), q, q, q, schedule, dim=2, out_dim=1)
    assert len(schedule.groups) > 60
    assert all(mask is None for mask in masks)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("preset", ["symmetric", "isolated_regions"])
def test_a_layer_sorts_nothing_and_looks_for_no_positions(preset, masked):
    """Bool tensors sort wrong on some devices (pytorch/torch-xpu-ops 1022), and every layer would do it again."""
    layout = layout_of(40, 20, 8, True)
    schedule = schedule_of(layout, preset, masked=masked)
    q = torch.randn(1, 1, layout.tokens, 8)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as run:
        for _ in range(2):
            grouped_attention(plain, q, q, q, schedule, dim=2, out_dim=1, masked=plain if masked else None)
    called = {event.key: event.count for event in run.key_averages()}
    assert called["aten::index_select"] >= 30  # some groups have their keys strewn, so there was something to look for
    assert not [name for name in called if any(word in name for word in ("sort", "nonzero", "unique", "topk"))]


def test_padding_sees_itself_alone_and_nobody_sees_it():
    """Tokens that fill up the text of rows with fewer hints than others in the same call."""
    plan = RegionPlan((64, 64), "g", [Region("r1", (0, 0, 30, 30), "hint")])
    grid = Grid(4, 4, 4, 4)
    layout = build_layout(
        region_ids=plan.ids, main_tokens=5, image_spans=(), hint_tokens=(3,), padding_tokens=6,
        noise_cover=cover(plan, grid), reference_tokens=(), edited_reference=0, edited_cover=None,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, layout.tokens, 8, generator=generator) for _ in range(3))
    filled = slice(8, 14)
    others = [i for i in range(layout.tokens) if not 8 <= i < 14]
    out = grouped_attention(plain, q, k, v, schedule_of(layout), dim=2, out_dim=1, masked=plain)
    bare = build_layout(
        region_ids=plan.ids, main_tokens=5, image_spans=(), hint_tokens=(3,), noise_cover=cover(plan, grid),
        reference_tokens=(), edited_reference=0, edited_cover=None,
    )  # fmt: skip
    q2, k2, v2 = (x[:, :, others] for x in (q, k, v))
    expected = grouped_attention(plain, q2, k2, v2, schedule_of(bare), dim=2, out_dim=1, masked=plain)
    assert (out[:, others] - expected).abs().max() < 1e-6
    alone = plain(q[:, :, filled], k[:, :, filled], v[:, :, filled], None)
    assert (out[:, filled] - alone).abs().max() < 1e-6
