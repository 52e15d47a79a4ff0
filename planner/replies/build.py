"""A model's text to a plan: the order of the walk.

text -> segments: tags, JSON and words -> items: hints, and boxes in the text's own numbers -> answers: the items and
texts that count, where a reply has several or corrects itself -> pixels: boxes of the image -> plan.
Each file imports only those before it: vocabulary, notices, json_texts, json_repair, segments, boxes, items, grounding,
answers, texts, pixels. `notices.CODES` lists what a reader of the report is told; what the model is told when it is
asked again stands in asking/follow_up.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from ..geometry import Box, Size
from ..plan import KEEP_UNCHANGED, Notice, PlanError, RegionPlan, shown
from ..plans.plan_json import plan_from_json
from ..plans.resize import fit_plan
from .answers import Answer, read_answer
from .boxes import Fields, boxes_of
from .items import Item, find
from .json_texts import CUT_OFF
from .notices import Notices, ReplyError
from .pixels import Frame, choose_frame, on_image, to_regions
from .segments import split
from .texts import clean_prompt, clean_said, clean_text, usable_items, whole_characters
from .vocabulary import BOX_2D

# What makes a plan without regions a loss, where nothing is edited globally.
_LOST = ("dropped_", "cut_off", "unreadable", "template_echo")
_EXAMPLE = '{"bbox_2d": [x1, y1, x2, y2], "hint": "..."}'


def read_plan(
    text: str,
    image_size: Size | None = None,
    coordinates: str = "auto",
    seen_size: Size = (0, 0),
    by_model: bool = False,
) -> tuple[RegionPlan, str]:
    """The plan in `text`, and in words which coordinates its boxes were read in ("" for a plan without regions).

    text: the plan's JSON (its slips are repaired, its values checked strictly), RePlan's tag text, a region list, or
        what models make of these; what was repaired or dropped is in the plan's notices.
    image_size: (width, height) of the image to edit. A text that names its own size is mapped to it; None keeps
        that size, or takes `seen_size` with coordinates `pixels`.
    coordinates, seen_size: see `pixels.choose_frame`; without effect on a text that names its own size.
    by_model: nobody can put the text right, so a plan's JSON with a wrong value is read as tolerantly as the rest.

    A reply's texts, and with by_model those of a plan's JSON, are a model's words (`Region.plain_texts`); without
    by_model an item that lists its `plain_texts`, as `write_tags` writes it, says which of them are.

    Raises ReplyError for a text without a plan and one whose every item had to be dropped, PlanError for a wrong value
    in the plan's JSON and an image of another shape.
    """
    text = text.strip().lstrip("\ufeff").strip()
    if not text:
        raise ReplyError(
            "the text is empty; give a plan as JSON, as tags (<gen_image>, <region>), or as a region list", "empty"
        )
    answer = read_answer(text)
    told = Notices(answer.told)
    _tell_repairs(answer.found.repairs, told)
    own = _own_plan(answer, by_model, told)
    if own is not None:
        if by_model:
            own = own.with_regions(region.with_plain_texts() for region in own.regions)
        plan = own if image_size is None else fit_plan(own, image_size)
        clean_said(own.extra, True, told)
        if answer.reasoning and not plan.reasoning:
            plan = replace(plan, reasoning=whole_characters(answer.reasoning, "the reasoning", told))
        width, height = own.image_size
        note = f"Boxes read as pixels of the plan's own image, {width}x{height}" if own.regions else ""
        return _with_unused(plan.with_notices(*told), coordinates), note
    only_answers = not answer.plans and bool(answer.said)
    if not answer.plans and not only_answers:
        _refuse(text, answer, told)
    sized = answer.size is not None
    said = clean_said(answer.said, sized, told)
    items = usable_items(_items(answer, told), sized, told)
    reasoning = whole_characters(clean_text(answer.reasoning, sized), "the reasoning", told)
    prompt = KEEP_UNCHANGED if only_answers else clean_prompt(answer.prompt, sized, told, answer.tagged)
    frame = choose_frame(
        [item.spelled for item in items], answer.size or image_size, "pixels" if sized else coordinates, seen_size
    )
    _tell_doubts(frame, items, coordinates, told)
    regions = to_regions(items, frame, told)
    if by_model:
        regions = tuple(region.with_plain_texts() for region in regions)
    if not regions and prompt == KEEP_UNCHANGED and not answer.found.global_only:
        _tell_nothing(said, told)
    plan = RegionPlan(frame.image_size, prompt, regions, reasoning, tuple(dict.fromkeys(told)), said)
    if sized:
        plan = _with_unused(plan if image_size is None else fit_plan(plan, image_size), coordinates)
    return plan, f"Boxes read as {frame.note}" if regions else ""


def read_box(
    text: str, image_size: Size, coordinates: str = "auto", seen_size: Size = (0, 0)
) -> tuple[Fields | None, Box | None]:
    """The last object of a short reply about one thing, and the first box in the reply, in pixels of the image.

    For replies that hold no plan, as those of a second look. Words and numbers are read as tolerantly as a plan's.
    """
    values = [value for segment in split(text, Notices()) if segment.part != "think" for value in segment.values]
    members = [entry for value in values for entry in (value if isinstance(value, list) else [value])]
    objects = [Fields(value) for value in members if isinstance(value, dict)]
    bare = [Fields({"bbox_2d": value}) for value in values if isinstance(value, list)] if not objects else []
    boxes = [box for fields in (*objects, *bare) for box in boxes_of(fields)[0] if len(box.numbers) == 4]
    if not boxes:
        return objects[-1] if objects else None, None
    frame = choose_frame(boxes[:1], image_size, coordinates, seen_size)
    box = on_image(frame.to_pixels(boxes[0]), image_size)
    return objects[-1] if objects else None, box


# ---- what is told ---------------------------------------------------------------------------------------------------


def _own_plan(answer: Answer, by_model: bool, told: Notices) -> RegionPlan | None:
    """The plan of a plan's own JSON; its PlanError for a wrong value, or None where the rest reads it tolerantly."""
    data = answer.found.plan
    if data is None or answer.tagged:
        return None
    regions = data.get("regions")
    if (
        CUT_OFF in answer.found.repairs
        and isinstance(regions, list)
        and regions
        and not (isinstance(regions[-1], Mapping) and {"bbox_2d", "hint"} <= regions[-1].keys())
    ):
        data = {**data, "regions": regions[:-1]}  # half of it is worse than none
    try:
        return plan_from_json(data)
    except PlanError as error:
        if not by_model and answer.alone:
            raise
        told.add("value_left_out", f"the plan's JSON holds a wrong value, so it was read as a region list: {error}")
        return None


