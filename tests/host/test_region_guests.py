"""Region rules beside the host's other features and other packs' patches, and what they refuse."""

import logging
from types import SimpleNamespace

import comfy.model_management
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import pytest
import torch
from region_models import FAMILIES, build, conditioning, latent_shape, plan_of, sample, seeded, with_hints
from replan.attention.patch import OVERRIDE_KEY, add_region_rules
from replan.attention.payload import RegionError
from replan.attention.rules import make_rules

import nodes

BOXES = [(0, 0, 40, 40), (30, 30, 80, 70)]
LENGTHS = (7, 12)
ROWS = COLS = 6


def ruled(family="flux", preset="replan", edited_reference=1, model=None, **kwargs):
    return add_region_rules(model or build(family), make_rules(preset, **kwargs)[0], edited_reference)


def ref(family="flux", rows=ROWS, cols=COLS):
    return seeded(*latent_shape(family, rows, cols), seed=9)


def regional(family="flux", plan=None, tokens=20, spans=(), **extra):
    return with_hints(conditioning(tokens, [ref(family)], **extra), plan or plan_of(BOXES), LENGTHS, spans=spans)


def run(model, positive, family="flux", rows=ROWS, cols=COLS, **kwargs):
    return sample(model, positive, None, latent_shape(family, rows, cols), **kwargs)


def close(a, b, tolerance=1e-4):
    return (a - b).abs().max() < tolerance * b.abs().max()


# Other features of the host


@pytest.mark.parametrize("after", [True, False])
def test_easycache_before_and_after_ours_works_across_a_switch(after):
    from comfy_extras.nodes_easycache import EasyCacheNode

    def cached(model):
        return EasyCacheNode.execute(model, 0.0 if exact else 5.0, 0.15, 0.95, False)[0]

    for exact in (True, False):
        model = build("flux")
        model = cached(ruled(preset="local_first", switch=0.5)) if after else ruled(preset="local_first", switch=0.5, model=cached(model))
        out = run(model, regional(), steps=8)
        assert torch.isfinite(out).all()
        plain = run(ruled(preset="local_first", switch=0.5), regional(), steps=8)
        # With a threshold of zero nothing is skipped and the result is ours; with a large one steps are.
        assert close(out, plain) == exact


def test_torch_compile_follows_the_switch():
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    positive = regional()
    eager = run(ruled(preset="local_first", switch=0.5), positive, steps=4)
    model = ruled(preset="local_first", switch=0.5)
    set_torch_compile_wrapper(model=model, backend="eager", options={"guard_filter_fn": lambda guards: [True] * len(guards)})
    assert close(run(model, positive, steps=4), eager)
    later = run(ruled(preset="local_first", switch=0.0), positive, steps=4)
    assert not close(eager, later)


def test_flux_kv_cache_leaves_out_reference_queries_and_is_ruled_still():
    from comfy_extras.nodes_flux import FluxKVCache

    seen = []

    def record(func, q, k, v, heads, *args, **kwargs):
        seen.append((q.shape[2], k.shape[2]))
        return func(q, k, v, heads, *args, **kwargs)

    def cached(seed):
        model = ruled("flux2", model=FluxKVCache.execute(build("flux2"))[0])
        model.model_options["transformer_options"][OVERRIDE_KEY] = record
        return run(model, with_hints(conditioning(20, [ref("flux2")]), plan_of(BOXES), LENGTHS, seed=seed, padding="trim"), "flux2", steps=3)

    first, other = cached(50), cached(90)
    assert torch.isfinite(first).all()
    assert not close(first, other)
    image = ROWS * COLS
    # The background's group sees text and all images; with the cache its queries hold no reference any more.
    whole = [q for q, k in seen if k == 512 + 2 * image]
    assert len(set(whole)) == 2
    assert min(whole) < max(whole)


@pytest.mark.parametrize("family", ["flux2", "qwen"])  # the host's Flux.1 blocks cannot do it
def test_a_reference_at_timestep_zero_is_ruled(family):
    spans = ((1, 4),) if family == "qwen" else ()
    positive = regional(family, spans=spans, reference_latents_method="index_timestep_zero")
    plain = regional(family, spans=spans)
    model = ruled(family)
    assert torch.isfinite(run(model, positive, family)).all()
    assert not close(run(model, positive, family), run(model, plain, family))


