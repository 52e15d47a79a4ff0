"""Hints for Qwen-Image-Edit: encoded with the image in context, and where the main text shows its images.

ComfyUI's stock encoders (TextEncodeQwenImageEdit and its Plus form) put one to three images before the prompt. A hint
is encoded in exactly that surrounding, then everything through the last image is cut off (as RePlan's qwen_image.py
does). A conditioning does not say which encoder made it or where its images lie; but the language model is causal, so
its states up to the end of an image do not depend on the prompt, and an empty prompt encoded the same way begins with
the same states. Nothing here counts template tokens: all lengths are measured.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import comfy.model_management
import torch

from ..payload import RegionError
from .recipes import (
    Context,
    PlainRecipe,
    Prompt,
    Tell,
    Tokens,
    Window,
    check_width,
    entry_window,
    for_window,
)

KEY = "qwen25_7b"
ENCODERS = ("auto", "edit", "plus")

# Token ids of the Qwen2.5-VL tokenizer (comfy/text_encoders/qwen25_tokenizer/tokenizer_config.json).
IM_START, IM_END, VISION_START, VISION_END, IMAGE_PAD = 151644, 151645, 151652, 151653, 151655

# Largest mean over tokens of |found - expected| / |expected| at which two stretches of states are the same.
# Measured with ComfyUI's classes at reduced size and random weights, on a photograph: 0 to 2e-7 encoded again,
# 0.002 rounded to bf16, 0.004 with the image's 8-bit rounding lost, 0.09 with 5 % noise in it, 0.6 shifted by
# 8 pixels, 1.1 another photograph. Real weights have not been measured.
TOLERANCE = 0.05


class Template(NamedTuple):
    """What a stock encoder puts around a prompt, as that node itself hands it to the tokenizer.

    slots: which of image, image2, image3 it shows (0, 1, 2). prefix: what precedes the prompt. options:
    keyword arguments of the tokenizer, the prepared images among them.
    """

    encoder: str
    slots: tuple[int, ...]
    prefix: str
    options: dict

    def tokenize(self, clip: Any, text: str) -> Tokens:
        return clip.tokenize(self.prefix + text, **self.options)


def is_qwen_edit(clip: Any) -> bool:
    """Whether this is the text encoder of Qwen-Image, told by its tokens and its template for images."""
    return set(clip.tokenize("")) == {KEY} and hasattr(clip.tokenizer, "llama_template_images")


def count_recipe(clip: Any, padding: str, tell: Tell) -> QwenRecipe:
    """A recipe that counts as any other here does, with a blank image and before anything is encoded."""
    return QwenRecipe(clip, padding, template_of("edit", [torch.zeros(1, 64, 64, 3), None, None]), tell)


def template_of(encoder: str, images: Sequence[torch.Tensor | None]) -> Template:
    """Let the stock node prepare `images` (three, None where a slot is empty) and record what it asks for."""
    from comfy_extras.nodes_qwen import TextEncodeQwenImageEdit, TextEncodeQwenImageEditPlus

    rgb = [None if image is None else image[..., :3] for image in images]
    slots = tuple(i for i, image in enumerate(rgb) if image is not None)
    listener = _Listener()
    if encoder == "edit":
        slots = slots[:1]
        TextEncodeQwenImageEdit.execute(listener, "", image=rgb[slots[0]] if slots else None)
    else:
        TextEncodeQwenImageEditPlus.execute(listener, "", image1=rgb[0], image2=rgb[1], image3=rgb[2])
    return Template(encoder, slots, listener.text, listener.options)


class _Listener:
    """Stands in for the CLIP while a stock node prepares its images."""

    def tokenize(self, text: str, **options) -> Tokens:
        self.text, self.options = text, options
        return {}

    def encode_from_tokens_scheduled(self, tokens: Tokens, **_) -> list:
        return []


class QwenRecipe(PlainRecipe):
    """A hint in a template: of the states only those after the last image are kept."""

    def __init__(self, clip: Any, padding: str, template: Template, tell: Tell):
        super().__init__(clip, padding, tell)
        self.template = template
        self._controls = _controls(template.tokenize(clip, ""))

    def tokenize(self, prompt: Prompt) -> Tokens:
        reader, text = self._reading(prompt)
        tokens = self.template.tokenize(reader, text)
        if _controls(tokens) != self._controls:
            raise RegionError(
                f"the hint {prompt.text[:60]!r} holds a control word of the text encoder (such as <|im_start|> or "
                "<|vision_end|>); remove it from the hint"
            )
        return tokens

    def cut(self, states: torch.Tensor, mask: torch.Tensor | None, tokens: Tokens) -> torch.Tensor:
        # From the right end: the images and ComfyUI's cut of the template change what lies on the left.
        kept = self._real(tokens)[-states.shape[1] :]
        states = states[:, -len(kept) :]
        if self.padding != "trim":
            return states
        keep = torch.tensor(kept, device=states.device)
        if mask is not None:
            keep &= mask[0, -len(kept) :].to(states.device).bool()
        return states[:, keep]

    def _real(self, tokens: Tokens) -> list[bool]:
        """Only of the tokens after the last image (all, without one)."""
        last = max((i for i, (token, *_) in enumerate(_flat(tokens)) if _is(token, VISION_END)), default=-1)
        return super()._real(tokens)[last + 1 :]


class Spans(NamedTuple):
    """An empty prompt in one template: where its images lie and the states up to the end of the last one.

    spans: half-open token ranges in the encoded text, vision_start through vision_end. states: by window of a
    scheduled text encoder, (1, end of the last image, C).
    """

    spans: tuple[tuple[int, int], ...]
    states: list[tuple[Window, torch.Tensor]]


class Probe:
    """An empty prompt in one template, encoded as far as it is asked for."""

    def __init__(self, clip: Any, template: Template):
        self.clip = clip
        self.template = template
        self.tokens = template.tokenize(clip, "")

    def encode(self, shown: int) -> list[tuple[Window, torch.Tensor]]:
        """The encoded text with the first `shown` images in place and one plain token for each other."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        tokens = _showing(self.tokens, shown)
        found = self.clip.encode_from_tokens_scheduled(tokens, show_pbar=False)
        return [(entry_window(extras), states) for states, extras in found]

    @cached_property
    def bare(self) -> Spans:
        """The template without its images: the same states up to the first vision_start, at little cost."""
        encoded = self.encode(0)
        lengths = [1] * len(self.template.slots)
        spans = self._spans(encoded, lengths)
        return Spans(spans, encoded)

    @cached_property
    def full(self) -> Spans:
        """With all images; one more image at a time, so that each one's length shows."""
        before, lengths = self.bare.states[0][1].shape[1], []
        for shown in range(1, len(self.template.slots) + 1):
            encoded = self.encode(shown)
            now = encoded[0][1].shape[1]
            lengths.append(now - before + 1)
            before = now
        spans = self._spans(self.bare.states, lengths)
        return Spans(spans, [(window, states[:, : spans[-1][1]]) for window, states in encoded])

    def _spans(self, bare: list[tuple[Window, torch.Tensor]], lengths: list[int]) -> tuple[tuple[int, int], ...]:
        section = _flat(self.tokens)
        position = bare[0][1].shape[1] - len(section)  # negative: what ComfyUI cuts off the template
        remaining, spans, start = list(lengths), [], 0
        for token, *_ in section:
            if _is(token, VISION_START):
                start = position
            position += remaining.pop(0) if isinstance(token, dict) else 1
            if _is(token, VISION_END):
                spans.append((start, position))
        return tuple(spans)


