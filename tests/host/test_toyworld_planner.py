"""Instruction -> plan -> edit through the real server: no text of ours between the model's image and the edit."""

import numpy as np
import pytest
import torch
from learned_planner import SMALL, Lesson, learn
from replan.planner.asking.templates import load_template, planner_messages
from replan.planner.models import folder
from replan.tools.toyworld import planner_benchmark, weights
from replan.tools.toyworld.editing import Editing
from replan.tools.toyworld.judged import held_out_judged
from replan.tools.toyworld.lessons import held_out_example
from replan.tools.toyworld.planner_benchmark import Planning, in_words, score_answer
from replan.tools.toyworld.requests import held_out_request
from replan.tools.toyworld.scenes import SIZE, held_out_seed
from replan.tools.toyworld.sheets import result_sheet
from replan.tools.training import planner_measure
from replan.tools.training.planner_batches import judge_turn, patches, prompt, turn_of
from replan.tools.training.planner_model import (
    lesson_processor,
    lesson_sizes,
    load_planner,
    load_processor,
    make_model,
    make_processor,
    save,
)

REQUEST = held_out_request(held_out_seed(5, 1), SIZE)
LEAST = 0.8  # of the objects that the published planner finds; docs/planner_models.md has the figure of 100 scenes
published = pytest.mark.skipif(not weights.planner_published(), reason="the repository has no trained planner yet")


@pytest.fixture(scope="module")
def editing(server, models_dir, tmp_path_factory):
    weights.ensure(models_dir)
    return Editing(server, tmp_path_factory.mktemp("planned"), steps=4)


@pytest.fixture
def planning(editing, models_dir):
    """Gives a `Planning` with the planner of a folder in place of the published one."""
    return lambda folder: Planning(editing, *weights.ensure_planner(models_dir, folder))


@pytest.fixture(scope="module")
def by_heart(tmp_path_factory):
    """A planner that has learnt the answer to one request about one scene, and nothing else."""
    picture = torch.from_numpy(REQUEST.task.scene.pixels.copy())[None].float() / 255
    asked = planner_messages(load_template("ask", "{{instruction}}"), REQUEST.text)
    return learn(tmp_path_factory.mktemp("by_heart") / "planner", [Lesson(asked, [picture], REQUEST.reply)], steps=60)


def test_a_request_is_planned_and_the_plan_edits_its_scene(planning, by_heart):
    asked = planning(by_heart)
    answer = asked.plan(REQUEST)
    assert answer.reply == REQUEST.reply
    found = score_answer(REQUEST, answer)
    assert found.good and set(found.ious) == {1.0} and found.state == "clean"
    edited, wanted = asked.edit(REQUEST), asked.editing.run(planner_benchmark.RULES, REQUEST.task)
    assert (edited.pixels == wanted.pixels).all()  # the same plan, by another way
    assert (edited.pixels != REQUEST.task.scene.pixels).any()


def test_a_reply_without_a_plan_counts_as_failed(planning, tmp_path):
    answer = planning(save(make_model(), make_processor(), tmp_path / "untrained")).plan(REQUEST)
    assert answer.plan is None and "holds no plan" in answer.error
    assert score_answer(REQUEST, answer).state == "failed"


def test_the_benchmark_asks_edits_and_scores(planning, by_heart):
    results, pictures = planner_benchmark.measure_scenes(planning(by_heart), 1, 5)
    assert set(results["methods"]) == {"planned", "true plan"}
    assert results["planner"]["objects"] == len(results["replies"][0]["ious"])
    assert "with IoU >= 0.5" in in_words(results)
    assert result_sheet(*pictures).height > 100


def test_templates_and_the_judge_are_asked_in_the_measure_as_by_the_nodes(tmp_path):
    """The same tokens and patches go in, asked many at once or one by one by the pack's code."""
    processor = lesson_processor()
    sizes = SMALL._replace(more=lesson_sizes(processor.tokenizer).more)
    model = make_model(2, sizes)
    planner = folder.load(save(model, processor, tmp_path / "planner", torch.float32), "fp32", "cpu")
    examples = [held_out_example(name, held_out_seed(6, 1)) for name in planner_measure.TEMPLATES]
    turns = [*map(turn_of, examples), judge_turn(held_out_judged(held_out_seed(6, 1)), "target")]
    for turn in turns:
        images = [torch.from_numpy(image.copy())[None] / 255 for image in turn.images]
        given = planner.inputs(turn.messages, images)
        assert given["input_ids"][0].tolist() == prompt(turn, processor)[0]
        ours = patches(np.stack(turn.images), processor.image_processor)
        assert torch.allclose(given["pixel_values"], ours, atol=1e-6)
    assert planner_measure.by_planner(planner, examples[:2]) == [
        planner_measure.answered(one, "") for one in examples[:2]
    ]


@published
def test_the_published_planner_finds_what_is_meant():
    model = load_planner(weights.checked_planner())
    requests = [held_out_request(held_out_seed(30, index), SIZE) for index in range(40)]
    figures = planner_measure.measure(model, load_processor(weights.checked_planner()), requests)
    assert figures["replies_failed"] == 0
    assert figures["objects_found"] >= LEAST


@published
def test_the_published_planner_plans_in_the_host_as_in_its_own_measure(editing, models_dir):
    asked = Planning(editing, *weights.ensure_planner(models_dir))
    model, processor = load_planner(weights.checked_planner()), load_processor(weights.checked_planner())
    for index in range(3):
        request = held_out_request(held_out_seed(31, index), SIZE)
        assert asked.plan(request).reply == planner_measure.replies(model, processor, [request])[0]
