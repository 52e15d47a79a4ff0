"""The toy world's Muon is torch's, but for the arithmetic it turns matrices in."""

import pytest
import torch
from replan.tools.training.muon import Muon, orthogonal

SHAPES = ((8, 24), (24, 8), (8, 24), (16, 16))


def matrices():
    random = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(shape, generator=random)) for shape in SHAPES]


def trained(make, steps=3):
    values = matrices()
    optimizer, random = make(values), torch.Generator().manual_seed(2)
    for _ in range(steps):
        for value in values:
            value.grad = torch.randn(value.shape, generator=random)
        optimizer.step()
    return [value.detach() for value in values]


def test_three_steps_are_those_of_torch():
    """torch turns in bfloat16, so the two differ by its rounding: a few thousandths of a step."""
    ours = trained(lambda values: Muon(values, lr=0.1))
    theirs = trained(
        lambda values: torch.optim.Muon(
            values, lr=0.1, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
    )
    for one, other, start in zip(ours, theirs, matrices(), strict=True):
        assert (one - other).norm() < 0.02 * (one - start).norm()


@pytest.mark.parametrize("half", [False, True])
def test_singular_values_move_to_about_one(half):
    turned = orthogonal(torch.randn(3, 10, 40, generator=torch.Generator().manual_seed(3)), half)
    values = torch.linalg.svdvals(turned)
    assert values.min() > 0.5 and values.max() < 1.4
