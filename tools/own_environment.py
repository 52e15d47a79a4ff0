"""Environments of their own below `.host/`, for packages that need not agree with ComfyUI's: made on first use."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / ".host"


def ensure_environment(name: str, packages: Sequence[str], python: Path | str = sys.executable) -> Path | str:
    """The Python of `.host/<name>` that has these packages, installed if need be; or in words why there is none.

    Start programs as modules (`-m comfy_test`): the scripts name the folder they were installed in, and the checkout
    may have been moved since.
    """
    folder = HOME / name
    own = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    stamp = folder / "finished"
    wanted = "\n".join(packages)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return own
    shutil.rmtree(folder, ignore_errors=True)
    install = [str(own), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *packages]
    for command in ([str(python), "-m", "venv", str(folder)], install):
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
        )
        if done.returncode:
            return f"{' '.join(packages)} cannot be installed: {done.stdout.strip()[-500:]}"
    stamp.write_text(wanted, encoding="utf-8")
    return own
