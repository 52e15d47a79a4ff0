"""Environments below .host/: made once, also when two processes ask at the same time. Each takes seconds: `full`."""

import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from replan.tools import own_environment

pytestmark = pytest.mark.full


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> str:
    """A package that holds one module, to be installed without a network."""
    monkeypatch.setattr(own_environment, "HOME", tmp_path / "home")
    file = tmp_path / "answer-1-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("answer.py", "print(42)")
        archive.writestr("answer-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: answer\nVersion: 1\n")
        archive.writestr("answer-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("answer-1.dist-info/RECORD", "")
    return str(file)


def test_two_who_ask_at_once_get_one_environment_that_works(wheel, tmp_path):
    def asked():
        return pool.submit(own_environment.ensure_environment, "one", ("--no-index", wheel))

    with ThreadPoolExecutor(2) as pool:
        one = asked()
        while not list((tmp_path / "home").rglob("pyvenv.cfg")) and not one.done():
            time.sleep(0.05)
        other = asked()
        first, second = one.result(), other.result()
    assert first == second and first.parents[2] == tmp_path / "home"
    assert subprocess.run([first, "-m", "answer"], capture_output=True, encoding="utf-8").stdout.strip() == "42"
    assert [one.name for one in (tmp_path / "home").iterdir()] == ["one"]
    made = first.stat().st_mtime_ns
    assert own_environment.ensure_environment("one", ("--no-index", wheel)).stat().st_mtime_ns == made


def test_what_cannot_be_installed_is_told_and_leaves_nothing(wheel, tmp_path):
    found = own_environment.ensure_environment("none", ("--no-index", f"{wheel}x"))
    assert isinstance(found, str) and "cannot be installed" in found
    assert not list((tmp_path / "home").iterdir())
