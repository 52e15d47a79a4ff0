"""Host and pack against another implementation: diffusers' transformers with the same weights.

One side is the real path: hints beside a conditioning, a ruled model, ComfyUI's sampler, grouped attention. The
other is diffusers: the hints concatenated behind the text, packing and position ids by diffusers' own pipelines,
and a dense mask written from the published rules (`reference`). Both must predict the same noise, so this checks
the order of tokens and their positions, not the mask alone.

Without the pack the two implementations differ already in places that the sizes here avoid: where Qwen-Image
centres an axis of an odd number of patches (one patch apart), where its text begins when a reference is larger
than the latent (diffusers counts the references, ComfyUI does not), and a second reference of Flux.1, which
diffusers does not have. What is left of a difference on FLUX.2 (4e-5) is the epsilon of its q and k norms.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import comfy.sample
import comfy.samplers
import diffusers_calls as calls
import diffusers_weights as weights
import pytest
import reference
import torch
from diffusers.models.transformers import transformer_flux, transformer_flux2, transformer_qwenimage
from replan.attention.payload import PAYLOAD_KEY, HintCond, HintText
from replan.attention.rules import make_rules
from replan.attention.wrappers import add_region_rules
from replan.planner.plan import Region, RegionPlan
from replan.tools.tiny_models import TEXT

TOLERANCE = 1e-4
CLEAR = 100 * TOLERANCE  # what a fault must change, or the comparison could not see it

SIGMAS = (0.9, 0.5, 0.0)  # two steps: in all families the first ends above a switch of 0.95, the second below
MAIN = 24
FLUX2_TEXT = 512

# Boxes in pixels of a 200 x 300 image, where the latent has a patch every 25; the second overlaps both others.
IMAGE = (200, 300)
BOXES = {"hat": (30, 40, 130, 180), "dog": (80, 110, 200, 300), "sign": (0, 230, 95.5, 290)}
HINTS = {"hat": 11, "dog": 5, "sign": 7}  # tokens
NOISE, EDITED, FURTHER = (12, 8), (6, 4), (4, 8)  # rows and columns of patches


class Inputs(NamedTuple):
    """What both sides are given: noise (B, ...), and (1, ...) each unpadded text and hints, and references as a VAE
    gives them."""

    x: torch.Tensor
    text: torch.Tensor
    hints: dict[str, torch.Tensor]
    pooled: torch.Tensor
    references: list[torch.Tensor]
    spans: tuple[tuple[int, int], ...]
    padding: str


class Family(NamedTuple):
    """One model on both sides.

    module: where diffusers' model finds its attention; cells: latent cells a patch side; frames: the latent has a
    frame axis; noise: one of `diffusers_calls`; spans: pictures in its text; pads_text: a prompt is padded on the
    left to 512 tokens.
    """

    host: Any
    other: Any
    module: Any
    noise: Callable[..., torch.Tensor]
    text_width: int
    channels: int = 16
    cells: int = 2
    frames: bool = False
    spans: tuple[tuple[int, int], ...] = ()
    pads_text: bool = False

    def latent(self, grid: tuple[int, int], batch: int, seed: int) -> torch.Tensor:
        frame = (1,) if self.frames else ()
        return random(batch, self.channels, *frame, *(side * self.cells for side in grid), seed=seed)


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs_for(family: Family, references=(EDITED,), padding="trim", batch=1) -> Inputs:
    return Inputs(
        x=family.latent(NOISE, batch, seed=3),
        text=random(1, MAIN, family.text_width, seed=1),
        hints={name: random(1, count, family.text_width, seed=10 + count) for name, count in HINTS.items()},
        pooled=random(1, TEXT, seed=2),
        references=[family.latent(grid, 1, seed=20 + i) for i, grid in enumerate(references)],
        spans=family.spans,
        padding=padding,
    )


# ComfyUI and the pack


def host_steps(family: Family, inputs: Inputs, preset: str | None) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Sample two Euler steps, or without a before-phase one: the latent the model was given and its prediction.

    preset None: no hints and no rules, the host alone.
    """
    sigmas = SIGMAS if preset == "local_first" else (SIGMAS[0], 0.0)
    extras = {"pooled_output": inputs.pooled, "guidance": calls.GUIDANCE}
    if inputs.references:
        extras["reference_latents"] = inputs.references
    model = family.host
    if preset is not None:
        plan = RegionPlan(IMAGE, "a street", tuple(Region(name, box, "hint") for name, box in BOXES.items()))
        norm = float(inputs.text.norm())
        carried = HintText(plan, tuple(inputs.hints.values()), MAIN, norm, inputs.spans, inputs.padding)
        extras["model_conds"] = {PAYLOAD_KEY: HintCond(carried)}
        model = add_region_rules(model, make_rules(preset, switch=0.95 if preset == "local_first" else -1)[0], 1)
    steps = []

    def record(number, denoised, x, total):
        steps.append((x.clone(), (x - denoised) / sigmas[number]))

    comfy.sample.sample_custom(
        model, inputs.x, 1.0, comfy.samplers.sampler_object("euler"), torch.tensor(sigmas), [[inputs.text, extras]],
        [[torch.zeros_like(inputs.text), extras]], torch.zeros_like(inputs.x), callback=record, disable_pbar=True,
        seed=0,
    )  # fmt: skip
    return steps


# diffusers


