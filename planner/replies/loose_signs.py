"""The signs of loose JSON: what stands for what, how keys and ends of texts look, and small steps over a text.

No pattern here looks at more than a few dozen characters, so whoever steps through a text with them stays linear.
"""

from __future__ import annotations

import re

SPACE = " \t\r\n\f\v\u00a0\u3000\u200b\u2028\ufeff"
MAY_BE_SKIPPED = frozenset(SPACE + "/")
# Signs that stand for JSON's own where a sign is expected; one character each, so places stay the same.
SIGNS = str.maketrans(
    {
        "\uff0c": ",", "\u3001": ",", "\uff1b": ",", ";": ",", "\uff1a": ":", "=": ":", "\uff1d": ":",
        "\uff3b": "[", "\u3010": "[", "\u3014": "[", "(": "[", "\uff08": "[", "\uff5b": "{",
        "\uff3d": "]", "\u3011": "]", "\u3015": "]", ")": "]", "\uff09": "]", "\uff5d": "}",
    }
)  # fmt: skip
OPENING = re.compile("[\\[{\uff3b\u3010\u3014\uff5b]")
# What may end a text that begins with that quote.
QUOTES = {
    '"': '"',
    "'": "'",
    "`": "`'",
    "\u201c": '\u201d\u201c"',
    "\u201d": '\u201d\u201c"',
    "\u2018": "\u2019\u2018'",
    "\u2019": "\u2019\u2018'",
    "\u300c": "\u300d",
    "\u300e": "\u300f",
    "\u00ab": "\u00bb",
    "\uff02": "\uff02",
}
# Where a text that begins with that quote may end, or must be looked at.
STOPS = {quote: re.compile(f"[\\\\\r\n{ends}]") for quote, ends in QUOTES.items()}
QUOTE = "\"'`\u201c\u201d\u2018\u2019\u300c\u300d\u300e\u300f\u00ab\u00bb\uff02"
BARE = re.compile(
    rf"[^\s,:;=\[\]{{}}()\uff0c\u3001\uff1b\uff1a\uff3b\uff3d\u3010\u3011\uff5b\uff5d\uff08\uff09{QUOTE}]+"
)
NAME = r"[\w][\w \-]{0,39}"
KEY_AT_END = re.compile(rf"[{QUOTE}]{NAME}\Z")
KEY_UNTIL_VALUE = re.compile(rf"({NAME}?)\s{{0,8}}[:=\uff1a]\s{{0,8}}[{QUOTE}\[{{]")
KEY = re.compile(rf"[{QUOTE}]{{1,2}}{NAME}[{QUOTE}]{{1,2}}\s{{0,64}}[:=\uff1a]|[A-Za-z_]\w{{0,39}}\s{{0,8}}[:=\uff1a]")
KEY_AHEAD = re.compile(rf"\s{{1,64}}[{QUOTE}]{NAME}[{QUOTE}]\s{{0,64}}[:=\uff1a]")
KEY_AFTER_COMMA = re.compile(rf"\s{{0,64}}[,\uff0c]\s{{0,64}}[{QUOTE}]?{NAME}[{QUOTE}]?\s{{0,8}}[:=\uff1a]")
SWALLOWED_KEY = re.compile(r"(?P<end>\s{0,64}(?:\}\s{0,64},?\s{0,64}\{|,)\s{0,64})\Z")
ENDS_WITH_BRACKETS = re.compile(r"\s{0,16}\}\s{0,16}\]?\s{0,16}$")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_LONGEST_COMMENT = 500


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


def next_sign(text: str, at: int) -> str:
    """The next character that is not space, as JSON's own where it stands for one, or ''."""
    at = skip_space(text, at)
    return text[at : at + 1].translate(SIGNS)


def read_escape(text: str, at: int) -> tuple[int, str]:
    """The characters that the escape at `at` takes, and what it stands for."""
    kind = text[at + 1 : at + 2]
    if kind == "u":
        digits = text[at + 2 : at + 6]
        if len(digits) == 4 and all(digit in "0123456789abcdefABCDEF" for digit in digits):
            return 6, chr(int(digits, 16))
        return 2, "u"
    return 2, _ESCAPES.get(kind, kind)


def joined(parts: list[str]) -> str:
    """Join, with two escaped halves of one character made whole."""
    return "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
