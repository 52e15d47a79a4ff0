"""What judged edits are worth, as tables: `python tools/iv_edit/report.py RUN`.

RUN is the folder that generate.py and judge.py wrote to: RUN/<method>/<id>/final_result.png with judge.json beside it.
Writes RUN/report.md and RUN/report.json: means with standard errors, by referring and task type, differences between
methods record by record, and what got no answer, counted apart and never as 0.

Examples:  python tools/iv_edit/report.py runs/iv --against plain
           python tools/iv_edit/report.py runs/iv --published --as-upstream
           python tools/iv_edit/report.py runs/iv --results theirs=other/output --config report.yaml
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path.insert(0, str(TOOLS))
    from bench import import_pack

    import_pack()

from replan.evaluation.scores import QUESTIONS  # noqa: E402
from replan.tools.batches.config import put_into, read_config  # noqa: E402
from replan.tools.batches.items import BatchError  # noqa: E402
from replan.tools.batches.results import write_whole  # noqa: E402
from replan.tools.iv_edit import published  # noqa: E402
from replan.tools.iv_edit.figures import (  # noqa: E402
    COLUMNS,
    Mean,
    as_upstream,
    grouped,
    mean_of,
    means,
    of_means,
    paired,
    totals,
)
from replan.tools.iv_edit.records import FOLDER, Record, read_records  # noqa: E402

IMAGE, JUDGED, METRICS = "final_result.png", "judge.json", "metrics.json"
UPSTREAM = "gemini_evaluation_result.json"
HEADS = {
    "quality": "Quality", "target": "Target", "effect": "Effect", "consistency": "Consistency", "overall": "Overall",
    "weighted": "Weighted", "weighted_paper": "Weighted (paper's text)",
}  # fmt: skip


@dataclass
class Method:
    """What is known of one method. rows: scores by id. lost: by id, questions without an answer. others: by id, why
    there is no row at all. judges: provider and model that gave the scores, with how many."""

    name: str
    folder: Path
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    lost: dict[str, tuple[str, ...]] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    judges: Counter = field(default_factory=Counter)


def methods_of(run: Path, more: Sequence[str] = ()) -> dict[str, Path]:
    """The folders with results: those of a run, and NAME=FOLDER of elsewhere. Raises BatchError without any."""
    found = {}
    for folder in sorted(run.iterdir()) if run.is_dir() else ():
        if folder.is_dir() and folder.name != FOLDER and next(folder.glob(f"*/{IMAGE}"), None):
            found[folder.name] = folder
    for text in more:
        name, equals, folder = text.partition("=")
        if not equals or not Path(folder).is_dir():
            raise BatchError(f"--results {text}: NAME=FOLDER was expected, a folder with <id>/{IMAGE}")
        found[name] = Path(folder)
    if not found:
        raise BatchError(
            f"{run} holds no results (METHOD/<id>/{IMAGE}); run generate.py, or give --results NAME=FOLDER"
        )
    return found


def read_method(name: str, folder: Path, records: Sequence[Record], zeros: bool = False) -> Method:
    """The judged records of one method. zeros: count what is missing as the published code does, as 0."""
    method = Method(name, folder)
    for record in records:
        place = folder / record.id
        answers, lost, judge, why = _answers(place)
        if why:
            method.others[record.id] = why
            if zeros:
                method.rows[record.id] = as_upstream({})
            continue
        if lost:
            method.lost[record.id] = lost
        method.rows[record.id] = as_upstream(answers) if zeros else totals(answers)
        method.judges[judge] += 1
    return method


def _answers(place: Path) -> tuple[dict[str, float], tuple[str, ...], str, str]:
    """Of one edit: the four answers, the questions without one, who judged, and why there is nothing."""
    image, file = place / IMAGE, place / JUDGED
    if not image.is_file():
        return {}, (), "", "no image"
    try:
        if not file.is_file() and (place / UPSTREAM).is_file():
            data = json.loads((place / UPSTREAM).read_text(encoding="utf-8"))
            return _upstream(data)
        data = json.loads(file.read_text(encoding="utf-8"))
        given, judge = data["scores"]["image"], f"{data['provider']} {data['model']}"
        if data["image_sha256"] != hashlib.sha256(image.read_bytes()).hexdigest():
            return {}, (), "", "judged before the image changed"
        answers = {name: float(given[name]) for name in QUESTIONS if name in given}
    except FileNotFoundError:
        return {}, (), "", "not judged"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, (), "", f"its {JUDGED} cannot be read"
    return answers, tuple(name for name in QUESTIONS if name not in answers), judge, ""


def _upstream(data: Mapping) -> tuple[dict[str, float], tuple[str, ...], str, str]:
    """What RePlan's own evaluation wrote beside the image."""
    told = data["evaluation"]["dimensional_evals"]
    names = {"target": "target_following"}
    found = {name: (told.get(names.get(name, name)) or {}).get(f"{name}_score") for name in QUESTIONS}
    answers = {name: float(value) for name, value in found.items() if value is not None}
    return answers, tuple(name for name in QUESTIONS if name not in answers), "RePlan's evaluation code", ""


