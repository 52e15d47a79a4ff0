"""Boxes in a text that is no JSON: in a model's own marks, in coordinates that are tokens, or beside a name."""

from __future__ import annotations

import re
from functools import partial

from ..plan import shown
from .boxes import NUMBER, Spelled, numbers_in
from .items import Found
from .vocabulary import AS_CHOSEN, COORDINATE_TOKENS, KOSMOS_CELLS, MARKS, POINT_TAG, SPECIAL_TOKENS, X_FIRST, plain

_NUMBER = NUMBER.pattern.replace(r"\s{0,2}%", "%")
_GROUP = rf"[\[(]\s{{0,4}}{_NUMBER}(?:[,;\s]{{1,6}}{_NUMBER})*[,;\s]{{0,4}}[\])]"
_GROUPS = re.compile(rf"{_GROUP}(?:[\s,]{{0,6}}{_GROUP})*")
_MARK = re.compile(r"<\|?(?P<slash>/?)(?P<name>[A-Za-z_]{1,24})\|?>")
_TOKENS = [
    (re.compile(rf"{begin}(?:{look}\s{{0,2}}){{{2 if steps == KOSMOS_CELLS else 4}}}"), steps, y_first)
    for begin, look, steps, y_first in COORDINATE_TOKENS
]
_LINE_END = re.compile(r"[\n;]+")
_AROUND_NAME = " \t\n:;,.|*_`'\"=>\u2013\u2014\u201c\u201d-[](){}"
# What a line says besides a box and its words: its number and the names of both.
_LABEL = re.compile(
    r"^\W{0,8}(?:(?:region|item)\b\W{0,4})?\d{1,3}\s{0,4}[.):]"
    r"|\b(?:bounding[ _]box|bbox(?:_2d)?|box|hint|coordinates)\b\W{0,4}[:=]"
    r"|\b(?:answer|output|result|assistant)\s{0,4}:",
    re.IGNORECASE,
)
# "I found the green plate, it is located at" -> "the green plate"
_LEAD = re.compile(
    r".{0,200}\b(?:shows?|contains?|depicts?|see|found|find|detect(?:ed)?|locate|identified|there (?:is|are)"
    r"|here (?:is|are)|and|it is)\s{1,4}",
    re.IGNORECASE | re.DOTALL,
)
_VERB = re.compile(
    r"(?:,?\s{1,4}(?:(?:it|which|that) )?(?:is|are|was|were|can be|should be|appears?|sits?|lies?))?"
    r"(?:\s{1,4}(?:located|found|seen|visible|positioned|placed|shown|detected|situated))?(?:\s{1,4}(?:at|in|within|inside|by|around|here|on))?"
    r"(?:\s{1,4}(?:the )?(?:box|region|area|bounding box|coordinates|position|location)(?: of)?)?\Z",
    re.IGNORECASE,
)


def boxes_in_text(text: str, as_hints: bool = False) -> Found:
    """Every thing in `text` with its boxes, named by its mark or by the words beside it.

    as_hints: the words were asked for as hints; else they are labels, taken from a sentence. A mark without a whole box
    and a box without a name are dropped, and told.
    """
    reader = _Reader(as_hints)
    for run, steps, y_first in _TOKENS if "<" in text else ():
        text = run.sub(partial(_in_percent, steps, y_first), text)
    reader.read(POINT_TAG.sub(_points, text))
    return reader.found


def _in_percent(steps: int, y_first: bool, run: re.Match[str]) -> str:
    """Coordinates that are tokens of their own, as a box of percentages."""
    values = [int(value) for value in re.findall(r"\d+", run[0])]
    if steps == KOSMOS_CELLS:
        (y1, x1), (y2, x2) = (divmod(value, steps) for value in values)
        values = [x1, y1, x2 + 1, y2 + 1]
    elif y_first:
        values = [values[1], values[0], values[3], values[2]]
    return f"[{', '.join(f'{100 * value / steps:.6g}%' for value in values)}]"


def _points(tag: re.Match[str]) -> str:
    """Points in attributes, x and y in percent, as a line for each."""
    attributes = dict(re.findall(r"(\w{1,20})\s{0,4}=\s{0,4}[\"']([^\"']{0,200})[\"']", tag["attributes"]))
    ends = [key[1:] for key in attributes if key[:1] == "x" and f"y{key[1:]}" in attributes]
    name = attributes.get("alt") or tag["name"] or ""
    return "".join(f"\n{name} [{attributes['x' + end]}%, {attributes['y' + end]}%]\n" for end in ends)


