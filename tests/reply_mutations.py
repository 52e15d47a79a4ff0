"""Replies that no model wrote yet: mutations of the corpus and of well-formed plans, from a seed."""

from __future__ import annotations

import random
from functools import cache

from reply_corpus import load_corpus

LONGEST = 12_000  # characters; a reply of 2,048 tokens has about 8,000
PIECES = (
    *"[]{}()<>/\\\"'`,:;=.-_#*|&%\n\t 0189eEx",
    *"\u201c\u201d\u2018\u2019\uff0c\uff1a\u3001\u3010\u3011\uff5b\uff5d\uff08\uff09\u300c\u300d\uff1c\uff1e\u300a\u300b\u3000\u200b\ufeff\x00\ud83d\udc00\U0001f600",
    "<think>", "</think>", "<gen_image>", "</gen_image>", "<global>", "<region>", "</region>", "<answer>", "</answer>",
    "<image_size>",
    "<scene>", "&lt;region&gt;", "&quot;", "```json\n", "```", "~~~", "<|im_end|>", "<|box_start|>", "<ref>",
    "</ref><box>[[", "//", "/*", "*/",
    '"bbox_2d": ', '"hint": ', "'hint': ", '"label": ', '"point_2d": ', '"box_2d": ', '"bbox": ', '"id": ', '"mask": ',
    '"regions": [',
    "[1, 2, 30, 40]", "[500, 250, 750, 1000]", "[0.1, 0.2, 0.3, 0.4]", "{\"x1\": 1, ", '{"size": [2, 2], "rle": [4]}',
    "null", "None", "NaN", "Infinity", "-1e999", "9" * 400, "true",
    '{"version": 1, "image_size": [64, 48], ', '\\"', "\\u003c", "\\ud83d", "},{", "}]", "[[", "]]", "{{", "}}", '""',
    "keep ", "unchanged",
)  # fmt: skip


@cache
def seeds() -> tuple[str, ...]:
    """What mutations begin with."""
    return tuple(case.reply for case in load_corpus())


def mutated(chance: random.Random) -> str:
    """One reply after one to eight mutations."""
    text = chance.choice(seeds())
    for _ in range(chance.choice((1, 1, 2, 2, 3, 4, 6, 8))):
        text = _once(text, chance)[:LONGEST]
    return text


def _once(text: str, chance: random.Random) -> str:
    at = chance.randint(0, len(text))
    end = min(len(text), at + chance.choice((1, 1, 1, 2, 3, 5, 8, 20, 60, 200)))
    kind = chance.randrange(9)
    if kind == 0:
        return text[:at] + text[end:]
    if kind == 1:
        return text[:end] + text[at:end] + text[end:]
    if kind in (2, 3):
        return text[:at] + chance.choice(PIECES) + text[at:]
    if kind == 4:
        return text[:at] + chance.choice(PIECES) + text[end:]
    if kind == 5:
        return text[:at]
    if kind == 6:
        other = chance.choice(seeds())
        return text[:at] + other[chance.randint(0, len(other)) :]
    if kind == 7:
        piece = chance.choice((*PIECES, text[at:end] or "["))
        return text[:at] + piece * chance.choice((2, 3, 10, 100, 1000)) + text[at:]
    target = chance.randint(0, len(text))
    return text[:target] + text[at:end] + text[target:at] + text[end:] if target <= at else text[:at] + text[end:]
