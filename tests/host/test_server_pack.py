"""What the host shows of the pack: its nodes load, and each says what it is and what its inputs mean."""

import pytest

# The public contract: of each node its inputs in order ("name TYPE", with a question mark when optional) and its
# outputs ("name TYPE", with "list" when one value for each item comes out). A saved workflow finds sockets by name and
# widget values by position, so after a first release inputs are only ever appended.
CONTRACT = {
    "RePlanPlanFromText": (
        ["text STRING", "image? IMAGE", "coordinates? COMBO", "seen_width? INT", "seen_height? INT"],
        ["plan REGION_PLAN", "global_prompt STRING", "report STRING"],
    ),
    "RePlanPlanToText": (
        ["plan REGION_PLAN", "format? COMBO"],
        ["text STRING"],
    ),
    "RePlanPlanFromBoxes": (
        ["boxes BOUNDING_BOX,ARRAY,STRING,BBOX,JSON", "image IMAGE", "hints? STRING", "global_prompt? STRING"],
        ["plan REGION_PLAN list", "global_prompt STRING list", "report STRING list"],
    ),
    "RePlanPlanFromMasks": (
        ["masks MASK", "hints? STRING", "global_prompt? STRING"],
        ["plan REGION_PLAN", "global_prompt STRING", "report STRING"],
    ),
    "RePlanMergePlans": (
        ["plans COMFY_AUTOGROW_V3"],
        ["plan REGION_PLAN list"],
    ),
    "RePlanExpandRegions": (
        ["plan REGION_PLAN", "value? FLOAT", "mode? COMBO"],
        ["plan REGION_PLAN"],
    ),
    "RePlanLoadPlanner": (
        ["model_name COMBO", "dtype COMBO", "device? COMBO", "reader? COMBO"],
        ["planner REPLAN_PLANNER"],
    ),
    "RePlanPlannerFromCLIP": (
        ["clip CLIP"],
        ["planner REPLAN_PLANNER"],
    ),
    "RePlanPlanner": (
        [
            "planner REPLAN_PLANNER",
            "image IMAGE",
            "instruction STRING",
            "template COMBO",
            "seed INT",
            "max_tokens INT",
            "temperature? FLOAT",
            "layout? COMBO",
            "coordinates? COMBO",
            "max_megapixels? FLOAT",
            "ask_again? BOOLEAN",
            "second_look? BOOLEAN",
            "votes? INT",
            "more_images? IMAGE",
        ],
        [
            "plan REGION_PLAN list",
            "global_prompt STRING list",
            "reasoning STRING list",
            "reply STRING list",
            "report STRING list",
            "answer STRING list",
        ],
    ),
    "RePlanPlannerPrompt": (
        ["instruction STRING", "template COMBO", "image? IMAGE", "coordinates? COMBO", "layout? COMBO"],
        ["system STRING", "user STRING", "coordinates COMBO"],
    ),
    "RePlanRegionEditor": (
        ["image IMAGE", "plan? REGION_PLAN", "follow_upstream? COMBO", "regions? STRING"],
        [
            "plan REGION_PLAN list",
            "global_prompt STRING list",
            "preview IMAGE list",
            "masks MASK list",
            "boxes BOUNDING_BOX list",
        ],
    ),
    "RePlanResize": (
        ["image IMAGE", "target COMBO", "method COMBO", "plan? REGION_PLAN", "multiple? INT"],
        ["image IMAGE list", "plan REGION_PLAN list", "transform REPLAN_TRANSFORM list"],
    ),
    "RePlanRestore": (
        ["image IMAGE", "transform REPLAN_TRANSFORM", "original? IMAGE", "mask? MASK", "feather? INT"],
        ["image IMAGE list"],
    ),
    "RePlanRegionMasks": (
        ["plan REGION_PLAN", "width INT", "height INT", "feather INT"],
        ["masks MASK", "background MASK", "combined MASK"],
    ),
    "RePlanRegionConditioning": (
        [
            "conditioning CONDITIONING",
            "clip CLIP",
            "plan REGION_PLAN",
            "encoder COMBO",
            "use COMBO",
            "hint_padding COMBO",
            "image? IMAGE",
            "image2? IMAGE",
            "image3? IMAGE",
        ],
        ["CONDITIONING CONDITIONING list"],
    ),
    "RePlanRules": (
        ["preset COMBO", "switch FLOAT", "switch_step INT", "family COMBO", "plan? REGION_PLAN", "matrix? STRING"],
        ["rules REPLAN_RULES"],
    ),
    "RePlanApplyRegionRules": (
        ["model MODEL", "rules? REPLAN_RULES", "edited_reference? INT"],
        ["MODEL MODEL"],
    ),
    "RePlanRulesPreview": (
        ["family COMBO", "plan? REGION_PLAN", "rules? REPLAN_RULES"],
        ["preview IMAGE", "report STRING"],
    ),
    "RePlanAlignment": (
        [
            "after IMAGE",
            "plan REGION_PLAN",
            "clip_vision CLIP_VISION",
            "clip CLIP",
            "scene? STRING",
            "reference? IMAGE",
            "before? IMAGE",
            "fusion? COMBO",
        ],
        ["scores REPLAN_SCORES list", "report STRING list"],
    ),
    "RePlanEditReport": (
        ["before IMAGE", "after IMAGE", "plan? REGION_PLAN", "threshold? FLOAT"],
        [
            "heat_map IMAGE list",
            "report STRING list",
            "outside_psnr FLOAT list",
            "outside_changed FLOAT list",
            "scores REPLAN_SCORES list",
        ],
    ),
    "RePlanPickBest": (
        ["images IMAGE", "scores REPLAN_SCORES", "by STRING"],
        ["image IMAGE", "index INT", "report STRING"],
    ),
    "RePlanFailedRegions": (
        ["plan REGION_PLAN", "scores REPLAN_SCORES", "threshold FLOAT"],
        ["plan REGION_PLAN list", "count INT list", "report STRING list"],
    ),
    "RePlanPlanPreview": (
        ["plan REGION_PLAN", "image? IMAGE", "patch? INT"],
        ["preview IMAGE list"],
    ),
    "RePlanJudge": (
        [
            "planner REPLAN_PLANNER",
            "before IMAGE",
            "after IMAGE",
            "instruction STRING",
            "per_region BOOLEAN",
            "seed INT",
            "max_tokens INT",
            "plan? REGION_PLAN",
            "max_megapixels? FLOAT",
            "referring_expression? STRING",
        ],
        ["scores REPLAN_SCORES list", "overall FLOAT list", "weighted FLOAT list", "report STRING list"],
    ),
}

