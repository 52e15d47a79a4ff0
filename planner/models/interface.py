"""What the planner asks of a model: a conversation and images in, a text out; and what is known of each kind."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from ..geometry import Size
from ..plans.resize import smart_resize

# What `dtype` of a loader stands for; the others leave it to ComfyUI and the file.
TORCH_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class Part(Enum):
    """What a message holds besides texts."""

    IMAGE = "image"


class Message(NamedTuple):
    """One turn. role: `system`, `user` or `assistant`; parts: texts, and where the conversation's next image comes."""

    role: str
    parts: tuple[str | Part, ...]

    @property
    def text(self) -> str:
        """The texts alone, in order."""
        return "".join(part for part in self.parts if isinstance(part, str))


class VlmSpec(NamedTuple):
    """How a kind of vision-language model sees an image and writes its boxes.

    name: for reports. factor: both sides of the seen image are multiples of it, in pixels. min_pixels, max_pixels:
    the area it may have. coordinates: what its boxes count, one of `replies.COORDINATES`. known: whether that is
    from its makers' documents; otherwise the numbers are guessed from and the report says so. several_images: whether
    a conversation may show more than one.
    """

    name: str
    factor: int = 28
    min_pixels: int = 3136
    max_pixels: int = 12845056
    coordinates: str = "auto"
    known: bool = True
    several_images: bool = True

    def seen_size(self, size: Size, most_pixels: int) -> Size:
        """The (width, height) at which the model sees an image of `size`, of about `most_pixels` at most.

        Raises PlanError for an image more than 200 times as long as wide.
        """
        most = max(self.min_pixels, min(self.max_pixels, most_pixels))
        return smart_resize(*size, self.factor, self.min_pixels, most)


# Sizes and conventions: the makers' processor settings and cookbooks (QwenLM/Qwen3-VL issues 676, 769 and 866 for the
# Qwen ones). Gemma and PaliGemma name boxes box_2d and begin with the top edge, as Gemini does. The first LLaVA and
# PaliGemma were trained on one image a conversation.
QWEN25_VL = VlmSpec("Qwen2.5-VL", 28, 3136, 12845056, "seen_pixels")
QWEN3_VL = VlmSpec("Qwen3-VL", 32, 65536, 16777216, "relative_1000")
SPECS = {
    "qwen2_5_vl": QWEN25_VL,
    "qwen3_vl": QWEN3_VL,
    "qwen3_vl_moe": QWEN3_VL,
    "qwen2_vl": VlmSpec("Qwen2-VL", 28, 3136, 12845056, "relative_1000"),
    "gemma3": VlmSpec("Gemma 3", coordinates="relative_1000_y_first"),
    "gemma4": VlmSpec("Gemma 4", coordinates="relative_1000_y_first"),
    "paligemma": VlmSpec("PaliGemma", coordinates="relative_1000_y_first", several_images=False),
    "internvl": VlmSpec("InternVL", coordinates="relative_1000"),
    "glm4v": VlmSpec("GLM-4V", coordinates="relative_1000"),
    "llava": VlmSpec("LLaVA", coordinates="relative_1", several_images=False),
    "llava_next": VlmSpec("LLaVA", coordinates="relative_1", several_images=False),
}


def spec_of(model_type: str) -> VlmSpec:
    """The spec by the `model_type` of a model's config.json; one that is not known guesses its coordinates."""
    return SPECS.get(model_type) or VlmSpec(model_type, known=False)


class Sampling(NamedTuple):
    """How a reply is drawn. temperature 0 takes the likeliest token each time, and then `seed` changes nothing.

    top_p: only the likeliest tokens that together have this probability; what is above temperature 0 is drawn from a
    generator of its own, seeded with `seed`, never from a global one.
    """

    max_tokens: int = 2048
    temperature: float = 0.0
    seed: int = 0
    top_p: float = 0.95


class Answer(NamedTuple):
    """A reply. finished: the model ended it itself; asked: tokens it read, images included; tokens: it wrote."""

    text: str
    finished: bool
    asked: int
    tokens: int


class PlannerModel(Protocol):
    """A loaded model. Two nodes that name the same one share it.

    label: for reports. trained_template: see `files.trained_template`.
    """

    label: str
    spec: VlmSpec
    trained_template: Path | None

    def answer(self, messages: Sequence[Message], images: Sequence[torch.Tensor], sampling: Sampling) -> Answer:
        """The reply to a conversation.

        images: one for each `Part.IMAGE` in the messages, in their order, (1, H, W, 3) in 0..1, each at a size that
        `spec.seen_size` gave. Shows its progress on the node that runs, and stops when the user interrupts
        (ComfyUI's own exception). Raises PlanError when the reply cannot be made; for too little memory it says which
        setting helps.
        """
        ...


def without_control_words(text: str, words: Sequence[str]) -> str:
    """`text` in which no control word of a tokenizer (<|im_end|>, ...) acts as one: it is broken by a space."""
    for word in words:
        if len(word) > 1:
            text = text.replace(word, f"{word[0]} {word[1:]}")
    return text
