"""Region rules in the host's real sampling: exact, only where asked, and a good guest."""

import comfy.samplers
import pytest
import torch
from dense import COLS, OVERRIDE_KEY, ROWS, dense_run
from region_models import FAMILIES, build, conditioning, latent_shape, plan_of, sample, seeded, with_hints
from replan.attention.hints import attach_hints
from replan.attention.payload import RegionError
from replan.attention.rules import make_rules
from replan.attention.wrappers import add_region_rules
from replan.planner.plan import RegionPlan

BOXES = [(0, 0, 40, 40), (30, 30, 80, 70), (60, 5, 96, 50)]
LENGTHS = (7, 12, 5)


def rules(preset="replan", **kwargs):
    return make_rules(preset, **kwargs)[0]


def reference_latent(family, rows=ROWS, cols=COLS, seed=9):
    return seeded(*latent_shape(family, rows, cols), seed=seed)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("preset", "sampler", "cfg", "batch"),
    [
        ("replan", "euler", 1.0, 1),
        ("local_first", "heun", 4.0, 2),
        ("symmetric", "dpm_2", 1.0, 1),
        ("isolated_regions", "euler", 1.0, 1),
    ],
)
def test_a_ruled_run_equals_dense_attention_on_the_plain_host(family, preset, sampler, cfg, batch):
    model = build(family)
    references = [reference_latent(family), reference_latent(family, 4, 3, seed=11)]
    positive = conditioning(20, references)
    negative = conditioning(20, references, seed=2)
    spans = ((2, 6),) if family == "qwen" else ()
    padding = "host" if preset == "replan" else "trim"  # FLUX.2 pads hints to 512 under "host"
    ruled = with_hints(positive, plan_of(BOXES), LENGTHS, spans=spans, padding=padding)
    options = dict(steps=4, cfg=cfg, sampler=sampler)
    ours = sample(
        add_region_rules(model, rules(preset, switch=0.5), 1),
        ruled,
        negative,
        latent_shape(family, ROWS, COLS, batch),
        **options,
    )
    switch = 2 if preset == "local_first" else 0
    expected = dense_run(
        build(family), ruled, family, further=(12,), preset=preset,
        phases=lambda s: "before" if s < switch else "after", spans=spans, negative=negative, batch=batch, **options,
    )  # fmt: skip
    assert (ours - expected).abs().max() < 1e-4 * expected.abs().max()


def counted(model):
    """The model, and a list that grows by one entry with every call: which of cond and uncond it held."""
    calls = []

    def count(executor, *args, **kwargs):
        calls.append(sorted(args[5]["cond_or_uncond"]))
        return executor(*args, **kwargs)

    model.add_wrapper_with_key("apply_model", "count", count)
    return model, calls


def same_as_the_plain_host(family, preset, carried, negative_carries=False):
    """Positive and negative have the same shapes and references, so the plain host runs both in one call."""
    references = [reference_latent(family)]
    positive, negative = conditioning(20, references), conditioning(20, references, seed=2)
    shape = latent_shape(family, ROWS, COLS)
    plain, plain_calls = counted(build(family))
    expected = sample(plain, positive, negative, shape, cfg=3.0)
    assert plain_calls == [[0, 1]] * 2
    if negative_carries:
        negative = with_hints(negative, plan_of(BOXES[:1]), LENGTHS[:1])
    model, calls = counted(add_region_rules(build(family), rules(preset), 1))
    result = sample(model, carried(positive), negative, shape, cfg=3.0)
    assert calls == plain_calls
    assert torch.equal(result, expected)


