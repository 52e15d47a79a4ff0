"""`tools/test.py` ends with one line for all its runs of pytest, and what needs a server is known."""

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


def test_files_with_a_server_are_known_by_their_text():
    """tests/conftest.py refuses a test that needs a server in a file that is not."""
    assert uses_server("tests/host/test_server_pack.py")
    assert uses_server("tests/browser/test_rules.py")
    assert not uses_server("tests/host/test_leaks.py")
