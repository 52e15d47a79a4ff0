"""What a report counts: means with standard errors, groups, paired differences; numbers in, numbers out.

A row is one judged edit: its scores by name, where a question without an answer has none. A mean is the mean of rows
that have the score; nothing is put in place of one that is missing, and no formula is applied to means of columns
but in `of_means`, which says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from replan.evaluation.scores import QUESTIONS, overall, weighted

# The columns of a table: the published questions, then the totals by the published code and by the paper's text.
COLUMNS = ("quality", "target", "effect", "consistency", "overall", "weighted", "weighted_paper")


class Mean(NamedTuple):
    """The mean of `count` values. error: its standard error, None below two values. value: None without any."""

    value: float | None
    error: float | None
    count: int

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        return f"{self.value:.2f}" + ("" if self.error is None else f" ± {self.error:.2f}")


class Paired(NamedTuple):
    """One method against another over the records that both have. better, worse: how many records went up, down."""

    mean: Mean
    better: int
    worse: int

    @property
    def ratio(self) -> float | None:
        """The difference in standard errors; None where they are no measure (under two records, or all the same)."""
        return self.mean.value / self.mean.error if self.mean.error else None


def totals(answers: Mapping[str, float]) -> dict[str, float]:
    """The four answers of one row and what follows from them; a total only where all four are there."""
    found = {name: float(answers[name]) for name in QUESTIONS if answers.get(name) is not None}
    sums = {"overall": overall(found), "weighted": weighted(found), "weighted_paper": weighted(found, "paper")}
    return found | {name: value for name, value in sums.items() if value is not None}


def as_upstream(answers: Mapping[str, float]) -> dict[str, float]:
    """A row as the published code counts it: a question without an answer is 0, and so is its weight.

    Of an edit without an image every score is 0.
    """
    found = {name: float(answers.get(name) or 0.0) for name in QUESTIONS}
    return found | {
        "overall": overall(found) or 0.0,
        "weighted": weighted(found) or 0.0,
        "weighted_paper": weighted(found, "paper") or 0.0,
    }


def mean_of(values: Iterable[float]) -> Mean:
    """Mean and standard error: the deviation with n - 1 below the fraction, over the root of n."""
    numbers = list(values)
    count = len(numbers)
    if not count:
        return Mean(None, None, 0)
    middle = math.fsum(numbers) / count
    if count == 1:
        return Mean(middle, None, 1)
    spread = math.fsum((one - middle) ** 2 for one in numbers) / (count - 1)
    return Mean(middle, math.sqrt(spread / count), count)


def means(rows: Sequence[Mapping[str, float]], columns: Sequence[str] = COLUMNS) -> dict[str, Mean]:
    """The mean of each column over the rows that have it."""
    return {name: mean_of(row[name] for row in rows if name in row) for name in columns}


def of_means(columns: Mapping[str, Mean], formula: str = "code") -> float | None:
    """Weighted's formula on the means of columns, which is not the mean of Weighted: to set beside published means."""
    found = {name: columns[name].value for name in QUESTIONS}
    return weighted({name: value for name, value in found.items() if value is not None}, formula)


def grouped(rows: Mapping[str, Mapping[str, float]], groups: Mapping[str, str]) -> dict[str, list[Mapping[str, float]]]:
    """Rows by id into the groups of their records; those without one under ""."""
    found: dict[str, list[Mapping[str, float]]] = {}
    for name, row in rows.items():
        found.setdefault(groups.get(name, ""), []).append(row)
    return dict(sorted(found.items()))


def paired(rows: Mapping[str, Mapping[str, float]], against: Mapping[str, Mapping[str, float]], column: str) -> Paired:
    """`rows` minus `against`, record by record, over those that both have a score of."""
    changes = [
        row[column] - against[name][column]
        for name, row in rows.items()
        if column in row and column in against.get(name, {})
    ]
    return Paired(mean_of(changes), sum(one > 1e-9 for one in changes), sum(one < -1e-9 for one in changes))
