"""A judge that has learnt its answers by heart, through the node in this process and on the real server."""

import math
import shutil
import uuid

import comfy.model_management as management
import learned_judge
import pytest
import torch
from learned_judge import AFTER, BEFORE, INSTRUCTION, PLAN
from PIL import Image
from replan.nodes import judge as node
from replan.nodes.judge import RePlanJudge
from replan.planner.models import folder
from replan.planner.plan import PlanError, RegionPlan
from replan.planner.plans.plan_json import plan_to_json
from replan.tools.host_server import Graph, PromptError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of the judge."""
    return learned_judge.teach(tmp_path_factory.mktemp("judge") / "learned")


@pytest.fixture(scope="module")
def planner(model):
    return folder.load(model, "fp32", "default")


def run(planner, before=BEFORE, after=AFTER, instruction=INSTRUCTION, **changes):
    """The outputs of the node, which takes every input as a list."""
    given = {"per_region": True, "plan": PLAN, "seed": 0, "max_tokens": 40, "max_megapixels": 0.05, **changes}
    given = {name: value if isinstance(value, list) else [value] for name, value in given.items() if value is not None}
    outputs = RePlanJudge.execute([planner], _list(before), _list(after), _list(instruction), **given)
    return outputs.result


def _list(value):
    return value if isinstance(value, list) else [value]


def test_the_scores_follow_what_is_seen(planner):
    ((scores,), (overall,), (weighted,), (report,)) = run(planner)
    assert {name: scores.image[name] for name in learned_judge.BLUE if name in scores.image} == {
        "target": 5, "effect": 5, "consistency": 5, "quality": 4,
    }  # fmt: skip
    assert dict(scores.regions["r1"]) == {"done": 1.0, "kept": 1.0} and scores.missing == ()
    assert (overall, weighted) == (4.75, 4.75)
    assert report.startswith("Judged by Qwen2.5-VL 'learned'") and "target: 5 (a)" in report


def test_a_question_without_an_answer_gives_nan_and_is_told(planner, caplog):
    ((scores,), (overall,), (weighted,), (report,)) = run(planner, after=BEFORE)
    assert scores.image == {"target": 1.0, "effect": 1.0, "consistency": 5.0}
    assert scores.missing == ("quality",) and math.isnan(overall) and math.isnan(weighted)
    assert scores.regions["r1"]["done"] == 0.0
    assert "quality: no answer: it gives no score: 'no'" in report
    assert "RePlan Judge: the judge gave no answer to quality; see the report" in caplog.text


def test_a_batch_beside_one_original_gives_scores_for_each(planner):
    scores, _, weighted, _ = run(planner, after=torch.cat([AFTER, BEFORE]))
    assert [one.image["target"] for one in scores] == [5, 1]
    assert weighted[0] == 4.75 and math.isnan(weighted[1])
    listed, *_ = run(planner, before=[BEFORE, BEFORE], after=[AFTER, BEFORE], plan=[PLAN, PLAN])
    assert listed == scores


def test_the_same_seed_and_another_one_give_the_same_scores(planner):
    assert run(planner) == run(planner) == run(planner, seed=7)


def test_each_question_is_shown_as_it_is_asked(planner, monkeypatch):
    shown = []
    monkeypatch.setattr(node, "show_progress", shown.append)
    run(planner)
    assert shown[:2] == ["question 1 of 6: target", "question 2 of 6: effect"]
    assert shown[-2:] == ["question 6 of 6: r1 kept", "Weighted 4.75 of 5"]


def test_an_interruption_ends_it(planner, monkeypatch):
    monkeypatch.setattr(node, "show_progress", lambda text: management.interrupt_current_processing("effect" in text))
    with pytest.raises(management.InterruptProcessingException):
        run(planner)
    management.interrupt_current_processing(False)


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
        ({"max_tokens": 16}, "none of 6 questions got an answer.*cut off after 16 tokens"),
    ],
)
def test_what_cannot_be_judged_is_refused(planner, changes, told):
    with pytest.raises(PlanError, match=told):
        run(planner, **changes)


def test_on_the_server_scores_come_out_of_images_a_plan_and_a_loaded_model(server, model, tmp_path):
    name = f"test_{uuid.uuid4().hex[:8]}_judge"
    shutil.copytree(model, server.models / "LLM" / name)
    try:
        images = {}
        for which, image in (("before", BEFORE), ("after", AFTER)):
            file = tmp_path / f"judge_{which}.png"
            Image.fromarray((image[0] * 255).round().to(torch.uint8).numpy()).save(file)
            images[which] = server.upload_image(file)

        def graph(**changes):
            made = Graph()
            before, after = (made.add("LoadImage", image=images[which]) for which in ("before", "after"))
            judged = made.add(
                "RePlanJudge",
                planner=made.add("RePlanLoadPlanner", model_name=name, dtype="fp32"),
                before=before,
                after=after,
                **{
                    "plan": made.add("RePlanPlanFromText", text=plan_to_json(PLAN)),
                    "instruction": INSTRUCTION,
                    "per_region": True,
                    "seed": 0,
                    "max_tokens": 40,
                    "max_megapixels": 0.05,
                    **changes,
                },
            )
            return made, [made.add("PreviewAny", source=judged[output]) for output in (1, 2, 3)]

        made, shown = graph()
        result = server.run(made)
        overall, weighted, report = (result.outputs[each.id]["text"][0] for each in shown)
        assert (overall, weighted) == ("4.75", "4.75")
        assert "Region r1: blue" in report and "done: yes (a)" in report
        with pytest.raises(PromptError, match="RePlan Judge: the instruction is empty"):
            server.run(graph(instruction="")[0])
    finally:
        shutil.rmtree(server.models / "LLM" / name)
