"""The pixels of a resize go where the plan's boxes go, and come back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.planner.pictures.images import apply_transform, resize_pixels, restore_image
from replan.planner.plan import PlanError
from replan.planner.plans.resize import METHODS, Transform, make_transform


def smooth(width, height, channels=3, batch=1):
    """An image without fine detail, so that resizing it there and back changes it little."""
    y = torch.linspace(0, 3, height)[:, None, None]
    x = torch.linspace(0, 2, width)[None, :, None]
    phase = torch.arange(channels)[None, None, :]
    one = 0.5 + 0.4 * torch.sin(x + y + phase)
    return one.expand(batch, -1, -1, -1).clone()


def bright_box(width, height, box):
    image = torch.zeros(1, height, width, 3)
    image[:, box[1] : box[3], box[0] : box[2]] = 1
    return image


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(40, 150), st.integers(40, 150)),
    st.sampled_from(METHODS),
    st.sampled_from([16, 24, 64]),
    st.data(),
)
def test_a_bright_box_ends_up_where_its_box_is_mapped(size, method, multiple, data):
    transform = make_transform(size, "multiple_of", method, multiple)
    x1, y1, x2, y2 = transform.source_box
    left = data.draw(st.integers(x1, x2 - 12))
    top = data.draw(st.integers(y1, y2 - 12))
    box = (left, top, left + 12, top + 12)
    result = apply_transform(bright_box(*size, box), transform)
    assert result.shape == (1, transform.working_size[1], transform.working_size[0], 3)
    left, top, right, bottom = transform.working_box
    inner = result[0, top:bottom, left:right, 0]
    got_x, got_y = inner.sum(1).numpy(), inner.sum(0).numpy()
    mapped = transform.map_box(box)
    centre_y = (np.arange(len(got_x)) + 0.5) @ got_x / got_x.sum() + top
    centre_x = (np.arange(len(got_y)) + 0.5) @ got_y / got_y.sum() + left
    assert centre_x == pytest.approx((mapped[0] + mapped[2]) / 2, abs=0.6)
    assert centre_y == pytest.approx((mapped[1] + mapped[3]) / 2, abs=0.6)
    scale = transform.scale
    assert float(inner.sum()) == pytest.approx(144 * scale[0] * scale[1], rel=0.25)


@settings(max_examples=20, deadline=None)
@given(st.tuples(st.integers(40, 200), st.integers(40, 200)), st.sampled_from(METHODS))
def test_restoring_brings_the_image_back_at_its_size(size, method):
    image = smooth(*size)
    transform = make_transform(size, "multiple_of", method, 32)
    back = restore_image(apply_transform(image, transform), transform, image if method == "crop" else None)
    assert back.shape == image.shape
    assert (back - image).abs().max() < 0.05


def test_an_unchanged_size_changes_no_bit():
    image = torch.rand(2, 30, 40, 3)
    transform = make_transform((40, 30), "none")
    assert torch.equal(apply_transform(image, transform), image)
    assert torch.equal(restore_image(image, transform), image)
    assert torch.equal(restore_image(image, transform, torch.rand(2, 30, 40, 3)), image)


def test_pixels_stay_between_0_and_1_and_keep_dtype_and_batch():
    image = (torch.rand(3, 21, 35, 3) > 0.5).to(torch.float16)
    got = resize_pixels(image, (50, 44))
    assert got.shape == (3, 44, 50, 3) and got.dtype == torch.float16
    assert got.min() >= 0 and got.max() <= 1


def test_a_grey_level_survives_there_and_back():
    image = torch.full((1, 97, 61, 3), 0.4987)
    transform = make_transform((61, 97), "flux_kontext")
    assert torch.allclose(restore_image(apply_transform(image, transform), transform), image, atol=1e-6)


def test_padding_repeats_the_outermost_pixels():
    image = smooth(20, 40)
    transform = make_transform((20, 40), "multiple_of", "pad", 40)
    result = apply_transform(image, transform)
    assert result.shape == (1, 40, 40, 3)
    assert torch.equal(result[:, :, 10:30], image)
    assert torch.equal(result[:, :, :10], image[:, :, :1].expand(-1, -1, 10, -1))


def test_a_crop_without_the_original_comes_back_alone_at_its_scale():
    transform = make_transform((150, 80), "multiple_of", "crop", 80)
    assert restore_image(torch.rand(1, 80, 160, 3), transform).shape == (1, 76, 150, 3)


def test_a_crop_is_put_back_into_the_original():
    original = torch.rand(1, 80, 150, 3)
    transform = make_transform((150, 80), "multiple_of", "crop", 80)
    _, top, _, bottom = transform.source_box
    back = restore_image(torch.zeros(1, 80, 160, 3), transform, original)
    assert torch.equal(back[:, :top], original[:, :top]) and torch.equal(back[:, bottom:], original[:, bottom:])
    assert not back[:, top:bottom].any()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(METHODS), st.integers(0, 12), st.integers(0, 2**16))
def test_outside_the_mask_the_original_stays_bit_for_bit(method, feather, seed):
    generator = torch.Generator().manual_seed(seed)
    original = torch.rand(1, 50, 70, 3, generator=generator)
    mask = (torch.rand(1, 50, 70, generator=generator) > 0.4).float()
    mask[:, :30, :30] = 1
    transform = make_transform((70, 50), "multiple_of", method, 32)
    edited = torch.rand(1, *transform.working_size[::-1], 3, generator=generator)
    back = restore_image(edited, transform, original, mask, feather)
    outside = mask[0] == 0
    assert torch.equal(back[0][outside], original[0][outside])
    assert back.min() >= 0 and back.max() <= 1
    assert not torch.equal(back[0, 5:25, 5:25], original[0, 5:25, 5:25])


def test_a_mask_of_the_working_size_is_brought_to_the_original():
    original = torch.zeros(1, 100, 50, 3)
    transform = make_transform((50, 100), "multiple_of", "pad", 100)
    mask = torch.zeros(1, 100, 100)
    mask[:, :, 50:] = 1
    back = restore_image(torch.ones(1, 100, 100, 3), transform, original, mask)
    assert back[:, :, :24].max() == 0 and back[:, :, 26:].min() == 1


def test_a_soft_mask_blends():
    transform = make_transform((10, 10), "none")
    back = restore_image(torch.ones(1, 10, 10, 3), transform, torch.zeros(1, 10, 10, 3), torch.full((10, 10), 0.25))
    assert torch.allclose(back, torch.full_like(back, 0.25))


def test_one_original_and_one_mask_serve_a_whole_batch():
    transform = make_transform((10, 8), "none")
    back = restore_image(torch.rand(4, 8, 10, 3), transform, torch.zeros(1, 8, 10, 3), torch.ones(1, 8, 10))
    assert back.shape == (4, 8, 10, 3)
    with pytest.raises(PlanError, match="3 masks for 4 edited images; .*combined"):
        restore_image(torch.rand(4, 8, 10, 3), transform, torch.zeros(1, 8, 10, 3), torch.ones(3, 8, 10))


def test_the_result_keeps_the_original_s_transparency():
    original = torch.rand(1, 40, 60, 4)
    transform = make_transform((60, 40), "multiple_of", "crop", 32)
    back = restore_image(torch.rand(1, *transform.working_size[::-1], 3), transform, original)
    assert back.shape == original.shape
    assert torch.equal(back[..., 3], original[..., 3])
    edited = torch.rand(1, *transform.working_size[::-1], 4)
    assert restore_image(edited, transform, original[..., :3]).shape == (1, 40, 60, 4)


def test_the_colour_of_transparent_pixels_does_not_bleed():
    image = torch.zeros(1, 16, 16, 4)
    image[:, :, :8] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    image[:, :, 8:] = torch.tensor([1.0, 0.0, 0.0, 0.0])  # invisible red
    got = resize_pixels(image, (9, 9))
    assert got[..., 0][got[..., 3] > 0.01].max() < 1e-3


def test_an_image_that_the_vae_cropped_is_put_back_in_place():
    """A VAE crops 103x77 to 96x72 around the centre: the rest keeps its place."""
    image = smooth(103, 77)
    transform = make_transform((103, 77), "none")
    cropped = image[:, 2 : 2 + 72, 3 : 3 + 96]
    back = restore_image(cropped, transform)
    assert torch.equal(back[:, 2:74, 3:99], cropped)


def test_an_enlarged_result_is_brought_back_too():
    image = smooth(64, 48)
    transform = make_transform((64, 48), "multiple_of", "pad", 64)
    large = resize_pixels(apply_transform(image, transform), (128, 128))
    assert (restore_image(large, transform) - image).abs().max() < 0.05


def test_wrong_sizes_are_refused_with_both_sizes():
    transform = make_transform((64, 48), "multiple_of", "stretch", 32)
    assert transform.working_size == (64, 64)
    with pytest.raises(PlanError, match="100x64.*64x64"):
        restore_image(torch.rand(1, 64, 100, 3), transform)
    with pytest.raises(PlanError, match="original has 10x10.*64x48"):
        restore_image(torch.rand(1, 64, 64, 3), transform, torch.rand(1, 10, 10, 3))
    with pytest.raises(PlanError, match="mask has 10x10.*64x48.*64x64"):
        restore_image(torch.rand(1, 64, 64, 3), transform, torch.rand(1, 48, 64, 3), torch.ones(1, 10, 10))
    with pytest.raises(PlanError, match="connect 'original'"):
        restore_image(torch.rand(1, 64, 64, 3), transform, None, torch.ones(1, 48, 64))
    with pytest.raises(PlanError, match="10x10.*64x48.*connect the image"):
        apply_transform(torch.rand(1, 10, 10, 3), transform)
    with pytest.raises(PlanError, match="shape"):
        apply_transform(torch.rand(10, 10, 3), transform)


def test_a_transform_is_a_value():
    assert make_transform((64, 48), "flux2") == make_transform((64, 48), "flux2")
    assert len({Transform((1, 1), (2, 2), (0, 0, 1, 1), (0, 0, 2, 2))}) == 1


def test_a_mask_that_is_not_finite_and_a_negative_feather_are_refused():
    image, transform = smooth(48, 32), make_transform((48, 32), "none")
    for value in (float("nan"), float("inf")):
        mask = torch.ones(1, 32, 48)
        mask[0, 3, 4] = value
        with pytest.raises(PlanError, match="not finite"):
            restore_image(image, transform, image, mask)
    with pytest.raises(PlanError, match="feather is -3.*give 0 or more"):
        restore_image(image, transform, image, torch.ones(1, 32, 48), -3)
