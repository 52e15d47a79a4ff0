"""What counts as a region list or as a plan among values, whether a whole text is one, and lists written as lines."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..plan import LARGEST_SIDE
from ..plans.tags import looks_tagged
from .blocks import unfenced
from .item_boxes import has_box, plain_key
from .items import list_in
from .loose_json import CUT_OFF, find_values, read_values

_LONGEST_REGION = 3000  # characters
_OBJECT = re.compile(r'\{\s*["}]')
_AROUND_NUMBER = r"\s{0,4}-?\d{1,6}(?:\.\d{1,6})?\s{0,4}"
_LINE_BOX = re.compile(rf"[\[(]({_AROUND_NUMBER}(?:,{_AROUND_NUMBER}){{3}})[\])]")
# What a line says besides a box and its hint: its number and the names of both.
_LINE_LABEL = re.compile(
    r"^\W{0,8}(?:(?:region|item)\b\W{0,4})?\d{1,3}\s{0,4}[.):]|\b(?:bounding[ _]box|bbox(?:_2d)?|box|hint|coordinates)\b\W{0,4}[:=]",
    re.IGNORECASE,
)
_AROUND_HINT = " \t:;,.|*_`'\"=>\u2013\u2014\u201c\u201d-"
_PLAN_KEYS = ("image_size", "version")
# The last alone may mean anything; beside a list it means the global prompt.
PROMPT_KEYS = (
    "global_prompt",
    "gen_image",
    "global_edit",
    "global_instruction",
    "global_hint",
    "overall_edit",
    "global",
)
REASON_KEYS = ("reasoning", "think", "thinking")
_WORD_KEYS = ("prompt", "text", "hint", "instruction", "edit", "description")


def plan_object(values: Sequence[Any]) -> Mapping[str, Any]:
    """The object that holds a plan's parts, perhaps in a list or under a key of its own; else an empty one."""
    for value in values[:8]:
        for _ in range(4):
            if isinstance(value, list) and len(value) == 1:
                value = value[0]
            if not isinstance(value, dict) or has_box(value):
                break
            if said(value, PROMPT_KEYS) or isinstance(list_in(value), list):
                return value
            inner = [entry for entry in value.values() if isinstance(entry, (dict, list))]
            if len(inner) != 1:
                break
            value = inner[0]
    return {}


def said(value: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first text under one of the names; of a list of texts all of them, of an object its words."""
    keys = {plain_key(key): entry for key, entry in value.items()}
    return next((text for name in names if (text := _words_of(keys.get(name)))), "")


def _words_of(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return ", ".join(entry.strip() for entry in value if entry.strip())
    if isinstance(value, dict):
        value = next((entry for key, entry in value.items() if plain_key(key) in _WORD_KEYS), "")
    return value.strip() if isinstance(value, str) else ""


def wrapped_text(values: Sequence[Any]) -> str:
    """The tagged text that a list or an object holds in the place of a plan, as programs hand replies on; else ""."""
    value: Any = list(values)
    for _ in range(8):
        if isinstance(value, list) and value and (len(value) == 1 or all(isinstance(entry, str) for entry in value)):
            value = value[0]
        elif isinstance(value, dict) and not has_box(value) and not said(value, PROMPT_KEYS):
            held = [
                entry
                for entry in value.values()
                if isinstance(entry, (dict, list)) or isinstance(entry, str) and looks_tagged(entry)
            ]
            if len(held) != 1:
                return ""
            value = held[0]
        else:
            break
    return value if isinstance(value, str) and looks_tagged(value) else ""


def usable(values: Sequence[Any], depth: int = 0) -> bool:
    """Whether values look like a region list: an object or a text in it, or nothing at all between its brackets."""
    if depth > 5:
        return False
    for value in values[:64]:
        if isinstance(value, dict):
            listed = list_in(value)
            if has_box(value) or isinstance(listed, (dict, list)) or isinstance(listed, str) and has_box_text(listed):
                return True
            inner = list(value.values())
            if inner and all(isinstance(entry, (dict, list)) for entry in inner) and usable(inner, depth + 1):
                return True
            if depth and any(plain_key(key) == "hint" for key in value):
                return True
            if any(
                isinstance(entry, list) and len(entry) == 4 and all(isinstance(n, (int, float)) for n in entry)
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
            if usable(value, depth + 1):
                return True
        elif isinstance(value, str) and has_box_text(value):
            return True
    return False


def has_box_text(text: str) -> bool:
    """Whether a text holds JSON with a box in it; the first of its regions says so."""
    if "{" not in text:
        return False
    values = find_values(text[:_LONGEST_REGION]).values
    return any(
        isinstance(one, dict) and has_box(one)
        for value in values
        for one in (value if isinstance(value, list) else [value])
    )


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


def lines_with_boxes(block: str) -> list[dict[str, Any]]:
    """Items of a block whose lines are each a box and its hint, as in a numbered list or a table.

    A line counts with one box of four numbers and words on one side of it only; words on both sides may be prose.
    """
    items = []
    for line in block.splitlines():
        boxes = list(_LINE_BOX.finditer(line))
        if len(boxes) != 1:
            continue
        before = _LINE_LABEL.sub("", line[: boxes[0].start()]).strip(_AROUND_HINT)
        after = _LINE_LABEL.sub("", line[boxes[0].end() :]).strip(_AROUND_HINT)
        if bool(before) != bool(after):
            items.append({"bbox_2d": boxes[0][1], "hint": before or after})
    return items


def unquoted(block: str) -> str:
    """A block whose every quote is escaped, once for JSON or for HTML, without that escaping."""
    if '"' not in block and "&quot;" in block:
        return html.unescape(block)
    if '\\"' in block and not re.search(r'(?<!\\)"(?=\s{0,8}[A-Za-z_\]}])', block):
        try:
            return json.JSONDecoder(strict=False).decode(f'"{block.strip(chr(34))}"')
        except ValueError:
            return block
    return block


def image_size_of(value: Any) -> tuple[int, int] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    sides = [
        side
        for side in value
        if isinstance(side, (int, float)) and not isinstance(side, bool) and 1 <= side <= LARGEST_SIDE
    ]
    return (int(sides[0]), int(sides[1])) if len(sides) == 2 else None
