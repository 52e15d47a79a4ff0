"""The blueprint in the real page: found by the search, put in place of an example's second half, and whole."""

import json
from pathlib import Path

import editor_page
import pytest
from test_workflows import to_prompt

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "example_workflows" / "flux_kontext_redo_failed_regions.json"
# What stands before the second half, and where its outputs lie: node and output of each input of the blueprint.
SOURCES = {
    "model": (15, 0), "clip": (7, 0), "vae": (8, 0), "before": (2, 0), "after": (18, 0), "plan": (3, 0),
    "scores": (20, 4),
}  # fmt: skip
SECOND_HALF = range(21, 35)
SAVE, RESULT = 19, 33


@pytest.fixture
def comfy(request, servers, browser):
    """A page of its own: a node that the search has added takes the next press in the page, whatever is loaded then."""
    mode = request.node.callspec.params["page"]
    opened = editor_page.open_page(browser, servers(mode.frontend), mode.renderer, mode.zoom, mode.late)
    opened.empty()
    yield opened
    assert opened.problems == [], "the page had errors"
    opened.close()


def test_the_search_finds_it_and_in_the_example_it_is_the_second_half(page, comfy, servers):
    workflow = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    expected = to_prompt(workflow, servers("pinned").get("/object_info"))
    for node in workflow["nodes"]:  # the page would ask the models' sites whether the files are there
        node.get("properties", {}).pop("models", None)
    comfy.load(workflow)
    comfy.js(
        "(ids) => { for (const id of ids) app.graph.remove(app.graph.getNodeById(id)); }",
        list(SECOND_HALF),
    )
    comfy.look(-5000, -5000)  # nothing but empty canvas in the middle
    comfy.drawn()
    comfy.tab.mouse.dblclick(700, 600)
    comfy.until("() => document.activeElement.tagName === 'INPUT'")
    comfy.tab.keyboard.type("redo failed")
    comfy.tab.get_by_text("Redo failed regions").first.wait_for()
    comfy.tab.keyboard.press("Enter")
    comfy.until("() => app.graph.nodes.some((node) => node.isSubgraphNode?.())")
    comfy.js(
        """([sources, save]) => {
          const node = app.graph.nodes.find((one) => one.isSubgraphNode?.());
          for (const [name, [id, slot]] of Object.entries(sources))
            app.graph.getNodeById(id).connect(slot, node, node.inputs.findIndex((one) => one.name === name));
          node.connect(0, app.graph.getNodeById(save), 0);
        }""",
        [SOURCES, SAVE],
    )
    missing = comfy.js(
        """() => app.graph.nodes.find((one) => one.isSubgraphNode?.()).subgraph.nodes
          .map((node) => node.type).filter((type) => !(type in LiteGraph.registered_node_types))"""
    )
    assert missing == []
    # In a prompt the nodes of a subgraph have ids such as 41:30; what is not inside keeps its own.
    found = {key.rpartition(":")[2]: node for key, node in comfy.prompt().items()}
    assert set(found) == set(expected) - {"22"}  # the preview of what failed, which is an output here
    for key, node in found.items():
        assert node["class_type"] == expected[key]["class_type"]
        for name, value in expected[key]["inputs"].items():
            given = node["inputs"][name]
            if isinstance(given, list):
                given = [given[0].rpartition(":")[2], given[1]]
            assert given == value, (node["class_type"], name)
    assert found[str(SAVE)]["inputs"]["images"][0].endswith(f":{RESULT}")
