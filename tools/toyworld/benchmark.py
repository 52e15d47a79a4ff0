"""Edits measured in the toy world: `python tools/toyworld/benchmark.py --scenes 40`.

Held-out scenes go through the real ComfyUI server, with the pack's nodes, the stock loaders and the trained tiny
editor, once for each method; every result is measured against the exact target. Sets ComfyUI up first if need be.

    --methods plain,replan     some methods (default: the four main ones)
    --methods all              every method: knocked-out rules, switch, expansion, shifted boxes, numbers of regions
    --list                     what there is
    --planner                  instruction -> plan -> edit: the toy world's planner finds the regions itself
    --json FILE --sheet FILE   the figures, and images of the first scenes
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
sys.path.append(str(TOOLS))

from host_setup import ROOT, add_arguments, call, host_from  # noqa: E402

SHEET_ROWS = 8


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--scenes", type=int, default=40, help="held-out scenes (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="any whole number: other scenes, all held out (default: 0)")
    parser.add_argument("--steps", type=int, default=20, help="sampling steps (default: 20)")
    parser.add_argument("--methods", default="main", help="names with commas between them, 'main' (default) or 'all'")
    parser.add_argument(
        "--planner",
        nargs="?",
        type=Path,
        const=True,
        metavar="DIR",
        help="measure the planner instead of methods (default: the one in tools/toyworld/weights)",
    )
    parser.add_argument("--list", action="store_true", help="print the methods and stop")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write images of the first scenes there")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="trained weights (default: tools/toyworld/weights)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = options()
    args = parser.parse_args(arguments)
    if args.scenes < 1 or args.steps < 1:
        parser.error("give at least one scene and one step")
    for file in (args.json, args.sheet):
        if file and (problem := unwritable(file)):
            parser.error(problem)
    if not args.here:
        host = host_from(args)
        where = ["--comfyui", str(host.comfyui)] if not args.comfyui else []
        return call([str(host.python), __file__, "--here", *arguments, *where], host)
    from bench import import_pack

    import_pack()
    return run(parser, args)


def unwritable(file: Path) -> str:
    """Why a result cannot be written there; empty when it can. Better known before hours of work than after."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        there = file.exists()
        with file.open("ab"):
            pass
        if not there:
            file.unlink()
    except OSError as error:
        return f"{file} cannot be written: {error.strerror}"
    return ""


def run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """The part that needs the pack and its environment."""
    from replan.tools.host_server import PromptError, ServerError
    from replan.tools.toyworld import tables, weights
    from replan.tools.toyworld.methods import METHODS, chosen
    from replan.tools.toyworld.planner_benchmark import in_words
    from replan.tools.toyworld.planner_benchmark import measure as measure_planner
    from replan.tools.toyworld.sheets import is_image_file

    if args.list:
        print("\n".join(f"{name:28} {method.what}" for name, method in METHODS.items()))
        return 0
    if args.sheet and not is_image_file(args.sheet):
        parser.error(f"--sheet {args.sheet} is no image that can be written; let its name end in .png or .jpg")
    try:
        names = chosen(args.methods)
    except ValueError as error:
        parser.error(f"{error}; --list names them all")
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # as Ctrl-C: what was measured is kept, the server stopped
    try:
        with tempfile.TemporaryDirectory(prefix="replan_toyworld_") as base:
            results, rows = (
                measure_planner(args, Path(base), ROOT) if args.planner else measure(args, names, Path(base))
            )
    except (weights.WeightsError, PromptError, ServerError) as error:
        print(f"benchmark.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbenchmark.py: interrupted before the first scene was done", file=sys.stderr)
        return 1
    if args.planner:
        print(in_words(results))
    print(tables.scores(results))
    if not args.planner:
        print(f"\n{tables.kinds(results)}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if args.sheet:
        from replan.tools.toyworld.sheets import result_sheet

        result_sheet(*rows).save(args.sheet)
        print(f"Images: {args.sheet}")
    if results.get("stopped"):
        print(
            f"benchmark.py: stopped after {results['scenes']} of {args.scenes} scenes: {results['stopped']}",
            file=sys.stderr,
        )
        return 1
    return 0


def measure(args: argparse.Namespace, names: Sequence[str], base: Path) -> tuple[dict, tuple]:
    """Run every method on every scene; the figures, as `--json` writes them, and what `result_sheet` draws.

    A problem after the first scene ends the run with the scenes that were done; `stopped` says what it was.
    """
    from replan.tools.host_server import HostServer, PromptError, ServerError
    from replan.tools.toyworld import scoring, weights
    from replan.tools.toyworld.editing import Editing
    from replan.tools.toyworld.methods import METHODS

    models = ROOT / ".host" / "models"
    own = [args.weights] if args.weights else []
    weights.ensure(models, *own)
    measured = weights.fingerprint(*own)
    scenes: list[dict[str, tuple]] = []  # of each scene, every method's scores, outcomes and seconds
    rows, begun, stopped = [], time.monotonic(), ""
    try:
        with HostServer(args.comfyui, base=base, pack=ROOT, models=models) as server:
            editing = Editing(server, base, args.steps)
            editing.warm_up(METHODS[names[0]])
            for index in range(args.scenes):
                done, shown = {}, {}
                for name in names:
                    task = editing.task(METHODS[name], args.seed, index)
                    edit = editing.run(METHODS[name], task)
                    done[name] = scoring.score(task, edit.pixels), scoring.outcomes(task, edit.pixels), edit.seconds
                    shown.setdefault(task, []).append((name, task, edit.pixels))
                scenes.append(done)
                if index < SHEET_ROWS:
                    rows += shown.values()  # methods that differ in the task have rows of their own
                passed = time.monotonic() - begun
                left = passed / (index + 1) * (args.scenes - index - 1)
                print(
                    f"\rscene {index + 1} of {args.scenes}, {passed:.0f} s, {left:.0f} s left ",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
    except (KeyboardInterrupt, PromptError, ServerError) as error:
        if not scenes:
            raise
        stopped = str(error) or "interrupted"
    print(file=sys.stderr)
    methods = {}
    for name in names:
        scores, outcomes, seconds = zip(*(done[name] for done in scenes), strict=True)
        figures = {key: round(value, 4) for key, value in asdict(scoring.mean(scores)).items()}
        methods[name] = {key: None if value != value else value for key, value in figures.items()}
        methods[name]["seconds"] = round(statistics.median(seconds), 3)
        by_kind = scoring.effect_by_kind(one for scene in outcomes for one in scene)
        methods[name]["tasks"] = METHODS[name].tasks
        methods[name]["effect_by_scene"] = [round(one.effect, 4) for one in scores]
        methods[name]["effect_by_kind"] = {kind: round(value, 4) for kind, value in by_kind.items()}
    terms = {"scenes": len(scenes), "seed": args.seed, "steps": args.steps, "weights": measured}
    results = {**terms, "methods": methods}
    return results | ({"stopped": stopped} if stopped else {}), (rows,)


if __name__ == "__main__":
    sys.exit(main())
