"""The benchmark's results as text: one line per row while it runs, tables for the docs, targets beside figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Target(NamedTuple):
    """A figure to reach: what it is, the worst value found (None: not run), the limit, and whether it is a minimum."""

    what: str
    worst: float | None
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        if self.worst is None:
            return None
        return self.worst >= self.limit if self.at_least else self.worst <= self.limit


def targets(results: dict) -> list[Target]:
    """What is to be reached on this kind of machine, and the worst row of the results."""
    rows = [row for row in results["attention"] if row["tokens"] >= 4096]
    gpu = results["machine"]["device"] != "cpu"

    def worst(figure: Callable[[dict], float | None], chosen: Callable[[dict], bool], take=max) -> float | None:
        found = [figure(row) for row in rows if chosen(row)]
        found = [value for value in found if value is not None]
        return take(found) if found else None

    def grouped(row: dict) -> float | None:
        return row["ratios"]["grouped/plain"]

    if gpu:
        ratios = [
            Target(
                "grouped / plain, 8 separate regions at 9,216 tokens",
                worst(grouped, lambda row: row["regions"] == 8 and row["tokens"] == 9216),
                1.05,
            )
        ]
    else:
        ratios = [
            Target(
                "grouped / plain, 3 separate regions",
                worst(grouped, lambda row: row["regions"] == 3 and not row["overlap"]),
                1.05,
            ),
            Target(
                "grouped / plain, 16 separate regions",
                worst(grouped, lambda row: row["regions"] == 16 and not row["overlap"]),
                1.15,
            ),
            Target(
                "grouped / plain, overlaps that make 100 groups or more",
                worst(grouped, lambda row: row["groups"] >= 100),
                1.25,
            ),
            Target(
                "dense / grouped, separate regions",
                worst(lambda row: row["ratios"]["dense/grouped"], lambda row: not row["overlap"], min),
                1.2,
                True,
            ),
            Target(
                "dense / grouped, overlapping regions",
                worst(lambda row: row["ratios"]["dense/grouped"], lambda row: row["overlap"], min),
                1.2,
                True,
            ),
        ]
    reports = [row["seconds"] * 1000 for row in results.get("report", [])]
    steps = [row["ratio"] for row in results["step"] if row["ratio"] is not None]
    return [
        *ratios,
        Target(
            "index kept between layers / boolean L x L mask",
            worst(lambda row: row["kept_index_bytes"] / row["tokens"] ** 2, lambda row: True), 0.02,
        ),
        Target(
            "peak of one call / one more copy of its q, k, v and output",
            worst(lambda row: row["grouped_extra_mib"] / row["one_copy_mib"], lambda row: True), 1.0,
        ),
        Target("whole step, rules / plain", max(steps) if steps else None, 1.05),
        Target("edit report of 1024 x 1024 pixels on the CPU, milliseconds", max(reports) if reports else None, 150),
    ]  # fmt: skip


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value * 1000:,.0f}" if value >= 0.02 else f"{value * 1000:.2f}"


def _name(row: dict) -> str:
    return f"{row['regions']}{' overlapping' if row['overlap'] else ''}"


def _which(row: dict) -> list[str]:
    return [f"{row['tokens']:,}", _name(row), str(row["hint_tokens"]), str(row["groups"])]


def attention_line(row: dict) -> str:
    ratios = row["ratios"]
    return (
        f"{row['tokens']:>6} tokens, {_name(row):>14} regions x {row['hint_tokens']:>3} hint tokens, "
        f"{row['groups']:>3} groups: "
        f"plain {_ms(row['plain'])} ms, grouped/plain {_ratio(ratios['grouped/plain'])}, "
        f"dense/plain {_ratio(ratios['dense/plain'])}, flex/plain {_ratio(ratios['flex/plain'])}, "
        f"extra MiB {row['grouped_extra_mib']:.0f} and {row['dense_extra_mib']:.0f} ({row['rounds']} rounds)"
    )


def step_line(row: dict) -> str:
    return (
        f"step of {row['family']:>5}, {row['tokens']:>6} tokens, {row['regions']:>2} regions: "
        f"plain {_ms(row['plain'])} ms, "
        f"rules {_ms(row['rules'])} ms, rules/plain {_ratio(row['ratio'])} ({row['rounds']} rounds)"
    )


def report_line(row: dict) -> str:
    return (
        f"edit report of {row['side']} x {row['side']} pixels, {row['case']}: {_ms(row['seconds'])} ms "
        f"({row['rounds']} rounds)"
    )


def import_line(row: dict) -> str:
    return (
        f"importing the pack, {row['nodes']} nodes: {_ms(row['seconds'])} ms ({_ms(row['least'])} to "
        f"{_ms(row['most'])}, {row['rounds']} processes) beside ComfyUI's {row['comfyui']:.1f} s"
    )


def target_lines(results: dict) -> list[str]:
    words = {True: "met", False: "MISSED", None: "not run"}
    return [
        f"{words[target.met]:>7}: {target.what}: {'-' if target.worst is None else f'{target.worst:.3g}'} "
        f"({'>=' if target.at_least else '<='} {target.limit:g})"
        for target in targets(results)
    ]


def machine_line(machine: dict) -> str:
    what = machine["cpu"] if machine["device"] == "cpu" else machine["gpu"]
    return (
        f"{what}, {machine['threads']} threads, torch {machine['torch']}, {machine['dtype']}, "
        f"{machine['heads']} heads of {machine['head_dim']}, ComfyUI {machine['comfyui'] or '-'}, "
        f"{machine['clock']} clock, "
        f"{machine['date']}"
    )


def markdown(results: dict) -> str:
    """The tables of docs/benchmark.md, between its two marks."""
    lines = [machine_line(results["machine"]) + ".", ""]
    lines += _table(
        ["Target", "To reach", "Worst found", ""],
        [
            [
                target.what,
                f"{'>=' if target.at_least else '<='} {target.limit:g}",
                "-" if target.worst is None else f"{target.worst:.3g}",
                {True: "met", False: "**missed**", None: "not run"}[target.met],
            ]
            for target in targets(results)
        ],
    )
    rows = results["attention"]
    ratios = ("grouped/plain", "grouped_no_masks/plain", "dense/plain", "flex/plain", "dense/grouped")
    lines += ["", "Attention, one call: milliseconds are medians, ratios are medians of the ratios of each round.", ""]
    lines += _table(
        ["Tokens", "Regions", "Hint tokens", "Groups", "Plain without hints", "Plain", "Grouped", "Dense", "Flex",
         "Grouped / plain", "Grouped without masks / plain", "Dense / plain", "Flex / plain", "Dense / grouped"],
        [
            [
                *_which(row),
                *(_ms(row[name]) for name in ("plain_no_hints", "plain", "grouped", "dense", "flex")),
                *(_ratio(row["ratios"][name]) for name in ratios),
            ]
            for row in rows
        ],
    )  # fmt: skip
    lines += [
        "",
        "Memory of one call in MiB: what it needs at its peak beside its result, and what is kept between calls.",
        "",
    ]
    lines += _table(
        ["Tokens", "Regions", "Hint tokens", "Groups", "q, k, v and output", "Peak, plain",
         "Peak, grouped", "Peak, dense",
         "Kept, grouped", "Kept, dense"],
        [
            [
                *_which(row), f"{row['one_copy_mib']:.1f}", f"{row['plain_extra_mib']:.1f}",
                f"{row['grouped_extra_mib']:.1f}",
                f"{row['dense_extra_mib']:.1f}", f"{row['kept_index_bytes'] / 2**20:.2f}",
                f"{row['kept_dense_bytes'] / 2**20:.1f}",
            ]
            for row in rows
        ],
    )  # fmt: skip
    lines += ["", "One model step in ComfyUI, milliseconds.", ""]
    lines += _table(
        ["Family", "Layers", "Tokens", "Regions", "Hint tokens", "Plain", "Rules", "Rules / plain"],
        [
            [
                row["family"], " + ".join(map(str, row["layers"].values())), f"{row['tokens']:,}", str(row["regions"]),
                str(row["hint_tokens"]), _ms(row["plain"]), _ms(row["rules"]), _ratio(row["ratio"]),
            ]
            for row in results["step"]
        ],
    )  # fmt: skip
    return "\n".join(lines)


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
