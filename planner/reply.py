"""A model's reply taken apart: its global prompt, its reasoning, the items of its region list, and what else it says.

Reading is one pipeline: which kind of text is it -> find its parts (`blocks`) -> repair its JSON (`loose_json`) -> items
(`items`); `build.read_plan` then brings the items to pixels. It is tolerant, because a model wrote the text: what can be
used is used, and everything that was repaired or dropped is told in `Reply.warnings`. docs/replies.md lists what is
understood.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .blocks import Blocks, find_blocks, unfenced
from .item_boxes import BOX_2D, has_box, numbers_in, plain_key
from .items import Item, items_of, list_in, without_repeats
from .loose_json import CUT_OFF, find_values, read_values
from .plan import LARGEST_SIDE, PlanError, shown
from .regions import whole_characters
from .reply_texts import clean_prompt, clean_text, says_nothing
from .tags import begins_with_odd_tag, looks_tagged, with_plain_tags

_OBJECT = re.compile(r'\{\s*["}]')
_PLAN_KEYS = ("image_size", "version")
_PROMPT_KEYS = ("global_prompt", "gen_image", "global_edit", "global")
_REASON_KEYS = ("reasoning", "think", "thinking")
# What else a reply may say and a plan keeps under that name.
SAID = ("answer", "family", "outcome", "scene")

_HEADING = re.compile(
    r"^[ \t*#_>-]{0,8}(?:gen[_ ]image|global(?:[_ ](?:edit|prompt))?)[ \t*_]{0,4}[:\uff1a][ \t*_]{0,4}(\S[^\n]{0,2000})$",
    re.IGNORECASE | re.MULTILINE,
)
_XML = re.compile(r"<\s{0,4}(\w{1,20})\s{0,4}>([^<]{0,2000})<\s{0,4}/\s{0,4}\1\s{0,4}>")
# A thing and its boxes, as models with marks of their own for it write them: Qwen2-VL, InternVL, DeepSeek-VL2.
_MARKS = re.compile(
    r"<\|?(?:object_ref_start|ref)\|?>(?P<name>[^<]{1,400})<\|?/?(?:object_ref_end|ref)\|?>\s{0,8}"
    r"(?P<boxes>(?:<\|?(?:box_start|box|det)\|?>[^<]{1,4000}<\|?/?(?:box_end|box|det)\|?>\s{0,8}){1,64})"
)


class Reply(NamedTuple):
    """A text taken apart: nothing is in pixels yet.

    image_size: what the text says itself, if it does. thousandths: its boxes are spelled as models do that count in
    0..1000. said: what else it says, by the names of SAID.
    """

    global_prompt: str
    reasoning: str
    items: tuple[Item, ...]
    image_size: tuple[int, int] | None
    warnings: tuple[str, ...]
    thousandths: bool
    said: Mapping[str, str]


def read_reply(text: str) -> Reply:
    """Take apart a text that is no plan's JSON. Raises PlanError if there is neither a global prompt nor a region in it."""
    text = with_plain_tags(text) if begins_with_odd_tag(text) else text
    body = json_body(text)
    reply = None if body is None else read_list(body if looks_tagged(text) else text)
    if reply is None:
        text = with_plain_tags(text)
        reply = read_tags(text) if looks_tagged(text) else read_marks(text) or read_list(text)
    if reply is None:
        raise PlanError(
            "the text is neither a plan's JSON, nor RePlan's tags (<gen_image>, <region>), nor a list of regions "
            f'[{{"bbox_2d": [x1, y1, x2, y2], "hint": "..."}}]; it begins with {shown(text.strip()[:60])}. '
            "For boxes without hints use RePlan Plan from Boxes"
        )
    return reply


# ---- tags ---------------------------------------------------------------------------------------------------


