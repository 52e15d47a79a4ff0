"""RePlan Alignment with ComfyUI's own encoders: CLIP vision, DINO and SigLIP at a small size, a CLIP-L, a T5."""

import pytest
import torch
from comfy import sd1_clip
from comfy.clip_vision import ClipVisionModel
from comfy.text_encoders.pixart_t5 import PixArtTokenizer, pixart_te
from reduced_encoders import CLIP_L, T5, build, flux_clip
from replan.evaluation.alignment import closer
from replan.evaluation.encoders import ImageEncoder, TextEncoder
from replan.evaluation.fusion import GatedFusion, save_fusion
from replan.nodes.alignment import RePlanAlignment
from replan.planner.plan import PlanError, Region, RegionPlan
from replan.tools.tiny_models import randomise

SIZE = (96, 64)
SMALL = {
    "num_channels": 3, "hidden_dropout_prob": 0.0, "hidden_size": 32, "image_size": 32, "num_hidden_layers": 2,
    "intermediate_size": 64, "hidden_act": "gelu", "num_attention_heads": 2, "patch_size": 8, "projection_dim": 32,
}  # fmt: skip
NO_PROJECTION = {key: value for key, value in SMALL.items() if key != "projection_dim"}
KINDS = {
    "clip": {**SMALL, "model_type": "clip_vision_model"},
    "siglip": {**NO_PROJECTION, "model_type": "siglip_vision_model"},
    "siglip2": {**NO_PROJECTION, "model_type": "siglip2_vision_model", "image_size": -1, "num_patches": 16},
    "dino": {
        "model_type": "dinov2", "hidden_size": 32, "image_size": 32, "num_hidden_layers": 2, "patch_size": 14,
        "num_attention_heads": 2, "mlp_ratio": 2, "layer_norm_eps": 1e-6, "layerscale_value": 1.0,
        "use_swiglu_ffn": False, "num_channels": 3,
    },
}  # fmt: skip


def vision(kind="clip", **changes):
    model = ClipVisionModel({**KINDS[kind], **changes})
    model.load_sd(randomise(model.get_sd(), 7))
    return model


def image(seed, size=SIZE):
    return torch.rand((1, size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))


PLAN = RegionPlan(
    SIZE,
    regions=(
        Region("r1", (8, 8, 40, 40), "make it blue", extra={"description_after": "a blue circle"}),
        Region("r2", (50.5, 10.2, 90, 60), "a red square"),
        Region("r3", (0, 0, 10, 10), "off", enabled=False),
    ),
    extra={"scene_after": "a blue circle beside a red square"},
)


@pytest.fixture(scope="module")
def clip():
    return build(sd1_clip.SD1ClipModel, sd1_clip.SD1Tokenizer, clip_l=CLIP_L)


def run(after, plan, clip_vision, clip, **others):
    """The node as ComfyUI runs it: every input a list."""
    given = {key: value if isinstance(value, list) else [value] for key, value in others.items()}
    plans = plan if isinstance(plan, list) else [plan]
    out = RePlanAlignment.execute(after if isinstance(after, list) else [after], plans, [clip_vision], [clip], **given)
    return out.result


def encoded(model, pixels):
    return torch.nn.functional.normalize(
        model.encode_image(pixels, crop=False)["image_embeds"][0].detach().float(), dim=0
    )


def said(clip, text):
    """The projected text features, from the encoder's own parts."""
    _, pooled = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)
    projection = clip.cond_stage_model.clip_l.transformer.text_projection.weight.detach()
    return torch.nn.functional.normalize(pooled[0].float() @ projection.float().T, dim=0)


