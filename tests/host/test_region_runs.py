"""A run under region rules as a whole: its steps, its memory, its tiles, and what it tells the user."""

import logging
import weakref
from dataclasses import replace

import comfy.conds
import comfy.sample
import comfy.samplers
import pytest
import torch
from region_models import FAMILIES, build, conditioning, latent_shape, plan_of, sample, seeded, with_hints
from replan.attention import schedules, wrappers
from replan.attention.payload import PAYLOAD_KEY, HintCond, RegionError
from replan.attention.rules import make_rules
from replan.attention.wrappers import add_region_rules
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import nodes

ROWS = COLS = 6
BOXES = [(0, 0, 40, 40), (30, 30, 80, 70)]
LENGTHS = (7, 12)


def ruled(family="flux", preset="replan", told=None, model=None, **kwargs):
    rules = make_rules(preset, **kwargs)[0]
    return add_region_rules(model or build(family), rules, 1, None if told is None else told.append)


def ref(family="flux", rows=ROWS, cols=COLS):
    return seeded(*latent_shape(family, rows, cols), seed=9)


def regional(family="flux", plan=None, padding="trim", references=True, **extra):
    base = conditioning(20, [ref(family)] if references else [], **extra)
    return with_hints(base, plan or plan_of(BOXES), LENGTHS, padding=padding)


def stage(model, positive, steps, latent=None, *, scheduler="simple", sampler="euler", cfg=1.0, start=0, end=None):
    """One KSampler (Advanced) node, or a whole KSampler without start and end."""
    given = torch.zeros(latent_shape("flux", ROWS, COLS)) if latent is None else latent
    return nodes.common_ksampler(
        model, 3, steps, cfg, sampler, scheduler, positive, conditioning(20, seed=2), {"samples": given},
        disable_noise=start > 0, start_step=start or None, last_step=end, force_full_denoise=end is None,
    )[0]["samples"]  # fmt: skip


@pytest.fixture
def phases(monkeypatch):
    """The phase of every model call under rules, in order, with its sigma."""
    found = []
    phase_of = wrappers.call.phase_of

    def spy(rules, sampling, options):
        phase = phase_of(rules, sampling, options)
        found.append((round(float(options["sigmas"][0]), 6), phase))
        return phase

    monkeypatch.setattr(wrappers.call, "phase_of", spy)
    return found


# The switch


@pytest.mark.parametrize("scheduler", comfy.samplers.SCHEDULER_NAMES)
def test_one_stage_and_two_stages_switch_at_the_same_noise_level_under_every_scheduler(scheduler, phases):
    model, positive = ruled(preset="local_first", switch=0.4), regional()
    whole = stage(model, positive, 8, scheduler=scheduler)
    one = list(phases)
    phases.clear()
    half = stage(model, positive, 8, scheduler=scheduler, end=4)
    parts = stage(model, positive, 8, half, scheduler=scheduler, start=4)
    assert phases == one
    assert (parts - whole).abs().max() < 1e-4 * whole.abs().max()
    assert [phase for _, phase in one] == sorted((phase for _, phase in one), reverse=True)
    if scheduler in ("simple", "sgm_uniform"):
        assert [phase for _, phase in one].count("before") == 3


def test_split_sigmas_agree_with_one_sampler_node(phases):
    from comfy_extras.nodes_custom_sampler import SplitSigmas

    model, positive = ruled(preset="local_first", switch=0.5), regional()
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 8)
    noise, sampler = seeded(*latent_shape("flux", ROWS, COLS), seed=3), comfy.samplers.sampler_object("heun")

    def run(noise, sigmas, latent):
        return comfy.sample.sample_custom(
            model, noise, 1.0, sampler, sigmas, positive, positive, latent, disable_pbar=True, seed=3
        )

    whole = run(noise, sigmas, torch.zeros_like(noise))
    one = list(phases)
    phases.clear()
    high, low = SplitSigmas.execute(sigmas, 5).result
    parts = run(torch.zeros_like(noise), low, run(noise, high, torch.zeros_like(noise)))
    assert phases == one
    assert (parts - whole).abs().max() < 1e-4 * whole.abs().max()
    assert {phase for _, phase in one} == {"before", "after"}
    assert len(one) > 8  # heun calls the model more than once a step


