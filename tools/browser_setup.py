"""Find a Chromium for the browser tests, or install one: `python tools/browser_setup.py`.

Looked for: a program on the path, then the copy that Playwright put below `.host/browsers`. Installed, in this
order: Debian's package where this runs as root (`apt-get`), then Playwright's own download. Neither is an error
when it fails: the tests say that there is no browser, and are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

BROWSERS = Path(__file__).resolve().parent.parent / ".host" / "browsers"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# No sandbox, since tests often run as root; no GPU; and no calls to its maker's servers.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def find_browser() -> str | None:
    """The path of a Chromium that is here, or None."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    kept = sorted(BROWSERS.glob("chromium-*/*/chrome*")) + sorted(BROWSERS.glob("chromium-*/*/*/*/Chromium"))
    return next(
        (
            str(file)
            for file in kept
            if file.is_file() and os.access(file, os.X_OK) and file.stem in ("chrome", "Chromium")
        ),
        None,
    )


def ensure_browser(python: Path | str, say=print) -> str | None:
    """`find_browser`, after trying to install one. python: an interpreter that has Playwright."""
    if found := find_browser():
        return found
    say("set-up: Chromium for the browser tests ...")
    problems = []
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        _try(["apt-get", "update", "-q"], problems, quiet)
        _try(
            [
                "apt-get",
                "install",
                "-y",
                "-q",
                "--no-install-recommends",
                "chromium",
                "fonts-noto-color-emoji",
                "fonts-noto-core",
            ],
            problems,
            quiet,
        )
    if not find_browser():
        _try(
            [str(python), "-m", "playwright", "install", "chromium"],
            problems,
            {**os.environ, "PLAYWRIGHT_BROWSERS_PATH": str(BROWSERS)},
        )
    found = find_browser()
    if not found:
        say("set-up: no Chromium could be installed, so the browser tests are skipped. Install one and start again.")
        for problem in problems:
            say(f"  {problem}")
    return found


def _try(command: list[str], problems: list[str], environment: dict[str, str]) -> None:
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            timeout=600,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        problems.append(f"{' '.join(command)}: {error}")
        return
    if done.returncode:
        last = done.stdout.strip().splitlines()[-1:] or [""]
        problems.append(f"{' '.join(command)}: {last[0][:200]}")


if __name__ == "__main__":
    sys.exit(0 if ensure_browser(sys.executable) else 1)
