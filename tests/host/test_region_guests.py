"""Region rules beside the host's other features and other packs' patches, and what they refuse."""

import itertools
import logging
import threading
from types import SimpleNamespace

import comfy.model_management
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import pytest
import torch
from dense import COLS, OVERRIDE_KEY, ROWS, dense_run
from region_models import (
    FAMILIES,
    SIZES,
    build,
    conditioning,
    latent_shape,
    plan_of,
    sample,
    seeded,
    with_hints,
)
from replan.attention import override
from replan.attention.payload import RegionError
from replan.attention.rules import make_rules
from replan.attention.run import RUN_KEY, Run
from replan.attention.wrappers import RegionRules, add_region_rules

import nodes

BOXES = [(0, 0, 40, 40), (30, 30, 80, 70)]
LENGTHS = (7, 12)


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
        model = (
            cached(ruled(preset="local_first", switch=0.5))
            if after
            else ruled(preset="local_first", switch=0.5, model=cached(model))
        )
        out = run(model, regional(), steps=8)
        assert torch.isfinite(out).all()
        plain = run(ruled(preset="local_first", switch=0.5), regional(), steps=8)
        # With a threshold of zero nothing is skipped and the result is ours; with a large one steps are.
        assert close(out, plain) == exact


def compiled(model):
    """The model as the host's TorchCompileModel node leaves it, but for the backend, which must compile nothing here:
    its filter drops every guard on transformer_options, so what a graph read there once it keeps."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from comfy_extras.nodes_torch_compile import skip_torch_compile_dict

    torch._dynamo.reset()
    model = model.clone(disable_dynamic=True)
    set_torch_compile_wrapper(model=model, backend="eager", options={"guard_filter_fn": skip_torch_compile_dict})
    return model


@pytest.mark.parametrize("after", [True, False])
def test_torch_compile_follows_a_switch_in_mid_run(after):
    positive = regional()
    rules = dict(preset="local_first", switch=0.5)
    eager = run(ruled(**rules), positive, steps=4)
    model = compiled(ruled(**rules)) if after else ruled(model=compiled(build("flux")), **rules)
    assert close(run(model, positive, steps=4), eager)
    for share in (0.0, 1.0):  # what either phase kept for the whole run would give
        assert not close(run(ruled(preset="local_first", switch=share), positive, steps=4), eager)


def test_a_compiled_model_keeps_what_an_override_of_the_first_step_read():
    """The trap of the test above is set: an override that may be compiled loses a change in mid-run."""

    def scaled(func, q, k, v, heads, *args, **kwargs):
        return func(q * kwargs["transformer_options"]["scale"], k, v, heads, *args, **kwargs)

    def by_step(executor, *args, **kwargs):
        options = args[5]
        late = float(options["sigmas"][0]) < float(options["sample_sigmas"][2]) + 1e-4
        return executor(*args[:5], {**options, "scale": 4.0 if late else 1.0, OVERRIDE_KEY: scaled}, **kwargs)

    model = build("flux")
    model.add_wrapper_with_key("apply_model", "by_step", by_step)
    positive = conditioning(20, [ref()])
    assert not close(run(compiled(model), positive, steps=4), run(model, positive, steps=4))


def test_flux_kv_cache_leaves_out_reference_queries_and_is_ruled_still():
    from comfy_extras.nodes_flux import FluxKVCache

    plain = FluxKVCache.execute(build("flux2"))[0]
    positive = with_hints(conditioning(20, [ref("flux2")]), plan_of(BOXES), LENGTHS, padding="trim")
    ours, sizes = recorded(ruled("flux2", model=FluxKVCache.execute(build("flux2"))[0]))
    out = run(ours, positive, "flux2", steps=3)
    assert close(out, dense_run(plain, positive, "flux2", steps=3))
    image = ROWS * COLS
    # The background's group sees text and all images; with the cache its queries hold no reference any more.
    whole = {q for q, k in sizes if k == 512 + 2 * image}
    assert len(whole) == 2


def recorded(model):
    """The model, and a list of (queries, keys) of every attention call that reaches the host."""
    sizes = []

    def record(func, q, k, v, heads, *args, **kwargs):
        sizes.append((q.shape[2], k.shape[2]))
        return func(q, k, v, heads, *args, **kwargs)

    model.model_options["transformer_options"][OVERRIDE_KEY] = record
    return model, sizes


@pytest.mark.parametrize("family", ["flux2", "qwen"])  # the host's Flux.1 blocks cannot do it
def test_a_reference_at_timestep_zero_is_ruled(family):
    spans = ((1, 4),) if family == "qwen" else ()
    positive = regional(family, spans=spans, reference_latents_method="index_timestep_zero")
    out = run(ruled(family), positive, family)
    assert close(out, dense_run(build(family), positive, family, spans=spans))
    assert not close(out, run(ruled(family), regional(family, spans=spans), family))


def test_tokens_that_a_patch_prepends_belong_to_the_global_prompt():
    """As USO's pictures come. The reference is given them as text: five more tokens before the global prompt."""
    extra = seeded(1, 5, 768, seed=77)
    model = build("flux")

    def prepend(args):
        lead = model.model.diffusion_model.txt_in(extra).expand(args["txt"].shape[0], -1, -1)
        args["txt"] = torch.cat([lead, args["txt"]], 1)
        args["txt_ids"] = torch.cat([torch.zeros_like(args["txt_ids"][:, :5]), args["txt_ids"]], 1)
        return args

    model.set_model_post_input_patch(prepend)
    positive = regional()
    out = run(ruled(model=model), positive)
    longer = [[torch.cat([extra, text], 1), values] for text, values in positive]
    assert close(out, dense_run(build("flux"), longer, "flux"))
    assert not close(out, run(ruled(), positive))