def _tell_repairs(repairs: Sequence[str], told: Notices) -> None:
    if CUT_OFF in repairs:
        told.add("cut_off", "the region list is cut off before its end; its whole items were kept")
    slips = [repair for repair in repairs if repair != CUT_OFF]
    if slips:
        told.add("repaired", f"the region list is not proper JSON and was repaired: {', '.join(slips)}")


def _items(answer: Answer, told: Notices) -> list[Item]:
    """The items of an answer; told is what became of the others, and where there is no list at all."""
    found = answer.found
    candidates = answer.said.get("candidates")
    if not found.items and isinstance(candidates, list):
        found = find(candidates[:1], in_list=True)
    for code, number, words in found.told:
        told.add(code, f"item {number} {words}" if number else words)
    if found.unread and not found.items:
        told.add("unreadable", f"the region list cannot be read and the plan has no regions: {shown(found.unread)}")
    elif answer.plans and not found.is_list and not found.global_only:
        told.add(
            "no_region_list",
            f"the text has no {'<region> block' if answer.tagged else 'region list'}: the plan has no regions",
        )
    return found.items


def _tell_doubts(frame: Frame, items: Sequence[Item], coordinates: str, told: Notices) -> None:
    """What to check about coordinates that nobody chose."""
    if frame.doubt:
        told.add("guessed_coordinates", *frame.doubt)
    if coordinates != "auto" or not any(item.spelled.order == BOX_2D for item in items):
        return
    if frame.box_2d_y_first:
        told.add(
            "box_2d_order",
            "the boxes are called box_2d and were read as Gemini and Gemma write them, [top, left, bottom, right] in "
            "0..1000",
            "if yours are not, choose the coordinates 'relative_1000' (left edge first), 'pixels' or 'seen_pixels', "
            "or ask for boxes called bbox_2d",
        )  # fmt: skip
    else:
        told.add(
            "box_2d_order",
            "some boxes are called box_2d and were read left edge first, because the others or their numbers are no "
            "boxes of Gemini",
            "choose the coordinates 'relative_1000_y_first' if they are",
        )  # fmt: skip


def _tell_nothing(said: Mapping[str, Any], told: Notices) -> None:
    """Tell that nothing is edited; a ReplyError if that is only so because everything was lost."""
    lost = [notice for notice in told if notice.code.startswith(_LOST)]
    if lost:
        raise ReplyError(
            "nothing of the reply can be used, and it has no edit of the whole image: "
            f"{'; '.join(str(notice) for notice in lost[:4])}"
            f"{f'; and {len(lost) - 4} more' if len(lost) > 4 else ''}. Write each region as {_EXAMPLE}, or "
            "<region>[]</region> if none is meant",
            "all_dropped",
            told,
        )
    if said.get("answer"):
        told.add("answer_only", "the reply answers a question and plans no edit; its answer is in the report")
    else:
        told.add(
            "nothing_to_edit", "nothing is left to edit: the plan has no region and its global prompt keeps the image"
        )


def _refuse(text: str, answer: Answer, told: Notices) -> NoReturn:
    if answer.reasoning or any(notice.code == "not_closed" for notice in told):
        raise ReplyError(
            "the text has tags, but neither <gen_image> nor <region>, so there is no plan in it; the reply may have "
            f"been cut off before its end. It ends with {shown(text[-60:])}",
            "cut_off" if any(notice.code == "not_closed" for notice in told) else "no_plan",
            told,
        )
    raise ReplyError(
        "the text is neither a plan's JSON, nor RePlan's tags (<gen_image>, <region>), nor a list of regions "
        f"[{_EXAMPLE}]; it begins with {shown(text[:60])}. For boxes without hints use RePlan Plan from Boxes",
        notices=told,
    )


def _with_unused(plan: RegionPlan, coordinates: str) -> RegionPlan:
    """The plan of a text that names its own size, which no chosen coordinates change."""
    if coordinates in ("auto", "pixels"):
        return plan
    unused = f"coordinates '{coordinates}' was not used: the text names the image size that its boxes are pixels of"
    return plan.with_notices(Notice("coordinates_unused", unused))
