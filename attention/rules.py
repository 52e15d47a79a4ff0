"""Rules: which query component may see which key component, in which part of the sampling.

A new preset also needs its expected table in tests/reference.py and its rows in docs/rules.md.

A table over the kinds of component (docs/rules.md) with one more axis, same region or another one, says what a
preset allows; single cells, keyed by region id, change it. `Rules` is an immutable value; `Rules.table` turns it into
a boolean matrix for the components of one call.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .components import (
    HINT,
    IMAGE,
    IMAGE_BACKGROUND,
    IMAGE_PROMPT,
    KINDS,
    MAIN,
    NOISE,
    NOISE_BACKGROUND,
    PER_REGION,
    REFERENCE,
    Component,
)
from .families import FAMILIES
from .payload import RegionError

Phase = Literal["before", "after"]

_PATCHES = (NOISE, IMAGE, NOISE_BACKGROUND, IMAGE_BACKGROUND, REFERENCE)
_SAME, _OTHER = 0, 1


def _published() -> np.ndarray:
    """The published default as (query kind, key kind, same/other region).

    From flex_attn.py with `symmetric_masking` off: the paper's five rules, section 3.3.
    """
    sees = np.ones((len(KINDS), len(KINDS), 2), dtype=bool)
    # Hint isolation: no two texts see one another. An image inside the text (Qwen) sees all and is seen by all.
    sees[MAIN, HINT] = sees[HINT, MAIN] = False
    sees[HINT, HINT, _OTHER] = False
    # Region constraint: a region's patches see their own hint only. Background constraint: the rest sees none.
    sees[NOISE, HINT, _OTHER] = sees[IMAGE, HINT, _OTHER] = False
    sees[[NOISE_BACKGROUND, IMAGE_BACKGROUND, REFERENCE], HINT] = False
    return sees


def _symmetric() -> np.ndarray:
    """A hint sees its own region only (`symmetric_masking` on; the matrix drawn in the paper's figure 2)."""
    sees = _published()
    sees[HINT, list(_PATCHES)] = False
    sees[HINT, NOISE, _SAME] = sees[HINT, IMAGE, _SAME] = True
    return sees


def _isolated_regions() -> np.ndarray:
    """Regions do not see one another (`bboxes_attend_to_each_other` off)."""
    sees = _published()
    for query in (NOISE, IMAGE):
        sees[query, [NOISE, IMAGE], _OTHER] = False
    return sees


def _without(sees: np.ndarray, kind: int) -> np.ndarray:
    """Nothing sees a kind of text, nor it anything (`delete_main_prompt`; the paper's appendix E warns)."""
    sees = sees.copy()
    sees[kind, :] = sees[:, kind] = False
    sees[kind, kind] = True
    return sees


def _local(sees: np.ndarray) -> np.ndarray:
    """Noise background does not see noise regions: keeps a region's change from spilling while it forms."""
    sees = sees.copy()
    sees[NOISE_BACKGROUND, NOISE] = False
    return sees


@dataclass(frozen=True)
class Preset:
    """A named rule table: `after` always, `before` until the switch where there is one.

    summary: its line in tooltips and reports; warning: what a person who chose it should know, or "".
    """

    name: str
    after: np.ndarray
    before: np.ndarray | None
    summary: str
    warning: str = ""


_NO_TEXT = (
    "the background sees no text, which is known to distort it (paper, appendix E); choose another preset, unless the "
    "regions cover the image"
)

PRESETS = {
    preset.name: preset
    for preset in (
        Preset("replan", _published(), None, "the published rules at every step"),
        Preset("symmetric", _symmetric(), None, "a hint sees only its own region (the paper's figure 2)"),
        Preset(
            "local_first",
            _published(),
            _local(_published()),
            "the published rules, but until the switch the background does not see the regions (their noise patches)",
        ),
        Preset("isolated_regions", _isolated_regions(), None, "regions do not see one another"),
        Preset(
            "no_global_prompt",
            _without(_published(), MAIN),
            None,
            "nothing sees the global prompt",
            f"{_NO_TEXT} or an image is in Qwen's text",
        ),
        Preset(
            "hints_only",
            _without(_without(_published(), MAIN), IMAGE_PROMPT),
            None,
            "nothing sees the global prompt or the images in Qwen's text",
            _NO_TEXT,
        ),
        Preset("off", np.ones((len(KINDS), len(KINDS), 2), dtype=bool), None, "no regions: hints are left out"),
    )
}
# Not a table of its own: the preset that its entry in `families` names for the model's family.
AUTO = "auto"


Cells = tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True)
class Rules:
    """A preset, the cells that differ from it, and when the before-rules give way to the after-rules.

    preset: one of PRESETS, or AUTO, which `for_family` replaces.
    before, after: (query, key, allowed) cells; a component's name is 'main', 'hint:r1', 'noise:*', 'noise:other', ...
    has_before: cells of a before-phase were given.
    switch: where they do, in percent of sampling (0..1, a noise level), None for the model family's default.
    switch_step: a number of steps instead, None for the share. `call.steps_before` says which steps are before.
    family: whose defaults to take, 'auto' for the family of the model at hand.
    """

    preset: str = "replan"
    before: Cells = ()
    after: Cells = ()
    has_before: bool = False
    switch: float | None = None
    switch_step: int | None = None
    family: str = "auto"

    def __post_init__(self) -> None:
        if self.preset != AUTO and self.preset not in PRESETS:
            raise RegionError(f"there is no rule preset '{self.preset}'; the presets are {AUTO}, {', '.join(PRESETS)}")

    def for_family(self, name: str) -> Rules:
        """These rules with the defaults of a family: its preset for AUTO, its switch for two phases without one.

        name: the family of the model at hand; one that was chosen in `family` comes first.
        """
        family = FAMILIES[name if self.family == "auto" else self.family]
        rules = replace(self, preset=family.preset if self.preset == AUTO else self.preset, family=family.name)
        return replace(rules, switch=family.switch) if rules.two_phases and rules.switch is None else rules

    @property
    def off(self) -> bool:
        return self.preset == "off"

    @property
    def two_phases(self) -> bool:
        return self.has_before or PRESETS[self.preset].before is not None

    def table(self, parts: tuple[Component, ...], phase: Phase, inactive: frozenset[int] = frozenset()) -> np.ndarray:
        """The rules as a boolean (query component, key component) matrix for the components of a call.

        inactive: plan indices of the regions that are background at this step; nobody sees their hints.
        """
        preset = PRESETS[self.preset]
        use_before = phase == "before" and preset.before is not None
        base = preset.before if use_before else preset.after
        kind = np.array([part.kind for part in parts])
        owner = np.array([part.owner for part in parts])
        other = (owner[:, None] != owner[None, :]).astype(np.int8)
        sees = base[kind[:, None], kind[None, :], other]
        cells = self.before if phase == "before" else self.after
        # A cell for one region is more particular than one for all, so it is set last.
        for query, key, allowed in sorted(cells, key=lambda cell: -_breadth(cell[0]) - _breadth(cell[1])):
            rows, columns = _named(parts, query), _named(parts, key)
            cell = np.ix_(rows, columns)
            if ANOTHER in (owner_of(query), owner_of(key)):
                sees[cell] = np.where(owner[rows][:, None] != owner[columns], allowed, sees[cell])
            else:
                sees[cell] = allowed
        for i, part in enumerate(parts):
            if part.kind == HINT and part.owner in inactive:
                sees[:, i] = False
        np.fill_diagonal(sees, True)
        return sees


