"""The benchmark's figures as Markdown tables: `python tools/toyworld/tables.py sweep.json more.json --against replan`.

Takes what `benchmark.py --json` wrote. Files of the same scenes, steps and weights are read as one, so a long sweep can
be split by methods.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

HEADS = {
    "target": "Target", "effect": "Effect", "consistency_psnr": "PSNR outside (dB)",
    "outside_changed": "changed outside",
    "lookalikes_changed": "look-alikes changed", "overall": "Overall", "weighted": "Weighted", "seconds": "s",
}  # fmt: skip
COARSE = ("consistency_psnr", "seconds")  # with one decimal; all others are shares
SAME = ("scenes", "seed", "steps", "weights")  # of files that can be read as one


class TableError(ValueError):
    """Files that are none of the benchmark's, or cannot be compared."""


def scores(results: dict, against: str = "") -> str:
    """A row for each method, and a line that says what ± is.

    against: a method; a further column says how much more Effect each method of the same tasks has, and the standard
    error of that difference, taken scene by scene: it is smaller than that of the means where both fail on the same
    scenes.
    """
    methods = results["methods"]
    heads = [*HEADS.values(), *([f"Effect minus {against}'s"] if against else [])]
    lines = [_row("method", *heads), "|---" * (1 + len(heads)) + "|"]
    for name, figures in methods.items():
        cells = [_cell(key, figures.get(key)) for key in HEADS]
        each = figures.get("effect_by_scene", ())
        if len(each) > 1:
            cells[list(HEADS).index("effect")] += f" ± {_standard_error(each):.3f}"
        if against:
            cells.append(_difference(figures, methods[against]) if name != against else "")
        lines.append(_row(name, *cells))
    if any(len(figures.get("effect_by_scene", ())) > 1 for figures in methods.values()):
        lines += [
            "",
            f"±: standard error of the mean over {results['scenes']} scenes (no bound where all of them agree).",
        ]
    return "\n".join(lines)


def kinds(results: dict) -> str:
    """Effect by kind of edit."""
    rows = {name: figures["effect_by_kind"] for name, figures in results["methods"].items()}
    columns = sorted({kind for row in rows.values() for kind in row})
    lines = [_row("Effect", *columns), "|---" * (1 + len(columns)) + "|"]
    lines += [_row(name, *(_cell(kind, row.get(kind)) for kind in columns)) for name, row in rows.items()]
    return "\n".join(lines)


def joined(files: Sequence[Path]) -> dict:
    """Results of several files as one. Raises TableError when one is none, or cannot stand beside those before it."""
    whole: dict = {}
    for file in files:
        results = _read(file)
        terms = {key: results.get(key) for key in SAME} | {"planned": "planner" in results}
        if whole and (unlike := [key for key, value in terms.items() if value != whole[key]]):
            key = unlike[0]
            raise TableError(
                f"{file} has {key} {terms[key]}, the files before it {whole[key]}; "
                "give files that differ in their methods only"
            )
        if twice := set(results["methods"]) & set(whole.get("methods", ())):
            raise TableError(f"{file} has {min(twice)!r}, which a file before it has too; give each method once")
        whole = {**terms, "methods": {**whole.get("methods", {}), **results["methods"]}}
        if results.get("stopped"):
            print(f"tables.py: {file} holds the {results['scenes']} scenes before its run was stopped", file=sys.stderr)
    return whole


def _read(file: Path) -> dict:
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TableError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise TableError(f"{file} is no JSON") from None
    methods = results.get("methods") if isinstance(results, dict) else None
    count = results.get("scenes") if isinstance(results, dict) else None
    if not isinstance(methods, dict) or not methods or not all(_measured(one, count) for one in methods.values()):
        raise TableError(f"{file} does not hold the figures that `benchmark.py --json` writes")
    return results


def _measured(figures: object, scenes: object) -> bool:
    """Whether these are a method's figures: numbers, and one Effect for each scene where there are any."""
    if not isinstance(figures, dict) or not all(
        key in figures and _number(figures[key], or_none=True) for key in list(HEADS)[:-1]
    ):
        return False
    each, rows = figures.get("effect_by_scene", []), figures.get("effect_by_kind", {})
    if not isinstance(each, list) or not isinstance(rows, dict) or (each and len(each) != scenes):
        return False
    return all(map(_number, (*each, *rows.values()))) and _number(figures.get("seconds"), or_none=True)


def _number(value: object, or_none: bool = False) -> bool:
    if value is None:
        return or_none
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _standard_error(each: Sequence[float]) -> float:
    """Of the mean."""
    return statistics.stdev(each) / math.sqrt(len(each))


def _difference(figures: dict, base: dict) -> str:
    if figures.get("tasks") != base.get("tasks"):
        return "other tasks"
    pairs = zip(figures["effect_by_scene"], base["effect_by_scene"], strict=True)
    apart = [one - other for one, other in pairs]
    return f"{statistics.mean(apart):+.3f} ± {_standard_error(apart):.3f}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if key in COARSE else f"{value:.3f}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="what `benchmark.py --json FILE` wrote")
    parser.add_argument("--methods", help="only these, names with commas between them (default: all)")
    parser.add_argument("--against", metavar="METHOD", help="compare the Effect with this method's, scene by scene")
    parser.add_argument("--kinds", action="store_true", help="the Effect by kind of edit instead")
    args = parser.parse_args(arguments)
    if args.kinds and args.against:
        parser.error("--kinds shows shares alone; leave out --against")
    try:
        print(_asked(joined(args.files), args.methods, args.against, args.kinds))
    except TableError as error:
        print(f"tables.py: {error}", file=sys.stderr)
        return 1
    return 0


def _asked(results: dict, words: str | None, against: str | None, by_kind: bool) -> str:
    methods = results["methods"]
    names = list(methods) if words is None else [word.strip() for word in words.split(",") if word.strip()]
    if not names:
        raise TableError(f"{words!r} names no method")
    names = list(dict.fromkeys((*names, *((against,) if against else ()))))
    if missing := [name for name in names if name not in methods]:
        raise TableError(f"no method called {missing[0]!r} was measured; there are {', '.join(methods)}")
    if against and any(len(methods[name].get("effect_by_scene", ())) < 2 for name in names):
        raise TableError("a comparison needs two scenes at least, and a benchmark that writes them one by one")
    shown = {**results, "methods": {name: methods[name] for name in names}}
    if not by_kind:
        return scores(shown, against or "")
    if lacking := [name for name in names if "effect_by_kind" not in methods[name]]:
        raise TableError(f"{lacking[0]} was not measured by kind of edit")
    return kinds(shown)


if __name__ == "__main__":
    sys.exit(main())
