"""A report's numbers as tables in Markdown: what report.json holds goes in, text comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from replan.evaluation.scores import QUESTIONS
from replan.tools.iv_edit import published
from replan.tools.iv_edit.figures import COLUMNS, Mean

HEADS = {
    "quality": "Quality", "target": "Target", "effect": "Effect", "consistency": "Consistency", "overall": "Overall",
    "weighted": "Weighted", "weighted_paper": "Weighted (paper's text)",
}  # fmt: skip
# What a judge is asked about each region, as its scores are named (evaluation/judge_questions.py).
REGION_HEADS = {"done": "hint done", "kept": "rest kept", "text_right": "text right"}


def markdown(found: Mapping, with_published: bool = False, zeros: bool = False) -> str:
    """The tables of a summary."""
    counted = (
        "Counted as RePlan's evaluation code does: what has no answer or no image is 0."
        if zeros
        else "A cell is the mean of the records that have that score; what has no answer is left out and counted below."
    )
    lines = [
        "# Report", "", f"{found['records']} records. {counted} ±: standard error of the mean. Overall and Weighted "
        "are computed for each record that has all four answers, then averaged.", "",
    ]  # fmt: skip
    judges = sorted({judge for one in found["methods"].values() for judge in one["judges"]})
    lines += [f"Judge: {', '.join(judges) or 'none yet'}."]
    if len(judges) > 1:
        lines += ["", "**These scores are of several judges and do not compare.** Judge all methods with one model."]
    heads = [HEADS[name] for name in COLUMNS]
    lines += ["", "## Methods", "", *_table(["method", "n", *heads], _method_rows(found))]
    if with_published:
        rows = [[name, *(f"{value:.2f}" for value in row)] for name, row in published.TABLE.items()]
        lines += ["", f"### For comparison: {published.SOURCE}", ""]
        lines += _table(["method", *(HEADS[name] for name in published.COLUMNS)], rows)
    lines += ["", "## Without an answer", "", *_table(*_lost_rows(found))]
    lines += _region_lines(found) + _text_lines(found)
    for kind, title in (("referring_type", "By referring type"), ("task_type", "By task type")):
        lines += _group_lines(found, kind, title)
    if found["paired"]:
        lines += [
            "", "## Differences, record by record", "", "Over the records that both methods have. Last column: the "
            "difference in standard errors; below 2 it may be chance.", "",
        ]  # fmt: skip
        rows = [
            [f"{one['method']} - {one['against']}", HEADS[one["score"]], str(one["n"]), _signed(one),
             f"{one['better']} / {one['worse']}", _number(one["standard_errors"], "+.1f")]
            for one in found["paired"]
        ]  # fmt: skip
        lines += _table(["methods", "score", "n", "difference", "better / worse", "in standard errors"], rows)
    lines += _metric_lines(found["metrics"])
    lines += ["", "## Weighted's formula on the means of columns", ""]
    lines += ["Not the mean of Weighted above: only to check means that were printed without their records.", ""]
    rows = [
        [name, *(_number(one["formula_on_column_means"][formula], ".2f") for formula in ("code", "paper"))]
        for name, one in found["methods"].items()
    ]
    return "\n".join([*lines, *_table(["method", "code's formula", "paper's text"], rows)]) + "\n"


def _method_rows(found: Mapping) -> list[list[str]]:
    return [
        [_cell(name), str(one["complete"]), *(_mean(one["columns"][column], one["complete"]) for column in COLUMNS)]
        for name, one in found["methods"].items()
    ]


def _lost_rows(found: Mapping) -> tuple[list[str], list[list[str]]]:
    reasons = sorted({reason for one in found["methods"].values() for reason in one["left_out"]})
    rows = []
    for name, one in found["methods"].items():
        counts = [str(one["without_answer"].get(question, 0)) for question in QUESTIONS]
        left_out = [str(one["left_out"].get(reason, 0)) for reason in reasons]
        rows.append([_cell(name), str(one["judged"]), *counts, *left_out])
    return ["method", "judged", *(f"no {HEADS[name]}" for name in QUESTIONS), *reasons], rows


def _region_lines(found: Mapping) -> list[str]:
    told = {name: one["regions"] for name, one in found["methods"].items()}
    if not any(mean["n"] for one in told.values() for mean in one.values()):
        return []
    rows = [[_cell(name), *(_mean(one[score], None) for score in REGION_HEADS)] for name, one in told.items()]
    lines = ["", "## Regions", "", "Share of a record's regions with the answer yes, averaged over records.", ""]
    return [*lines, *_table(["method", *REGION_HEADS.values()], rows)]


def _text_lines(found: Mapping) -> list[str]:
    told = {name: one["text"] for name, one in found["methods"].items() if one["text"]["n"]}
    if not told:
        return []
    readers = ", ".join(sorted({one["by"] for one in told.values()}))
    lines = [
        "",
        "## Texts",
        "",
        f"Share of the records that ask for a text and show it letter by letter, whatever the case, read by {readers}.",
        "",
    ]
    return [
        *lines,
        *_table(["method", "letter by letter"], [[_cell(name), _mean(one, None)] for name, one in told.items()]),
    ]


def _group_lines(found: Mapping, kind: str, title: str) -> list[str]:
    methods = {name: one["by"][kind] for name, one in found["methods"].items() if kind in one["by"]}
    groups = sorted({group for by in methods.values() for group in by})
    if not groups:
        return ["", f"## {title}", "", "The records do not say; give the field by --field when they are read."]
    lines = ["", f"## {title}"]
    for column in ("overall", "weighted"):
        rows = []
        for group in groups:
            told = [by.get(group, {}).get(column) for by in methods.values()]
            rows.append([_cell(group) or "(none)", *(_mean(one, None) if one else "-" for one in told)])
        lines += ["", HEADS[column], "", *_table([kind.replace("_", " "), *map(_cell, methods)], rows)]
    return lines


def _metric_lines(metrics: Mapping) -> list[str]:
    columns = {(name, one["encoder"]) for told in metrics.values() for name, one in told.items()}
    if not columns:
        return []
    columns = sorted(columns)
    lines = [
        "",
        "## Against captions and targets",
        "",
        "LPIPS and FID: lower is better. FID and IS change with the number of images: compare those of the same n. In "
        "brackets: by which encoder.",
        "",
    ]
    rows = []
    for method, told in metrics.items():
        cells = [told.get(name, {}) for name, _ in columns]
        cells = [one if one.get("encoder") == by else {} for one, (_, by) in zip(cells, columns, strict=True)]
        rows.append([_cell(method), *(_precise(one) for one in cells)])
    heads = [_cell(f"{name.upper().replace('_', '-')} ({by})") for name, by in columns]
    return [*lines, *_table(["method", *heads], rows)]


def _precise(told: Mapping) -> str:
    if told.get("mean") is None:
        return "-"
    bound = "" if told["error"] is None else f" ± {told['error']:.4f}"
    return f"{told['mean']:.4f}{bound} (n = {told['n']})"


def _mean(told: Mapping, usual: int | None) -> str:
    """A mean as a cell; with its number of records where that is not the row's."""
    text = str(Mean(told["mean"], told["error"], told["n"]))
    return text if told["n"] == usual else f"{text} (n = {told['n']})"


def _signed(told: Mapping) -> str:
    if told["mean"] is None:
        return "-"
    return f"{told['mean']:+.2f}" + ("" if told["error"] is None else f" ± {told['error']:.2f}")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]
