"""The numbers of the edit report: what changed where, PSNR and SSIM, and what is told of odd inputs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from replan.evaluation.metrics import MOST_PSNR, measure, planes, psnr, ssim
from replan.evaluation.report import edit_report
from replan.planner.plan import PlanError, Region, RegionMask, RegionPlan

SIZE = (96, 64)
LEFT, RIGHT = Region("left", (8, 8, 40, 40), "a red hat"), Region("right", (56, 16, 88, 48), "a blue dog")
PLAN = RegionPlan(SIZE, regions=(LEFT, RIGHT))
WHOLE = RegionPlan(SIZE, regions=(Region("all", (0, 0, *SIZE), "snow"),))


def image(seed=0, size=SIZE, channels=3):
    return torch.rand(1, size[1], size[0], channels, generator=torch.Generator().manual_seed(seed))


def waves(size, shift=0.0, channels=3):
    """A smooth image by a formula, so that its figures can be written down: (H, W, C) float64 in 0..1."""
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float64)
    planes_of = [0.5 + 0.3 * np.sin(x / 7 + c + shift) + 0.2 * np.cos(y / 5 - c + 2 * shift) for c in range(channels)]
    return np.stack(planes_of, -1)


def changed_in(before, box, by=0.5):
    after = before.clone()
    x1, y1, x2, y2 = box
    after[:, y1:y2, x1:x2] = (after[:, y1:y2, x1:x2] + by) % 1.0
    return after


@given(st.integers(0, 99), st.sampled_from([PLAN, WHOLE, RegionPlan(SIZE), None]))
@settings(max_examples=20)
def test_equal_images_changed_nowhere(seed, plan):
    made = edit_report(image(seed), image(seed), plan)
    areas = [area for area in (*made.change.regions.values(), made.change.outside, made.change.border) if area]
    assert areas and all((area.changed, area.strength, area.difference) == (0, 0, 0) for area in areas)
    assert made.change.largest == 0
    assert set(made.change.edited.values()) <= {0.0}
    if plan is not WHOLE:
        assert made.change.identical and "unchanged to the bit" in made.text
        assert made.scores.image["outside_psnr"] == MOST_PSNR and made.scores.image["outside_ssim"] == 1.0


@given(st.integers(0, 99), st.sampled_from([LEFT, RIGHT]), st.integers(0, 20), st.integers(0, 20), st.integers(1, 12))
@settings(max_examples=30)
def test_a_change_inside_one_region_changes_only_its_row(seed, region, dx, dy, side):
    x, y = int(region.box[0]) + dx, int(region.box[1]) + dy
    before = image(seed)
    change = edit_report(before, changed_in(before, (x, y, x + side, y + side)), PLAN).change
    (other,) = {"left", "right"} - {region.id}
    assert change.regions[region.id].changed == pytest.approx(side * side / 32**2)
    assert change.regions[region.id].strength == pytest.approx(0.5, abs=1e-6)
    assert change.identical and change.outside.changed == change.border.changed == change.regions[other].changed == 0
    assert change.edited[other] == 0


@given(st.integers(0, 99), st.sampled_from([PLAN, None]))
@example(20, PLAN)  # one sum of float32 for each strip was too coarse here
@settings(max_examples=20)
def test_before_and_after_can_change_places(seed, plan):
    there, back = (edit_report(image(a), image(b), plan) for a, b in ((seed, 100), (100, seed)))
    for name, value in there.scores.image.items():
        assert back.scores.image[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name
    assert there.change.brightness == pytest.approx(-back.change.brightness)


def test_one_level_of_one_pixel_outside_is_no_longer_unchanged_to_the_bit():
    before = image().clamp(0, 0.9)
    after = before.clone()
    after[0, 0, 0, 2] += 1 / 255
    made = edit_report(before, after, PLAN)
    assert not made.change.identical and "unchanged to the bit" not in made.text
    assert made.change.largest == pytest.approx(1 / 255, rel=1e-4)
    assert made.change.outside.changed == 0  # nobody sees it
    assert made.change.regions["left"].changed == 0 and "the outside did not change visibly" in made.text
    assert edit_report(before, after, PLAN, threshold=0.0).change.outside.changed > 0


def test_what_lies_next_to_a_region_is_told_apart_from_the_rest():
    before = image()
    at_border = edit_report(before, changed_in(before, (40, 20, 41, 30)), PLAN).change
    assert at_border.border_width == 1 and at_border.border.changed > 0
    far = edit_report(before, changed_in(before, (2, 60, 6, 64)), PLAN).change
    assert far.border.changed == 0 and far.outside.changed > 0


def test_a_shift_of_brightness_and_of_colour_outside_is_given():
    before = image() * 0.5
    brighter = edit_report(before, before + 0.1, PLAN).change
    assert brighter.brightness == pytest.approx(0.1, abs=1e-5)
    assert max(map(abs, brighter.colour)) < 1e-5
    red = edit_report(before, before + torch.tensor([0.1, 0.0, 0.0]), PLAN).change
    assert red.colour[0] > 0 > red.colour[2]


def test_what_a_vae_changes_everywhere_is_no_edit_and_an_edit_of_all_is_one():
    before = image() * 0.8 + 0.1
    noise = before + 0.02 * torch.randn(before.shape, generator=torch.Generator().manual_seed(1))
    change = edit_report(before, noise, PLAN).change
    assert change.outside.changed > 0 and max(change.edited.values()) < 0.5
    assert min(edit_report(before, 1 - before, PLAN).change.edited.values()) == 1


def test_what_an_overlapping_region_changed_does_not_make_a_region_edited():
    over, inner = Region("over", (30, 8, 70, 40), "a scarf"), Region("inner", (16, 16, 24, 24), "a badge")
    plan = RegionPlan(SIZE, regions=(LEFT, over, inner))
    before = image()
    made = edit_report(before, changed_in(before, (8, 8, 40, 40)), plan)
    change = made.change
    assert change.regions["over"].changed > 0.2 and "its part in no other region looks unedited" in made.text
    assert change.edited == {"left": 1, "over": 0, "inner": 1}  # inner has nothing of its own


def test_regions_that_are_off_do_not_count():
    off = RegionPlan(SIZE, regions=(LEFT, Region("off", (0, 0, 96, 64), enabled=False)))
    change = edit_report(image(), image(1), off).change
    assert list(change.regions) == ["left"] and change.outside.pixels == 96 * 64 - 32 * 32


def test_a_mask_limits_its_region():
    cells = np.zeros((64, 96), bool)
    cells[10:20, 10:20] = True
    plan = RegionPlan(SIZE, regions=(Region("left", (8, 8, 40, 40), mask=RegionMask.from_array(cells)),))
    assert edit_report(image(), image(), plan).change.regions["left"].pixels == 100
    empty = RegionPlan(SIZE, regions=(Region("r", (50, 50, 60, 60), mask=RegionMask.from_array(cells)),))
    made = edit_report(image(), image(1), empty)
    assert made.scores.missing == ("r edited",) and "covers no pixel" in made.text


def test_a_plan_that_covers_everything_leaves_no_outside_and_says_so():
    made = edit_report(image(), image(1), WHOLE)
    assert (made.change.outside, made.change.psnr, made.change.ssim) == (None, None, None)
    assert not any(name.startswith("outside") for name in made.scores.image)
    assert "outside_psnr" in made.scores.missing and made.scores.image["edited_and_kept"] == 1
    assert [notice.code for notice in made.notices] == ["no_outside"]
    assert "the regions cover the whole image" in made.text


def test_without_regions_the_figures_are_of_the_whole_image():
    for plan, says in ((None, "No plan is connected"), (RegionPlan(SIZE), "no enabled region")):
        made = edit_report(image(), image(1), plan)
        assert made.change.outside.pixels == 96 * 64 and says in made.text
        assert made.scores.main == "" and "edited" not in made.scores.image


def test_values_that_are_not_finite_count_as_what_comfyui_saves():
    broken = image()
    broken[0, 0, :10] = math.nan
    broken[0, 1, :10] = math.inf
    made = edit_report(image(), broken, PLAN)
    assert [notice.code for notice in made.notices] == ["not_finite"]
    assert "20 of 6144" in made.text and made.change.outside.changed > 0
    assert all(map(math.isfinite, made.scores.image.values()))


@pytest.mark.parametrize("first", [1, 3, 4])
@pytest.mark.parametrize("second", [1, 3, 4])
def test_grey_colour_and_alpha_are_compared_by_what_both_have(first, second):
    grey = image(channels=1)

    def as_channels(count):
        return torch.cat([grey.expand(-1, -1, -1, 3), torch.ones_like(grey)], -1)[..., : 4 if count == 4 else count]

    made = edit_report(as_channels(first), as_channels(second), PLAN)
    assert made.change.identical
    assert [notice.code for notice in made.notices] == ["alpha_left_out"] * ((first == 4) != (second == 4))


def test_alpha_counts_where_both_have_it():
    before = image(channels=4)
    after = before.clone()
    after[..., 3] = 1 - after[..., 3]
    assert edit_report(before, after, PLAN).change.outside.changed > 0.5


def test_sizes_that_do_not_fit_are_refused_by_both_their_names():
    with pytest.raises(PlanError, match="'before' has 96x64 pixels and 'after' 64x64.*RePlan Restore"):
        edit_report(image(), image(size=(64, 64)))
    with pytest.raises(PlanError, match="the plan is for an image of 512x512 pixels and this image has 96x64"):
        edit_report(image(), image(1), RegionPlan((512, 512)))
    with pytest.raises(PlanError, match="'after' has 2 channels"):
        edit_report(image(), image(channels=2))


def test_an_edit_at_another_size_of_the_same_shape_is_resized_and_told():
    before = torch.from_numpy(waves((192, 128))).float()[None]
    after = torch.nn.functional.interpolate(before.movedim(-1, 1), scale_factor=0.5, mode="area").movedim(1, -1)
    made = edit_report(before, after, PLAN)
    assert [notice.code for notice in made.notices] == ["resized"] and "192x128" in made.text
    assert made.change.outside.pixels == 192 * 128 - 2 * 64 * 64 and made.change.psnr > 30


@pytest.mark.parametrize("size", [(1, 1), (10, 40), (11, 11), (33, 300), (2000, 30)])
def test_any_size_gives_an_image_and_finite_scores(size):
    plan = RegionPlan(size, regions=(Region("r", (0, 0, size[0] / 2, size[1]), "x"),))
    made = edit_report(image(size=size), image(1, size), plan)
    assert all(map(math.isfinite, made.scores.image.values()))
    assert ("outside_ssim" in made.scores.missing) == (size[0] < 12 or size[1] < 6)
    assert min(made.image.size) >= 100


def test_the_heat_map_is_bright_where_the_image_changed_and_dark_elsewhere():
    before = image(size=(400, 400)) * 0.5
    plan = RegionPlan((400, 400), regions=(Region("r", (200, 200, 400, 400), "x"),))
    made = edit_report(before, changed_in(before, (240, 240, 360, 360)), plan)
    pixels = np.asarray(made.image).astype(int)
    heat = pixels[(pixels.shape[0] - 400) // 2 :, -408:-8]
    assert heat[300, 300].sum() > 600
    assert heat[60:160, 60:160].max() < 90


# torchmetrics 1.9.0, float64, data_range=1.0: structural_similarity_index_measure and peak_signal_noise_ratio of
# waves(size) and waves(size, shift).
BY_TORCHMETRICS = [
    ((96, 64), 0.1, 0.975604271, 29.050285206),
    ((47, 111), 0.5, 0.609461143, 15.336439646),
    ((300, 200), 1.0, 0.120967834, 10.080591001),
    ((11, 11), 0.3, 0.849469433, 23.209210457),
]


@pytest.mark.parametrize(("size", "shift", "expected_ssim", "expected_psnr"), BY_TORCHMETRICS)
def test_ssim_and_psnr_are_those_of_torchmetrics(size, shift, expected_ssim, expected_psnr):
    before, after = (planes(torch.from_numpy(waves(size, at)).float()) for at in (0.0, shift))
    assert ssim(before, after) == pytest.approx(expected_ssim, abs=1e-5)
    assert psnr(before, after) == pytest.approx(expected_psnr, abs=1e-5)


@pytest.fixture
def torchmetrics(monkeypatch):
    """torchmetrics beside the torch that is here, in a folder of its own."""
    from replan.tools.own_environment import ensure_environment

    packages = ("--no-deps", "torchmetrics==1.9.0", "lightning-utilities==0.15.3")
    python = ensure_environment("torchmetrics", packages)
    if isinstance(python, str):
        pytest.skip(python)
    (folder,) = python.parent.parent.rglob("site-packages")
    monkeypatch.syspath_prepend(str(folder))
    return pytest.importorskip("torchmetrics.functional.image")


@pytest.mark.full
@pytest.mark.parametrize("size", [(6, 6), (11, 40), (64, 64), (97, 131), (640, 427)])
@pytest.mark.parametrize("noise", [0.0, 0.001, 0.05, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_images_have_the_ssim_and_psnr_of_torchmetrics(torchmetrics, size, noise, channels):
    smooth = torch.from_numpy(waves(size, channels=channels)).float()
    after = (smooth + noise * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    first, second = planes(smooth), planes(after)
    pair = second[None].double(), first[None].double()
    expected = torchmetrics.structural_similarity_index_measure(*pair, data_range=1.0).item()
    assert ssim(first, second) == pytest.approx(expected, abs=1e-5)
    expected = torchmetrics.peak_signal_noise_ratio(*pair, data_range=1.0).item()
    assert psnr(first, second) == pytest.approx(min(expected, MOST_PSNR), abs=1e-5)
    # Outside a region: the same of the pixels that are left.
    plan = RegionPlan(size, regions=(Region("r", (0, 0, size[0] / 2, size[1] / 3), "x"),))
    outside = ~torch.from_numpy(plan.regions[0].cells(size, size[1], size[0]))
    left = [one[0][:, outside] for one in pair]
    expected = torchmetrics.peak_signal_noise_ratio(*left, data_range=1.0).item()
    assert measure(first, second, plan).psnr == pytest.approx(min(expected, MOST_PSNR), abs=1e-5)


def test_outside_counts_only_what_no_window_shares_with_a_region():
    before = image(size=(200, 100))
    after = (before + 0.1 * image(1, (200, 100))).clamp(0, 1)
    plan = RegionPlan((200, 100), regions=(Region("r", (0, 0, 90, 100), "x"),))
    change = measure(planes(before[0]), planes(after[0]), plan)
    right = planes(before[0, :, 90:]), planes(after[0, :, 90:])
    assert change.psnr == pytest.approx(psnr(*right), abs=1e-7)
    within = edit_report(before, changed_in(after, (0, 0, 90, 100)), plan).change
    assert within.ssim == change.ssim  # no window that counts reaches into the region
    assert change.ssim == pytest.approx(ssim(*right), abs=0.01)  # that has windows mirrored at its left edge