def summary(methods: Sequence[Method], records: Sequence[Record], against: str = "") -> dict:
    """All numbers of a report, as what report.json holds. Raises BatchError for an unknown method."""
    names = [method.name for method in methods]
    if against and against not in names:
        raise BatchError(f"--against {against}: there is no such method, only {', '.join(names)}")
    types = {
        "referring_type": {record.id: record.referring_type for record in records},
        "task_type": {record.id: record.task_type for record in records},
    }
    found: dict = {"records": len(records), "methods": {}, "paired": [], "metrics": metrics_of(methods, records)}
    for method in methods:
        columns = means(list(method.rows.values()))
        found["methods"][method.name] = {
            "judged": sum(method.judges.values()),
            "complete": sum("overall" in row for row in method.rows.values()),
            "without_answer": dict(Counter(name for lost in method.lost.values() for name in lost)),
            "left_out": dict(Counter(method.others.values())),
            "judges": dict(method.judges),
            "columns": {name: _told(mean) for name, mean in columns.items()},
            "formula_on_column_means": {name: of_means(columns, name) for name in ("code", "paper")},
            "by": {
                kind: {
                    group: {name: _told(mean) for name, mean in means(rows).items()}
                    for group, rows in grouped(method.rows, groups).items()
                }
                for kind, groups in types.items()
                if any(groups.values())
            },
        }
    base = next((method for method in methods if method.name == against), None)
    pairs = [(one, base) for one in methods if one is not base] if base else []
    if not base:
        pairs = [(other, one) for number, one in enumerate(methods) for other in methods[number + 1 :]]
    for one, other in pairs:
        for column in COLUMNS:
            change = paired(one.rows, other.rows, column)
            found["paired"].append(
                {
                    "method": one.name, "against": other.name, "score": column, **_told(change.mean),
                    "better": change.better, "worse": change.worse, "standard_errors": change.ratio,
                }
            )  # fmt: skip
    return found


def metrics_of(methods: Sequence[Method], records: Sequence[Record]) -> dict[str, dict]:
    """What metrics.py measured: for each method and measure its mean, or its value over the whole set, by what."""
    known = {record.id for record in records}
    found: dict[str, dict] = {}
    for method in methods:
        try:
            data = json.loads((method.folder / METRICS).read_text(encoding="utf-8"))
            rows = [row for name, row in data["records"].items() if name in known]
            told = {
                name: {**_told(mean_of(row[name] for row in rows if name in row)), "encoder": encoder}
                for name, encoder in data["encoders"].items()
            }
            together = {
                name: {"mean": one["value"], "error": None, "n": one["n"], "encoder": one["encoder"]}
                for name, one in data["together"].items()
            }
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise BatchError(f"{method.folder / METRICS} cannot be read; run metrics.py again") from None
        found[method.name] = told | together
    return found


def _told(mean: Mean) -> dict:
    return {"mean": mean.value, "error": mean.error, "n": mean.count}


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
        "LPIPS and FID: lower is better. In brackets: by which encoder.",
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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML or JSON with these options")
    parser.add_argument("--results", action="append", default=[], metavar="NAME=FOLDER", help="results from elsewhere")
    parser.add_argument(
        "--against", default="", metavar="METHOD", help="compare all with this one (default: all pairs)"
    )
    parser.add_argument("--published", action="store_true", help="show published numbers too, named as published")
    parser.add_argument("--as-upstream", action="store_true", help="count what is missing as 0, as the published code")
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        first = argparse.ArgumentParser(add_help=False)
        first.add_argument("--config", type=Path)
        if file := first.parse_known_args(arguments)[0].config:
            put_into(parser, read_config(file), file, ())
        args = parser.parse_args(arguments)
        records = read_records(args.run)
        folders = methods_of(args.run, args.results)
        methods = [read_method(name, folder, records, args.as_upstream) for name, folder in folders.items()]
        found = summary(methods, records, args.against)
        text = markdown(found, args.published, args.as_upstream)
        write_whole(args.run / "report.json", json.dumps(found, indent=1, ensure_ascii=False).encode())
        write_whole(args.run / "report.md", text.encode())
    except (BatchError, OSError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
