"""How the tools' server is put together and ended, on systems with and without symbolic links."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from replan.tools import host_server
from replan.tools.host_server import CHILD, link, remove


@pytest.fixture
def pack(tmp_path):
    folder = tmp_path / "pack"
    for name in ("nodes", "tests", ".host"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file.py").write_text("", encoding="utf-8")
    return folder


def test_a_link_shows_what_it_stands_for_and_goes_without_it(pack, tmp_path):
    target = tmp_path / "custom_nodes"
    link(pack, target)
    link(pack, target)  # again, over the old one
    (pack / "nodes" / "later.py").write_text("", encoding="utf-8")
    assert (target / "nodes" / "later.py").is_file()
    remove(target)
    assert not target.exists() and (pack / "nodes" / "later.py").is_file()
    remove(target)  # nothing there is fine


@pytest.fixture
def no_links(monkeypatch):
    def refused(*_, **__):
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refused)


@pytest.mark.skipif(os.name == "nt", reason="makes a junction there")
def test_without_links_the_pack_is_copied_less_what_no_server_needs(pack, tmp_path, no_links):
    target = tmp_path / "custom_nodes"
    link(pack, target)
    assert sorted(path.name for path in target.iterdir()) == ["nodes"]
    link(pack / "nodes" / "file.py", tmp_path / "one.py")
    assert (tmp_path / "one.py").is_file()
    remove(target)
    assert not target.exists()


@pytest.mark.skipif(os.name != "nt", reason="junctions are of Windows")
def test_without_links_windows_makes_a_junction(pack, tmp_path, no_links):
    target = tmp_path / "custom_nodes"
    link(pack, target)
    assert (target / "tests" / "file.py").is_file()
    remove(target)
    assert not target.exists() and (pack / "tests" / "file.py").is_file()


def test_a_server_ends_with_the_program_that_started_it(tmp_path):
    """Also when that one is killed, and has no time to stop it."""
    main = "import sys, time\nfor n in range(600):\n open('alive', 'w').close()\n time.sleep(0.05)"
    (tmp_path / "main.py").write_text(main, encoding="utf-8")
    starter = (
        "import os, subprocess, sys, time;"
        f"subprocess.Popen([sys.executable, {str(CHILD)!r}, str(os.getpid()), '--flag'], cwd={str(tmp_path)!r});"
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", starter])
    alive = tmp_path / "alive"
    assert appears(alive, 30), "the server did not start"
    process.kill()
    process.wait()
    time.sleep(1.5)
    alive.unlink()
    assert not appears(alive, 1)


def appears(file, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if file.exists():
            return True
        time.sleep(0.02)
    return False


def test_comfyuis_main_sees_its_own_flags_and_folder(tmp_path):
    (tmp_path / "beside.py").write_text("", encoding="utf-8")
    (tmp_path / "main.py").write_text("import sys, beside\nprint(__name__, *sys.argv)", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(host_server.CHILD), str(os.getpid()), "--port", "1"], cwd=tmp_path, check=True,
        capture_output=True,
        text=True, encoding="utf-8",
    )  # fmt: skip
    assert done.stdout.split() == ["__main__", str(tmp_path / "main.py"), "--port", "1"]
