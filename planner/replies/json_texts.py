"""The signs, texts, keys and words of JSON as language models write it: where each ends, whatever its quotes.

The part of `json_repair` that looks at characters; objects and lists are there. No pattern here looks at more than a
few dozen characters, so whoever steps through a text with them stays linear in its length.
"""

from __future__ import annotations

import re
from typing import Any

# A value whose text was cut off in the middle: half a hint or half a box is worse than none.
CUT = object()
# The repair that says so.
CUT_OFF = "text cut off"

SPACE = " \t\r\n\f\v\u00a0\u3000\u200b\u2028\ufeff"
_MAY_BE_SKIPPED = frozenset(SPACE + "/")
# What may end a text that begins with that quote.
_QUOTES = {
    '"': '"', "'": "'", "`": "`'", "\u201c": '\u201d\u201c"', "\u201d": '\u201d\u201c"', "\u2018": "\u2019\u2018'",
    "\u2019": "\u2019\u2018'",
    "\u300c": "\u300d", "\u300e": "\u300f", "\u00ab": "\u00bb", "\uff02": "\uff02",
}  # fmt: skip
# Signs that stand for JSON's own where a sign is expected; one character each, so places stay the same.
_SIGNS = str.maketrans(
    {
        "\uff0c": ",", "\u3001": ",", "\uff1b": ",", ";": ",", "\uff1a": ":", "=": ":", "\uff1d": ":",
        "\uff3b": "[", "\u3010": "[", "\u3014": "[", "(": "[", "\uff08": "[", "\uff5b": "{",
        "\uff3d": "]", "\u3011": "]", "\u3015": "]", ")": "]", "\uff09": "]", "\uff5d": "}",
        **dict.fromkeys(_QUOTES, '"'),
    }
)  # fmt: skip
# Where a text that begins with that quote may end, or must be looked at.
_STOPS = {quote: re.compile(rf"[\r\n]+|[\\{ends}]") for quote, ends in _QUOTES.items()}
_QUOTE = "\"'`\u201c\u201d\u2018\u2019\u300c\u300d\u300e\u300f\u00ab\u00bb\uff02"
_BARE = re.compile(
    rf"[^\s,:;=\[\]{{}}()\uff0c\u3001\uff1b\uff1a\uff3b\uff3d\u3010\u3011\uff5b\uff5d\uff08\uff09{_QUOTE}]+"
)
_NAME = r"[\w][\w \-]{0,39}"
_KEY = re.compile(_NAME)
_KEY_UNTIL_VALUE = re.compile(rf"({_NAME}?)\s{{0,8}}[:=\uff1a]\s{{0,8}}[{_QUOTE}\[{{]")
KEY = re.compile(
    rf"[{_QUOTE}]{{1,2}}{_NAME}[{_QUOTE}]{{1,2}}\s{{0,64}}[:=\uff1a]|[A-Za-z_]\w{{0,39}}\s{{0,8}}[:=\uff1a]"
)
_KEY_AHEAD = re.compile(rf"\s{{1,64}}[{_QUOTE}]{_NAME}[{_QUOTE}]\s{{0,64}}[:=\uff1a]")
KEY_AFTER_COMMA = re.compile(rf"\s{{0,64}}[,\uff0c]\s{{0,64}}[{_QUOTE}]?{_NAME}[{_QUOTE}]?\s{{0,8}}[:=\uff1a]")
_SWALLOWED_KEY = re.compile(r"(?P<end>\s{0,64}(?:\}\s{0,64},?\s{0,64}\{|,)\s{0,64})\Z")
_ENDS_WITH_BRACKETS = re.compile(r"\s{0,16}\}\s{0,16}\]?\s{0,16}$")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_WORDS = {"true": True, "false": False, "null": None, "none": None, "nan": float("nan")}
_LONGEST_COMMENT = 500
_LONGEST_WHOLE_NUMBER = 18


def skip_space(text: str, at: int) -> int:
    """Past space and comments."""
    length = len(text)
    while at < length:
        sign = text[at]
        if sign in SPACE:
            at += 1
        elif sign == "/" and text[at + 1 : at + 2] in ("/", "*"):
            closing = "\n" if text[at + 1] == "/" else "*/"
            end = text.find(closing, at, at + _LONGEST_COMMENT)
            if end < 0 and length > at + _LONGEST_COMMENT:
                break
            at = length if end < 0 else end + len(closing)
        else:
            break
    return at


def _read_escape(text: str, at: int) -> tuple[int, str]:
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


