"""Which test files take a server: they stay in one process, so that one server starts."""

import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TAKES_SERVER = re.compile(r"def \w+\([^)]*\bservers?\b")


@functools.cache
def uses_server(file: str) -> bool:
    """Whether a test file, named as pytest names it, has a test or a fixture that takes a server."""
    return "browser" in file.split("/") or bool(TAKES_SERVER.search((ROOT / file).read_text(encoding="utf-8")))
