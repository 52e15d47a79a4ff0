"""A plan of three regions, and an editor that holds it."""

import json

PLAN = {
    "version": 1,
    "image_size": [600, 400],
    "global_prompt": "a cup",
    "reasoning": "",
    "regions": [
        {"id": "big", "bbox_2d": [100, 80, 400, 320], "hint": "the cup"},
        {"id": "small", "bbox_2d": [200, 150, 300, 250], "hint": "the foam"},
        {"id": "right", "bbox_2d": [450, 100, 580, 300], "hint": "the table"},
    ],
}


def with_plan(comfy, plan=PLAN) -> int:
    """An editor that holds a plan, as a loaded workflow brings it."""
    node = comfy.build(picture=None)
    comfy.js(
        "([id, value]) => { app.graph.getNodeById(id).widgets.find((w) => w.name === 'regions').value = value; }",
        [node, json.dumps(plan)],
    )
    comfy.wait_regions(len(plan["regions"]))
    return node


def ids(comfy) -> list[str]:
    return [region["id"] for region in comfy.regions()]
