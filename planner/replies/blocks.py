"""A tagged text taken apart into the contents of its tags, however carelessly they are opened and closed."""

from __future__ import annotations

import bisect
import json
import re
from collections import Counter
from typing import NamedTuple

from ..plans.tags import MEANINGS, TAG
from .loose_json import CUT_OFF, Reader
from .notices import Notices

_OPENING = re.compile(r"[\[{\uff3b\u3010\uff5b]")
# Of so many regions the JSON says where they end; after that only tags do.
_MOST_TRUSTED = 4
_FENCE = re.compile(r"(?:```|~~~)[a-zA-Z0-9_]{0,16}\s{0,8}")


class _Tag(NamedTuple):
    meaning: str
    name: str
    closes: bool
    start: int
    end: int


class Blocks(NamedTuple):
    """The contents of a text's tags.

    texts: by what the tag means, the first content that is not empty, or "" (`region` is not among them). regions:
    every region content, in order. outside: what stands in no tag.
    """

    texts: dict[str, str]
    regions: list[str]
    outside: str


def find_blocks(text: str, warnings: Notices) -> Blocks:
    """Take `text` apart; what was not closed or comes more than once is told in `warnings`."""
    finder = _Finder(text)
    texts: dict[str, str] = {}
    regions: list[str] = []
    outside: list[str] = []
    count: Counter[str] = Counter()
    at = 0
    stray = finder.end_of_unopened_reasoning()
    if stray is not None:
        texts["think"] = text[: stray.start].strip()
        at = stray.end
    for index, tag in enumerate(finder.tags):
        if tag.start < at:
            continue
        outside.append(text[at : tag.start])
        at = tag.end
        if tag.closes:
            continue
        end, at, closed = finder.extent(index, trust_json=len(regions) < _MOST_TRUSTED)
        content = text[tag.end : end].strip()
        if not closed and (content or end == len(text)) and not texts.get(tag.meaning):
            reach = "the end" if end == len(text) else "the next tag"
            warnings.add("not_closed", f"<{tag.name}> is not closed; it was read up to {reach}")
        if tag.meaning == "region":
            regions.append(content)
            continue
        count[tag.meaning] += bool(content) and content != texts.get(tag.meaning)
        texts[tag.meaning] = texts.get(tag.meaning) or content
    outside.append(text[at:])
    for meaning, number in count.items():
        if number > 1 and meaning != "answer":
            warnings.add("several_blocks", f"the text has {number} <{meaning}> blocks; the first was used")
    return Blocks(texts, regions, "\n".join(outside))


class _Finder:
    """The tags of a text, and what follows each of them; all in one pass."""

    def __init__(self, text: str):
        self.text = text
        self.reader = Reader(text)
        self.tags = [
            _Tag(
                MEANINGS[match["name"].lower()],
                match["name"].lower(),
                bool(match["close"]),
                match.start(),
                match.end(),
            )
            for match in TAG.finditer(text)
        ]
        self.starts = [tag.start for tag in self.tags]
        # Of each tag: the next that closes its meaning, the next that opens any, the next that opens another meaning.
        self.closing: list[int | None] = []
        self.opening: list[int | None] = []
        self.other: list[int | None] = []
        closes: dict[str, int] = {}
        opens: int | None = None
        for index in range(len(self.tags) - 1, -1, -1):
            tag = self.tags[index]
            self.closing.append(closes.get(tag.meaning))
            self.opening.append(opens)
            same = opens is not None and self.tags[opens].meaning == tag.meaning
            self.other.append(self.other[len(self.tags) - 1 - opens] if same and opens is not None else opens)
            if tag.closes:
                closes[tag.meaning] = index
            else:
                opens = index
        for following in (self.closing, self.opening, self.other):
            following.reverse()

    def end_of_unopened_reasoning(self) -> _Tag | None:
        """The </think> whose opening tag the chat template wrote: all before it is reasoning, if a plan follows."""
        first = next((index for index, tag in enumerate(self.tags) if tag.meaning == "think"), None)
        if first is None or not self.tags[first].closes:
            return None
        tag = self.tags[first]
        follows = any(not later.closes and later.meaning in ("region", "gen_image") for later in self.tags[first + 1 :])
        return tag if follows or _OPENING.search(self.text, tag.end) else None

    def extent(self, index: int, trust_json: bool) -> tuple[int, int, bool]:
        """Where the content of a tag ends, where reading goes on, and whether its closing tag was found there."""
        tag = self.tags[index]
        if tag.meaning == "region" and trust_json:
            # A hint may hold tags in its text: trust the JSON over them.
            beyond = self._json_end(tag.end, self.starts[index + 1] if index + 1 < len(self.tags) else len(self.text))
            if beyond:
                following = bisect.bisect_left(self.starts, beyond)
                if following == len(self.tags):
                    return len(self.text), len(self.text), False
                next_tag = self.tags[following]
                closed = next_tag.closes and next_tag.meaning == "region"
                return next_tag.start, next_tag.end if closed else next_tag.start, closed
        closing = self.closing[index]
        # A global prompt is short and holds no other tag; reasoning may quote them all.
        opening = self.opening[index] if closing is None else self.other[index] if tag.meaning == "gen_image" else None
        if closing is not None and (opening is None or closing < opening):
            return self.tags[closing].start, self.tags[closing].end, True
        end = len(self.text) if opening is None else self.tags[opening].start
        return end, end, False

    def _json_end(self, start: int, before: int) -> int:
        """Where the JSON that begins between `start` and `before` ends; 0 if there is none, or no end to it."""
        opening = _OPENING.search(self.text, start, before)
        if opening is None:
            return 0
        loose = self.reader.read(opening.start())
        return 0 if CUT_OFF in loose.repairs or not loose.values else loose.end


def unfenced(text: str) -> str:
    """The text inside its first code fence, or the text itself if it has none or begins with JSON; stripped."""
    opening = _FENCE.search(text)
    if opening is None or text.lstrip().startswith(("[", "{")):
        return text.strip()
    # A text inside the JSON may hold a fence of its own.
    closing = text.find(opening.group()[:3], _strict_end(text, opening.end()))
    return text[opening.end() : closing if closing >= 0 else len(text)].strip()


def _strict_end(text: str, at: int) -> int:
    """Where the proper JSON that begins at `at` ends, `at` if there is none."""
    try:
        return json.JSONDecoder().raw_decode(text, at)[1]
    except (ValueError, RecursionError):
        return at
