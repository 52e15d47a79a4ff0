"""The benchmark's figures as Markdown tables: `python tools/toyworld/tables.py sweep.json more.json --against replan`.

Takes what `benchmark.py --json` wrote. Files of the same scenes are read as one, so a long sweep can be split.
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
    "target": "Target", "effect": "Effect", "consistency_psnr": "PSNR outside (dB)", "outside_changed": "changed outside",
    "lookalikes_changed": "look-alikes changed", "overall": "Overall", "weighted": "Weighted", "seconds": "s",
}  # fmt: skip
COARSE = ("consistency_psnr", "seconds")  # with one decimal; all others are shares
SAME = ("scenes", "seed", "steps")  # of files that can be read as one


class TableError(ValueError):
    """Files that are none of the benchmark's, or cannot be compared."""


def scores(results: dict, against: str = "") -> str:
    """A row for each method. against: a method; a further column says how much more Effect each has on the same scenes.

    After a plus-minus sign stands the standard error of the mean over scenes; of the difference scene by scene
    in the further column, which is smaller where two methods fail on the same scenes.
    """
    heads = [*HEADS.values(), *([f"Effect against {against}"] if against else [])]
    lines = [_row("method", *heads), "|---" * (1 + len(heads)) + "|"]
    for name, figures in results["methods"].items():
        cells = [_cell(key, figures.get(key)) for key in HEADS]
        each = figures.get("effect_by_scene", [])
        if len(each) > 1:
            cells[list(HEADS).index("effect")] += f" ± {_error(each):.3f}"
        if against:
            cells.append("-" if name == against else _difference(each, results["methods"][against]["effect_by_scene"]))
        lines.append(_row(name, *cells))
    return "\n".join(lines)


def kinds(results: dict) -> str:
    """Effect by kind of edit."""
    rows = {name: figures["effect_by_kind"] for name, figures in results["methods"].items()}
    columns = sorted({kind for row in rows.values() for kind in row})
    lines = [_row("Effect", *columns), "|---" * (1 + len(columns)) + "|"]
    lines += [_row(name, *(_cell(kind, row.get(kind)) for kind in columns)) for name, row in rows.items()]
    return "\n".join(lines)


def joined(files: Sequence[Path]) -> dict:
    """Results of several files as one. Raises TableError when one is none, or of other scenes than the first."""
    whole: dict = {}
    for file in files:
        try:
            results = json.loads(file.read_text(encoding="utf-8"))
            methods, terms = results["methods"], {key: results[key] for key in SAME}
            scores(results), kinds(results)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TableError(f"{file} holds no methods that `benchmark.py --json` measured ({type(error).__name__}: {error})") from None
        if whole and terms != {key: whole[key] for key in SAME}:
            raise TableError(f"{file} has {terms}, the files before it {({key: whole[key] for key in SAME})}; give files of the same scenes")
        whole = {**terms, "methods": {**whole.get("methods", {}), **methods}}
    return whole


def _error(each: Sequence[float]) -> float:
    """The standard error of the mean."""
    return statistics.stdev(each) / math.sqrt(len(each))


def _difference(each: Sequence[float], base: Sequence[float]) -> str:
    if len(each) != len(base) or len(each) < 2:
        return "-"
    apart = [one - other for one, other in zip(each, base, strict=True)]
    return f"{statistics.mean(apart):+.3f} ± {_error(apart):.3f}"


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
    parser.add_argument("--against", default="", metavar="METHOD", help="compare the Effect with this method's, scene by scene")
    parser.add_argument("--kinds", action="store_true", help="the Effect by kind of edit instead")
    args = parser.parse_args(arguments)
    try:
        results = joined(args.files)
        names = args.methods.split(",") if args.methods else list(results["methods"])
        if missing := [name for name in (*names, *([args.against] if args.against else [])) if name not in results["methods"]]:
            raise TableError(f"no method called {missing[0]!r} was measured; there are {', '.join(results['methods'])}")
        if args.against and not results["methods"][args.against].get("effect_by_scene"):
            raise TableError(f"{args.against} was measured by an older benchmark, which did not write its scenes one by one")
    except TableError as error:
        print(f"tables.py: {error}", file=sys.stderr)
        return 1
    base = results["methods"]
    if args.kinds:
        print(kinds({"methods": {name: base[name] for name in names}}))
        return 0
    shown = {name: base[name] for name in dict.fromkeys((*names, *([args.against] if args.against else [])))}
    print(scores({"methods": shown}, args.against))
    return 0


if __name__ == "__main__":
    sys.exit(main())
