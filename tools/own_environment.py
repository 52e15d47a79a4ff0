"""Environments of their own below `.host/`, for packages that need not agree with ComfyUI's: made on first use."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import uuid
from collections.abc import Sequence
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / ".host"
BORROWED, STAMP = "borrowed.pth", "finished"


def ensure_environment(
    name: str, packages: Sequence[str], python: Path | str = sys.executable, beside: bool = False
) -> Path | str:
    """The Python of `.host/<name>` that has these packages, installed if need be; or in words why there is none.

    beside: as `ensure_beside` makes it. It is made beside its place and then moved there, so that two processes may ask
    for it at once. Start programs as modules (`-m comfy_test`): the scripts name the folder they were installed in.
    """
    folder, wanted = HOME / name, "\n".join(packages)
    if _is_whole(folder, wanted):
        return _python_in(folder)
    # Standard error: a tool's output may be read by a program.
    print(f"set-up: {', '.join(packages)}, once, into .host/{name} ...", file=sys.stderr, flush=True)
    part = HOME / f".{name}.{uuid.uuid4().hex[:8]}"
    try:
        if fault := _made_in(part, packages, python, beside):
            return f"{' '.join(packages)} cannot be installed: {fault}"
        (part / STAMP).write_text(wanted, encoding="utf-8")
        if not _is_whole(folder, wanted):  # another process was faster
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return _python_in(folder)


def _is_whole(folder: Path, wanted: str) -> bool:
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted


def _python_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _made_in(folder: Path, packages: Sequence[str], python: Path | str, beside: bool) -> str:
    """Make an environment in an empty folder; why it cannot be, or ""."""
    own = _python_in(folder)
    if fault := _fault_of([str(python), "-m", "venv", str(folder)]):
        return fault
    if beside:
        _borrow(own)  # before pip looks, so that it installs no second torch
    return _fault_of(
        [str(own), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *packages]
    )


def ensure_beside(name: str, packages: Sequence[str]) -> Path | str:
    """As `ensure_environment`, for packages that are used together with those of this Python (torch and the like).

    What this Python has is not installed again where its version fits. The environment's own packages come first, so
    this Python stays as it is.
    """
    python = ensure_environment(name, packages, beside=True)
    if not isinstance(python, str):
        _borrow(python)  # again: the checkout may have been moved
    return python


def run_there(script: str, arguments: Sequence[str], name: str, packages: Sequence[str], beside: bool = False) -> int:
    """A tool's command once more, by the Python of `.host/<name>`; its exit status. Raises BatchError without one."""
    from replan.tools.batches.items import BatchError
    from replan.tools.host_setup import call

    python = ensure_beside(name, packages) if beside else ensure_environment(name, packages)
    if isinstance(python, str):
        raise BatchError(python)
    if Path(sys.executable) == python:
        raise BatchError(f"{HOME / name} was to hold {', '.join(packages)} and does not; delete it and try again")
    return call([str(python), script, *arguments])


def _borrow(python: Path) -> None:
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = Path(subprocess.run(asked, capture_output=True, encoding="utf-8", check=True).stdout.strip())
    (own / BORROWED).write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")


def _fault_of(command: list[str]) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
    )
    return done.stdout.strip()[-500:] if done.returncode else ""
