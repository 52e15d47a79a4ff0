"""The step, the active regions and the masks of a model call."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from replan.attention.call import inactive_regions, step_of, with_hints
from replan.attention.payload import RegionError
from replan.planner.plan import Region


def options(now, listed):
    return {"sigmas": torch.tensor([now]), "sample_sigmas": torch.tensor(listed)}


LISTED = [14.6, 7.0, 3.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("now", "step"),
    [
        (14.6, 0),
        (7.0, 1),
        (3.0, 2),
        (1.0, 3),
        (10.0, 0),
        (5.0, 1),
        (0.2, 3),
        (20.0, 0),
        (14.6 * 1.00001, 0),
        (7.0 * 0.99999, 1),
    ],
)
def test_the_step_is_the_last_listed_sigma_that_is_not_below_the_current_one(now, step):
    assert step_of(options(now, LISTED)) == (step, 4)


def test_an_inversion_counts_its_steps_from_its_own_start():
    assert [step_of(options(now, LISTED[::-1]))[0] for now in (0.0, 1.0, 3.0, 7.0, 5.0)] == [0, 1, 2, 3, 2]


def test_a_call_outside_sampling_is_one_step():
    assert step_of({}) == (0, 1)


@given(st.floats(0, 0.98), st.floats(0.01, 1), st.floats(0, 1))
def test_a_region_is_active_from_its_start_to_its_end(start, end, percent):
    if start >= end:
        return
    region = Region("r", (0, 0, 1, 1), start=start, end=end)
    inactive = inactive_regions(
        (region,), lambda p: 1.0 - p, {"sigmas": torch.tensor([1.0 - percent], dtype=torch.float64)}
    )
    if abs(percent - start) > 1e-9 and abs(percent - end) > 1e-9:
        assert (inactive == frozenset()) == (start < percent < end)


def test_a_text_mask_is_open_for_the_hints_in_either_of_its_forms():
    whole = torch.tensor([[1, 1, 0]])
    assert with_hints(whole, 3, 2, 5).tolist() == [[1, 1, 0, 1, 1]]
    added = torch.tensor([[[0.0, -1e4, 0.0]]])
    assert with_hints(added, 3, 2, 5).tolist() == [[[0.0, -1e4, 0.0, 0.0, 0.0]]]


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_a_square_mask_keeps_its_cells_and_makes_open_rows_and_columns(text, hints, image, boolean):
    mask = torch.rand(2, text + image, text + image)
    mask = mask > 0.5 if boolean else mask
    wide = with_hints(mask, text, hints, image)
    keep = [i for i in range(wide.shape[1]) if not text <= i < text + hints]
    assert torch.equal(wide[:, keep][:, :, keep], mask)
    assert (wide[:, text : text + hints] == (1 if boolean else 0)).all()
    assert (wide[:, :, text : text + hints] == (1 if boolean else 0)).all()


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(RegionError, match="mask of shape \\(1, 7, 7\\).*3 text tokens or of all 8"):
        with_hints(torch.zeros(1, 7, 7), 3, 2, 5)
