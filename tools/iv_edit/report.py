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
import math
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

from replan.evaluation.judge_questions import SCALES  # noqa: E402
from replan.evaluation.scores import QUESTIONS  # noqa: E402
from replan.tools.batches.config import parse, print_anything  # noqa: E402
from replan.tools.batches.items import BatchError  # noqa: E402
from replan.tools.batches.results import write_whole  # noqa: E402
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
from replan.tools.iv_edit.tables import REGION_HEADS, markdown  # noqa: E402

IMAGE, JUDGED, METRICS, TEXT = "final_result.png", "judge.json", "metrics.json", "text.json"
UPSTREAM = "gemini_evaluation_result.json"


@dataclass
class Method:
    """What is known of one method. rows: scores by id. lost: by id, questions without an answer. others: by id, why
    there is no row at all. judges: provider and model that gave the scores, with how many. regions: by id, the mean of
    its regions' answers. texts: by id, whether the text that was asked for is read, as 0 or 1."""

    name: str
    folder: Path
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    lost: dict[str, tuple[str, ...]] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    judges: Counter = field(default_factory=Counter)
    regions: dict[str, dict[str, float]] = field(default_factory=dict)
    texts: dict[str, float] = field(default_factory=dict)
    reader: str = ""


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
        if not name or name in found:
            raise BatchError(f"--results {text}: {name or 'an empty name'} is taken; choose another name")
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
        if (read := _fresh(place, TEXT)) is not None:
            method.texts[record.id], method.reader = float(bool(read.get("text_exact"))), str(read.get("by", ""))
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
        method.regions[record.id] = _of_regions(place)
    return method


def _fresh(place: Path, name: str) -> dict | None:
    """A file beside an image, if it is of that very image."""
    try:
        data = json.loads((place / name).read_text(encoding="utf-8"))
        return data if data["image_sha256"] == _digest(place) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(place: Path) -> str | None:
    """SHA-256 of an edit; None where it is not there."""
    image = place / IMAGE
    return hashlib.sha256(image.read_bytes()).hexdigest() if image.is_file() else None


def _of_regions(place: Path) -> dict[str, float]:
    """The mean answer of an edit's regions to each question about them; what none answered is not in it."""
    scores = _mapping(_mapping(_fresh(place, JUDGED)).get("scores"))
    regions = [_mapping(one) for one in _mapping(scores.get("regions")).values()]
    found = {
        name: mean_of(
            float(one[name]) for one in regions if isinstance(one.get(name), (int, float)) and 0 <= one[name] <= 1
        )
        for name in REGION_HEADS
    }
    return {name: mean.value for name, mean in found.items() if mean.value is not None}


def _mapping(value: object) -> Mapping:
    return value if isinstance(value, Mapping) else {}


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
        if data["image_sha256"] != _digest(place):
            return {}, (), "", "judged before the image changed"
        answers = _on_scale(given)
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
    answers = _on_scale(found)
    return answers, tuple(name for name in QUESTIONS if name not in answers), "RePlan's evaluation code", ""


def _on_scale(given: Mapping) -> dict[str, float]:
    """The answers that are on the questions' scale; one that is not (7, nan) is none."""
    found = {name: float(given[name]) for name in QUESTIONS if given.get(name) is not None}
    return {name: value for name, value in found.items() if 1 <= value <= max(SCALES[name])}


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
            "regions": {name: _told(mean) for name, mean in means(list(method.regions.values()), REGION_HEADS).items()},
            "text": {**_told(mean_of(method.texts.values())), "by": method.reader},
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
            changed = [name for name, digest in data["images"].items() if _digest(method.folder / name) != digest]
            if changed:
                raise BatchError(
                    f"{method.folder / METRICS} was measured before {len(changed)} images changed ({changed[0]}); run "
                    "metrics.py again"
                )
            rows = [row for name, row in data["records"].items() if name in known]
            told = {
                name: {
                    **_told(mean_of(row[name] for row in rows if math.isfinite(row.get(name, math.nan)))),
                    "encoder": encoder,
                }
                for name, encoder in data["encoders"].items()
            }
            together = {
                name: {"mean": one["value"], "error": None, "n": one["n"], "encoder": one["encoder"]}
                for name, one in data["together"].items()
                if math.isfinite(one["value"])
            }
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise BatchError(f"{method.folder / METRICS} cannot be read; run metrics.py again") from None
        found[method.name] = told | together
    return found


def _told(mean: Mean) -> dict:
    return {"mean": mean.value, "error": mean.error, "n": mean.count}


def main(arguments: list[str] | None = None) -> int:
    print_anything()
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
        args, _ = parse(parser, arguments)
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
