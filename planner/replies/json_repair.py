"""JSON as language models write it. Owns the repair of a region list that is not quite JSON.

One pass over the text, no regular expression over more than a few dozen characters, so the time is linear in its
length. Accepts what `json` accepts, and beyond it: quotes of any kind, unescaped or missing, raw line breaks in a
text, signs of the full-width kind, trailing, missing and other commas, missing and superfluous brackets, comments,
Python's None/True/False, keys and texts without quotes, and an end that is cut off. What it had to accept is told in
`Loose.repairs`.

Why not the package json-repair: `tools/compare_json_repair.py` reads the tests' corpus of broken replies with both,
docs/replies.md has the figures. An image is edited by what is read here, so a hint or a box that was cut off must not
pass for a whole one, each repair must be told, and a list must end where its JSON ends, also when a hint says
`</region>`. json-repair gives no position, keeps half a text as a whole one, and its log speaks of its parser. The pack
would have to require it of every user for that.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from .json_texts import CUT, CUT_OFF, KEY, KEY_AFTER_COMMA, TextReader

_MAX_DEPTH = 24
# So many lists and objects of a text may turn out not to be proper JSON before none is tried any more: a failed try
# costs time by the length of what is read before it fails.
_MOST_TRIES = 32
WITHOUT_LIST = "several values without a list around them"


class Loose(NamedTuple):
    """What was read: the values one after another, what was repaired (in words), where reading stopped, and the spans
    (start, end) in which a tag is only a word: texts in quotes, or a strict value as a whole."""

    values: list[Any]
    repairs: tuple[str, ...]
    end: int
    quoted: tuple[tuple[int, int], ...]


class _Twice(ValueError):
    """An object has a key twice: perhaps two objects in one."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


def _is_flat(value: dict[str, Any] | list[Any], deepest: int = _MAX_DEPTH) -> bool:
    """Whether lists and objects are nested no deeper than whoever walks through them can bear."""
    entries = value.values() if isinstance(value, dict) else value
    inner = [entry for entry in entries if isinstance(entry, (dict, list))]
    return not inner or deepest > 0 and all(_is_flat(entry, deepest - 1) for entry in inner)


_STRICT = json.JSONDecoder(object_pairs_hook=_once)


class Reader(TextReader):
    """Reads values at any place of one text.

    A value that is cut off is `CUT` (a key with such a value is left out). whole: whether the text ends where the reply
    ends; if it ends at a tag, brackets that are not closed are missing, not cut off.
    """

    def __init__(self, text: str, whole: bool = True):
        super().__init__(text, whole)
        self.end_of_text = CUT_OFF if whole else "missing bracket"

    def read(self, start: int) -> Loose:
        """The values from `start` on: one strict value if there is one, else as many as can be repaired.

        Text that holds no value at all gives no values; nothing is raised.
        """
        self.at, self.repairs, self.quoted = start, [], []
        self.tries = _MOST_TRIES
        values: list[Any] = []
        while self._peek() in ("{", "["):
            value = self._value(0)
            if value is not CUT:
                values.append(value)
            if len(values) == 1 and isinstance(value, list) and not self.repairs:
                break  # whole; what follows is none of it
            if self._peek() == ",":
                self.at += 1
        if len(values) > 1:
            self.repairs.append(WITHOUT_LIST)
        return Loose(values, tuple(dict.fromkeys(self.repairs)), self.at, tuple(self.quoted))

    def _strict(self) -> Any:
        """The list or object that begins here, if it is proper JSON and can be borne, else CUT."""
        if self.tries == 0:
            return CUT
        try:
            value, end = _STRICT.raw_decode(self.text, self.at)
        except (ValueError, RecursionError):
            self.tries -= 1
            return CUT
        if not _is_flat(value):
            return CUT
        self.quoted.append((self.at, end))
        self.at = end
        return value

    def _value(self, depth: int, in_object: bool = False) -> Any:
        """The value that begins at this sign."""
        first = self.signs[self.at]
        if depth > _MAX_DEPTH:
            self.repairs.append("lists nested too deeply")
            self.at = len(self.text)
            return CUT
        if first in ("{", "["):
            value = self._strict()
            return value if value is not CUT else self._object(depth) if first == "{" else self._list(depth)
        if first == '"':
            return self._string("object" if in_object else "list")
        return self._bare_value(in_object)

    # ---- objects and lists ----

    def _object(self, depth: int) -> dict[str, Any] | list[dict[str, Any]]:
        """An object; a list of several where the first key comes again, because a brace and a comma were left out."""
        self.at += 1
        found: dict[str, Any] = {}
        earlier: list[dict[str, Any]] = []

        def done() -> dict[str, Any] | list[dict[str, Any]]:
            return [*earlier, found] if earlier else found

        while True:
            first = self._peek()
            if first == "}":
                self.at += 1
                return done()
            if first == "":
                self.repairs.append(self.end_of_text)
                return done()
            if first == "]":
                if KEY_AFTER_COMMA.match(self.text, self.at + 1):
                    self._skip_signs("]", "}")
                    continue
                self.repairs.append("missing brace")  # the list around it ends
                return done()
            if first == "{" and found:
                self.repairs.append("missing brace")  # the next object begins
                return done()
            if first in (",", ":", "{", "["):
                self._skip_signs(first, "}")
                continue
            key = self._string("key") if first == '"' else self._bare_key()
            first = self._peek()
            if first == '"' and self.signs[self.at + 1 : self.at + 64].lstrip()[:1] == ":":
                self.at += 1  # a key without its opening quote
                first = self._peek()
            if first == ":":
                self.at += 1
            elif first in ("[", '"') and key is not CUT:
                self.repairs.append("missing colon")
            else:
                self.repairs.append("a key without a value")
                continue
            value = self._value(depth + 1, in_object=True) if self._peek() not in (",", "}", "") else CUT
            if value is not CUT and isinstance(key, str):
                if len(found) > 1 and key == next(iter(found)):
                    self.repairs.append("several objects in one")
                    earlier.append(found)
                    found = {}
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
                self.repairs.append(self.end_of_text)
                return found  # its last value is not in it if that was cut
            if first == "}" and depth > 0:  # the object around it ends: the closing bracket is missing
                self.repairs.append("missing bracket")
                return found
            if first in (",", ":", "}"):
                self._skip_signs(first, "]")
                continue
            before = self.at
            if found and depth > 0 and isinstance(found[-1], (int, float)) and KEY.match(self.text, before):
                self.repairs.append("missing bracket")  # a key of the object around it
                return found
            value = self._value(depth + 1)
            if value is not CUT:
                found.append(value)
            if self._peek() not in (",", "]", ""):
                self.repairs.append("missing comma")

    def _skip_signs(self, sign: str, closing: str) -> None:
        """Past a sign where none should be, and more of it."""
        began = self.at
        while self.signs.startswith(sign, self.at):
            self.at += 1
        if sign != ",":
            self.repairs.append(f"stray '{sign}'")
        elif self.at > began + 1 or self._peek() in (closing, ","):
            self.repairs.append("trailing comma")
