"""The page in a real Chromium against a real ComfyUI server with this pack, on the classic canvas and in Nodes 2.0.

By default: the frontend that ComfyUI pins, both renderers, the graph at zoom 1. With `--full` also the newest
frontend of the registry, and the graph at zoom 0.5 and 2. Without a Chromium (`tools/browser_setup.py` finds or
installs one) the tests here are skipped and say so.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("REPLAN_COMFYUI") or ROOT / ".host" / "comfyui-0.30").resolve()
MODELS = ROOT / ".host" / "models"
sys.path.insert(0, str(Path(__file__).parent))

import editor_page  # noqa: E402


class Mode(NamedTuple):
    renderer: str
    frontend: str = "pinned"
    zoom: float = 1.0
    late: bool = False  # frames come late, as on a machine that is busy

    def __str__(self) -> str:
        return "-".join(
            [
                self.renderer,
                *(["newest"] if self.frontend == "newest" else []),
                *([f"zoom{self.zoom:g}"] if self.zoom != 1 else []),
                *(["late"] if self.late else []),
            ]
        )


MODES = [Mode("classic"), Mode("nodes2")]
MORE = [Mode(renderer, "newest") for renderer in ("classic", "nodes2")]
MORE += [Mode(renderer, zoom=zoom) for renderer in ("classic", "nodes2") for zoom in (0.5, 2.0)]
MORE += [Mode(renderer, late=True) for renderer in ("classic", "nodes2")]


@pytest.fixture(scope="session")
def servers(tmp_path_factory) -> Iterator:
    """`servers(frontend)`: a real ComfyUI server with this pack and the tiny models, showing that frontend."""
    from replan.tools.frontend_setup import newest_frontend
    from replan.tools.host_server import HostServer
    from replan.tools.tiny_models import ensure_models

    if str(COMFYUI) not in sys.path:  # without the tests of the host, which import it too
        sys.path.insert(0, str(COMFYUI))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    ensure_models(models=MODELS)
    running = {}
    with contextlib.ExitStack() as stack:

        def start(frontend: str) -> HostServer:
            if frontend not in running:
                flags = ["--cpu"]
                if frontend == "newest":
                    found = newest_frontend(sys.executable)
                    if isinstance(found, str):
                        pytest.skip(found)
                    print(f"newest frontend: {found[0]}")
                    flags += ["--front-end-root", str(found[1])]
                base = tmp_path_factory.mktemp("pages")
                running[frontend] = stack.enter_context(
                    HostServer(COMFYUI, base=base, pack=ROOT, models=MODELS, flags=flags)
                )
                editor_page.prepare(running[frontend], base)
            return running[frontend]

        yield start


@pytest.fixture(scope="session")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright
    from replan.tools.browser_setup import FLAGS, find_browser

    program = find_browser()
    if program is None:
        pytest.skip("no Chromium is installed: install chromium, or run `python tools/browser_setup.py`")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(
    scope="session", params=[*MODES, *(pytest.param(mode, marks=pytest.mark.full) for mode in MORE)], ids=str
)
def page(request, servers, browser) -> Iterator:
    """ComfyUI's page in one mode."""
    mode = request.param
    server = servers(mode.frontend)
    opened = editor_page.open_page(browser, server, mode.renderer, mode.zoom, mode.late)
    yield opened
    opened.close()


@pytest.fixture
def comfy(page) -> Iterator:
    """The page with an empty graph; a test must leave no error on it."""
    page.empty()
    page.problems.clear()
    yield page
    assert page.problems == [], "the page had errors"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Of a test that fails, keep what the page looked like, in out/pages/."""
    report = yield
    page = getattr(item, "funcargs", {}).get("comfy")
    if report.failed and page is not None:
        name = "".join(c if c.isalnum() else "_" for c in item.name)[:100]
        with contextlib.suppress(Exception):
            page.picture(ROOT / "out" / "pages" / f"failed_{name}.png")
    return report


def pytest_terminal_summary(terminalreporter):
    """The times that tests measured: shown, and never a reason to fail: they depend on what else the machine does."""
    for report in terminalreporter.getreports("passed"):
        for name, text in getattr(report, "user_properties", ()):
            if name == "times" and report.when == "call":
                terminalreporter.write_line(f"{report.nodeid.split('::')[-1]}: {text}")
