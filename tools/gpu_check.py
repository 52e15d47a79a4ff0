"""The pack on a machine with a CUDA GPU: one folder to carry there, one command, one JSON.

    python tools/gpu_check.py pack DIR              make the folder (under 24 MiB), here, with a network
    sh DIR/run.sh --out RESULTS                     run it there: torch installed, no network, under 8 minutes
    python tools/gpu_check.py run --out RESULTS     the same from this checkout, on a machine with both
    python tools/gpu_check.py report results.json   the tables of an earlier run

Without a GPU everything runs small on the CPU, to try the check itself. docs/benchmark.md says what is measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from gpu import parts
from host_setup import add_arguments, host_from


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    pack = commands.add_parser("pack", help="make the folder to carry")
    pack.add_argument("folder", type=Path, metavar="DIR")
    pack.add_argument("--python-version", default="3.12", metavar="N.N", help="the Python there (default: 3.12)")
    pack.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # this Python has what it needs
    add_arguments(pack)

    run = commands.add_parser("run", help="measure, and write results.json, report.md and run.log")
    run.add_argument("--out", type=Path, default=Path("gpu_check_results"), metavar="DIR")
    run.add_argument("--minutes", type=float, default=parts.MINUTES, help=f"for everything (default: {parts.MINUTES})")
    run.add_argument("--small", action="store_true", help="small sizes on a GPU too")
    run.add_argument(
        "--parts", nargs="+", choices=parts.NAMES, metavar="PART", help=f"only these of: {', '.join(parts.NAMES)}"
    )
    add_arguments(run)

    report = commands.add_parser("report", help="print the tables of a results.json")
    report.add_argument("results", type=Path)
    report.add_argument("--file", type=Path, help="write them there as well")

    child = commands.add_parser("child")
    child.add_argument("--events", type=Path, required=True)
    child.add_argument("--comfyui", type=Path, required=True)
    child.add_argument("--work", type=Path, required=True)
    child.add_argument("--deadline", type=float, required=True)
    child.add_argument("--stretch", type=float, default=1.0)
    child.add_argument("--small", action="store_true")
    child.add_argument("--parts", nargs="+", required=True)
    return parser


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    args = options().parse_args(arguments)
    if args.command == "report":
        from gpu import report

        text = report.markdown(json.loads(args.results.read_text(encoding="utf-8")))
        if args.file:
            args.file.write_text(text, encoding="utf-8")
        print(text)
        return 0
    if args.command == "child":
        from gpu import child

        return child.main(args)
    if args.command == "run":
        from gpu import run

        return run.command(args)
    if not args.here:
        host = host_from(args)
        where = [] if args.comfyui else ["--comfyui", str(host.comfyui)]
        return subprocess.call([str(host.python), __file__, *arguments, "--here", *where], env=host.environment())
    from gpu import pack

    return pack.command(args, Path(args.comfyui))


if __name__ == "__main__":
    sys.exit(main())
