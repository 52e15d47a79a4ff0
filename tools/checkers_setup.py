"""The checks that others run on node packs, in an environment of their own: `python tools/checkers_setup.py`.

`comfy-test lint` looks for what breaks on Windows and in the shared browser page, `comfy-import-guard` for parts of
ComfyUI that are not there. Both bring packages that need not agree with ComfyUI's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

CHECKERS = Path(__file__).resolve().parent.parent / ".host" / "checkers"
PACKAGES = ("comfy-test==0.4.15", "comfy-import-guard==1.3.0")


def ensure_checkers(python: Path | str = sys.executable) -> Path | str:
    """The Python that has them, installed if need be; or in words why there is none.

    Start them as modules (`-m comfy_test`, `-m comfy_import_guard.cli`): their programs name the folder they were
    installed in, and the checkout may have been moved since.
    """
    own = CHECKERS / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    stamp = CHECKERS / "finished"
    wanted = "\n".join(PACKAGES)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return own
    shutil.rmtree(CHECKERS, ignore_errors=True)
    install = [str(own), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *PACKAGES]
    for command in ([str(python), "-m", "venv", str(CHECKERS)], install):
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
        )
        if done.returncode:
            return f"{' '.join(PACKAGES)} cannot be installed: {done.stdout.strip()[-500:]}"
    stamp.write_text(wanted, encoding="utf-8")
    return own


def as_repository(comfyui: Path, cache: Path) -> str:
    """Make the git repository that `comfy-import-guard` reads, in `cache`, of a ComfyUI folder; its ref."""
    repository = cache / "ComfyUI"
    repository.mkdir(parents=True)
    parts = [name for name in ("comfy", "comfy_api", "comfy_execution", "comfy_extras") if (comfyui / name).is_dir()]
    git = ["git", f"--git-dir={repository / '.git'}", f"--work-tree={comfyui}"]
    who = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    for command in (
        ["git", "init", "--quiet", str(repository)],
        [*git, "add", "--force", "--", *parts, *sorted(file.name for file in comfyui.glob("*.py"))],
        [*git, *who, "commit", "--quiet", "--message", "ComfyUI"],
    ):
        subprocess.run(command, cwd=comfyui, check=True, capture_output=True)
    return "HEAD"


if __name__ == "__main__":
    print(ensure_checkers())
