"""From a plan's hints to a conditioning that carries them: encoding, padding, attaching.

Each hint is encoded on its own, by the host's own text encoder through its public calls, and attached beside
the text of every entry of a conditioning (`payload` says how it travels). What is special to Qwen-Image-Edit,
whose hints are encoded with the picture in context, is in `qwen_hints`. Only these two files know the host's
text encoders.
"""

from __future__ import annotations

import logging
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import comfy.model_management
import comfy.utils
import torch

from ..planner.plan import Region, RegionPlan
from .payload import HINT_PADDINGS, PAYLOAD_KEY, HintCond, HintText, RegionError

logger = logging.getLogger(__name__)

USES = ("hint", "negative_hint")

# The published pipelines give every Flux prompt this many T5 tokens (spec 3.1).
REFERENCE_TOKENS = 512

# More text than this beside one image is a plan gone wrong, not an edit: 8 times a 1024x1024 Flux image.
TOKEN_BUDGET = 65_536

# The host's token lists: one list of (token, weight) pairs for each section of each text encoder.
Section = list[tuple[Any, float]]
Tokens = dict[str, list[Section]]
# A schedule window of the text encoder (clip_start_percent, clip_end_percent); None where there is no schedule.
Window = tuple[float, float] | None


class Recipe(Protocol):
    """How one kind of text encoder turns a hint into tokens, and its states into what is kept of them."""

    def tokenize(self, text: str) -> Tokens:
        """The tokens to encode."""

    def count(self, tokens: Tokens) -> int:
        """How many tokens `cut` will keep."""

    def cut(self, states: torch.Tensor, mask: torch.Tensor | None, tokens: Tokens) -> torch.Tensor:
        """(1, L, C) as encoded -> (1, L_i, C) as it goes to the model. mask: (1, L) or None, 1 = real token."""


class Encoded(NamedTuple):
    """All hints under one schedule window of the text encoder; hints[i] is (1, L_i, C)."""

    window: Window
    hints: tuple[torch.Tensor, ...]


class Context(NamedTuple):
    """What one conditioning entry asks of its hints: how to encode them, and where its text shows pictures."""

    recipe: Recipe
    image_spans: tuple[tuple[int, int], ...] = ()


def attach_hints(
    conditioning: list,
    clip: Any,
    plan: RegionPlan,
    *,
    use: str = "hint",
    padding: str = "host",
    encoder: str = "auto",
    images: Sequence[torch.Tensor | None] = (),
) -> list:
    """Encode the plan's hints and attach them to every entry of `conditioning`; the input is never changed.

    conditioning: the host's list of [text (1, L, C), dict]. clip: the host's CLIP that encoded it. use: which
    text of a region, one of USES. padding: one of HINT_PADDINGS. encoder, images: Qwen only, see `qwen_hints`.
    With nothing to attach the very same list comes back. Raises RegionError.
    """
    if use not in USES or padding not in HINT_PADDINGS:
        raise RegionError(f"use is one of {USES} and hint_padding one of {HINT_PADDINGS}; found {use!r} and {padding!r}")
    regions = _regions_with(plan, use)
    if not regions:
        return conditioning
    if clip is None:
        raise RegionError("no text encoder came in; connect the CLIP that encoded the conditioning (a checkpoint may carry none)")
    _check_entries(conditioning)

    texts = [getattr(region, use) for region in regions]
    contexts = _contexts(conditioning, clip, padding, encoder, images, regions, texts)
    shown = plan.with_regions(regions)
    cache: dict[int, list[Encoded]] = {}
    out = []
    for number, ((text, extras), context) in enumerate(zip(conditioning, contexts, strict=True)):
        key = id(context.recipe)
        if key not in cache:
            cache[key] = encode_hints(clip, context.recipe, texts)
        hints = _for_window(cache[key], entry_window(extras), number)
        if hints[0].shape[-1] != text.shape[-1]:
            raise RegionError(
                f"the hints are {hints[0].shape[-1]} wide, but entry {number + 1} of the conditioning is "
                f"{text.shape[-1]} wide; use the same CLIP that encoded the conditioning"
            )
        carried = HintText(shown, hints, text.shape[1], float(text.float().norm()), context.image_spans, padding)
        model_conds = {**extras.get("model_conds", {}), PAYLOAD_KEY: HintCond(carried)}
        out.append([text, {**extras, "model_conds": model_conds}])
    return out


def encode_hints(clip: Any, recipe: Recipe, texts: Sequence[str]) -> list[Encoded]:
    """Encode each text on its own, equal texts once; one result for each schedule window of the text encoder.

    Honours the host's interruption and shows its progress bar.
    """
    different = list(dict.fromkeys(texts))
    progress = comfy.utils.ProgressBar(len(different))
    windows: dict[Window, dict[str, torch.Tensor]] = {}
    for text in different:
        comfy.model_management.throw_exception_if_processing_interrupted()
        tokens = recipe.tokenize(text)
        for states, extras in clip.encode_from_tokens_scheduled(tokens, show_pbar=False):
            kept = recipe.cut(states, extras.get("attention_mask"), tokens)
            windows.setdefault(entry_window(extras), {})[text] = kept
        progress.update(1)
    return [Encoded(window, tuple(found[text] for text in texts)) for window, found in windows.items()]


def entry_window(extras: dict) -> Window:
    """The part of sampling for which a scheduled text encoder (LoRA by clip hooks) encoded an entry."""
    if "clip_start_percent" not in extras:
        return None
    return (round(float(extras["clip_start_percent"]), 6), round(float(extras["clip_end_percent"]), 6))


