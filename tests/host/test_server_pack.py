"""What the host shows of the pack: its nodes load, and each says what it is and what its inputs mean."""

import pytest

CONTRACT = {
    "RePlanResize": ["image", "target", "method", "plan"],
    "RePlanRestore": ["image", "transform", "original"],
    "RePlanPlanFromText": ["text", "image", "coordinates", "seen_width", "seen_height"],
    "RePlanPlanToText": ["plan", "format"],
    "RePlanPlanFromBoxes": ["boxes", "image", "hints", "global_prompt"],
    "RePlanPlanFromMasks": ["masks", "hints", "global_prompt"],
    "RePlanMergePlans": [],
    "RePlanExpandRegions": ["plan", "value", "mode"],
    "RePlanRegionMasks": ["plan", "width", "height", "feather"],
    "RePlanRegionConditioning": ["conditioning", "clip", "plan", "encoder", "use", "hint_padding", "image", "image2", "image3"],
    "RePlanRules": ["preset", "switch", "switch_step", "family", "plan", "matrix"],
    "RePlanApplyRegionRules": ["model", "rules", "edited_reference"],
    "RePlanPlanPreview": ["plan", "image"],
    "RePlanRulesPreview": [],
}


@pytest.fixture(scope="module")
def nodes(server) -> dict:
    return {name: info for name, info in server.get("/object_info").items() if name.startswith("RePlan")}


def test_the_server_loads_the_pack_without_complaint(server):
    log = server.log_text()
    assert "IMPORT FAILED" not in log
    assert "custom_nodes/replan" in log.replace("\\", "/")


@pytest.mark.parametrize("name", CONTRACT)
def test_a_node_of_the_contract_is_there_with_its_inputs_in_order(name, nodes):
    assert name in nodes
    info = nodes[name]
    order = [*info["input_order"].get("required", []), *info["input_order"].get("optional", [])]
    assert [key for key in order if key in CONTRACT[name]] == CONTRACT[name]


def test_every_node_explains_itself(nodes):
    lacking = []
    for name, info in nodes.items():
        if not info["category"].startswith("RePlan/") or not info["display_name"].startswith("RePlan "):
            lacking.append(f"{name}: category {info['category']!r}, display name {info['display_name']!r}")
        if len(info["description"]) < 20 or not info.get("search_aliases"):
            lacking.append(f"{name}: no description or no search aliases")
        for key, spec in {**info["input"].get("required", {}), **info["input"].get("optional", {})}.items():
            if len(spec) < 2 or not (spec[1].get("tooltip") or "autogrow" in str(spec[0]).lower()):
                lacking.append(f"{name}.{key}: no tooltip")
        if not all(info.get("output_tooltips") or [None] * len(info["output"])):
            lacking.append(f"{name}: an output without a tooltip")
    assert not lacking, "\n".join(lacking)
