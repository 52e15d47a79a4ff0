"""Positive and negative in one model call, where something compares them: Normalized Attention Guidance, above all."""

import pytest
import reference
import torch
from comfy_extras.nodes_nag import NAGuidance
from dense import COLS, OVERRIDE_KEY, ROWS, joined, left_padded
from region_models import build, conditioning, latent_shape, plan_of, sample, seeded, with_hints
from replan.attention.payload import PAYLOAD_KEY
from replan.attention.rules import make_rules
from replan.attention.wrappers import add_region_rules

BOXES = [(0, 0, 40, 40), (30, 30, 80, 70)]
LENGTHS = (7, 12)
OTHERS = [(20, 0, 96, 50), (0, 60, 40, 96), (50, 50, 96, 96)]
SHORT = (4, 3, 6)


def nag(model, scale=4.0):
    return NAGuidance.execute(model, scale, 0.5, 1.5)[0]


def ruled(model, told=None, preset="replan"):
    return add_region_rules(model, make_rules(preset)[0], 1, None if told is None else told.append)


def references(family):
    return [seeded(*latent_shape(family, ROWS, COLS), seed=9)]


def positive(family, padding="trim"):
    return with_hints(conditioning(20, references(family)), plan_of(BOXES), LENGTHS, padding=padding)


def negative(family, regions=False, tokens=20):
    plain = conditioning(tokens, references(family), seed=2)
    return with_hints(plain, plan_of(OTHERS), SHORT, seed=70, padding="trim") if regions else plain


def carried(entries):
    payload = entries[0][1].get("model_conds", {}).get(PAYLOAD_KEY)
    return payload.text if payload else None


def dense_sides(model, sides, family):
    """The model and its conditionings as they are without the pack: each side's hints are text, filled up to equal
    length, under one dense mask for each side."""
    own = [carried(entries) for entries in sides]
    lengths = [[hint.shape[1] for hint in text.hints] if text else [] for text in own]
    longest, main = max(map(sum, lengths)), 512 if family == "flux2" else 20
    masks, plain = [], []
    for entries, text, hints in zip(sides, own, lengths, strict=True):
        if text:
            entries = joined(entries, family, text.padding)
        elif family == "flux2":
            entries = [[left_padded(words), values] for words, values in entries]
        filling = longest - sum(hints)
        plain.append([[torch.nn.functional.pad(words, (0, 0, 0, filling)), values] for words, values in entries])
        regions = text.plan.regions if text else ()
        inside = {r.id: reference.patches_of(r.box, (96, 96), ROWS, COLS, ROWS, COLS) for r in regions}
        names = reference.tokens(tuple(inside), main, (), hints, (ROWS, COLS, inside), (ROWS, COLS, inside), ())
        at = main + sum(hints)
        names[at:at] = [{"filling"}] * filling

        def rule(query, key, text=text):
            if "filling" in (query, key):
                return query == key
            return text is None or reference.allowed("replan", "after", query, key)

        masks.append(reference.dense_mask(names, rule))

    def override(func, q, k, v, heads, *args, **kwargs):
        which = kwargs["transformer_options"]["cond_or_uncond"]
        each = len(q) // len(which)
        mask = torch.stack([masks[side] for side in which]).repeat_interleave(each, 0)[:, None]
        return reference.attention(q, k, v, mask, args[0] if args else kwargs.get("mask")).to(q.dtype)

    model = model.clone()
    model.model_options["transformer_options"][OVERRIDE_KEY] = override
    return model, *plain


