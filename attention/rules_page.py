"""The rule matrix of the page: what it shows of a stored text, and what a press makes of it.

The page draws and sends presses (web/js/rules); every sign is read from the table that acts, so nothing is decided
twice. The words for the kinds of component come to the page as a part of the node's schema (nodes/rules.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .components import IMAGE_PROMPT, KINDS, PER_REGION, REFERENCE, Component, components
from .families import FAMILIES
from .rules import ANOTHER, AUTO, EVERY, PRESETS, Phase, Rules, make_rules, owner_of

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
_WILD = (EVERY, ANOTHER)
# Two owners that stand for any two: nobody's region or reference is called so.
_ANY = ("\0one", "\0two")
# "x" sees, "-" does not; of a row or column for all: "o" each region its own only, "d" those of others only.
_SIGNS = {(True, True): "x", (False, False): "-", (True, False): "o", (False, True): "d"}


def rules_for_page() -> dict:
    """What the page needs before it asks, as a value for JSON.

    kinds: name, label, words and owner ("region", "reference" or "") of each. auto: the name of the preset that takes
    the family's.
    """
    kinds = [
        {"name": name, "label": label, "words": words, "owner": _sort_of(kind)}
        for kind, (name, label, words) in enumerate(zip(KINDS, SHORT_NAMES, _WORDS, strict=True))
    ]
    return {"kinds": kinds, "auto": AUTO}


def matrix_for_page(
    text: str,
    preset: str,
    family: str,
    regions: Sequence[str],
    changes: Iterable[Mapping[str, Any]] = (),
    switch: float = -1.0,
    switch_step: int = -1,
) -> dict:
    """A stored rule matrix as the page shows it, after `changes`.

    preset, family, switch, switch_step: what the node's widgets hold. regions: the ids that have rows, `other` among
    them where "another region" has. changes: {phase, query, key, value}; value true, false, None for the preset's, or
    "next" for what a press gives: another sign, and in the end the preset's again. Or {phases: 2}, which gives the
    steps before the switch the cells there are as their own, and {phases: 1}, which takes them away.

    The answer: text, with the changes in it; value, what the last change gave; cells, how many are set; named, the
    regions that cells name; names of rows and columns; before and after, a row of words for each name ("x changed
    set": the sign, then `changed` from the preset, `set` by a cell, `fixed`), before None without two phases;
    own_before, whether the text and not the preset has that phase; when, in words, the steps of it. RegionError for a
    text that cannot be read.
    """
    matrix = _Matrix(text, preset, family)
    value = None
    for change in changes:
        value = matrix.set_phases(**change) if "phases" in change else matrix.set_cell(**change)
    names = matrix.names(regions)
    two = matrix.rules.two_phases
    return {
        "text": matrix.text,
        "value": value,
        "cells": sum(len(matrix.cells(phase)) for phase in ("before", "after")),
        "named": matrix.named("region"),
        "names": names,
        "before": matrix.states("before", names) if two else None,
        "after": matrix.states("after", names),
        "own_before": two and PRESETS[matrix.rules.preset].before is None,
        "when": _when(family, switch, switch_step),
    }


def _when(family: str, switch: float, switch_step: int) -> str:
    if switch_step >= 0:
        return f"the first {switch_step} steps"
    if switch < 0 and family not in FAMILIES:
        shares = ", ".join(f"{one.switch:.0%} ({one.name})" for one in FAMILIES.values())
        return f"the first {shares} of the noise schedule"
    return f"the first {switch if switch >= 0 else FAMILIES[family].switch:.0%} of the noise schedule"


class _Matrix:
    """The JSON of a rule matrix over a preset, and what its cells amount to."""

    def __init__(self, text: str, preset: str, family: str):
        self.preset = preset
        self.family = family if family in FAMILIES else next(iter(FAMILIES))
        self.image_prompt = family not in FAMILIES or FAMILIES[family].image_prompt or KINDS[IMAGE_PROMPT] in text
        self._read(text)

    def _read(self, text: str) -> None:
        self.rules: Rules = make_rules(self.preset, matrix=text)[0].for_family(self.family)
        self.data: dict = json.loads(text) or {} if text.strip() else {}
        self.text = text

    def cells(self, phase: Phase) -> dict[str, bool]:
        return self.data.get(phase, {})

    def set_phases(self, phases: int) -> None:
        before = {"before": self.cells("after")} if phases == 2 else {}
        self._read(self._written({**{name: one for name, one in self.data.items() if name != "before"}, **before}))

    def set_cell(self, phase: Phase, query: str, key: str, value: bool | str | None) -> bool | None:
        """Set one cell, or take it away (None); returns the value, for "next" the one that it came to.

        A cell that would change nothing is not stored.
        """
        if _is_fixed(query, key, _pairs(query, key)):
            return None
        signs = {one: self._sign_with(phase, query, key, one) for one in (None, True, False)}
        if value == "next":
            choices = [one for one in signs if one is None or signs[one] != signs[None]]
            now = [signs[one] for one in choices].index(self._sign(self.rules, phase, query, key))
            value = choices[(now + 1) % len(choices)]
        kept = None if signs[value] == signs[None] else value
        if kept != self.cells(phase).get(f"{query}|{key}"):
            self._read(self._with(phase, query, key, kept))
        return value

    def _with(self, phase: Phase, query: str, key: str, value: bool | None) -> str:
        cells = {cell: allowed for cell, allowed in self.cells(phase).items() if cell != f"{query}|{key}"}
        if value is not None:
            cells[f"{query}|{key}"] = value
        return self._written({**self.data, phase: cells})

    @staticmethod
    def _written(data: dict) -> str:
        """The matrix as JSON, "" if it sets nothing. An empty before-phase stays: it makes two phases."""
        kept = {
            name: data[name]
            for name in ("version", "before", "after")
            if data.get(name) or (name == "before" and name in data)
        }
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":")) if kept else ""

    def _sign_with(self, phase: Phase, query: str, key: str, value: bool | None) -> str:
        changed = make_rules(self.preset, matrix=self._with(phase, query, key, value))[0].for_family(self.family)
        return self._sign(changed, phase, query, key)

    def named(self, sort: str) -> list[str]:
        """The ids of regions (`other` too), or the numbers of references, that cells name."""
        names = [name for phase in ("before", "after") for cell in self.cells(phase) for name in cell.split("|", 1)]
        found = [owner_of(name) for name in names if _sort(name) == sort]
        return [one for one in dict.fromkeys(found) if one != EVERY]

    def names(self, regions: Sequence[str]) -> list[str]:
        """Rows and columns: text, all regions, each region, background, references."""
        found = [KINDS[kind] for kind in range(PER_REGION[0]) if self.image_prompt or kind != IMAGE_PROMPT]
        found += [f"{KINDS[kind]}:{one}" for one in (EVERY, *regions) for kind in PER_REGION]
        found += [KINDS[kind] for kind in range(PER_REGION[-1] + 1, REFERENCE)]
        return found + [f"{KINDS[REFERENCE]}:{one}" for one in (EVERY, *self.named("reference"))]

    def states(self, phase: Phase, names: Sequence[str]) -> list[list[str]]:
        table = _Table(self.rules, phase, names)
        preset = _Table(replace(self.rules, before=(), after=()), phase, names)
        cells = self.cells(phase)

        def state(query: str, key: str) -> str:
            pairs = _pairs(query, key)
            sign = table.sign(pairs)
            changed = " changed" * (sign != preset.sign(pairs))
            return f"{sign}{changed}{' set' * (f'{query}|{key}' in cells)}{' fixed' * _is_fixed(query, key, pairs)}"

        return [[state(query, key) for key in names] for query in names]

    @staticmethod
    def _sign(rules: Rules, phase: Phase, query: str, key: str) -> str:
        return _Table(rules, phase, (query, key)).sign(_pairs(query, key))


class _Table:
    """The boolean table that acts, for the components that names stand for."""

    def __init__(self, rules: Rules, phase: Phase, names: Iterable[str]):
        owners: dict[str, dict[str, None]] = {"region": {}, "reference": {}, "": {}}
        for name in names:
            owners[_sort(name)][owner_of(name)] = None
        ids, numbers = ([one for one in owners[sort] if one not in _WILD] for sort in ("region", "reference"))
        parts = [
            *components((*ids, *_ANY), True, True, ()),
            *(Component(REFERENCE, place, f"reference:{one}") for place, one in enumerate((*numbers, *_ANY))),
        ]
        self._place = {part.key: place for place, part in enumerate(parts)}
        self._sees = rules.table(tuple(parts), phase)

    def sign(self, pairs: Sequence[tuple[str, str]]) -> str:
        seen = [self._sees[self._place[one], self._place[other]] for one, other in pairs]
        return _SIGNS[bool(seen[0]), bool(seen[-1])] if seen else "-"


def _is_fixed(query: str, key: str, pairs: Sequence[tuple[str, str]]) -> bool:
    """A component sees itself; and another region is none beside what belongs to no region."""
    return not pairs or (query == key and owner_of(query) not in _WILD)


def _pairs(query: str, key: str) -> list[tuple[str, str]]:
    """The pairs of components that show what a row sees of a column.

    One for two components; for names of all, one of the same owner and one of different owners, where there are both.
    Empty where there is no such pair: "another region" beside a component that belongs to no region.
    """
    row, column = owner_of(query), owner_of(key)
    alike = _sort(query) == _sort(key) != ""
    if ANOTHER in (row, column) and (row == column or (_sort(query), _sort(key)) != ("region", "region")):
        return []
    # Where neither is named, any two stand for all; where one is, the other is its own, or any other.
    left = _ANY[0] if row in _WILD else row
    right = column if column not in _WILD else _ANY[1] if row in _WILD and alike else _ANY[0]
    different = _renamed(query, left), _renamed(key, right)
    if not alike or (row not in _WILD and column not in _WILD) or ANOTHER in (row, column):
        return [different]
    own = row if row not in _WILD else column if column not in _WILD else _ANY[0]
    return [(_renamed(query, own), _renamed(key, own)), different]


def _renamed(name: str, owner: str) -> str:
    kind, colon, _ = name.partition(":")
    return f"{kind}{colon}{owner}" if colon else kind


def _sort(name: str) -> str:
    return _sort_of(KINDS.index(name.partition(":")[0]))


def _sort_of(kind: int) -> str:
    return "region" if kind in PER_REGION else "reference" if kind == REFERENCE else ""
