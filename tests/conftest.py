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
    ):
        config.addinivalue_line("markers", marker)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what needs a server, and put it first: it takes longest, and of several processes one begins with it.

    The page's tests come last in a process of their own or after all others: Playwright keeps an event loop running in
    its thread, which asyncio.run() refuses. Beside other processes (ByFile) they begin early.
    """
    from server_tests import uses_server

    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("server")
            # The process that schedules knows it by the text alone: without this a second server would start.
            if not uses_server(item.nodeid.split("::")[0]):
                raise pytest.UsageError(f"{item.nodeid} needs a server, but tests/server_tests.py does not see it")
    several = "PYTEST_XDIST_WORKER" in os.environ

    def place(item) -> tuple[bool, bool]:
        page, server = "browser" in item.path.parts, item.get_closest_marker("server") is not None
        return (not server, page) if several else (page, not server)

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Processes share the tests file by file; all files that use a server stay in one, all of the page in another.

    So each of them starts one server. Known by their text: the process that schedules collects nothing.
    """
    from server_tests import uses_server
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            if "browser" in file.split("/"):
                return "browser"
            return "server" if uses_server(file) else file

        def _reschedule(self, node):
            if "browser" in self.assigned_work[node]:  # nothing runs after the page's tests in their process
                if not node.shutting_down:
                    node.shutdown()
            else:
                super()._reschedule(node)

    return ByFile(config, log)
