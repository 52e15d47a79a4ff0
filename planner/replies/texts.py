"""The words of a reply, without what a model leaves around them: marks, fences, quotes, half a tag, an empty phrase."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..plan import KEEP_UNCHANGED, shown, well_formed
from ..plans.lint import ECHOED_HINTS, ECHOED_PROMPTS
from ..plans.tags import unescaped
from .items import Item, find, words_of
from .json_repair import Reader
from .notices import Notices
from .segments import OPENING
from .vocabulary import NOTHING, SPECIAL_TOKENS, TAGS, plain

_QUOTES = "'\"\u2018\u2019\u201c\u201d"
_PAIRS_OF_QUOTES = (('"', '"'), ("`", "`"), ("\u201c", "\u201d"), ("\u2018", "\u2019"))
_PARTIAL_TAG = re.compile(r"<\s{0,4}(/?)\s{0,4}([A-Za-z_]{0,16})\Z")
_FENCE_LINE = re.compile(r"^\s{0,8}(?:```|~~~)\w{0,16}[ \t]{0,8}$|(?:```|~~~)\Z", re.MULTILINE)
# What the published template's example says in the place of a hint. The planner copied it for 71 of 2,624 inputs in one
# third party's runs.
_EXAMPLE_BOXES = ((10.0, 150.0, 150.0, 210.0), (150.0, 50.0, 200.0, 150.0))
_EXAMPLE_WORD = "apple"
_ASK_FOR_HINTS = (
    "a label names what is there, a hint says what should be seen afterwards: write the hints, or ask for a plan "
    "instead of a detection"
)
_NO = ("", "no", "none", "false", "not", "n/a")


def whole_characters(text: str, what: str, told: Notices) -> str:
    """`text` with each half of a character replaced; `what` names it in the warning."""
    whole = well_formed(text)
    if whole != text:
        told.add("half_character", f"{what} holds half a character, which was replaced: {shown(text)}")
    return whole


def clean_text(block: str, own: bool) -> str:
    """The words of a block; of a text that the pack did not write itself, without a model's marks and fences."""
    text = unescaped(block)
    if own:
        return text
    text = _FENCE_LINE.sub("", SPECIAL_TOKENS.sub("", text)).strip()
    cut = _PARTIAL_TAG.search(text)
    if cut and (cut[1] or cut[2]) and any(name.startswith(plain(cut[2])) for name in TAGS):
        text = text[: cut.start()]
    return text.strip().removeprefix("**").removesuffix("**").strip()


def clean_prompt(block: str, own: bool, told: Notices, tagged: bool) -> str:
    """The global prompt that a block says, or the placeholder if it says none. tagged: it is asked for in a tag."""
    text = whole_characters(clean_text(block, own), "the global prompt", told)
    said = text.strip(_QUOTES + " .\n").casefold()
    if not text.strip():
        missing = "<gen_image> block with text: the global prompt" if tagged else "global prompt: it"
        told.add("no_global_prompt", f"the text has no {missing} is {KEEP_UNCHANGED!r}")
        return KEEP_UNCHANGED
    if said == KEEP_UNCHANGED.rstrip(".") or not own and NOTHING.fullmatch(text):
        return KEEP_UNCHANGED
    if own:
        return text
    if said.startswith(ECHOED_PROMPTS):
        told.add(
            "template_echo",
            f"the global prompt {shown(text)} is copied from the planner's instructions; it is {KEEP_UNCHANGED!r} "
            "instead",
        )
        return KEEP_UNCHANGED
    quoted = len(text) > 2 and (text[0], text[-1]) in _PAIRS_OF_QUOTES
    return text[1:-1].strip() if quoted and text[0] not in text[1:-1] else text


def clean_said(said: Mapping[str, Any], own: bool, told: Notices) -> dict[str, Any]:
    """What else a reply says, as a plan keeps it: texts, and what an ambiguous instruction can mean, one a line."""
    kept: dict[str, Any] = {}
    for part, value in said.items():
        if part not in ("ambiguous", "candidates"):
            text = whole_characters(clean_text(words_of(value), own), f"<{part}>", told)
            kept |= {part: text} if text else {}
    why = said.get("ambiguous")
    lines = _candidates(said.get("candidates")) or _candidates(why)
    if lines and why is not False:
        kept["ambiguous"] = "\n".join(lines)
        told.add(
            "ambiguous",
            "the instruction can mean several things",
            "the plan keeps the most likely; say in the instruction which one is meant",
        )
    return kept


def _candidates(value: Any) -> list[str]:
    """What an instruction can mean, from a list, its JSON, or lines; none for a text that says it means one thing."""
    if isinstance(value, str):
        listed = Reader(value).read(opening.start()).values if (opening := OPENING.search(value)) else []
        value = (
            listed[0]
            if listed and isinstance(listed[0], list)
            else [line.strip(" \t-*.;0123456789)") for line in re.split(r"[\n;]", value)]
        )
    if isinstance(value, dict):
        value = [{"label": name, **entry} if isinstance(entry, dict) else entry for name, entry in value.items()]
    if not isinstance(value, list):
        return []
    texts = []
    for entry in value[:32]:
        items = find([entry], in_list=True).items if isinstance(entry, dict) else []
        texts.append(items[0].hint or items[0].label if items else words_of(entry))
    return [well_formed(text) for text in texts if text and text.casefold().strip(" .") not in _NO]


# ---- the items of an answer -----------------------------------------------------------------------------------------


def usable_items(items: Sequence[Item], own: bool, told: Notices) -> list[Item]:
    """The items with their hints, each once (a model that runs in a loop writes the same one until it is stopped).

    A label stands for a hint where no item has one. own: the pack wrote the text, so nothing in it is a slip.
    """
    labels_only = not any(item.hint for item in items)
    kept: list[Item] = []
    for item in items:
        if not item.hint and not labels_only:
            why = f"it has no hint, only the label {shown(item.label)}"
            told.add("dropped_no_hint", f"item {item.number} was dropped: {why}")
        elif not _is_echo(item, told):
            kept.append(item if item.hint else item._replace(hint=item.label))
    if kept and labels_only:
        told.add("labels_as_hints", "no item has a hint, so each label stands for its hint", _ASK_FOR_HINTS)
    return kept if own else _without_repeats(kept, told)


def _is_echo(item: Item, told: Notices) -> bool:
    """Whether an item is copied from the planner's instructions; a box from there with words of its own is doubted."""
    said, example = item.hint or item.label, item.spelled.numbers in _EXAMPLE_BOXES
    plainly = said.casefold().strip(" .")
    box = [round(value) for value in item.spelled.numbers]
    if plainly in ECHOED_HINTS or (example and _EXAMPLE_WORD in plainly):
        copied = f"item {item.number} was dropped: {box} {shown(said)} is copied from the planner's instructions"
        told.add("dropped_echo", copied)
        return True
    if example:
        copied = f"item {item.number}: the box {box} is the one in the planner's instructions"
        told.add("template_echo", copied, "check that it fits the image")
    return False


def _without_repeats(items: Sequence[Item], told: Notices) -> list[Item]:
    written: dict[int, str] = {}  # each object once: it may hold hundreds of boxes, each of them an item
    kept: dict[Any, Item] = {}
    for item in items:
        if id(item.keys) not in written:
            written[id(item.keys)] = json.dumps(item.keys, sort_keys=True, default=repr)
        kept.setdefault((item.spelled.numbers, item.hint, written[id(item.keys)]), item)
    if len(kept) < len(items):
        left = len(items) - len(kept)
        told.add("repeats", f"the text repeats items word for word; each was taken once and {left} left out")
    return list(kept.values())
