"""Hints for Flux: encoded on their own by a real (tiny) text encoder and attached beside any conditioning."""

from dataclasses import replace

import comfy.model_management
import pytest
import torch
from replan.attention.hints.attach import TOKEN_BUDGET, USES, attach_hints
from replan.attention.payload import PAYLOAD_KEY, RegionError
from replan.planner.plan import Region, RegionPlan


def plan_of(*hints, **more):
    regions = [Region(f"r{i + 1}", (10.0 * i, 0, 10.0 * i + 10, 10), hint, **more) for i, hint in enumerate(hints)]
    return RegionPlan((1000, 64), "", tuple(regions))


def payload(entry):
    return entry[1]["model_conds"][PAYLOAD_KEY].text


@pytest.fixture(scope="module")
def clip(load_tiny):
    return load_tiny("clip_l")


@pytest.fixture(scope="module")
def conditioning(clip):
    return clip.encode_from_tokens_scheduled(clip.tokenize("a calm street at noon"))


def encode(clip, text):
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0]


def test_each_hint_equals_the_host_encoding_of_that_text_alone(clip, conditioning):
    plan = plan_of("a red hat", "a (blue:1.3) dog")
    out = attach_hints(conditioning, clip, plan)
    text = payload(out[0])
    assert text.plan.regions == plan.regions
    assert text.text_tokens == 77 and text.padding == "host" and text.image_spans == ()
    assert text.text_norm == pytest.approx(float(conditioning[0][0].norm()), rel=1e-5)
    for hint, region in zip(text.hints, plan.regions, strict=True):
        torch.testing.assert_close(hint, encode(clip, region.hint), rtol=0, atol=0)


def test_nothing_of_the_input_changes_and_everything_else_in_it_stays(clip, conditioning):
    other = object()
    extras = {**conditioning[0][1], "guidance": 2.5, "model_conds": {"other": other}}
    before = [[conditioning[0][0], extras]]
    out = attach_hints(before, clip, plan_of("a red hat"))
    assert out is not before and set(before[0][1]["model_conds"]) == {"other"}
    assert out[0][0] is before[0][0]
    assert out[0][1]["pooled_output"] is extras["pooled_output"] and out[0][1]["guidance"] == 2.5
    assert out[0][1]["model_conds"]["other"] is other


def test_the_text_norm_is_that_of_one_row(clip, conditioning):
    twice = [[conditioning[0][0].repeat(2, 1, 1), conditioning[0][1]]]
    one, two = (payload(attach_hints(c, clip, plan_of("hat"))[0]).text_norm for c in (conditioning, twice))
    assert one == pytest.approx(two, rel=1e-5)


@pytest.mark.parametrize("use, plan", [("hint", RegionPlan((64, 64))), ("negative_hint", plan_of("a red hat"))])
def test_with_nothing_to_attach_the_same_object_comes_back(use, plan, clip, conditioning):
    assert attach_hints(conditioning, clip, plan, use=use) is conditioning
    assert attach_hints(conditioning, None, plan, use=use) is conditioning


def test_negative_hints_take_only_the_regions_that_have_one(clip, conditioning):
    regions = [
        Region("r1", (0, 0, 5, 5), "hat"),
        Region("r2", (5, 5, 9, 9), "", "no dog"),
        Region("r3", (1, 1, 3, 3), "", " "),
    ]
    text = payload(attach_hints(conditioning, clip, RegionPlan((9, 9), "", tuple(regions)), use="negative_hint")[0])
    assert text.plan.ids == ("r2",)
    torch.testing.assert_close(text.hints[0], encode(clip, "no dog"), rtol=0, atol=0)


def test_equal_hints_are_encoded_once(clip, conditioning, monkeypatch):
    calls = []
    original = type(clip).encode_from_tokens_scheduled

    def counting(self, tokens, *args, **kwargs):
        calls.append(tokens)
        return original(self, tokens, *args, **kwargs)

    monkeypatch.setattr(type(clip), "encode_from_tokens_scheduled", counting)
    text = payload(attach_hints(conditioning * 2, clip, plan_of("hat", "dog", "hat", "hat"))[1])
    assert len(calls) == 2 and len(text.hints) == 4
    assert torch.equal(text.hints[0], text.hints[3]) and not torch.equal(text.hints[0], text.hints[1])


