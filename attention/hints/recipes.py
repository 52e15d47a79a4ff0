"""How one hint becomes tokens, and what is kept of the states they are encoded to.

Owns the paddings, the prompt syntax and the schedule windows of ComfyUI's text encoders; `qwen_edit` adds what images
need.
"""

from __future__ import annotations

import copy
import numbers
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from comfy.sd1_clip import SDTokenizer

from ..families import family_of_encoder
from ..payload import RegionError

# ComfyUI's token lists: one list of (token, weight) pairs for each section of each text encoder.
Section = list[tuple[Any, float]]
Tokens = dict[str, list[Section]]
# A schedule window of the text encoder (clip_start_percent, clip_end_percent); None where there is no schedule.
Window = tuple[float, float] | None
Value = TypeVar("Value")
# Takes a warning for the person whose hints these are.
Tell = Callable[[str], None]

# No text holds it (half a character), so nothing in a text begins with it.
_NO_WORD = "\ud800"


class Prompt(NamedTuple):
    """A hint's text; plain: it is taken word by word, not as ComfyUI's prompt syntax ((word:1.2), embedding:name)."""

    text: str
    plain: bool = False


class Recipe(Protocol):
    """How one kind of text encoder turns a hint into tokens, and its states into what is kept of them."""

    def tokenize(self, prompt: Prompt) -> Tokens:
        """The tokens to encode."""

    def count(self, tokens: Tokens) -> int:
        """How many tokens of them arrive at the model."""

    def cut(self, states: torch.Tensor, mask: torch.Tensor | None, tokens: Tokens) -> torch.Tensor:
        """(1, L, C) as encoded -> (1, L_i, C) as it goes to the model. mask: (1, L) or None, 1 = real token."""


class Context(NamedTuple):
    """What one conditioning entry asks of its hints: how to encode them, and where its text shows images."""

    recipe: Recipe
    image_spans: tuple[tuple[int, int], ...] = ()


class PlainRecipe:
    """A text encoder that sees the hint alone (Flux, Flux.2, or Qwen without an image)."""

    def __init__(self, clip: Any, padding: str, tell: Tell):
        self.clip = clip
        self.padding = padding
        self.tell = tell

    def tokenize(self, prompt: Prompt) -> Tokens:
        reader, text = self._reading(prompt)
        tokens = reader.tokenize(text)
        key = text_key(tokens)
        family = family_of_encoder(key)
        if self.padding == "reference" and family and family.published_text:
            # Merged by ComfyUI over the options set on the CLIP (T5TokenizerOptions).
            length = family.published_text
            tokens = reader.tokenize(text, tokenizer_options={f"{key}_min_length": length, f"{key}_min_padding": 0})
            longest = max(map(len, tokens[key]))
            if longest > length:
                self.tell(
                    f"a hint of {longest} tokens is cut to {length} (hint_padding 'reference'); shorten it: "
                    f"{prompt.text:.60}"
                )
                # As the published pipelines' tokenizer cuts: the end token stays last.
                tokens[key] = [[*section[: length - 1], section[-1]] for section in tokens[key]]
        return tokens

    def count(self, tokens: Tokens) -> int:
        real = self._real(tokens)
        count = sum(real) if self.padding == "trim" else len(real)
        family = family_of_encoder(text_key(tokens))
        return family.hint_tokens(count, self.padding) if family else count

    def cut(self, states: torch.Tensor, mask: torch.Tensor | None, tokens: Tokens) -> torch.Tensor:
        if self.padding != "trim":
            return states
        real = self._real(tokens)
        if len(real) != states.shape[1]:
            raise RegionError(
                f"hint_padding 'trim' cannot tell padding from text here: the encoder gave {states.shape[1]} states "
                f"for {len(real)} tokens; use hint_padding 'host' with this text encoder"
            )
        keep = torch.tensor(real, device=states.device)
        if mask is not None and mask.shape[1] == states.shape[1]:
            keep &= mask[0].to(states.device).bool()
        return states[:, keep]

    def _reading(self, prompt: Prompt) -> tuple[Any, str]:
        """The CLIP whose tokenizer takes `prompt` as it is meant, and the text to give it."""
        if not prompt.plain:
            return self.clip, prompt.text
        return self._word_by_word, prompt.text.replace("(", "\\(").replace(")", "\\)")

    @cached_property
    def _word_by_word(self) -> Any:
        """The CLIP with a tokenizer to which `embedding:` is a word (comfy/sd1_clip.py, tokenize_with_weights)."""
        tokenizer = copy.copy(self.clip.tokenizer)
        for name, part in vars(self.clip.tokenizer).items():
            if isinstance(part, SDTokenizer):
                setattr(tokenizer, name, copy.copy(part))
                getattr(tokenizer, name).embedding_identifier = _NO_WORD
        reader = copy.copy(self.clip)
        reader.tokenizer = tokenizer
        return reader

    def _real(self, tokens: Tokens) -> list[bool]:
        """For each token that may be kept, whether it is text and not padding."""
        key = text_key(tokens)
        tokenizer = _tokenizer_of(self.clip, key)
        return [real for section in tokens[key] for real in real_tokens(section, tokenizer)]


def text_key(tokens: Tokens) -> str:
    """Which of ComfyUI's token lists becomes the model's text (Flux also tokenises for CLIP's pooled vector)."""
    return next((key for key in tokens if family_of_encoder(key)), next(iter(tokens)))


def real_tokens(section: Section, tokenizer: Any) -> list[bool]:
    """For each token of a section, whether it is text (True) or padding of ComfyUI's tokenizer (False).

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
    """ComfyUI's SDTokenizer behind one list of tokens."""
    holder = clip.tokenizer
    for name in (key, f"clip_{key}", getattr(holder, "clip", None)):
        if name and hasattr(holder, name):
            return getattr(holder, name)
    return None


def check_width(text: torch.Tensor, width: int, number: int) -> None:
    """Raise unless the text (B, L, C) of entry `number`, counted from 1, is as wide as the hints."""
    if text.shape[-1] != width:
        raise RegionError(
            f"the hints are {width} wide, but entry {number} of the conditioning is {text.shape[-1]} wide; "
            "use the same CLIP that encoded the conditioning"
        )


def entry_window(extras: dict) -> Window:
    """The part of sampling for which a scheduled text encoder (LoRA by clip hooks) encoded an entry."""
    if "clip_start_percent" not in extras:
        return None
    return (round(float(extras["clip_start_percent"]), 6), round(float(extras["clip_end_percent"]), 6))


def for_window(found: Sequence[tuple[Window, Value]], window: Window) -> Value:
    """What was encoded under `window`; a text encoder without a schedule has one answer for all."""
    if len(found) == 1:
        return found[0][1]
    for known, value in found:
        if known == window:
            return value
    entry = "no schedule" if window is None else f"the window {window[0]:g} to {window[1]:g}"
    there = ", ".join(f"{known[0]:g} to {known[1]:g}" for known, _ in found if known)
    raise RegionError(
        f"the text encoder is scheduled (it has the windows {there}), but an entry of the conditioning has {entry}; "
        "use the same CLIP, with the same hooks, that encoded the conditioning"
    )
