"""What the model is told when it is asked again. Every such sentence stands here.

A notice of the linter or of the reader whose code has a sentence in SENTENCES is worth a second question; no other is.
To change what the model is told, change its sentence, which several codes may share; to ask about one more kind of
notice, add its code. What people are told of the same faults stands where each is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..models.interface import Message
from ..plan import Notice, Region, RegionPlan
from ..plans.lint import MOST_REGIONS

_NO_PLAN = "Your reply holds no plan. Write it in the tags that were asked for."
_COPIED = "Some of it was copied from the instructions. Look at this image and write your own."
_NUMBERS = "Some boxes are not four numbers. Write each as [x1, y1, x2, y2]."
_NO_HINT = "Some regions have no hint. Give each one that says what is seen in its box afterwards."
_NO_REGIONS = "The list of regions is not JSON. Write a JSON list of objects."

# By the code of a notice. {regions} stands for the regions that it is about, named by their hints: the model knows no
# ids.
SENTENCES = {
    # The reply as a whole (replies.notices).
    "no_plan": _NO_PLAN,
    "empty": _NO_PLAN,
    "all_dropped": "Nothing of your reply can be used.",
    "cut_off": "Your reply broke off before its end. Write it shorter: less reasoning, and no more regions than "
    "needed.",
    "unreadable": _NO_REGIONS,
    # Items of its list (replies.notices).
    "dropped_no_item": _NO_REGIONS,
    "dropped_bad_box": _NUMBERS,
    "dropped_mark": _NUMBERS,
    "dropped_no_box": "Some regions have no box. Give each its bbox_2d.",
    "only_point": "Some regions have only a point. Give each its bbox_2d.",
    "dropped_no_area": "Some boxes have no area. Measure them again.",
    "dropped_outside": "Some boxes lie outside the image. Measure them again, in the numbers that were asked for.",
    "dropped_no_hint": _NO_HINT,
    "labels_as_hints": _NO_HINT,
    "dropped_echo": _COPIED,
    # The plan (plans.lint; some codes are the reader's too).
    "template_echo": _COPIED,
    "changes_nothing": "The plan changes nothing. Write a region for each place that the instruction changes, or an "
    "edit of the whole image.",
    "only_keeps": "Every hint only keeps something unchanged. Add a region for each change that the instruction asks "
    "for.",
    "too_many": f"There are too many regions. Use {MOST_REGIONS} at most: join those that belong to one change.",
    "no_hint": _NO_HINT,
    "hint_in_global": "{regions}: the text for the whole image repeats this hint. Take it out there.",
    "same_box": "{regions} have the same box. Write a change once, and give each change a box of its own.",
    "add_on_existing": "{regions} adds something, but its box lies on something that is there already. Box the free "
    "place where it will be.",
}
_OPENING = "Your plan cannot be used as it is:"
_CLOSING = (
    "Look at the image again and write the whole plan once more, with these points put right and everything else kept. "
    "Use the same tags in the same order, and write nothing outside them."
)
_MOST_NAMED, _LONGEST_HINT = 6, 120


def points(notices: Iterable[Notice], plan: RegionPlan | None = None) -> tuple[str, ...]:
    """What to tell the model about its reply, each point once; empty if nothing is worth asking again for.

    plan: the one that the notices are about; a point names its regions by their hints.
    """
    regions = {region.id: region for region in plan.regions} if plan else {}
    told = (
        SENTENCES[notice.code].replace("{regions}", _named([regions[one] for one in notice.regions if one in regions]))
        for notice in notices
        if notice.code in SENTENCES
    )
    return tuple(dict.fromkeys(told))


def ask_again(asked: Sequence[Message], reply: str, told: Sequence[str]) -> tuple[Message, ...]:
    """The conversation `asked`, the model's `reply`, and a turn that asks once more, with the points `told`."""
    listed = "\n".join(f"- {point}" for point in told)
    return (
        *asked,
        Message("assistant", (reply,)),
        Message("user", (f"{_OPENING}\n{listed}\n\n{_CLOSING}",)),
    )


def _named(regions: Sequence[Region]) -> str:
    hints = list(dict.fromkeys(f'"{region.hint.strip()[:_LONGEST_HINT]}"' for region in regions))[:_MOST_NAMED]
    return f"The region{'s' * (len(regions) > 1)} {' and '.join(hints)}"
