"""Set up ComfyUI if need be, then run the tests of this repository: `python tools/test.py [pytest arguments]`.

Examples:  python tools/test.py              what a change must pass, in three processes
           python tools/test.py --fast       the same without servers and browsers, while you work
           python tools/test.py --full       also the slow tests (marked `full`)
           python tools/test.py --host 0.27  against the older ComfyUI
           python tools/test.py -k plan      whatever pytest takes; what chooses tests runs in one process
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from browser_setup import ensure_browser
from host_setup import HOME, ROOT, Host, add_arguments, host_from
from node_setup import ensure_checker

# Tests that share a server stay in one process, those of the page in another (tests/conftest.py); the page waits much,
# so a third one shares the cores with them.
PROCESSES = ("-n", "3", "--no-loadscope-reorder")
REPORTING = ("--durations", "--tb", "--color", "-q", "-v", "-r")  # arguments of pytest that choose no tests


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--fast", action="store_true", help="leave out the tests that need a server or a browser")
    parser.add_argument("--full", action="store_true", help="run the slow tests too")
    args, for_pytest = parser.parse_known_args()
    host = host_from(args)
    if not args.fast:
        ensure_browser(host.python)
    ensure_checker()
    print(f"Python {host.python}\nComfyUI {host.version or '(version unknown)'} {host.comfyui}", flush=True)

    style = run(host, "ruff", "check", "--quiet", ".") + run(host, "ruff", "format", "--check", "--quiet", ".")
    left_out = [name for name, left in (("full", not args.full), ("server", args.fast)) if left]
    chosen = [f"not {name}" for name in left_out]
    if any(not argument.startswith(REPORTING) for argument in for_pytest):
        tests = run(host, "pytest", *(("-m", " and ".join(chosen)) if chosen else ()), *for_pytest)
        return tests or int(style > 0)
    # What measures time runs alone, on a machine that is otherwise idle.
    reports = [HOME / "tests.xml", HOME / "tests_timed.xml"]
    tests = 0
    for report, marks, how in zip(reports, ("not timed", "timed"), (PROCESSES, ()), strict=True):
        report.unlink(missing_ok=True)
        tests |= run(host, "pytest", *how, f"--junitxml={report}", "-m", " and ".join([*chosen, marks]), *for_pytest)
    if style:
        print("style: ruff found faults, see above; `ruff format .` mends the layout")
    print(closing_line(reports), flush=True)
    return int(bool(tests or style))


def run(host: Host, *command: str) -> int:
    # Several processes share the cores: threads of each would only wait for one another.
    threads = {"OMP_NUM_THREADS": "1"} if "-n" in command else {}
    return subprocess.call([str(host.python), "-m", *command], cwd=ROOT, env={**threads, **host.environment()})


def closing_line(reports: list[Path]) -> str:
    """The counts of several runs of pytest as one line; a run that left no report counts as one failure."""
    counts = Counter()
    for report in reports:
        if not report.is_file():
            counts.update(tests=1, failures=1)
            continue
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            counts.update({name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")})
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    return f"all: {max(passed, 0)} passed, {failed} failed, {counts['skipped']} skipped"


if __name__ == "__main__":
    sys.exit(main())
