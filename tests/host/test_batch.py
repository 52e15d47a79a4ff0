"""Batches over a real ComfyUI: a folder and a table edited, resumed after a lost server, regions edited again."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from replan.tests.host.graphs import SIZE, edit, plan_text
from replan.tools.host_server import Graph, HostServer, Node

ROOT = Path(__file__).resolve().parents[2]
HAT = ((16, 16, 80, 112), "a red hat")
DOG = ((96, 32, 176, 112), "a green dog on the grass")


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


@pytest.mark.skipif(sys.platform == "win32", reason="there Ctrl-C reaches the whole console")
def test_a_second_ctrl_c_ends_the_batch_and_what_the_server_does_for_it(server, photographs, tmp_path):
    graph, _ = edit("cat.png", plan_text(HAT), steps=2000)
    (tmp_path / "edit_api.json").write_text(json.dumps(graph.prompt), encoding="utf-8")
    out = tmp_path / "out"
    process = batch(tmp_path / "edit_api.json", photographs, "--out", out, "--servers", server.url)
    while not server.get("/queue")["queue_running"] and process.poll() is None:
        time.sleep(0.1)
    time.sleep(1.0)  # ComfyUI forgets an interrupt that comes before the first node does
    process.send_signal(signal.SIGINT)
    while "finishing what is on its way" not in process.stdout.readline():
        assert process.poll() is None
    assert server.jobs()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and "0 edited, 0 done before, 0 failed, 6 left" in said
    assert not server.jobs()
    assert [file.name for file in out.glob("[!.]*")] == ["errors.jsonl"]


def painted(plan: Node, image: Node, before: Node, graph: Graph, only: Node | None = None) -> dict:
    """Invert an image inside the regions of a plan (or of `only`), save it, and score it by `plan`; the prompt."""
    masks = graph.add("RePlanRegionMasks", plan=only or plan, width=0, height=0, feather=0)
    inverted = graph.add("ImageInvert", image=image)
    edited = graph.add(
        "ImageCompositeMasked", destination=image, source=inverted, x=0, y=0, resize_source=False, mask=masks[2]
    )
    graph.add("RePlanEditReport", before=before, after=edited, plan=plan)
    graph.add("SaveImage", images=edited, filename_prefix="painted")
    return graph.prompt


def test_failed_regions_are_edited_again_on_the_result_and_it_is_written_down(server, photographs, tmp_path):
    first, second = Graph(), Graph()
    image = first.add("LoadImage", image="cat.png")
    plan = first.add("RePlanPlanFromText", text=plan_text(HAT, DOG), image=image)
    first_only = first.add("RePlanPlanFromText", text=plan_text(HAT), image=image)
    first.prompt[plan.id]["_meta"] = {"title": "plan"}
    painted(plan, image, image, first, first_only)
    result = second.add("LoadImage", image="cat.png")
    original = second.add("LoadImage", image="cat.png")
    second.prompt[original.id]["_meta"] = {"title": "original"}
    painted(second.add("RePlanPlanFromText", text="", image=result), result, original, second)
    for name, graph in (("first", first), ("second", second)):
        (tmp_path / f"{name}_api.json").write_text(json.dumps(graph.prompt), encoding="utf-8")
    out = tmp_path / "out"
    status, said = run(
        tmp_path / "first_api.json", photographs, "--out", out, "--servers", server.url, "--limit", 1,
        "--redo", 3, "--redo-workflow", tmp_path / "second_api.json",
    )  # fmt: skip
    assert status == 0, said
    (record,) = records(out).values()
    assert record["scores"][0]["regions"]["r1"]["edited"] == 1 and record["scores"][0]["regions"]["r2"]["edited"] == 0
    again, ended = record["redo"]
    assert again["failed"] == ["r2"] and again["kept"] is True
    assert [region["id"] for region in again["plan"]["regions"]] == ["r2"]
    assert again["scores"][0]["regions"] == {"r2": again["scores"][0]["regions"]["r2"]}
    assert ended == {
        "round": 2, "report": ended["report"], "failed": [], "stopped": "no region failed",
    }  # fmt: skip
    folder = out / "cat0"
    before, after, cat = (
        np.asarray(Image.open(file)).astype(int)
        for file in (folder / "before_redo_1.png", folder / "final_result.png", photographs / "cat0.png")
    )
    x, y = (DOG[0][0] + DOG[0][2]) // 2, (DOG[0][1] + DOG[0][3]) // 2
    assert (before[y, x] == cat[y, x]).all() and np.abs(after[y, x] - (255 - cat[y, x])).max() <= 1
    assert np.abs(after[64, 48] - (255 - cat[64, 48])).max() <= 1 and (after[4, 4] == cat[4, 4]).all()
