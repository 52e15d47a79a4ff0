"""Texts, keys and words of JSON as language models write it: where each ends, whatever quotes it has or lacks.

The part of `loose_json` that looks at characters; objects and lists are there.
"""

from __future__ import annotations

from typing import Any

from .loose_signs import (
    BARE,
    ENDS_WITH_BRACKETS,
    KEY,
    KEY_AHEAD,
    KEY_AT_END,
    KEY_UNTIL_VALUE,
    MAY_BE_SKIPPED,
    QUOTE,
    QUOTES,
    SIGNS,
    STOPS,
    SWALLOWED_KEY,
    joined,
    read_escape,
    skip_space,
)

# A value whose text was cut off in the middle: half a hint or half a box is worse than none.
CUT = object()
# The repair that says so.
CUT_OFF = "text cut off"

_WORDS = {"true": True, "false": False, "null": None, "none": None, "nan": float("nan")}


class TextReader:
    """Reads texts, keys and words at a place of one text, and moves on behind them."""

    def __init__(self, text: str):
        self.text = text
        self.signs = text.translate(SIGNS)
        self.at = 0
        self.repairs: list[str] = []

    def _peek(self) -> str:
        """The next sign: JSON's own for any that stands for it, '"' for any quote that opens a text."""
        found = self.signs[self.at : self.at + 1]
        if found in MAY_BE_SKIPPED:  # asked before every sign: most are none of these
            self.at = skip_space(self.text, self.at)
            found = self.signs[self.at : self.at + 1]
        return '"' if found in QUOTES else found

    def _next_sign(self, at: int) -> str:
        found = self.signs[at : at + 1]
        if found in MAY_BE_SKIPPED:
            at = skip_space(self.text, at)
            found = self.signs[at : at + 1]
        return found

    def _string(self, role: str) -> Any:
        """A text up to the quote that is followed by what may follow it; other quotes belong to the text.

        role: `key`, `object` (a value of one) or `list` (a member of one).
        """
        quote = self.text[self.at]
        if quote != '"':
            self.repairs.append("single quotes" if quote == "'" else "quotes of another kind")
        closings = QUOTES[quote]
        doubled = self.text[self.at + 1 : self.at + 2] == quote and self.text[self.at + 2 : self.at + 3].isalnum()
        if doubled:
            self.repairs.append("doubled quotes")
            self.at += 1
        self.at += 1
        parts: list[str] = []
        text, start, at = self.text, self.at, self.at
        if role == "key":
            name = KEY_UNTIL_VALUE.match(text, start)
            if name:
                self.repairs.append("a missing quote")
                self.at = name.end(1)
                return name[1].strip()
        stops = STOPS[quote]
        while at < len(text):
            stop = stops.search(text, at)
            if stop is None:
                parts.append(text[at:])
                at = len(text)
                break
            if stop.start() > at:
                parts.append(text[at : stop.start()])
                at = stop.start()
            char = text[at]
            if char == "\\":
                step, escaped = read_escape(text, at)
                parts.append(escaped)
                at += step
            elif char in closings:
                after = at + 1 + (doubled and text[at + 1 : at + 2] == quote)
                if self._closes(after, role):
                    self.at = after
                    return joined(parts)
                if role != "key" and self._next_sign(at + 1) == ":":
                    end = self._before_swallowed_key(start, at)
                    if end is not None:
                        self.repairs.append("a missing quote")
                        self.at = end
                        return text[start:end].strip()
                self.repairs.append("quotes inside a text")
                parts.append(char)
                at += 1
            else:
                if role == "key":  # no key runs over a line: its closing quote is missing, and much after it is text
                    break
                self.repairs.append("a line break inside a text")
                parts.append(" " if parts and parts[-1][-1:] != " " else "")
                at += 1
        return self._unclosed(start, at, role)

    def _closes(self, at: int, role: str) -> bool:
        """Whether a text may end before `at`."""
        sign = self._next_sign(at)
        if role == "key":
            return sign in ("", ":", ",", "}", "[") or sign in QUOTES
        if sign in ("}", "]", ""):
            return True
        if sign == ",":
            if role == "list":
                return True
            after = skip_space(self.text, skip_space(self.text, at) + 1)
            return self.signs[after : after + 1] in ("", "{", "}", "]", ",") or KEY.match(self.text, after) is not None
        if role == "list":
            return sign == "" or sign in "{["
        return KEY_AHEAD.match(self.text, at) is not None or (sign == "{" and role != "key")

    def _before_swallowed_key(self, start: int, at: int) -> int | None:
        """Where a text ended if the quote at `at` ends a key: before the comma or brace in front of that key."""
        key = KEY_AT_END.search(self.text, max(start, at - 48), at)
        if key is None or self.text[max(start, key.start() - 64) : key.start()].rstrip()[-1:] not in (",", "{"):
            return None
        window = max(start, key.start() - 128)
        end = SWALLOWED_KEY.search(self.text[window : key.start()])
        return None if end is None else window + end.start("end")

    def _unclosed(self, start: int, at: int, role: str) -> Any:
        """A text whose closing quote never came: whole if the brackets after it are there, else cut off."""
        if role == "object":
            brackets = ENDS_WITH_BRACKETS.search(self.text, max(start, len(self.text) - 50))
            if brackets:
                self.repairs.append("a missing quote")
                self.at = brackets.start()
                return self.text[start : self.at]
        self.at = at
        self.repairs.append(CUT_OFF)
        return CUT

    def _bare_key(self) -> Any:
        match = BARE.match(self.text, self.at)
        if match is None:
            self.at += 1
            return CUT
        self.at = match.end()
        self.repairs.append("a key without quotes")
        return match.group()

    def _bare_value(self, in_object: bool) -> Any:
        """A number, a word of JSON or Python, or a text without quotes."""
        match = BARE.match(self.text, self.at)
        if match is None:
            self.at += 1
            return CUT
        start, word = self.at, match.group()
        self.at = match.end()
        if self.at == len(self.text):
            self.repairs.append(CUT_OFF)
            return CUT
        if word.lower() in _WORDS:
            return _WORDS[word.lower()]
        try:
            return float(word)
        except ValueError:
            pass
        self.repairs.append("a text without quotes")
        return self._bare_text(start) if in_object else word

    def _bare_text(self, start: int) -> str:
        """The rest of a text without quotes: up to a bracket, a line's end, its closing quote or the next key."""
        text, at = self.text, self.at
        while at < len(text) and text[at] not in "{}[]\r\n" and at < start + 2000:
            if text[at] in QUOTE and self._closes(at + 1, "object"):
                self.at = at + 1
                return text[start:at].strip()
            if text[at] == ",":
                after = skip_space(text, at + 1)
                if not text[after : after + 1].isalpha() or KEY.match(text, after):
                    break
            at += 1
        self.at = at
        return text[start:at].strip()
