"""Region masks: which pixels and patches a region covers, the background, and soft edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.planner.pictures.masks import region_masks, soften
from replan.planner.plan import PlanError, Region, RegionMask, RegionPlan
from replan.planner.plans.resize import make_transform

SIZE = (48, 32)


def touched_cells(region, image_size, grid, cell=None):
    """`Region.cells` of a grid of (width, height), whose cells are `cell` pixels of the image or share it out."""
    columns, rows = grid
    across, down = (columns, rows) if cell is None else (image_size[0] / cell[0], image_size[1] / cell[1])
    return region.cells(image_size, rows, columns, down, across)


few = settings(max_examples=60, deadline=None)


@st.composite
def regions(draw, name="a"):
    def span(end):
        low = draw(st.floats(-5, end - 1))
        return low, low + draw(st.floats(max(0.01, -low + 0.01), end))

    (x1, x2), (y1, y2) = span(SIZE[0]), span(SIZE[1])
    mask = None
    if draw(st.booleans()):
        shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 60)))
        seed = draw(st.integers(0, 2**16))
        mask = RegionMask.from_array(np.random.default_rng(seed).random(shape) > 0.8)
    return Region(name, (x1, y1, x2, y2), "x", mask=mask)


plans = st.integers(0, 4).flatmap(
    lambda n: st.tuples(*[regions(f"r{i}") for i in range(n)]).map(lambda r: RegionPlan(SIZE, regions=r))
)


@few
@given(plans)
def test_without_feather_background_and_regions_share_out_every_pixel(plan):
    masks, background, combined = region_masks(plan)
    assert masks.shape == (max(1, len(plan.regions)), 32, 48)
    assert background.shape == combined.shape == (1, 32, 48)
    assert set(torch.cat([masks, background]).unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(combined[0], masks.amax(0))
    assert torch.equal(background + combined, torch.ones_like(combined))


@few
@given(plans, st.floats(0.5, 20))
def test_a_feathered_mask_stays_within_0_and_1_and_inside_the_hard_one(plan, feather):
    hard, _, hard_together = region_masks(plan)
    soft, background, combined = region_masks(plan, feather=feather)
    assert soft.min() >= 0 and soft.max() <= 1
    assert torch.all(soft <= hard)
    assert torch.all(background[hard_together == 0] == 1)
    assert torch.allclose(background + combined, torch.ones_like(combined))


@few
@given(plans)
def test_without_masks_the_pixels_are_floor_and_ceil_of_the_box(plan):
    for region in plan.regions:
        x1, y1, x2, y2 = region.box
        rows, columns = np.mgrid[0:32, 0:48]
        eps = 1e-6
        expected = (columns + 1 > x1 + eps) & (columns < x2 - eps) & (rows + 1 > y1 + eps) & (rows < y2 - eps)
        got = touched_cells(Region("a", region.box, "x"), SIZE, SIZE)
        assert np.array_equal(got, expected) or x2 - x1 < 1e-4 or y2 - y1 < 1e-4


@few
@given(regions())
def test_a_patch_is_covered_when_one_of_its_pixels_is(region):
    pixels = touched_cells(region, SIZE, SIZE)
    patches = touched_cells(region, SIZE, (6, 4), (8, 8))
    by_pixels = pixels.reshape(4, 8, 6, 8).any((1, 3))
    assert np.array_equal(patches, by_pixels)


def test_a_box_edge_inside_a_pixel_covers_the_pixel():
    got = touched_cells(Region("a", (2.9, 1.5, 4.1, 2.0), "x"), (8, 4), (8, 4))
    assert np.argwhere(got).tolist() == [[1, 2], [1, 3], [1, 4]]


def test_a_last_patch_that_the_image_does_not_fill_is_covered_too():
    got = touched_cells(Region("a", (33, 0, 40, 10), "x"), (40, 10), (3, 1), (16, 16))
    assert got.tolist() == [[False, False, True]]


def test_a_mask_counts_only_inside_the_box():
    mask = RegionMask.from_array(np.ones((4, 4)))
    got = touched_cells(Region("a", (0, 0, 4, 8), "x", mask=mask), (8, 8), (8, 8))
    assert got[:, :4].all() and not got[:, 4:].any()


def test_a_patch_that_touches_box_and_mask_in_different_places_is_not_covered():
    cells = np.zeros((8, 8))
    cells[:, 3] = 1
    region = Region("a", (0, 0, 2, 8), "x", mask=RegionMask.from_array(cells))
    assert not touched_cells(region, (8, 8), (2, 2)).any()


def test_a_thin_line_in_a_fine_mask_is_not_lost_in_a_small_grid():
    cells = np.zeros((300, 300))
    cells[:, 151] = 1
    region = Region("a", (0, 0, 300, 300), "x", mask=RegionMask.from_array(cells))
    got = touched_cells(region, (300, 300), (10, 10))
    assert np.argwhere(got)[:, 1].tolist() == [5] * 10


@pytest.mark.parametrize(
    ("box", "size", "target", "grid", "expected"),
    [  # published planner outputs with the reference's own expansion (0.15 for Flux, none for Qwen)
        ((464, 156, 640, 427), (640, 427), "flux_kontext", (78, 52), (56, 18, 78, 52)),
        ((0, 147, 349, 385), (640, 480), "flux_kontext", (74, 55), (0, 16, 41, 45)),
        ((249, 36, 454, 241), (500, 399), "flux_kontext", (69, 59), (34, 5, 63, 36)),
        ((301, 278, 461, 320), (640, 464), "flux_kontext", (74, 55), (34, 32, 54, 38)),
        ((30, 175, 308, 358), (640, 480), "qwen_image_edit", (74, 56), (3, 20, 36, 42)),
        ((91, 89, 252, 406), (640, 427), "qwen_image_edit", (78, 52), (11, 10, 31, 50)),
    ],
)
def test_the_published_examples_cover_the_published_patches(box, size, target, grid, expected):
    moved = make_transform(size, target).map_plan(RegionPlan(size, regions=(Region("a", box, "x"),)))
    assert moved.image_size == (grid[0] * 16, grid[1] * 16)
    rows, columns = np.nonzero(touched_cells(moved.regions[0], moved.image_size, grid, (16, 16)))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == expected


def test_a_plan_without_regions_gives_one_empty_mask_and_a_full_background():
    masks, background, combined = region_masks(RegionPlan((6, 4)))
    assert masks.shape == (1, 4, 6) and not masks.any()
    assert background.all() and not combined.any()


def test_masks_come_at_the_size_asked_for_and_one_side_gives_the_other():
    plan = RegionPlan((60, 40), regions=(Region("a", (0, 0, 30, 40), "x"),))
    masks, _, _ = region_masks(plan, width=120)
    assert masks.shape == (1, 80, 120)
    assert masks[0, :, :60].all() and not masks[0, :, 60:].any()
    assert region_masks(plan, height=20)[0].shape == (1, 20, 30)


def test_masks_of_another_aspect_ratio_are_refused_with_both_sizes():
    with pytest.raises(PlanError, match="640x427.*512x512.*RePlan Resize"):
        region_masks(RegionPlan((640, 427)), 512, 512)


def test_more_masks_than_memory_are_refused_before_they_are_made():
    many = tuple(Region(f"r{i}", (0, 0, 9, 9), "x") for i in range(10_000))
    with pytest.raises(PlanError, match="10000 masks of 1024x1024 pixels would take 39 GiB"):
        region_masks(RegionPlan((1024, 1024), regions=many))


# ---- soft edges


def test_a_soft_edge_rises_smoothly_over_the_feather_inside_the_box():
    inside = np.zeros((60, 80), bool)
    inside[10:50, 20:70] = True
    row = soften(inside, 8)[30]
    assert not row[:20].any() and not row[70:].any()
    assert np.all(np.diff(row[20:29]) > 0)
    assert row[28] == 1 and row[40] == 1
    assert row[23] + row[24] == pytest.approx(1)  # half way at half the feather
    assert np.abs(np.diff(row)).max() < 0.2
    assert np.allclose(row[20:70], row[20:70][::-1])


def test_the_border_of_the_image_is_no_edge():
    inside = np.zeros((30, 30), bool)
    inside[:, :15] = True
    got = soften(inside, 6)
    assert (got[:, 0] == 1).all() and (got[0, :8] == 1).all() and got[0, 14] < 0.1
    assert (soften(np.ones((9, 9), bool), 5) == 1).all()
    assert (soften(np.zeros((9, 9), bool), 5) == 0).all()


@few
@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 12), st.integers(1, 12), st.floats(0.5, 9))
def test_a_box_softens_as_any_other_shape_would(x, y, width, height, feather):
    from scipy.ndimage import distance_transform_edt

    inside = np.zeros((32, 32), bool)
    inside[y : y + height, x : x + width] = True
    ramp = np.clip((distance_transform_edt(inside) - 0.5) / feather, 0, 1)
    assert np.allclose(soften(inside, feather), np.where(inside, ramp * ramp * (3 - 2 * ramp), 0), atol=1e-6)


def test_a_round_shape_has_a_round_soft_edge():
    rows, columns = np.mgrid[0:101, 0:101]
    radius = np.hypot(rows - 50, columns - 50)
    got = soften(radius < 40, 10)
    ring = got[(radius > 34.5) & (radius < 35.5)]
    assert ring.min() > 0.3 and ring.max() < 0.7
    assert got[50, 50] == 1


@pytest.mark.parametrize("wrong", [{"width": -4}, {"height": -4}, {"feather": -1}], ids=str)
def test_a_negative_number_of_pixels_is_refused_with_its_value(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(PlanError, match=f"{name} is {value}.*give 0 or more"):
        region_masks(RegionPlan(SIZE), **wrong)
