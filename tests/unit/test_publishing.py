"""What stands between the pack and its release: our own check, and those that others run on packs (with `--full`)."""

import importlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("REPLAN_COMFYUI") or ROOT / ".host" / "comfyui-0.30").resolve()


@pytest.fixture
def release_check(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("release_check")


def filled_in(text: str) -> str:
    return text.replace("PUBLISHER", "someone").replace('PublisherId = ""', 'PublisherId = "someone"')


@pytest.fixture
def checkout(tmp_path):
    """A repository with a pyproject that a publisher has filled in, all committed."""
    icon = tmp_path / "docs" / "images" / "icon.png"
    icon.parent.mkdir(parents=True)
    shutil.copyfile(ROOT / "docs" / "images" / "icon.png", icon)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(filled_in(text), encoding="utf-8")
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def git(folder, *command):
    who = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    subprocess.run(["git", *who, *command], cwd=folder, check=True, capture_output=True)


def commit(folder):
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "x", "--allow-empty")


def change(folder, old, new):
    file = folder / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    commit(folder)


def test_what_a_publisher_filled_in_can_be_released(checkout, release_check):
    assert list(release_check.problems(checkout)) == []


def test_this_checkout_still_waits_for_its_publisher(release_check):
    found = "\n".join(release_check.problems(ROOT))
    assert "PublisherId is empty" in found and "Repository is 'https://github.com/PUBLISHER/replan'" in found
    assert "icon" not in found.lower().replace("/icon.png", "").replace("icon is 'https", ""), found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('PublisherId = "someone"', 'PublisherId = ""', "PublisherId is empty"),
        ('Repository = "https://github.com/someone/replan"', "", "Repository is ''"),
        (
            "https://github.com/someone/replan/issues",
            "https://example.com/issues",
            "Bug Tracker is 'https://example.com",
        ),
        ("docs/images/icon.png", "icon.svg", "Icon does not end in"),
        ('version = "0.1.0"', 'version = "0.1"', "is not three numbers"),
    ],
)
def test_what_is_missing_or_made_up_is_refused(checkout, release_check, old, new, said):
    change(checkout, old, new)
    found = list(release_check.problems(checkout))
    assert len(found) == 1 and said in found[0]


@pytest.mark.parametrize(("tag", "fine"), [("v0.0.9", True), ("v0.1.0", False), ("v0.10.0", False), ("vnext", True)])
def test_a_version_is_higher_than_every_tag(checkout, release_check, tag, fine):
    git(checkout, "tag", tag)
    found = list(release_check.problems(checkout))
    assert found == [] if fine else "is not higher than the tag" in found[0]


def test_a_release_has_the_tag_of_its_version(checkout, release_check):
    git(checkout, "tag", "v0.1.0")
    assert list(release_check.problems(checkout, "v0.1.0")) == []
    assert "the tag v0.2.0 is not v0.1.0" in list(release_check.problems(checkout, "v0.2.0"))[0]


def test_an_icon_of_another_size_and_files_not_committed_are_refused(checkout, release_check):
    (checkout / "docs" / "images" / "icon.png").write_bytes(b"GIF89a")
    found = list(release_check.problems(checkout))
    assert "no PNG, expected 400 x 400" in found[0] and "not committed: docs/images/icon.png" in found[1]


# What others check


@pytest.fixture(scope="module")
def checkers():
    from replan.tools.checkers_setup import ensure_checkers

    found = ensure_checkers()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A ComfyUI's custom_nodes folder with the pack in it, as the registry's archive gives it."""
    base = tmp_path_factory.mktemp("published")
    code = "import sys; from comfy_cli.file_utils import zip_files; zip_files(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(base / "node.zip")], cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(base / "node.zip") as archive:
        archive.extractall(base / "custom_nodes" / "replan")
    return base


def output_of(*command):
    done = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
        errors="replace"
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.full
def test_the_pack_passes_comfy_test_lint(checkers, published):
    status, said = output_of(checkers, "-m", "comfy_test", "lint", "--strict", published / "custom_nodes" / "replan")
    assert status == 0, said
    assert "scanning web/" in said


@pytest.mark.full
def test_the_pack_passes_comfy_import_guard(checkers, published, tmp_path):
    from replan.tools.checkers_setup import as_repository

    ref = as_repository(COMFYUI, tmp_path)
    guard = (checkers, "-m", "comfy_import_guard.cli", "--cache-dir", tmp_path, "--offline", "check", "--strict")
    status, said = output_of(*guard, "--comfy-dir", published, "--target", ref)
    assert status == 0, said
    assert "1 pack(s): 0 will break, 1 safe" in said
