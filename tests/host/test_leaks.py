"""Who sees whom, measured in the model bit by bit.

One component's input is changed (a hint's text, a region's patches of the latent); which tokens' attention results
change in the first block says who saw it. Nothing of the pack's own tables is used: the expected answer is the
published one, from `reference`.
"""

import comfy.patcher_extension as pe
import pytest
import reference
import torch
from region_models import FAMILIES, build, conditioning, latent_shape, plan_of, seeded, with_hints
from replan.attention.payload import PAYLOAD_KEY
from replan.attention.rules import make_rules
from replan.attention.wrappers import add_region_rules

ROWS = COLS = 6
# Patches of the two regions; they overlap in the middle.
BOXES = [(0, 0, 47, 47), (33, 33, 79, 95)]
LENGTHS = (5, 7)
MAIN, FURTHER = 20, (3, 4)
IDS = ("r1", "r2")


@torch.inference_mode()
def one_call(model, text, hints, latent, references, spans=()):
    """One call of the model as the host makes it; returns its output and the first block's attention result."""
    seen = []
    model = model.clone()
    hooks = []
    if hasattr(model.model.diffusion_model, "transformer_blocks"):  # Qwen's blocks have no patch after attention
        attn = model.model.diffusion_model.transformer_blocks[0].attn
        for part in (attn.to_add_out, attn.to_out[0]):
            hooks.append(part.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone())))
    else:
        model.set_model_attn1_output_patch(lambda out, options: seen.append(out.clone()) or out)
    base = conditioning(MAIN, references)
    entry = with_hints([[text, base[0][1]]], plan_of(BOXES), LENGTHS, spans=spans)[0]
    carried = entry[1]["model_conds"][PAYLOAD_KEY]
    object.__setattr__(carried.text, "hints", hints)
    inner = model.model
    options = {
        **model.model_options["transformer_options"],
        "sigmas": torch.tensor([0.9]),
        "sample_sigmas": torch.tensor([0.9, 0.5, 0.0]),
        "cond_or_uncond": [0],
        "uuids": [object()],
    }
    options["wrappers"] = {"apply_model": dict(model.wrappers["apply_model"])}
    executor = pe.WrapperExecutor.new_class_executor(
        inner._apply_model, inner, pe.get_all_wrappers("apply_model", options)
    )
    extra = inner.extra_conds(cross_attn=text, noise=latent, device=torch.device("cpu"), **entry[1])
    conds = {key: value.process_cond(batch_size=1).cond for key, value in extra.items() if key != "c_crossattn"}
    context = extra["c_crossattn"].cond
    out = executor.execute(
        latent,
        torch.tensor([0.9]),
        None,
        context,
        None,
        options,
        **conds,
        replan_hints=carried.process_cond(1).concat([]),
    )
    for hook in hooks:
        hook.remove()
    # Qwen projects the image part first.
    return out, torch.cat([seen[1], seen[0]], 1) if hooks else seen[0] if seen else None


def inputs(family):
    shape = latent_shape(family, ROWS, COLS)
    references = [seeded(*shape, seed=9), seeded(*latent_shape(family, *FURTHER), seed=11)]
    hints = tuple(seeded(1, n, 768, seed=50 + i) for i, n in enumerate(LENGTHS))
    return [seeded(1, MAIN, 768, seed=1), hints, seeded(*shape, seed=3), references]


def inside():
    return {i: reference.patches_of(b, (96, 96), ROWS, COLS, ROWS, COLS) for i, b in zip(IDS, BOXES, strict=True)}


def token_names(family):
    text, lengths = (512, (512, 512)) if family == "flux2" else (MAIN, LENGTHS)
    spans = ((2, 6),) if family == "qwen" else ()
    grid = (ROWS, COLS, inside())
    return reference.tokens(IDS, text, spans, lengths, grid, grid, (FURTHER[0] * FURTHER[1],))


def changed_patches(latent, family, patches):
    """The latent with the given patches moved."""
    cell = 1 if family == "flux2" else 2
    latent = latent.clone()
    for r, c in patches:
        latent[..., r * cell : (r + 1) * cell, c * cell : (c + 1) * cell] += 1.0
    return latent


def change(values, family, component, spans):
    """The inputs with every token of one component changed."""
    text, hints, latent, references = values
    kind, _, owner = component.partition(":")
    everywhere = {(r, c) for r in range(ROWS) for c in range(COLS)}
    if kind in ("main", "image_prompt"):
        rows = torch.tensor([any(a <= i < b for a, b in spans) == (kind == "image_prompt") for i in range(MAIN)])
        return [text + rows[None, :, None], hints, latent, references]
    if kind == "hint":
        return [text, tuple(h + 1.0 * (i == owner) for i, h in zip(IDS, hints, strict=True)), latent, references]
    if kind == "reference":
        return [text, hints, latent, [references[0], references[1] + 1.0]]
    patches = everywhere - set().union(*inside().values()) if kind.endswith("background") else inside()[owner]
    if kind.startswith("noise"):
        return [text, hints, changed_patches(latent, family, patches), references]
    return [text, hints, latent, [changed_patches(references[0], family, patches), references[1]]]


def components(family):
    parts = ["main", "hint:r1", "hint:r2", "noise:r1", "noise:r2", "noise_background"]
    return [
        *parts,
        "image:r1",
        "image:r2",
        "image_background",
        "reference:2",
        *(["image_prompt"] if family == "qwen" else []),
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "preset", ["replan", "symmetric", "local_first", "isolated_regions", "no_global_prompt", "hints_only"]
)
def test_a_token_feels_exactly_the_components_its_rules_let_it_see(family, preset):
    spans = ((2, 6),) if family == "qwen" else ()
    model = add_region_rules(build(family), make_rules(preset, switch=1.0)[0], 1)
    values, names = inputs(family), token_names(family)
    _, before = one_call(model, *values, spans=spans)
    for component in components(family):
        _, after = one_call(model, *change(values, family, component, spans), spans=spans)
        felt = (before != after).any(-1)[0].tolist()
        kinds = {frozenset(name) for name in names}
        # A patch in two regions is touched with either.
        touched = set().union(*(kind for kind in kinds if component in kind))
        expected = {
            kind: any(reference.allowed(preset, "before", q, k) for q in kind for k in touched) for kind in kinds
        }
        for position, name in enumerate(names):
            # Tokens whose own value changed feel it anyway.
            if component not in name:
                assert felt[position] == expected[frozenset(name)], (
                    f"{name} at {position} and {component}: felt {felt[position]}"
                )


@pytest.mark.parametrize("family", FAMILIES)
def test_in_a_one_layer_model_the_background_does_not_feel_a_hint_by_one_bit(family):
    layers = {"num_layers": 1} if family == "qwen" else {"depth": 1, "depth_single_blocks": 0}
    model = add_region_rules(build(family, **layers), make_rules("replan")[0], 1)
    values = inputs(family)
    before, _ = one_call(model, *values)
    after, _ = one_call(model, *change(values, family, "hint:r1", ()))
    cell = 1 if family == "flux2" else 2
    differs = (before != after).flatten(0, -3).any(0)
    patches = differs.reshape(ROWS, cell, COLS, cell).any(3).any(1)
    assert {(r, c) for r in range(ROWS) for c in range(COLS) if patches[r, c]} == inside()["r1"]
