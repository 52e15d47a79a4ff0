"""Which task a reply is scored for: `compute_score_unified`, by `task_name`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .detection import detection_reward
from .editing import edit_reward, generation_reward
from .planning import SHARP, Judged, planning_reward
from .value import Reward

# Each task: how its form is scored, and whether its plans are rendered and judged.
TASKS: dict[str, tuple[str, bool]] = {
    "text_refinement": ("generation", False),
    "text_refinement_edit": ("edit", False),
    "text_refinement_edit_nothink": ("edit_nothink", False),
    "detection": ("detection", False),
    "edit_region_planning": ("edit", True),
    "edit_region_planning_nothink": ("edit_nothink", True),
}

Judge = Callable[[Sequence[Mapping[str, Any]]], Sequence[Judged | None]]


class UnknownTask(ValueError):
    """A task_name that no reward is known for."""


def compute_score_unified(
    reward_inputs: Sequence[Mapping[str, Any]],
    judge: Judge | None = None,
    *,
    published: bool = False,
    sharp: float = SHARP,
    think_length: int = 50,
) -> list[Reward]:
    """The reward of each input, in order.

    reward_inputs: `task_name` (one of TASKS), `response`, for detection `ground_truth`; `extra_info` may hold
        `image_size`, the (width, height) that boxes count in. Other keys are the judge's.
    judge: is called once with the inputs whose plans are to be rendered, and gives what was judged of each, None where
        rendering failed.

    Raises UnknownTask, and ValueError for a plan to render without a judge.
    """
    rewards = [_form(one, published, think_length) for one in reward_inputs]
    staged = [TASKS[one["task_name"]][1] for one in reward_inputs]
    places = [
        place for place, (reward, stage2) in enumerate(zip(rewards, staged, strict=True)) if stage2 and reward.renders
    ]
    if places and judge is None:
        raise ValueError(
            f"task_name {reward_inputs[places[0]]['task_name']!r} needs a judge for {len(places)} of "
            f"{len(reward_inputs)} replies; give compute_score_unified a function that renders and judges them"
        )
    judged = list(judge([reward_inputs[place] for place in places])) if judge and places else []
    if len(judged) != len(places):
        raise ValueError(f"the judge gave {len(judged)} answers for {len(places)} plans; None stands for none")
    by_place = dict(zip(places, judged, strict=True))
    return [
        planning_reward(reward, by_place.get(place), sharp=sharp, published=published) if stage2 else reward
        for place, (reward, stage2) in enumerate(zip(rewards, staged, strict=True))
    ]


def _form(one: Mapping[str, Any], published: bool, think_length: int) -> Reward:
    name = one.get("task_name")
    if name not in TASKS:
        raise UnknownTask(f"task_name {name!r} has no reward; known are {', '.join(TASKS)}")
    kind, reply = TASKS[name][0], one.get("response")
    if kind == "generation":
        return generation_reward(reply, published=published)
    if kind == "detection":
        return detection_reward(reply, one.get("ground_truth", "[]"), published=published)
    return edit_reward(
        reply,
        published=published,
        think=kind == "edit",
        image_size=(one.get("extra_info") or {}).get("image_size"),
        think_length=think_length,
    )
