"""What the rule matrix on the page has to know of rules, so that it is written down once, here and in `rules`.

The node sends it to the page as a part of its schema (nodes/rules.py); `web/js/rules` holds no table of its own.
"""

from __future__ import annotations

from .components import KINDS, PER_REGION, REFERENCE
from .families import FAMILIES
from .rules import AUTO, PRESETS

# As in docs/rules.md, and what a component is; both in the order of KINDS.
SHORT_NAMES = ("Main", "ImgP", "H", "N", "I", "N.BG", "I.BG", "Ref")
_WORDS = (
    "the global prompt",
    "the images inside the text (Qwen only)",
    "the hint",
    "patches of the image being made",
    "patches of the edited reference image",
    "patches of the image being made that lie in no region",
    "patches of the edited reference image that lie in no region",
    "further reference images",
)


def rules_for_page() -> dict:
    """Kinds of component and the presets' tables, as a value for JSON.

    kinds: name, label, words and owner ("region", "reference" or "") of each. presets: name -> {"after": rows,
    "before": rows or None}; a row is one query kind, each character one key kind: x sees it, - does not, o sees
    only what belongs to its own region. auto: the name of the preset that is none of these, but the one that `families`
    gives for the model. families: name -> {"preset", "switch": the share of the steps before the switch,
    "image_prompt": whether its text may hold images}.
    """
    kinds = [
        {"name": name, "label": label, "words": words, "owner": _owner(kind)}
        for kind, (name, label, words) in enumerate(zip(KINDS, SHORT_NAMES, _WORDS, strict=True))
    ]
    presets = {
        preset.name: {
            phase: None if table is None else ["".join(map(_sign, row)) for row in table.tolist()]
            for phase, table in (("before", preset.before), ("after", preset.after))
        }
        for preset in PRESETS.values()
    }
    families = {
        family.name: {"preset": family.preset, "switch": family.switch, "image_prompt": family.image_prompt}
        for family in FAMILIES.values()
    }
    return {"kinds": kinds, "presets": presets, "auto": AUTO, "families": families}


def _owner(kind: int) -> str:
    return "region" if kind in PER_REGION else "reference" if kind == REFERENCE else ""


def _sign(cell: list[bool]) -> str:
    return {(True, True): "x", (False, False): "-", (True, False): "o"}[tuple(cell)]
