"""A batch on a Ray cluster of this machine: two actors, one killed with its ComfyUI; one actor against two.

Ray comes into an environment of its own on first use (300 MB): `full`.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image
from replan.tests.host.graphs import SIZE, edit, plan_text
from replan.tools.own_environment import ensure_environment

ROOT = Path(__file__).resolve().parents[2]
ITEMS = 8

pytestmark = pytest.mark.full


@pytest.fixture(scope="module", autouse=True)
def ray():
    from replan.tools.batches.cluster import PACKAGES

    found = ensure_environment("ray", PACKAGES)
    if isinstance(found, str):
        pytest.skip(found)


@pytest.fixture(scope="module")
def given(tmp_path_factory, tiny) -> tuple[Path, Path]:
    """A workflow and a folder of images."""
    from skimage import data

    for name in ("flux1", "clip_l", "vae_flux1"):
        tiny(name)
    folder = tmp_path_factory.mktemp("given")
    graph, _ = edit("cat.png", plan_text(((16, 16, 80, 112), "a red hat")), steps=8)
    (folder / "edit_api.json").write_text(json.dumps(graph.prompt), encoding="utf-8")
    (folder / "images").mkdir()
    for number in range(ITEMS):
        Image.fromarray(data.chelsea()).resize(SIZE).rotate(number).save(folder / "images" / f"{number}.png")
    return folder / "edit_api.json", folder / "images"


class Batch:
    """A batch on Ray in its own process, watched: what is done, and which ComfyUI used how much CPU time for it."""

    def __init__(self, given, out: Path, actors: int, comfyui: Path, models: Path) -> None:
        self.out, self.said = out, out.with_suffix(".log")
        command = [
            sys.executable, str(ROOT / "tools" / "batch.py"), *map(str, given), "--out", str(out), "--ray",
            "--actors", str(actors), "--comfyui", str(comfyui), "--python", sys.executable, "--models", str(models),
        ]  # fmt: skip
        with self.said.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.at_first: dict[int, float] = {}  # CPU seconds when its first result was there
        self.last: dict[int, float] = {}

    def servers(self) -> dict[str, int]:
        """The ComfyUI process of each result."""
        found = {}
        for file in self.out.glob("*/result.json"):
            record = json.loads(file.read_text(encoding="utf-8"))
            found[file.parent.name] = int(re.search(r"ComfyUI process (\d+)", record["server"])[1])
        return found

    def watch(self, until) -> None:
        deadline = time.monotonic() + 900
        while time.monotonic() < deadline and not until():
            for pid in set(self.servers().values()):
                try:
                    used = psutil.Process(pid).cpu_times()
                except psutil.NoSuchProcess:
                    continue
                self.last[pid] = used.user + used.system
                self.at_first.setdefault(pid, self.last[pid])
            time.sleep(0.1)

    def end(self) -> str:
        self.watch(lambda: self.process.poll() is not None)
        said = self.said.read_text(encoding="utf-8")
        assert self.process.returncode == 0, said
        return said


def test_an_actor_killed_with_its_comfyui_loses_no_item_and_none_is_done_twice(
    given, tmp_path, comfyui_dir, models_dir
):
    batch = Batch(given, tmp_path / "out", 2, comfyui_dir, models_dir)
    batch.watch(lambda: len(batch.servers()) >= 2 or batch.process.poll() is not None)
    victim = next(iter(batch.servers().values()), None)
    assert victim, batch.said.read_text(encoding="utf-8")
    actor = psutil.Process(victim).ppid()
    os.kill(actor, 9)
    done = {name: (batch.out / name / "final_result.png").stat().st_mtime_ns for name in batch.servers()}
    said = batch.end()
    assert f"{ITEMS} edited, 0 done before, 0 failed" in said
    assert "trying again" in said
    assert sorted(batch.servers()) == sorted(map(str, range(ITEMS)))
    for name, when in done.items():
        assert (batch.out / name / "final_result.png").stat().st_mtime_ns == when
    assert not psutil.pid_exists(victim)
    print(said, batch.servers())


def test_two_actors_share_the_work_of_one(given, tmp_path, comfyui_dir, models_dir):
    longest = {}
    for actors in (1, 2):
        batch = Batch(given, tmp_path / f"out{actors}", actors, comfyui_dir, models_dir)
        batch.end()
        used = {pid: batch.last[pid] - batch.at_first[pid] for pid in batch.last}
        longest[actors] = max(used.values())
        print(f"{actors} actors: CPU seconds after the first result {used}, {batch.said.read_text(encoding='utf-8')}")
        assert len(used) == actors
    assert longest[2] < 0.75 * longest[1]
