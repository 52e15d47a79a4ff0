"""Boxes and masks become the patches they touch, on any grid."""

import numpy as np
import pytest
import reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from replan.attention.grid import Grid, check_aspect, check_size, cover, region_patches
from replan.attention.payload import RegionError
from replan.planner.pictures import draw
from replan.planner.pictures.masks import region_masks
from replan.planner.plan import Region, RegionMask, RegionPlan


@st.composite
def placed(draw):
    size = draw(st.tuples(st.integers(8, 3000), st.integers(8, 3000)))
    x1, y1 = draw(st.floats(-50, size[0] - 1.5)), draw(st.floats(-50, size[1] - 1.5))
    box = (x1, y1, draw(st.floats(max(x1, 0) + 1, size[0] + 50)), draw(st.floats(max(y1, 0) + 1, size[1] + 50)))
    grid = Grid.of_latent(draw(st.integers(1, 90)), draw(st.integers(1, 90)), draw(st.sampled_from([1, 2])))
    return size, box, grid


@given(placed())
def test_a_region_is_every_patch_its_box_touches(case):
    size, box, grid = case
    ours = region_patches(Region("r", box), size, grid)
    expected = reference.patches_of(box, size, grid.rows, grid.cols, grid.height, grid.width)
    assert {tuple(at) for at in np.argwhere(ours).tolist()} == expected