class Matcher:
    """Finds, for each conditioning entry, the stock encoder and the images its text was made with.

    An encoder that a person chose is believed: where it cannot be found in the text, `tell` says so and the images are
    taken to lie where that encoder puts them.
    """

    def __init__(self, clip: Any, padding: str, encoder: str, images: Sequence[torch.Tensor | None], tell: Tell):
        self.clip = clip
        self.padding = padding
        self.images = [*images, None, None, None][:3]
        self.blank = torch.zeros(1, 64, 64, 3)
        self.candidates = ("plus", "edit") if encoder == "auto" else (encoder,)
        self.chosen = encoder
        self.tell = tell
        self._probes: dict[tuple, Probe] = {}
        self._recipes: dict[tuple, QwenRecipe] = {}

    def context(self, text: torch.Tensor, extras: dict, number: int) -> Context:
        """text (1, L, C), extras: entry `number` of the conditioning, counted from 1."""
        window = entry_window(extras)
        if not text.any():  # ConditioningZeroOut before us: no image is left in it to find
            return Context(self._text_only())
        if not any(image is not None for image in self.images):
            self._refuse_unseen_images(text, window, number)
            return Context(self._text_only())
        notes = []
        for encoder in self.candidates:
            probe = self._probe(encoder, self.images)
            check_width(text, probe.bare.states[0][1].shape[-1], number)
            shown, note = self._matching(probe, text, window)
            if shown:
                return self._matched(probe, shown, text, window, number)
            notes.append(note)
        if self.chosen != "auto":
            return self._as_chosen(probe, text, number, notes[0])
        raise RegionError(
            f"the connected images are not those in entry {number} of the conditioning ({'; '.join(notes)}; up to "
            f"{TOLERANCE:g} would count as equal); connect the same image or images that the text encoder had, in the "
            "same order and size. If they are the same, choose the encoder that was used instead of 'auto'"
        )

    def _as_chosen(self, probe: Probe, text: torch.Tensor, number: int, found: str) -> Context:
        """All connected images, where the chosen encoder puts them, whatever the text looks like."""
        encoder, spans = probe.template.encoder, probe.full.spans
        if text.shape[1] < spans[-1][1]:
            raise RegionError(
                f"entry {number} of the conditioning has {text.shape[1]} tokens, and the connected "
                f"image{'s' * (len(spans) > 1)} would end at token {spans[-1][1]} under the encoder '{encoder}'; "
                "connect only what the text encoder had, or set encoder to the node that made the conditioning"
            )
        self.tell(
            f"entry {number} of the conditioning does not look as if '{encoder}' had made it with the connected "
            f"images ({found}; up to {TOLERANCE:g} would count as equal). It is believed because encoder is set to "
            f"'{encoder}'; if the hints do not work, set it to 'auto' and connect the images that the text encoder had"
        )
        images = [image if i in probe.template.slots else None for i, image in enumerate(self.images)]
        return Context(self._recipe(encoder, images), spans)

    def _text_only(self) -> QwenRecipe:
        # Without images TextEncodeQwenImageEdit encodes as CLIPTextEncode does; the Plus form keeps its template.
        encoder = "plus" if self.chosen == "plus" else "edit"
        return self._recipe(encoder, [None, None, None])

    def _matched(self, probe: Probe, shown: int, text: torch.Tensor, window: Window, number: int) -> Context:
        encoder, slots = probe.template.encoder, probe.template.slots[:shown]
        images = [image if i in slots else None for i, image in enumerate(self.images)]
        end = probe.full.spans[shown - 1][1]
        further = self._further_image(images, text, window, end) if encoder == "plus" else None
        if further is not None:
            connected = self.images[further] is not None
            if connected and self.chosen != "auto":
                return self._as_chosen(probe, text, number, f"the image at {_socket(further)} differs")
            raise RegionError(
                f"entry {number} of the conditioning was encoded with an image in {_socket(further)}, but "
                f"{'another one is' if connected else 'none is'} connected here; connect the same images that the "
                "text encoder had, in the same order and size"
            )
        unused = [_socket(i) for i, image in enumerate(self.images) if image is not None and i not in slots]
        if unused:
            self.tell(
                f"{', '.join(unused)} not in the conditioning's text, so hints are read without; connect the images "
                "that the text encoder had, and no others"
            )
        return Context(self._recipe(encoder, images), probe.full.spans[:shown])

    def _matching(self, probe: Probe, text: torch.Tensor, window: Window) -> tuple[int, str]:
        """How many of the probe's images `text` begins with, and a note for the error when there are none."""
        encoder = probe.template.encoder
        start = probe.bare.spans[0][0] + 1
        apart = distance(text, for_window(probe.bare.states, window), 0, start)
        if apart > TOLERANCE:
            return 0, f"the words before the image are not those of '{encoder}'"
        states, begin, shown, first = for_window(probe.full.states, window), 0, 0, None
        for _, end in probe.full.spans:
            apart = distance(text, states, begin, end)
            first = apart if first is None else first
            if apart > TOLERANCE:
                break
            begin, shown = end, shown + 1
        if first == float("inf"):
            return 0, f"the text is shorter than with the first image under '{encoder}'"
        return shown, f"the words fit '{encoder}', but the first image differs by {first:.2g}"

    def _refuse_unseen_images(self, text: torch.Tensor, window: Window, number: int) -> None:
        """No image is connected; words that only stand before an image say that the main text has one."""
        cases = [("edit", 0)] + [("plus", slot) for slot in range(3)]
        for encoder, slot in cases:
            probe = self._probe(encoder, [self.blank if i == slot else None for i in range(3)])
            if distance(text, for_window(probe.bare.states, window), 0, probe.bare.spans[0][0] + 1) <= TOLERANCE:
                raise RegionError(
                    f"entry {number} of the conditioning was encoded with an image ('{encoder}'), but none is "
                    f"connected here; connect the image: the same one to {_socket(slot)}"
                )

    def _further_image(self, images: list, text: torch.Tensor, window: Window, end: int) -> int | None:
        """The slot of an image that the text goes on with behind `images`, which end at token `end`, if any."""
        last = max(i for i, image in enumerate(images) if image is not None)
        shown = sum(image is not None for image in images)
        for slot in range(last + 1, 3):
            probe = self._probe("plus", [self.blank if i == slot else image for i, image in enumerate(images)])
            start = end + probe.bare.spans[shown][0] - probe.bare.spans[shown - 1][1] + 1
            if distance(text, for_window(probe.encode(shown), window), end, start) <= TOLERANCE:
                return slot
        return None

    def _probe(self, encoder: str, images: list) -> Probe:
        key = (encoder, *map(id, images))
        if key not in self._probes:
            self._probes[key] = Probe(self.clip, template_of(encoder, images))
        return self._probes[key]

    def _recipe(self, encoder: str, images: list) -> QwenRecipe:
        key = (encoder, *map(id, images))
        if key not in self._recipes:
            self._recipes[key] = QwenRecipe(self.clip, self.padding, template_of(encoder, images), self.tell)
        return self._recipes[key]


