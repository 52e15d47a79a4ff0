"""Edit many images by one workflow: `python tools/batch.py WORKFLOW SOURCE --out FOLDER`.

WORKFLOW is a file in ComfyUI's API format (menu File, Export (API)). SOURCE is a folder of images, or a table (CSV,
TSV, JSON lines) with the columns image and, as you need them, instruction, plan, seed, id. ComfyUI must be running.
Each result is FOLDER/<id>/final_result.png with result.json beside it; the same command goes on where it was stopped.
docs/batches.md has more.

Examples:  python tools/batch.py edit_api.json photos --instruction "make the sky pink" --out pink
           python tools/batch.py edit_api.json list.csv --out done --servers http://gpu1:8188,http://gpu2:8188
           python tools/batch.py edit_api.json list.csv --out done --shard 2/4        on the second of four machines
           python tools/batch.py edit_api.json list.csv --out done --ray --comfyui /opt/ComfyUI
           python tools/batch.py --config batch.yaml
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench import import_pack

if TYPE_CHECKING:
    from replan.tools.batches.items import Item, Source
    from replan.tools.batches.places import EditPlace

LOCAL = "http://127.0.0.1:8188"
ONLY_IN_FILE = ("headers",)


def options() -> argparse.ArgumentParser:
    from replan.tools.batches.config import above_zero, at_least_one, shard, share, whole, zero_or_more

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workflow", type=Path, help="the workflow, in API format")
    parser.add_argument("source", type=Path, help="a folder of images, or a table")
    parser.add_argument("--out", type=Path, help="the folder for the results")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML or JSON with these options")
    parser.add_argument("--instruction", metavar="TEXT", help="for items that have none")
    parser.add_argument("--seed", type=int, metavar="N", help="for items that have none (default: the workflow's)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NODE.INPUT=COLUMN", help="an input that a column fills"
    )
    parser.add_argument("--result", default="", metavar="NODE", help="the node whose image is the result")
    parser.add_argument("--servers", metavar="URL,..", help=f"addresses of ComfyUI (default: {LOCAL})")
    parser.add_argument("--retries", type=whole, default=2, metavar="N", help="tries more for a failed item (2)")
    parser.add_argument("--timeout", type=above_zero, default=3600, metavar="S", help="seconds for one prompt (3600)")
    parser.add_argument(
        "--patience", type=zero_or_more, default=600, metavar="S", help="seconds without any ComfyUI (600)"
    )
    parser.add_argument("--shard", type=shard, default=(1, 1), metavar="I/N", help="every N-th item, from the I-th")
    parser.add_argument("--limit", type=whole, metavar="N", help="no more than so many items")
    parser.add_argument("--again", action="store_true", help="edit items that have a result too")
    parser.add_argument("--redo", type=whole, default=0, metavar="N", help="edit failed regions again, N times at most")
    parser.add_argument("--redo-workflow", type=Path, metavar="FILE", help="the workflow for that, in API format")
    parser.add_argument("--threshold", type=share, default=0.5, help="a region below this score failed (0.5)")
    parser.add_argument("--dry-run", action="store_true", help="edit and write nothing; say what would be done")
    parser.add_argument(
        "--ray", nargs="?", const="local", metavar="ADDRESS", help="on a Ray cluster, or on this machine"
    )
    parser.add_argument(
        "--actors", type=at_least_one, metavar="N", help="with --ray: how many ComfyUIs (default: the GPUs)"
    )
    parser.add_argument("--comfyui", metavar="DIR", help="with --ray: ComfyUI's folder on every machine")
    parser.add_argument("--python", metavar="PY", help="with --ray: the Python that runs ComfyUI")
    parser.add_argument("--models", metavar="DIR", help="with --ray: the models folder (default: ComfyUI's)")
    parser.add_argument("--flags", default="", metavar="'..'", help="with --ray: flags for ComfyUI, such as '--cpu'")
    return parser


def main(arguments: list[str] | None = None) -> int:
    import_pack()
    from replan.tools.batches.cluster import PACKAGES
    from replan.tools.batches.config import Keys, print_anything
    from replan.tools.batches.items import BatchError
    from replan.tools.own_environment import run_there

    print_anything()
    keys = Keys()
    terminal = sys.stderr.isatty()

    def say(text: str) -> None:
        if terminal:
            print(f"\r{'':<100}\r", end="", file=sys.stderr, flush=True)
        print(keys.hide(text), flush=True)

    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        args, only = read(arguments)
        if args.ray and not args.dry_run and importlib.util.find_spec("ray") is None:
            return run_there(__file__, arguments, "ray", PACKAGES)
        return batch(args, only, keys, say)
    except (BatchError, OSError) as error:
        print(keys.hide(f"batch.py: {error}"), file=sys.stderr)
        return 2


def read(arguments: list[str]) -> tuple[argparse.Namespace, dict]:
    """The options, those of a configuration file below those of the command line."""
    from replan.tools.batches.config import parse
    from replan.tools.batches.items import BatchError

    args, only = parse(options(), arguments, ONLY_IN_FILE)
    if not args.out and not args.dry_run:
        raise BatchError("--out FOLDER says where the results go")
    check(args)
    return args, only


def check(args: argparse.Namespace) -> None:
    """Raises BatchError for options that do not go together."""
    from replan.tools.batches.items import BatchError

    if args.ray and args.servers:
        raise BatchError("choose --servers or --ray: a Ray cluster starts ComfyUIs of its own")
    if bool(args.redo) != bool(args.redo_workflow):
        raise BatchError("--redo N and --redo-workflow FILE go together: how often, and by which workflow")


def batch(args: argparse.Namespace, only: dict, keys, say) -> int:
    from replan.tools.batches.editing import Editor, Redo
    from replan.tools.batches.items import Source
    from replan.tools.batches.results import FolderLock, Results
    from replan.tools.batches.run import Run, duration
    from replan.tools.batches.workflow import Filling, Workflow

    source = Source(args.source)
    columns = source.columns | {name for name in ("instruction", "seed") if getattr(args, name) is not None}
    filling = Filling(Workflow(args.workflow), columns, args.set, args.result)
    redo = None
    if args.redo:
        redo = Redo(Filling(Workflow(args.redo_workflow), columns | {"plan"}), args.redo, args.threshold)
    part, parts = args.shard
    total = (source.count - part) // parts + 1
    total = total if args.limit is None else min(total, args.limit)
    say(f"{total} items of {args.source}, {filling.workflow.file.name} ({filling.workflow.digest[:12]})")
    for place, column in filling.places:
        say(f"  {column} -> {filling.workflow.told(place)}")
    for column in filling.unused:
        say(f"  {column} -> no input; it is written beside the result")
    items = itertools.islice(with_defaults(source, args), total)
    if args.dry_run:
        return dry_run(items, total, Editor(filling, None, redo=redo), args, say)
    results = Results(args.out, "" if parts == 1 else f".{part}-of-{parts}", keys.hide)
    editor = Editor(filling, results, args.timeout, redo)
    with FolderLock(args.out, args.shard):
        results.begin()
        places, close = connect(args, only, keys, say)
        try:
            editor.check(places[0])
            run = Run(items, total, places, editor, args.retries, args.patience, say, args.again)
            counts = run.run()
        finally:
            close()
    say(
        f"{counts.done} edited, {counts.kept} done before, {counts.failed} failed, {counts.left} left "
        f"in {duration(time.monotonic() - counts.begun)}: {args.out}"
    )
    if counts.other:
        say(f"{counts.other} of those done before come from another workflow; --again edits them anew")
    if editor.not_redone:
        say(f"{len(editor.not_redone)} could not be edited again and keep their first edit: {editor.not_redone[0]}")
    if counts.failed:
        say(f"why items failed: {results.errors}")
    if run.stopped:
        say(f"{run.stopped}; the same command goes on from here")
        return 130 if "Ctrl-C" in run.stopped else 1
    return int(counts.failed > 0)


def with_defaults(source: Source, args: argparse.Namespace) -> Iterator[Item]:
    defaults = {name: getattr(args, name) for name in ("instruction", "seed") if getattr(args, name) is not None}
    for item in source.items(args.shard):
        yield item._replace(values={**defaults, **item.values})


def connect(args: argparse.Namespace, only: dict, keys, say) -> tuple[list[EditPlace], object]:
    """The places to edit on, those that answer first, and what ends them."""
    from replan.tools.batches.config import headers_in, server_of
    from replan.tools.batches.items import BatchError
    from replan.tools.batches.places import ServerError, ServerPlace
    from replan.tools.host_server import Client

    if args.ray:
        from replan.tools.batches import cluster

        return cluster.start(args, say)
    headers = headers_in(only)
    addresses = [one.strip() for one in (args.servers or LOCAL).split(",") if one.strip()]
    found = dict(server_of(address, headers, keys) for address in addresses)
    places = [ServerPlace(Client(url, sent)) for url, sent in found.items()]
    silent = {}
    for place in places:
        try:
            place.busy()
        except (OSError, ServerError) as error:
            silent[place.name] = getattr(error, "reason", None) or error
    for name, reason in silent.items():
        say(f"{name} does not answer: {reason}")
    if len(silent) == len(places):
        raise BatchError(f"no ComfyUI answers at {', '.join(silent)}: start one, or give its address by --servers")
    return sorted(places, key=lambda place: place.name in silent), lambda: None


def dry_run(items: Iterator[Item], total: int, editor, args: argparse.Namespace, say) -> int:
    """Everything but the edits: what would be filled, what cannot be, and what the tool itself costs."""
    from replan.tools.batches.measure import Measured
    from replan.tools.batches.places import NoPlace
    from replan.tools.batches.run import Run

    measured = Measured(items, total)
    counts = Run(measured, total, [NoPlace()], editor, 0, say=say).run()
    say(f"dry run: {counts.done} items could be edited, {counts.failed} could not; nothing was written")
    say(measured.line())
    return int(counts.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