class TextReader:
    """Reads texts, keys and words at a place of one text, and moves on behind them.

    whole: whether the text ends where the reply ends. quoted: where whole texts in quotes lie (start, end), for whoever
    asks whether a tag is only a word there.
    """

    def __init__(self, text: str, whole: bool = True):
        self.text, self.whole = text, whole
        self.signs = text.translate(_SIGNS)
        self.at = 0
        self.repairs: list[str] = []
        self.quoted: list[tuple[int, int]] = []

    def _peek(self) -> str:
        """The next sign, which becomes the place to read on from."""
        found = self.signs[self.at : self.at + 1]
        if found in _MAY_BE_SKIPPED:  # asked before every sign: most are none of these
            self.at = skip_space(self.text, self.at)
            found = self.signs[self.at : self.at + 1]
        return found

    def _next_sign(self, at: int) -> str:
        """The first sign from `at` on that is not space: JSON's own for any that stands for it, '' at the end."""
        found = self.signs[at : at + 1]
        if found in _MAY_BE_SKIPPED:
            at = skip_space(self.text, at)
            found = self.signs[at : at + 1]
        return found

    def _string(self, role: str) -> Any:
        """A text up to the quote that is followed by what may follow it; other quotes belong to the text.

        role: `key`, `object` (a value of one) or `list` (a member of one).
        """
        text, began = self.text, self.at
        quote = text[began]
        if quote != '"':
            self.repairs.append("single quotes" if quote == "'" else "quotes of another kind")
        doubled = text[began + 1 : began + 2] == quote and text[began + 2 : began + 3].isalnum()
        if doubled:
            self.repairs.append("doubled quotes")
        start = began + 1 + doubled
        name = _KEY_UNTIL_VALUE.match(text, start) if role == "key" else None
        if name:
            self.repairs.append("a missing quote")
            self.at = name.end(1)
            return name[1].strip()
        parts: list[str] = []
        taken = start
        for stop in _STOPS[quote].finditer(text, start):
            at = stop.start()
            if at < taken:  # behind the sign that an escape began with
                continue
            if text[at] == "\\":
                step, escaped = _read_escape(text, at)
                parts += (text[taken:at], escaped)
                taken = at + step
            elif text[at] in "\r\n":
                if role == "key":  # no key runs over a line: its closing quote is missing, and much after it is text
                    return self._unclosed(start, at, role)
                self.repairs.append("a line break inside a text")
                before = text[taken:at]
                parts += (before, "" if before[-1:] in ("", " ") else " ")
                taken = stop.end()
            else:
                after = at + 1 + (doubled and text[at + 1 : at + 2] == quote)
                sign = self._next_sign(after)
                if self._closes(after, sign, role):
                    self.at = after
                    self.quoted.append((began, after))
                    return _joined([*parts, text[taken:at]])
                end = self._before_swallowed_key(start, at) if sign == ":" and role != "key" else None
                if end is not None:
                    self.repairs.append("a missing quote")
                    self.at = end
                    return text[start:end].strip()
                self.repairs.append("quotes inside a text")
        return self._unclosed(start, len(text), role)

    def _closes(self, at: int, sign: str, role: str) -> bool:
        """Whether a text may end before `at`, where `sign` is the next sign."""
        if role == "key":
            return sign in ("", ":", ",", "}", "[", '"')
        if sign in ("}", "]", ""):
            return True
        if sign == ",":
            if role == "list":
                return True
            after = skip_space(self.text, skip_space(self.text, at) + 1)
            return self.signs[after : after + 1] in ("", "{", "}", "]", ",") or KEY.match(self.text, after) is not None
        if role == "list":
            return sign in "{["
        return _KEY_AHEAD.match(self.text, at) is not None or sign == "{"

    def _before_swallowed_key(self, start: int, at: int) -> int | None:
        """Where a text ended if the quote at `at` ends a key: before the comma or brace in front of that key."""
        quote = self.signs.rfind('"', max(start, at - 48), at)
        if quote < 0 or self.signs[max(start, quote - 64) : quote].rstrip()[-1:] not in (",", "{"):
            return None
        if not _KEY.fullmatch(self.text, quote + 1, at):
            return None
        window = max(start, quote - 128)
        end = _SWALLOWED_KEY.search(self.text[window:quote])
        return None if end is None else window + end.start("end")

    def _unclosed(self, start: int, at: int, role: str) -> Any:
        """A text whose closing quote never came: whole if the brackets after it are there, else cut off."""
        if role == "object":
            brackets = _ENDS_WITH_BRACKETS.search(self.text, max(start, len(self.text) - 50))
            if brackets:
                self.repairs.append("a missing quote")
                self.at = brackets.start()
                return self.text[start : self.at]
        self.at = at
        self.repairs.append(CUT_OFF)
        return CUT

    def _bare_key(self) -> Any:
        match = _BARE.match(self.text, self.at)
        if match is None:
            self.at += 1
            return CUT
        self.at = match.end()
        self.repairs.append("a key without quotes")
        return match.group()

    def _bare_value(self, in_object: bool) -> Any:
        """A number, a word of JSON or Python, or a text without quotes."""
        match = _BARE.match(self.text, self.at)
        if match is None:
            self.at += 1
            return CUT
        start, word = self.at, match.group()
        self.at = match.end()
        if self.at == len(self.text) and self.whole:
            self.repairs.append(CUT_OFF)
            return CUT
        if (known := word.lower()) in _WORDS:
            return _WORDS[known]
        try:
            return int(word) if len(word) <= _LONGEST_WHOLE_NUMBER and word.isdecimal() else float(word)
        except ValueError:
            pass
        self.repairs.append("a text without quotes")
        return self._bare_text(start) if in_object else word

    def _bare_text(self, start: int) -> str:
        """The rest of a text without quotes: up to a bracket, a line's end, its closing quote or the next key."""
        text, at = self.text, self.at
        while at < len(text) and text[at] not in "{}[]\r\n" and at < start + 2000:
            if text[at] in _QUOTE and self._closes(at + 1, self._next_sign(at + 1), "object"):
                self.at = at + 1
                return text[start:at].strip()
            if text[at] == ",":
                after = skip_space(text, at + 1)
                if not text[after : after + 1].isalpha() or KEY.match(text, after):
                    break
            at += 1
        self.at = at
        return text[start:at].strip()
