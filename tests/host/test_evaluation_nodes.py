"""The evaluation nodes as ComfyUI runs them: batches and lists, what they show, and a graph on a server."""

import numpy as np
import pytest
import torch
from PIL import Image
from replan.nodes import evaluation
from replan.nodes.evaluation import RePlanEditReport, RePlanFailedRegions, RePlanPickBest
from replan.planner.plan import Region, RegionPlan
from replan.tests.host.graphs import SIZE, plan_text
from replan.tests.host.test_image_nodes import run
from replan.tools.host_server import Graph, PromptError

BEFORE = torch.rand(1, 128, 192, 3, generator=torch.Generator().manual_seed(0)) * 0.8
HAT, DOG = Region("r1", (16, 16, 80, 112), "a red hat"), Region("r2", (96, 32, 176, 112), "a green dog")
PLAN = RegionPlan((192, 128), regions=(HAT, DOG))


def edit_in(*boxes):
    """The image before with each box inverted."""
    after = BEFORE.clone()
    for x1, y1, x2, y2 in boxes:
        after[:, y1:y2, x1:x2] = 1 - after[:, y1:y2, x1:x2]
    return after


EDITS = torch.cat([edit_in((16, 16, 80, 112)), edit_in((16, 16, 80, 112), (96, 32, 176, 112)), edit_in()])


@pytest.fixture(autouse=True)
def folders(comfy_env):
    """Where previews are saved."""


def test_ids_sockets_and_their_order_are_the_public_contract():
    found = {
        node.GET_SCHEMA().node_id: (
            [f"{entry.id}{'?' * bool(entry.optional)}" for entry in node.GET_SCHEMA().inputs],
            list(node.RETURN_TYPES),
        )
        for node in evaluation.NODES
    }
    assert found == {
        "RePlanEditReport": (
            ["before", "after", "plan?", "threshold?"],
            ["IMAGE", "STRING", "FLOAT", "FLOAT", "REPLAN_SCORES"],
        ),
        "RePlanPickBest": (["images", "scores", "by"], ["IMAGE", "INT", "STRING"]),
        "RePlanFailedRegions": (["plan", "scores", "threshold"], ["REGION_PLAN", "INT", "STRING"]),
    }


@pytest.mark.parametrize("node", evaluation.NODES, ids=lambda node: node.__name__)
def test_every_node_explains_itself(node):
    schema = node.GET_SCHEMA()
    assert schema.display_name.startswith("RePlan ") and schema.category == "RePlan/evaluation"
    assert schema.description and len(schema.search_aliases) >= 3
    assert all(entry.tooltip for entry in schema.inputs) and all(entry.tooltip for entry in schema.outputs)


def test_each_image_of_a_batch_has_a_report_of_its_own_and_shows_it():
    (maps, reports, psnr, changed, scores), ui = run(RePlanEditReport, before=[BEFORE], after=[EDITS], plan=[PLAN])
    assert [len(column) for column in (maps, reports, psnr, changed, scores)] == [3] * 5
    assert all(one.ndim == 4 and len(one) == 1 for one in maps)
    assert psnr == [100.0] * 3 and changed == [0.0] * 3
    assert [one.image["edited"] for one in scores] == [0.5, 1.0, 0.0]
    assert "(not r2)" in reports[0] and "2 of 2 regions changed" in reports[1]
    assert len(ui["images"]) == 3 and ui["text"] == reports


def test_lists_and_batches_of_each_kind_pair():
    for before, after, plan in (
        ([BEFORE.expand(3, -1, -1, -1)], [EDITS], [PLAN]),
        ([BEFORE], list(EDITS.split(1)), [PLAN] * 3),
        ([BEFORE], [EDITS[:1], EDITS[1:]], [PLAN]),
    ):
        (_, _, _, _, scores), _ = run(RePlanEditReport, before=before, after=after, plan=plan)
        assert [one.image["edited"] for one in scores] == [0.5, 1.0, 0.0]
    with pytest.raises(ValueError, match="RePlan Edit Report: found 2 original images for 3 edited images"):
        run(RePlanEditReport, before=[BEFORE.expand(2, -1, -1, -1)], after=[EDITS])
    with pytest.raises(ValueError, match="RePlan Edit Report: found 2 plans for 3 edited images"):
        run(RePlanEditReport, before=[BEFORE], after=[EDITS], plan=[PLAN] * 2)


