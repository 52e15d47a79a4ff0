"""`tools/test.py` ends with one line for all its runs of pytest, and tests that share a server stay in one process."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from server_tests import uses_server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    sys.modules.pop("test", None)  # Python has a package of that name
    return importlib.import_module("test")


TESTS = """
import pytest
def test_passes(): pass
def test_fails(): assert 0
@pytest.fixture
def broken(): raise ValueError
def test_has_no_fixture(broken): pass
@pytest.mark.skip
def test_skipped(): pass
"""


def test_the_last_line_counts_every_run(runner, tmp_path):
    (tmp_path / "test_one.py").write_text(TESTS, encoding="utf-8")
    report = tmp_path / "one.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", "test_one.py"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert runner.closing_line([report]) == "all: 1 passed, 2 failed, 1 skipped"
    assert runner.closing_line([report, report]) == "all: 2 passed, 4 failed, 2 skipped"
    assert runner.closing_line([report, tmp_path / "none.xml"]) == "all: 1 passed, 3 failed, 1 skipped"


def test_what_needs_a_server_is_found_by_its_fixtures():
    """So a new test with a server cannot slip into the fast ring or into the second process."""
    files = ["tests/host", "tests/browser"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-m", "server", *files], cwd=ROOT,
        capture_output=True, text=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    found = {line.split("::")[0].split(": ")[0] for line in done.stdout.splitlines() if line.startswith("tests/")}
    assert "tests/host/test_server_pack.py" in found and "tests/host/test_leaks.py" not in found
    pages = {f"tests/browser/{file.name}" for file in (ROOT / "tests" / "browser").glob("test_*.py")}
    assert pages and pages <= found
    # The process that schedules reads it from their text: no file may be missing there.
    from_text = {file.relative_to(ROOT).as_posix() for file in (ROOT / "tests").rglob("test_*.py")}
    assert found <= {name for name in from_text if uses_server(name)}
    assert not uses_server("tests/host/test_leaks.py")
