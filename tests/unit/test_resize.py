"""A plan moves with its image: the transforms, the working sizes and what happens to boxes and masks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.planner.plan import Notice, PlanError, Region, RegionMask, RegionPlan
from replan.planner.plans.resize import (
    KONTEXT_SIZES,
    METHODS,
    TARGETS,
    fit_plan,
    make_transform,
    plus_reference_size,
    same_aspect,
    shape_notice,
    stretch,
    working_size,
)

sizes = st.tuples(st.integers(16, 5000), st.integers(16, 5000)).filter(lambda s: 1 / 8 < s[0] / s[1] < 8)
few = settings(max_examples=60, deadline=None)


@st.composite
def transforms(draw):
    return make_transform(draw(sizes), draw(st.sampled_from(TARGETS)), draw(st.sampled_from(METHODS)))


@st.composite
def boxes(draw, size):
    def span(end):
        low = draw(st.floats(0, end * 0.9))
        return low, min(end, low + draw(st.floats(0.05, 1)) * (end - low) + 1)

    (x1, x2), (y1, y2) = span(size[0]), span(size[1])
    return x1, y1, x2, y2


def plan_of(size, *regions):
    return RegionPlan(size, regions=regions)


# ---- the affine map


@few
@given(st.data(), transforms())
def test_a_box_mapped_and_mapped_back_is_the_same_box(data, transform):
    box = data.draw(boxes(transform.source_size))
    back = transform.inverse.map_box(transform.map_box(box))
    assert back == pytest.approx(box, abs=1e-6)


@few
@given(st.data(), transforms())
def test_the_map_is_the_scale_and_offset_it_says(data, transform):
    box = data.draw(boxes(transform.source_size))
    (sx, sy), (ox, oy) = transform.scale, transform.offset
    expected = (box[0] * sx + ox, box[1] * sy + oy, box[2] * sx + ox, box[3] * sy + oy)
    assert transform.map_box(box) == pytest.approx(expected, rel=1e-9, abs=1e-6)


@few
@given(transforms())
def test_the_inverse_of_the_inverse_is_the_transform(transform):
    assert transform.inverse.inverse == transform


@few
@given(st.data(), transforms())
def test_every_mapped_region_lies_inside_the_image(data, transform):
    region = Region("a", data.draw(boxes(transform.source_size)), "x")
    mapped = transform.map_plan(plan_of(transform.source_size, region))
    assert mapped.image_size == transform.working_size
    left, top, right, bottom = transform.working_box
    for r in mapped.regions:
        x1, y1, x2, y2 = r.box
        assert left - 1e-6 <= x1 < x2 <= right + 1e-6
        assert top - 1e-6 <= y1 < y2 <= bottom + 1e-6


@few
@given(st.data(), transforms())
def test_no_region_loses_anything_without_a_warning(data, transform):
    region = Region("a", data.draw(boxes(transform.source_size)), "x")
    mapped = transform.map_plan(plan_of(transform.source_size, region))
    x1, y1, x2, y2 = region.box
    kx1, ky1, kx2, ky2 = transform.source_box
    loses = min(x1 - kx1, y1 - ky1, kx2 - x2, ky2 - y2) < -0.01
    assert (len(mapped.warnings) == 1) or not loses
    if not mapped.regions:
        assert "dropped" in mapped.warnings[0]


@few
@given(st.data(), sizes, st.sampled_from(TARGETS))
def test_stretching_keeps_the_share_of_the_image_each_region_covers(data, size, target):
    transform = make_transform(size, target)
    x1, y1, x2, y2 = box = data.draw(boxes(size))
    (mapped,) = transform.map_plan(plan_of(size, Region("a", box, "x"))).regions
    assert transform.keeps_all
    u1, v1, u2, v2 = mapped.box
    width, height = transform.working_size
    assert (u2 - u1) * (v2 - v1) / (width * height) == pytest.approx((x2 - x1) * (y2 - y1) / (size[0] * size[1]))


def test_a_box_on_a_patch_edge_stays_exactly_on_it():
    transform = make_transform((640, 427), "flux_kontext")
    assert transform.working_size == (1248, 832)
    assert transform.map_box((0, 0, 640, 427)) == (0, 0, 1248, 832)
    assert transform.map_box((320, 0, 480, 427)) == (624, 0, 936, 832)


def test_a_crop_of_what_already_fits_cuts_nothing():
    assert make_transform((1200, 800), "none", "crop").is_identity
    assert make_transform((1200, 800), "flux_kontext", "crop").source_box == (0, 0, 1200, 800)


def test_a_crop_moves_a_known_box_to_known_numbers():
    cut = make_transform((1500, 800), "multiple_of", "crop", 800)
    assert (cut.working_size, cut.source_box) == ((1600, 800), (0, 25, 1500, 775))
    mapped = cut.map_plan(plan_of((1500, 800), Region("a", (150, 100, 300, 400), "x")))
    assert mapped.regions[0].box == pytest.approx((160, 80, 320, 400))
    assert mapped.warnings == ()


def test_the_host_crops_the_same_part():
    """The formula of comfy.utils.common_upscale(crop="center"), written out."""
    for w, h in [(1500, 800), (801, 1403), (640, 427), (333, 1000), (4000, 3000)]:
        transform = make_transform((w, h), "flux_kontext", "crop")
        new = transform.working_size[0] / transform.working_size[1]
        old, x, y = w / h, 0, 0
        if old > new:
            x = round((w - w * (new / old)) / 2)
        elif old < new:
            y = round((h - h * (old / new)) / 2)
        assert transform.source_box == (x, y, w - x, h - y)


def test_a_crop_of_the_thinnest_image_keeps_a_pixel():
    transform = make_transform((1, 400), "flux_kontext", "crop")
    x1, y1, x2, y2 = transform.source_box
    assert x2 > x1 and y2 > y1


def test_padding_puts_the_image_in_the_middle_at_one_scale():
    transform = make_transform((500, 1000), "multiple_of", "pad", 1000)
    assert transform.working_size == (1000, 1000)  # 500 is halfway and a side has at least one multiple
    assert transform.working_box == (250, 0, 750, 1000)
    assert transform.map_box((0, 0, 500, 1000)) == (250, 0, 750, 1000)


# ---- what a crop does to regions


CUT = make_transform((1500, 800), "multiple_of", "crop", 800)  # keeps rows 25..775


def test_a_region_that_is_partly_cropped_is_clipped_and_said():
    mapped = CUT.map_plan(plan_of((1500, 800), Region("a", (0, 0, 150, 50), "a red hat")))
    assert mapped.regions[0].box == pytest.approx((0, 0, 160, 25 * 800 / 750))
    assert len(mapped.warnings) == 1
    assert "region 'a' (a red hat) was cut to 50%" in mapped.warnings[0]


def test_a_region_that_is_wholly_cropped_is_dropped_and_said():
    plan = plan_of((1500, 800), Region("a", (0, 0, 150, 25), "gone"), Region("b", (0, 100, 90, 200), "stays"))
    mapped = CUT.map_plan(plan)
    assert mapped.ids == ("b",)
    assert "region 'a' (gone) was dropped" in mapped.warnings[0]


def test_a_region_left_with_less_than_a_pixel_is_dropped():
    mapped = CUT.map_plan(plan_of((1500, 800), Region("a", (0, 0, 150, 25.5), "x")))
    assert mapped.regions == ()
    assert len(mapped.warnings) == 1


def test_a_region_beyond_the_border_does_not_grow_into_the_padding():
    transform = make_transform((500, 1000), "multiple_of", "pad", 1000)
    mapped = transform.map_plan(plan_of((500, 1000), Region("a", (-100, 0, 100, 500), "x")))
    assert mapped.regions[0].box == (250, 0, 350, 500)
    assert mapped.warnings == ()  # what lay outside the image was nothing to lose


def test_everything_else_in_a_plan_stays():
    region = Region("a", (10, 100, 20, 200), "hint", "no", 0.1, 0.9, extra={"note": 1})
    plan = RegionPlan((1500, 800), "global", (region,), "because", (Notice("x", "careful"),), {"k": 2})
    mapped = CUT.map_plan(plan)
    assert (mapped.global_prompt, mapped.reasoning, mapped.warnings, mapped.extra) == (
        "global", "because", ("careful",), {"k": 2},
    )  # fmt: skip
    kept = mapped.regions[0]
    assert (kept.id, kept.hint, kept.negative_hint, kept.start, kept.end, kept.extra) == (
        "a", "hint", "no", 0.1, 0.9, {"note": 1},
    )  # fmt: skip


def test_a_plan_for_another_size_is_refused_with_both_sizes():
    with pytest.raises(PlanError, match="1500x800.*640x480"):
        CUT.map_plan(plan_of((640, 480)))


# ---- masks


@st.composite
def masked(draw, size):
    cells = np.zeros((size[1], size[0]), bool)
    x1, y1, x2, y2 = (round(v) for v in draw(boxes(size)))
    cells[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] = True
    return cells


small = st.tuples(st.integers(20, 90), st.integers(20, 90))


@settings(max_examples=40, deadline=None)
@given(st.data(), small, st.sampled_from(METHODS))
def test_a_mask_of_the_image_s_pixels_lands_where_its_bounding_box_lands(data, size, method):
    cells = data.draw(masked(size))
    ys, xs = np.nonzero(cells)
    box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
    transform = make_transform(size, "multiple_of", method, 16)
    plan = plan_of(size, Region("a", box, "x", mask=RegionMask.from_array(cells)))
    mapped = transform.map_plan(plan)
    if not mapped.regions:
        return
    region = mapped.regions[0]
    grid = region.mask.to_array()
    rows, columns = np.flatnonzero(grid.any(1)), np.flatnonzero(grid.any(0))
    across, down = transform.working_size[0] / grid.shape[1], transform.working_size[1] / grid.shape[0]
    got = (columns[0] * across, rows[0] * down, (columns[-1] + 1) * across, (rows[-1] + 1) * down)
    cell = max(across, down, 1)
    assert got == pytest.approx(region.box, abs=cell)
    assert got[0] <= region.box[0] + 1e-4 and got[2] >= region.box[2] - 1e-4  # nothing of it is lost


@settings(max_examples=30, deadline=None)
@given(st.data(), small)
def test_a_mask_cropped_and_mapped_back_is_the_kept_part_of_it(data, size):
    cells = data.draw(masked(size))
    transform = make_transform(size, "multiple_of", "crop", 16)
    region = Region("a", (0, 0, *size), "x", mask=RegionMask.from_array(cells))
    mapped = transform.map_plan(plan_of(size, region))
    x1, y1, x2, y2 = transform.source_box
    kept = np.zeros_like(cells)
    kept[y1:y2, x1:x2] = cells[y1:y2, x1:x2]
    if not kept.any():
        assert mapped.regions == () and "dropped" in mapped.warnings[0]
        return
    (back,) = transform.inverse.map_plan(mapped).regions
    assert np.array_equal(back.mask.to_array(), kept) or transform.keeps_all


def test_a_coarse_mask_keeps_its_place_in_a_crop():
    cells = np.zeros((4, 4), bool)
    cells[:, 2:] = True  # the right half of the image
    transform = make_transform((1500, 800), "multiple_of", "crop", 800)
    region = Region("a", (0, 0, 1500, 800), "x", mask=RegionMask.from_array(cells))
    mask = transform.map_plan(plan_of((1500, 800), region)).regions[0].mask
    got = mask.to_array()
    assert mask.size == (800, 1600)
    assert got[:, 800:].all() and not got[:, :800].any()


def test_a_coarse_mask_keeps_its_place_in_a_crop_of_either_side():
    cells = np.zeros((4, 4), bool)
    cells[1, 2] = True
    for size in ((800, 600), (600, 800)):
        transform = make_transform(size, "multiple_of", "crop", 800)
        assert transform.working_size == (800, 800)
        region = Region("a", (0, 0, *size), "x", mask=RegionMask.from_array(cells))
        ys, xs = np.nonzero(transform.map_plan(plan_of(size, region)).regions[0].mask.to_array())
        x1, y1, x2, y2 = transform.map_box((size[0] / 2, size[1] / 4, size[0] * 3 / 4, size[1] / 2))
        assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == pytest.approx((x1, y1, x2, y2), abs=1)


def test_padding_holds_no_mask():
    transform = make_transform((500, 1000), "multiple_of", "pad", 1000)
    region = Region("a", (0, 0, 500, 1000), "x", mask=RegionMask.from_array(np.ones((2, 2))))
    got = transform.map_plan(plan_of((500, 1000), region)).regions[0].mask.to_array()
    assert got[:, 250:750].all() and not got[:, :250].any() and not got[:, 750:].any()


def test_a_stretch_keeps_the_mask_itself():
    mask = RegionMask.from_array(np.eye(5))
    region = Region("a", (0, 0, 50, 50), "x", mask=mask)
    assert make_transform((50, 50), "flux2").map_plan(plan_of((50, 50), region)).regions[0].mask is mask


# ---- working sizes


@pytest.mark.parametrize(
    ("size", "flux", "qwen"),
    [
        ((640, 427), (1248, 832), (1248, 832)),
        ((640, 480), (1184, 880), (1184, 896)),
        ((500, 399), (1104, 944), (1152, 928)),
        ((640, 464), (1184, 880), (1216, 864)),
    ],
)
def test_the_published_examples_get_the_published_working_sizes(size, flux, qwen):
    assert working_size(size, "flux_kontext") == flux
    assert working_size(size, "qwen_image_edit") == qwen


def test_the_presets_are_seventeen_multiples_of_sixteen_and_their_transposes():
    assert len(KONTEXT_SIZES) == 17
    assert {(h, w) for w, h in KONTEXT_SIZES} == set(KONTEXT_SIZES)
    assert all(w % 16 == 0 and h % 16 == 0 for w, h in KONTEXT_SIZES)
    assert all(working_size(size, "flux_kontext") == size for size in KONTEXT_SIZES)


@settings(max_examples=150, deadline=None)
@given(sizes)
def test_the_plus_node_leaves_its_working_size_alone(size):
    width, height = chosen = working_size(size, "qwen_image_edit_plus")
    assert plus_reference_size(chosen) == chosen
    assert width % 8 == 0 and height % 8 == 0
    assert abs(math.log(width / height) - math.log(size[0] / size[1])) < 0.04


@few
@given(sizes)
def test_one_megapixel_targets_have_about_one_megapixel(size):
    for target, step in (("flux2", 16), ("qwen_image_edit", 32), ("qwen_image_edit_plus", 8)):
        width, height = working_size(size, target)
        assert width % step == 0 and height % step == 0
        assert abs(width * height / 1024**2 - 1) < 0.06


@few
@given(sizes, st.integers(1, 128))
def test_multiple_of_goes_to_the_nearest_multiple(size, multiple):
    for side, got in zip(size, working_size(size, "multiple_of", multiple), strict=True):
        assert got % multiple == 0 and got > 0
        assert abs(got - side) <= multiple / 2 or got == multiple


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (16384, 16), (5, 7)])
def test_extreme_images_get_a_size_with_at_least_one_pixel(target, size):
    for method in METHODS:
        transform = make_transform(size, target, method)
        assert min(transform.working_size) >= 1
        x1, y1, x2, y2 = transform.working_box
        assert x2 > x1 and y2 > y1


def test_unknown_targets_methods_and_multiples_are_refused():
    with pytest.raises(PlanError, match="unknown target 'sdxl'"):
        working_size((10, 10), "sdxl")
    with pytest.raises(PlanError, match="unknown method 'squash'"):
        make_transform((10, 10), "none", "squash")
    with pytest.raises(PlanError, match="multiples of 0"):
        working_size((10, 10), "multiple_of", 0)


# ---- a plan and an image of another size


@few
@given(sizes, st.floats(0.3, 3))
def test_an_image_scaled_evenly_has_the_same_aspect(size, factor):
    other = (round(size[0] * factor), round(size[1] * factor))
    assert same_aspect(size, other) and same_aspect(other, size)


def test_a_plan_moves_to_the_same_image_at_another_size():
    plan = plan_of((640, 427), Region("a", (64, 42.7, 128, 85.4), "x"))
    moved = fit_plan(plan, (1280, 854))
    assert moved.image_size == (1280, 854)
    assert moved.regions[0].box == pytest.approx((128, 85.4, 256, 170.8))
    assert fit_plan(plan, (640, 427)) is plan


def test_a_plan_for_another_aspect_ratio_is_refused_with_both_sizes():
    with pytest.raises(PlanError, match="640x427.*1024x1024.*RePlan Resize"):
        fit_plan(plan_of((640, 427)), (1024, 1024))


def test_a_difference_of_a_few_pixels_is_mapped_with_a_warning():
    moved = fit_plan(plan_of((640, 480), Region("a", (64, 48, 320, 240), "x")), (1184, 880))
    assert moved.regions[0].box == pytest.approx((118.4, 88, 592, 440))
    assert len(moved.warnings) == 1
    assert all(text in moved.warnings[0] for text in ("640x480", "1184x880", "up to 4 pixels"))
    assert fit_plan(plan_of((640, 480)), (641, 480)).warnings == ()  # rounding


@few
@given(sizes, st.floats(0.5, 2), st.floats(0.9, 1.1))
def test_a_plan_is_refused_exactly_when_a_centre_crop_moves_an_edge_by_more_than_a_patch(size, factor, distortion):
    other = (max(1, round(size[0] * factor * distortion)), max(1, round(size[1] * factor)))
    scale = max(other[0] / size[0], other[1] / size[1])
    cut = max(side * scale - kept for side, kept in zip(size, other, strict=True)) / 2
    assert plan_of(size).shift_on(*other) == pytest.approx(cut, abs=1e-9)
    if cut > math.sqrt(other[0] * other[1]) / 64 and not same_aspect(size, other):
        with pytest.raises(PlanError, match=f"{size[0]}x{size[1]}.*{other[0]}x{other[1]}.*RePlan Resize"):
            shape_notice(plan_of(size), other)
    elif not same_aspect(size, other):
        assert f"{size[0]}x{size[1]}" in shape_notice(plan_of(size), other).text


@few
@given(sizes, st.floats(0.02, 3))
def test_rounding_alone_is_never_refused(size, factor):
    other = tuple(max(1, round(side * factor)) for side in size)
    assert shape_notice(plan_of(size), other) is None


def test_a_small_preview_that_was_rounded_away_from_its_image_is_refused_on_it():
    with pytest.raises(PlanError, match="20x15"):
        fit_plan(plan_of((20, 15)), (1024, 725))


def test_the_shift_is_half_of_what_a_centre_crop_cuts_away():
    assert plan_of((640, 480)).shift_on(1280, 960) == 0
    assert plan_of((1500, 800)).shift_on(1600, 800) == pytest.approx((800 * 1600 / 1500 - 800) / 2)
    assert plan_of((1500, 800)).shift_on(100, 50) == pytest.approx((800 * 1600 / 1500 - 800) / 32)
    assert stretch((10, 10), (20, 30)).keeps_all
