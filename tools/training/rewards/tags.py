"""The tags of a reply, as the published rewards read them and as the mended ones do. All of it is linear in the text.

The published patterns search anew from every tag and every space; a reply of a megabyte would hold up a step for hours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from replan import planner
from replan.planner.replies.vocabulary import REMARKS

_PROMPTS = Path(planner.__file__).with_name("asking") / "prompts"
# What the pack's own templates ask for beside reasoning, global prompt and regions.
_REMARKS = frozenset(REMARKS)
_PARTS = ("think", "gen_image", "region")
_OWN = re.compile(rf"<\s{{0,8}}(/?)\s{{0,8}}({'|'.join((*_PARTS, *sorted(_REMARKS)))})\s{{0,8}}>")
_BEFORE_SIGN, _AFTER_SIGN = re.compile(r"(?<!\s)\s+(?=[<>/])"), re.compile(r"(?<=[<>/])\s+")
# A placeholder of fewer characters is only looked for as the whole text: a word may be meant.
_LONG_PLACEHOLDER = 20


def without_space_at_signs(text: str) -> str:
    """The published cleaning: no white space around any `<`, `>` or `/`, also inside hints ("24 / 7")."""
    return _AFTER_SIGN.sub("", _BEFORE_SIGN.sub("", text))


def tidy(text: str) -> str:
    """The mended cleaning: white space inside our own tags goes, every other text stays."""
    return _OWN.sub(r"<\1\2>", text).strip()


def between(text: str, name: str) -> str | None:
    """What stands in the first pair of these tags, stripped; None without a pair."""
    start = text.find(f"<{name}>")
    end = text.find(f"</{name}>", start) if start >= 0 else -1
    return text[start + len(name) + 2 : end].strip() if end >= 0 else None


def follow(text: str, names: Sequence[str]) -> bool:
    """Whether the whole text is these tags in order, with anything inside them: `<a>.*?</a>\\s*<b>.*?</b>`."""
    if not text.startswith(f"<{names[0]}>") or not text.endswith(f"</{names[-1]}>"):
        return False
    place = len(names[0]) + 2
    for closed, opened in zip(names, names[1:], strict=False):
        seam = re.compile(rf"</{closed}>\s*<{opened}>").search(text, place)
        if seam is None:
            return False
        place = seam.end()
    return True


def blocks(text: str) -> list[str] | None:
    """The names of the tags that a tidy text is made of, each closed before the next; None if it is not.

    Tags for the pack's own remarks (answer, kind, outcome, ...) may stand anywhere and are not listed.
    """
    names, place = [], 0
    found = _OWN.finditer(text)
    for opening in found:
        closing = next(found, None)
        if opening[1] or closing is None or not closing[1] or closing[2] != opening[2]:
            return None
        if text[place : opening.start()].strip():
            return None
        names.append(opening[2])
        place = closing.end()
    return None if text[place:].strip() else [name for name in names if name not in _REMARKS]


def plain(text: str) -> str:
    """A text to compare: without case, quotes, full stops at its end, and runs of white space."""
    return " ".join(text.casefold().split()).strip(" .'\"`\u2018\u2019\u201c\u201d")


@lru_cache(maxsize=1)
def placeholders() -> dict[str, frozenset[str]]:
    """What the pack's own templates write inside think and gen_image, to be replaced and never repeated."""
    texts = [file.read_text(encoding="utf-8") for file in sorted(_PROMPTS.glob("*.txt"))]
    found = {
        name: {plain(body) for text in texts for body in re.findall(rf"<{name}>([^<]*)</{name}>", text)}
        for name in _PARTS[:2]
    }
    return {name: frozenset(bodies) for name, bodies in found.items()}


def copies(text: str, name: str, published: Sequence[str]) -> bool:
    """Whether a text repeats what a template, the published ones or the pack's, says in the place of `name`."""
    said = plain(text)
    known = (*placeholders()[name], *map(plain, published))
    return any(one == said or (len(one) >= _LONG_PLACEHOLDER and one in said) for one in known)