# What may stand for a region's id: every region; every region but the one on the other side of the cell.
EVERY, ANOTHER = "*", "other"


def owner_of(name: str) -> str:
    """The region's id or the reference's number in a component's name, "" where there is none."""
    return name.partition(":")[2]


def _breadth(name: str) -> int:
    """How little particular a name is: 'noise:*' 2, 'noise:other' 1, all else 0 ('noise:a:*' is the region 'a:*')."""
    return {EVERY: 2, ANOTHER: 1}.get(owner_of(name), 0)


def _named(parts: tuple[Component, ...], name: str) -> list[int]:
    if _breadth(name):
        kind = KINDS.index(name.partition(":")[0])
        return [i for i, part in enumerate(parts) if part.kind == kind]
    return [i for i, part in enumerate(parts) if part.key == name]


def make_rules(
    preset: str, switch: float = -1.0, switch_step: int = -1, family: str = "auto", matrix: str | dict | None = None
) -> tuple[Rules, list[str]]:
    """Rules from what a node holds, and warnings for a person.

    switch: 0..1, below 0 for the family's default; switch_step: used when >= 0; matrix: JSON text
    `{"version": 1, "before": {"query|key": bool}, "after": {...}}`, both phases optional.
    """
    if not math.isfinite(switch) or switch > 1:
        raise RegionError(
            f"the switch is a share of the steps between 0 and 1, found {switch}; for a number of steps use switch_step"
        )
    if family not in ("auto", *FAMILIES):
        raise RegionError(f"there is no model family '{family}'; the families are {', '.join(FAMILIES)}")
    before, after, has_before = _read_matrix(matrix)
    rules = Rules(
        preset,
        before,
        after,
        has_before,
        None if switch < 0 else float(switch),
        None if switch_step < 0 else int(switch_step),
        family,
    )
    return rules, ([] if rules.preset == AUTO else warnings_of(rules))


