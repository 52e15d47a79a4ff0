"""What stands in the way of a release: `python tools/release_check.py`. Exit status 1 when something does.

Looks at pyproject.toml, the icon and git: no placeholder is left, the version is higher than every tag's, and what
would be published is committed. The archive itself is the tests' business (tests/unit/test_archive.py,
test_publishing.py).
"""

from __future__ import annotations

import argparse
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from host_setup import read_toml

ROOT = Path(__file__).resolve().parent.parent
ICON = "docs/images/icon.png"
PLACEHOLDER = re.compile(r"PUBLISHER|example\.(com|org)|<[^>]*>")
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
ICON_SIDE = 400  # pixels: the registry asks for a square of this size


def problems(root: Path = ROOT, tag: str = "") -> Iterator[str]:
    """Each thing to mend, as a sentence that says what was found and what to do. tag: of the release itself."""
    data = read_toml(root / "pyproject.toml")
    project, comfy = data["project"], data["tool"]["comfy"]
    if not comfy.get("PublisherId"):
        yield "pyproject.toml: PublisherId is empty; put the publisher's id from registry.comfy.org there"
    links = {**project.get("urls", {}), "Icon": comfy.get("Icon", "")}
    for name, link in {"Repository": "", **links}.items():
        if not link.startswith("https://") or PLACEHOLDER.search(link):
            yield f"pyproject.toml: {name} is {link!r}; put the real https address there"
    if not comfy.get("Icon", "").endswith(f"/{ICON}"):
        yield f"pyproject.toml: Icon does not end in /{ICON}; point it at the committed icon"
    if (size := png_size(root / ICON)) != (ICON_SIDE, ICON_SIDE):
        yield f"{ICON} is {size or 'no PNG'}, expected {ICON_SIDE} x {ICON_SIDE}; run `python tools/icon.py`"
    version = VERSION.fullmatch(project["version"])
    if not version:
        yield f"pyproject.toml: version {project['version']!r} is not three numbers; write it like 1.0.0"
    if tag and tag != f"v{project['version']}":
        yield f"the tag {tag} is not v{project['version']}, the version in pyproject.toml; move the tag or the version"
    for other in git(root, "tag", "--list", "v*").splitlines():
        found = VERSION.fullmatch(other[1:])
        if version and found and other != tag and numbers(version) <= numbers(found):
            yield f"pyproject.toml: version {project['version']} is not higher than the tag {other}; raise it"
    if changed := git(root, "status", "--porcelain"):
        yield f"not committed: {', '.join(line[3:] for line in changed.splitlines()[:5])}; commit or remove it"


def numbers(version: re.Match) -> tuple[int, ...]:
    return tuple(int(part) for part in version.groups())


def png_size(file: Path) -> tuple[int, int] | None:
    """Width and height of a PNG, or None."""
    try:
        head = file.read_bytes()[:24]
    except OSError:
        return None
    return struct.unpack(">II", head[16:]) if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) == 24 else None


def git(root: Path, *command: str) -> str:
    done = subprocess.run(
        ["git", *command], cwd=root, check=True, capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", default="", help="the tag of this release, once it is set")
    found = list(problems(tag=parser.parse_args().tag))
    print("\n".join(found) if found else "nothing stands in the way of a release")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
