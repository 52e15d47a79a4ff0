"""Ways to edit that no other test runs on a server: region after region, moved boxes, rephrased instructions."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from replan.tools.toyworld.iv_records import workflow, write_records, write_texts
from replan.tools.toyworld.requests import held_out_requests
from replan.tools.toyworld.scoring import outcomes
from replan.tools.toyworld.weights import ensure

pytestmark = pytest.mark.full
TOOL = Path(__file__).resolve().parents[2] / "tools" / "iv_edit" / "generate.py"
STEPS = 4


@pytest.fixture(scope="module")
def requests():
    """One with two regions, one with a single one."""
    found = held_out_requests(0, 2)
    assert [len(one.task.meant) for one in found] == [2, 1]
    return found


@pytest.fixture(scope="module")
def results(server, models_dir, requests, tmp_path_factory) -> Path:
    """The folder of a run by all of these methods."""
    ensure(models_dir)
    folder = tmp_path_factory.mktemp("iv")
    records = write_records(requests, folder / "toy", parquet=False)
    texts = write_texts(requests, folder / "toy")
    for name in ("plain", "plan"):
        (folder / f"{name}_api.json").write_text(json.dumps(workflow(name, STEPS)), encoding="utf-8")
    for graph, method, *more in (
        ("plan", "sequential"), ("plan", "perturbed_0"), ("plan", "perturbed_20"), ("plan", "perturbed_70"),
        ("plain", "rephrased", "--texts", texts),
    ):  # fmt: skip
        command = [sys.executable, TOOL, folder / f"{graph}_api.json", records, "--method", method, *more,
                   "--out", folder / "run", "--servers", server.url]  # fmt: skip
        subprocess.run([*map(str, command)], check=True, timeout=300)
    return folder / "run"


def pixels(results: Path, method: str, name: str) -> np.ndarray:
    with Image.open(results / method / name / "final_result.png") as image:
        return np.asarray(image.convert("RGB"))


def told(results: Path, method: str, name: str) -> dict:
    return json.loads((results / method / name / "result.json").read_text(encoding="utf-8"))


def test_sequential_does_every_region_and_is_the_same_as_at_once_with_a_single_one(results, requests):
    assert all(one.changed for one in outcomes(requests[0].task, pixels(results, "sequential", "0")))
    first = next((results / ".sequential" / "1" / "0").glob("final_result.png"))
    with Image.open(first) as image:
        halfway = [one.changed for one in outcomes(requests[0].task, np.asarray(image.convert("RGB")))]
    assert halfway == [True, False], "the second region was edited with the first already"
    whole = told(results, "sequential", "0")
    assert [one["hint"] for one in whole["plan"]["regions"]] == [one.text for _, one in requests[0].task.instructions]
    assert len(whole["rounds"]) == 2 and whole["image"] == told(results, "perturbed_0", "0")["image"]
    assert (pixels(results, "sequential", "1") == pixels(results, "perturbed_0", "1")).all()


def test_boxes_move_and_the_image_with_them(results, requests):
    boxes = {}
    for method in ("perturbed_0", "perturbed_20", "perturbed_70"):
        boxes[method] = [one["bbox_2d"] for one in told(results, method, "0")["plan"]["regions"]]
    # What the records' answers count: the scenes' own pixels.
    assert np.abs(np.array(boxes["perturbed_0"]) - [one.box for one in requests[0].task.plan.regions]).max() <= 0.5
    for method, share in (("perturbed_20", 0.2), ("perturbed_70", 0.7)):
        for there, (left, top, right, bottom) in zip(boxes[method], boxes["perturbed_0"], strict=True):
            moved = np.abs(np.subtract(there, (left, top, right, bottom)))
            assert moved.max() > 0 and (moved <= share * np.tile([right - left, bottom - top], 2) + 1).all()
        assert (pixels(results, method, "0") != pixels(results, "perturbed_0", "0")).any()


def test_rephrased_edits_by_the_words_of_the_table(results, requests):
    for number, request in enumerate(requests):
        words = " and ".join(one.text for _, one in request.task.instructions)
        assert told(results, "rephrased", str(number))["instruction"] == words
    # The second names a thing that is the only one of its kind: words alone are enough.
    assert all(one.changed for one in outcomes(requests[1].task, pixels(results, "rephrased", "1")))