def test_trim_keeps_start_words_and_one_end_token(clip, conditioning):
    hint = payload(attach_hints(conditioning, clip, plan_of("a red hat"), padding="trim")[0]).hints[0]
    torch.testing.assert_close(hint, encode(clip, "a red hat")[:, :5], rtol=0, atol=0)


def test_trim_of_a_hint_of_several_sections_drops_only_padding(clip, conditioning):
    words = " ".join(["hat"] * 80)  # 75 fit in one section beside start and end
    hint = payload(attach_hints(conditioning, clip, plan_of(words), padding="trim")[0]).hints[0]
    whole = encode(clip, words)
    assert whole.shape[1] == 154
    torch.testing.assert_close(hint, whole[:, : 77 + 7], rtol=0, atol=0)


def test_reference_is_host_where_there_is_no_t5(clip, conditioning):
    one, two = (payload(attach_hints(conditioning, clip, plan_of("hat"), padding=p)[0]) for p in ("host", "reference"))
    assert torch.equal(one.hints[0], two.hints[0]) and two.padding == "reference"


def test_an_interruption_is_honoured_between_hints(clip, conditioning):
    comfy.model_management.interrupt_current_processing(True)
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            attach_hints(conditioning, clip, plan_of("hat"))
    finally:
        comfy.model_management.interrupt_current_processing(False)


class TestErrors:
    def test_a_region_without_a_hint_is_named(self, clip, conditioning):
        with pytest.raises(RegionError, match="'r2' has no hint; type one or delete"):
            attach_hints(conditioning, clip, plan_of("hat", "  "))

    def test_no_clip(self, conditioning):
        with pytest.raises(RegionError, match="connect the CLIP"):
            attach_hints(conditioning, None, plan_of("hat"))

    def test_another_width_names_both(self, clip):
        with pytest.raises(RegionError, match=r"768 wide.*4096 wide; use the same CLIP"):
            attach_hints([[torch.ones(1, 8, 4096), {}]], clip, plan_of("hat"))

    @pytest.mark.parametrize("text", [None, torch.ones(8, 768)])
    def test_an_entry_without_a_text_tensor(self, text, clip, conditioning):
        with pytest.raises(RegionError, match="entry 2 of the conditioning has no text tensor"):
            attach_hints([*conditioning, [text, {}]], clip, plan_of("hat"))

    def test_regions_attached_twice(self, clip, conditioning):
        once = attach_hints(conditioning, clip, plan_of("hat"))
        with pytest.raises(RegionError, match="RePlan Merge Plans"):
            attach_hints(once, clip, plan_of("dog"))

    def test_ten_thousand_regions_are_refused_before_anything_is_encoded(self, clip, conditioning, monkeypatch):
        monkeypatch.setattr(type(clip), "encode_from_tokens_scheduled", lambda *a, **k: pytest.fail("encoded"))
        regions = [Region(f"r{i}", (0, 0, 5, 5), f"hat {i % 50}") for i in range(10_000)]
        with pytest.raises(RegionError, match=f"10,000 regions come to 770,000 tokens.*{TOKEN_BUDGET:,}"):
            attach_hints(conditioning, clip, RegionPlan((9, 9), "", tuple(regions)))
        with pytest.raises(RegionError, match="the plan has 10000 regions with a hint; up to 2048 run at once"):
            attach_hints(
                conditioning, clip, RegionPlan((9, 9), "", tuple(replace(r, hint="h") for r in regions)), padding="trim"
            )


