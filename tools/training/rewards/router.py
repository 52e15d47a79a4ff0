"""Which task a reply is scored for: `compute_score_unified`, by `task_name`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

from .detection import detection_reward
from .editing import edit_reward, generation_reward
from .planning import SHARP, Judged, planning_reward
from .value import Reward, extra_of


class Task(NamedTuple):
    """form: what stage 1 scores a reply as. is_rendered: whether its plans are then rendered and judged (stage 2)."""

    form: str
    is_rendered: bool = False


TASKS: dict[str, Task] = {
    "text_refinement": Task("generation"),
    "text_refinement_edit": Task("edit"),
    "text_refinement_edit_nothink": Task("edit_nothink"),
    "detection": Task("detection"),
    "edit_region_planning": Task("edit", True),
    "edit_region_planning_nothink": Task("edit_nothink", True),
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

    Raises UnknownTask, and ValueError for a plan to render without a judge, for inputs or options of another kind, and
    for a judge that gives no scores.
    """
    _check_options(published, sharp, think_length)
    rewards = [stage1_reward(one, published=published, think_length=think_length) for one in reward_inputs]
    staged = [TASKS[one["task_name"]].is_rendered for one in reward_inputs]
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
    by_place = dict(zip(places, map(_scores, judged), strict=True))
    return [
        planning_reward(reward, by_place.get(place), sharp=sharp, published=published) if stage2 else reward
        for place, (reward, stage2) in enumerate(zip(rewards, staged, strict=True))
    ]


def _check_options(published: Any, sharp: Any, think_length: Any) -> None:
    """Options come from configurations too, where a number is soon a text."""
    if not isinstance(published, bool):
        raise ValueError(f"published is true or false, found {published!r}")
    for name, value, low in (("sharp", sharp, 0), ("think_length", think_length, 1)):
        if not _is_number(value) or value < low:
            raise ValueError(f"{name} is a number from {low}, found {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _scores(judged: Any) -> Judged | None:
    if judged is None:
        return None
    try:
        scores = Judged(*judged)
    except TypeError:
        scores = None
    if scores is None or not all(score is None or _is_number(score) for score in scores):
        raise ValueError(
            "the judge gives Judged(target, effect, consistency) for each plan, numbers or None, or None for no image; "
            f"found {str(judged)[:80]!r}"
        )
    return scores


def stage1_reward(reward_input: Mapping[str, Any], *, published: bool = False, think_length: int = 50) -> Reward:
    """What the form of one reply earns, or a detection reply as a whole; `renders` says whether stage 2 goes on.

    reward_input: as `compute_score_unified` takes it. Raises UnknownTask, and ValueError for what is no input.
    """
    if not isinstance(reward_input, Mapping):
        raise ValueError(f"an input is a mapping with task_name and response, found {str(reward_input)[:80]!r}")
    name = reward_input.get("task_name")
    if not isinstance(name, str) or name not in TASKS:
        raise UnknownTask(f"task_name {name!r} has no reward; known are {', '.join(TASKS)}")
    form, reply = TASKS[name].form, reward_input.get("response")
    if form == "generation":
        return generation_reward(reply, published=published)
    if form == "detection":
        return detection_reward(reply, reward_input.get("ground_truth", "[]"), published=published)
    size = extra_of(reward_input.get("extra_info")).get("image_size")
    return edit_reward(reply, published=published, think=form == "edit", image_size=size, think_length=think_length)
