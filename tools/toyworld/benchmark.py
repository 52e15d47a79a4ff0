"""Edits measured in the toy world: `python tools/toyworld/benchmark.py --scenes 40`.

Held-out scenes go through the real ComfyUI server, with the pack's nodes, the stock loaders and the trained tiny
editor, once for each method; every result is measured against the exact target. Sets ComfyUI up first if need be.

    --methods plain,replan     some methods (default: the four main ones)
    --methods all              every method: knocked-out rules, switch, expansion, shifted boxes, numbers of regions
    --list                     what there is
    --planner                  instruction -> plan -> edit: the toy world's planner finds the regions itself
    --json FILE --sheet FILE   the figures, and pictures of the first scenes
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
sys.path.append(str(TOOLS))

from host_setup import ROOT, add_arguments, host_from  # noqa: E402

SHEET_ROWS = 8
COLUMNS = ("target", "effect", "consistency_psnr", "outside_changed", "lookalikes_changed", "overall", "weighted", "seconds")


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--scenes", type=int, default=40, help="held-out scenes (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="any whole number: other scenes, all held out (default: 0)")
    parser.add_argument("--steps", type=int, default=20, help="sampling steps (default: 20)")
    parser.add_argument("--methods", default="main", help="names with commas between them, 'main' (default) or 'all'")
    parser.add_argument(
        "--planner", nargs="?", type=Path, const=True, metavar="DIR",
        help="measure the planner instead of methods (default: the one in tools/toyworld/weights)",
    )
    parser.add_argument("--list", action="store_true", help="print the methods and stop")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write pictures of the first scenes there")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="trained weights (default: tools/toyworld/weights)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = options()
    args = parser.parse_args(arguments)
    if args.scenes < 1 or args.steps < 1:
        parser.error("give at least one scene and one step")
    if not args.here:
        host = host_from(args)
        where = ["--comfyui", str(host.comfyui)] if not args.comfyui else []
        command = [str(host.python), __file__, "--here", *arguments, *where]
        return subprocess.call(command, env=host.environment())
    from bench import import_pack

    import_pack()
    return run(parser, args)


def run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """The part that needs the pack and its environment."""
    from replan.tools.host_server import PromptError, ServerError
    from replan.tools.toyworld import weights
    from replan.tools.toyworld.methods import MAIN, METHODS
    from replan.tools.toyworld.planner_benchmark import measure as measure_planner
    from replan.tools.toyworld.planner_benchmark import told

    if args.list:
        print("\n".join(f"{name:28} {method.what}" for name, method in METHODS.items()))
        return 0
    names = {"main": list(MAIN), "all": list(METHODS)}.get(args.methods) or args.methods.split(",")
    if unknown := [name for name in names if name not in METHODS]:
        parser.error(f"no method called {', '.join(map(repr, unknown))}; --list names them all")
    for file in (args.json, args.sheet):
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="replan_toyworld_") as base:
            results = measure_planner(args, Path(base), ROOT) if args.planner else measure(args, names, Path(base))
    except (weights.WeightsError, PromptError, ServerError) as error:
        print(f"benchmark.py: {error}", file=sys.stderr)
        return 1
    if args.planner:
        print(told(results))
    print(table(results))
    if not args.planner:
        print(f"\n{kinds_table(results)}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(args: argparse.Namespace, names: list[str], base: Path) -> dict:
    """Run every method on every scene; the figures, as `--json` writes them."""
    from replan.tools.host_server import HostServer
    from replan.tools.toyworld import scoring, weights
    from replan.tools.toyworld.editing import Editing
    from replan.tools.toyworld.methods import METHODS

    models = ROOT / ".host" / "models"
    weights.ensure(models, *([args.weights] if args.weights else []))
    scores: dict[str, list[scoring.Scores]] = {name: [] for name in names}
    outcomes: dict[str, list[scoring.Outcome]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    rows, begun = [], time.monotonic()
    with HostServer(args.comfyui, base=base, pack=ROOT, models=models) as server:
        editing = Editing(server, base, args.steps)
        editing.warm_up(METHODS[names[0]])
        for index in range(args.scenes):
            row = []
            for name in names:
                task = editing.task(METHODS[name], args.seed, index)
                edit = editing.run(METHODS[name], task)
                scores[name].append(scoring.score(task, edit.pixels))
                outcomes[name] += scoring.outcomes(task, edit.pixels)
                seconds[name].append(edit.seconds)
                row.append((name, task, edit.pixels))
            if index < SHEET_ROWS:
                rows.append(row)
            passed = time.monotonic() - begun
            left = passed / (index + 1) * (args.scenes - index - 1)
            print(f"\rscene {index + 1} of {args.scenes}, {passed:.0f} s, {left:.0f} s left ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if args.sheet:
        from replan.tools.toyworld.result_sheet import result_sheet

        result_sheet(rows).save(args.sheet)
        print(f"Pictures: {args.sheet}")
    methods = {}
    for name in names:
        figures = {key: round(value, 4) for key, value in asdict(scoring.mean(scores[name])).items()}
        methods[name] = {key: None if value != value else value for key, value in figures.items()}
        methods[name]["seconds"] = round(sorted(seconds[name])[len(seconds[name]) // 2], 3)
        methods[name]["effect_by_kind"] = {kind: round(value, 4) for kind, value in scoring.effect_by_kind(outcomes[name]).items()}
    return {"scenes": args.scenes, "seed": args.seed, "steps": args.steps, "methods": methods}


def table(results: dict) -> str:
    """The figures in Markdown."""
    heads = ("method", "Target", "Effect", "PSNR outside (dB)", "changed outside", "look-alikes changed", "Overall", "Weighted", "s")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, figures in results["methods"].items():
        cells = [_cell(key, figures.get(key)) for key in COLUMNS]
        lines.append("| " + " | ".join((name, *cells)) + " |")
    return "\n".join(lines)


def kinds_table(results: dict) -> str:
    """Effect by kind of edit, in Markdown."""
    rows = {name: figures["effect_by_kind"] for name, figures in results["methods"].items()}
    kinds = sorted({kind for row in rows.values() for kind in row})
    lines = ["| Effect | " + " | ".join(kinds) + " |", "|---" * (1 + len(kinds)) + "|"]
    for name, row in rows.items():
        lines.append("| " + " | ".join((name, *(_cell("effect", row.get(kind)) for kind in kinds))) + " |")
    return "\n".join(lines)


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if key in ("consistency_psnr", "seconds") else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
