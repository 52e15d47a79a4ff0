"""What a judge is asked about an edit: the questions, their images and their scales; no model is called here.

The texts are the files of `questions/`, in the pack's own words. The four about the whole image have the scales and
JSON keys of RePlan's evaluation (IV-Edit: Target, Effect, Consistency, Quality); those about a region are our own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..planner.asking.second_look import cut_around
from ..planner.asking.templates import LONGEST_INSTRUCTION, fill
from ..planner.models.interface import Message, Part, VlmSpec
from ..planner.pictures.images import image_size, in_colours, resize_pixels
from ..planner.plan import PlanError, Region, RegionPlan, well_formed
from ..planner.plans.resize import fit_plan, shape_notice
from .quoted import quoted_texts

_FOLDER = Path(__file__).with_name("questions")

# The values that each published question may have.
SCALES: dict[str, tuple[int, ...]] = {
    "target": (1, 5),
    "effect": (1, 3, 5),
    "consistency": (1, 3, 5),
    "quality": (1, 2, 3, 4, 5),
}
# What is asked about a region, as its scores are named: is the hint done, is the rest of the cut-out as it was, and
# does it show the text that the hint quotes.
DONE, KEPT, TEXT_RIGHT = "done", "kept", "text_right"
# How a model sees images that says nothing about it: as they are, up to most_pixels.
ANY_MODEL = VlmSpec("any", factor=1, min_pixels=1)
# About what a judge of upstream's evaluation is shown.
MOST_PIXELS = 1_003_520
# A cut-out is shown at this area at least: a small thing is easier to see enlarged.
_LEAST_CUT = 448 * 448
# Room around a region, as a share of its side: to see what belongs to the rest, and to read nothing but its own text.
_MARGIN, _TEXT_MARGIN = 0.5, 0.1
# The grey between two images that are joined into one, as a share of the side that they lie along.
_BAR = 0.03
# Where a template shows the original and the edited image, and where the edited one alone.
_IMAGES = re.compile(r"\{\{(both|after)\}\}")
_JOINED = "One image shows both, with a grey bar between them: the original {}, the edited image {}.\n"

# The original and the edited image, each (1, H, W, 3).
Pair = tuple[torch.Tensor, torch.Tensor]


class Question(NamedTuple):
    """One question, which is one call of a model.

    name: one of `SCALES`, or the id of a region and what is asked about it, such as "r2 done"; what `Scores.missing`
        says. messages, images: as `PlannerModel.answer` takes them: one image (1, H, W, 3) in 0..1 for each
        `Part.IMAGE` in the messages, in their order. key: of the reply's JSON object, beside "reasoning". scale: the
        values that it may have; () for a yes or no, and for a text that is read. region: the id of the one that is
        asked about, or "". texts: those that must be seen, where the question is which text is there; the model is
        not told them.
    """

    name: str
    messages: tuple[Message, ...]
    images: tuple[torch.Tensor, ...]
    key: str
    scale: tuple[int, ...] = ()
    region: str = ""
    texts: tuple[str, ...] = ()

    @property
    def score(self) -> str:
        """The name of its score, for the image or for the region."""
        return TEXT_RIGHT if self.texts else self.key if self.region else self.name

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of its reply, for a model that can be held to one."""
        value: dict[str, Any] = {"type": "string", "enum": ["yes", "no"]}
        if self.scale:
            value = {"type": "integer", "enum": list(self.scale)}
        elif self.texts:
            value = {"type": "array", "items": {"type": "string"}}
        names = [self.key] if self.texts else ["reasoning", self.key]
        properties = {name: value if name == self.key else {"type": "string"} for name in names}
        return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


class Verdict(NamedTuple):
    """What a reply says to its question.

    value: the score, one of the question's scale, or 1.0 for yes and 0.0 for no; None where the reply gives none.
    why: then what is wrong with it, in words, else "". reasoning: the model's own. read: the text that it saw, where it
    was asked for one.
    """

    value: float | None
    why: str = ""
    reasoning: str = ""
    read: str = ""


