"""The checks that others run on node packs, in an environment of their own: `python tools/checkers_setup.py`.

`comfy-test lint` looks for what breaks on Windows and in the shared browser page, `comfy-import-guard` for parts of
ComfyUI that are not there. Both bring packages that need not agree with ComfyUI's.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if __package__:
    from .own_environment import ensure_environment
else:
    from own_environment import ensure_environment

PACKAGES = ("comfy-test==0.4.15", "comfy-import-guard==1.3.0")


def ensure_checkers(python: Path | str = sys.executable) -> Path | str:
    """The Python that has them, installed if need be; or in words why there is none.

    They are the modules `comfy_test` and `comfy_import_guard.cli`.
    """
    return ensure_environment("checkers", PACKAGES, python)


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
