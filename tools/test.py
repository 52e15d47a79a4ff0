"""Set up ComfyUI if need be, then run every test of this repository: `python tools/test.py [pytest arguments]`.

Examples:  python tools/test.py              what a change must pass
           python tools/test.py --full       also the slow tests (marked `full`)
           python tools/test.py --host 0.27  against the older ComfyUI
           python tools/test.py -k plan      whatever pytest takes
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from browser_setup import ensure_browser
from host_setup import ROOT, add_arguments, host_from
from node_setup import ensure_checker


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--full", action="store_true", help="run the slow tests too")
    args, for_pytest = parser.parse_known_args()
    host = host_from(args)
    ensure_browser(host.python)
    ensure_checker()
    print(f"Python {host.python}\nComfyUI {host.version or '(version unknown)'} {host.comfyui}", flush=True)

    def run(*command: str) -> int:
        return subprocess.call([str(host.python), "-m", *command], cwd=ROOT, env=host.environment())

    style = run("ruff", "check", "--quiet", ".")
    chosen = [] if args.full else ["-m", "not full"]
    tests = run("pytest", *chosen, *for_pytest)
    # The last line is pytest's; a style error above it still fails the run.
    return tests or style


if __name__ == "__main__":
    sys.exit(main())
