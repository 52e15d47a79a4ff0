"""The tiny checkpoints load through ComfyUI's own loaders, whole, and what they compute depends on its inputs."""

import logging

import pytest
import torch


@pytest.fixture(scope="module")
def pooled_text(load_tiny):
    def encode(text: str):
        clip = load_tiny("clip_l")
        return clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)

    return encode


def predict(patcher, context, pooled, reference=None, sigma=0.7, latent=(16, 16, 16)):
    """One model call on fixed noise; the shape of `latent` is (channels, height, width)."""
    import comfy.model_management as mm

    mm.load_models_gpu([patcher])
    noise = torch.randn(1, *latent, generator=torch.Generator().manual_seed(0))
    kwargs = {"y": pooled, "guidance": torch.tensor([3.5])}
    if reference is not None:
        kwargs["ref_latents"] = [reference]
    with torch.inference_mode():
        return patcher.model.apply_model(noise, torch.tensor([sigma]), c_crossattn=context, **kwargs)


@pytest.mark.parametrize(
    "name", ["flux1", "flux1_fill", "flux2", "clip_l", "vae_flux1", "vae_qwen", "taef2", "lora_flux1"]
)
def test_the_loader_finds_every_weight_it_looks_for(name, load_tiny, tiny, caplog):
    if name == "lora_flux1":
        import comfy.sd
        import comfy.utils

        model = load_tiny("flux1")
        with caplog.at_level(logging.WARNING):
            patched, _ = comfy.sd.load_lora_for_models(
                model, None, comfy.utils.load_torch_file(str(tiny(name))), 1.0, 0.0
            )
        assert len(patched.patches) == 6
    else:
        with caplog.at_level(logging.INFO):
            assert load_tiny(name) is not None
    complaints = [
        r.getMessage() for r in caplog.records if "missing" in r.getMessage() or "unexpected" in r.getMessage()
    ]
    # The file of a taef2 carries no scale in any release: ComfyUI's default of 1 is meant.
    complaints = [text for text in complaints if "vae_scale" not in text and "[]" not in text]
    assert not complaints


def test_the_same_seed_writes_the_same_weights(comfy_env):
    from replan.tools.tiny_models import flux1

    first, second = flux1(), flux1()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name, latent", [("flux1", (16, 16, 16)), ("flux2", (128, 8, 8))])
def test_the_prediction_depends_on_text_reference_and_step(name, latent, load_tiny, pooled_text):
    model = load_tiny(name)
    context, pooled = pooled_text("a red hat")
    other, _ = pooled_text("a green cat on the sofa")
    reference = torch.randn(1, *latent, generator=torch.Generator().manual_seed(1))
    base = predict(model, context, pooled, reference, latent=latent)
    assert torch.isfinite(base).all()
    assert 0.2 < base.std() < 20
    for changed in (
        predict(model, other, pooled, reference, latent=latent),
        predict(model, context, pooled, reference + 0.5, latent=latent),
        predict(model, context, pooled, reference, sigma=0.3, latent=latent),
    ):
        assert (changed - base).std() > 0.04 * base.std()


@pytest.mark.parametrize("name, factor", [("vae_flux1", 8), ("vae_qwen", 8), ("taef2", 16)])
def test_a_picture_survives_the_vae_in_size_and_range(name, factor, load_tiny):
    vae = load_tiny(name)
    picture = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(0))
    latent = vae.encode(picture)
    assert latent.shape[-2:] == (64 // factor, 96 // factor)
    back = vae.decode(latent).reshape(picture.shape)
    assert back.min() >= 0 and back.max() <= 1 and back.std() > 0.01