class _Reader:
    """One pass over a text. line: the words and boxes of the line so far that no mark names."""

    def __init__(self, as_hints: bool):
        self.found, self.as_hints = Found(), as_hints
        self.name, self.named = "", True
        self.line: list[str | list[Spelled]] = []

    def read(self, text: str) -> None:
        role, at = "", 0
        for match in _MARK.finditer(text):
            mark = MARKS.get(plain(match["name"]))
            if mark:
                self._piece(role, text[at : match.start()])
                closes = bool(match["slash"]) if mark[1] is None else mark[1]
                role, at = "" if closes else mark[0], match.end()
        self._piece(role, text[at:])
        self._end_line()
        self._start("")

    def _piece(self, role: str, text: str) -> None:
        """Read what stands in a mark, or between marks."""
        if role == "name":
            self._start(text.strip())
        elif role == "box":
            self._put(text, marked=True)
        for number, line in enumerate(_LINE_END.split(text) if not role else ()):
            if number:
                self._end_line()
            if not line:
                continue
            at = 0
            for groups in _GROUPS.finditer(line):
                self._words(line[at : groups.start()])
                self._put(groups.group(), marked=False)
                at = groups.end()
            self._words(line[at:])

    def _start(self, name: str) -> None:
        """A mark names what follows; one that nothing followed is told."""
        if not self.named:
            self.found.drop("dropped_mark", f"its mark holds no whole box: {shown(self.name)}")
        self.name, self.named = name, not name

    def _words(self, text: str) -> None:
        said = SPECIAL_TOKENS.sub("", text)
        if said.strip(_AROUND_NAME):
            self.line.append(said)

    def _put(self, text: str, marked: bool) -> None:
        """Read the boxes of a mark, or of brackets that follow one another."""
        brackets = re.findall(_GROUP, text)
        groups = [numbers_in(group) for group in brackets or [text]]
        broken = bool(brackets) and any(map(str.isdigit, re.sub(_GROUP, "", text)))
        if all(len(group) == 2 for group in groups):  # corners in brackets of their own: (x1, y1), (x2, y2)
            groups = [[number for group in groups for number in group]]
        point = len(groups) == 1 and len(groups[0]) == 2 and not broken and (marked or "%" in text)
        good = [group for group in groups if group and (len(group) % 4 == 0 or point)]
        whole = [tuple(group[at : at + 4]) for group in good for at in range(0, len(group), 4)]
        if marked and (broken or len(good) < len(groups)):
            self.found.drop("dropped_mark", f"its mark holds no whole box: {shown(self.name or text)}")
            self.named = True
        order, share = (X_FIRST, True) if "%" in text else (AS_CHOSEN, False)
        boxes = [Spelled(numbers, order, share, marked) for numbers in whole]
        if boxes and self.name:
            self.named = True
            self._add(self.name, boxes)
        elif boxes:
            self.line.append(boxes)

    def _add(self, name: str, boxes: list[Spelled]) -> None:
        self.found.add(boxes, name if self.as_hints else "", name, {} if self.as_hints else {"label": name})

    def _end_line(self) -> None:
        """Name the boxes of a line by the words before each, or behind each where the line begins with a box."""
        line, self.line = self.line, []
        if all(isinstance(part, str) for part in line):
            return
        parts = [part for part in (self._clean(part) if isinstance(part, str) else part for part in line) if part]
        step = -1 if parts and isinstance(parts[0], str) else 1
        marked = all(part[0].thousandths for part in parts if not isinstance(part, str))
        complete = bool(parts) and (isinstance(parts[0], str) != isinstance(parts[-1], str) or marked and step < 0)
        for place, boxes in enumerate(parts):
            if isinstance(boxes, str):
                continue
            beside = parts[place + step] if complete else ""
            if isinstance(beside, str) and beside:
                self._add(beside, boxes)
            else:
                self.found.drop("dropped_no_hint", f"it has no hint: {list(boxes[0].numbers)}")

    def _clean(self, words: str) -> str:
        """The words without what only leads to a box."""
        said = _LABEL.sub("", words).strip(_AROUND_NAME)
        if self.as_hints:
            return said
        said = re.split(r"[.!?]\s", said)[-1]
        name = _VERB.sub("", said[-400:]).strip(_AROUND_NAME)
        lead = _LEAD.match(name)
        name = name[lead.end() :] if lead else name
        the = re.match(r"the\s+", name, re.IGNORECASE) if name != said else None
        rest = name[the.end() :] if the else ""
        return f"{'an' if rest[:1].lower() in 'aeiou' else 'a'} {rest}" if rest else name