class PlainRecipe:
    """A text encoder that sees the hint alone (Flux, Flux.2, or Qwen without a picture)."""

    def __init__(self, clip: Any, padding: str):
        self.clip = clip
        self.padding = padding

    def tokenize(self, text: str) -> Tokens:
        tokens = self.clip.tokenize(text)
        if self.padding == "reference" and "t5xxl" in tokens:
            # Merged by the host over the options set on the CLIP (T5TokenizerOptions).
            fixed = {"t5xxl_min_length": REFERENCE_TOKENS, "t5xxl_min_padding": 0}
            tokens = self.clip.tokenize(text, tokenizer_options=fixed)
            tokens["t5xxl"] = [_cut_to_reference(section, text) for section in tokens["t5xxl"]]
        return tokens

    def count(self, tokens: Tokens) -> int:
        real = self._real(tokens)
        return sum(real) if self.padding == "trim" else len(real)

    def cut(self, states: torch.Tensor, mask: torch.Tensor | None, tokens: Tokens) -> torch.Tensor:
        if self.padding != "trim":
            return states
        real = self._real(tokens)
        if len(real) != states.shape[1]:
            raise RegionError(
                f"hint_padding 'trim' cannot tell padding from text here: the encoder gave {states.shape[1]} states for "
                f"{len(real)} tokens; use hint_padding 'host' with this text encoder"
            )
        keep = torch.tensor(real, device=states.device)
        if mask is not None and mask.shape[1] == states.shape[1]:
            keep &= mask[0].to(states.device).bool()
        return states[:, keep]

    def _real(self, tokens: Tokens) -> list[bool]:
        key = text_key(tokens)
        tokenizer = _tokenizer_of(self.clip, key)
        return [real for section in tokens[key] for real in real_tokens(section, tokenizer)]


def text_key(tokens: Tokens) -> str:
    """Which of the host's token lists becomes the cross-attention text (Flux also tokenises for CLIP's pooled vector)."""
    return "t5xxl" if "t5xxl" in tokens else next(iter(tokens))


def real_tokens(section: Section, tokenizer: Any) -> list[bool]:
    """For each token of a section, whether it is text (True) or padding of the host's tokenizer (False).

    CLIP pads with its end token on the right, whose first one is text; T5 and Qwen3 with a token of their own
    on the right; Mistral on the left (comfy/sd1_clip.py, SDTokenizer).
    """
    pad = getattr(tokenizer, "pad_token", None)
    ids = [token if isinstance(token, numbers.Integral) else None for token, *_ in section]
    if pad is None:
        return [True] * len(ids)
    if getattr(tokenizer, "pad_left", False):
        ids.reverse()
    padded = 0
    while padded < len(ids) and ids[-1 - padded] == pad:
        padded += 1
    if padded and pad == getattr(tokenizer, "end_token", None):
        padded -= 1
    real = [True] * (len(ids) - padded) + [False] * padded
    return real[::-1] if getattr(tokenizer, "pad_left", False) else real


def _tokenizer_of(clip: Any, key: str) -> Any:
    """The host's SDTokenizer behind one list of tokens."""
    holder = clip.tokenizer
    for name in (key, f"clip_{key}", getattr(holder, "clip", None)):
        if name and hasattr(holder, name):
            return getattr(holder, name)
    return None


def _cut_to_reference(section: Section, text: str) -> Section:
    if len(section) <= REFERENCE_TOKENS:
        return section
    logger.warning("a hint of %d tokens is cut to %d (hint_padding 'reference'): %.60s", len(section), REFERENCE_TOKENS, text)
    # As the published pipelines' tokenizer cuts: the end token stays last.
    return [*section[: REFERENCE_TOKENS - 1], section[-1]]


def _regions_with(plan: RegionPlan, use: str) -> tuple[Region, ...]:
    """The regions that take part; a region without a hint is an error, one without a negative hint is not."""
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


def _check_budget(regions: Sequence[Region], texts: Sequence[str], count: Callable[[str], int]) -> None:
    lengths = {text: count(text) for text in dict.fromkeys(texts)}
    total = sum(lengths[text] for text in texts)
    if total > TOKEN_BUDGET:
        raise RegionError(
            f"the hints of {len(regions):,} regions come to {total:,} tokens, more than the {TOKEN_BUDGET:,} that may "
            "stand beside one image; use fewer regions, shorter hints, or hint_padding 'trim'"
        )


def _contexts(conditioning, clip, padding, encoder, images, regions, texts) -> list[Context]:
    """One context for each entry; entries that need the same encoding share one recipe."""
    recipe = PlainRecipe(clip, padding)
    _check_budget(regions, texts, lambda text: recipe.count(recipe.tokenize(text)))
    if any(image is not None for image in images):
        logger.warning("RePlan Region Conditioning: this text encoder takes no pictures; the connected images are not used")
    return [Context(recipe)] * len(conditioning)


def _for_window(encoded: list[Encoded], window: Window, number: int) -> tuple[torch.Tensor, ...]:
    if len(encoded) == 1:
        return encoded[0].hints
    for one in encoded:
        if one.window == window:
            return one.hints
    found = "no schedule" if window is None else f"the window {window[0]:g} to {window[1]:g}"
    there = ", ".join(f"{w[0]:g} to {w[1]:g}" for w in (one.window for one in encoded) if w)
    raise RegionError(
        f"the text encoder is scheduled (it has windows {there}), but entry {number + 1} of the conditioning has {found}; "
        "use the same CLIP, with the same hooks, that encoded the conditioning"
    )