def test_scores_are_cosines_of_the_encoders_own_features(clip):
    model, after = vision(), image(1)
    (scores,), (report,) = run(after, PLAN, model, clip)
    whole = encoded(model, after)
    scene = float(whole @ said(clip, "a blue circle beside a red square"))
    expected = {}
    for name, pixels, text in (
        ("r1", after[:, 8:40, 8:40], "a blue circle"),
        ("r2", after[:, 10:60, 50:90], "a red square"),
    ):
        crop = encoded(model, pixels)
        fused = torch.nn.functional.normalize((crop + whole) / 2, dim=0)
        expected[name] = (float(fused @ said(clip, text)), max(0.0, float(crop @ said(clip, text))))
    assert set(scores.regions) == {"r1", "r2"}
    for name, (region, alone) in expected.items():
        assert scores.regions[name] == pytest.approx({"region": region, "clip_t": alone}, abs=1e-5)
    regions = sum(region for region, _ in expected.values()) / 2
    wanted = {"alignment": (scene + regions) / 2, "scene": scene, "clip_t": max(0.0, scene), "regions": regions}
    assert dict(scores.image) == pytest.approx(wanted, abs=1e-5)
    assert (scores.by, scores.main, scores.region_main, scores.missing) == ("alignment", "alignment", "", ())
    assert '"a blue circle" (its description after the edit)' in report
    assert '"a red square" (its hint, which may be an instruction)' in report
    assert "the plan's description of the scene after the edit" in report
    assert "no fusion weights" in report


def test_a_clip_that_the_stock_loader_gives(load_tiny):
    clip = load_tiny("clip_l")
    (scores,), _ = run(image(1), PLAN, vision(projection_dim=768), clip)
    assert set(scores.image) == {"alignment", "scene", "clip_t", "regions"}
    torch.testing.assert_close(TextEncoder(clip)("a blue circle").pooled, said(clip, "a blue circle"))


def test_a_flux_clip_is_compared_by_its_clip_l():
    clip = flux_clip()
    (scores,), _ = run(image(1), PLAN, vision(), clip)
    assert set(scores.regions["r1"]) == {"region", "clip_t"}
    torch.testing.assert_close(TextEncoder(clip)("a blue circle").pooled, said(clip, "a blue circle"))


def test_the_clip_is_asked_for_its_projected_text_and_brackets_are_words(clip):
    texts = TextEncoder(clip)
    torch.testing.assert_close(texts("a red circle").pooled, said(clip, "a red circle"))
    torch.testing.assert_close(texts("a (red:1.5) circle").pooled, said(clip, "a \\(red:1.5\\) circle"))
    assert not torch.allclose(texts("a (red:1.5) circle").pooled, said(clip, "a (red:1.5) circle"), atol=1e-3)


def test_a_long_text_is_read_to_its_end(clip):
    texts = TextEncoder(clip)
    colours = ("red", "blue") * 5
    sentences = [f"There is a {colour} house beside a long and winding road in the hills." for colour in colours]
    found = texts(" ".join(sentences))
    assert found.parts == 10
    mean = torch.stack([said(clip, sentence) for sentence in sentences]).mean(0)
    torch.testing.assert_close(found.pooled, torch.nn.functional.normalize(mean, dim=0), atol=1e-5, rtol=1e-4)
    assert texts("house " * 300).parts == 4
    assert texts("a house\n\n a tree ").parts == 2
    assert texts("\u623f\u5b50" * 200).parts > 1
    _, (report,) = run(image(1), PLAN, vision(), clip, scene=" ".join(sentences))
    assert "(the scene text, 10 parts encoded apart and averaged)" in report


def test_a_reference_gives_image_scores_and_before_says_what_came_closer(clip):
    model, after, before = vision(), image(1), image(2)
    (scores,), _ = run(after, PLAN, model, clip, reference=after, before=before)
    assert scores.image["clip_i"] == pytest.approx(1)
    assert scores.regions["r1"]["clip_i"] == pytest.approx(1)
    (was,), _ = run(before, PLAN, model, clip)
    for name, values in scores.regions.items():
        assert values["closer"] == pytest.approx(closer(values["region"], was.regions[name]["region"]), abs=1e-4)
    assert scores.region_main == "closer"
    (same,), _ = run(after, PLAN, model, clip, before=after)
    assert {values["closer"] for values in same.regions.values()} == {0.0}
    assert closer(0.3, 0.2) > 0.999
    assert closer(0.2, 0.3) == 0
    assert closer(0.30 + 0.0109861, 0.30) == pytest.approx(0.5, abs=1e-4)  # p(after) = 0.75 at CLIP's temperature