class TestSchedules:
    """A CLIP with a scheduled LoRA encodes a text once for each window; entries and hints meet by their windows."""

    @pytest.fixture
    def scheduled(self, clip):
        import comfy.hooks
        from comfy_extras.nodes_hooks import SetClipHooks

        seeded = torch.Generator().manual_seed(0)
        key = "lora_te_text_model_encoder_layers_0_mlp_fc1"
        lora = {
            f"{key}.lora_up.weight": torch.randn(3072, 4, generator=seeded),
            f"{key}.lora_down.weight": torch.randn(4, 768, generator=seeded),
        }
        hooks = comfy.hooks.create_hook_lora(lora, 0.0, 1.0)
        frames = comfy.hooks.HookKeyframeGroup()
        frames.add(comfy.hooks.HookKeyframe(strength=1.0, start_percent=0.0))
        frames.add(comfy.hooks.HookKeyframe(strength=0.0, start_percent=0.4))
        hooks.set_keyframes_on_hooks(frames)
        return SetClipHooks().apply_hooks(clip, schedule_clip=True, apply_to_conds=True, hooks=hooks)[0]

    def test_every_entry_gets_the_hints_of_its_own_window(self, clip, scheduled):
        plain = encode(clip, "hat")
        entries = scheduled.encode_from_tokens_scheduled(scheduled.tokenize("a street"))
        assert [entry[1]["clip_start_percent"] for entry in entries] == [0.0, 0.4]
        for order in (entries, entries[::-1]):
            with_lora, without = sorted(
                attach_hints(order, scheduled, plan_of("hat")), key=lambda entry: entry[1]["clip_start_percent"]
            )
            torch.testing.assert_close(payload(without).hints[0], plain)
            assert not torch.allclose(payload(with_lora).hints[0], plain, atol=1e-2)

    def test_an_entry_of_no_known_window_is_an_error(self, scheduled, conditioning):
        with pytest.raises(
            RegionError, match="windows 0 to 0.4, 0.4 to 1.*no schedule; use the same CLIP, with the same hooks"
        ):
            attach_hints(conditioning, scheduled, plan_of("hat"))


class TestStockNodes:
    """The hints stay beside the text through the host's own conditioning nodes."""

    @pytest.fixture
    def attached(self, clip, conditioning):
        return attach_hints(conditioning, clip, plan_of("hat", "dog"))

    @pytest.mark.parametrize(
        "case",
        ["concat", "average", "zero", "range", "combine", "guidance", "reference", "mask", "multiply", "control"],
    )
    def test_the_hints_survive(self, case, attached, clip, conditioning):
        from comfy_extras.nodes_edit_model import ReferenceLatent
        from comfy_extras.nodes_flux import FluxGuidance

        import nodes

        latent = {"samples": torch.zeros(1, 16, 8, 8)}
        out = {
            "concat": lambda: nodes.ConditioningConcat().concat(attached, conditioning)[0],
            "average": lambda: nodes.ConditioningAverage().addWeighted(attached, conditioning, 0.5)[0],
            "zero": lambda: nodes.ConditioningZeroOut().zero_out(attached)[0],
            "range": lambda: nodes.ConditioningSetTimestepRange().set_range(attached, 0.2, 0.8)[0],
            "combine": lambda: nodes.ConditioningCombine().combine(attached, conditioning)[0],
            "guidance": lambda: FluxGuidance.execute(attached, 2.5)[0],
            "reference": lambda: ReferenceLatent.execute(attached, latent)[0],
            "mask": lambda: nodes.ConditioningSetMask().append(attached, torch.ones(1, 64, 64), "default", 1.0)[0],
            "multiply": lambda: nodes.ConditioningMultiply().multiply(attached, 0.5)[0],
            "control": lambda: nodes.ControlNetApplyAdvanced().apply_controlnet(
                attached, attached, _Control(), torch.zeros(1, 64, 64, 3), 1.0, 0.0, 1.0
            )[0],
        }[case]()
        assert payload(out[0]) is payload(attached[0])
        assert len(out) == (2 if case == "combine" else 1)


class _Control:
    """A ControlNet that stands still: the node only copies it and chains it."""

    def copy(self):
        return self

    def set_cond_hint(self, *args, **kwargs):
        return self

    def set_previous_controlnet(self, previous):
        return self


def test_the_node_names_itself_once_in_an_error(clip, conditioning):
    from replan.nodes.conditioning import RePlanRegionConditioning

    with pytest.raises(RegionError, match="^RePlan Region Conditioning: region 'r1' has no hint"):
        RePlanRegionConditioning.execute([conditioning], [clip], [plan_of("")], ["auto"], ["hint"], ["host"])


