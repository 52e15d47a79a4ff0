"""Environments of their own below `.host/`, for packages that need not agree with ComfyUI's: made on first use."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
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


def ensure_beside(name: str, packages: Sequence[str]) -> Path | str:
    """As `ensure_environment`, for packages that are used together with those of this Python (torch and the like).

    Its own packages come first, so this Python stays as it is.
    """
    python = ensure_environment(name, packages)
    if isinstance(python, str):
        return python
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = Path(subprocess.run(asked, capture_output=True, encoding="utf-8", check=True).stdout.strip())
    (own / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return python
