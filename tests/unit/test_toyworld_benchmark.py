"""The benchmark's command line: what cannot be is refused before any work, and who ends it ends its work too."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from replan.tools.host_server import HostServer, ServerError, taken
from replan.tools.toyworld import tables

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments):
    """The inner process alone: nothing is set up, and it must not get as far as a server."""
    run = [sys.executable, "tools/toyworld/benchmark.py", "--here", "--comfyui", "/nowhere", "--scenes", "1", *arguments]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", ","], "names no method"),
        (["--methods", "plain,none"], "no method called 'none'"),
        (["--sheet", "{folder}/x.foo"], "no kind of picture"),
        (["--sheet", "{folder}"], "cannot be written"),
        (["--json", "{folder}/file/x.json"], "cannot be written"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(tmp_path, arguments, said):
    (tmp_path / "file").write_bytes(b"kept")
    status, last = command(*(one.format(folder=tmp_path) for one in arguments))
    assert status == 2 and said in last
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


def test_tables_hold_every_method_and_leave_out_what_is_not_there():
    figures = {"target": 1, "effect": 0.5, "consistency_psnr": 30.06, "outside_changed": 0, "lookalikes_changed": None, "overall": 1, "weighted": 1}
    one = {**figures, "seconds": 1.26, "effect_by_kind": {"remove": 1.0}}
    results = {"methods": {"a": one, "b": {**one, "effect_by_kind": {"shrink": 0.0}}}}
    assert tables.scores(results).splitlines()[2] == "| a | 1.000 | 0.500 | 30.1 | 0.000 | - | 1.000 | 1.000 | 1.3 |"
    assert tables.kinds(results).splitlines()[2:] == ["| a | 1.000 | - |", "| b | - | 0.000 |"]


def measured(effects, **also):
    figures = {"target": 1.0, "effect": sum(effects) / len(effects), "consistency_psnr": 30.0, "outside_changed": 0.0, "lookalikes_changed": 0.0}
    return {**figures, "overall": 1.0, "weighted": 1.0, "seconds": 1.0, "effect_by_scene": effects, "effect_by_kind": {}, **also}


def written(file, methods, scenes=4):
    file.write_text(json.dumps({"scenes": scenes, "seed": 0, "steps": 20, "methods": methods}))
    return str(file)


def test_methods_are_compared_scene_by_scene(tmp_path, capsys):
    """Both differ a lot between scenes, and by the same amount on each: the difference is certain, the means are not."""
    one = written(tmp_path / "one.json", {"a": measured([0.0, 0.5, 0.5, 1.0])})
    two = written(tmp_path / "two.json", {"b": measured([0.25, 0.75, 0.75, 1.25]), "c": measured([0.5, 0.5])})
    assert tables.main([one, two, "--against", "a"]) == 0
    rows = {line.split("|")[1].strip(): line for line in capsys.readouterr().out.splitlines()}
    assert "0.500 ± 0.204" in rows["a"] and rows["a"].endswith("| - |")
    assert rows["b"].endswith("| +0.250 ± 0.000 |")
    assert rows["c"].endswith("| - |")  # of other scenes


@pytest.mark.parametrize("wrong", ["none", "folder", "text", "list", "other scenes", "unknown method", "older"])
def test_results_that_cannot_be_compared_are_told(tmp_path, capsys, wrong):
    good = written(tmp_path / "good.json", {"a": measured([0.0, 1.0])})
    bad, against = tmp_path / "bad.json", "a"
    if wrong == "folder":
        bad.mkdir()
    elif wrong in ("text", "list"):
        bad.write_text("[]" if wrong == "list" else "no JSON")
    elif wrong == "other scenes":
        written(bad, {"b": measured([0.0, 1.0])}, scenes=5)
    elif wrong == "unknown method":
        written(bad, {})
        against = "z"
    elif wrong == "older":
        written(bad, {"b": measured([0.0, 1.0], effect_by_scene=[])})
        against = "b"
    assert tables.main([good, str(bad), "--against", against]) == 1
    said = capsys.readouterr().err
    assert said.startswith("tables.py: ") and len(said.splitlines()) == 1
