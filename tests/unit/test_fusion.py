"""The gated fusion of a region with its scene: its maths, its files, and what is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from replan.evaluation.fusion import GatedFusion, fusion_of, load_fusion, save_fusion
from replan.planner.plan import PlanError
from safetensors.torch import save_file

GRID = (3, 4)


def a_fusion(kernel=3, width=6, inner=8, out=5, heads=2, seed=0):
    torch.manual_seed(seed)
    return GatedFusion(width, inner, out, heads, kernel).eval().requires_grad_(False)


def tokens(seed, count=12, batch=2, width=6):
    return torch.randn((batch, count, width), generator=torch.Generator().manual_seed(seed))


def by_hand(fusion, region, scene, region_grid, scene_grid):
    """Spec 9.2 line by line, one head and one query at a time."""

    def convolved(layer, values, grid):
        return layer(values.transpose(1, 2).reshape(len(values), -1, *grid)).flatten(2).transpose(1, 2)

    r, f = convolved(fusion.cnn_region, region, region_grid), convolved(fusion.cnn_scene, scene, scene_grid)
    attention, inner = fusion.attention, r.shape[-1]
    size = inner // attention.num_heads
    weights, biases = attention.in_proj_weight.split(inner), attention.in_proj_bias.split(inner)
    q, k, v = (x @ w.T + b for x, w, b in zip((r, f, f), weights, biases, strict=True))
    heads = []
    for start in range(0, inner, size):
        part = slice(start, start + size)
        shares = (q[..., part] @ k[..., part].transpose(1, 2) / size**0.5).softmax(-1)
        heads.append(shares @ v[..., part])
    h = attention.out_proj(torch.cat(heads, -1))
    g = torch.sigmoid(r @ fusion.gate.weight.T + fusion.gate.bias)
    z = r + g * h
    normed = (z - z.mean(-1, keepdim=True)) / (z.var(-1, unbiased=False, keepdim=True) + fusion.norm.eps).sqrt()
    normed = normed * fusion.norm.weight + fusion.norm.bias
    return (normed @ fusion.project.weight.T + fusion.project.bias).mean(1)


@given(st.integers(0, 2**31), st.sampled_from([1, 3, 5]), st.sampled_from([1, 2, 4]))
def test_the_fusion_is_the_published_formula(seed, kernel, heads):
    fusion = a_fusion(kernel, heads=heads, seed=seed)
    region, scene = tokens(seed), tokens(seed + 1, 10)
    fused = fusion(region, scene, GRID, (2, 5))
    assert fused.shape == (2, 5)
    torch.testing.assert_close(fused, by_hand(fusion, region, scene, GRID, (2, 5)), atol=1e-5, rtol=1e-4)


def test_a_closed_gate_leaves_the_region_alone():
    fusion = a_fusion()
    region = tokens(1)
    one, other = (fusion(region, tokens(seed), GRID, GRID) for seed in (2, 3))
    assert (one - other).abs().max() > 1e-3
    fusion.gate.weight.zero_()
    fusion.gate.bias.fill_(-100)
    one, other = (fusion(region, tokens(seed), GRID, GRID) for seed in (2, 3))
    alone = fusion.cnn_region(region.transpose(1, 2).unflatten(2, GRID)).flatten(2).transpose(1, 2)
    assert torch.equal(one, other)
    torch.testing.assert_close(one, fusion.project(fusion.norm(alone)).mean(1))


def test_the_order_of_samples_goes_through_and_that_of_patches_counts_only_for_neighbours():
    region, scene, order = tokens(1), tokens(2), torch.randperm(12, generator=torch.Generator().manual_seed(0))
    for kernel in (1, 3):
        fusion = a_fusion(kernel)
        fused = fusion(region, scene, GRID, GRID)
        torch.testing.assert_close(fusion(region.flip(0), scene.flip(0), GRID, GRID), fused.flip(0))
        moved = fusion(region[:, order], scene[:, order], GRID, GRID)
        assert torch.allclose(moved, fused, atol=1e-6) == (kernel == 1)


def test_the_gradient_reaches_every_weight():
    fusion = a_fusion().requires_grad_(True)
    fusion(tokens(1), tokens(2), GRID, GRID).square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in fusion.parameters())


@pytest.mark.parametrize("half", [False, True])
def test_a_file_gives_the_same_fusion_again(tmp_path, half):
    fusion = a_fusion()
    save_fusion(fusion, tmp_path / "f.safetensors", half)
    again = load_fusion(tmp_path / "f.safetensors")
    assert (again.width, again.out, again.attention.num_heads) == (6, 5, 2)
    found, wanted = (one(tokens(1), tokens(2), GRID, GRID) for one in (again, fusion))
    torch.testing.assert_close(found, wanted, atol=5e-3 if half else 0, rtol=0)


def changed(**changes):
    return {**a_fusion().state_dict(), **changes}


@pytest.mark.parametrize(
    ("weights", "heads", "words"),
    [
        (
            changed(**{"gate.weight": torch.zeros(8, 7)}),
            "2",
            r"'gate.weight' has the shape \(8, 7\), expected \(8, 8\)",
        ),
        (changed(more=torch.zeros(1)), "2", r"'more' has the shape \(1,\), expected nothing"),
        ({k: v for k, v in changed().items() if k != "norm.bias"}, "2", "'norm.bias' has the shape nothing"),
        (
            {"a": torch.zeros(2)},
            "2",
            "holds no gated fusion: expected cnn_region.weight and project.weight among its 1",
        ),
        (changed(**{"cnn_region.weight": torch.zeros(8)}), "2", "holds no gated fusion"),
        (changed(), "", "found no heads in the metadata"),
        (changed(), "3", "found 3 heads in the metadata, 8 inner features"),
        (changed(), "0", "found 0 heads"),
        (changed(**{"gate.bias": torch.full((8,), torch.nan)}), "2", "not finite"),
    ],
)
def test_other_weights_are_refused_in_words(weights, heads, words):
    with pytest.raises(PlanError, match=words):
        fusion_of(weights, heads)


def test_a_file_that_is_none_is_refused(tmp_path):
    file = tmp_path / "f.safetensors"
    with pytest.raises(PlanError, match=r"f\.safetensors cannot be read"):
        load_fusion(file)
    file.write_bytes(b"x" * 40)
    with pytest.raises(PlanError, match="cannot be read"):
        load_fusion(file)
    save_file(a_fusion().state_dict(), file)
    with pytest.raises(PlanError, match="found no heads"):
        load_fusion(file)


def test_tokens_of_another_vision_model_are_refused():
    with pytest.raises(PlanError, match="for tokens of 6 features, this vision model's have 7"):
        a_fusion()(tokens(1, width=7), tokens(2), GRID, GRID)
    with pytest.raises(ValueError, match="12 tokens do not fill a grid of 3x3"):
        a_fusion()(tokens(1), tokens(2), (3, 3), GRID)
