"""Batches over a real ComfyUI: a folder and a table edited, resumed after a lost server, regions edited again."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from replan.tests.host.graphs import SIZE, edit, plan_text
from replan.tools.host_server import HostServer

ROOT = Path(__file__).resolve().parents[2]
HAT = ((16, 16, 80, 112), "a red hat")


def batch(*arguments: object, **options) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "tools" / "batch.py"), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", **options
    )


def run(*arguments: object) -> tuple[int, str]:
    process = batch(*arguments)
    said = process.communicate(timeout=120)[0]
    return process.returncode, said


def records(out: Path) -> dict[str, dict]:
    return {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in out.glob("*/result.json")}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Six small photographs of scikit-image (a cat, by Stefan van der Walt, CC0), turned by a few degrees each."""
    from skimage import data

    folder = tmp_path_factory.mktemp("photographs")
    cat = Image.fromarray(data.chelsea()).resize(SIZE)
    for number in range(6):
        cat.rotate(3 * number).save(folder / f"cat{number}.png")
    return folder


@pytest.fixture(scope="module")
def workflow(tmp_path_factory) -> Path:
    graph, _ = edit("cat.png", plan_text(HAT))
    file = tmp_path_factory.mktemp("workflow") / "edit_api.json"
    file.write_text(json.dumps(graph.prompt), encoding="utf-8")
    return file


def test_a_folder_is_edited_and_the_same_command_has_nothing_left_to_do(server, photographs, workflow, tmp_path):
    out = tmp_path / "out"
    command = (workflow, photographs, "--out", out, "--servers", server.url, "--limit", 2)
    status, said = run(*command)
    assert status == 0, said
    found = records(out)
    assert sorted(found) == ["cat0", "cat1"]
    for name, record in found.items():
        with Image.open(out / name / "final_result.png") as image:
            assert image.size == SIZE
        assert record["id"] == name and record["error"] is None and record["seed"] == 3
        assert record["plan"]["regions"][0]["hint"] == "a red hat"
        assert record["rules"] == {"preset": "auto"}
        assert record["seconds"] > 0 and len(record["workflow"]["sha256"]) == 64
    assert (out / "cat0" / "final_result.png").read_bytes() != (out / "cat1" / "final_result.png").read_bytes()
    times = {file: file.stat().st_mtime_ns for file in out.glob("*/*")}
    status, said = run(*command)
    assert status == 0 and "0 edited, 2 done before, 0 failed" in said
    assert {file: file.stat().st_mtime_ns for file in out.glob("*/*")} == times


def test_a_server_lost_in_the_middle_loses_no_item_and_edits_none_twice(
    server, comfyui_dir, models_dir, photographs, workflow, tmp_path
):
    out = tmp_path / "out"
    with HostServer(comfyui_dir, tmp_path / "server", pack=ROOT, models=models_dir) as other:
        process = batch(workflow, photographs, "--out", out, "--servers", other.url, "--patience", 1)
        deadline = time.monotonic() + 60
        while len(list(out.glob("*/final_result.png"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        other.stop()
        said = process.communicate(timeout=60)[0]
    before = {file.parent.name: file.stat().st_mtime_ns for file in out.glob("*/final_result.png")}
    assert process.returncode == 1 and "the same command goes on from here" in said
    assert 2 <= len(before) < 6
    status, said = run(workflow, photographs, "--out", out, "--servers", f"{other.url},{server.url}")
    assert status == 0, said
    assert f"{6 - len(before)} edited, {len(before)} done before, 0 failed" in said
    after = {file.parent.name: file.stat().st_mtime_ns for file in out.glob("*/final_result.png")}
    assert sorted(after) == [f"cat{number}" for number in range(6)]
    assert {name: after[name] for name in before} == before
    assert not [file for file in out.rglob("*") if file.name.endswith(".part")]