def warnings_of(rules: Rules) -> list[str]:
    """What a person who chose these rules should know; for AUTO only once `for_family` has replaced it."""
    preset = PRESETS[rules.preset]
    warnings = [f"under '{preset.name}' {preset.warning}"] if preset.warning else []
    if not rules.two_phases and (rules.switch or rules.switch_step):
        warnings.append(
            f"the preset '{preset.name}' has the same rules at every step, so the switch does nothing; choose "
            "'local_first', or give the matrix cells of a 'before' phase"
        )
    if rules.off and (rules.before or rules.after):
        warnings.append("under the preset 'off' there are no regions, so the matrix does nothing; choose another")
    return warnings


def _read_matrix(matrix: str | dict | None) -> tuple[Cells, Cells, bool]:
    if isinstance(matrix, str):
        if not matrix.strip():
            return (), (), False
        try:
            matrix = json.loads(matrix)
        except (ValueError, RecursionError) as error:
            raise RegionError(f"the rule matrix is not JSON ({error}); clear it to use the preset alone") from None
    if matrix is None:
        return (), (), False
    if not isinstance(matrix, dict):
        raise RegionError(f"the rule matrix is a JSON object with 'before' and 'after', found {type(matrix).__name__}")
    version = matrix.get("version", 1)
    if version != 1:
        raise RegionError(f"the rule matrix has version {version!r}, this pack reads 1; update the pack")
    unknown = sorted(set(matrix) - {"version", "before", "after"})
    if unknown:
        raise RegionError(
            f"the rule matrix has {unknown[0]!r}; it holds 'before' and 'after' only, the rules before and after the "
            "switch: take it out, or write its rules into one of them"
        )
    return _read_cells(matrix.get("before", {})), _read_cells(matrix.get("after", {})), "before" in matrix


