"""A second look at a region: the cut-out to show, the reply about it, and what that does to the region.

A model that sees a whole image at a limited size misses small things; shown the region alone, with some of its
surroundings, it can say whether that is what was meant and draw a tighter box (after ReasonBrain's fine-grained local
and region cues, which it gets from patches and segments). Asking is whoever has a model; here is only geometry and
reading.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import NamedTuple

from ..geometry import Box, Size, iou, share_inside
from ..plan import Notice, Region, clamped
from ..replies import read_box

_MEANT_KEYS = ("meant", "answer", "match", "matches", "found", "correct", "ismeant", "visible", "result")
# Before either may stand the number of the question.
_YES = re.compile(r"[\W\d]{0,8}(?:(?:yes|true|correct)\b|\u662f)", re.IGNORECASE)
_NO = re.compile(
    r"[\W\d]{0,8}(?:(?:no|not(?! (?:sure|certain|clear)\b)|false|none|incorrect)\b|\u5426|\u4e0d)", re.IGNORECASE
)
# A cut-out is at most so many times as long as wide; models see little in a strip.
_LONGEST = 4.0
# A tighter box has to lie so much inside the first, or overlap it so much; and not be the whole cut-out again.
_INSIDE, _OVERLAP, _WHOLE = 0.5, 0.1, 0.95


class Cut(NamedTuple):
    """A cut-out of an image: whole pixels (left, top, right, bottom), right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> Size:
        """(width, height) in pixels."""
        return self.right - self.left, self.bottom - self.top

    def to_image(self, box: Box) -> Box:
        """A box in pixels of the cut-out as one in pixels of the image."""
        x1, y1, x2, y2 = box
        return x1 + self.left, y1 + self.top, x2 + self.left, y2 + self.top

    def from_image(self, box: Box) -> Box:
        """A box in pixels of the image as one in pixels of the cut-out; it may reach over its border."""
        x1, y1, x2, y2 = box
        return x1 - self.left, y1 - self.top, x2 - self.left, y2 - self.top


class SecondLook(NamedTuple):
    """What the reply says. meant: whether it is the thing, None if it does not say; box: tighter, in image pixels."""

    meant: bool | None
    box: Box | None


def cut_around(box: Box, image_size: Size, margin: float = 0.5, least: int = 112) -> Cut:
    """The cut-out around a box: all of it, and room around it.

    box: in pixels of an image of `image_size` (width, height). margin: room on each side as a share of the box's side
    on that axis. least: the cut-out's least side in pixels (or the image's, if that is smaller). Room that is not
    there on one side is taken on the other, as far as the image goes, and a strip is made wider.
    """
    x1, y1, x2, y2 = clamped(box, image_size)
    width, height = (x2 - x1) * (1 + 2 * margin), (y2 - y1) * (1 + 2 * margin)
    width, height = max(width, least, height / _LONGEST), max(height, least, width / _LONGEST)
    left, right = _stretch((x1 + x2) / 2, width, image_size[0])
    top, bottom = _stretch((y1 + y2) / 2, height, image_size[1])
    return Cut(left, top, right, bottom)


def _stretch(middle: float, length: float, whole: int) -> tuple[int, int]:
    """A span of whole pixels of at least `length` around `middle`, moved so that it lies within 0..whole."""
    length = min(length, float(whole))
    start = min(max(0.0, middle - length / 2), whole - length)
    return max(0, math.floor(start)), min(whole, math.ceil(start + length))


def read_second_look(reply: str, cut: Cut, coordinates: str = "auto", seen_size: Size = (0, 0)) -> SecondLook:
    """What a reply to the template `second_look` says, read as tolerantly as a plan.

    coordinates, seen_size: what the reply's numbers count, of the cut-out; see `replies.pixels.choose_frame`.
    """
    fields, box = read_box(reply, cut.size, coordinates, seen_size)
    if fields is None:
        return SecondLook(_yes_or_no(reply.rpartition("</think>")[2].strip()), box and cut.to_image(box))
    answers = (_yes_or_no(fields.item[fields.keys[key]]) for key in _MEANT_KEYS if key in fields.keys)
    return SecondLook(next((answer for answer in answers if answer is not None), None), box and cut.to_image(box))


def _yes_or_no(said: object) -> bool | None:
    if isinstance(said, bool):
        return said
    if not isinstance(said, str) or re.match(r"\W{0,8}yes or no\b", said, re.IGNORECASE):
        return None
    return True if _YES.match(said) else False if _NO.match(said) else None


def apply_second_look(region: Region, look: SecondLook, cut: Cut) -> tuple[Region, Notice | None]:
    """The region after a second look, and what there is to tell.

    yes and a fitting box: the region with that box. yes without one, no, or no clear answer: as it was, and told. A
    box that hardly meets the first, or is the whole cut-out again, is not taken.
    """

    def told(code: str, text: str, remedy: str = "its box stays as it was") -> Notice:
        return Notice(code, f"region '{region.id}': {text}", remedy, (region.id,))

    if look.meant is False:
        what = "a second look does not find what its hint is meant for"
        return region, told("second_look_no", what, "look at it, and move or delete it")
    if look.box is None:
        return region, None if look.meant else told("second_look_unclear", "the second look gave no clear answer")
    inside = share_inside(look.box, region.box)
    if inside < _INSIDE and iou(look.box, region.box) < _OVERLAP:
        return region, told("second_look_elsewhere", "the second look drew a box somewhere else")
    whole = (0.0, 0.0, float(cut.size[0]), float(cut.size[1]))
    if iou(cut.from_image(look.box), whole) >= _WHOLE:
        return region, told("second_look_whole", "the second look drew the whole cut-out")
    if iou(look.box, region.box) > 0.999:
        return region, None
    was, now = ([round(value) for value in box] for box in (region.box, look.box))
    moved = told("second_look_moved", f"a second look moved its box from {was} to {now}", "")
    return replace(region, box=look.box), moved