@pytest.mark.parametrize("negative_carries", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_preset_off_is_bit_identical_to_the_plain_host_in_as_many_calls(family, negative_carries):
    same_as_the_plain_host(
        family, "off", lambda positive: with_hints(positive, plan_of(BOXES), LENGTHS), negative_carries
    )


@pytest.mark.parametrize("preset", ["replan", "off"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_plan_without_regions_is_bit_identical_to_the_plain_host_in_as_many_calls(family, preset):
    same_as_the_plain_host(family, preset, lambda positive: attach_hints(positive, None, RegionPlan((96, 96))))


def test_hints_change_the_picture_and_removing_the_node_removes_the_effect():
    model = build("flux")
    positive = conditioning(20, [reference_latent("flux")])
    ruled = with_hints(positive, plan_of(BOXES), LENGTHS)
    shape = latent_shape("flux", ROWS, COLS)
    before = sample(model, positive, None, shape)
    changed = sample(add_region_rules(model, rules(), 1), ruled, None, shape)
    assert (changed - before).abs().max() > 1e-2
    assert torch.equal(sample(model, positive, None, shape), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_regions_on_a_model_without_rules_raise(family):
    ruled = with_hints(conditioning(), plan_of(BOXES), LENGTHS)
    with pytest.raises(RegionError, match="3 regions.*RePlan Apply Region Rules.*preset 'off'"):
        sample(build(family), ruled, None, latent_shape(family, ROWS, COLS))


class Recorder:
    """Another pack's override that drops masks, as some attention replacements do."""

    def __init__(self):
        self.masks = []

    def __call__(self, func, q, k, v, heads, *args, **kwargs):
        self.masks.append(args[0] if args else kwargs.get("mask"))
        args = (None, *args[1:])
        kwargs.pop("mask", None)
        return func(q, k, v, heads, *args, **kwargs)


@pytest.mark.parametrize("first", [True, False])
def test_an_override_of_another_pack_is_called_for_each_group_and_changes_nothing(first):
    positive = with_hints(conditioning(20, [reference_latent("flux")]), plan_of(BOXES), LENGTHS)
    shape = latent_shape("flux", ROWS, COLS)
    alone = sample(add_region_rules(build("flux"), rules(), 1), positive, None, shape)
    neighbour = Recorder()
    model = build("flux")
    if first:
        model.model_options["transformer_options"][OVERRIDE_KEY] = neighbour
    model = add_region_rules(model, rules(), 1)
    if not first:
        model = model.clone()
        model.model_options["transformer_options"][OVERRIDE_KEY] = neighbour
    together = sample(model, positive, None, shape)
    assert len(neighbour.masks) > 2 * 4 * 4
    assert all(mask is None for mask in neighbour.masks)
    assert (alone - together).abs().max() < 1e-5 * alone.abs().max()


def test_a_negative_with_regions_of_its_own_is_ruled_too():
    shape = latent_shape("flux", ROWS, COLS)
    positive = with_hints(conditioning(), plan_of(BOXES), LENGTHS)
    model = add_region_rules(build("flux"), rules(), 1)
    plain = sample(model, positive, conditioning(seed=2), shape, cfg=4.0)
    ruled = sample(model, positive, with_hints(conditioning(seed=2), plan_of(BOXES), LENGTHS, seed=70), shape, cfg=4.0)
    other = sample(model, positive, with_hints(conditioning(seed=2), plan_of(BOXES[:1]), (9,), seed=70), shape, cfg=4.0)
    assert (plain - ruled).abs().max() > 1e-3
    assert (other - ruled).abs().max() > 1e-3


def test_positive_and_negative_of_one_layout_share_a_call_and_keep_their_own_hints():
    calls = []
    shape = latent_shape("flux", ROWS, COLS)
    positive = with_hints(conditioning(), plan_of(BOXES), LENGTHS)
    negative = with_hints(conditioning(seed=2), plan_of(BOXES), LENGTHS, seed=70)

    def record(executor, *args, **kwargs):
        calls.append(args[5]["cond_or_uncond"])
        return executor(*args, **kwargs)

    model = add_region_rules(build("flux"), rules(), 1)
    model.add_wrapper_with_key("apply_model", "record", record)
    together = sample(model, positive, negative, shape, cfg=4.0)
    assert all(sorted(call) == [0, 1] for call in calls)
    alone = add_region_rules(build("flux"), rules(), 1)
    # A key of its own keeps the negative out of the positive's batch.
    apart = [
        [text, {**values, "model_conds": {**values["model_conds"], "apart": comfy.conds.CONDConstant(1)}}]
        for text, values in negative
    ]
    assert (sample(alone, positive, apart, shape, cfg=4.0) - together).abs().max() < 1e-4


def test_two_conditionings_with_different_plans_each_follow_their_own():
    shape = latent_shape("flux", ROWS, COLS)
    one = with_hints(conditioning(), plan_of(BOXES[:1]), (9,))
    two = with_hints(conditioning(seed=5), plan_of(BOXES[1:]), (4, 6), seed=80)
    model = add_region_rules(build("flux"), rules(), 1)
    mean = (sample(model, one, None, shape, steps=1) + sample(model, two, None, shape, steps=1)) / 2
    assert (sample(model, one + two, None, shape, steps=1) - mean).abs().max() < 1e-4


@pytest.mark.parametrize("batch", [1, 3])
def test_every_image_of_a_batch_is_edited_as_if_alone(batch):
    shape = latent_shape("qwen", ROWS, COLS, batch)
    positive = with_hints(conditioning(20, [reference_latent("qwen")]), plan_of(BOXES), LENGTHS, spans=((1, 5),))
    model = add_region_rules(build("qwen"), rules(), 1)
    together = sample(model, positive, None, shape)
    noise = seeded(*shape, seed=3)
    for i in range(batch):
        alone = comfy.sample.sample(
            model,
            noise[i : i + 1],
            2,
            1.0,
            "euler",
            "simple",
            positive,
            positive,
            torch.zeros_like(noise[:1]),
            disable_pbar=True,
            seed=3,
        )
        assert (alone - together[i : i + 1]).abs().max() < 1e-4


def test_a_region_outside_its_start_and_end_is_background():
    shape = latent_shape("flux", ROWS, COLS)
    base = conditioning(20, [reference_latent("flux")])
    model = add_region_rules(build("flux"), rules(), 1)
    late = with_hints(base, plan_of(BOXES[:1], start=0.999, end=1.0), (9,))
    never = sample(model, late, None, shape)
    without = sample(build("flux"), base, None, shape)
    assert (never - without).abs().max() < 1e-4  # its hint is seen by nobody
    half = with_hints(base, plan_of(BOXES[:1], start=0.0, end=0.5), (9,))
    whole = with_hints(base, plan_of(BOXES[:1]), (9,))
    results = [sample(model, c, None, shape, steps=4) for c in (half, whole)] + [
        sample(build("flux"), base, None, shape, steps=4)
    ]
    assert all((results[a] - results[b]).abs().max() > 1e-3 for a, b in ((0, 1), (0, 2), (1, 2)))


def test_a_mask_keeps_a_region_to_the_patches_it_touches():
    from dataclasses import replace

    import numpy as np
    from replan.planner.plan import RegionMask

    plan = plan_of([(0, 0, 96, 96)])
    half = np.zeros((96, 96))
    half[:, :48] = 1
    masked = plan.with_regions([replace(plan.regions[0], mask=RegionMask.from_array(half))])
    boxed = plan_of([(0, 0, 48, 96)])
    base = conditioning(20, [reference_latent("flux")])
    model = add_region_rules(build("flux"), rules(), 1)
    shape = latent_shape("flux", ROWS, COLS)
    a, b = (sample(model, with_hints(base, p, (9,)), None, shape) for p in (masked, boxed))
    assert torch.equal(a, b)


def test_a_zeroed_out_conditioning_has_zero_hints():
    import nodes

    plan, shape = plan_of(BOXES), latent_shape("flux", ROWS, COLS)
    model = add_region_rules(build("flux"), rules(), 1)
    regional = with_hints(conditioning(), plan, LENGTHS)
    zeroed = nodes.ConditioningZeroOut().zero_out(regional)[0]
    zero_hints = with_hints(nodes.ConditioningZeroOut().zero_out(conditioning())[0], plan, LENGTHS)
    zero_hints[0][1]["model_conds"]["replan_hints"].text = type(regional[0][1]["model_conds"]["replan_hints"].text)(
        plan, tuple(torch.zeros(1, n, 768) for n in LENGTHS), 20, 0.0
    )
    assert torch.equal(sample(model, zeroed, None, shape), sample(model, zero_hints, None, shape))


def test_text_concatenated_later_belongs_to_the_global_prompt():
    import nodes

    shape = latent_shape("flux", ROWS, COLS)
    model = add_region_rules(build("flux"), rules(), 1)
    plan, more = plan_of(BOXES), conditioning(8, seed=30)
    late = nodes.ConditioningConcat().concat(with_hints(conditioning(), plan, LENGTHS), more)[0]
    early = with_hints(nodes.ConditioningConcat().concat(conditioning(), more)[0], plan, LENGTHS)
    assert torch.equal(sample(model, late, None, shape), sample(model, early, None, shape))


def test_interrupting_stops_in_the_middle_of_a_call():
    import comfy.model_management as mm

    positive = with_hints(conditioning(), plan_of(BOXES), LENGTHS)
    model = add_region_rules(build("flux"), rules(), 1)
    calls = []

    def stop(func, *args, **kwargs):
        calls.append(1)
        mm.interrupt_current_processing(True)
        return func(*args, **kwargs)

    model.model_options["transformer_options"][OVERRIDE_KEY] = stop
    with pytest.raises(mm.InterruptProcessingException):
        sample(model, positive, None, latent_shape("flux", ROWS, COLS))
    assert len(calls) == 1