def _read_cells(cells: object) -> Cells:
    if not isinstance(cells, dict):
        raise RegionError(f"a phase of the rule matrix is an object of 'query|key': true or false, found {cells!r}")
    found = []
    for name, allowed in cells.items():
        if not isinstance(allowed, bool):
            raise RegionError(f"the rule '{name}' must be true or false, found {allowed!r}")
        query, bar, key = name.partition("|")
        if not bar:
            raise RegionError(f"the rule '{name}' is not written 'query|key', such as 'noise_background|noise:r1'")
        _check_key(query, name)
        _check_key(key, name)
        if ANOTHER in (owner_of(query), owner_of(key)) and not _faces_a_region(query, key):
            raise RegionError(
                f"in the rule '{name}' the owner 'other' means any region but that of the other side, and the other "
                "side has none; write hint, noise or image with a region's id or * there"
            )
        if query == key and _breadth(query) == 0 and not allowed:
            raise RegionError(
                f"the rule '{name}' is false, but every component sees itself: a token that sees nothing has no "
                "value; remove this cell"
            )
        found.append((query, key, allowed))
    return tuple(found)


def _faces_a_region(query: str, key: str) -> bool:
    """Whether the side of a cell that is not 'other' names a region, or all."""
    sides = [name.partition(":") for name in (query, key) if owner_of(name) != ANOTHER]
    return len(sides) == 1 and KINDS.index(sides[0][0]) in PER_REGION


def _check_key(key: str, rule: str) -> None:
    kind, colon, owner = key.partition(":")
    named = kind in KINDS and KINDS.index(kind) in (*PER_REGION, REFERENCE)
    numbered = kind == KINDS[REFERENCE] and owner != "*" and not owner.isdecimal()
    if kind not in KINDS or named != bool(colon) or (named and not owner) or numbered:
        raise RegionError(
            f"the rule '{rule}' names '{key}'; a component is main, image_prompt, noise_background, "
            "image_background, hint:ID, noise:ID, image:ID (ID of a region, *, or other), or reference:NUMBER"
        )


def unknown_cells(rules: Rules, parts: tuple[Component, ...]) -> list[str]:
    """Cells of the matrix that name a component these do not have (a deleted region, say)."""
    keys = {part.key for part in parts}
    return [
        f"{query}|{key}"
        for query, key, _ in (*rules.before, *rules.after)
        if not all(_breadth(name) or name in keys for name in (query, key))
    ]


def foreign_cells(rules: Rules, region_ids: tuple[str, ...]) -> list[str]:
    """Cells of the matrix that name a region which is not among `region_ids`."""
    ids = {*region_ids, EVERY, ANOTHER}
    kinds = tuple(f"{KINDS[kind]}:" for kind in PER_REGION)
    return [
        f"{query}|{key}"
        for query, key, _ in (*rules.before, *rules.after)
        if any(name.startswith(kinds) and owner_of(name) not in ids for name in (query, key))
    ]


def describe_table(parts: tuple[Component, ...], sees: np.ndarray) -> str:
    """The table as text: a row per query component, 'x' where it sees the key component, '.' where not."""
    width = max(len(part.key) for part in parts)
    lines = [" " * width + "  " + " ".join(str(i % 10) for i in range(len(parts)))]
    for i, part in enumerate(parts):
        cells = " ".join("x" if allowed else "." for allowed in sees[i])
        lines.append(f"{part.key:<{width}}  {cells}  {i}")
    return "\n".join(lines)


def describe(rules: Rules, parts: tuple[Component, ...], family: str) -> str:
    """The rules in words and tables, for a report."""
    name, rules = rules.preset, rules.for_family(family)
    preset = PRESETS[rules.preset]
    chosen = f"{name} ({rules.family}: {preset.name})" if name == AUTO else name
    lines = [f"preset {chosen}: {preset.summary}"]
    if not rules.two_phases:
        lines.append(describe_table(parts, rules.table(parts, "after")))
        return "\n".join(lines)
    if rules.switch_step is not None:
        when = f"the first {rules.switch_step} steps"
    else:
        when = f"the first {rules.switch:.0%} of the noise schedule"
    lines += [f"before ({when}):", describe_table(parts, rules.table(parts, "before"))]
    lines += ["after:", describe_table(parts, rules.table(parts, "after"))]
    return "\n".join(lines)
