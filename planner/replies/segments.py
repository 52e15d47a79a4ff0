"""A reply's text to segments, from its beginning to its end: what stands in tags, JSON, and the words between.

Tags may be written in any brackets, closed or not. Where JSON begins, its own grammar says where it ends, so a hint may
hold a tag. Reasoning may stand in any marks; if only its closing mark is there, all before it is reasoning.
"""

from __future__ import annotations

import bisect
import json
import re
from typing import Any, NamedTuple

from .json_repair import Loose, Reader
from .json_texts import CUT_OFF
from .notices import Notices
from .vocabulary import REASONING_ENDS, REASONING_OPENS, tag

OPENING = re.compile("[\\[{\uff3b\u3010\u3014\uff5b]")
_NAME = r"(?P<{}slash>/?)\s{{0,8}}(?P<{}name>[A-Za-z_\u4e00-\u9fff][\w.:-]{{0,40}})"
_TAG = re.compile(
    rf"<\|?\s{{0,8}}{_NAME.format('', '')}(?P<attributes>\s[^<>]{{0,200}})?/?\|?>"
    rf"|(?:&lt;|[\uff1c\u300a\u3008\u25c1\u3010\[])\s{{0,8}}{_NAME.format('odd_', 'odd_')}\s{{0,8}}"
    r"(?:&gt;|[\uff1e\u300b\u3009\u25b7\u3011\]])"
)
_CHANNELS = [
    (re.compile(look), closes) for looks, closes in ((REASONING_OPENS, False), (REASONING_ENDS, True)) for look in looks
]
# JSON whose every quote is escaped once more.
_ESCAPED = re.compile(r"[\[{](?:\s|[\[{]|\\[nrt]){0,16}\\\"")
# So many times JSON that runs over tags is read in full before only the part up to the next tag is.
_MOST_TRUSTED = 4
_MOST_SEGMENTS, _MOST_REGIONS = 2000, 64


class Segment(NamedTuple):
    """A piece of a reply.

    part: what its tag means (`think`, `gen_image`, `region`, `answer`, ...), `json` for JSON without a tag, or `words`.
    text: what stands there. values, repairs: the JSON in a region or of `json`, and what was repaired in it.
    between: the words before each value of a region. attributes: of a region's tag.
    """

    part: str
    text: str
    values: tuple[Any, ...] = ()
    repairs: tuple[str, ...] = ()
    between: tuple[str, ...] = ()
    attributes: str = ""


class _Tag(NamedTuple):
    part: str
    name: str
    closes: bool
    start: int
    end: int
    attributes: str


def split(text: str, told: Notices) -> list[Segment]:
    """The segments of `text` in order; a tag that was not closed is told."""
    return _Splitter(text, told).segments()


def read_words(text: str) -> tuple[str, str]:
    """The words of a reply that was asked for a text alone, as they stand there, and the reasoning before them."""
    marks = [tag for tag in _tags(text) if tag.part == "think"]
    if not marks:
        return text.strip(), ""
    first, last = marks[0], marks[-1]
    begun = 0 if first.closes else first.end
    if last.closes:
        return text[last.end :].strip(), text[begun : last.start].strip()
    return text[: first.start].strip(), text[begun:].strip()


def _tags(text: str) -> list[_Tag]:
    """Every tag that the vocabulary knows, in order."""
    found, plainly, sized = [], False, False
    for match in _TAG.finditer(text):
        odd = match["odd_name"] is not None
        name = match["odd_name"] if odd else match["name"]
        part, closes = tag(name)
        if part:
            closes = bool(match["odd_slash"] or match["slash"]) if closes is None else closes
            found.append((odd, _Tag(part, name.lower(), closes, *match.span(), match["attributes"] or "")))
            plainly = plainly or not odd and part != "think"
            sized = sized or not odd and part == "image_size"
    # Beside tags in their own brackets, others are words; so is all but them in a text that the pack wrote itself.
    tags = [tag for odd, tag in found if not odd or not plainly or tag.part == "think" and not sized]
    channels = [
        _Tag("think", match.group(), closes, *match.span(), "")
        for look, closes in _CHANNELS
        for match in look.finditer(text)
    ]
    return sorted((*tags, *channels), key=lambda tag: tag.start) if channels and not sized else tags


def has_tags(text: str) -> bool:
    """Whether the text holds a tag that the vocabulary knows."""
    return bool(_tags(text))


