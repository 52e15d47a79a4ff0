"""Whether an edit shows what was intended: each region in the context of its scene, and the scene, beside their texts.

Region in Context (section 3.2) trains an editor with these two likenesses as losses; here they are scores. A region's
text says what its box should show after the edit, the scene's what the whole image should. All scores are cosines of an
image encoder's and a text encoder's features: with them edits of one image are compared, they have no threshold. The
one that has (`closer`) needs the image before the edit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..planner.geometry import Box
from ..planner.pictures.images import image_size
from ..planner.plan import KEEP_UNCHANGED, Notice, PlanError, Region, RegionPlan, clamped
from ..planner.plans.resize import fit_plan
from .encoders import PAIR, ImageEncoder, ImageFeatures, TextEncoder, TextFeatures, likeness, unit
from .fusion import GatedFusion
from .scores import Scores

MAIN, CLOSER = "alignment", "closer"
# What CLIP multiplies a cosine with before its softmax, one over its temperature: the most its training allows, and
# where it ended.
LOGIT_SCALE = 100.0


class Description(NamedTuple):
    """What an image or a region should show. text: "" when nothing says it; source: where it was found, in words."""

    text: str
    source: str


class Alignment(NamedTuple):
    """scores: by "alignment"; report: every score with its text; notices: how the plan fits the images."""

    scores: Scores
    report: str
    notices: tuple[Notice, ...]


@dataclass(frozen=True)
class Aligner:
    """Compares edits with their texts. fusion: None takes the mean of a region's own features and its scene's."""

    images: ImageEncoder
    texts: TextEncoder
    fusion: GatedFusion | None = None

    def __call__(
        self,
        after: torch.Tensor,
        plan: RegionPlan,
        scene: str = "",
        reference: torch.Tensor | None = None,
        before: torch.Tensor | None = None,
    ) -> Alignment:
        """The scores of one edit.

        after, reference, before: (1, H, W, C) in 0..1. reference: what `after` should look like, for "clip_i" or
        "dino"; before: the image before the edit, for "closer". The plan is brought to each image's size.
        scene: describes the whole image after the edit; "" takes what the plan says.
        Raises PlanError when nothing can be compared, for a plan of another image, for values that are not finite, and
        for encoders that do not belong together.
        """
        views = _Views(self.images, plan)
        regions = views.add("after", after)
        for name, image in (("reference", reference), ("before", before)):
            if image is not None:
                views.add(name, image)
        described = scene_description(plan, scene)
        said = {region.id: region_description(region) for region in regions}
        comparable = self.images.has_text_space
        if not comparable and reference is None:
            raise PlanError(
                f"this vision model ({self.images.kind}) has no text space in ComfyUI, so it compares images only; "
                f"connect a reference, or {PAIR}"
            )
        if reference is None and not described.text and not any(one.text for one in said.values()):
            raise PlanError(
                "nothing says what the image should show: the plan has no region with a text and no text for the "
                "scene; plan with the template 'result', or connect a scene text"
            )
        told = _Told()
        if comparable:
            self._compare_scene(views, described, told)
        if reference is not None:
            told.image[self.images.name] = clamped_cosine(views.whole("after").pooled, views.whole("reference").pooled)
        for region in regions:
            self._compare_region(views, region, said[region.id], told)
        return Alignment(told.scores(self.images.name), told.report(self._how(told)), views.notices)

    def _compare_scene(self, views: _Views, described: Description, told: _Told) -> None:
        if not described.text:
            told.missing.append("scene")
            return
        text = self.texts(described.text)
        told.texts["scene"] = (described, text)
        whole = views.whole("after").pooled
        told.image |= {"scene": likeness(whole, text.pooled), "clip_t": clamped_cosine(whole, text.pooled)}

    def _compare_region(self, views: _Views, region: Region, described: Description, told: _Told) -> None:
        values: dict[str, float] = {}
        if views.has("reference"):
            own, wanted = (views.region(name, region.id).pooled for name in ("after", "reference"))
            values[self.images.name] = clamped_cosine(own, wanted)
        if self.images.has_text_space and not described.text:
            told.missing.append(f"{region.id} region")
        elif self.images.has_text_space:
            text = self.texts(described.text)
            told.texts[region.id] = (described, text)
            values["region"] = self._in_context(views, "after", region.id, text)
            values["clip_t"] = clamped_cosine(views.region("after", region.id).pooled, text.pooled)
            if views.has("before"):
                values[CLOSER] = closer(values["region"], self._in_context(views, "before", region.id, text))
        told.regions[region.id] = values

    def _in_context(self, views: _Views, name: str, region: str, text: TextFeatures) -> float:
        """Cosine of a region, seen in its scene, and a text."""
        crop, whole = views.region(name, region), views.whole(name)
        if self.fusion is None:
            fused = (crop.pooled + whole.pooled) / 2
        else:
            if self.fusion.out != len(text.pooled):
                raise PlanError(
                    f"the fusion weights give {self.fusion.out} features, the CLIP {len(text.pooled)}; load the "
                    "weights that were trained with these encoders, or choose 'mean'"
                )
            fused = self.fusion(crop.tokens, whole.tokens, crop.grid, whole.grid)[0]
        return likeness(unit(fused, "the fusion"), text.pooled)

    def _how(self, told: _Told) -> list[str]:
        """How the regions were brought together with their scene, and what was left out."""
        lines = []
        if any("region" in values for values in told.regions.values()):
            lines.append(
                "Regions in context: mean of a region's features and its scene's (no fusion weights)"
                if self.fusion is None
                else "Regions in context: gated fusion"
            )
        if not self.images.has_text_space:
            lines.append(f"No text scores: {self.images.kind} has no text space in ComfyUI")
        if self.texts.trivial_projection and told.texts:
            lines.append(
                "Warning: the CLIP's text projection changes nothing. If its file has none (that of an SD 1.5 "
                f"checkpoint), scores with texts say nothing; {PAIR}"
            )
        return lines


def clamped_cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """CLIP-T, CLIP-I or DINO of two unit vectors, 0..1: a hundredth of torchmetrics' CLIPScore."""
    return max(0.0, likeness(one, other))


