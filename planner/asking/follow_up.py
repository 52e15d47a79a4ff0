"""What a planner is told about its reply when it is asked again: findings of the linter, and what reading lost."""

from __future__ import annotations

from collections.abc import Iterable

from ..plans.lint import Finding

# What a second reply can mend, by a piece of the warning or error that says so.
_SPOILT = (
    ("cut off", "Your reply broke off before its end. Write it shorter: less reasoning, and no more regions than needed."),
    ("is neither a plan", "Your reply holds no plan. Write it in the tags that were asked for."),
    ("no plan in it", "Your reply holds no plan. Write it in the tags that were asked for."),
    ("cannot be read", "The list of regions is not JSON. Write a JSON list of objects."),
    ("four numbers", "Some boxes are not four numbers. Write each as [x1, y1, x2, y2]."),
    ("not a finite number", "Some boxes are not four numbers. Write each as [x1, y1, x2, y2]."),
    ("has no bbox_2d", "Some regions have no box. Give each its bbox_2d."),
    ("only a point", "Some regions have only a point. Give each its bbox_2d."),
    ("has no area", "Some boxes have no area. Measure them again."),
    ("lies outside the image", "Some boxes lie outside the image. Measure them again, in the numbers that were asked for."),
    ("only the label", "Some regions have no hint. Give each one that says what is seen in its box afterwards."),
    ("it has no hint", "Some regions have no hint. Give each one that says what is seen in its box afterwards."),
    ("no item has a hint", "Some regions have no hint. Give each one that says what is seen in its box afterwards."),
    ("planner's instructions", "Some of it was copied from the instructions. Look at this image and write your own."),
)  # fmt: skip


def ask_again(findings: Iterable[Finding], problems: Iterable[str] = ()) -> str:
    """What to tell the model, a line each, or "" if nothing is worth asking again for.

    problems: what reading found: the plan's warnings, or the one error where there is no plan.
    """
    lines = [finding.ask for finding in findings if finding.ask]
    lines += [ask for problem in problems for pattern, ask in _SPOILT if pattern in problem]
    return "\n".join(f"- {line}" for line in dict.fromkeys(lines))