@pytest.mark.parametrize(("family", "share", "steps", "expected"), [("flux", 0.05, 28, 1), ("qwen", 0.5, 50, 25)])
@pytest.mark.parametrize("scheduler", ["simple", "sgm_uniform"])
def test_the_published_counts_come_out_of_the_hosts_schedulers(family, share, steps, expected, scheduler):
    sampling = build(family).get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, steps).tolist()
    rules = make_rules("local_first")[0].for_family(family)
    assert rules.switch == share
    before = wrappers.call.steps_before(rules, sampling, sigmas)
    assert before == [True] * expected + [False] * (steps - expected)


def test_switch_step_is_over_in_a_second_node_and_a_first_one_that_is_shorter_is_said_once(phases):
    told = []
    model, positive = ruled(preset="local_first", switch_step=3, told=told), regional()
    half = stage(model, positive, 6, end=2)
    stage(model, positive, 6, half, start=2)
    assert [phase for _, phase in phases] == ["before"] * 2 + ["after"] * 4
    assert len(told) == 1
    assert "switch_step is 3, but this sampler node runs 2 steps" in told[0]
    phases.clear(), told.clear()
    half = stage(model, positive, 6, end=4)
    stage(model, positive, 6, half, start=4)
    assert [phase for _, phase in phases] == ["before"] * 3 + ["after"] * 3
    assert told == []


def test_a_run_without_a_step_before_the_switch_says_so_once():
    told = []
    model = ruled(preset="local_first", told=told)  # Flux's default: 0.05
    half = stage(model, regional(), 4, end=2)
    assert len(told) == 1
    assert "the switch is at 0.05 of the noise schedule and the first of this sampler node's 2 steps" in told[0]
    stage(model, regional(), 4, half, start=2)
    assert len(told) == 1  # a second stage is not the place to say it
    stage(ruled(preset="local_first", switch=0.0, told=told), regional(), 4)
    stage(ruled(preset="local_first", switch=0.5, told=told), regional(), 4)
    stage(ruled(preset="replan", told=told), regional(), 4)
    assert len(told) == 1


def test_a_run_from_half_way_down_says_that_the_switch_is_behind_it():
    told = []
    model = ruled(preset="local_first", switch=0.5, told=told)
    sample(model, regional(), None, latent_shape("flux", ROWS, COLS), steps=4, denoise=0.5)
    assert len(told) == 1
    assert "this sampler node starts beyond it (denoise below 1" in told[0]


# Tiles


def tiled(model, size, stacked=False, same=False):
    """The model as a tiled sampler leaves it: each call becomes calls of size x size cells, or one of all."""

    def wrapper(apply, call):
        x, t, c = call["input"], call["timestep"], call["c"]
        if same:  # every row twice, as a sampler does that compares two passes
            return apply(torch.cat([x, x]), torch.cat([t, t]), **doubled(c, 2))[: len(x)]
        places = [(i, j) for i in range(0, x.shape[-2], size) for j in range(0, x.shape[-1], size)]
        cut = [x[..., i : i + size, j : j + size] for i, j in places]
        if stacked:
            done = apply(torch.cat(cut), t.repeat(len(cut)), **doubled(c, len(cut))).chunk(len(cut))
        else:
            done = [apply(part, t, **c) for part in cut]
        out = torch.empty_like(x)
        for (i, j), part in zip(places, done, strict=True):
            out[..., i : i + size, j : j + size] = part
        return out

    model = model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    return model


