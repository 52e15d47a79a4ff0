"""Plans over the server's HTTP API: what links the host accepts into the plan nodes, and what a refusal says."""

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
    written = graph.add("RePlanPlanToText", plan=graph.add("RePlanExpandRegions", plan=merged, value=8.0, mode="pixels"))
    seen = graph.add("PreviewAny", source=written)
    plan = json.loads(shown(server, graph, seen))
    assert plan["global_prompt"] == "at dusk. in oil"
    assert [region["bbox_2d"] for region in plan["regions"]] == [[56, 40, 328, 248], [312, 232, 640, 480]]


def test_a_text_that_is_no_plan_fails_at_its_node_with_its_name(server):
    graph = Graph()
    plan = graph.add("RePlanPlanFromText", text="make the hat red")
    graph.add("PreviewAny", source=plan[2])
    with pytest.raises(PromptError, match="RePlan Plan from Text: .*'make the hat red'") as caught:
        server.run(graph)
    assert caught.value.node_type == "RePlanPlanFromText"
