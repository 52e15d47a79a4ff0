"""From a plan's hints to a conditioning that carries them: encoding, padding, attaching.

Each hint is encoded on its own, by ComfyUI's own text encoder through its public calls, and attached beside the text of
every entry of a conditioning (`payload` says how it travels).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import comfy.model_management
import comfy.utils
import torch

from ...planner.plan import Region, RegionPlan
from ..payload import HINT_PADDINGS, PAYLOAD_KEY, HintCond, HintText, RegionError
from . import qwen_edit
from .recipes import Context, PlainRecipe, Prompt, Recipe, Tell, Window, check_width, entry_window, for_window

log = logging.getLogger(__name__)

USES = ("hint", "negative_hint")

# More text than this beside one image is a plan gone wrong, not an edit: 8 times a 1024x1024 Flux image.
TOKEN_BUDGET = 65_536

# Working out who sees whom takes seconds beyond this many regions (2 s at 1,000, 20 s at 3,000 on a 2-core CPU).
MOST_REGIONS = 2048
# Characters. A longer text was not meant as a hint (a whole file, an image as text); a tokenizer takes minutes for it.
LONGEST_HINT = 10_000


class Encoded(NamedTuple):
    """All hints under one schedule window of the text encoder; hints[i] is (1, L_i, C)."""

    window: Window
    hints: tuple[torch.Tensor, ...]


def attach_hints(
    conditioning: list,
    clip: Any,
    plan: RegionPlan,
    *,
    use: str = "hint",
    padding: str = "host",
    encoder: str = "auto",
    images: Sequence[torch.Tensor | None] = (),
    tell: Tell = log.warning,
) -> list:
    """Encode the plan's hints and attach them to every entry of `conditioning`; the input is never changed.

    conditioning: ComfyUI's list of [text (1, L, C), dict]. clip: ComfyUI's CLIP that encoded it. use: which text of a
    region, one of USES. padding: one of HINT_PADDINGS. encoder, images: Qwen only, see `qwen_edit`. tell: takes each
    warning. With nothing to attach the very same list comes back. Raises RegionError.
    """
    if use not in USES or padding not in HINT_PADDINGS:
        raise RegionError(
            f"use is one of {USES} and hint_padding one of {HINT_PADDINGS}; found {use!r} and {padding!r}"
        )
    regions = _regions_with(plan.active, use)
    if not regions:
        return conditioning
    if clip is None:
        raise RegionError(
            "no text encoder came in; connect the CLIP that encoded the conditioning (a checkpoint may carry none)"
        )
    _check_entries(conditioning)

    texts = [getattr(region, use) for region in regions]
    prompts = [Prompt(text, text in region.plain_texts) for text, region in zip(texts, regions, strict=True)]
    with qwen_edit.images_seen_once(clip):
        contexts = _contexts(conditioning, clip, padding, encoder, images, prompts, tell)
        if len(regions) > MOST_REGIONS:
            raise RegionError(
                f"the plan has {len(regions)} regions with a {use.replace('_', ' ')}; up to {MOST_REGIONS} run at "
                "once. Delete or merge regions, or edit the image in several runs"
            )
        encoded = {}
        for recipe in dict.fromkeys(context.recipe for context in contexts):
            encoded[recipe] = encode_hints(clip, recipe, prompts)
    shown = plan.with_regions(regions)
    out = []
    for number, ((text, extras), context) in enumerate(zip(conditioning, contexts, strict=True), start=1):
        hints = for_window(encoded[context.recipe], entry_window(extras))
        check_width(text, hints[0].shape[-1], number)
        norm = float(text.float().norm()) / math.sqrt(text.shape[0])
        carried = HintText(shown, hints, text.shape[1], norm, context.image_spans, padding, use)
        model_conds = {**extras.get("model_conds", {}), PAYLOAD_KEY: HintCond(carried)}
        out.append([text, {**extras, "model_conds": model_conds}])
    return out


def encode_hints(clip: Any, recipe: Recipe, prompts: Sequence[Prompt]) -> list[Encoded]:
    """Encode each prompt on its own, equal ones once; one result for each schedule window of the text encoder.

    Honours ComfyUI's interruption and shows its progress bar.
    """
    different = list(dict.fromkeys(prompts))
    progress = comfy.utils.ProgressBar(len(different))
    windows: dict[Window, dict[Prompt, torch.Tensor]] = {}
    for prompt in different:
        comfy.model_management.throw_exception_if_processing_interrupted()
        tokens = recipe.tokenize(prompt)
        for states, extras in clip.encode_from_tokens_scheduled(tokens, show_pbar=False):
            kept = recipe.cut(states, extras.get("attention_mask"), tokens)
            # A slice would keep the whole encoding alive, on Qwen with all tokens of the images.
            windows.setdefault(entry_window(extras), {})[prompt] = kept.clone()
        progress.update(1)
    return [Encoded(window, tuple(found[prompt] for prompt in prompts)) for window, found in windows.items()]


def _regions_with(plan: RegionPlan, use: str) -> tuple[Region, ...]:
    """The regions that take part; a region without a hint is an error, one without a negative hint is not."""
    for region in plan.regions:
        if len(getattr(region, use)) > LONGEST_HINT:
            raise RegionError(
                f"the {use.replace('_', ' ')} of region '{region.id}' has {len(getattr(region, use))} characters, more "
                f"than {LONGEST_HINT}; say in a few words what its box shows, or look at what is connected to it"
            )
    if use == "negative_hint":
        return tuple(region for region in plan.regions if region.negative_hint.strip())
    for region in plan.regions:
        if not region.hint.strip():
            raise RegionError(f"region '{region.id}' has no hint; type one or delete the region")
    return plan.regions


def _check_entries(conditioning: list) -> None:
    for number, (text, extras) in enumerate(conditioning, start=1):
        if not torch.is_tensor(text) or text.ndim != 3:
            found = tuple(text.shape) if torch.is_tensor(text) else type(text).__name__
            raise RegionError(
                f"entry {number} of the conditioning has no text tensor (batch, tokens, width), found {found}; "
                "connect the conditioning of a text encoder"
            )
        if PAYLOAD_KEY in extras.get("model_conds", {}):
            raise RegionError(
                "this conditioning carries regions already; merge the plans with RePlan Merge Plans and attach the "
                "merged plan once"
            )


def _check_budget(prompts: Sequence[Prompt], recipe: Recipe) -> None:
    """Refuse more tokens than may arrive at the model, before anything is encoded."""
    lengths = {prompt: recipe.count(recipe.tokenize(prompt)) for prompt in dict.fromkeys(prompts)}
    total = sum(lengths[prompt] for prompt in prompts)
    if total > TOKEN_BUDGET:
        raise RegionError(
            f"the hints of {len(prompts):,} regions come to {total:,} tokens, more than the {TOKEN_BUDGET:,} that may "
            "stand beside one image; use fewer regions, shorter hints, or hint_padding 'trim'"
        )


def _contexts(conditioning, clip, padding, encoder, images, prompts, tell) -> list[Context]:
    """One context for each entry; entries that need the same encoding share one recipe."""
    if qwen_edit.is_qwen_edit(clip):
        _check_budget(prompts, qwen_edit.count_recipe(clip, padding, tell))
        matcher = qwen_edit.Matcher(clip, padding, encoder, images, tell)
        return [matcher.context(text, extras, number) for number, (text, extras) in enumerate(conditioning, start=1)]
    recipe = PlainRecipe(clip, padding, tell)
    _check_budget(prompts, recipe)
    if any(image is not None for image in images):
        tell("this text encoder takes no images; the connected ones are not used, disconnect them")
    return [Context(recipe)] * len(conditioning)