@given(placed(), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_mask_selects_the_patches_that_one_of_its_cells_touches_inside_the_box(case, rows, cols, seed):
    size, box, grid = case
    cells = np.random.default_rng(seed).random((rows, cols)) > 0.8
    region = Region("r", box, mask=RegionMask.from_array(cells))
    expected = set()
    for r, c in np.argwhere(cells):
        cell = (c * size[0] / cols, r * size[1] / rows, (c + 1) * size[0] / cols, (r + 1) * size[1] / rows)
        x1, y1, x2, y2 = (*map(max, cell[:2], box[:2]), *map(min, cell[2:], box[2:]))
        assume(not any(0 < side < 1e-3 for side in (x2 - x1, y2 - y1)))  # what counts as rounding is not asked here
        if x2 > x1 and y2 > y1:
            expected |= reference.patches_of((x1, y1, x2, y2), size, grid.rows, grid.cols, grid.height, grid.width)
    if not expected:
        with pytest.raises(RegionError, match="covers no patch"):
            region_patches(region, size, grid)
        return
    assert {tuple(at) for at in np.argwhere(region_patches(region, size, grid)).tolist()} == expected


def patch_range(box, size, grid):
    rows, columns = np.nonzero(region_patches(Region("r", box), size, grid))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_a_patch_that_box_and_mask_touch_in_different_places_is_not_selected():
    cells = np.zeros((8, 8))
    cells[:, 3] = 1
    region = Region("r", (0, 0, 2, 8), mask=RegionMask.from_array(cells))
    with pytest.raises(RegionError, match="covers no patch"):
        region_patches(region, (8, 8), Grid(2, 2, 2, 2))


@st.composite
def framed(draw):
    """A plan of one region, with or without a mask, on an image of whole patches of 16 pixels."""
    rows, columns = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    x1, y1 = draw(st.floats(-20, columns * 16 - 1)), draw(st.floats(-20, rows * 16 - 1))
    box = (
        x1,
        y1,
        draw(st.floats(max(x1, 0) + 0.5, columns * 16 + 20)),
        draw(st.floats(max(y1, 0) + 0.5, rows * 16 + 20)),
    )
    mask = None
    if draw(st.booleans()):
        shape, seed = draw(st.tuples(st.integers(1, 60), st.integers(1, 60))), draw(st.integers(0, 2**32 - 1))
        mask = RegionMask.from_array(
            np.random.default_rng(seed).random(shape) > draw(st.sampled_from([0.5, 0.9, 0.99]))
        )
    return RegionPlan((columns * 16, rows * 16), regions=(Region("r", box, mask=mask),)), rows, columns


@settings(max_examples=100, deadline=None)
@given(framed())
def test_rules_masks_and_preview_agree_on_every_patch(case):
    plan, rows, columns = case
    (region,) = plan.regions
    try:
        patches = region_patches(region, plan.image_size, Grid(rows, columns, rows, columns))
    except RegionError:
        patches = np.zeros((rows, columns), bool)
    pixels = region_masks(plan)[0][0].numpy() > 0
    assert np.array_equal(pixels.reshape(rows, 16, columns, 16).any((1, 3)), patches)
    # Without outline and label, which lie over the tint.
    grey = Image.new("RGB", plan.image_size, (96, 96, 96))
    tinted = np.asarray(draw._tint_patches(grey, plan, region, draw.COLOURS[0], 16, (1.0, 1.0)))
    assert np.array_equal((tinted != 96).any(-1), patches.repeat(16, 0).repeat(16, 1))


def test_the_published_patch_ranges_come_out_of_the_published_boxes():
    """Spec 14.1, the columns of Qwen (its sizes, no expansion, boxes as published): (col0, row0, col1, row1)."""
    cases = [
        ((640, 427), (488, 190, 640, 415), (1248, 832), (59, 23, 78, 51)),
        ((640, 480), (30, 175, 308, 358), (1184, 896), (3, 20, 36, 42)),
        ((500, 399), (273, 60, 431, 218), (1152, 928), (39, 8, 63, 32)),
        ((640, 464), (320, 283, 443, 316), (1216, 864), (38, 32, 53, 37)),
    ]
    for size, box, (width, height), expected in cases:
        assert patch_range(box, size, Grid.of_latent(height // 8, width // 8, 2)) == expected


def test_an_odd_latent_has_a_last_patch_that_is_half_filled():
    grid = Grid.of_latent(5, 7, 2)
    assert (grid.rows, grid.cols, grid.height, grid.width) == (3, 4, 2.5, 3.5)
    assert patch_range((0, 0, 70, 50), (70, 50), grid) == (0, 0, 4, 3)
    assert patch_range((65, 45, 70, 50), (70, 50), grid) == (3, 2, 4, 3)


def test_a_border_between_patches_belongs_to_one_of_them():
    grid = Grid.of_latent(20, 20, 2)
    assert patch_range((30, 30, 60, 60), (100, 100), grid) == (3, 3, 6, 6)
    assert patch_range((0.1 * 3 * 100, 0, 60, 60), (100, 100), grid) == (3, 0, 6, 6)


@given(st.integers(64, 4000), st.integers(64, 4000), st.floats(0.05, 4))
def test_an_image_scaled_as_a_whole_fits_and_a_cropped_one_is_told(width, height, scale):
    grid = Grid(
        round(height * scale / 16) or 1, round(width * scale / 16) or 1, height * scale / 16, width * scale / 16
    )
    assert check_aspect((width, height), grid, "the latent") is None


def test_edges_that_may_land_a_patch_away_are_refused_and_smaller_shifts_warned_of():
    square = Grid(64, 64, 64, 64)
    assert check_aspect((1000, 1000), square, "the latent") is None
    assert "off by 0.99 patches" in check_aspect((1000, 970), square, "the latent")
    with pytest.raises(RegionError, match="1000x900 .* 64x64 patches.*RePlan Resize"):
        check_aspect((1000, 900), square, "the latent")


def test_cover_has_a_row_for_each_region():
    plan = RegionPlan((100, 100), "g", (Region("a", (0, 0, 50, 50)), Region("b", (40, 40, 100, 100))))
    grid = Grid(10, 10, 10, 10)
    assert cover(plan, grid).sum(1).tolist() == [25, 36]
    assert cover(plan.with_regions(()), grid).shape == (0, 100)


@pytest.mark.parametrize(("pixels", "warned"), [(256, True), (384, True), (400, False), (512, False), (1024, False)])
def test_a_latent_much_smaller_than_the_plans_image_may_be_a_tile_of_it(pixels, warned):
    warning = check_size((512, 512), Grid.of_latent(pixels // 8, pixels // 8, 2))
    assert (warning is not None) == warned
    if warned:
        assert f"image of 512x512 pixels and the latent is one of {pixels}x{pixels}" in warning
        assert "RePlan Resize" in warning