def test_the_pictures_tokens_that_a_patch_prepends_belong_to_the_global_prompt():
    extra = seeded(1, 5, 256, seed=77)

    def prepend(args):
        txt = args["txt"]
        args["txt"] = torch.cat([extra.expand(txt.shape[0], -1, -1), txt], 1)
        args["txt_ids"] = torch.cat([torch.zeros_like(args["txt_ids"][:, :5]), args["txt_ids"]], 1)
        return args

    model = build("flux")
    model.set_model_post_input_patch(prepend)
    seen = []

    def record(func, q, k, v, heads, *args, **kwargs):
        seen.append(k.shape[2])
        return func(q, k, v, heads, *args, **kwargs)

    model.model_options["transformer_options"][OVERRIDE_KEY] = record
    out = run(ruled(model=model), regional())
    assert torch.isfinite(out).all()
    assert max(seen) == 5 + 20 + sum(LENGTHS) + 2 * ROWS * COLS  # where two regions overlap, both hints are seen
    assert 5 + 20 + 2 * ROWS * COLS in seen  # the background: prepended tokens, global prompt, all images


def test_a_padding_mask_that_comes_with_qwens_text_is_respected():
    mask = torch.ones(1, 20, dtype=torch.long)
    mask[:, 15:] = 0
    masked = regional("qwen", attention_mask=mask)
    text = masked[0][0].clone()
    text[:, 15:] = 123.0  # behind the mask nothing matters
    other = [[text, masked[0][1]]]
    hints = other[0][1]["model_conds"]["replan_hints"].text
    object.__setattr__(hints, "text_norm", 0.0)
    model = ruled("qwen")
    assert close(run(model, masked, "qwen"), run(model, other, "qwen"))
    assert not close(run(model, masked, "qwen"), run(model, regional("qwen"), "qwen"))


def test_a_style_models_attention_bias_is_kept_and_hints_are_not_biased():
    """Redux with `attn_bias` brings a square mask over text and image; the same as its bias on the text alone."""
    images = ROWS * COLS
    bias = torch.zeros(1, 20 + 1, 20 + 1)
    bias[:, :, 12:20] = -2.0
    base = conditioning(20, attention_mask=bias, attention_mask_img_shape=(1, 1))
    plan = plan_of(BOXES)
    out = run(ruled(), with_hints(base, plan, LENGTHS))
    unbiased = run(ruled(), with_hints(conditioning(20), plan, LENGTHS))
    assert torch.isfinite(out).all()
    assert not close(out, unbiased)
    strong = torch.zeros(1, 20 + images, 20 + images)
    strong[:, 20:, :20] = -1e4  # images no longer see the text, but still their hints
    strong[:, :20, 20:] = -1e4
    kept = conditioning(20, attention_mask=strong, attention_mask_img_shape=(ROWS, COLS))
    a = run(ruled(), with_hints(kept, plan, LENGTHS), steps=1)
    b = run(ruled(), with_hints(kept, plan, LENGTHS, seed=60), steps=1)
    assert not close(a, b)


def test_a_lora_works_under_region_rules():
    key = "diffusion_model.double_blocks.0.img_mlp.0.weight"
    base = build("flux")
    patched = base.clone()
    patched.add_patches({key: (0.5 * torch.ones(1024, 256),)})
    before = ruled(model=patched)
    after = ruled(model=base)
    after.add_patches({key: (0.5 * torch.ones(1024, 256),)})
    a, b, without = run(before, regional()), run(after, regional()), run(ruled(model=base), regional())
    assert torch.equal(a, b)
    assert not close(a, without)


def test_device_threads_share_rules_without_harm():
    from concurrent.futures import ThreadPoolExecutor

    model = ruled(preset="local_first", switch=0.5)
    wrapper = model.wrappers["apply_model"]["replan_region_rules"][0]
    base = model.model
    alone = {}

    def call(i, into):
        positive = with_hints(conditioning(20, seed=i), plan_of(BOXES[: 1 + i % 2]), LENGTHS[: 1 + i % 2])
        hints = positive[0][1]["model_conds"]["replan_hints"].process_cond(1).concat([])
        options = {"sigmas": torch.tensor([0.9]), "sample_sigmas": torch.tensor([1.0, 0.9, 0.0]), "uuids": [i]}
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(base._apply_model, base, [wrapper])
        text = positive[0][0]
        into[i] = executor.execute(
            seeded(*latent_shape("flux", ROWS, COLS)), torch.tensor([0.9]), None, text, None, options, replan_hints=hints, y=seeded(1, 768)
        )

    for i in range(6):
        call(i, alone)
    together = {}
    with ThreadPoolExecutor(4) as pool, torch.inference_mode(False):
        list(pool.map(lambda i: call(i, together), range(6)))
    assert all(torch.equal(alone[i], together[i]) for i in alone)


def test_the_memory_estimate_counts_the_hints():
    asked = []

    def spy(executor, model, noise_shape, conds, *args, **kwargs):
        asked.append(noise_shape)
        return executor(model, noise_shape, conds, *args, **kwargs)

    model = ruled()
    model.add_wrapper_with_key("prepare_sampling", "spy", spy)
    run(model, regional())
    run(model, conditioning(20, [ref()]))
    cells = [shape[-1] * shape[-2] for shape in asked]
    assert cells[1] == 4 * ROWS * COLS
    assert cells[0] >= cells[1] + 4 * sum(LENGTHS)