def test_a_padding_mask_that_comes_with_qwens_text_is_respected():
    mask = torch.ones(1, 20, dtype=torch.long)
    mask[:, 15:] = 0
    masked = regional("qwen", spans=((1, 4),), attention_mask=mask)

    def longer(values):
        return {**values, "attention_mask": torch.cat([mask, torch.ones(1, sum(LENGTHS), dtype=torch.long)], 1)}

    out = run(ruled("qwen"), masked, "qwen")
    assert close(out, dense_run(build("qwen"), masked, "qwen", spans=((1, 4),), change=longer))
    assert not close(out, run(ruled("qwen"), regional("qwen", spans=((1, 4),)), "qwen"))


@pytest.mark.parametrize("strength", [-2.0, -1e4])
def test_a_style_models_attention_bias_is_kept_and_hints_are_not_biased(strength):
    """Redux with `attn_bias` brings a square mask over text and image; here both ways of its last eight text tokens."""
    text, images, hints = 20, ROWS * COLS, sum(LENGTHS)
    bias = torch.zeros(1, text + images, text + images)
    bias[:, text:, 12:text] = strength
    bias[:, 12:text, text:] = strength / 2
    carried = with_hints(
        conditioning(text, attention_mask=bias, attention_mask_img_shape=(ROWS, COLS)), plan_of(BOXES), LENGTHS
    )
    longer = torch.zeros(1, text + hints + images, text + hints + images)
    longer[:, text + hints :, 12:text] = strength
    longer[:, 12:text, text + hints :] = strength / 2

    out = run(ruled(), carried)
    expected = dense_run(
        build("flux"), carried, "flux", edited=None, change=lambda values: {**values, "attention_mask": longer}
    )
    assert close(out, expected)
    assert not close(out, run(ruled(), with_hints(conditioning(text), plan_of(BOXES), LENGTHS)))


def tiny_controlnet():
    """A Flux ControlNet of one double and one single block with random weights, loaded as the host loads a file."""
    import comfy.controlnet
    import comfy.ops
    from comfy.ldm.flux.controlnet import ControlNetFlux
    from replan.tools.tiny_models import randomise

    sizes = {key: value for key, value in SIZES["flux"].items() if key != "image_model"}
    blank = ControlNetFlux(
        **{**sizes, "depth": 1, "depth_single_blocks": 1}, dtype=torch.float32, operations=comfy.ops.disable_weight_init
    )
    weights = randomise(blank.state_dict(), 13)
    # The host tells published files by this name, and knows it as `weight` within.
    weights = {key.replace("_norm.weight", "_norm.scale"): value for key, value in weights.items()}
    return comfy.controlnet.load_controlnet_state_dict(weights)


def test_a_controlnet_works_under_region_rules_and_sees_the_global_prompt_only():
    picture = torch.rand(1, 16 * ROWS, 16 * COLS, 3, generator=torch.Generator().manual_seed(4))
    apply = nodes.ControlNetApplyAdvanced().apply_controlnet
    positive, _ = apply(regional(), conditioning(20, seed=2), tiny_controlnet(), picture, 0.7, 0.0, 1.0)
    out = run(ruled(), positive)
    # The reference gets its hints as text, so it is told which text is the ControlNet's.
    expected = dense_run(
        build("flux"), positive, "flux", change=lambda values: {**values, "cross_attn_controlnet": positive[0][0]}
    )
    assert close(out, expected)
    assert not close(out, run(ruled(), regional()))