def build_questions(
    before: torch.Tensor,
    after: torch.Tensor,
    instruction: str,
    plan: RegionPlan | None = None,
    *,
    referring: str = "",
    spec: VlmSpec = ANY_MODEL,
    most_pixels: int = MOST_PIXELS,
) -> list[Question]:
    """The questions about one edit: the four published ones, and with a plan two or three about each of its regions.

    before, after: (1, H, W, C) in 0..1, in colours or grey; alpha is not shown. They may differ in size; questions
    about regions then need the same shape. plan: its enabled regions with a hint are asked about, at the size of
    `before`. referring: the words for what is meant, where a benchmark has them. spec, most_pixels: how the model sees
    an image, and the area at which it sees it; for a model of one image a conversation, two images are joined into one.

    Raises PlanError for an instruction that is empty or far too long, an image without pixels or far too long for a
    model, several images where one is meant, and regions on images of different shapes.
    """
    values = {"instruction": _checked(instruction), "referring": ""}
    if referring.strip():
        values["referring"] = f"\nWhat the instruction refers to: {well_formed(referring).strip()}"
    before, after = _one(before, "before"), _one(after, "after")
    questions = [
        Question(name, *_filled(name, values, (before, after), spec, most_pixels), f"{name}_score", scale)
        for name, scale in SCALES.items()
    ]
    if plan is None or not plan.active.regions:
        return questions
    fitted = fit_plan(plan, image_size(before)).active
    shape_notice(fitted, image_size(after), "the edited image has")
    after = resize_pixels(after, image_size(before))
    for region in fitted.regions:
        questions += _about(region, (before, after), values, spec, most_pixels)
    return questions


def _about(region: Region, pair: Pair, values: Mapping[str, str], spec: VlmSpec, most_pixels: int) -> list[Question]:
    """The questions about one region, on cut-outs around it; none about one without a hint."""
    hint = region.hint.strip()
    if not hint:
        return []
    closer = spec._replace(min_pixels=max(spec.min_pixels, min(most_pixels, spec.max_pixels, _LEAST_CUT)))

    def question(name: str, margin: float, key: str, texts: tuple[str, ...] = ()) -> Question:
        cut = cut_around(region.box, image_size(pair[0]), margin)
        before, after = (image[:, cut.top : cut.bottom, cut.left : cut.right] for image in pair)
        filled = _filled(name, {**values, "hint": hint}, (before, after), closer, most_pixels)
        return Question(f"{region.id} {name}", *filled, key, (), region.id, texts)

    texts = quoted_texts(hint)
    asked = [question(DONE, _MARGIN, DONE), question(KEPT, _MARGIN, KEPT)]
    return [*asked, question(TEXT_RIGHT, _TEXT_MARGIN, "texts", texts)] if texts else asked


def _filled(
    name: str, values: Mapping[str, str], pair: Pair, spec: VlmSpec, most_pixels: int
) -> tuple[tuple[Message, ...], tuple[torch.Tensor, ...]]:
    """The one turn of a question and its images, as the model sees them. A value is never searched for marks."""
    template = (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").strip()
    ahead, which, behind = _IMAGES.split(template, 1)
    parts: tuple[str | Part, ...]
    if which == "after":
        parts, images = (Part.IMAGE,), pair[1:]
    elif spec.several_images:
        parts, images = ("Original image:\n", Part.IMAGE, "\nEdited image:\n", Part.IMAGE), pair
    else:
        joined, words = _joined(pair)
        parts, images = (words, Part.IMAGE), (joined,)
    seen = tuple(resize_pixels(image, spec.seen_size(image_size(image), most_pixels)) for image in images)
    return (Message("user", (fill(ahead, values), *parts, fill(behind, values))),), seen


def _joined(pair: Pair) -> tuple[torch.Tensor, str]:
    """Both images in one, along their shorter side, and where each is, in words."""
    before, after = pair
    width, height = image_size(before)
    wide = width > height
    axis, side = (1, 2) if wide else (2, 1)
    length = max(1, round(after.shape[axis] * before.shape[side] / after.shape[side]))
    after = resize_pixels(after, (width, length) if wide else (length, height))
    bar = list(before.shape)
    bar[axis] = max(1, round(_BAR * before.shape[axis]))
    places = ("at the top", "below it") if wide else ("on the left", "on the right")
    return torch.cat([before, before.new_full(bar, 0.5), after.to(before)], axis), _JOINED.format(*places)


def _one(image: torch.Tensor, what: str) -> torch.Tensor:
    """One image in colours, (1, H, W, 3)."""
    image_size(image)
    if len(image) != 1:
        raise PlanError(f"'{what}' holds {len(image)} images where one edit is judged; give the images one by one")
    if not torch.isfinite(image).all():
        raise PlanError(
            f"'{what}' holds values that are not finite (NaN or infinity), which no judge can look at; run the VAE or "
            "the model that made it in bf16 or fp32"
        )
    return in_colours(image)


def _checked(instruction: str) -> str:
    asked = well_formed(instruction).strip()
    if not asked:
        raise PlanError("the instruction is empty; write what the edit was to change")
    if len(asked) > LONGEST_INSTRUCTION:
        raise PlanError(
            f"the instruction has {len(asked)} characters, more than {LONGEST_INSTRUCTION}; say in a few sentences "
            "what the edit was to change, or look at what is connected to it"
        )
    return asked