@pytest.mark.parametrize(("kind", "name"), [("dino", "dino"), ("siglip", "clip_i"), ("siglip2", "clip_i")])
def test_an_encoder_without_a_text_space_compares_images(kind, name, clip):
    model, after, other = vision(kind), image(1), image(2)
    (scores,), (report,) = run(after, PLAN, model, clip, reference=other)
    pooled = [model.encode_image(one, crop=False)["image_embeds"].float() for one in (after, other)]
    one, two = (value.mean(1) if value.ndim == 3 else value for value in pooled)
    assert dict(scores.image) == pytest.approx({name: max(0.0, float(torch.cosine_similarity(one, two)))}, abs=1e-5)
    assert set(scores.regions["r1"]) == {name}
    assert scores.main == name
    assert "has no text space in ComfyUI" in report
    with pytest.raises(PlanError, match=r"RePlan Alignment: this vision model \(\w+\) has no text space"):
        run(after, PLAN, model, clip)


def test_a_batch_and_a_list_give_scores_each(clip):
    model, batch = vision(), torch.cat([image(1), image(2)])
    scores, reports = run(batch, PLAN, model, clip, scene=["one", "two"])
    assert len(scores) == len(reports) == 2
    (second,), _ = run(image(2), PLAN, model, clip, scene="two")
    assert scores[1] == second
    listed, _ = run([image(1), image(2)], [PLAN, PLAN.with_regions(())], model, clip)
    assert [set(one.regions) for one in listed] == [{"r1", "r2"}, set()]
    with pytest.raises(PlanError, match="found 3 plans for 2 edited images"):
        run(batch, [PLAN] * 3, model, clip)
    with pytest.raises(PlanError, match="found 3 references for 2 edited images"):
        run(batch, PLAN, model, clip, reference=torch.cat([image(1)] * 3))


def test_an_empty_plan_and_one_without_texts(clip):
    empty = RegionPlan(SIZE)
    (scores,), _ = run(image(1), empty, vision(), clip, scene="a house")
    assert scores.image["alignment"] == scores.image["scene"]
    with pytest.raises(PlanError, match="RePlan Alignment: nothing says what the image should show"):
        run(image(1), empty, vision(), clip)
    prompt = RegionPlan(SIZE, "a house in snow", regions=(Region("r1", (0, 0, 9, 9)), Region("r2", (0, 0, 9, 9), "a")))
    (scores,), (report,) = run(image(1), prompt, vision(), clip)
    assert scores.missing == ("r1 region",)
    assert "the plan's global prompt, which may be an instruction" in report
    assert "No text: r1 region" in report
    (scores,), _ = run(image(1), RegionPlan(SIZE, regions=prompt.regions), vision(), clip)
    assert scores.missing == ("scene", "r1 region")
    assert scores.image["alignment"] == scores.image["regions"]


def test_a_plan_moves_with_the_image_and_one_of_another_image_is_refused(clip):
    large = torch.nn.functional.interpolate(image(1).movedim(-1, 1), scale_factor=2).movedim(1, -1)
    model = vision()
    (scores,), _ = run(large, PLAN, model, clip)
    own = float(encoded(model, large[:, 16:80, 16:80]) @ said(clip, "a blue circle"))
    assert scores.regions["r1"]["clip_t"] == pytest.approx(max(0.0, own), abs=1e-5)
    with pytest.raises(PlanError, match="the plan is for an image of 96x64 pixels and this image has 64x96"):
        run(image(1, (64, 96)), PLAN, vision(), clip)


def test_an_image_with_values_that_are_not_finite_is_refused(clip):
    for name in ("after", "reference", "before"):
        images = {key: image(1) for key in ("after", "reference", "before")}
        images[name][0, 0, 0, 0] = torch.nan
        with pytest.raises(PlanError, match=f"RePlan Alignment: '{name}' holds values that are not finite"):
            run(images.pop("after"), PLAN, vision(), clip, **images)