def closer(after: float, before: float) -> float:
    """By how much CLIP prefers a region after the edit to the one before it, for its text: 0..1.

    p(after) - p(before) of its softmax over the two images, and 0 when the one before is preferred.
    """
    return max(0.0, math.tanh(LOGIT_SCALE / 2 * (after - before)))


def scene_description(plan: RegionPlan, scene: str = "") -> Description:
    """What the whole image should show: `scene`, what the planner said, or the global prompt unless that only keeps."""
    said = plan.extra.get("scene_after")
    if scene.strip():
        return Description(scene.strip(), "the scene text")
    if isinstance(said, str) and said.strip():
        return Description(said.strip(), "the plan's description of the scene after the edit")
    prompt = plan.global_prompt.strip()
    if prompt and prompt.rstrip(".").casefold() != KEEP_UNCHANGED.rstrip(".").casefold():
        return Description(prompt, "the plan's global prompt, which may be an instruction")
    return Description("", "")


def region_description(region: Region) -> Description:
    """What a region should show: what the planner said of it, or its hint."""
    said = region.extra.get("description_after")
    if isinstance(said, str) and said.strip():
        return Description(said.strip(), "its description after the edit")
    return Description(region.hint.strip(), "its hint, which may be an instruction" if region.hint.strip() else "")


class _Views:
    """The images of one edit and their regions as features, each encoded when it is first asked for."""

    def __init__(self, encoder: ImageEncoder, plan: RegionPlan) -> None:
        self._encoder, self._plan = encoder, plan
        self.notices: tuple[Notice, ...] = ()
        self._images: dict[str, torch.Tensor] = {}
        self._boxes: dict[tuple[str, str], Box] = {}
        self._features: dict[tuple[str, str], ImageFeatures] = {}

    def add(self, name: str, image: torch.Tensor) -> tuple[Region, ...]:
        """Take an image, (1, H, W, C); the plan's enabled regions on it."""
        size = image_size(image)
        if len(image) != 1:
            raise PlanError(f"found {len(image)} images as '{name}', expected one; connect one for each edited image")
        if not torch.isfinite(image).all():
            raise PlanError(
                f"'{name}' holds values that are not finite (NaN or infinity); look at what made it, often a VAE in "
                "fp16"
            )
        plan = fit_plan(self._plan, size)
        regions = plan.active.regions
        self.notices += tuple(notice for notice in plan.notices if notice not in self._plan.notices)
        self._images[name] = image
        self._boxes |= {(name, region.id): clamped(region.box, size) for region in regions}
        return regions

    def has(self, name: str) -> bool:
        return name in self._images

    def whole(self, name: str) -> ImageFeatures:
        return self._encoded(name, "", self._images[name])

    def region(self, name: str, identity: str) -> ImageFeatures:
        """Of the region's box, in whole pixels."""
        x1, y1, x2, y2 = self._boxes[name, identity]
        left, top = math.floor(x1), math.floor(y1)
        return self._encoded(name, identity, self._images[name][:, top : math.ceil(y2), left : math.ceil(x2)])

    def _encoded(self, name: str, identity: str, pixels: torch.Tensor) -> ImageFeatures:
        key = (name, identity)
        if key not in self._features:
            self._features[key] = self._encoder(pixels)
        return self._features[key]


class _Told:
    """What has been found out about one edit, to be put in scores and in words."""

    def __init__(self) -> None:
        self.image: dict[str, float] = {}
        self.regions: dict[str, dict[str, float]] = {}
        self.texts: dict[str, tuple[Description, TextFeatures]] = {}
        self.missing: list[str] = []

    def scores(self, likeness_name: str) -> Scores:
        regions = [values["region"] for values in self.regions.values() if "region" in values]
        image = dict(self.image)
        if regions:
            image["regions"] = sum(regions) / len(regions)
        halves = [image[name] for name in ("scene", "regions") if name in image]
        if halves:
            image = {MAIN: sum(halves) / len(halves), **image}
        return Scores(
            "alignment",
            image,
            self.regions,
            MAIN if halves else likeness_name,
            CLOSER if any(CLOSER in values for values in self.regions.values()) else "",
            missing=tuple(self.missing),
        )

    def report(self, notes: list[str]) -> str:
        scores = self.scores("")
        lines = [", ".join(f"{name} {value:.3f}" for name, value in scores.image.items())]
        for name in dict.fromkeys((*self.texts, *self.regions)):
            values = ", ".join(f"{key} {value:.3f}" for key, value in self.regions.get(name, {}).items())
            told = [values] if values else []
            if name in self.texts:
                described, text = self.texts[name]
                parts = f", {text.parts} parts encoded apart and averaged" if text.parts > 1 else ""
                told.append(f'"{described.text}" ({described.source}{parts})')
            lines.append(f"{name}: {'; '.join(told)}")
        lines += [f"No text: {', '.join(self.missing)}"] if self.missing else []
        return "\n".join([*lines, *notes])
