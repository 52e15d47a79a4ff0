"""The step, the active regions and the masks of a model call."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from replan.attention.call import inactive_regions, mask_with_hints, phase_of, step_of, steps_before
from replan.attention.payload import RegionError
from replan.attention.rules import make_rules
from replan.planner.plan import Region

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
    assert step_of(LISTED, now) == step


def test_an_inversion_counts_its_steps_from_its_own_start():
    assert [step_of(LISTED[::-1], now) for now in (0.0, 1.0, 3.0, 7.0, 5.0)] == [0, 1, 2, 3, 2]


class Shifted:
    """A flow model's schedule: sigma = 3 t / (1 + 2 t), percent of sampling 1 - t."""

    sigma_max = 1.0

    def percent_to_sigma(self, percent):
        t = 1.0 - percent
        return 3 * t / (1 + 2 * t)

    def even(self, steps):
        """The sigmas of steps that are even in percent, as float32."""
        return torch.tensor([self.percent_to_sigma(i / steps) for i in range(steps + 1)]).tolist()


def before(sigmas, model="flux", **kwargs):
    return steps_before(make_rules("local_first", **kwargs)[0].for_family(model), Shifted(), sigmas)


@pytest.mark.parametrize(
    ("share", "steps", "expected"),
    [(0.05, 28, 1), (0.5, 50, 25), (0.05, 4, 0), (0.7, 50, 35), (0.57, 100, 57), (0.29, 100, 29), (0, 9, 0), (1, 9, 9)],
)
def test_with_even_steps_the_switch_is_an_exact_share_of_them(share, steps, expected):
    assert before(Shifted().even(steps), switch=share) == [True] * expected + [False] * (steps - expected)


@given(st.floats(0, 1), st.lists(st.floats(0.001, 1), min_size=2, max_size=30, unique=True), st.data())
def test_two_nodes_that_share_a_schedule_agree_with_one(share, sigmas, data):
    sigmas = sorted(sigmas, reverse=True)
    cut = data.draw(st.integers(1, len(sigmas) - 1))
    parts = before(sigmas[: cut + 1], switch=share) + (before(sigmas[cut:], switch=share) if sigmas[cut + 1 :] else [])
    assert parts == before(sigmas, switch=share)


def test_an_inversion_switches_at_the_same_noise_level():
    sigmas = Shifted().even(10)
    assert before(sigmas[::-1], switch=0.3) == before(sigmas, switch=0.3)[::-1]


def test_a_number_of_steps_is_counted_where_sampling_begins_and_is_over_below():
    sigmas = Shifted().even(8)
    assert before(sigmas, switch=0.9, switch_step=2) == [True] * 2 + [False] * 6
    assert before(sigmas[2:], switch_step=2) == [False] * 6
    assert before(sigmas, switch_step=0) == [False] * 8
    assert before(sigmas, switch_step=99) == [True] * 8


def test_without_a_choice_a_run_takes_the_switch_of_its_family():
    sigmas = Shifted().even(20)
    assert [sum(before(sigmas, family)) for family in ("flux", "flux2", "qwen")] == [1, 1, 10]
    assert sum(before(sigmas, "flux", family="qwen")) == 10


def test_rules_without_a_before_phase_have_none():
    assert not any(steps_before(make_rules("replan", switch=0.5)[0], Shifted(), Shifted().even(20)))


def test_the_phase_of_a_call_is_that_of_its_step():
    rules, sigmas = make_rules("local_first", switch=0.5)[0], Shifted().even(4)

    def phase(now):
        options = {"sigmas": torch.tensor([now]), "sample_sigmas": torch.tensor(sigmas)}
        return phase_of(rules, Shifted(), options)

    assert [phase(now) for now in sigmas] == ["before", "before", "after", "after", "after"]
    # Heun's and DPM2's calls between the steps belong to the step that began.
    assert phase((sigmas[1] + sigmas[2]) / 2) == "before"
    assert phase_of(rules, Shifted(), {}) == "after"


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
    assert mask_with_hints(whole, 3, 2, 5).tolist() == [[1, 1, 0, 1, 1]]
    added = torch.tensor([[[0.0, -1e4, 0.0]]])
    assert mask_with_hints(added, 3, 2, 5).tolist() == [[[0.0, -1e4, 0.0, 0.0, 0.0]]]


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_a_square_mask_keeps_its_cells_and_makes_open_rows_and_columns(text, hints, image, boolean):
    mask = torch.rand(2, text + image, text + image)
    mask = mask > 0.5 if boolean else mask
    wide = mask_with_hints(mask, text, hints, image)
    keep = [i for i in range(wide.shape[1]) if not text <= i < text + hints]
    assert torch.equal(wide[:, keep][:, :, keep], mask)
    assert (wide[:, text : text + hints] == (1 if boolean else 0)).all()
    assert (wide[:, :, text : text + hints] == (1 if boolean else 0)).all()


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(RegionError, match="mask of shape \\(1, 7, 7\\).*3 text tokens or of all 8"):
        mask_with_hints(torch.zeros(1, 7, 7), 3, 2, 5)