def test_a_fill_models_extra_channels_work_under_region_rules():
    fill = build(
        "flux", in_channels=96
    )  # the latent, the picture around the hole, and the hole's mask at 8 x 8 pixels a cell
    assert fill.model.diffusion_model.img_in.weight.shape[1] == 4 * 96
    hole = torch.zeros(1, 1, 16 * ROWS, 16 * COLS)
    hole[..., 30:70, 20:60] = 1
    # It has no reference images: the picture comes in these channels, and regions lie on the noise only.
    entries = conditioning(20, concat_latent_image=seeded(1, 16, 2 * ROWS, 2 * COLS, seed=21), concat_mask=hole)
    positive = with_hints(entries, plan_of(BOXES), LENGTHS)
    out = run(ruled(model=fill), positive)
    assert close(out, dense_run(fill, positive, "flux", edited=None))
    assert not close(out, run(ruled(model=fill), with_hints(conditioning(20), plan_of(BOXES), LENGTHS)))


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

    base = build("flux").model

    rules = make_rules("local_first", switch=0.5)[0]
    regions = RegionRules(rules, 1)

    def call(run, i):
        # Of equal length all, so that only the rules know whose plan is whose.
        plan = plan_of(BOXES[i % 2 : i % 2 + 1])
        hints = with_hints(conditioning(20, seed=i), plan, LENGTHS[:1], seed=50 + i)[0][1]["model_conds"][
            "replan_hints"
        ]
        sigma = (0.9, 0.4)[i // 2 % 2]  # before and after the switch
        options = {"sigmas": torch.tensor([sigma]), "sample_sigmas": torch.tensor([0.9, 0.4, 0.0]), "uuids": [i]}
        options[RUN_KEY] = run
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(
            base._apply_model, base, [regions.apply_model]
        )
        return executor.execute(
            seeded(*latent_shape("flux", ROWS, COLS)), torch.tensor([sigma]), None, seeded(1, 20, 768, seed=i), None,
            options, replan_hints=hints.process_cond(1).concat([]), y=seeded(1, 768),
        )  # fmt: skip

    alone = [call(Run(rules, print), i) for i in range(8)]
    # A run that has seen no call, so that the threads make the schedules, all at once.
    shared = Run(rules, print)
    barrier = threading.Barrier(8)

    def at_once(i):
        barrier.wait()
        return call(shared, i)

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(at_once, range(8)))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(alone, 2))


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
    with pytest.raises(RegionError, match="never came through ComfyUI"):
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
        out[:, -ROWS * COLS :] += optimized_attention(
            q, adapter, adapter, 2, skip_reshape=True, transformer_options=options
        )
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
    assert "at CFG 1 ComfyUI never evaluates it" in caplog.text


def test_applying_rules_twice_keeps_the_last():
    once = run(ruled(preset="symmetric"), regional())
    twice = run(ruled(preset="symmetric", model=ruled(preset="isolated_regions")), regional())
    assert torch.equal(once, twice)


def test_a_block_that_another_node_replaces_is_reported(caplog):
    model = build("flux")
    model.set_model_patch_replace(lambda args, extra: {"img": args["img"]}, "dit", "single_block", 0)
    with caplog.at_level(logging.WARNING):
        run(ruled(model=model), regional())
    assert len([r for r in caplog.records if "only 3 of the model's 4 blocks" in r.getMessage()]) == 1


@pytest.mark.parametrize(
    ("number", "message"),
    [(-1, "edited_reference is -1; count"), (2, "edited_reference is 2, but .* 0 reference images")],
)
def test_a_number_of_no_reference_image_is_refused(number, message):
    with pytest.raises(RegionError, match=message):
        run(ruled(edited_reference=number), with_hints(conditioning(), plan_of(BOXES), LENGTHS))


@pytest.mark.parametrize("count", [2, 30])
def test_indices_follow_the_device_of_the_latent_while_the_text_still_lies_on_the_cpu(count, monkeypatch):
    """As on a GPU, where the host moves the text only after our wrapper; torch's `meta` stands for that device."""
    boxes = [(3 * i, 2 * i, 3 * i + 9, 2 * i + 20) for i in range(count)]
    entry = with_hints(conditioning(20, [ref()]), plan_of(boxes), (3,) * count)[0]
    payload = entry[1]["model_conds"]["replan_hints"].process_cond(1).concat([])
    rules = make_rules("isolated_regions")[0]
    latent = torch.empty(latent_shape("flux", ROWS, COLS), device="meta")
    call = {"x": latent, "c_crossattn": entry[0], "kwargs": {"ref_latents": [ref()]}}
    state = RegionRules(rules, 1)._prepare(Run(rules, print), build("flux").model, payload, call, {})
    tokens = call["c_crossattn"].shape[1] + 2 * ROWS * COLS
    q = torch.empty(1, 2, tokens, 8, device="meta")

    def attention(q, k, v, heads, mask=None, **kwargs):
        assert {t.device.type for t in (q, k, v, *([] if mask is None else [mask]))} == {"meta"}
        return q.transpose(1, 2).flatten(2)

    monkeypatch.setattr(override, "masked_attention", lambda device: attention)
    options = {override.STATE_KEY: state}
    out = override.region_attention(attention, q, q, q, 2, skip_reshape=True, transformer_options=options)
    assert out.shape == (1, tokens, 16)
    ((schedule,),) = state.ready.values()
    spans = [span for group in schedule.groups for span in (group.queries, group.slot)]
    tensors = [span.index for span in (schedule.base, *spans)] + [schedule.atom, schedule.few_sees]
    assert {t.device.type for t in tensors if t is not None} == {"meta"}
