"""Make the checkout importable as the package `replan`, wherever it lies and whatever its folder's name."""

import importlib.util
import os
import sys
from pathlib import Path

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


def pytest_configure(config):
    config.addinivalue_line("markers", "full: slow; runs with `python tools/test.py --full`")


def pytest_collection_modifyitems(items):
    """The page's tests come last: Playwright keeps an event loop running in this thread, which asyncio.run() refuses."""
    items.sort(key=lambda item: "browser" in item.path.parts)
