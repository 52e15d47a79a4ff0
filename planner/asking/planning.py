"""From images and an instruction to checked plans, one for each image; one that gets none leaves the others alone."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..models.interface import PlannerModel
from ..plan import PlanError
from ..replies import COORDINATES
from .conversation import Conversation, Planned, PlanRequest
from .templates import planner_messages

MOST_VOTES = 9


def plan_images(
    model: PlannerModel,
    images: torch.Tensor,
    request: PlanRequest,
    more_images: torch.Tensor | None = None,
    on_question: Callable[[str], None] = lambda _: None,
) -> list[Planned]:
    """One plan for each image; one that fails leaves the others alone.

    images: (B, H, W, C) in 0..1, in colours or grey; alpha is not shown to the model. more_images: likewise, shown
    behind the image to edit: one for each image, or all of them with a single image. on_question: is told in words
    what is asked next.

    Raises PlanError for a request that cannot be asked, and when no image got a plan.
    """
    _check(model, request, images, more_images)
    results, errors = [], []
    for number in range(len(images)):
        which = f"image {number + 1} of {len(images)}: " if len(images) > 1 else ""
        beside = _beside(more_images, number, len(images))
        conversation = Conversation(model, images[number : number + 1], beside, request, which, on_question)
        try:
            results.append(conversation.planned())
        except PlanError as error:
            results.append(conversation.failed(error))
            errors.append(f"{which}{error}")
    if len(errors) == len(images):
        first = errors[0] if len(images) == 1 else f"no image got a plan; {errors[0]}"
        raise PlanError(". ".join([first, *map(str, request.notices)]))
    return results


def _check(model: PlannerModel, request: PlanRequest, images: torch.Tensor, more: torch.Tensor | None) -> None:
    if not 1 <= request.votes <= MOST_VOTES:
        raise PlanError(f"votes is a number from 1 to {MOST_VOTES}, found {request.votes}")
    if request.coordinates not in COORDINATES:
        raise PlanError(f"coordinates is one of {', '.join(COORDINATES)}, found {request.coordinates!r}")
    planner_messages(request.template, request.instruction, "", request.layout)
    if more is None:
        return
    if not model.spec.several_images:
        raise PlanError(
            f"{model.label} takes one image a conversation, and more_images holds {len(more)}; disconnect it, or "
            "choose a model that takes several, such as Qwen2.5-VL or Qwen3-VL"
        )
    if len(images) > 1 and len(more) not in (1, len(images)):
        raise PlanError(
            f"there are {len(images)} images to plan and {len(more)} in more_images; connect one for all of them, one "
            "for each, or plan the images one by one"
        )


def _beside(more: torch.Tensor | None, number: int, count: int) -> list[torch.Tensor]:
    """The further images that are shown with image `number` of `count`, each (1, H, W, C)."""
    if more is None:
        return []
    if count > 1 and len(more) == count:
        more = more[number : number + 1]
    return list(more.split(1))
