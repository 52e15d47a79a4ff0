"""The folder to carry to a machine without network: ComfyUI's modules, the wheels they need, this pack, one command.

Nothing here needs torch. `make` runs in the environment that set-up makes (it has `packaging` and pip).
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20
LIMIT = 24 * MIB
LARGE = 16 * MIB  # a wheel for which a smaller one without compiled code is looked for

# What the other machine has: torch with its sister packages, and what these need themselves.
GIVEN = (
    "torch", "torchvision", "torchaudio", "numpy", "pillow",
    "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "setuptools", "sympy", "typing-extensions",
)  # fmt: skip
# What ComfyUI or a wheel asks for and nothing here runs. Those that ComfyUI imports all the same get a placeholder
# where the machine lacks them (`absent.py`).
LEFT_OUT = {
    "comfyui-frontend-package": "the page",
    "comfyui-workflow-templates": "the page",
    "comfyui-embedded-docs": "the page",
    "aiohttp": "the server",
    "yarl": "the server",
    "requests": "the server",
    "alembic": "the server's database",
    "sqlalchemy": "the server's database",
    "blake3": "the server's database",
    "pydantic": "nodes of online services",
    "pydantic-settings": "nodes of online services",
    "simpleeval": "the node for formulas",
    "pyopengl": "the node for shaders",
    "comfy-angle": "the node for shaders",
    "kornia": "image nodes that are not used here",
    "spandrel": "upscaling models",
    "sentencepiece": "tokenizers that are not carried",
    "av": "video files; 35 MB",
    "scipy": "samplers and schedulers that are not used here; 35 MB",
    "hf-xet": "downloads",
    "typer": "command lines",
}

# ComfyUI: the folders whose modules run, and the data they read. Of the tokenizers only CLIP's is carried, which the
# tiny text encoder uses.
FOLDERS = ("comfy", "comfy_api", "comfy_config", "comfy_execution", "comfy_extras", "utils", "app")
LARGEST_DATA = 100_000
TOKENIZER = "comfy/sd1_tokenizer"
# This checkout: the pack and the tools and test helpers that run there.
PACK = ("attention", "planner", "nodes", "tools/gpu")
PACK_FILES = ("__init__.py", "pyproject.toml", "LICENSE", "tests/reference.py")
PACK_GLOBS = ("tools/*.py", "tests/host/*.py")
SKIPPED = ("__pycache__",)

RUN = """#!/bin/sh
# Runs everything and writes results.json: sh run.sh --out DIR. `--help` lists the options.
exec "${PYTHON:-python3}" "$(dirname "$0")/replan/tools/gpu_check.py" run "$@"
"""


class PackError(RuntimeError):
    """The folder cannot be made; the message says what is missing."""


def make(folder: Path, comfyui: Path, version: str = "3.12", limit: int = LIMIT, wheels: bool = True) -> dict:
    """Write the folder and give its manifest. version: the Python it is for; PackError says what went wrong."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "manifest.json").is_file():
            raise PackError(f"{folder} holds other files; name a new folder, or one that this made")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.sh").write_bytes(RUN.encode())
    with zipfile.ZipFile(folder / "comfyui.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in comfyui_files(comfyui):
            archive.write(file, file.relative_to(comfyui).as_posix())
    for file in pack_files(ROOT):
        target = folder / "replan" / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    roots = needed(comfyui / "requirements.txt")
    carried = fetch(roots, folder / "wheels", version, comfyui) if wheels else {}
    return write_manifest(folder, comfyui, version, carried, limit)


def comfyui_files(comfyui: Path) -> list[Path]:
    """ComfyUI's modules and small data; no tokenizers but one, no page, no examples."""
    found = sorted(comfyui.glob("*.py"))
    for name in FOLDERS:
        for file in sorted((comfyui / name).rglob("*")):
            inside = file.relative_to(comfyui).as_posix()
            if not file.is_file() or any(part in SKIPPED for part in file.parts):
                continue
            small = "tokenizer" not in inside and file.stat().st_size <= LARGEST_DATA
            if file.suffix == ".py" or inside.startswith(TOKENIZER) or small:
                found.append(file)
    return found


def pack_files(root: Path) -> list[Path]:
    found = [root / name for name in PACK_FILES]
    for name in PACK:
        found += [file for file in (root / name).rglob("*") if file.is_file()]
    for pattern in PACK_GLOBS:
        found += root.glob(pattern)
    return sorted({file for file in found if not any(part in SKIPPED for part in file.parts)})


# Wheels


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(requirements: Path) -> list[str]:
    """Of ComfyUI's requirements, those that are carried, as pip reads them."""
    lines = [line.split("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
    wanted = [line for line in lines if line]
    return [line for line in wanted if canonical(re.split(r"[^\w.-]", line)[0]) not in {*GIVEN, *LEFT_OUT}]


def fetch(roots: Iterable[str], folder: Path, version: str, comfyui: Path) -> dict[str, str]:
    """Download the wheels of `roots` and of what these need, and give {name: file}.

    The versions are those of tools/constraints.txt, which the tests passed with. Instead of a large wheel one without
    compiled code is taken where there is one: comfy-kitchen is 45 MB with its kernels and 0.2 MB without.
    """
    from packaging.requirements import Requirement

    environment = {
        "python_version": version, "python_full_version": f"{version}.0", "sys_platform": "linux", "os_name": "posix",
        "platform_system": "Linux", "platform_machine": "x86_64", "implementation_name": "cpython",
        "platform_python_implementation": "CPython", "extra": "",
    }  # fmt: skip
    pins = {}
    for line in (ROOT / "tools" / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, pinned, number = line.partition("==")
        if pinned:
            pins[canonical(name)] = number
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, str] = {}
    waiting = [Requirement(line) for line in roots]
    while waiting:
        requirement = waiting.pop(0)
        name = canonical(requirement.name)
        if name in found or name in GIVEN or name in LEFT_OUT:
            continue
        pin = f"=={pins[name]}" if name in pins else str(requirement.specifier)
        found[name] = _download(f"{requirement.name}{pin}", folder, version)
        for line in requirements_of(folder / found[name]):
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate(environment):
                waiting.append(wanted)
    return found


def platforms() -> list[str]:
    """The Linux tags of machines with glibc 2.35 or newer: pip takes each as it stands."""
    return [*(f"manylinux_2_{n}_x86_64" for n in range(35, 4, -1)), "manylinux2014_x86_64", "manylinux2010_x86_64"]


def pip_options(version: str, pure: bool) -> list[str]:
    """What tells pip to choose for the other machine instead of this one."""
    if pure:
        return ["--only-binary=:all:", "--implementation", "py", "--abi", "none", "--platform", "any",
                "--python-version", version]  # fmt: skip
    chosen = ["--only-binary=:all:", "--implementation", "cp", "--python-version", version]
    return chosen + [part for tag in platforms() for part in ("--platform", tag)]


def _download(wanted: str, folder: Path, version: str) -> str:
    best: Path | None = None
    said = ""
    for pure in (False, True):
        with tempfile.TemporaryDirectory() as holder:
            done = subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check",
                 "--no-input", "--dest", holder, *pip_options(version, pure), wanted],
                capture_output=True, text=True, encoding="utf-8", errors="replace",
            )  # fmt: skip
            files = list(Path(holder).glob("*.whl"))
            if done.returncode or len(files) != 1:
                said = said or (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
                continue
            if best is not None:
                best.unlink()
            best = Path(shutil.move(files[0], folder / files[0].name))
            if best.stat().st_size < LARGE:
                break
    if best is None:
        raise PackError(f"no wheel of {wanted} for Python {version} on Linux x86-64: {said}")
    return best.name


def requirements_of(wheel: Path) -> list[str]:
    """The Requires-Dist lines of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        head = archive.read(name).decode("utf-8", "replace").split("\n\n")[0]
    return re.findall(r"^Requires-Dist: (.*?)\r?$", head, re.MULTILINE)


# What the folder says of itself


def write_manifest(folder: Path, comfyui: Path, version: str, wheels: dict[str, str], limit: int) -> dict:
    """manifest.json; PackError when the folder is larger than `limit` bytes."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    manifest = {
        "made": datetime.date.today().isoformat(),
        "commit": commit(),
        "python": version,
        "comfyui": _comfyui_version(comfyui),
        "wheels": wheels,
        "given": list(GIVEN),
        "left_out": LEFT_OUT,
        "bytes": sum(file.stat().st_size for file in files),
        "files": {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
    }
    # Its own size as well; the number has as many digits before as after.
    manifest["bytes"] += len(json.dumps(manifest, indent=1)) + 1
    (folder / "manifest.json").write_bytes((json.dumps(manifest, indent=1) + "\n").encode())
    if manifest["bytes"] > limit:
        largest = sorted(files, key=lambda file: -file.stat().st_size)[:5]
        sizes = ", ".join(f"{file.name} {file.stat().st_size / MIB:.1f}" for file in largest)
        raise PackError(
            f"{folder} has {manifest['bytes'] / MIB:.1f} MiB, more than {limit / MIB:.0f}; the largest: {sizes} MiB"
        )
    return manifest


def commit() -> str:
    """The commit of the checkout, with a + where files differ from it; '' without git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _comfyui_version(folder: Path) -> str:
    from host_setup import comfyui_version

    return comfyui_version(folder)


def command(args: argparse.Namespace, comfyui: Path) -> int:
    try:
        manifest = make(args.folder, comfyui, args.python_version)
    except PackError as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 1
    print(
        f"{args.folder}: {manifest['bytes'] / MIB:.1f} MiB for Python {manifest['python']} on Linux x86-64, ComfyUI "
        f"{manifest['comfyui']}, {len(manifest['wheels'])} wheels. There: sh {args.folder.name}/run.sh --out DIR"
    )
    return 0
