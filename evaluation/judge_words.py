"""Scores, and yes or no, in a judge's own words.

What counts is a plain statement: a number with a label, so many out of five, a line that is nothing else. A scale that
is explained, a score that is denied and one that hangs on an "if" are no statements. No pattern looks at more than a
few dozen characters, so reading stays linear in the length of a reply.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

# "1 to 5", "1, 3 or 5", "1/3/5": the scale itself.
_SCALE = re.compile(
    r"(?<![\d.])1\s{0,3}(?:-|\u2013|\u2014|~|\.\.|to|through|\u81f3|\u5230)\s{0,3}(?:5|10|100)(?![\d.]\d|\d)"
    r"|(?<![\d.])1(?:\s{0,3}[,/\u3001]\s{0,3}[2-4]){1,3}\s{0,3}[,/\u3001]?\s{0,3}(?:or|and|\u6216|\u548c)?\s{0,3}5(?!\d)"
    r"|(?<![\d.])1\s{0,3},?\s{0,3}(?:or|and|\u6216|\u548c)\s{0,3}5(?!\d)"
    r"|(?:\u6ee1\u5206|\u603b\u5206)\u4e3a?\s{0,2}\d{1,3}\s{0,2}\u5206?|\d\s{0,2}\u5206\u5236",
    re.IGNORECASE,
)
_IN_WORDS = {
    "one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0,
    "\u4e00": 1.0, "\u4e8c": 2.0, "\u4e09": 3.0, "\u56db": 4.0, "\u4e94": 5.0,
}  # fmt: skip


def _number(of: str = "?") -> str:
    """The pattern of a number, perhaps out of another; not a part of one, of a range, of a word or of a question.

    of: "" where it must be out of another.
    """
    return (
        r"(?P<number>(?<![A-Za-z0-9_.,])[-+\u2212]?\d{1,9}(?:[.,]\d{1,9})?)"
        rf"(?:\s{{0,3}}(?:/|out\s{{1,3}}of|of)\s{{0,3}}(?P<of>\d{{1,4}})){of}(?P<percent>\s?%)?"
        r"(?![A-Za-z0-9_%+])(?![.,/:]\d)(?!\s{0,2}\?)"
        r"(?!\s{0,2}(?:-|\u2013|~|to|or|and|\u6216|\u81f3|\u5230)\s{0,2}\d)"
    )


# What may follow a score that has no clear label; "3 cups" and "one cup" are counts.
_NO_THING = (
    r"(?=[*_`\"'\s\])]{0,4}(?:\Z|[.,;:!()\[\]|/\n-]|(?:out|because|since|as|for|due|on|and|stars?|points?)\b|\u5206))"
)
_WORD = rf"(?P<word>{'|'.join(_IN_WORDS)})(?![A-Za-z0-9_]){_NO_THING}"
# A dash before a number is a sign of it, unless there is space between; ">3" is more than 3, "<score>3" is 3.
_GAP = r"(?:[\s*_`\"':=|()\[\]{}\u2192]|(?<=[\w=-])>|[-\u2013\u2014](?=[\s>])){0,10}"
_NAMES = r"(?:target|effect|consistency|quality)"
_LINK = (
    rf"{_GAP}(?:(?:(?:is|of|as|was|a)(?![A-Za-z])|(?:would|should|will|must)\s{{1,2}}be"
    rf"|for\s{{1,2}}(?:(?:the|this)\s{{1,2}})?(?:edit|image|{_NAMES})|\u4e3a|\u662f){_GAP}){{0,3}}"
)
_LABEL = (
    rf"(?P<label>\b(?:(?:final|overall|total|my|{_NAMES})[\s_*-]{{0,4}}){{0,2}}(?:scores?|rating|grade)(?![A-Za-z])|\\boxed"
    r"|(?:\u6700\u7ec8)?(?:\u8bc4\u5206|\u5f97\u5206|\u5206\u6570|\u6253\u5206))"
)
_STATEMENTS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_LABEL}{_LINK}(?:{_number()}|{_WORD})",
        rf"(?P<label>\b(?:(?:final\s{{1,3}})?(?:answer|verdict)(?![A-Za-z])|{_NAMES}(?=[*_`\"'\s]{{0,4}}(?:[:=]|is\b))))"
        rf"{_LINK}(?:{_number()}{_NO_THING}|{_WORD})",
        r"(?P<label>\b(?:rated?|give|gave|giving|given|assign(?:ed)?|award(?:ed)?|scored?|scores|deserves?|merits?|earns?|gets?"
        r"|receives?)\s{1,3}(?:(?:it|this|the|that|edit|edited|image|result|change|an?|as|at|with|solid"
        r"|strong|full|perfect|high|low|clear|score|rating|of|target|effect|consistency|quality)\s{1,3}){0,5})"
        rf"[*_`\"']{{0,3}}{_number()}{_NO_THING}",
        rf"(?P<label>){_number('')}",
        r"(?P<label>)(?P<number>(?<![A-Za-z0-9_.,/])(?<!of )\d{1,2})(?P<of>)(?P<percent>)\s{0,2}"
        r"(?:\u5206(?![\u949f\u4e4b\u522b\u6790\u5236\u6570])|stars?\b)",
        r"(?P<label>)(?P<word>[\u4e00\u4e8c\u4e09\u56db\u4e94])\u5206(?![\u949f\u4e4b\u522b\u6790\u5236\u6570])",
    )
]
_FINAL = re.compile(r"final|\\boxed|\u6700\u7ec8", re.IGNORECASE)
_ALONE = re.compile(rf"[\s*_`\"'(\[#>]{{0,8}}{_number()}[\s*_`\"')\].!]{{0,8}}")
_AT_START = re.compile(rf"[\s*_`\"'(\[]{{0,6}}(?:{_number()}{_NO_THING}|{_WORD})", re.IGNORECASE)

# What makes a statement none: it is denied in its own clause, hangs on a condition in its sentence or behind it, or
# explains the scale.
_SENTENCE = re.compile(r"[.!?\n;\u3002]\s")
_CLAUSE = re.compile(
    r"[,:]|\b(?:so|therefore|thus|hence|because|and|but|which|giving|resulting|leading|earning)\b|\u56e0\u6b64|\u6240\u4ee5|\u6545"
)
_DENIED = re.compile(
    r"\b(?:not|never|cannot|unable|neither|nor|refuse|without|instead|rather|than|below|above|under|least|most|between"
    r"|previous|initial(?:ly)?|almost|nearly)\b|n['\u2019]t\b|\u4e0d|\u6ca1|\u65e0\u6cd5|\u96be\u4ee5",
    re.IGNORECASE,
)
_IF = re.compile(r"\b(?:if|unless|whether)\b|\u5982\u679c|\u9664\u975e", re.IGNORECASE)
_CONDITION_BEHIND = re.compile(
    r"[ \t*_`\"'()\[\]},]{0,4}(?:(?:or|and)\s+(?:higher|lower|more|less|above|below|better)|(?:but\s+)?(?:only\s+)?if"
    r"|unless|when|means?|would|indicates?|requires?|stands|is\s+(?:for|reserved|given)|\u8868\u793a|\u610f\u5473)",
    re.IGNORECASE,
)
_LOOK_BACK = 120
# What stands around an answer: a fence, a model's own marks (<|begin_of_box|>).
_FENCE = re.compile(r"```\w{0,16}|<\|\w{1,40}\|>")
_FOR = re.compile(rf"[ \t*_]{{0,4}}(?:for|in|on)\s{{1,3}}(?:the\s{{1,3}})?(?P<name>{_NAMES})", re.IGNORECASE)

REFUSAL = re.compile(
    r"\b(?:sorry|apologi[sz]e|unable|cannot|can not|not able to|won['\u2019]t|as an ai)\b|can['\u2019]t\b"
    r"|\u62b1\u6b49|\u5bf9\u4e0d\u8d77|\u65e0\u6cd5",
    re.IGNORECASE,
)

_YES_NO = re.compile(
    r"[\s\W_]{0,12}?(?:(?P<yes>(?:yes|true)(?![\w/])|\u662f\u7684|\u662f(?!\w))"
    # "No, it is red" is an answer, "no other thing" is none.
    r"|(?P<no>no|false|\u4e0d\u662f|\u5426|\u6ca1\u6709)(?=[*_`\"'\s]{0,6}(?:\Z|[.,;:!)}\]\n\u3002-])))"
    r"(?![.,;:!\s*_`\"'-]{0,6}(?:(?:and|or)\s+(?:no|yes)|partly|partially|but|almost|mostly|\u4f46))",
    re.IGNORECASE,
)
_SAYS = r"\b(?:(?:final\s{1,3})?answer|verdict|conclusion|result|%s)(?![A-Za-z])|\u7b54\u6848|\u7ed3\u8bba"


def number_of(said: Any) -> float | None:
    """The number that a value of an object stands for: 5, "5", "5/5", "5 (all of it)", "five"; None for none.

    One that counts on another scale ("7/10", "80%") is infinite, so it is on no scale.
    """
    if isinstance(said, list) and len(said) == 1:
        said = said[0]
    if isinstance(said, (int, float)) and not isinstance(said, bool):
        try:
            return None if math.isnan(said) else float(said)
        except OverflowError:
            return math.inf
    if not isinstance(said, str):
        return None
    text = _SCALE.sub(" ", unicodedata.normalize("NFKC", said))
    match = _AT_START.match(text)
    clear = match and (match["of"] or not re.search(r"\d", text[match.end() :]))
    if match and clear and not _CONDITION_BEHIND.match(text, match.end()):
        return _value(match)
    found = {value for value, _ in _stated(text, ())}
    return found.pop() if len(found) == 1 else None


def numbers_in(text: str, others: Sequence[str] = (), label: str = "") -> list[float]:
    """The scores that a text states; only the final ones where it calls some so.

    others: names of other questions; a number with one of them as its label is theirs. label: only numbers with it.
    """
    text = _SCALE.sub(" ", unicodedata.normalize("NFKC", _FENCE.sub("", text)))
    if label:
        labelled = re.compile(rf"{re.escape(label)}{_LINK}(?:{_number()}|{_WORD})", re.IGNORECASE)
        return [_value(match) for match in labelled.finditer(text)]
    stated = _stated(text, others)
    final = [value for value, is_final in stated if is_final]
    lines = text.strip().splitlines()
    alone = _ALONE.fullmatch(lines[-1]) if lines else None
    return final or [*([_value(alone)] if alone else []), *(value for value, _ in stated)]


def _stated(text: str, others: Sequence[str]) -> list[tuple[float, bool]]:
    """The numbers that are stated, and whether each is called final."""
    found = []
    for pattern in _STATEMENTS:
        for match in pattern.finditer(text):
            label = match["label"].lower()
            sentence = _SENTENCE.split(text[max(0, match.start() - _LOOK_BACK) : match.start()])[-1]
            doubted = _IF.search(sentence) or _DENIED.search(_CLAUSE.split(sentence)[-1])
            behind = _FOR.match(text, match.end())
            theirs = any(name in label or behind and name == behind["name"].lower() for name in others)
            if theirs or doubted or _CONDITION_BEHIND.match(text, match.end()):
                continue
            found.append((_value(match), bool(_FINAL.search(label))))
    return found


def _value(match: re.Match[str]) -> float:
    groups = match.groupdict()
    if groups.get("word"):
        return _IN_WORDS[groups["word"].lower()]
    if groups["percent"] or groups["of"] not in (None, "", "5"):
        return math.inf
    return float(groups["number"].replace(",", ".").replace("\u2212", "-"))


def yes_or_no(said: Any) -> bool | None:
    """What a value of an object says: true, "yes", "No.", 1; None for anything else, also for both."""
    if isinstance(said, list) and len(said) == 1:
        said = said[0]
    if isinstance(said, str):
        match = _YES_NO.match(unicodedata.normalize("NFKC", said))
        return None if match is None else match["yes"] is not None
    return bool(said) if isinstance(said, (int, float)) and said in (0, 1) else None


def yes_or_no_in(text: str, key: str) -> list[bool]:
    """Each yes and no that a text begins with, ends in on a line of its own, or gives with a label (or `key`)."""
    text = unicodedata.normalize("NFKC", text).strip()
    lines = text.splitlines()[-1:]
    labels = re.finditer(_SAYS % re.escape(key), text, re.IGNORECASE)
    behind = [re.compile(_LINK).match(text, label.end()) for label in labels]
    found = [_YES_NO.match(text), *(_YES_NO.match(line) for line in lines)]
    found += [_YES_NO.match(text, link.end()) for link in behind if link]
    return [match["yes"] is not None for match in found if match]
