"""The example workflows in the real page: every node is known, and the page makes the prompt they are tested by."""

import json
from pathlib import Path

import pytest
from test_workflows import to_prompt

ROOT = Path(__file__).resolve().parents[2]
MISSING = """() => app.graph.nodes
  .map((node) => node.type).filter((type) => !(type in LiteGraph.registered_node_types))"""
FILES = sorted((ROOT / "example_workflows").glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_opens_without_a_missing_node_and_gives_its_prompt(comfy, servers, file):
    workflow = json.loads(file.read_text(encoding="utf-8"))
    for node in workflow["nodes"]:  # the page would ask the models' sites whether the files are there
        node.get("properties", {}).pop("models", None)
    comfy.load(workflow)
    comfy.until("(count) => app.graph.nodes.length === count", len(workflow["nodes"]))
    assert comfy.js(MISSING) == []
    expected = to_prompt(workflow, servers("pinned").get("/object_info"))
    found = comfy.prompt()
    assert set(found) == set(expected)
    for key, node in expected.items():
        assert found[key]["class_type"] == node["class_type"]
        given = {name: value for name, value in found[key]["inputs"].items() if name in node["inputs"]}
        # The page writes the editor's value anew when it reads it.
        for name, value in node["inputs"].items():
            if node["class_type"] == "RePlanRegionEditor" and name == "regions":
                before, after = (json.loads(text or "{}").get("regions", []) for text in (value, given[name]))
                assert after == before
            else:
                assert given[name] == value, (node["class_type"], name)
