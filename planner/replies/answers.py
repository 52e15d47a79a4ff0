"""A reply's segments to the one answer that counts, in the text's own numbers.

A reply may hold drafts, an answer in an envelope of other programs, an answer and its correction. The last whole answer
counts; what stands in reasoning or in an envelope counts only where nothing else does.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..plan import shown
from .grounding import boxes_in_text
from .items import Found, find, image_size_of, is_pair, may_hold_a_reply
from .json_repair import WITHOUT_LIST, Reader
from .json_texts import CUT_OFF
from .notices import Notices
from .segments import Segment, split
from .vocabulary import CORRECTION, EDGES, GLOBAL_PROMPT, NOTHING, REMARKS, plain

# A program's answer that holds a reply may stand in another's.
_MOST_WRAPPED, _MOST_TEXTS = 4, 8
# The global prompt behind its heading, or on the line below.
_HEADING = re.compile(
    r"^[ \t*#_>-]{0,8}(?P<heading>[A-Za-z][A-Za-z_ -]{2,30})[ \t*_]{0,4}"
    r"(?:[:\uff1a][ \t*_]{0,4}|[:\uff1a]?[ \t*_]{0,4}\n\s{0,4}(?![#*\[{<`]|regions?\b))(?P<words>[^\s*][^\n]{0,2000})$",
    re.MULTILINE,
)
_FENCE = re.compile(r"(?:```|~~~)\w{0,16}")
_XML = re.compile(r"<\s{0,4}(\w{1,20})\s{0,4}>([^<]{0,2000})<\s{0,4}/\s{0,4}\1\s{0,4}>")
_ATTRIBUTE = re.compile(r"(\w{1,20})\s{0,4}=\s{0,4}[\"']([^\"'<>]{0,200})[\"']")


@dataclass
class Answer:
    """What a reply says: nothing is in pixels yet.

    prompt: the global prompt as written. found: the region list and whatever else an object says. size: of the image,
    where the text names it. tagged: whether its parts stood in tags. alone: whether the text is JSON and nothing else.
    """

    prompt: str = ""
    reasoning: str = ""
    found: Found = field(default_factory=Found)
    said: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    tagged: bool = False
    alone: bool = False
    told: Notices = field(default_factory=Notices)

    @property
    def plans(self) -> bool:
        """Whether there is anything of a plan in it."""
        return bool(self.prompt or self.found.says_something)


@dataclass
class _Block:
    """A region block or a piece of JSON. before: the words between it and the one before."""

    found: Found
    segment: Segment
    before: str

    @property
    def is_cut_off(self) -> bool:
        return CUT_OFF in self.found.repairs

    @property
    def is_one_object(self) -> bool:
        return len(self.segment.values) <= 1 and not any(isinstance(value, list) for value in self.segment.values)


@dataclass
class _Draft:
    """One answer among several: a global prompt and the blocks that came with it, and what they come to."""

    prompt: str = ""
    blocks: list[_Block] = field(default_factory=list)
    found: Found = field(default_factory=Found)

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """Which of two drafts counts; of equal ones it is the last."""
        prompt, found = bool(self.prompt or self.found.prompt), self.found
        return found.is_whole and prompt, found.is_whole and CUT_OFF not in found.repairs, found.says_something

    def says(self) -> Any:
        return self.prompt, _says(self.found)


def read_answer(text: str, depth: int = 0, drafts_only: bool = False) -> Answer:
    """The answer that counts in a reply, be it an empty one.

    drafts_only: it is reasoning, so each list replaces the last.
    """
    if '"' not in text and "&quot;" in text and "{" in text and "<image_size>" not in text:
        text = html.unescape(text)
    answer = Answer()
    segments = split(text, answer.told)
    tags: dict[str, list[str]] = {}
    for segment in segments:
        tags.setdefault(segment.part, []).extend([segment.text] if segment.text else [])
    answer.reasoning = "\n".join(dict.fromkeys(tags.get("think", ())))
    answer.said = {part: tags[part][0] for part in REMARKS if tags.get(part)}
    answer.tagged = "gen_image" in tags or "region" in tags
    answer.alone = not any(segment.part != "json" and _FENCE.sub("", segment.text).strip() for segment in segments)
    drafts = _drafts(segments, answer.told)
    for draft in drafts:
        _settle(draft, drafts_only, answer.told)
    draft = max(reversed(drafts), key=lambda one: one.rank)
    other = next((one for one in drafts if one.says() != draft.says()), None)
    if other:
        said = _brief(other.found) if other.found.is_list else shown(other.prompt)
        answer.told.add("corrected", f"the text holds several answers; the last whole one counts, not {said}")
    answer.prompt, answer.found = draft.prompt or draft.found.prompt, draft.found
    for size in tags.get("image_size", ())[:1]:
        answer.size = image_size_of(next(iter(Reader(size).read(0).values), None))
    found = answer.found
    if not (answer.prompt or found.items or found.plan or found.global_only):
        answer = _elsewhere(answer, segments, depth)
    answer.reasoning = answer.reasoning or answer.found.reasoning
    answer.size = answer.size or answer.found.size
    answer.said = {**answer.found.said, **answer.said}
    if not answer.prompt and not answer.tagged and answer.found.is_list:
        for match in _HEADING.finditer("\n".join(tags.get("words", ()))):
            if plain(match["heading"]) in GLOBAL_PROMPT:
                answer.prompt = match["words"].strip("*_ ")
                break
    return answer


def _drafts(segments: Sequence[Segment], told: Notices) -> list[_Draft]:
    """The answers of a reply in order: a new one begins where a global prompt comes again."""
    drafts, words = [_Draft()], ""
    lists = [segment for segment in segments if segment.part == "json"]
    if len(lists) == 2 and is_pair(*(segment.values[0] for segment in lists)):  # of boxes, and of their hints
        first, second = lists
        both = Segment("json", first.text + second.text, ([first.values[0], second.values[0]],), first.repairs)
        segments = [both if segment is first else segment for segment in segments if segment is not second]
    for segment in segments:
        draft = drafts[-1]
        if segment.part == "words":
            words += segment.text
        elif segment.part == "gen_image" and segment.text:
            if draft.prompt and (draft.blocks or draft.prompt != segment.text):
                drafts.append(_Draft(segment.text))
            draft.prompt = draft.prompt or segment.text
        elif segment.part in ("region", "json"):
            found = _region(segment, told) if segment.part == "region" else find(segment.values)
            found.repairs = found.repairs or segment.repairs
            draft.blocks.append(_Block(found, segment, words))
            words = ""
    return drafts


def _region(segment: Segment, told: Notices) -> Found:
    """What a region block says: JSON, else XML, else lines of a box and its hint."""
    last = max((place for place, words in enumerate(segment.between) if place and CORRECTION.search(words)), default=0)
    if last:
        told.add("corrected", f"a later list corrects an earlier one and counts, not {shown(segment.values[last - 1])}")
    found = find(segment.values[last:], in_list=True)
    if found.items or found.says_something and any(isinstance(value, dict) for value in segment.values):
        return found
    fields = _xml_fields(segment.text)
    attributes = dict(_ATTRIBUTE.findall(segment.attributes))
    fields = fields or ([{**attributes, "hint": segment.text}] if attributes else [])
    lines = segment.text if "{" not in segment.text else ""
    for other, form in ((find(fields, in_list=True), "XML"), (boxes_in_text(lines, as_hints=True), "lines")):
        if other.items:
            other.repairs = (f"{form} in the place of JSON",)
            return other
    if not segment.values and segment.text:
        found.listed = NOTHING.fullmatch(segment.text[:200]) is not None
        found.unread = "" if found.listed else segment.text
    return found


def _xml_fields(text: str) -> list[dict[str, str]]:
    """The elements of a text that hold words alone, as objects: a new one begins where a name comes again."""
    fields: list[dict[str, str]] = []
    for match in _XML.finditer(text):
        if not fields or match[1].lower() in fields[-1]:
            fields.append({})
        fields[-1][match[1].lower()] = match[2].strip()
    return fields


def _settle(draft: _Draft, drafts_only: bool, told: Notices) -> None:
    """Bring the blocks of a draft to one list: blocks of one object each are joined, a correction takes the place of
    what it corrects, lists without tags are joined, and of other lists in tags the first counts."""
    regions = [
        block for block in draft.blocks if block.segment.part == "region" and (block.segment.text or block.found.items)
    ]
    beside = [block for block in draft.blocks if block.segment.part == "json"]
    usable = [block for block in regions if block.found.is_whole or block.found.prompt]
    usable = usable or [block for block in regions if block.found.is_list]
    chosen: list[_Block] = []
    for block in usable or [block for block in beside if block.found.says_something]:
        same = block.found.is_list and chosen and _says(block.found) == _says(chosen[-1].found)
        if not chosen:
            chosen.append(block)
        elif not same and (drafts_only or _corrects(block, chosen[-1].found)):
            if not block.is_cut_off or chosen[-1].is_cut_off:
                told.add(
                    "corrected", f"a later list corrects an earlier one and counts, not {_brief(chosen[-1].found)}"
                )
                chosen = [block]
        elif not same and (not usable or block.is_one_object and chosen[-1].is_one_object):
            chosen.append(block)
    different = {str(_says(block.found)) for block in regions}
    if usable and len(different) > len(chosen) and not any(notice.code == "corrected" for notice in told):
        which = "first" if usable[0] is regions[0] else "first that can be read"
        told.add("several_blocks", f"the text has {len(regions)} <region> blocks; the {which} was used")
    if len(chosen) > 1 and not usable:
        if all(block.is_one_object for block in chosen):
            draft.found.repairs += (WITHOUT_LIST,)
        else:
            told.add("several_blocks", f"the text has {len(chosen)} lists of regions; they were joined")
    for block in chosen or (*regions[:1], *beside):
        draft.found.join(block.found)
    if len(chosen) > 1:
        draft.found.plan = draft.found.size = None  # of one of them only
    if not chosen and not draft.found.unread and any(block.segment.part == "region" for block in draft.blocks):
        draft.found.listed = True


def _corrects(block: _Block, before: Found) -> bool:
    """Whether a block replaces what came before it: words say so, or it is a whole plan or the same hints again."""
    if CORRECTION.search(block.before) or block.found.prompt and before.prompt or block.found.plan and before.plan:
        return True
    hints, earlier = ([item.hint or item.label for item in found.items] for found in (block.found, before))
    return bool(hints) and hints == earlier


def _says(found: Found) -> Any:
    return found.prompt, [(item.spelled.numbers, item.hint, item.label) for item in found.items]


def _brief(found: Found) -> str:
    """What an answer that does not count says, for a message."""
    return shown([item.hint or item.label for item in found.items] or found.prompt)


def _elsewhere(answer: Answer, segments: Sequence[Segment], depth: int) -> Answer:
    """The answer in a text inside the reply: its answer tag, a program's envelope, marks without JSON, reasoning."""
    said = answer.said.get("answer", "")
    texts = [text for text in (said, *answer.found.texts) if may_hold_a_reply(text)][:_MOST_TEXTS]
    parts = ("words",) if answer.found.count else ("words", "json")
    words = "".join(segment.text for segment in segments if segment.part in parts)
    elements = _xml_fields(words) if "</" in words and not texts else []
    by_edges = any(sum(plain(name) in EDGES for name in one) >= 4 for one in elements)  # <xmin>12</xmin>, ...
    found = find(elements, in_list=True) if by_edges else Found()
    if found.items:
        found.repairs = ("XML in the place of JSON",)
    else:
        found = boxes_in_text(words)
    broken = found.count and not answer.found.count and all(code == "dropped_mark" for code, _, _ in found.told)
    if found.items or broken:
        answer.found = found
        return answer
    reasoning = "" if answer.plans else answer.reasoning
    for text, drafts_only in [*((text, False) for text in texts), *([(reasoning, True)] if reasoning else [])]:
        inner = read_answer(text, depth + 1, drafts_only) if depth < _MOST_WRAPPED else answer
        if said and drafts_only and not inner.tagged:
            continue  # a draft, where the answer is an answer
        if inner is not answer and (inner.found.items or inner.plans and not answer.plans):
            inner.reasoning = inner.reasoning or answer.reasoning
            inner.said = {**{part: value for part, value in answer.said.items() if value != text}, **inner.said}
            if drafts_only:
                inner.told.add(
                    "plan_in_reasoning",
                    "the plan stands in the reasoning, and there is none after it",
                    "check that it is the one that was meant",
                )
            return inner
    return answer