def read_tags(text: str) -> Reply:
    """Take a tagged text apart. Raises PlanError if it has neither a global nor a region block."""
    warnings: list[str] = []
    blocks = find_blocks(text, warnings)
    values, repairs = _region_values(blocks, warnings)
    if values is None and "gen_image" not in blocks.texts:
        inner = next(
            (blocks.texts[name] for name in ("answer", "think") if looks_tagged(blocks.texts.get(name, ""))),
            None,
        )
        if inner is not None:
            reply = read_tags(inner)
            reasoning = reply.reasoning or (
                "" if inner == blocks.texts.get("think") else blocks.texts.get("think", "")
            )
            return reply._replace(reasoning=reasoning, warnings=(*warnings, *reply.warnings))
        listed = find_values(blocks.texts.get("answer", ""))
        if not _usable(listed.values):
            raise PlanError(
                "the text has tags, but neither <gen_image> nor <region>, so there is no plan in it; the reply may have "
                f"been cut off before its end. It ends with {shown(text[-60:])}"
            )
        values, repairs = listed.values, listed.repairs
    if repairs:
        warnings.append(f"the region list is not proper JSON and was repaired: {', '.join(repairs)}")
    if values is None:
        warnings.append("the text has no <region> block: the plan has no regions")
    size = read_values(blocks.texts.get("image_size", "")).values
    image_size = _image_size(size[0]) if size else None
    own = image_size is not None
    items = items_of(values or (), warnings)
    texts = {
        name: whole_characters(clean_text(blocks.texts.get(name, ""), own), f"<{name}>", warnings)
        for name in ("think", *SAID)
    }
    return Reply(
        clean_prompt(blocks.texts.get("gen_image", ""), own, warnings),
        texts.pop("think"),
        items if own else without_repeats(items, warnings),
        image_size,
        tuple(warnings),
        _counts_thousandths(items),
        {name: said for name, said in texts.items() if said},
    )


def _region_values(blocks: Blocks, warnings: list[str]) -> tuple[list[Any] | None, tuple[str, ...]]:
    """The values of the region list and what was repaired in them; None if the text has no list at all."""
    read = [_block_values(block) for block in blocks.regions[:64]]
    good = [values for values, _ in read if _usable(values)]
    if len(good) > 1 and all(
        len(values) == 1 and isinstance(values[0], dict) and list_in(values[0]) is None for values in good
    ):
        return [value for values in good for value in values], tuple(
            dict.fromkeys(one for _, repairs in read for one in repairs)
        )
    chosen = next((number for number, (values, _) in enumerate(read) if _usable(values)), None)
    if chosen is not None:
        if len(blocks.regions) > 1:
            which = "first" if chosen == 0 else "first that can be read"
            warnings.append(f"the text has {len(blocks.regions)} <region> blocks; the {which} was used")
        return read[chosen]
    # The list may stand beside its tags.
    beside = find_values(blocks.outside)
    if any(isinstance(value, (dict, list)) for value in beside.values) and _usable(beside.values):
        return beside.values, beside.repairs
    if not read:
        return None, ()
    unread = blocks.regions[0]
    if read[0][0]:
        return read[0]
    if not says_nothing(unread[:200]):
        warnings.append(f"the region list cannot be read and the plan has no regions: {shown(unread)}")
    return [], read[0][1]


def _block_values(block: str) -> tuple[list[Any], tuple[str, ...]]:
    """The values in a region block: JSON, else XML, else the marks that some models have for boxes."""
    block = _unquoted(block)
    loose = find_values(block)
    if any(isinstance(value, dict) for value in loose.values) or _usable(loose.values):
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
    return loose.values, loose.repairs


def _unquoted(block: str) -> str:
    """A block whose every quote is escaped, once for JSON or for HTML, without that escaping."""
    if '"' not in block and "&quot;" in block:
        return html.unescape(block)
    if '\\"' in block and not re.search(r'(?<!\\)"(?=\s{0,8}[A-Za-z_\]}])', block):
        try:
            return json.JSONDecoder(strict=False).decode(f'"{block.strip(chr(34))}"')
        except ValueError:
            return block
    return block


# ---- lists and objects --------------------------------------------------------------------------------------


def read_list(text: str) -> Reply | None:
    """Take apart a text that is a region list, one region, or an object with a plan's parts, with words around it.

    None if there is nothing like it in the text.
    """
    warnings: list[str] = []
    loose = find_values(_unquoted(text))
    whole = _plan_object(loose.values)
    if not _usable(loose.values) and not _said(whole, _PROMPT_KEYS[:3]):
        return None
    if loose.repairs:
        warnings.append(f"the region list is not proper JSON and was repaired: {', '.join(loose.repairs)}")
    heading = _HEADING.search(text) if not whole else None
    prompt = _said(whole, _PROMPT_KEYS) or (heading[1].strip("*_ ") if heading else "")
    size = _image_size(whole.get("image_size"))
    items = items_of(loose.values, warnings) if _usable(loose.values) else ()
    # A plan whose JSON had slips still says which image its boxes are pixels of.
    return Reply(
        clean_prompt(prompt, size is not None, warnings, "the text"),
        whole_characters(_said(whole, _REASON_KEYS), "the reasoning", warnings),
        items if size else without_repeats(items, warnings),
        size,
        tuple(warnings),
        _counts_thousandths(items),
        {name: said for name in SAID if (said := _said(whole, (name,)))},
    )


