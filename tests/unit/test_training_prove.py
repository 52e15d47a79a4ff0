"""The proof's bookkeeping: what is trained when, the figures' form, gains with their standard errors; the weak base."""

import argparse
import json
import math

import pytest
from replan.planner.plan import PlanError
from replan.planner.replies import read_plan
from replan.tools.host_server import free_port
from replan.tools.toyworld.requests import training_requests
from replan.tools.toyworld.scenes import random_state
from replan.tools.training.careless import careless
from replan.tools.training.careless import main as weaken
from replan.tools.training.prove import MEASURED, NAMES, QUICK, TRAININGS, gains, main, table, waves
from replan.tools.training.rewards import edit_reward


def test_each_training_comes_after_the_one_that_it_begins_from():
    names = [one.name for one in TRAININGS]
    assert [[one.name for one in wave] for wave in waves(QUICK)] == [["base"], ["stage1", "control"], ["stage2"]]
    assert [[one.name for one in wave] for wave in waves(names)] == [
        ["base", "base_reasoning"], ["stage1", "control", "single", "stage1_reasoning"],
        ["stage2", "control2", "stage2_reasoning"],
    ]  # fmt: skip
    assert [[one.name for one in wave] for wave in waves(["stage2"])] == [["stage2"]]  # what it begins from is there


def test_figures_have_the_form_that_is_asked_for_and_gains_their_standard_errors(tmp_path):
    args = argparse.Namespace(out=tmp_path, seeds=1, scenes=2, json=tmp_path / "told" / "proof.json")
    for name, weighted in (("base", (0.0, 0.5)), ("stage1", (0.5, 0.5)), ("stage2", (1.0, 1.5))):
        rows = [{"weighted": value} for value in weighted]
        told = {"scenes": 2, "figures": dict.fromkeys(NAMES, 0.5), "effect_by_kind": {"remove": 1.0}, "rows": rows}
        folder = tmp_path / "seed_0" / name
        folder.mkdir(parents=True)
        (folder / MEASURED).write_text(json.dumps(told), encoding="utf-8")
    text = table(args)
    found = json.loads(args.json.read_text(encoding="utf-8"))
    assert list(found) == ["runs"] and list(found["runs"]) == ["base", "stage1", "stage2"]
    assert list(found["runs"]["stage2"]) == list(NAMES)
    assert "| stage2 | 0.500 |" in text
    told = json.loads((tmp_path / "proof.json").read_text(encoding="utf-8"))["gains"]
    assert told["stage1 - base"] == {"weighted": 0.25, "standard_error": pytest.approx(0.25)}
    assert told["stage2 - base"] == {"weighted": 1.0, "standard_error": 0.0}
    assert told["stage2 - stage1"]["standard_error"] == pytest.approx(math.sqrt(0.125 / 2), abs=1e-4)


def test_a_gain_over_several_seeds_counts_each_scene_once_and_pairs_a_seed_with_itself():
    def measured(*weighted: float) -> dict:
        return {"rows": [{"weighted": value} for value in weighted]}

    one = {"base": {0: measured(0.0, 0.0)}, "stage1": {0: measured(0.0, 1.0)}}
    three = {name: dict.fromkeys(range(3), seeds[0]) for name, seeds in one.items()}
    assert gains(three) == gains(one) == {"stage1 - base": {"weighted": 0.5, "standard_error": 0.5}}
    uneven = {"base": {0: measured(9.0, 9.0), 1: measured(0.0, 0.0)}, "stage1": {1: measured(0.0, 1.0)}}
    assert gains(uneven) == gains(one)


def test_rows_that_reason_are_compared_with_those_that_do_and_with_themselves_without():
    found = {one.name: {0: {"rows": [{"weighted": 0.5}]}} for one in TRAININGS}
    names = set(gains(found))
    assert {"stage2 - base", "stage2 - stage1", "control - stage1", "single - base"} <= names
    assert {one for one in names if "reasoning" in one} == {
        "base_reasoning - base", "stage1_reasoning - base_reasoning", "stage1_reasoning - stage1",
        "stage2_reasoning - base_reasoning", "stage2_reasoning - stage1_reasoning", "stage2_reasoning - stage2",
    }  # fmt: skip
    tasks = {one.name: one.task for one in TRAININGS}
    assert tasks["stage2"] == "edit_region_planning_nothink" and tasks["stage2_reasoning"] == "edit_region_planning"


def test_a_row_that_there_is_none_is_refused(capsys):
    assert main(["--only", "stage9"]) == 2
    assert "no stage9, only base, stage1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [("--jobs", "0"), ("--scenes", "0"), ("--seeds", "0"), ("--steps1", "-1"), ("--replies", "7")]
)
def test_numbers_that_cannot_be_are_refused(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--out", str(tmp_path / "out"), *arguments])
    assert ended.value.code == 2 and arguments[0] in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_what_cannot_begin_is_told_before_anything_is_trained(tmp_path, capsys):
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    dead = f"http://127.0.0.1:{free_port()}"
    for out, arguments, said in (
        ("file", (), "file"),
        ("out", ("--json", str(tmp_path)), "is a folder; give a file"),
        ("out", ("--comfyui", dead), "does not answer"),
        ("begun", (), "steps1 7, now 30"),
    ):
        (tmp_path / "begun").mkdir(exist_ok=True)
        told = {"quick": False, "steps1": 7, "steps2": 24, "replies": 24, "render_steps": 8}
        (tmp_path / "begun" / "options.json").write_text(json.dumps(told), encoding="utf-8")
        assert main(["--out", str(tmp_path / out), *arguments]) == 2
        assert said in capsys.readouterr().err
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"
    assert not (tmp_path / "out" / "seed_0").exists()


def test_careless_writes_over_no_planner_and_no_file(tmp_path, capsys):
    (tmp_path / "model.safetensors").write_text("kept", encoding="utf-8")
    for out, said in ((tmp_path, "holds a planner already"), (tmp_path / "model.safetensors", "model.safetensors")):
        assert weaken(["--out", str(out)]) == 2
        assert said in capsys.readouterr().err
    assert (tmp_path / "model.safetensors").read_text(encoding="utf-8") == "kept"
    with pytest.raises(SystemExit):
        weaken(["--out", str(tmp_path / "new"), "--steps", "0"])


def test_careless_demonstrations_break_the_form_mostly_for_some_requests_and_follow_from_the_seed():
    requests = [one for scene in range(200) for one in training_requests(777, scene, 1)]
    shown = [careless(one, random_state(0, str(place))) for place, one in enumerate(requests)]
    assert shown[:9] == [careless(one, random_state(0, str(place))) for place, one in enumerate(requests[:9])]

    def good(demonstration) -> bool:
        return edit_reward(demonstration.reply, think=False, image_size=(128, 128)).renders

    two = [one for one in shown if len(one.task.instructions) > 1]
    plain = [one for one in shown if [edit.kind for _, edit in one.task.instructions] in (["remove"], ["recolour"])]
    assert sum(map(good, two)) / len(two) < 0.5 < 0.8 < sum(map(good, plain)) / len(plain)
    for one in shown:
        try:
            plan, _ = read_plan(one.reply, (128, 128), "seen_pixels", (128, 128))
        except PlanError:
            continue
        assert all(0 <= edge <= 128 for region in plan.regions for edge in region.box)
