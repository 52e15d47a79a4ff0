"""Texts that a hint quotes, which the edited image should show; and whether a text that was read is one of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Texts in quotes of any kind. A mark behind a letter or a digit opens none (it is an apostrophe, or inches), and one
# before a letter closes none.
_QUOTED = re.compile(
    "|".join(
        (
            r'(?<!\w)"(?=\S)([^"\n]{1,200})"(?!\w)',
            r"\u201c([^\u201c\u201d\n]{1,200})\u201d",
            r"\u201e([^\u201c\u201d\u201e\n]{1,200})[\u201c\u201d]",
            r"\u00ab([^\u00ab\u00bb\n]{1,200})\u00bb",
            r"\u300c([^\u300c\u300d\n]{1,200})\u300d",
            r"\u300e([^\u300e\u300f\n]{1,200})\u300f",
            r"(?<!\w)['\u2018](?=\S)((?:[^'\u2018\u2019\n]|['\u2019](?=\w)){1,200})['\u2019](?!\w)",
            r"(?<!\w)`(?=\S)([^`\n]{1,200})`(?!\w)",
        )
    )
)
_KIND = r"(?:(?:the|a|an)\s+)?(?:(?:old|new|current|text|words?|letters?|title|number|name|date|price|label)\s+){0,3}"
# What leads to a text that should be gone: "instead of 'A'", "replace 'A'".
_LEADS_TO_OLD = re.compile(
    r"(?:\b(?:instead\s+of|rather\s+than|in\s+place\s+of|not|no\s+longer|from|formerly|previously|without|remov\w{1,4}"
    r"|delet\w{1,4}|eras\w{1,4}|replac(?:e|es|ing)|was)\s+" + _KIND + r"|\u800c\u4e0d\u662f|\u4ee3\u66ff"
    r"|\u53bb\u6389|\u5220\u9664|\u539f\u6765\u7684|\u539f\u6587)[\s:]{0,4}\Z",
    re.IGNORECASE,
)
# What stands between an old text and the new one: "'A' is replaced with 'B'", "'A' to 'B'".
_BECOMES = re.compile(
    r"[\s,]{0,4}(?:(?:is|was|are|be|been|being|and|then|now|has|have|should|text|words?|replaced|changed|turned|rewritten"
    r"|corrected|updated|translated|switched|swapped|edited|modified|converted|renamed)\s+){0,6}"
    r"(?:(?:with|into|to|by|becomes?)\s+" + _KIND + r"|-{1,2}>|=>|\u2192"
    r"|.{0,6}(?:\u6539\u4e3a|\u6539\u6210|\u6362\u6210|\u66ff\u6362\u4e3a|\u66ff\u6362\u6210|\u53d8\u4e3a|\u53d8\u6210))"
    r"[\s:]{0,4}",
    re.IGNORECASE,
)
_LOOK_BACK = 60


def quoted_texts(hint: str) -> tuple[str, ...]:
    """The texts in quotes that should be seen after the edit, in order; not those that are to be replaced."""
    found = list(_QUOTED.finditer(hint))
    new = []
    for number, match in enumerate(found):
        ahead = hint[max(0, match.start() - _LOOK_BACK) : match.start()]
        follower = found[number + 1] if number + 1 < len(found) else None
        becomes = follower and _BECOMES.fullmatch(hint, match.end(), follower.start())
        text = _folded(match[match.lastindex or 0])
        if text and not becomes and not _LEADS_TO_OLD.search(ahead):
            new.append(text)
    return tuple(dict.fromkeys(new))


def texts_in_quotes(text: str) -> list[str]:
    """Every text in quotes, in order."""
    return [match[match.lastindex or 0] for match in _QUOTED.finditer(text)]


def is_shown(text: str, seen: Sequence[str]) -> bool:
    """Whether `text` is one of the texts that were seen, or several lines of them one after another, exactly.

    Only the form of characters (Unicode NFC) and the kind and length of white space make no difference.
    """
    wanted = _folded(text)
    lines = [line for piece in seen for line in map(_folded, piece.splitlines()) if line]
    for start in range(len(lines)):
        joined = ""
        for line in lines[start : start + len(wanted)]:
            joined = f"{joined}{' ' if joined and not (_is_wide(joined[-1]) or _is_wide(line[0])) else ''}{line}"
            if len(joined) >= len(wanted):
                break
        if joined == wanted:
            return True
    return False


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _is_wide(sign: str) -> bool:
    """Whether it is of a script that puts no space between words (Chinese, Japanese)."""
    return unicodedata.east_asian_width(sign) in "WF"