def test_the_best_of_a_batch_or_of_a_list_is_kept_and_the_report_has_all_scores():
    (_, _, _, _, scores), _ = run(RePlanEditReport, before=[BEFORE], after=[EDITS], plan=[PLAN])
    for images in ([EDITS], list(EDITS.split(1)), [EDITS[:2], EDITS[2:]]):
        ((best,), (index,), (report,)), _ = run(RePlanPickBest, images=images, scores=scores, by=[""])
        assert index == 1 and torch.equal(best, EDITS[1:2])
        assert report.count("edited_and_kept") == 4
    _, (report,) = run(RePlanPickBest, images=[EDITS], scores=scores, by=["outside_psnr"])[0][1:]
    assert "tied with 2, 3" in report
    with pytest.raises(ValueError, match="RePlan Pick Best: found 3 images and 1 set of scores"):
        run(RePlanPickBest, images=[EDITS], scores=scores[:1], by=[""])
    with pytest.raises(ValueError, match="RePlan Pick Best: none of 3 edits has the score 'beauty'.*outside_psnr"):
        run(RePlanPickBest, images=[EDITS], scores=scores, by=["beauty"])


def test_regions_that_did_not_change_are_the_plan_of_a_second_edit():
    (_, _, _, _, scores), _ = run(RePlanEditReport, before=[BEFORE], after=[EDITS], plan=[PLAN])
    (plans, counts, reports), _ = run(RePlanFailedRegions, plan=[PLAN], scores=scores, threshold=[0.5])
    assert counts == [1, 0, 2] and [plan.ids for plan in plans] == [("r2",), (), ("r1", "r2")]
    assert plans[0].regions[0] == DOG and plans[0].image_size == PLAN.image_size
    assert reports[0].startswith("1 of 2 regions failed")
    with pytest.raises(ValueError, match="RePlan Failed Regions: found 2 plans for 3 scored edits"):
        run(RePlanFailedRegions, plan=[PLAN] * 2, scores=scores, threshold=[0.5])
    (_, _, _, _, without), _ = run(RePlanEditReport, before=[BEFORE], after=[EDITS])
    with pytest.raises(ValueError, match="RePlan Failed Regions: the scores of the edit report do not say which"):
        run(RePlanFailedRegions, plan=[PLAN], scores=without, threshold=[0.5])


@pytest.fixture(scope="module")
def pictures(server, tmp_path_factory) -> list[str]:
    """The image before and two edits of it, in the server's input folder."""
    folder = tmp_path_factory.mktemp("edits")
    names = []
    for name, image in (("before", BEFORE[0]), ("half", EDITS[0]), ("done", EDITS[1])):
        file = folder / f"evaluated_{name}.png"
        Image.fromarray((image.numpy() * 255).round().astype(np.uint8)).save(file)
        names.append(server.upload_image(file))
    return names


def evaluated(graph, names):
    before, *edits = (graph.add("LoadImage", image=name) for name in names)
    batch = graph.add("ImageBatch", image1=edits[0], image2=edits[1])
    text = plan_text((HAT.box, HAT.hint), (DOG.box, DOG.hint), size=SIZE)
    plan = graph.add("RePlanPlanFromText", text=text, image=before)
    return before, batch, plan, graph.add("RePlanEditReport", before=before, after=batch, plan=plan)


def test_report_choice_and_redo_run_on_a_server(server, pictures):
    graph = Graph()
    _, batch, plan, report = evaluated(graph, pictures)
    best = graph.add("RePlanPickBest", images=batch, scores=report[4], by="")
    saved = graph.add("SaveImage", images=best, filename_prefix="best")
    failed = graph.add("RePlanFailedRegions", plan=plan, scores=report[4], threshold=0.5)
    counts, chosen = graph.add("PreviewAny", source=failed[1]), graph.add("PreviewAny", source=best[2])
    result = server.run(graph)
    assert len(server.images(result, report)) == 2
    assert "the outside is unchanged to the bit" in "".join(result.outputs[report.id]["text"])
    assert [str(count) for count in result.outputs[counts.id]["text"]] == ["1", "0"]
    assert "Edit 2 of 2 has the best edited_and_kept" in "".join(result.outputs[chosen.id]["text"])
    assert len(server.images(result, saved)) == 1


def test_images_of_other_shapes_fail_at_the_node_that_says_what_to_do(server, pictures):
    graph = Graph()
    before = graph.add("LoadImage", image=pictures[0])
    other = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0)
    graph.add("RePlanEditReport", before=before, after=other)
    with pytest.raises(
        PromptError, match="RePlan Edit Report: 'before' has 192x128 pixels and 'after' 64x64"
    ) as caught:
        server.run(graph)
    assert caught.value.node_type == "RePlanEditReport"
