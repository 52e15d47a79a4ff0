"""Plans over the server's HTTP API: what links ComfyUI accepts into the plan nodes, and what a refusal says."""

import json

import pytest
from replan.tools.host_server import Graph, PromptError


def shown(server, graph, node):
    return "".join(server.run(graph).outputs[node.id]["text"])


def test_boxes_as_text_and_tags_merge_into_one_plan(server):
    graph = Graph()
    image = graph.add("EmptyImage", width=640, height=480, batch_size=2, color=0)
    boxes = graph.add("PrimitiveStringMultiline", value="[[64, 48, 320, 240]]")
    drawn = graph.add("RePlanPlanFromBoxes", boxes=boxes, image=image, hints="a red hat", global_prompt="at dusk")
    text = '<gen_image>in oil</gen_image><region>[{"bbox_2d": [0.5, 0.5, 1, 1], "hint": "a blue door"}]</region>'
    told = graph.add("RePlanPlanFromText", text=text, image=image)
    merged = graph.add("RePlanMergePlans", **{"plans.plan_1": drawn, "plans.plan_2": told})
    written = graph.add(
        "RePlanPlanToText", plan=graph.add("RePlanExpandRegions", plan=merged, value=8.0, mode="pixels")
    )
    seen = graph.add("PreviewAny", source=written)
    plan = json.loads(shown(server, graph, seen))
    assert plan["global_prompt"] == "at dusk. in oil"
    assert [region["bbox_2d"] for region in plan["regions"]] == [[56, 40, 328, 248], [312, 232, 640, 480]]


@pytest.mark.parametrize(("output", "hints"), [(0, "one\ntwo"), (1, "one\ntwo"), (2, ""), (2, "one\ntwo")])
def test_sockets_of_detector_packs_fit_plan_from_boxes(server, output, hints):
    graph = Graph()
    image = graph.add("EmptyImage", width=640, height=480, batch_size=2, color=0)
    found = graph.add("TestDetector", image=image)
    made = graph.add("RePlanPlanFromBoxes", boxes=found[output], image=image, hints=hints)
    seen = graph.add("PreviewAny", source=graph.add("RePlanPlanToText", plan=made))
    plans = server.run(graph).outputs[seen.id]["text"]
    assert len(plans) == (1 if output == 0 else 2)
    for plan in map(json.loads, plans):
        assert [region["bbox_2d"] for region in plan["regions"]] == [[35, 60, 182, 100], [2, 4, 100, 90]]
        assert [region["hint"] for region in plan["regions"]] == (hints.split("\n") if hints else ["a dog", "a cat"])


def test_a_text_that_is_no_plan_fails_at_its_node_with_its_name(server):
    graph = Graph()
    plan = graph.add("RePlanPlanFromText", text="make the hat red")
    graph.add("PreviewAny", source=plan[2])
    with pytest.raises(PromptError, match="RePlan Plan from Text: .*'make the hat red'") as caught:
        server.run(graph)
    assert caught.value.node_type == "RePlanPlanFromText"


def test_a_prompt_for_another_node_says_how_its_boxes_are_read_back(server):
    graph = Graph()
    image = graph.add("EmptyImage", width=640, height=480, batch_size=1, color=0)
    asked = graph.add(
        "RePlanPlannerPrompt",
        instruction="make the hat red",
        template="edit",
        image=image,
        coordinates="relative_1000_y_first",
    )
    reply = '<gen_image>at dusk</gen_image><region>[{"bbox_2d": [100, 200, 500, 600], "hint": "a red hat"}]</region>'
    told = graph.add("RePlanPlanFromText", text=reply, image=image, coordinates=asked[2])
    written = graph.add("PreviewAny", source=graph.add("RePlanPlanToText", plan=told))
    user, system = graph.add("PreviewAny", source=asked[1]), graph.add("PreviewAny", source=asked[0])
    result = server.run(graph)
    plan = json.loads("".join(result.outputs[written.id]["text"]))
    assert [region["bbox_2d"] for region in plan["regions"]] == [[128, 48, 384, 240]]
    question = "".join(result.outputs[user.id]["text"])
    assert question.endswith("\nmake the hat red") and "[y1, x1, y2, x2]" in question
    assert "".join(result.outputs[system.id]["text"]) == ""


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"instruction": "  "}, "RePlan Planner Prompt: the instruction is empty"),
        ({"coordinates": "pixels"}, "RePlan Planner Prompt: coordinates 'pixels' needs the size of the image"),
    ],
)
def test_a_prompt_that_cannot_be_written_fails_at_its_node_with_its_name(server, inputs, says):
    graph = Graph()
    graph.add(
        "PreviewAny",
        source=graph.add("RePlanPlannerPrompt", **{"instruction": "red hat", "template": "edit", **inputs})[1],
    )
    with pytest.raises(PromptError, match=says):
        server.run(graph)


def test_a_users_template_is_offered_filled_and_read_again_when_it_changes(server, models_dir):
    folder = models_dir / "replan_templates"
    file = folder / "test_of_mine.txt"
    folder.mkdir(exist_ok=True)

    def asked() -> str:
        graph = Graph()
        prompt = graph.add("RePlanPlannerPrompt", instruction="make the hat red", template=file.name)
        return shown(server, graph, graph.add("PreviewAny", source=prompt[1]))

    try:
        file.write_text("First plan {{instruction}}, please.", encoding="utf-8")
        assert (
            file.name
            in server.get("/object_info/RePlanPlannerPrompt")["RePlanPlannerPrompt"]["input"]["required"]["template"][
                1
            ]["options"]
        )
        assert asked() == "First plan make the hat red, please."
        file.write_text("Then plan this:", encoding="utf-8")
        assert asked() == "Then plan this:\nmake the hat red"
        file.write_text("Plan {instruction}.", encoding="utf-8")
        with pytest.raises(PromptError, match="'test_of_mine.txt' holds '{instruction}', which is not a mark"):
            asked()
        file.write_bytes(b"\xff\xfe\x00P")
        with pytest.raises(PromptError, match="'test_of_mine.txt' is not a text file"):
            asked()
    finally:
        file.unlink()