# What is refused, and how


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(rows=6, cols=9), "plan is drawn on an image of 96x96 .* has 9x6 patches.*RePlan Resize"),
        (dict(edited_reference=2), "edited_reference is 2, but the conditioning has 1 reference"),
    ],
)
def test_a_latent_or_reference_that_does_not_fit_is_named(change, message):
    rows, cols = change.pop("rows", ROWS), change.pop("cols", COLS)
    with pytest.raises(RegionError, match=message):
        run(ruled(**change), regional(), rows=rows, cols=cols)


def test_a_slightly_other_aspect_ratio_warns_once(caplog):
    with caplog.at_level(logging.WARNING):
        run(ruled(edited_reference=0), regional(plan=plan_of(BOXES, size=(96, 88))))
    assert len([r for r in caplog.records if "off by 0.27 patches" in r.getMessage()]) == 1


def test_cropped_conditioning_and_context_windows_are_refused():
    cropped = nodes.ConditioningSetArea().append(regional(), 64, 64, 0, 0, 1.0)[0]
    with pytest.raises(RegionError, match="cropped to an area.*mask with 'default' bounds"):
        run(ruled(), cropped, rows=12, cols=12)

    def window(executor, *args, **kwargs):
        args = list(args)
        args[5] = {**args[5], "context_window": object()}
        return executor(*args, **kwargs)

    model = build("flux")
    model.add_wrapper_with_key("apply_model", "window", window)
    with pytest.raises(RegionError, match="context windows"):
        run(ruled(model=model), regional())


def test_a_text_that_was_cut_after_encoding_is_refused():
    cut = [[text[:, :12], values] for text, values in regional()]
    with pytest.raises(RegionError, match="text has 12 tokens at the model, but had 20"):
        run(ruled(), cut)


def test_a_model_whose_blocks_bypass_the_hosts_attention_is_found_out():
    def bypass(executor, *args, **kwargs):
        return args[0] * 0.5

    model = build("flux")
    model.add_wrapper_with_key("diffusion_model", "bypass", bypass)
    with pytest.raises(RegionError, match="never came through the host"):
        run(ruled(model=model), regional())


def test_token_merging_inside_the_model_is_refused():
    def merge(args):
        args["img"], args["img_ids"] = args["img"][:, :-3], args["img_ids"][:, :-3]
        return args

    model = build("flux")
    model.set_model_post_input_patch(merge)
    with pytest.raises(RegionError, match="changes the number of tokens"):
        run(ruled(model=model), regional())


def test_another_attention_inside_a_block_passes_through_with_one_warning(caplog):
    from comfy.ldm.modules.attention import optimized_attention

    adapter = seeded(1, 2, 4, 128, seed=5)

    def output(out, options):
        q = out[:, -ROWS * COLS :].reshape(1, ROWS * COLS, 2, 128).transpose(1, 2)
        out[:, -ROWS * COLS :] += optimized_attention(q, adapter, adapter, 2, skip_reshape=True, transformer_options=options)
        return out

    model = build("flux")
    model.set_model_attn1_output_patch(output)
    with caplog.at_level(logging.WARNING):
        assert torch.isfinite(run(ruled(model=model), regional())).all()
    assert len([r for r in caplog.records if "passes through without rules" in r.getMessage()]) == 1


def test_an_unsupported_model_is_named_with_the_supported_families():
    class Chroma:
        pass

    with pytest.raises(RegionError, match=r"model is a Chroma.*Flux\.1.*FLUX\.2.*Qwen-Image"):
        add_region_rules(SimpleNamespace(model=Chroma()), make_rules("replan")[0], 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_ruled_model_leaves_conditionings_without_regions_bit_identical(family):
    positive = conditioning(20, [ref(family)])
    assert torch.equal(run(ruled(family), positive, family, cfg=3.0), run(build(family), positive, family, cfg=3.0))


def test_rules_without_any_region_and_negative_hints_at_cfg_1_are_said_aloud(caplog):
    with caplog.at_level(logging.WARNING):
        run(ruled(), conditioning(20))
    assert "no conditioning of this run carries regions" in caplog.text
    with caplog.at_level(logging.WARNING):
        sample(ruled(), regional(), regional(), latent_shape("flux", ROWS, COLS), cfg=1.0)
    assert "at CFG 1 the host never evaluates it" in caplog.text


def test_applying_rules_twice_keeps_the_last():
    once = run(ruled(preset="symmetric"), regional())
    twice = run(ruled(preset="symmetric", model=ruled(preset="isolated_regions")), regional())
    assert torch.equal(once, twice)