def test_the_node_has_its_inputs_in_the_order_saved_workflows_rely_on():
    from replan.nodes.conditioning import RePlanRegionConditioning

    schema = RePlanRegionConditioning.define_schema()
    assert [i.id for i in schema.inputs] == [
        "conditioning",
        "clip",
        "plan",
        "encoder",
        "use",
        "hint_padding",
        "image",
        "image2",
        "image3",
    ]
    assert all(i.tooltip for i in schema.inputs) and schema.search_aliases


def test_pictures_on_an_encoder_that_takes_none_are_warned_about_and_harmless(clip, conditioning, caplog):
    out = attach_hints(conditioning, clip, plan_of("hat"), images=(torch.zeros(1, 8, 8, 3), None, None))
    assert torch.equal(payload(out[0]).hints[0], encode(clip, "hat"))
    assert len([r for r in caplog.records if "takes no images" in r.getMessage()]) == 1


# ---- the node -----------------------------------------------------------------------------------------------


def executed(conditioning, clip, plan, use="hint", prompt=None):
    """The node as ComfyUI executes it in a run of `prompt`, in which it is node 5."""
    from comfy_api.latest import io
    from replan.nodes.conditioning import RePlanRegionConditioning

    hidden = {io.Hidden.prompt: prompt, io.Hidden.unique_id: "5"}
    node = (
        RePlanRegionConditioning
        if prompt is None
        else RePlanRegionConditioning.PREPARE_CLASS_CLONE({"hidden_inputs": hidden})
    )
    return node.execute([conditioning], [clip], [plan], ["auto"], [use], ["host"]).result[0][0]


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


HERE = {"5": node("RePlanRegionConditioning", conditioning=["4", 0], use="hint")}


def test_negative_hints_are_left_to_the_run_which_sees_where_they_went(clip, conditioning, caplog):
    """They were told twice, here and when sampling starts (test_region_runs.py)."""
    regions = (Region("r1", (0, 0, 5, 5), "hat", "cap"), Region("r2", (0, 0, 5, 5), "dog"))
    for use in USES:
        out = executed(conditioning, clip, RegionPlan((9, 9), "", regions), use=use, prompt=HERE)
        assert payload(out[0]).use == use
    assert not caplog.records


@pytest.mark.parametrize("kind", ["ConditioningConcat", "ConditioningAverage"])
def test_regions_at_an_input_that_drops_them_are_told(kind, clip, conditioning, caplog):
    import nodes

    behind = {"7": node("ConditioningZeroOut", conditioning=["5", 0])}
    second = {
        "8": node(kind, conditioning_to=["4", 0], conditioning_from=["7", 0]) | {"_meta": {"title": "Both prompts"}}
    }
    executed(conditioning, clip, plan_of("hat"), prompt=HERE | behind | second)
    assert (
        f"'Both prompts' ({kind}) gets these regions at its second input, conditioning_from, and drops" in caplog.text
    )
    stock = nodes.NODE_CLASS_MAPPINGS[kind]()
    out = getattr(stock, stock.FUNCTION)(
        conditioning,
        attach_hints(conditioning, clip, plan_of("hat")),
        *([0.5] if kind == "ConditioningAverage" else []),
    )
    assert PAYLOAD_KEY not in out[0][0][1].get("model_conds", {}), "it does drop them"


@pytest.mark.parametrize(
    "more",
    [
        {"7": node("ConditioningConcat", conditioning_to=["5", 0], conditioning_from=["4", 0])},
        {"7": node("KSampler", positive=["5", 0]), "8": node("ConditioningConcat", conditioning_from=["7", 0])},
        {"7": node("ConditioningConcat", conditioning_from=["9", 0])},
    ],
)
def test_regions_that_go_on_are_not_told(more, clip, conditioning, caplog):
    executed(conditioning, clip, plan_of("hat"), prompt=HERE | more)
    assert not caplog.records


def test_a_region_that_is_switched_off_is_neither_encoded_nor_counted(clip, conditioning):
    plan = plan_of("hat", "", "dog")
    off = plan.with_regions(replace(region, enabled=bool(region.hint)) for region in plan.regions)
    text = payload(attach_hints(conditioning, clip, off)[0])
    assert text.plan.ids == ("r1", "r3") and len(text.hints) == 2
    none = plan.with_regions(replace(region, enabled=False) for region in plan.regions)
    assert attach_hints(conditioning, clip, none) is conditioning
