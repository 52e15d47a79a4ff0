"""What the ways to edit give to the batch tool: its tables, its refusals, and one region after another."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from replan.planner.plan import KEEP_UNCHANGED
from replan.tools.batches.items import BatchError
from replan.tools.iv_edit.generate import generate

PLAIN = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}
ANSWER = '<gen_image>warm</gen_image><region>[{"bbox_2d": [0, 0, 4, 4], "hint": "a"}%s]</region>'


def arguments(tmp_path: Path, method: str, graph: dict = PLAIN, **more) -> argparse.Namespace:
    (tmp_path / "w.json").write_text(json.dumps(graph), encoding="utf-8")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    second = ', {"bbox_2d": [4, 4, 8, 8], "hint": "b"}'
    rows = [{"id": str(n), "name": str(n), "image": "a.png", "instruction": f"do {n}", "answer": ANSWER % (second * n)}
            for n in range(2)]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "r.jsonl").write_text(text, encoding="utf-8")
    given = {"plans": None, "texts": None, "coordinates": "auto", "perturb_seed": 0, "form": "", "field": [],
             "images": None, "split": "", "shard": (1, 1), "limit": None, "dry_run": False, **more}  # fmt: skip
    return argparse.Namespace(
        workflow=tmp_path / "w.json", source=tmp_path / "r.jsonl", out=tmp_path / "run", method=method, **given
    )


def tables(tmp_path: Path, method: str, **more) -> list[tuple[Path, list[dict]]]:
    """What the batch tool would get: the folder and the rows of each batch; it leaves a result for each row."""
    found = []

    def edit(args) -> int:
        rows = [json.loads(line) for line in args.source.read_text(encoding="utf-8").splitlines()]
        found.append((args.out, rows))
        for row in rows:
            folder = args.out / row["id"]
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (len(found), 0, 0)).save(folder / "final_result.png")
            (folder / "result.json").write_text(
                json.dumps({"image": row["image"], "plan": row.get("plan"), "seconds": 1.5}), encoding="utf-8"
            )
        return 0

    assert generate(arguments(tmp_path, method, **more), edit, lambda text: None) == 0
    return found


def test_plain_gets_image_and_instruction_into_its_own_folder(tmp_path):
    ((out, rows),) = tables(tmp_path, "plain")
    assert out == tmp_path / "run" / "plain"
    assert rows[1] == {"id": "1", "image": str(tmp_path / "a.png"), "instruction": "do 1"}


def test_given_boxes_come_as_a_plan_and_moved_ones_differ(tmp_path):
    ((_, rows),) = tables(tmp_path, "replan_boxes")
    assert [len(row["plan"]["regions"]) for row in rows] == [1, 2] and rows[0]["plan"]["global_prompt"] == "warm"
    ((out, moved),) = tables(tmp_path, "perturbed_50")
    assert out.name == "perturbed_50"
    assert moved[1]["plan"]["regions"][1]["bbox_2d"] != rows[1]["plan"]["regions"][1]["bbox_2d"]
    ((_, same),) = tables(tmp_path, "perturbed_0", plans="perturbed_50")
    assert same[1]["plan"]["regions"] == moved[1]["plan"]["regions"], "the plans of another method's results"


def test_sequential_edits_each_region_on_the_result_before(tmp_path):
    (_, first), (_, second) = tables(tmp_path, "sequential")
    assert [row["id"] for row in first] == ["0", "1"] and [row["id"] for row in second] == ["1"]
    assert second[0]["image"] == str(tmp_path / "run" / ".sequential" / "1" / "1" / "final_result.png")
    assert [one["hint"] for one in second[0]["plan"]["regions"]] == ["b"]
    assert (first[1]["plan"]["global_prompt"], second[0]["plan"]["global_prompt"]) == ("warm", KEEP_UNCHANGED)
    shades = [Image.open(tmp_path / "run" / "sequential" / name / "final_result.png").getpixel((0, 0)) for name in "01"]
    assert shades == [(1, 0, 0), (2, 0, 0)]
    told = json.loads((tmp_path / "run" / "sequential" / "1" / "result.json").read_text(encoding="utf-8"))
    assert [one["hint"] for one in told["plan"]["regions"]] == ["a", "b"], "the whole plan, not the last region's"
    assert (told["image"], told["seconds"], len(told["rounds"])) == (str(tmp_path / "a.png"), 3.0, 2)


def test_boxes_of_answers_count_what_is_said(tmp_path):
    def box(**more):
        ((_, rows),) = tables(tmp_path, "replan_boxes", **more)
        return rows[0]["plan"]["regions"][0]["bbox_2d"]

    # A published planner saw 8 x 8 pixels as 56 x 56.
    assert box(coordinates="pixels") == [0, 0, 4, 4] and box(coordinates="seen_pixels")[2] == pytest.approx(4 / 7)


def test_rephrased_takes_texts_by_id(tmp_path):
    (tmp_path / "texts.csv").write_text("id,instruction\n1,make it red\n", encoding="utf-8")
    ((_, rows),) = tables(tmp_path, "rephrased", texts=tmp_path / "texts.csv")
    assert [(row["id"], row["instruction"]) for row in rows] == [("1", "make it red")]


@pytest.mark.parametrize(
    ("method", "more", "said"),
    [
        ("replan", {}, "has no RePlan Planner"),
        ("rephrased", {}, "no RePlan Planner with the template 'rephrase'"),
        ("sequential", {"shard": (1, 2)}, "does not go with --shard"),
        ("perturbed_20", {"plans": "replan"}, "edit with that method first"),
        ("best", {}, "there are plain, rephrased"),
    ],
)
def test_a_method_that_would_not_do_what_it_says_is_refused(method, more, said, tmp_path):
    with pytest.raises(BatchError, match=said):
        generate(arguments(tmp_path, method, **more), lambda args: 0, lambda text: None)


def test_options_that_do_not_go_together_are_refused_as_by_the_batch_tool(tmp_path):
    """They were taken, and --servers forgotten."""
    tool = Path(__file__).resolve().parents[2] / "tools" / "iv_edit" / "generate.py"
    command = [sys.executable, str(tool), "w.json", "r.jsonl", "--method", "plain", "--out", str(tmp_path / "run")]
    done = subprocess.run([*command, "--ray", "--servers", "http://gpu1:8188"], capture_output=True, encoding="utf-8")
    assert done.returncode == 2 and "choose --servers or --ray" in done.stderr