def diffusers_noise(
    family: Family, inputs: Inputs, preset: str | None, step: int, x: torch.Tensor, fault: str = ""
) -> torch.Tensor:
    """The noise that diffusers predicts for `x` at a step; `fault` is put on this side only, to see it noticed."""
    names = list(BOXES) if preset is not None else []
    if fault == "hints in another order":
        names = names[1:] + names[:1]
    texts = [inputs.hints[name] for name in names]
    if fault == "hints swapped between regions":
        texts = texts[1:] + texts[:1]
    parts = [inputs.text, *texts]
    if family.pads_text:
        parts = [left_padded(part) if i == 0 or inputs.padding != "trim" else part for i, part in enumerate(parts)]
    mask = None
    if preset is not None:
        mask = published_mask(
            names, [part.shape[1] for part in parts], inputs.spans, len(inputs.references),
            "isolated_regions" if fault == "rules of another preset" else preset,
            "before" if step == 0 and fault != "rules of the other phase" else "after",
            25 if fault == "a box one patch off" else 0,
        )  # fmt: skip
    seen = [family.host.model.process_latent_in(latent) for latent in inputs.references]
    text, pooled, *seen = (
        tensor.expand(len(x), *tensor.shape[1:]) for tensor in (torch.cat(parts, 1), inputs.pooled, *seen)
    )
    with calls.attending(family.module, mask), torch.no_grad():
        return family.noise(family.other, [x, *seen], text, pooled, torch.full((len(x),), SIGMAS[step]), fault)


def left_padded(text):
    return torch.cat([torch.zeros(1, FLUX2_TEXT - text.shape[1], text.shape[2]), text], 1)


def published_mask(names, lengths, spans, references, preset, phase, shift):
    """Dense boolean (L, L) by the published rules; the first box is moved right by `shift` pixels."""
    boxes = {name: BOXES[name] for name in names}
    x1, y1, x2, y2 = boxes[names[0]]
    boxes[names[0]] = (x1 + shift, y1, x2 + shift, y2)

    def grid(size):
        return (*size, {name: reference.patches_of(box, IMAGE, *size, *size) for name, box in boxes.items()})

    edited = grid(EDITED) if references else None
    further = [FURTHER[0] * FURTHER[1]] * (references - 1)
    tokens = reference.tokens(names, lengths[0], spans, lengths[1:], grid(NOISE), edited, further)
    return reference.dense_mask(tokens, lambda query, key: reference.allowed(preset, phase, query, key))


# The comparison


@pytest.fixture(scope="module")
def families(load_tiny):
    """`families(name)` is that Family, built when first asked for."""
    built: dict[str, Family] = {}

    def flux1():
        host = load_tiny("flux1")
        return Family(host, weights.flux1_of(host), transformer_flux, calls.flux1, TEXT)

    def flux2():
        host = load_tiny("flux2")
        return Family(host, weights.flux2_of(host), transformer_flux2, calls.flux2, TEXT, 128, 1, pads_text=True)

    def qwen(method):
        host = weights.reduced_qwen(method)
        return Family(
            host,
            weights.qwen_of(host),
            transformer_qwenimage,
            calls.qwen,
            weights.QWEN_TEXT,
            frames=True,
            spans=((3, 12),),
        )

    makers = {
        "flux1": flux1,
        "flux2": flux2,
        "qwen": lambda: qwen("index"),
        "qwen_2511": lambda: qwen("index_timestep_zero"),
    }

    def get(name: str) -> Family:
        if name not in built:
            built[name] = makers[name]()
        return built[name]

    return get


def compare(family: Family, inputs: Inputs, preset: str | None) -> None:
    steps = host_steps(family, inputs, preset)
    assert len(steps) == (2 if preset == "local_first" else 1)
    for number, (x, ours) in enumerate(steps):
        theirs = diffusers_noise(family, inputs, preset, number, x)
        assert 0.2 < theirs.std() < 5
        assert (ours - theirs).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", ["flux1", "flux2", "qwen", "qwen_2511"])
def test_without_regions_host_and_diffusers_predict_the_same_noise(name, families):
    family = families(name)
    compare(family, inputs_for(family), None)


@pytest.mark.parametrize("preset", ["replan", "symmetric", "local_first"])
@pytest.mark.parametrize("name", ["flux1", "flux2", "qwen"])
def test_with_regions_host_and_pack_predict_the_noise_of_diffusers_under_a_dense_mask(name, preset, families):
    family = families(name)
    compare(family, inputs_for(family), preset)


@pytest.mark.parametrize("name", ["flux2", "qwen", "qwen_2511"])
def test_the_same_holds_for_a_batch_and_with_a_further_reference(name, families):
    family = families(name)
    compare(family, inputs_for(family, (EDITED, FURTHER), batch=2), "replan")


def test_the_same_holds_without_a_reference(families):
    family = families("flux1")
    compare(family, inputs_for(family, ()), "replan")


def test_the_same_holds_for_hints_padded_on_the_left_as_flux2_pads_a_prompt(families):
    family = families("flux2")
    compare(family, inputs_for(family, padding="host"), "replan")


FAULTS = (
    "rules of another preset",
    "rules of the other phase",
    "a box one patch off",
    "hints swapped between regions",
    "hints in another order",
    "reference at another index",
    "text at another position",
)


@pytest.mark.parametrize("name", ["flux1", "flux2", "qwen"])
def test_the_comparison_notices_wrong_rules_order_and_positions(name, families):
    family = families(name)
    inputs = inputs_for(family)
    (x, ours), _ = host_steps(family, inputs, "local_first")
    assert (ours - diffusers_noise(family, inputs, "local_first", 0, x)).abs().max() < TOLERANCE
    changes = {
        fault: (ours - diffusers_noise(family, inputs, "local_first", 0, x, fault)).abs().max() for fault in FAULTS
    }
    if name == "flux1":  # all its text is at position 0, so the order of hints says nothing
        assert changes.pop("hints in another order") < TOLERANCE
    assert all(change > CLEAR for change in changes.values()), changes