def counted(model):
    """The model, and a list of every call's (cond_or_uncond, text tokens) as they come to the diffusion model."""
    calls = []

    def count(executor, *args, **kwargs):
        calls.append((sorted(args[5]["cond_or_uncond"]), args[3].shape[1]))
        return executor(*args, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key("apply_model", "count", count)
    return model, calls


def difference(a, b):
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("family", ["flux", "flux2"])
@pytest.mark.parametrize("regions", [False, True], ids=["plain negative", "negative with other regions"])
@pytest.mark.parametrize(("cfg", "batch", "sampler"), [(1.0, 1, "euler"), (3.5, 2, "heun")])
def test_nag_acts_under_region_rules_as_in_dense_attention(family, regions, cfg, batch, sampler):
    shape, sides = latent_shape(family, ROWS, COLS, batch), (positive(family), negative(family, regions))
    options = dict(steps=3, cfg=cfg, sampler=sampler)
    model, calls = counted(ruled(nag(build(family))))
    ours = sample(model, *sides, shape, **options)
    assert all(which == [0, 1] for which, _ in calls)
    dense, *plain = dense_sides(nag(build(family)), sides, family)
    assert difference(ours, sample(dense, *plain, shape, **options)) < 1e-4
    without = sample(ruled(build(family)), *sides, shape, **options)
    assert difference(ours, without) > 0.05


def test_nag_may_come_before_or_after_the_rules_in_the_graph():
    sides, shape = (positive("flux"), negative("flux")), latent_shape("flux", ROWS, COLS)
    assert torch.equal(
        sample(nag(ruled(build("flux"))), *sides, shape), sample(ruled(nag(build("flux"))), *sides, shape)
    )


def test_negative_hints_act_at_cfg_1_with_nag():
    told, shape = [], latent_shape("flux", ROWS, COLS)
    model = ruled(nag(build("flux")), told)
    plain, regional = (sample(model, positive("flux"), negative("flux", r), shape) for r in (False, True))
    assert difference(plain, regional) > 0.01
    assert told == []


def test_both_sides_with_regions_of_their_own_share_a_call_without_nag_too():
    sides, shape = (positive("flux"), negative("flux", True)), latent_shape("flux", ROWS, COLS, 2)
    model, calls = counted(ruled(build("flux")))
    ours = sample(model, *sides, shape, cfg=3.0)
    assert calls == [([0, 1], 20 + sum(LENGTHS))] * 2
    dense, *plain = dense_sides(build("flux"), sides, "flux")
    assert difference(ours, sample(dense, *plain, shape, cfg=3.0)) < 1e-4


def test_without_nag_a_negative_without_regions_is_a_call_of_its_own_without_more_tokens():
    model, calls = counted(ruled(build("flux")))
    sample(model, positive("flux"), negative("flux"), latent_shape("flux", ROWS, COLS), cfg=3.0)
    assert sorted(calls[:2]) == [([0], 20 + sum(LENGTHS)), ([1], 20)]


@pytest.mark.parametrize("why", ["texts of other lengths", "short memory"])
def test_where_comfyui_runs_the_two_apart_nag_does_nothing_and_one_warning_says_so(why, monkeypatch):
    told, shape = [], latent_shape("flux", ROWS, COLS)
    sides = (positive("flux"), negative("flux", tokens=24 if why.startswith("texts") else 20))
    expected = sample(ruled(build("flux")), *sides, shape, cfg=3.0)
    model, calls = counted(ruled(nag(build("flux")), told))
    if why == "short memory":
        monkeypatch.setattr(type(model.model), "memory_required", lambda self, shape, **_: shape[0] * 1e15)
        monkeypatch.setattr("comfy.model_management.load_models_gpu", lambda *_, **__: None)
    ours = sample(model, *sides, shape, cfg=3.0)
    assert [which for which, _ in calls[:2]] == [[1], [0]] or [which for which, _ in calls[:2]] == [[0], [1]]
    assert difference(ours, expected) < 1e-5
    assert len(told) == 1
    assert "ComfyUI ran them apart" in told[0]


def test_on_qwen_nag_does_nothing_and_a_warning_says_so():
    told, shape = [], latent_shape("qwen", ROWS, COLS)
    sides = (positive("qwen"), negative("qwen"))
    plain_nag = sample(nag(build("qwen")), conditioning(20, references("qwen")), sides[1], shape, cfg=3.0)
    plain = sample(build("qwen"), conditioning(20, references("qwen")), sides[1], shape, cfg=3.0)
    assert torch.equal(plain_nag, plain)  # what the warning says of the host without the pack
    model, calls = counted(ruled(nag(build("qwen")), told))
    sample(model, *sides, shape, cfg=3.0)
    assert ([1], 20) in calls  # no token more for nothing
    assert len(told) == 1
    assert "in Flux models only, not in a QwenImage" in told[0]


@pytest.mark.parametrize("negative_has_regions", [False, True])
def test_an_override_of_another_pack_hears_which_rows_it_gets(negative_has_regions):
    heard = set()

    def neighbour(func, q, k, v, heads, *args, **kwargs):
        heard.add((tuple(kwargs["transformer_options"]["cond_or_uncond"]), len(q)))
        return func(q, k, v, heads, *args, **kwargs)

    model = nag(build("flux"))
    model.model_options["transformer_options"][OVERRIDE_KEY] = neighbour
    shape = latent_shape("flux", ROWS, COLS, 2)
    sample(ruled(model), positive("flux"), negative("flux", negative_has_regions), shape, cfg=3.0)
    assert heard == {((0,), 2), ((1,), 2)}
