"""JSON as language models write it. Owns the repair of a region list that is not quite JSON.

One pass over the text, no regular expression over more than a token, so the time is linear in its length.
Accepts what `json` accepts, and beyond it: single quotes, quotes inside a text, raw line breaks in a text,
trailing and missing commas, Python's None/True/False, keys without quotes, and an end that is cut off. What it
had to accept is told in `Loose.repairs`.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

# A value whose text was cut off in the middle: half a hint or half a box is worse than none.
CUT = object()
# The repair that says so.
CUT_OFF = "text cut off"

_MAX_DEPTH = 24
_SPACE = " \t\r\n\f\v\u00a0"
_BARE = re.compile(r"[^\s,:\[\]{}\"']+")
_KEY_AHEAD = re.compile(r"""\s{1,64}(["'])[A-Za-z_]\w{0,30}\1\s{0,64}:""")
_WORDS = {"true": True, "false": False, "null": None, "none": None, "nan": float("nan")}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Loose(NamedTuple):
    """What was read: the values one after another, what was repaired (in words), and where reading stopped."""

    values: list[Any]
    repairs: tuple[str, ...]
    end: int


def read_values(text: str, start: int = 0) -> Loose:
    """Read JSON values from `text[start:]`: one strict value if there is one, else as many as can be repaired.

    A value that is cut off is `CUT` (a key with such a value is left out). Text that holds no value at all
    gives no values; nothing is raised.
    """
    start = _skip_space(text, start)
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
        if isinstance(value, list) or _next(text, end) not in (",", "{", "["):
            return Loose([value], (), end)
    except (ValueError, RecursionError):
        pass
    reader = _Reader(text, start)
    values = reader.sequence()
    return Loose(values, tuple(dict.fromkeys(reader.repairs)), reader.at)


class _Reader:
    def __init__(self, text: str, at: int):
        self.text = text
        self.at = at
        self.repairs: list[str] = []

    def sequence(self) -> list[Any]:
        """Values one after another, as when the brackets around a list are missing."""
        values = []
        while self._peek() in ("{", "["):
            value = self._value(0)
            if value is not CUT:
                values.append(value)
            if self._peek() == ",":
                self.at += 1
        if len(values) > 1:
            self.repairs.append("several values without a list around them")
        return values

    def _peek(self) -> str:
        self.at = _skip_space(self.text, self.at)
        return self.text[self.at : self.at + 1]

    def _value(self, depth: int) -> Any:
        first = self._peek()
        if depth > _MAX_DEPTH:
            self.repairs.append("lists nested too deeply")
            self.at = len(self.text)
            return CUT
        if first == "{":
            return self._object(depth)
        if first == "[":
            return self._list(depth)
        if first in ("'", '"'):
            return self._string(first)
        return self._bare()

    def _object(self, depth: int) -> dict[str, Any]:
        self.at += 1
        found: dict[str, Any] = {}
        while True:
            first = self._peek()
            if first == "}":
                self.at += 1
                return found
            if first == "":
                self.repairs.append(CUT_OFF)
                return found
            if first == "]":  # the list around it ends: the closing brace is missing
                self.repairs.append("missing brace")
                return found
            if first in (",", ":", "{", "["):
                self._skip_sign(first, "}")
                continue
            key = self._string(first) if first in ("'", '"') else self._bare(is_key=True)
            if self._peek() != ":":
                self.repairs.append("a key without a value")
                continue
            self.at += 1
            value = self._value(depth + 1) if self._peek() not in (",", "}", "") else CUT
            if value is not CUT and isinstance(key, str):
                found[key] = value
            if self._peek() not in (",", "}", ""):
                self.repairs.append("missing comma")

    def _list(self, depth: int) -> Any:
        self.at += 1
        found: list[Any] = []
        while True:
            first = self._peek()
            if first == "]":
                self.at += 1
                return found
            if first == "":
                self.repairs.append(CUT_OFF)
                return found  # its last value is not in it if that was cut
            if first == "}" and depth > 0:  # the object around it ends: the closing bracket is missing
                self.repairs.append("missing bracket")
                return found
            if first in (",", ":", "}"):
                self._skip_sign(first, "]")
                continue
            value = self._value(depth + 1)
            if value is not CUT:
                found.append(value)
            if self._peek() not in (",", "]", ""):
                self.repairs.append("missing comma")

    def _skip_sign(self, sign: str, closing: str) -> None:
        self.at += 1
        if sign != ",":
            self.repairs.append(f"stray '{sign}'")
        elif self._peek() in (closing, ","):
            self.repairs.append("trailing comma")

    def _string(self, quote: str) -> Any:
        """A text up to the quote that is followed by what may follow a value; others belong to the text."""
        if quote == "'":
            self.repairs.append("single quotes")
        self.at += 1
        parts: list[str] = []
        text, at = self.text, self.at
        while at < len(text):
            char = text[at]
            if char == "\\":
                step, escaped = _escape(text, at)
                parts.append(escaped)
                at += step
            elif char == quote:
                if _next(text, at + 1) in (",", ":", "}", "]", "") or _KEY_AHEAD.match(text, at + 1):
                    self.at = at + 1
                    return _joined(parts)
                self.repairs.append("quotes inside a text")
                parts.append(char)
                at += 1
            else:
                if char in "\r\n":
                    self.repairs.append("a line break inside a text")
                parts.append(char)
                at += 1
        self.at = at
        self.repairs.append(CUT_OFF)
        return CUT

    def _bare(self, is_key: bool = False) -> Any:
        match = _BARE.match(self.text, self.at)
        if match is None:
            self.at += 1
            return CUT
        word = match.group()
        self.at = match.end()
        if is_key:
            self.repairs.append("a key without quotes")
            return word
        if self.at == len(self.text):
            self.repairs.append(CUT_OFF)
            return CUT
        if word.lower() in _WORDS:
            return _WORDS[word.lower()]
        try:
            return float(word)
        except ValueError:
            self.repairs.append("a text without quotes")
            return word


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _next(text: str, at: int) -> str:
    """The next character that is not space, or ''."""
    at = _skip_space(text, at)
    return text[at : at + 1]


def _escape(text: str, at: int) -> tuple[int, str]:
    """The characters that the escape at `at` takes, and what it stands for."""
    kind = text[at + 1 : at + 2]
    if kind == "u":
        digits = text[at + 2 : at + 6]
        if len(digits) == 4 and all(digit in "0123456789abcdefABCDEF" for digit in digits):
            return 6, chr(int(digits, 16))
        return 2, "u"
    return 2, _ESCAPES.get(kind, kind)


def _joined(parts: list[str]) -> str:
    """Join, with two escaped halves of one character made whole."""
    return "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
