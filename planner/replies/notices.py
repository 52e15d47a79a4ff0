"""What reading a reply tells: every code, and the list that notices are gathered in.

Code that acts on what was told (`asking.follow_up`) branches on these codes, never on the sentences.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..plan import Notice, PlanError

# What the numbers of a box may be said to count (see docs/coordinates.md). It stands here because this file is light.
COORDINATES = ("auto", "pixels", "seen_pixels", "relative_1000", "relative_1", "relative_1000_y_first", "relative_100")

CODES = {
    # The text.
    "cut_off": "the reply ends in the middle; what was whole was kept",
    "not_closed": "a tag is never closed",
    "repaired": "the JSON had slips, which were repaired",
    "several_blocks": "a tag comes more than once with different contents; the notice says which counts",
    "corrected": "the reply holds several whole answers; the last counts",
    "repeats": "the same item over and over; each was taken once",
    "unreadable": "something stands in the place of the region list that is none",
    "no_region_list": "there is no region list at all",
    "no_global_prompt": "there is no global prompt; the placeholder stands for it",
    "half_character": "half of a character was replaced",
    # Copied from the planner's own instructions: the global prompt, an item (dropped), a box (only doubted).
    "template_echo": "the global prompt or a box is copied from the template",
    "dropped_echo": "an item is copied from the template",
    # One item that gives no region.
    "dropped_no_item": "a value in the list is no object with a box and a hint",
    "dropped_no_box": "an item has no box",
    "dropped_bad_box": "an item's box is not four finite numbers",
    "dropped_no_hint": "an item has no hint, or only a label where others have hints",
    "dropped_no_area": "an item's box has no area",
    "dropped_outside": "an item's box lies outside the image",
    "dropped_mark": "a mark of a model's own holds no whole box",
    "dropped_too_many": "more items than are read",
    # One item that gives a region, but not as written.
    "labels_as_hints": "no item has a hint, so labels stand for hints",
    "other_words": "an item's hint or box was taken from a key that is not known",
    "lengths_differ": "lists of boxes and of hints have different lengths",
    "only_point": "an item has only a point; a box around it was taken",
    "inverted": "a box had its corners exchanged",
    "clamped": "a box reached over the border",
    "id_renamed": "an id cannot name a region",
    "value_left_out": "a start, an end, a mask or another value is wrong and was left out",
    # What the numbers count.
    "guessed_coordinates": "what the numbers count was guessed",
    "box_2d_order": "boxes are called box_2d: which edge comes first was guessed",
    "coordinates_unused": "the text names its own image size, so the chosen coordinates were not used",
    # The plan as a whole.
    "nothing_to_edit": "no region and a global prompt that keeps the image",
    "plan_in_reasoning": "the plan stands in the reasoning and none after it",
    "answer_only": "the reply answers a question and plans nothing",
    "ambiguous": "the reply says that the instruction can mean several things",
}  # fmt: skip

# Why there is no plan (`ReplyError.code`).
ERROR_CODES = {
    "empty": "the text is empty",
    "no_plan": "there is no plan in the text",
    "cut_off": "the text broke off before its plan",
    "all_dropped": "every item of the list was dropped; `notices` says why each was",
}


class ReplyError(PlanError):
    """A text without a plan. code: one of ERROR_CODES; notices: what reading told before it gave up."""

    def __init__(self, text: str, code: str = "no_plan", notices: Sequence[Notice] = ()) -> None:
        super().__init__(text)
        self.code = code
        self.notices = tuple(notices)


class Notices(list[Notice]):
    """Notices in the order of reading."""

    def add(self, code: str, text: str, remedy: str = "") -> None:
        assert code in CODES, code
        self.append(Notice(code, text, remedy))
