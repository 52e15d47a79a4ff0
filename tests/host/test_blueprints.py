"""Blueprints, the subgraphs of the node library: the server lists them, and what is inside fits the nodes.

"Redo failed regions" is the second half of an example, so what is tested of that holds for it.
"""

import json
from pathlib import Path

import pytest
from test_workflows import check_links, check_values

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "subgraphs").glob("*.json"))
REDO = ROOT / "subgraphs" / "Redo failed regions.json"
INPUT, OUTPUT = -10, -20  # ids of the two that stand for a subgraph's edges


def inside(blueprint: dict) -> tuple[dict, dict[int, dict]]:
    """A blueprint's subgraph in a workflow's form, and its edges as nodes."""
    (subgraph,) = blueprint["definitions"]["subgraphs"]
    fields = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    workflow = {
        "nodes": subgraph["nodes"],
        "links": [[link[field] for field in fields] for link in subgraph["links"]],
        "last_node_id": subgraph["state"]["lastNodeId"],
        "last_link_id": subgraph["state"]["lastLinkId"],
    }
    sources = [{"type": one["type"], "links": one["linkIds"]} for one in subgraph["inputs"]]
    targets = [{"type": one["type"], "link": one["linkIds"][0]} for one in subgraph["outputs"]]
    return workflow, {INPUT: {"outputs": sources}, OUTPUT: {"inputs": targets}}


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request) -> Path:
    return request.param


@pytest.fixture
def blueprint(file) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def nodes(server) -> dict:
    return server.get("/object_info")


def test_the_server_lists_and_gives_them(server):
    assert FILES == [REDO]
    listed = server.get("/global_subgraphs")
    ours = {one["name"]: key for key, one in listed.items() if one["info"]["node_pack"] == "custom_nodes.replan"}
    assert list(ours) == ["Redo failed regions"]
    given = server.get(f"/global_subgraphs/{ours['Redo failed regions']}")
    assert given["data"] == REDO.read_text(encoding="utf-8")


def test_the_one_node_is_its_subgraph_and_shows_widgets_that_exist(file, blueprint, nodes):
    (node,) = blueprint["nodes"]
    (subgraph,) = blueprint["definitions"]["subgraphs"]
    assert node["type"] == subgraph["id"]
    assert node["title"] == subgraph["name"] == file.stem
    for part in ("inputs", "outputs"):
        assert [(one["name"], one["type"]) for one in node[part]] == [
            (one["name"], one["type"]) for one in subgraph[part]
        ]
    within = {str(one["id"]): one for one in subgraph["nodes"]}
    for key, name in node["properties"]["proxyWidgets"]:
        named = [entry["name"] for entry in within[key]["inputs"] if "widget" in entry]
        assert name in (*named, "control_after_generate"), (within[key]["type"], name)
    assert subgraph["description"] and subgraph["category"] == "RePlan"


def test_what_is_inside_fits_the_nodes(blueprint, nodes):
    workflow, edges = inside(blueprint)
    check_values(workflow | {"version": 0.4}, nodes)
    check_links(workflow, nodes, edges)


def test_redo_is_the_second_half_of_the_example():
    """The same nodes with the same values and links; what comes from the first half comes in by the inputs."""
    example = json.loads((ROOT / "example_workflows" / "flux_kontext_redo_failed_regions.json").read_text("utf-8"))
    workflow, _ = inside(json.loads(REDO.read_text(encoding="utf-8")))
    original = {node["id"]: node for node in example["nodes"]}
    for node in workflow["nodes"]:
        assert (node["type"], node["widgets_values"]) == (
            original[node["id"]]["type"],
            original[node["id"]]["widgets_values"],
        )
    own = {node["id"] for node in workflow["nodes"]}

    def within(links: list) -> set[tuple]:
        return {tuple(link[1:5]) for link in links if {link[1], link[3]} <= own}

    assert within(workflow["links"]) == within(example["links"])
    sources = {
        "model": (15, 0), "clip": (7, 0), "vae": (8, 0), "before": (2, 0), "after": (18, 0), "plan": (3, 0),
        "scores": (20, 4),
    }  # fmt: skip
    names = list(sources)
    (subgraph,) = json.loads(REDO.read_text(encoding="utf-8"))["definitions"]["subgraphs"]
    assert [one["name"] for one in subgraph["inputs"]] == names
    incoming = {tuple(link[1:5]) for link in example["links"] if link[3] in own and link[1] not in own}
    assert {(*sources[names[link[2]]], *link[3:5]) for link in workflow["links"] if link[1] == INPUT} == incoming
