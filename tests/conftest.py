"""Make the checkout importable as the package `replan`, wherever it lies and whatever its folder's name."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch is loaded: threads that wait should sleep. On a busy machine they otherwise spin for each other's
# turn, and a test takes ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).resolve().parent.parent

if "replan" not in sys.modules:
    spec = importlib.util.spec_from_file_location(
        "replan", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["replan"] = module
    spec.loader.exec_module(module)


# A busy machine would miss hypothesis's deadline of 200 ms; what measures time is marked `timed`.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

SERVERS = {"server", "servers"}  # fixtures that start a ComfyUI server


def pytest_configure(config):
    for marker in (
        "full: slow; runs with `python tools/test.py --full`",
        "timed: measures time; `python tools/test.py` runs it when nothing else runs",
        "server: needs a ComfyUI server; `python tools/test.py --fast` leaves it out (set by tests/conftest.py)",
        "xdist_group(name): what runs in one process (set by tests/conftest.py)",
    ):
        config.addinivalue_line("markers", marker)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what needs a server. In two processes one takes that, the other begins with the rest, file by file.

    The page's tests come last: Playwright keeps an event loop running in its thread, which asyncio.run() refuses.
    """
    for item in items:
        needs_server = bool(SERVERS & set(getattr(item, "fixturenames", ())))
        if needs_server:
            item.add_marker("server")
        item.add_marker(pytest.mark.xdist_group("server" if needs_server else item.path.name))
    items.sort(key=lambda item: ("browser" in item.path.parts, item.get_closest_marker("server") is None))
