"""The benchmark's figures as Markdown tables, as they stand in docs/toyworld.md."""

from __future__ import annotations

HEADS = {
    "target": "Target", "effect": "Effect", "consistency_psnr": "PSNR outside (dB)", "outside_changed": "changed outside",
    "lookalikes_changed": "look-alikes changed", "overall": "Overall", "weighted": "Weighted", "seconds": "s",
}  # fmt: skip
COARSE = ("consistency_psnr", "seconds")  # with one decimal; all others are shares


def scores(results: dict) -> str:
    """A row for each method."""
    lines = [_row("method", *HEADS.values()), "|---" * (1 + len(HEADS)) + "|"]
    lines += [_row(name, *(_cell(key, figures.get(key)) for key in HEADS)) for name, figures in results["methods"].items()]
    return "\n".join(lines)


def kinds(results: dict) -> str:
    """Effect by kind of edit."""
    rows = {name: figures["effect_by_kind"] for name, figures in results["methods"].items()}
    columns = sorted({kind for row in rows.values() for kind in row})
    lines = [_row("Effect", *columns), "|---" * (1 + len(columns)) + "|"]
    lines += [_row(name, *(_cell(kind, row.get(kind)) for kind in columns)) for name, row in rows.items()]
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if key in COARSE else f"{value:.3f}"
