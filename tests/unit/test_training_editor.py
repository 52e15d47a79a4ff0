"""The toy world's editor: what it depends on, and weights that reach ComfyUI's names whole. No ComfyUI needed."""

import pytest
import torch

pytest.importorskip("diffusers")

from replan.tools.toyworld import clip_l
from replan.tools.training.codec import Codec
from replan.tools.training.codec import comfyui_weights as codec_weights
from replan.tools.training.comfyui_check import randomised
from replan.tools.training.editor import TEXT_WIDTH, Size, comfyui_weights, make_editor, outputs, trained_weights

SMALL = Size(heads=1, double=1, single=1)


@pytest.fixture(scope="module")
def editor():
    return randomised(make_editor(1, SMALL), 1).eval()


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(2)
    shapes = ((1, 16, 4, 6), (1, 16, 4, 6), (1, 5, TEXT_WIDTH))
    noisy, reference, texts = (torch.randn(shape, generator=generator) for shape in shapes)
    return {"noisy": noisy, "reference": reference, "texts": texts, "sigma": torch.tensor([0.6])}


@pytest.mark.parametrize("name", ["noisy", "reference", "texts", "sigma"])
def test_the_velocity_depends_on_each_input(editor, inputs, name):
    with torch.no_grad():
        before = outputs(editor, **inputs)[0]
        after = outputs(editor, **{**inputs, name: inputs[name] * 0.5})[0]
    assert before.shape == inputs["noisy"].shape
    assert (before - after).abs().max() > 1e-2


def test_text_has_no_order(editor, inputs):
    with torch.no_grad():
        one, two = (
            outputs(editor, **{**inputs, "texts": texts})[0] for texts in (inputs["texts"], inputs["texts"].flip(1))
        )
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_the_pooled_text_has_no_way_in_before_or_after_training(inputs):
    editor = make_editor(1, SMALL)
    optimizer = torch.optim.AdamW((p for p in editor.parameters() if p.requires_grad), 1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        outputs(editor, **inputs)[0].square().mean().backward()
        optimizer.step()
    weights = comfyui_weights(editor.state_dict())
    assert not weights["vector_in.in_layer.weight"].any()
    assert weights["img_in.weight"].any()


def test_every_weight_arrives_once_and_where_the_loader_reads_sizes():
    editor = make_editor(1, Size(heads=1, double=2, single=3))
    with torch.no_grad():
        for number, value in enumerate(editor.parameters()):
            value.fill_(number)
    weights = comfyui_weights(editor.state_dict(), torch.float32)
    sent = torch.cat([value.flatten() for value in editor.state_dict().values()]).sort().values
    arrived = torch.cat([value.flatten() for value in weights.values()]).sort().values
    assert torch.equal(sent, arrived)
    assert weights["img_in.weight"].shape == (128, 64)
    assert weights["txt_in.weight"].shape == (128, TEXT_WIDTH)
    assert {key.split(".")[1] for key in weights if key.startswith("double_blocks.")} == {"0", "1"}
    assert {key.split(".")[1] for key in weights if key.startswith("single_blocks.")} == {"0", "1", "2"}
    assert not any(key.startswith("guidance_in") for key in weights)


def test_foreign_weights_are_refused():
    with pytest.raises(ValueError, match="no name in ComfyUI for .*polish"):
        comfyui_weights({**make_editor(1, SMALL).state_dict(), "polish.weight": torch.zeros(1)})


def test_the_same_seed_gives_the_same_editor_and_leaves_other_chance_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = (make_editor(seed, SMALL).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_codec_and_editor_together_stay_under_24_megabytes():
    weights = [*comfyui_weights(make_editor(0).state_dict()).values(), *codec_weights(Codec().state_dict()).values()]
    assert sum(value.numel() * value.element_size() for value in weights) < 24e6


def test_a_published_file_can_be_trained_on(editor):
    before = {key: value.half().float() for key, value in editor.state_dict().items()}
    after = trained_weights(comfyui_weights(editor.state_dict()))
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda w: w.pop("img_in.weight"), "img_in.weight should have 128 rows, found nothing"),
        (lambda w: w.update({"img_in.weight": w["img_in.weight"][:64]}), r"found \(64, 64\)"),
        (lambda w: w.update({"guidance_in.bias": torch.zeros(1)}), "they hold .'guidance_in.bias'. besides"),
    ],
)
def test_weights_of_something_else_are_refused_by_name(editor, change, said):
    weights = comfyui_weights(editor.state_dict())
    change(weights)
    with pytest.raises(ValueError, match=said):
        trained_weights(weights)


def test_the_text_width_is_the_encoders():
    assert clip_l.WIDTH == TEXT_WIDTH
