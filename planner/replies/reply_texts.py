"""The words of a reply, without what a model leaves around them: marks, fences, quotes, half a tag, an empty phrase."""

from __future__ import annotations

import re

from ..plan import KEEP_UNCHANGED, shown
from ..plans.lint import ECHOED_PROMPTS
from ..plans.tags import MEANINGS, unescaped
from .notices import Notices
from .regions import whole_characters

_QUOTES = "'\"\u2018\u2019\u201c\u201d"
_SPECIAL = re.compile(r"<\|[A-Za-z_]{1,30}\|>|<(?:end_of_turn|start_of_turn|eos|bos|/?s|pad)>")
_PARTIAL_TAG = re.compile(r"<\s{0,4}(/?)\s{0,4}([A-Za-z_]{0,12})\Z")
_FENCE_LINE = re.compile(r"^\s{0,8}(?:```|~~~)\w{0,16}[ \t]{0,8}$|(?:```|~~~)\Z", re.MULTILINE)
_NOTHING = re.compile(
    r"\W{0,8}(?:none|null|nil|empty|nothing|n/?a|no (?:global|overall|local|regional|changes?|edits?|regions?)\b[^.\n]{0,60}|\u65e0|\u6ca1\u6709)\W{0,8}",
    re.IGNORECASE,
)


def says_nothing(text: str) -> bool:
    """Whether a text is only a way to say that there is nothing: "None", "no local edits are needed"."""
    return _NOTHING.fullmatch(text) is not None


def clean_text(block: str, own: bool) -> str:
    """The words of a block; of a text that the pack did not write itself, without a model's marks and fences."""
    text = unescaped(block)
    if own:
        return text
    text = _FENCE_LINE.sub("", _SPECIAL.sub("", text)).strip()
    cut = _PARTIAL_TAG.search(text)
    if cut and (cut[1] or cut[2]) and any(name.startswith(cut[2].lower()) for name in MEANINGS):
        text = text[: cut.start()]
    return text.strip().removeprefix("**").removesuffix("**").strip()


def clean_prompt(block: str, own: bool, warnings: Notices, where: str = "<gen_image>") -> str:
    """The global prompt that a block says, or the placeholder if it says none; `where` names it in a warning."""
    text = whole_characters(clean_text(block, own), "the global prompt", warnings)
    plain = text.strip(_QUOTES + " .\n").casefold()
    if not text.strip():
        if where == "<gen_image>":
            warnings.add(
                "no_global_prompt",
                f"the text has no <gen_image> block with text: the global prompt is {KEEP_UNCHANGED!r}",
            )
        else:
            warnings.add("no_global_prompt", f"{where} has no global prompt: it is {KEEP_UNCHANGED!r}")
        return KEEP_UNCHANGED
    if plain == KEEP_UNCHANGED.rstrip("."):
        return KEEP_UNCHANGED
    if own:
        return text
    if says_nothing(text):
        return KEEP_UNCHANGED
    if plain.startswith(ECHOED_PROMPTS):
        warnings.add(
            "template_echo",
            f"the global prompt {shown(text)} is copied from the planner's instructions; it is {KEEP_UNCHANGED!r} instead",
        )
        return KEEP_UNCHANGED
    quoted = len(text) > 2 and (text[0], text[-1]) in (
        ('"', '"'),
        ("`", "`"),
        ("\u201c", "\u201d"),
        ("\u2018", "\u2019"),
    )
    return text[1:-1].strip() if quoted and text[0] not in text[1:-1] else text