def doubled(c, times):
    """What Tiled Diffusion does to the arguments: tensors are repeated to the batch, all else is handed on."""
    return {k: v.repeat(times, *[1] * (v.ndim - 1)) if torch.is_tensor(v) else v for k, v in c.items()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stacked", [False, True])
def test_a_sampler_that_cuts_the_latent_into_tiles_is_refused(family, stacked):
    size = 3 if family == "flux2" else 6
    model, positive = tiled(ruled(family), size, stacked), regional(family, references=False)
    with pytest.raises(RegionError, match=f"latent of {size}x{size} cells.*samples one of .*Tiled Diffusion.*tile"):
        sample(model, positive, None, latent_shape(family, ROWS, COLS))
    plain = conditioning(20)
    assert torch.isfinite(sample(model, plain, None, latent_shape(family, ROWS, COLS))).all()


def test_tiles_of_the_whole_size_are_no_tiles():
    shape, positive = latent_shape("flux", ROWS, COLS), regional()
    whole = sample(ruled(), positive, None, shape)
    assert torch.equal(sample(tiled(ruled(), 2 * ROWS), positive, None, shape), whole)


def test_rows_that_a_node_adds_to_the_batch_are_refused_in_words():
    with pytest.raises(RegionError, match="with 2 latents and 2 texts where the sampler had 1.*tiles in one batch"):
        sample(tiled(ruled(), 0, same=True), regional(references=False), None, latent_shape("flux", ROWS, COLS))


def test_a_latent_much_smaller_than_the_plans_image_is_said_once_a_run():
    told = []
    plan = plan_of(BOXES, size=(192, 192))
    model = ruled(told=told)
    for runs in (1, 2):
        sample(model, regional(plan=plan, references=False), None, latent_shape("flux", ROWS, COLS), steps=3)
        assert len(told) == runs
    assert "an image of 192x192 pixels and the latent is one of 96x96" in told[0]
    sample(model, regional(references=False), None, latent_shape("flux", 2 * ROWS, 2 * COLS))
    assert len(told) == 2  # a second pass at twice the size is usual


# What a run tells


def test_negative_hints_that_nothing_carries_are_named():
    told = []
    plan = plan_of(BOXES, negative_hint="blurry")
    shape = latent_shape("flux", ROWS, COLS)
    for cfg, remedy in ((1.0, True), (3.0, False)):
        sample(ruled(told=told), regional(plan=plan), conditioning(20, seed=2), shape, cfg=cfg)
        assert "negative hints of region 'r1', 'r2' do nothing" in told[-1]
        assert "second RePlan Region Conditioning" in told[-1]
        assert ("raise CFG above 1" in told[-1]) == remedy
    assert len(told) == 2
    zeroed = nodes.ConditioningZeroOut().zero_out(regional(plan=plan))[0]  # nobody meant these to be negative hints
    sample(ruled(told=told), regional(plan=plan), zeroed, shape, cfg=3.0)
    assert len(told) == 3
    negative = regional(plan=plan, seed=2)
    sample(ruled(told=told), regional(plan=plan), negative, shape, cfg=3.0)
    assert len(told) == 4 and "the negative conditioning carries other hints. Set `use`" in told[-1]
    sample(ruled(told=told), regional(plan=plan), as_negative_hints(negative), shape, cfg=3.0)
    assert len(told) == 4
    first = as_negative_hints(
        with_hints(conditioning(20, [ref()], seed=2), plan_of(BOXES[:1]), LENGTHS[:1], padding="trim")
    )
    sample(ruled(told=told), regional(plan=plan), first, shape, cfg=3.0)
    assert len(told) == 5 and "of region 'r2' do nothing: the negative conditioning was given another" in told[-1]


def as_negative_hints(entries):
    """The same conditioning as if its hints were the negative ones."""
    ((text, values),) = entries
    carried = replace(values["model_conds"][PAYLOAD_KEY].text, use="negative_hint")
    return [[text, {**values, "model_conds": {**values["model_conds"], PAYLOAD_KEY: HintCond(carried)}}]]


@pytest.mark.parametrize("node", ["ConditioningConcat", "ConditioningAverage"])
def test_regions_that_a_node_dropped_are_told(node):
    first, second, told = conditioning(20, [ref()]), regional(), []
    if node == "ConditioningConcat":
        merged = nodes.ConditioningConcat().concat(first, second)[0]
    else:
        merged = nodes.ConditioningAverage().addWeighted(first, second, 0.5)[0]
    shape = latent_shape("flux", ROWS, COLS)
    sample(ruled(told=told), merged, conditioning(20, seed=2), shape, cfg=3.0)
    assert "no conditioning of this run carries regions" in told[0] and node in told[0]
    sample(ruled(told=told), merged, regional(), shape, cfg=3.0)
    assert "only the negative conditioning of this run carries regions" in told[1] and node in told[1]
    assert len(told) == 2


def test_without_a_teller_warnings_go_to_the_log_under_the_nodes_name(caplog):
    with caplog.at_level(logging.WARNING):
        sample(ruled(), conditioning(20), None, latent_shape("flux", ROWS, COLS))
    assert any(r.getMessage().startswith("RePlan Apply Region Rules: no conditioning") for r in caplog.records)


def test_the_node_hands_warnings_of_a_run_to_what_reaches_the_page(caplog):
    from replan.nodes.rules import RePlanApplyRegionRules

    model = RePlanApplyRegionRules.execute(build("flux")).result[0]
    with caplog.at_level(logging.WARNING):
        sample(model, conditioning(20), None, latent_shape("flux", ROWS, COLS))
    told = [r.getMessage() for r in caplog.records if r.name == "replan.nodes.notices"]
    assert len(told) == 1
    assert told[0].startswith("RePlan Apply Region Rules: no conditioning of this run carries regions")


# Memory, and what is made when


@pytest.mark.parametrize("padding", ["host", "trim"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_memory_estimate_counts_the_tokens_that_arrive_at_the_model(family, padding):
    asked, arrived = [], []

    def spy(executor, model, noise_shape, conds, *args, **kwargs):
        asked.append(noise_shape)
        return executor(model, noise_shape, conds, *args, **kwargs)

    def texts(executor, *args, **kwargs):
        arrived.append(args[3].shape[1])
        return executor(*args, **kwargs)

    model = ruled(family)
    model.add_wrapper_with_key("prepare_sampling", "spy", spy)
    model.add_wrapper_with_key("apply_model", "texts", texts)
    shape = latent_shape(family, ROWS, COLS)
    sample(model, regional(family, padding=padding), None, shape)
    sample(model, conditioning(20, [ref(family)]), None, shape)
    ours, plain = (shape[-1] * shape[-2] for shape in asked)
    hints = arrived[0] - arrived[-1]
    assert hints == (2 * 512 if family == "flux2" and padding == "host" else sum(LENGTHS))
    cell = {"flux": 4, "flux2": 1, "qwen": 4}[family]
    assert plain + cell * hints <= ours <= plain + cell * hints + plain  # an eighth of two images more, rounded up


def inside(model, entered):
    """The model; `entered` gets an entry whenever its first block begins."""
    network = model.model.diffusion_model
    blocks = getattr(network, "double_blocks", None) or network.transformer_blocks
    return blocks[0].register_forward_pre_hook(lambda *_: entered.append("block"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adds", [False, True], ids=["as usual", "a patch adds tokens"])
def test_schedules_are_made_before_the_first_block_of_a_call(family, adds, monkeypatch):
    order, model = [], build(family)
    made = schedules.schedule_groups
    monkeypatch.setattr(schedules, "schedule_groups", lambda *a: order.append("schedule") or made(*a))

    def prepend(args):
        order.append("patch")
        args["txt"] = torch.cat([args["txt"][:, :5], args["txt"]], 1)
        args["txt_ids"] = torch.cat([args["txt_ids"][:, :5], args["txt_ids"]], 1)
        return args

    def count(executor, *args, **kwargs):
        order.append("model")
        return executor(*args, **kwargs)

    if adds:
        model.set_model_post_input_patch(prepend)
    model = ruled(family, preset="local_first", switch=0.5, model=model)
    model.add_wrapper_with_key("apply_model", "count", count)
    hook = inside(model, order)
    try:
        sample(model, regional(family), None, latent_shape(family, ROWS, COLS), steps=4)
    finally:
        hook.remove()
    # Two phases, so two schedules; other calls find them.
    first = ["model", "patch", "schedule", "block"] if adds else ["schedule", "model", "block"]
    again = ["model", "patch", "block"] if adds else ["model", "block"]
    assert order == (first + again) * 2


class Made(TorchDispatchMode):
    """Remembers every tensor that is made while it is on."""

    def __init__(self):
        super().__init__()
        self.tensors = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.tensors += [weakref.ref(leaf) for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        return out


@pytest.mark.parametrize("neighbour", [False, True])
def test_an_attention_call_keeps_nothing_but_its_result(neighbour, monkeypatch):
    """Later ComfyUI versions capture a run's memory: what is first made inside a block and kept ends the run."""
    kept, calls, attention = [], [], wrappers.region_attention

    def watched(func, q, k, v, *args, **kwargs):
        with Made() as made:
            out = attention(func, q, k, v, *args, **kwargs)
        calls.append(len(made.tensors))
        known = {x.untyped_storage().data_ptr() for x in (q, k, v, out)}
        alive = [one() for one in made.tensors if one() is not None]
        kept.extend(tuple(x.shape) for x in alive if x.untyped_storage().data_ptr() not in known)
        return out

    monkeypatch.setattr(wrappers, "region_attention", watched)
    boxes = [(3 * i, 2 * i, 3 * i + 30, 2 * i + 40) for i in range(12)]
    model = build("flux")
    if neighbour:
        passes = model.model_options["transformer_options"]
        passes["optimized_attention_override"] = lambda func, *args, **kwargs: func(*args, **kwargs)
    positive = with_hints(conditioning(20, [ref()]), plan_of(boxes), (3,) * 12)
    model = ruled(preset="isolated_regions", model=model)
    sample(model, positive, None, latent_shape("flux", ROWS, COLS))
    assert len(calls) == 8 and min(calls) > 20
    assert kept == []
