"""The judge's node: an untrained model, which answers nothing, and one that has learnt its answers by heart.

Learning takes minutes on a processor, since the questions are long, so what needs it belongs to the full set.
"""

import math
import re
import shutil
import uuid
from contextlib import contextmanager

import comfy.model_management as management
import learned_judge
import pytest
import torch
from learned_judge import AFTER, BEFORE, INSTRUCTION, PLAN
from learned_planner import SMALL
from PIL import Image
from replan.nodes import judge as node
from replan.nodes.judge import RePlanJudge
from replan.planner.models import folder
from replan.planner.plan import PlanError, RegionPlan
from replan.planner.plans.plan_json import plan_to_json
from replan.tools.host_server import Graph, PromptError
from replan.tools.training.planner_model import make_model, make_processor, save


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of the judge."""
    return learned_judge.teach(tmp_path_factory.mktemp("judge") / "learned")


@pytest.fixture(scope="module")
def planner(model):
    return folder.load(model, "fp32", "default")


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """The folder of a model that has learnt nothing."""
    path = tmp_path_factory.mktemp("judge") / "untrained"
    save(make_model(0, SMALL), make_processor(), path, torch.float32)
    return path


@pytest.fixture(scope="module")
def quiet(untrained):
    return folder.load(untrained, "fp32", "default")


def run(planner, before=BEFORE, after=AFTER, instruction=INSTRUCTION, **changes):
    """The outputs of the node, which takes every input as a list."""
    given = {"per_region": True, "plan": PLAN, "seed": 0, "max_tokens": 40, "max_megapixels": 0.05, **changes}
    given = {name: value if isinstance(value, list) else [value] for name, value in given.items() if value is not None}
    outputs = RePlanJudge.execute([planner], _list(before), _list(after), _list(instruction), **given)
    return outputs.result


def _list(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.full
def test_the_scores_follow_what_is_seen(planner):
    ((scores,), (overall,), (weighted,), (report,)) = run(planner)
    assert {name: scores.image[name] for name in learned_judge.BLUE if name in scores.image} == {
        "target": 5, "effect": 5, "consistency": 5, "quality": 4,
    }  # fmt: skip
    assert dict(scores.regions["r1"]) == {"done": 1.0, "kept": 1.0} and scores.missing == ()
    assert (overall, weighted) == (4.75, 4.75)
    assert report.startswith("Judged by Qwen2.5-VL 'learned'") and "target: 5" in report


@pytest.mark.full
def test_a_question_without_an_answer_gives_nan_and_is_told(planner, caplog):
    ((scores,), (overall,), (weighted,), (report,)) = run(planner, after=BEFORE)
    assert "quality" in scores.missing and math.isnan(overall) and math.isnan(weighted)
    assert scores.regions["r1"]["done"] == 0.0
    assert "quality: no answer: it gives no score: 'no'" in report
    assert re.search("RePlan Judge: the judge gave no answer to [a-z, ]*quality; see the report", caplog.text)


@pytest.mark.full
def test_a_batch_beside_one_original_gives_scores_for_each(planner):
    scores, _, weighted, _ = run(planner, after=torch.cat([AFTER, BEFORE]))
    assert [one.regions["r1"]["done"] for one in scores] == [1, 0]
    assert weighted[0] == 4.75 and math.isnan(weighted[1])
    listed, *_ = run(planner, before=[BEFORE, BEFORE], after=[AFTER, BEFORE], plan=[PLAN, PLAN])
    assert listed == scores


@pytest.mark.full
def test_the_same_seed_and_another_one_give_the_same_scores(planner):
    assert run(planner) == run(planner) == run(planner, seed=7)


def test_each_question_is_shown_as_it_is_asked_and_a_model_without_answers_is_refused(quiet, monkeypatch):
    shown = []
    monkeypatch.setattr(node, "show_progress", shown.append)
    said = "RePlan Judge: none of 6 questions got an answer. target: .*cut off after 16 tokens, allow more"
    with pytest.raises(PlanError, match=said):
        run(quiet, max_tokens=16)
    assert shown == [
        f"question {number} of 6: {name}"
        for number, name in enumerate(("target", "effect", "consistency", "quality", "r1 done", "r1 kept"), 1)
    ]
    with pytest.raises(PlanError, match="no edit could be judged; image 1 of 2: none of 6 questions"):
        run(quiet, after=torch.cat([AFTER, BEFORE]), max_tokens=16)


def test_an_interruption_ends_it(quiet, monkeypatch):
    monkeypatch.setattr(node, "show_progress", lambda text: management.interrupt_current_processing("effect" in text))
    with pytest.raises(management.InterruptProcessingException):
        run(quiet, max_tokens=16)
    management.interrupt_current_processing(False)


@pytest.mark.full
def test_without_per_region_the_plan_is_not_used_and_that_is_told(planner):
    ((scores,), _, _, (report,)) = run(planner, per_region=False)
    assert not scores.regions and "Note: the plan was not used; turn per_region on" in report
    assert "not used" not in run(planner, per_region=False, plan=None)[3][0]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"instruction": " "}, "RePlan Judge: the instruction is empty"),
        ({"plan": None}, "RePlan Judge: per_region asks about the regions of a plan; connect the plan"),
        (
            {"before": BEFORE.expand(2, -1, -1, -1), "after": AFTER.expand(3, -1, -1, -1)},
            "found 2 original images for 3",
        ),
        ({"plan": RegionPlan((300, 100), regions=PLAN.regions)}, "another aspect ratio"),
        ({"after": AFTER[:, :64]}, "the edited image has 128x64, another aspect ratio"),
    ],
)
def test_what_cannot_be_judged_is_refused(quiet, changes, told):
    with pytest.raises(PlanError, match=told):
        run(quiet, **changes)


@pytest.fixture(scope="module")
def images(server, tmp_path_factory):
    """The uploaded images before and after the edit."""
    names = {}
    for which, image in (("before", BEFORE), ("after", AFTER)):
        file = tmp_path_factory.mktemp("images") / f"judge_{which}.png"
        Image.fromarray((image[0] * 255).round().to(torch.uint8).numpy()).save(file)
        names[which] = server.upload_image(file)
    return names


@contextmanager
def offered(server, folder):
    """The name under which RePlan Load Planner offers a model's folder meanwhile."""
    name = f"test_{uuid.uuid4().hex[:8]}_judge"
    (server.models / "LLM").mkdir(exist_ok=True)
    shutil.copytree(folder, server.models / "LLM" / name)
    try:
        yield name
    finally:
        shutil.rmtree(server.models / "LLM" / name)


