"""What the demo puts together before any server runs: who makes the plan, and the example for the browser."""

import importlib
import json
from pathlib import Path

import pytest
from replan.tools.toyworld import weights

TOOLS = Path(__file__).resolve().parents[2] / "tools"
NAMES = ("toyworld_planner", "toyworld.txt")


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("demo")


def test_without_a_planner_it_says_so_and_how_to_get_one(demo, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(weights, "planner_published", lambda: False)
    assert demo.planner_names(tmp_path, None) is None
    said = capsys.readouterr().out
    assert "There is no trained planner" in said and "made by hand" in said and "train.py planner" in said
    assert not list(tmp_path.iterdir())


def test_a_request_of_the_users_own_is_asked_of_the_same_scene(demo):
    own = demo.requested(2, "remove the largest star")
    assert (
        own.text == "remove the largest star"
        and own.task == demo.requested(2, None).task != demo.requested(3, None).task
    )


@pytest.mark.parametrize("planned", [True, False])
def test_the_example_has_the_toy_worlds_models(demo, tmp_path, planned):
    request = demo.requested(2, None)
    name = demo.write_example(tmp_path, request.task, request if planned else None, NAMES if planned else None)
    workflow = json.loads((tmp_path / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
    values = {node["type"]: node.get("widgets_values") for node in workflow["nodes"]}
    assert values["UNETLoader"][0] == weights.EDITOR and values["VAELoader"] == [weights.CODEC]
    assert values["CLIPLoader"][0] == weights.TEXT_ENCODER and "DualCLIPLoader" not in values
    assert values["LoadImage"][0] == demo.SCENE and values["RePlanResize"][0] == "multiple_of"
    if planned:
        assert values["RePlanLoadPlanner"][:2] == ["toyworld_planner", "fp32"]
        assert values["RePlanPlanner"][:2] == [request.text, "toyworld.txt"]
    else:
        assert json.loads(values["RePlanPlanFromText"][0])["regions"]
