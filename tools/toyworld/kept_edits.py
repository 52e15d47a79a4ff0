"""What the commands share that render edits, keep them, and score them: options, the way into ComfyUI's Python."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from host_setup import ROOT, add_arguments, call, host_from


def options_for(about: str, scenes: int, folder: str) -> argparse.ArgumentParser:
    """about: the command's docstring. scenes: by default. folder: below out/, for what was rendered."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--scenes", type=int, default=scenes, help="held-out scenes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="any whole number: other scenes, all held out (default: 0)")
    parser.add_argument("--steps", type=int, default=8, help="sampling steps (default: 8)")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / folder, help="where rendered edits are kept")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop rendering after so long")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="trained weights (default: tools/toyworld/weights)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every score there")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    return parser


def run(
    script: str, parser: argparse.ArgumentParser, arguments: Sequence[str] | None,
    render: Callable[[argparse.Namespace], int], score: Callable[[argparse.Namespace, int], list[dict]],
    tables: Callable[[list[dict]], str],
) -> int:  # fmt: skip
    """The command, in ComfyUI's Python; its exit status.

    render: renders what is missing, and gives how many scenes there are. score: their rows. tables: what is printed.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parser.parse_args(arguments)
    if args.scenes < 1 or args.steps < 1:
        parser.error("give at least one scene and one step")
    if not args.here:
        host = host_from(args)
        where = ["--comfyui", str(host.comfyui)] if not args.comfyui else []
        return call([str(host.python), script, "--here", *arguments, *where], host)
    from bench import import_pack

    import_pack()
    from replan.tools.host_server import PromptError, ServerError
    from replan.tools.toyworld.weights import WeightsError

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    name = Path(script).name
    try:
        count = render(args)
        if not count:
            print(f"{name}: stopped before the first scene was done", file=sys.stderr)
            return 1
        rows = score(args, count)
    except (WeightsError, PromptError, ServerError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    if args.json:
        args.json.write_text(json.dumps(rows) + "\n", encoding="utf-8")
    print(tables(rows))
    return 0


def say(text: str) -> None:
    """On one line of the console, over what was said before."""
    print(f"\r{text}    ", end="", file=sys.stderr, flush=True)
