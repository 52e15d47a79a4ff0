"""A model's reply taken apart: its global prompt, its reasoning, the items of its region list, and what else it says.

Reading is one pipeline: which kind of text is it -> find its parts (`blocks`) -> repair its JSON (`loose_json`) -> is it
a list of regions (`reply_lists`) -> items (`items`); `build.read_plan` then brings the items to pixels. It is tolerant,
because a model wrote the text: what can be used is used, and everything that was repaired or dropped is told in
`Reply.warnings`. docs/replies.md lists what is understood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..plan import Notice, shown
from ..plans.report import SAID
from ..plans.tags import begins_with_odd_tag, looks_tagged, with_plain_tags
from .blocks import Blocks, find_blocks
from .item_boxes import BOX_2D, has_box, numbers_in
from .items import Item, items_of, list_in, without_repeats
from .loose_json import CUT_OFF, find_values, read_values
from .notices import Notices, ReplyError
from .regions import whole_characters
from .reply_lists import (
    PROMPT_KEYS,
    REASON_KEYS,
    image_size_of,
    json_body,
    lines_with_boxes,
    plan_object,
    said,
    unquoted,
    usable,
    wrapped_text,
)
from .reply_texts import clean_prompt, clean_text, says_nothing

# The global prompt behind its heading, or on the line below.
_HEADING = re.compile(
    r"^[ \t*#_>-]{0,8}(?:gen[_ ]image|global(?:[_ ](?:edit|prompt))?)[ \t*_]{0,4}"
    r"(?:[:\uff1a][ \t*_]{0,4}|[:\uff1a]?[ \t*_]{0,4}\n\s{0,4}(?![#*\[{<`]|regions?\b))([^\s*][^\n]{0,2000})$",
    re.IGNORECASE | re.MULTILINE,
)
_XML = re.compile(r"<\s{0,4}(\w{1,20})\s{0,4}>([^<]{0,2000})<\s{0,4}/\s{0,4}\1\s{0,4}>")
# A thing and its boxes, as models with marks of their own for it write them: Qwen2-VL, InternVL, DeepSeek-VL2.
_MARKS = re.compile(
    r"<\|?(?:object_ref_start|ref)\|?>(?P<name>[^<]{1,400})<\|?/?(?:object_ref_end|ref)\|?>\s{0,8}"
    r"(?P<boxes>(?:<\|?(?:box_start|box|det)\|?>[^<]{1,4000}<\|?/?(?:box_end|box|det)\|?>\s{0,8}){1,64})"
)


# A program's answer that holds a reply may stand in another's.
_MOST_WRAPPED = 3


class Reply(NamedTuple):
    """A text taken apart: nothing is in pixels yet.

    image_size: what the text says itself, if it does. thousandths: its boxes are spelled as models do that count in
    0..1000. said: what else it says, by the names of SAID.
    """

    global_prompt: str
    reasoning: str
    items: tuple[Item, ...]
    image_size: tuple[int, int] | None
    warnings: tuple[Notice, ...]
    thousandths: bool
    said: Mapping[str, str]


def read_reply(text: str) -> Reply:
    """Take apart a text that is no plan's JSON. Raises PlanError if there is neither a global prompt nor a region in it."""
    text = with_plain_tags(text) if begins_with_odd_tag(text) else text
    body = json_body(text)
    for _ in range(_MOST_WRAPPED):
        inner = "" if body is None or not looks_tagged(body) else wrapped_text(read_values(body).values)
        if not inner:
            break
        text, body = inner, json_body(inner)
    reply = None if body is None else read_list(body if looks_tagged(text) else text)
    if reply is None:
        text = with_plain_tags(text)
        reply = read_tags(text) if looks_tagged(text) else read_marks(text) or read_list(text)
    if reply is None:
        raise ReplyError(
            "the text is neither a plan's JSON, nor RePlan's tags (<gen_image>, <region>), nor a list of regions "
            f'[{{"bbox_2d": [x1, y1, x2, y2], "hint": "..."}}]; it begins with {shown(text.strip()[:60])}. '
            "For boxes without hints use RePlan Plan from Boxes"
        )
    return reply


# ---- tags ---------------------------------------------------------------------------------------------------


def read_tags(text: str) -> Reply:
    """Take a tagged text apart. Raises PlanError if it has neither a global nor a region block."""
    warnings = Notices()
    blocks = find_blocks(text, warnings)
    values, repairs = _region_values(blocks, warnings)
    if values is None and "gen_image" not in blocks.texts:
        inner = next(
            (blocks.texts[name] for name in ("answer", "think") if looks_tagged(blocks.texts.get(name, ""))),
            None,
        )
        if inner is not None:
            reply = read_tags(inner)
            reasoning = reply.reasoning or ("" if inner == blocks.texts.get("think") else blocks.texts.get("think", ""))
            return reply._replace(reasoning=reasoning, warnings=(*warnings, *reply.warnings))
        listed = find_values(blocks.texts.get("answer", ""))
        if not usable(listed.values):
            raise ReplyError(
                "the text has tags, but neither <gen_image> nor <region>, so there is no plan in it; the reply may have "
                f"been cut off before its end. It ends with {shown(text[-60:])}",
                "cut_off" if any(notice.code == "not_closed" for notice in warnings) else "no_plan",
                warnings,
            )
        values, repairs = listed.values, listed.repairs
    if repairs:
        _tell_repairs(repairs, warnings)
    if values is None:
        warnings.add("no_region_list", "the text has no <region> block: the plan has no regions")
    size = read_values(blocks.texts.get("image_size", "")).values
    image_size = image_size_of(size[0]) if size else None
    own = image_size is not None
    items = items_of(values or (), warnings)
    texts = {
        name: whole_characters(clean_text(blocks.texts.get(name, ""), own), f"<{name}>", warnings)
        for name in ("think", *SAID)
    }
    return Reply(
        clean_prompt(blocks.texts.get("gen_image") or said(plan_object(values or ()), PROMPT_KEYS), own, warnings),
        texts.pop("think"),
        items if own else without_repeats(items, warnings),
        image_size,
        tuple(warnings),
        _counts_thousandths(items),
        {name: text for name, text in texts.items() if text},
    )


