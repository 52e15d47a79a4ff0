"""The newest ComfyUI frontend of the package registry, for tests: unpacked below `.host/frontends/`.

ComfyUI pins one frontend; users often have a newer one. Its server shows another with `--front-end-root`.
"""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

FRONTENDS = Path(__file__).resolve().parent.parent / ".host" / "frontends"
PACKAGE = "comfyui-frontend-package"


def newest_frontend(python: Path | str) -> tuple[str, Path] | str:
    """(version, folder for --front-end-root), fetched if need be; or in words why there is none."""
    FRONTENDS.mkdir(parents=True, exist_ok=True)
    command = [
        str(python),
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        "--no-input",
        "--dest",
        str(FRONTENDS),
        PACKAGE,
    ]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=600,
    )
    wheels = list(FRONTENDS.glob("*.whl"))
    if not wheels:
        return f"the registry gives no {PACKAGE}: {done.stdout.strip()[-300:]}"
    wheel = max(wheels, key=lambda file: _numbers(file.name.split("-")[1]))
    version = wheel.name.split("-")[1]
    folder = FRONTENDS / version
    if not (folder / "finished").is_file():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        (folder / "finished").write_text(version, encoding="utf-8")
    return version, folder / "comfyui_frontend_package" / "static"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))