def graph_of(images, name, **changes):
    """A graph that judges, and the nodes that show overall, weighted and report."""
    graph = Graph()
    before, after = (graph.add("LoadImage", image=images[which]) for which in ("before", "after"))
    settings = {
        "instruction": INSTRUCTION, "per_region": True, "seed": 0, "max_tokens": 40, "max_megapixels": 0.05, **changes,
    }  # fmt: skip
    plan = graph.add("RePlanPlanFromText", text=plan_to_json(PLAN))
    loaded = graph.add("RePlanLoadPlanner", model_name=name, dtype="fp32")
    judged = graph.add("RePlanJudge", planner=loaded, before=before, after=after, plan=plan, **settings)
    return graph, [graph.add("PreviewAny", source=judged[output]) for output in (1, 2, 3)]


def test_on_the_server_what_cannot_be_judged_names_the_node(server, images, untrained):
    with offered(server, untrained) as name:
        with pytest.raises(PromptError, match="RePlan Judge: the instruction is empty"):
            server.run(graph_of(images, name, instruction="")[0])
        with pytest.raises(PromptError, match="RePlan Judge: none of 6 questions got an answer"):
            server.run(graph_of(images, name, max_tokens=16)[0])


@pytest.mark.full
def test_on_the_server_scores_come_out_of_images_a_plan_and_a_loaded_model(server, images, model):
    with offered(server, model) as name:
        graph, shown = graph_of(images, name)
        result = server.run(graph)
    overall, weighted, report = (result.outputs[each.id]["text"][0] for each in shown)
    assert (overall, weighted) == ("4.75", "4.75")
    assert "Region r1: blue" in report and "done: yes" in report