def _region_values(blocks: Blocks, warnings: Notices) -> tuple[list[Any] | None, tuple[str, ...]]:
    """The values of the region list and what was repaired in them; None if the text has no list at all."""
    read = [_block_values(block) for block in blocks.regions[:64]]
    fitting = [usable(values) for values, _ in read]
    good = [values for (values, _), fits in zip(read, fitting, strict=True) if fits]
    if len(good) > 1 and all(
        len(values) == 1 and isinstance(values[0], dict) and list_in(values[0]) is None for values in good
    ):
        return [value for values in good for value in values], tuple(
            dict.fromkeys(one for _, repairs in read for one in repairs)
        )
    chosen = next((number for number, fits in enumerate(fitting) if fits), None)
    if chosen is not None:
        if len(blocks.regions) > 1:
            which = "first" if chosen == 0 else "first that can be read"
            warnings.add("several_blocks", f"the text has {len(blocks.regions)} <region> blocks; the {which} was used")
        return read[chosen]
    # The list may stand beside its tags.
    beside = find_values(blocks.outside)
    if any(isinstance(value, (dict, list)) for value in beside.values) and usable(beside.values):
        return beside.values, beside.repairs
    if not read:
        return None, ()
    unread = blocks.regions[0]
    if read[0][0]:
        return read[0]
    if not says_nothing(unread[:200]):
        warnings.add("unreadable", f"the region list cannot be read and the plan has no regions: {shown(unread)}")
    return [], read[0][1]


def _block_values(block: str) -> tuple[list[Any], tuple[str, ...]]:
    """The values in a region block: JSON, else XML, else lines of a box and its hint."""
    block = unquoted(block)
    loose = find_values(block)
    if any(isinstance(value, dict) for value in loose.values) or usable(loose.values):
        return loose.values, loose.repairs
    fields: list[dict[str, str]] = []
    for match in _XML.finditer(block):
        name = match[1].lower()
        if not fields or name in fields[-1]:
            fields.append({})
        fields[-1][name] = match[2].strip()
    items = [item for item in fields if has_box(item)]
    if items:
        return items, ("XML in the place of JSON",)
    items = lines_with_boxes(block)
    if items:
        return items, ("lines in the place of JSON",)
    return loose.values, loose.repairs


# ---- lists and objects --------------------------------------------------------------------------------------


def read_list(text: str) -> Reply | None:
    """Take apart a text that is a region list, one region, or an object with a plan's parts, with words around it.

    None if there is nothing like it in the text.
    """
    warnings = Notices()
    loose = find_values(unquoted(text))
    whole = plan_object(loose.values)
    if not usable(loose.values) and not said(whole, PROMPT_KEYS[:-1]):
        return None
    if loose.repairs:
        _tell_repairs(loose.repairs, warnings)
    heading = _HEADING.search(text) if not whole else None
    prompt = said(whole, PROMPT_KEYS) or (heading[1].strip("*_ ") if heading else "")
    size = image_size_of(whole.get("image_size"))
    items = items_of(loose.values, warnings) if usable(loose.values) else ()
    unread = list_in(whole)
    if isinstance(unread, str) and not items and unread.strip() and not says_nothing(unread[:200]):
        warnings.add("unreadable", f"the region list cannot be read and the plan has no regions: {shown(unread)}")
    # A plan whose JSON had slips still says which image its boxes are pixels of.
    return Reply(
        clean_prompt(prompt, size is not None, warnings, "the text"),
        whole_characters(said(whole, REASON_KEYS), "the reasoning", warnings),
        items if size else without_repeats(items, warnings),
        size,
        tuple(warnings),
        _counts_thousandths(items),
        {name: found for name in SAID if (found := said(whole, (name, "family") if name == "kind" else (name,)))},
    )


# ---- marks --------------------------------------------------------------------------------------------------


def read_marks(text: str) -> Reply | None:
    """Take apart a text whose things and boxes stand in a model's own marks; None if it has none."""
    values = []
    for match in _MARKS.finditer(text):
        numbers = numbers_in(match["boxes"])
        boxes = [list(numbers[at : at + 4]) for at in range(0, len(numbers) - 3, 4)]
        if boxes and len(numbers) % 4 == 0:
            values.append({"label": match["name"].strip(), "bbox_2d": boxes})
    if not values:
        return None
    warnings = Notices()
    items = without_repeats(items_of(values, warnings), warnings)
    return Reply(clean_prompt("", False, warnings, "the text"), "", items, None, tuple(warnings), True, {})


def _counts_thousandths(items: Sequence[Item]) -> bool:
    return bool(items) and all(item.spelled.order == BOX_2D for item in items)


def _tell_repairs(repairs: Sequence[str], warnings: Notices) -> None:
    if CUT_OFF in repairs:
        warnings.add("cut_off", "the region list is cut off before its end; its whole items were kept")
    slips = [repair for repair in repairs if repair != CUT_OFF]
    if slips:
        warnings.add("repaired", f"the region list is not proper JSON and was repaired: {', '.join(slips)}")