# The values a saved workflow may hold. More may come, none of these may go.
CHOICES = {
    ("RePlanPlanFromText", "coordinates"): "auto pixels seen_pixels relative_1000 relative_1 relative_1000_y_first",
    (
        "RePlanPlannerPrompt",
        "template",
    ): "edit edit_no_reasoning hypothetical context result unified detection rephrase scene",
    ("RePlanPlannerPrompt", "coordinates"): "relative_1000 pixels seen_pixels relative_1 relative_1000_y_first",
    ("RePlanPlannerPrompt", "layout"): "inference system",
    ("RePlanPlanToText", "format"): "json tags",
    ("RePlanExpandRegions", "mode"): "ratio pixels",
    ("RePlanRegionEditor", "follow_upstream"): "until_edited always never",
    ("RePlanLoadPlanner", "dtype"): "default bf16 fp16 fp32 fp8",
    ("RePlanLoadPlanner", "device"): "default cpu spread",
    ("RePlanLoadPlanner", "reader"): "auto comfyui transformers",
    (
        "RePlanPlanner",
        "template",
    ): "auto edit edit_no_reasoning hypothetical context result unified detection rephrase scene",
    ("RePlanPlanner", "layout"): "inference training system",
    ("RePlanPlanner", "coordinates"): "auto pixels seen_pixels relative_1000 relative_1 relative_1000_y_first",
    ("RePlanResize", "target"): "flux_kontext flux2 qwen_image_edit qwen_image_edit_plus multiple_of none",
    ("RePlanResize", "method"): "stretch crop pad",
    ("RePlanRegionConditioning", "encoder"): "auto edit plus",
    ("RePlanRegionConditioning", "use"): "hint negative_hint",
    ("RePlanRegionConditioning", "hint_padding"): "host trim reference",
    ("RePlanRules", "preset"): "auto replan symmetric local_first isolated_regions no_global_prompt hints_only off",
    ("RePlanRules", "family"): "auto flux flux2 qwen",
    ("RePlanRulesPreview", "family"): "flux flux2 qwen",
    ("RePlanAlignment", "fusion"): "mean",
}


def listed(info: dict, group: str) -> list[str]:
    mark = "?" if group == "optional" else ""
    return [f"{name}{mark} {info['input'][group][name][0]}" for name in info["input_order"].get(group, [])]


@pytest.fixture(scope="module")
def nodes(server) -> dict:
    return {name: info for name, info in server.get("/object_info").items() if name.startswith("RePlan")}


def test_the_server_loads_the_pack_without_complaint(server):
    log = server.log_text()
    assert "IMPORT FAILED" not in log
    assert "custom_nodes/replan" in log.replace("\\", "/")


@pytest.mark.parametrize("name", CONTRACT)
def test_a_node_keeps_its_inputs_and_outputs(name, nodes):
    inputs, outputs = CONTRACT[name]
    info = nodes[name]
    assert listed(info, "required") + listed(info, "optional") == inputs
    found = zip(info["output_name"], info["output"], info["output_is_list"], strict=True)
    assert [f"{output} {kind}{' list' * is_list}" for output, kind, is_list in found] == outputs


def test_the_contract_names_every_node(nodes):
    assert set(nodes) == set(CONTRACT)


@pytest.mark.parametrize(("name", "key"), CHOICES)
def test_a_choice_keeps_its_values(name, key, nodes):
    inputs = {**nodes[name]["input"].get("required", {}), **nodes[name]["input"].get("optional", {})}
    kind, settings = inputs[key]
    assert set(CHOICES[name, key].split()) <= set(settings["options"] if kind == "COMBO" else kind)


def test_a_growing_input_keeps_the_names_of_its_sockets(nodes):
    template = nodes["RePlanMergePlans"]["input"]["required"]["plans"][1]["template"]
    assert template["names"] == [f"plan_{i}" for i in range(1, 33)]
    assert listed(
        {"input": template["input"], "input_order": {"required": list(template["input"]["required"])}}, "required"
    ) == ["plan REGION_PLAN"]


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
