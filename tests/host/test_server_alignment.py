"""RePlan Alignment on a server, with the toy world's published dual encoder: it knows an edit from no edit."""

import json

import numpy as np
import pytest
from PIL import Image
from replan.planner.plans.plan_json import plan_to_json
from replan.tools.host_server import Graph
from replan.tools.toyworld.alignment_edits import task_of
from replan.tools.toyworld.descriptions import described_plan
from replan.tools.toyworld.dual_encoder import TEXTS, VISION, ensure_dual_encoder
from replan.tools.toyworld.redo_edits import exact_scores

INDEX = 0  # a scene in which one object is to change its colour


@pytest.fixture(scope="module")
def edits(server, models_dir, tmp_path_factory):
    """The scene before the edit and as it should be, in the server's input folder, and their task."""
    ensure_dual_encoder(models_dir)
    task, folder = task_of(0, INDEX), tmp_path_factory.mktemp("alignment")
    names = []
    for name, scene in (("before", task.scene), ("wanted", task.wanted)):
        file = folder / f"aligned_{name}.png"
        Image.fromarray(np.asarray(scene.pixels)).save(file)
        names.append(server.upload_image(file))
    return task, names


def test_the_better_edit_is_picked_and_the_other_is_to_be_done_again(server, edits):
    task, names = edits
    graph = Graph()
    before, wanted = (graph.add("LoadImage", image=name) for name in names)
    plan = graph.add("RePlanPlanFromText", text=plan_to_json(described_plan(task)), image=before, coordinates="auto")
    scores = graph.add(
        "RePlanAlignment", after=graph.add("ImageBatch", image1=before, image2=wanted), plan=plan, before=before,
        clip_vision=graph.add("ToyWorldLoadClipVision", clip_name=VISION),
        clip=graph.add("CLIPLoader", clip_name=TEXTS, type="stable_diffusion"),
    )  # fmt: skip
    both = graph.add("ImageBatch", image1=before, image2=wanted)
    best = graph.add("RePlanPickBest", images=both, scores=scores, by="")
    failed = graph.add("RePlanFailedRegions", plan=plan, scores=scores, threshold=0.5)
    shown = [graph.add("PreviewAny", source=source) for source in (scores[1], best[1], failed[1])]
    outputs = server.run(graph).outputs
    reports, index, counts = (outputs[node.id]["text"] for node in shown)
    assert [str(one) for one in index] == ["1"]
    assert [str(one) for one in counts] == [str(len(task.meant)), "0"]
    for region in json.loads(plan_to_json(described_plan(task)))["regions"]:
        assert region["description_after"] in "".join(reports)


def test_what_the_exact_scorer_found_decides_which_regions_are_to_be_done_again(server, edits):
    task, (name, _) = edits
    graph = Graph()
    image = graph.add("LoadImage", image=name)
    plan = graph.add("RePlanPlanFromText", text=plan_to_json(task.plan), image=image, coordinates="auto")
    shown = []
    for scene in (task.scene, task.wanted):
        scores = graph.add("ToyWorldScores", scores=exact_scores(task, scene.pixels).to_json())
        failed = graph.add("RePlanFailedRegions", plan=plan, scores=scores, threshold=0.5)
        shown.append(graph.add("PreviewAny", source=failed[1]))
    outputs = server.run(graph).outputs
    assert [str(outputs[node.id]["text"][0]) for node in shown] == [str(len(task.meant)), "0"]