def test_encoders_of_different_models_are_refused(clip):
    with pytest.raises(PlanError, match="the vision model gives 48 features and the CLIP 32"):
        run(image(1), PLAN, vision(projection_dim=48), clip)


def test_a_t5_alone_is_refused_and_not_asked_where_images_are_compared():
    t5 = build(pixart_te(), PixArtTokenizer, t5xxl=T5)
    with pytest.raises(PlanError, match="RePlan Alignment: the CLIP gives no vector for a whole text"):
        run(image(1), PLAN, vision(), t5)
    (scores,), _ = run(image(1), PLAN, vision("dino"), t5, reference=image(2))
    assert scores.main == "dino"


def test_a_clip_whose_file_has_no_projection_is_refused():
    clip = build(sd1_clip.SD1ClipModel, sd1_clip.SD1Tokenizer, clip_l=CLIP_L)
    projection = clip.cond_stage_model.clip_l.transformer.text_projection.weight.data
    for value, words in ((0.0, "only zeros"), (torch.nan, "values that are not finite")):
        projection.fill_(value)
        with pytest.raises(PlanError, match=f"the CLIP gives {words}; its file may lack the projection"):
            run(image(1), PLAN, vision(), clip)
    projection.copy_(torch.eye(32))
    _, (report,) = run(image(1), PLAN, vision(), clip)
    assert "the CLIP's text projection changes nothing" in report


def test_fusion_weights_are_loaded_by_name_and_checked(clip, tmp_path, monkeypatch):
    import folder_paths
    from replan.nodes.folders import FUSION_FOLDER

    monkeypatch.setitem(folder_paths.folder_names_and_paths, FUSION_FOLDER, ([str(tmp_path)], set()))
    folder_paths.filename_list_cache.pop(FUSION_FOLDER, None)
    torch.manual_seed(0)
    save_fusion(GatedFusion(32, 16, 32, 4), tmp_path / "mine.safetensors")
    save_fusion(GatedFusion(48, 16, 32, 4), tmp_path / "wide.safetensors")
    save_fusion(GatedFusion(32, 16, 48, 4), tmp_path / "narrow.safetensors")
    options = RePlanAlignment.GET_NODE_INFO_V1()["input"]["optional"]["fusion"]
    assert options[1]["options"] == ["mean", "mine.safetensors", "narrow.safetensors", "wide.safetensors"]
    (fused,), (report,) = run(image(1), PLAN, vision(), clip, fusion="mine.safetensors")
    (plain,), _ = run(image(1), PLAN, vision(), clip, fusion="mean")
    assert fused.regions["r1"]["clip_t"] == plain.regions["r1"]["clip_t"]
    assert fused.regions["r1"]["region"] != plain.regions["r1"]["region"]
    assert "gated fusion" in report
    for name, words in (
        ("wide", "for tokens of 48 features"),
        ("narrow", "give 48 features, the CLIP 32"),
        ("gone", "there are no fusion"),
    ):
        with pytest.raises(PlanError, match=words):
            run(image(1), PLAN, vision(), clip, fusion=f"{name}.safetensors")
    stamp = RePlanAlignment.fingerprint_inputs(fusion=["mine.safetensors"])
    assert stamp.startswith("mine.safetensors ")
    assert RePlanAlignment.fingerprint_inputs(fusion=["gone.safetensors"]) == "missing"


def test_features_keep_nothing_of_what_led_to_them(clip):
    """A script has gradients on, which ComfyUI's executor has not: 200 scenes once took 20 GB."""
    model = vision()
    model.model.requires_grad_(True)
    clip.cond_stage_model.requires_grad_(True)
    with torch.inference_mode(False), torch.enable_grad():
        features = ImageEncoder(model)(image(1))
        assert not (features.pooled.requires_grad or features.tokens.requires_grad)
        assert not TextEncoder(clip)("a red cup").pooled.requires_grad
    clip.cond_stage_model.requires_grad_(False)