def _plan_object(values: Sequence[Any]) -> Mapping[str, Any]:
    """The object that holds a plan's parts, perhaps in a list or under a key of its own; else an empty one."""
    for value in values[:8]:
        for _ in range(4):
            if isinstance(value, list) and len(value) == 1:
                value = value[0]
            if not isinstance(value, dict) or has_box(value):
                break
            if _said(value, _PROMPT_KEYS) or isinstance(list_in(value), list):
                return value
            inner = [entry for entry in value.values() if isinstance(entry, (dict, list))]
            if len(inner) != 1:
                break
            value = inner[0]
    return {}


def _said(value: Mapping[str, Any], names: Sequence[str]) -> str:
    keys = {plain_key(key): entry for key, entry in value.items()}
    return next(
        (keys[name].strip() for name in names if isinstance(keys.get(name), str) and keys[name].strip()), ""
    )


def _usable(values: Sequence[Any], depth: int = 0) -> bool:
    """Whether values look like a region list: an object or a text in it, or nothing at all between its brackets."""
    if depth > 5:
        return False
    for value in values[:64]:
        if isinstance(value, dict):
            listed = list_in(value)
            if has_box(value) or isinstance(listed, (dict, list)):
                return True
            inner = list(value.values())
            if (
                inner
                and all(isinstance(entry, (dict, list)) for entry in inner)
                and _usable(inner, depth + 1)
            ):
                return True
            if depth and any(plain_key(key) == "hint" for key in value):
                return True
            if any(
                isinstance(entry, list)
                and len(entry) == 4
                and all(isinstance(n, (int, float)) for n in entry)
                for entry in inner
            ):
                return True
        elif isinstance(value, list):
            if not value and depth == 0:
                return True
            if any(isinstance(entry, str) for entry in value) and any(
                isinstance(entry, (int, float, list)) for entry in value
            ):
                return True
            if _usable(value, depth + 1):
                return True
        elif isinstance(value, str) and "{" in value and has_box_text(value):
            return True
    return False


def has_box_text(text: str) -> bool:
    """Whether a text holds JSON with a box in it."""
    return any(isinstance(value, dict) and has_box(value) for value in find_values(text).values)


def json_body(text: str) -> str | None:
    """The JSON that is the whole of `text`, perhaps in a code fence; None for another text.

    Words that look like tags may stand inside its texts (a sign that says <region>), not outside. JSON with
    slips counts as well if it can be read up to its end, and what begins as a plan's JSON in any case: its own
    reader says where it breaks off.
    """
    body = unfenced(text)
    if not body.startswith(("[", "{")):
        return None
    if not looks_tagged(text):
        return body
    before, _, after = text.partition(body)
    if looks_tagged(before) or looks_tagged(after):
        return None
    if begins_a_plan(body):
        return body
    loose = read_values(body)
    return None if CUT_OFF in loose.repairs or body[loose.end :].strip() else body


def begins_a_plan(body: str) -> bool:
    """Whether it is an object with a key that only a plan's JSON has; if it is not proper JSON, by its looks."""
    if not _OBJECT.match(body):
        return False
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return any(f'"{key}"' in body for key in _PLAN_KEYS)
    return any(key in value for key in _PLAN_KEYS)


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
    warnings: list[str] = []
    items = without_repeats(items_of(values, warnings), warnings)
    return Reply(clean_prompt("", False, warnings, "the text"), "", items, None, tuple(warnings), True, {})


def _counts_thousandths(items: Sequence[Item]) -> bool:
    return bool(items) and all(item.spelled.order == BOX_2D for item in items)


def _image_size(value: Any) -> tuple[int, int] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    sides = [
        side
        for side in value
        if isinstance(side, (int, float)) and not isinstance(side, bool) and 1 <= side <= LARGEST_SIDE
    ]
    return (int(sides[0]), int(sides[1])) if len(sides) == 2 else None
