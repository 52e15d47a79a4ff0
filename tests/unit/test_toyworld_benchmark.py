"""The benchmark's command line: what cannot be is refused before any work, and who ends it ends its work too."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from replan.tools.host_server import HostServer, ServerError, taken
from replan.tools.toyworld.benchmark import main
from replan.tools.toyworld.editing import Editing
from replan.tools.toyworld.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", ","], "names no method"),
        (["--methods", "plain,none"], "no method called 'none'"),
        (["--sheet", "{folder}/x.foo"], "no image that can be written"),
        (["--sheet", "{folder}/x.psd"], "no image that can be written"),  # which Pillow reads and does not write
        (["--sheet", "{folder}"], "cannot be written"),
        (["--json", "{folder}/file/x.json"], "cannot be written"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(tmp_path, capsys, arguments, said):
    """By the inner process alone: nothing is set up, and it must not get as far as a server."""
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(SystemExit, match="2"):
        main(["--here", "--comfyui", "/nowhere", "--scenes", "1", *(one.format(folder=tmp_path) for one in arguments)])
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_who_ends_a_command_ends_what_it_started(tmp_path):
    """SIGTERM to the process a user started must not leave the one with the server working on."""
    child = f"import pathlib, time; pathlib.Path({str(tmp_path / 'up')!r}).touch(); time.sleep(60)"
    parent = (
        "import sys; sys.path.insert(0, 'tools'); from host_setup import Host, call; from pathlib import Path;"
        f"sys.exit(call([sys.executable, '-c', {child!r}], Host(Path(sys.executable), Path('.'), '0', Path('.'))))"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT)
    deadline = time.monotonic() + 30
    while not (tmp_path / "up").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) != 0


def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        assert not taken(port)
        other.listen()
        with pytest.raises(ServerError, match=f"port {port} already"):
            HostServer(ROOT, tmp_path, port=port).start()


def test_methods_whose_tasks_have_the_same_words_get_the_same_tasks(tmp_path):
    """Else their Effect would be compared scene by scene on scenes that differ."""
    editing = Editing(None, tmp_path)
    asked = {name: tuple(editing.task(method, 5, index) for index in range(4)) for name, method in METHODS.items()}
    for name, method in METHODS.items():
        for other, second in METHODS.items():
            assert (method.tasks == second.tasks) == (asked[name] == asked[other]), (name, other)