def distance(found: torch.Tensor, expected: torch.Tensor, start: int, end: int) -> float:
    """Mean relative difference of the tokens start..end of two texts (B, L, C); infinite where one is too short."""
    if min(found.shape[1], expected.shape[1]) < end or found.shape[-1] != expected.shape[-1]:
        return float("inf")
    ours = expected[:1, start:end].float()
    theirs = found[:1, start:end].to(ours)
    return float(((theirs - ours).norm(dim=-1) / ours.norm(dim=-1).clamp_min(1e-12)).mean())


@contextmanager
def images_seen_once(clip: Any) -> Iterator[None]:
    """While hints are encoded, let the vision tower look at each image once, not once for each hint.

    ComfyUI calls `preprocess_embed` of its text model for every image in every prompt. This puts a
    remembering one in front of it, on that one object, and takes it away again. Not done while hooks change the
    weights from window to window.
    """
    model = getattr(getattr(clip.cond_stage_model, KEY, None), "transformer", None)
    original = getattr(model, "preprocess_embed", None)
    if original is None or clip.patcher.forced_hooks is not None or "preprocess_embed" in vars(model):
        yield
        return
    seen: list[tuple[torch.Tensor, Any]] = []

    def preprocess_embed(embed, device):
        if embed.get("type") != "image":
            return original(embed, device=device)
        image = embed["data"]
        for known, result in seen:
            if known is image or torch.equal(known, image):
                return result
        seen.append((image, original(embed, device=device)))
        return seen[-1][1]

    model.preprocess_embed = preprocess_embed
    try:
        yield
    finally:
        del model.preprocess_embed


def _showing(tokens: Tokens, shown: int) -> Tokens:
    """The tokens with only the first `shown` images; each later one becomes a plain token again."""
    section, seen = [], 0
    for token, *rest in _flat(tokens):
        if isinstance(token, dict):
            seen += 1
            token = token if seen <= shown else IMAGE_PAD
        section.append((token, *rest))
    return {**tokens, KEY: [section]}


def _controls(tokens: Tokens) -> list[int]:
    """The chat and image marks among the tokens, in order; images count as their plain token."""
    marks = (IM_START, IM_END, VISION_START, VISION_END, IMAGE_PAD)
    plain = [IMAGE_PAD if isinstance(token, dict) else token for token, *_ in _flat(tokens)]
    return [int(token) for token in plain if isinstance(token, numbers.Integral) and token in marks]


def _flat(tokens: Tokens) -> list:
    return [pair for section in tokens[KEY] for pair in section]


def _is(token: Any, mark: int) -> bool:
    return isinstance(token, numbers.Integral) and token == mark


def _socket(slot: int) -> str:
    return "image" if slot == 0 else f"image{slot + 1}"