class _Splitter:
    """One pass over a text."""

    def __init__(self, text: str, told: Notices):
        self.text, self.told = text, told
        self.reader = Reader(text)
        self.trusted, self.regions = _MOST_TRUSTED, 0
        self.found: list[Segment] = []
        self.tags = _tags(text)
        self.starts = [tag.start for tag in self.tags]
        # Of each tag: the next that closes its part, the next that opens any, the next that opens another part.
        count = len(self.tags)
        self.closing: list[int | None] = [None] * count
        self.opening: list[int | None] = [None] * count
        self.other: list[int | None] = [None] * count
        closes: dict[str, int] = {}
        opens: int | None = None
        for index in range(count - 1, -1, -1):
            tag = self.tags[index]
            self.closing[index] = closes.get(tag.part)
            self.opening[index] = opens
            same = opens is not None and self.tags[opens].part == tag.part
            self.other[index] = self.other[opens] if same and opens is not None else opens
            if tag.closes:
                closes[tag.part] = index
            else:
                opens = index

    def segments(self) -> list[Segment]:
        at = 0
        while at < len(self.text):
            if len(self.found) >= _MOST_SEGMENTS or self.regions >= _MOST_REGIONS:
                self.told.add("dropped_too_many", "the text has too many pieces to be a plan; its end was left out")
                break
            index, before = self._next_tag(at)
            opening = OPENING.search(self.text, at, before)
            self._words(at, opening.start() if opening else before)
            if opening:
                loose = self._json(opening.start())
                if loose.values:
                    self.found.append(
                        Segment("json", self.text[opening.start() : loose.end], tuple(loose.values), loose.repairs)
                    )
                at = max(loose.end, opening.end())
            elif index < len(self.tags):
                at = self._tag(index)
            else:
                break
        return self.found

    def _next_tag(self, at: int) -> tuple[int, int]:
        """The next tag from `at` on and where it starts; the end of the text if there is none."""
        index = bisect.bisect_left(self.starts, at)
        return index, self.starts[index] if index < len(self.tags) else len(self.text)

    def _words(self, start: int, end: int) -> None:
        if self.text[start:end].strip():
            self.found.append(Segment("words", self.text[start:end]))

    def _tag(self, index: int) -> int:
        """Read what a tag holds; returns where reading goes on."""
        tag = self.tags[index]
        if tag.closes:
            if tag.part == "think" and not any(segment.part == "think" for segment in self.found):
                # The chat template wrote the opening mark.
                self.found = [Segment("think", self.text[: tag.start].strip())]
            return tag.end
        if tag.part == "region":
            return self._region(tag)
        closing = self.closing[index]
        # A global prompt is short and holds no other tag; reasoning may quote them all.
        opening = self.opening[index] if closing is None else self.other[index] if tag.part == "gen_image" else None
        if closing is not None and (opening is None or closing < opening):
            end, following = self.tags[closing].start, self.tags[closing].end
        else:
            end = following = len(self.text) if opening is None else self.tags[opening].start
            self._not_closed(tag, end)
        self.found.append(Segment(tag.part, self.text[tag.end : end].strip()))
        return following

    def _region(self, tag: _Tag) -> int:
        """Read a region's JSON, one value after another, up to the next tag outside of it."""
        at, values, repairs, between = tag.end, [], [], []
        self.regions += 1
        while True:
            index, before = self._next_tag(at)
            opening = OPENING.search(self.text, at, before)
            if opening is None:
                break
            loose = self._json(opening.start())
            between += [self.text[at : opening.start()] if not number else "" for number in range(len(loose.values))]
            values += loose.values
            repairs += loose.repairs
            at = max(loose.end, opening.end())
        closed = index < len(self.tags) and self.tags[index].closes and self.tags[index].part == "region"
        if not closed:
            self._not_closed(tag, before)
        content = self.text[tag.end : before].strip()
        repaired = tuple(dict.fromkeys(repairs))
        self.found.append(Segment("region", content, tuple(values), repaired, tuple(between), tag.attributes))
        return self.tags[index].end if closed else before

    def _not_closed(self, tag: _Tag, end: int) -> None:
        if self.text[tag.end : end].strip() or end == len(self.text):
            reach = "the end" if end == len(self.text) else "the next tag"
            self.told.add("not_closed", f"<{tag.name}> is not closed; it was read up to {reach}")

    def _json(self, start: int) -> Loose:
        """The JSON at `start`.

        A tag in one of its quoted texts is a word, and so is a single one outside if the JSON is whole.
        """
        index, before = self._next_tag(start)
        if _ESCAPED.match(self.text, start):
            return self._unescaped(start, before)
        if index < len(self.tags) and self.trusted == 0:
            return self._up_to(start, before)
        loose = self.reader.read(start)
        whole = CUT_OFF not in loose.repairs and "{" in self.text[start : loose.end]
        while index < len(self.tags) and self.starts[index] < loose.end:
            tag = self.tags[index]
            place = bisect.bisect_right(loose.quoted, (tag.start, len(self.text))) - 1
            if place >= 0 and loose.quoted[place][1] > tag.start:
                index = bisect.bisect_left(self.starts, loose.quoted[place][1])
            elif whole and not (tag.closes and tag.part == "region"):
                index, whole = index + 1, False
            else:
                self.trusted -= 1
                return self._up_to(start, tag.start)
        return loose

    def _up_to(self, start: int, end: int) -> Loose:
        loose = Reader(self.text[start:end], whole=end == len(self.text)).read(0)
        return loose._replace(end=start + loose.end)

    def _unescaped(self, start: int, end: int) -> Loose:
        """JSON that was escaped as a whole, up to the next tag."""
        block = self.text[start:end]
        try:
            block = json.JSONDecoder(strict=False).decode(f'"{block.strip(chr(34))}"')
        except ValueError:
            return self._up_to(start, end)
        return Reader(block, whole=end == len(self.text)).read(0)._replace(end=end)
