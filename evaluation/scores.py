"""Scores of one edit as a value: what gave them, by name, for the whole image and for each region."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..planner.plan import PlanError, shown

# The published scales of IV-Edit: Target 1 or 5, Effect and Consistency 1, 3 or 5, Quality 1 to 5.
QUESTIONS = ("target", "effect", "consistency", "quality")
_MOST = 5.0
_LARGEST = sys.float_info.max  # of what JSON holds, an integer may be larger


@dataclass(frozen=True)
class Scores:
    """What one edit is worth.

    by: what gave them ("judge", "alignment", "edit report"). image: named scores of the whole image, higher is better
        unless the name is in `lower_is_better`. regions: the same by region id. main, region_main: the names of the
        score that ranks edits, and of the one (0..1) that says whether a region is done; "" for none.
    missing: questions that got no answer, such as "effect" or "r2 done"; no score stands in for them.
    """

    by: str
    image: Mapping[str, float] = field(default_factory=dict)
    regions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    main: str = ""
    region_main: str = ""
    lower_is_better: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", _checked(self.image, self.by))
        regions = {name: _checked(values, f"{self.by}, region '{name}'") for name, values in self.regions.items()}
        object.__setattr__(self, "regions", MappingProxyType(regions))
        object.__setattr__(self, "lower_is_better", tuple(self.lower_is_better))
        object.__setattr__(self, "missing", tuple(self.missing))

    def __reduce__(self) -> tuple[Any, ...]:
        regions = {name: dict(values) for name, values in self.regions.items()}
        return Scores, (
            self.by, dict(self.image), regions, self.main, self.region_main, self.lower_is_better, self.missing
        )  # fmt: skip

    def ranked(self, name: str = "") -> float | None:
        """The score `name` (by default the main one) such that higher is better; None where it is missing."""
        name = name or self.main
        value = self.image.get(name)
        return None if value is None else -value if name in self.lower_is_better else value

    def __str__(self) -> str:
        """What ComfyUI's Preview as Text shows, and a batch writes down: `to_json`."""
        return self.to_json()

    def to_json(self) -> str:
        """The scores as JSON, for a results file; `from_json` gives an equal value."""
        return json.dumps(
            {
                "by": self.by,
                "image": dict(self.image),
                "regions": {name: dict(values) for name, values in self.regions.items()},
                "main": self.main,
                "region_main": self.region_main,
                "lower_is_better": list(self.lower_is_better),
                "missing": list(self.missing),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Scores:
        """Scores out of `to_json`. Raises PlanError for anything else."""
        try:
            data = json.loads(text)
            return cls(
                str(data["by"]),
                data.get("image", {}),
                data.get("regions", {}),
                str(data.get("main", "")),
                str(data.get("region_main", "")),
                tuple(data.get("lower_is_better", ())),
                tuple(data.get("missing", ())),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, PlanError):
                raise
            raise PlanError(f"these are no scores: {shown(text)}; give the JSON that Scores.to_json wrote") from None


def overall(answers: Mapping[str, float]) -> float | None:
    """Mean of the four questions, 1..5 (IV-Edit's Overall); None unless all four were answered."""
    found = _four(answers)
    return None if found is None else sum(found) / len(found)


def weighted(answers: Mapping[str, float], formula: str = "code") -> float | None:
    """IV-Edit's Weighted, 0..5: what was kept counts by as much as the edit took effect; None as for `overall`.

    formula: "code", (T + E + w Q + w C) / 4 with w = E / 5, which the published numbers follow; "paper", where only
    Consistency is weighed (RePlan, evaluation code and section 4.1).
    """
    if formula not in ("code", "paper"):
        raise ValueError(f"the formula is 'code' or 'paper', found {formula!r}")
    found = _four(answers)
    if found is None:
        return None
    target, effect, consistency, quality = found
    weight = effect / _MOST
    return (target + effect + weight * consistency + (weight if formula == "code" else 1.0) * quality) / 4


def _four(answers: Mapping[str, float]) -> Sequence[float] | None:
    return [answers[name] for name in QUESTIONS] if all(name in answers for name in QUESTIONS) else None


def _checked(values: Mapping[str, float], what: str) -> Mapping[str, float]:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST:
            raise PlanError(f"{what}: the score '{name}' is {shown(value)}; a score is a finite number")
    return MappingProxyType({str(name): float(value) for name, value in values.items()})
