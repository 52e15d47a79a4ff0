"""Lists beside batches: which image, original, mask or plan belongs to which, where ComfyUI hands a node all of them.

ComfyUI runs most nodes once for each member of a list and knows nothing of batches: a list of two plans beside one
batch of two images would be two runs on both images. The nodes that take several of these therefore take whole lists.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch

from ..plan import PlanError
from .images import image_size


def for_each(values: Sequence[Any], runs: int, what: str, beside: str, whole: Collection[int] = (1,)) -> list[Any]:
    """One of `values` for each run: as many as there are runs, one for all of them, or batches that hold as many.

    values: plans or the like, or tensors whose first axis is a batch; those are split where they hold as many as there
    are runs. A single tensor serves every run when its batch is among `whole`. what, beside: one of the values and one
    of what there are `runs` of, for the PlanError when the numbers do not fit.
    """
    if len(values) == runs:
        return list(values)
    batches = [len(value) if torch.is_tensor(value) else 1 for value in values]
    if len(values) == 1 and (not torch.is_tensor(values[0]) or batches[0] in whole):
        return list(values) * runs
    if values and torch.is_tensor(values[0]) and sum(batches) == runs:
        return [part for value in values for part in value.split(1)]
    raise PlanError(
        f"found {_count(sum(batches), what)} for {_count(runs, beside)}, so which belongs to which is not known; "
        "connect one, or one for each in the same order (ComfyUI's Rebatch Images with batch_size 1 makes a list of a "
        "batch)"
    )


def pair_plans(
    images: Sequence[torch.Tensor | None], plans: Sequence[Any], settings: Sequence[Sequence[Any]] = ()
) -> tuple[list[torch.Tensor | None], list[Any]]:
    """Images and plans, one for each other.

    A batch (B, H, W, C) stays one with one plan, or without any (the plans are then None), and is split when there is a
    plan for each of its images; several plans for one image each get it. settings: the values of each widget; several
    of one are as many runs on the same image and plan.
    """
    counts = {"image": len(images), "plan": len(plans), "setting": _longest(settings)}
    most = max(counts, key=lambda name: counts[name])
    whole = {1, *_batches(images)} if most == "setting" else {1}
    return for_each(images, counts[most], "image", most, whole), for_each(plans or [None], counts[most], "plan", most)


def pair_for_restoring(
    images: Sequence[torch.Tensor],
    transforms: Sequence[Any],
    originals: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor],
    settings: Sequence[Sequence[Any]] = (),
) -> list[tuple[torch.Tensor, Any, torch.Tensor | None, torch.Tensor | None]]:
    """For each edited image its transform, its original and its mask (None where there are none).

    images, originals: (B, H, W, C); masks: (B, H, W). Where some came as a list and others as one batch, because RePlan
    Resize or a person split what the others did not, the batches are split too. settings: as in `pair_plans`.
    """
    kinds = set(transforms)  # equal ones belong to every image: a batch has one size
    counts = {
        "edited image": len(images),
        "transform": len(transforms) if len(kinds) > 1 else 1,
        "original image": len(originals),
        "mask": len(masks),
        "setting": _longest(settings),
    }
    most = max(counts, key=lambda name: counts[name])
    runs = counts[most]
    images = for_each(images, runs, "edited image", most, {1, *_batches(images)} if most == "setting" else ())
    # A batch of originals beside edited batches as large: one for each image of those, unless RePlan Resize split it.
    batches = _batches(images)
    whole = {1} if len(transforms) == runs or len(batches) > 1 else {1} | batches
    return list(
        zip(
            images,
            [transforms[0]] * runs if len(kinds) == 1 else for_each(transforms, runs, "transform", most),
            for_each(originals, runs, "original image", most, whole) if originals else [None] * runs,
            for_each(masks, runs, "mask", most, whole) if masks else [None] * runs,
            strict=True,
        )
    )


def pair_for_judging(
    originals: Sequence[torch.Tensor],
    images: Sequence[torch.Tensor],
    plans: Sequence[Any],
    settings: Sequence[Sequence[Any]] = (),
) -> list[tuple[torch.Tensor, torch.Tensor, Any]]:
    """For each edited image its original and its plan (None where there are none); every batch is split.

    originals, images: (B, H, W, C). settings: as in `pair_plans`. Raises PlanError for what is no image.
    """
    originals, images = single_images(originals), single_images(images)
    counts = {
        "edited image": len(images),
        "original image": len(originals),
        "plan": len(plans),
        "setting": _longest(settings),
    }
    most = max(counts, key=lambda name: counts[name])
    runs = counts[most]
    return list(
        zip(
            for_each(originals, runs, "original image", most),
            for_each(images, runs, "edited image", most),
            for_each(plans, runs, "plan", most) if plans else [None] * runs,
            strict=True,
        )
    )


def single_images(images: Sequence[torch.Tensor | None]) -> list[torch.Tensor]:
    """Each image of lists and batches by itself, (1, H, W, C). Raises PlanError for what is no image."""
    for image in images:
        if image is not None:
            image_size(image)
    return [one for batch in images if batch is not None for one in batch.split(1)]


def setting(values: Sequence[Any] | None, run: int, default: Any = None) -> Any:
    """A widget's value for one run: the last one repeated, as ComfyUI does with lists; `default` where it is None."""
    value = values[min(run, len(values) - 1)] if values else None
    return default if value is None else value


def _longest(settings: Sequence[Sequence[Any]]) -> int:
    return max((len(values) for values in settings if values), default=1)


def _batches(tensors: Sequence[Any]) -> set[int]:
    return {len(tensor) for tensor in tensors if torch.is_tensor(tensor)}


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
