"""The example workflows as files: what they name exists, widgets and links fit, and the server would take them.

Only the page turns a saved workflow into a prompt faithfully. `to_prompt` here follows its rules for the plain nodes
these files hold (no subgraphs, no bypassed nodes), which is enough to find a stale socket or a shifted widget.
"""

import json
import urllib.error
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest
from PIL import Image
from replan.tests.host.graphs import TINY, use_tiny

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "example_workflows").glob("*.json"))
API = sorted((ROOT / "docs" / "api").glob("*.json"))
NOTES = ("Note", "MarkdownNote")
TYPED = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
GROWING = "COMFY_DYNAMICCOMBO_V3"  # a choice that brings inputs of its own
SOCKET, WIDGET, TITLE = 20, 24, 30  # heights in pixels on the classic canvas


class Slot(NamedTuple):
    """One input of a node as the page builds it; widget: it holds a value of its own."""

    name: str
    kind: str
    options: dict
    widget: bool


def slots(info: dict) -> list[Slot]:
    """The inputs of a node type in the page's order: required, then optional."""
    found = []
    for part in ("required", "optional"):
        for name in info["input_order"].get(part, []):
            kind, *rest = info["input"][part][name]
            options = rest[0] if rest else {}
            if isinstance(kind, list):
                kind, options = "COMBO", {**options, "options": kind}
            found.append(Slot(name, kind, options, kind in (*TYPED, GROWING) and not options.get("forceInput")))
    return found


def widgets(info: dict) -> list[Slot | None]:
    """What each saved widget value belongs to; None for the values that the page adds and the server never sees."""
    found: list[Slot | None] = []
    for slot in slots(info):
        if not slot.widget:
            continue
        found.append(slot)
        seed = slot.kind == "INT" and slot.name in ("seed", "noise_seed")
        if slot.options.get("control_after_generate", seed) or slot.options.get("image_upload"):
            found.append(None)
    return found


def real_nodes(workflow: dict) -> list[dict]:
    return [node for node in workflow["nodes"] if node["type"] not in NOTES]


def to_prompt(workflow: dict, nodes: dict) -> dict:
    """The workflow in API format."""
    origins = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in real_nodes(workflow):
        named = zip(widgets(nodes[node["type"]]), node["widgets_values"], strict=True)
        inputs = {slot.name: value for slot, value in named if slot is not None}
        inputs.update({entry["name"]: origins[entry["link"]] for entry in node["inputs"] if entry["link"]})
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def model_files(workflow: dict) -> set[str]:
    return {model["name"] for node in real_nodes(workflow) for model in node["properties"].get("models", [])}


@pytest.fixture(scope="module")
def nodes(server) -> dict:
    return server.get("/object_info")


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request) -> Path:
    return request.param


def edits(workflow: dict) -> bool:
    """Whether it goes on from the plan to an edit."""
    return any(node["type"] == "RePlanRegionConditioning" for node in workflow["nodes"])


def by_planner(workflow: dict) -> bool:
    """Whether a model of the pack's own loader makes the plan."""
    return any(node["type"] == "RePlanPlanner" for node in workflow["nodes"])


@pytest.fixture
def workflow(file) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def test_the_examples_are_there_and_the_host_lists_them(server):
    assert [file.stem for file in FILES] == [
        "firered_image_edit_editor", "flux2_klein_4b_plan", "flux2_klein_9b_planner_editor",
        "flux_kontext_best_of_four", "flux_kontext_editor", "flux_kontext_hypothetical", "flux_kontext_plan",
        "flux_kontext_planner", "flux_kontext_redo_failed_regions", "plan_with_text_node", "planner_preview",
        "qwen_image_edit_2511_lora_plan", "qwen_image_edit_negative_hints",
    ]  # fmt: skip
    assert sorted(server.get("/workflow_templates")["replan"]) == [file.stem for file in FILES]


def test_it_has_a_thumbnail_and_a_note(file, workflow):
    thumbnail = file.with_suffix(".jpg")
    assert thumbnail.stat().st_size < 60_000
    with Image.open(thumbnail) as picture:
        assert max(picture.size) == 512
    notes = [node["widgets_values"][0] for node in workflow["nodes"] if node["type"] in NOTES]
    assert notes
    for name in model_files(workflow):
        assert any(name in note for note in notes), f"the note does not say where to get {name}"


def test_every_node_exists_and_its_values_fit_its_widgets(workflow, nodes):
    assert workflow["version"] == 0.4
    check_values(workflow, nodes)


def check_values(workflow: dict, nodes: dict) -> None:
    """Every node's type exists, and its saved values are those of its widgets, in their order."""
    files = model_files(workflow)
    for node in real_nodes(workflow):
        where = f"{node['type']} (node {node['id']})"
        assert node["type"] in nodes, where
        expected = widgets(nodes[node["type"]])
        assert len(node["widgets_values"]) == len(expected), where
        for slot, value in zip(expected, node["widgets_values"], strict=True):
            if slot is None:
                assert value in ("fixed", "randomize", "increment", "decrement", "image"), where
            elif slot.kind == "COMBO":
                assert value in files or value in slot.options["options"] or slot.options.get("image_upload"), (
                    where,
                    slot.name,
                    value,
                )
            elif slot.kind == GROWING:
                (chosen,) = [option for option in slot.options["options"] if option["key"] == value]
                assert not chosen["inputs"]["required"], (
                    where,
                    "the choice has inputs of its own, which this test does not know",
                )
            elif slot.kind == "STRING":
                assert isinstance(value, str), (where, slot.name)
            elif slot.kind == "BOOLEAN":
                assert isinstance(value, bool), (where, slot.name)
            else:
                assert isinstance(value, int if slot.kind == "INT" else (int, float)) and not isinstance(value, bool), (
                    where,
                    slot.name,
                )
                assert slot.options.get("min", value) <= value <= slot.options.get("max", value), (where, slot.name)


@pytest.mark.parametrize("file", API, ids=lambda file: file.stem)
def test_an_example_in_api_format_is_the_example_itself(file, nodes):
    saved = ROOT / "example_workflows" / f"{file.stem.removesuffix('_api')}.json"
    exported = json.loads(file.read_text(encoding="utf-8"))
    assert {key: {**node, "_meta": None} for key, node in exported.items()} == {
        key: {**node, "_meta": None}
        for key, node in to_prompt(json.loads(saved.read_text(encoding="utf-8")), nodes).items()
    }


def test_sockets_and_links_fit_the_nodes(workflow, nodes):
    check_links(workflow, nodes)


def check_links(workflow: dict, nodes: dict, edges: Mapping[int, dict] = MappingProxyType({})) -> None:
    """Every node has its type's sockets, and links say the same at both ends.

    edges: of a subgraph, by their ids, the nodes that stand for its inputs and outputs.
    """
    by_id = {node["id"]: node for node in workflow["nodes"]}
    assert len(by_id) == len(workflow["nodes"]) and workflow["last_node_id"] == max(by_id)
    by_id |= edges
    links = {link[0]: link for link in workflow["links"]}
    assert len(links) == len(workflow["links"]) and workflow["last_link_id"] == max(links)
    for node in real_nodes(workflow):
        info = nodes[node["type"]]
        where = f"{node['type']} (node {node['id']})"
        shown = [slot for slot in slots(info) if not slot.options.get("socketless")]
        wanted = [s for s in shown if not s.widget] + [s for s in shown if s.widget]
        assert [(entry["name"], entry["type"]) for entry in node["inputs"]] == [(s.name, s.kind) for s in wanted], where
        assert [(out["name"], out["type"]) for out in node["outputs"]] == list(
            zip(info["output_name"], info["output"], strict=True)
        ), where
        for index, entry in enumerate(node["inputs"]):
            if entry["link"] is not None:
                assert links[entry["link"]][3:5] == [node["id"], index], where
        for index, out in enumerate(node["outputs"]):
            for link in out["links"] or []:
                assert links[link][1:3] == [node["id"], index], where
        for name in info["input_order"].get("required", []):
            entry = next((e for e in node["inputs"] if e["name"] == name), None)
            assert entry is None or "widget" in entry or entry["link"] is not None, f"{where}: {name} is not connected"
    for number, origin, slot, target, index, kind in workflow["links"]:
        out, entry = by_id[origin]["outputs"][slot], by_id[target]["inputs"][index]
        assert number in (out["links"] or []) and entry["link"] == number
        assert out["type"] == kind and (entry["type"] == "*" or kind in entry["type"].split(",")), (origin, target)


def test_the_plan_reaches_text_encoder_hints_and_picture(workflow, nodes):
    """The global prompt is the encoder's text, the plan moves with its image, Qwen's hints see the encoder's image."""
    if not edits(workflow):
        pytest.skip("it ends with the plan")
    prompt = to_prompt(workflow, nodes)
    planned = planned_by(prompt)
    (resized, resize), *again = of_type(prompt, "RePlanResize").items()
    texts = [
        node["inputs"].get("text", node["inputs"].get("prompt"))
        for node in prompt.values()
        if "TextEncode" in node["class_type"]
    ]
    assert [planned, 1] in texts
    expanded = of_type(prompt, "RePlanExpandRegions")
    assert [inputs["plan"] for inputs in expanded.values()] == [[planned, 0]] * len(expanded)
    assert resize["plan"] == [next(iter(expanded), planned), 0]
    assert resize["image"] == prompt[planned]["inputs"]["image"]
    encoders = {**of_type(prompt, "TextEncodeQwenImageEdit"), **of_type(prompt, "TextEncodeQwenImageEditPlus")}
    seen = [inputs.get("image1", inputs.get("image")) for inputs in encoders.values()]
    assert seen == [[resized, 0]] * len(encoders)
    first, *second = of_type(prompt, "RePlanRegionConditioning").values()
    for inputs in (first, *second[: len(second) - len(again)]):
        assert inputs["plan"] == [resized, 1]
        assert inputs.get("image") == ([resized, 0] if encoders else None)
    for (moved, other), inputs in zip(again, second[len(second) - len(again) :], strict=True):
        # A second edit, of the first result, by those of the same regions that failed.
        assert inputs["plan"] == [moved, 1] and inputs.get("image") is None
        ((failed, chosen),) = of_type(prompt, "RePlanFailedRegions").items()
        assert other["plan"] == [failed, 0] and chosen["plan"] == resize["plan"]
        assert prompt[other["image"][0]]["inputs"]["transform"] == [resized, 2]


def of_type(prompt: dict, kind: str) -> dict[str, dict]:
    """The inputs of all nodes of a type, by node."""
    return {key: node["inputs"] for key, node in prompt.items() if node["class_type"] == kind}


def planned_by(prompt: dict) -> str:
    """The node whose plan is the one that is edited by: the editor, where a planner's plan goes through it."""
    for kind in ("RePlanRegionEditor", "RePlanPlanner", "RePlanPlanFromText"):
        found = list(of_type(prompt, kind))
        if found:
            (planned,) = found
            return planned
    raise AssertionError("no node makes a plan")


def test_an_encoded_negative_carries_the_negative_hints(workflow, nodes):
    """A negative hint in the plan does nothing without a second RePlan Region Conditioning."""
    prompt = to_prompt(workflow, nodes)
    samplers = of_type(prompt, "KSampler")
    negatives = [prompt[inputs["negative"][0]] for inputs in samplers.values()]
    if not any(node["class_type"] != "ConditioningZeroOut" for node in negatives):
        pytest.skip("its negative is the zeroed positive, or it has none")
    (sampler,), (negative,) = samplers.values(), negatives
    assert negative["class_type"] == "RePlanRegionConditioning" and negative["inputs"]["use"] == "negative_hint"
    positive = prompt[sampler["positive"][0]]
    assert positive["class_type"] == "RePlanRegionConditioning" and positive["inputs"]["use"] == "hint"
    for name in ("clip", "plan", "image"):
        assert negative["inputs"][name] == positive["inputs"][name]
    assert negative["inputs"]["conditioning"] != positive["inputs"]["conditioning"]


def test_some_example_shows_each_thing_that_a_published_run_or_a_user_needs(nodes):
    prompts = {file.stem: to_prompt(json.loads(file.read_text(encoding="utf-8")), nodes) for file in FILES}

    def having(kind: str, **wanted) -> set[str]:
        return {
            name
            for name, prompt in prompts.items()
            if any(wanted.items() <= inputs.items() for inputs in of_type(prompt, kind).values())
        }

    published = having("RePlanExpandRegions", value=0.15, mode="ratio")
    assert published & having("KSampler", steps=28) & having("FluxGuidance", guidance=2.5)
    assert published & having("UNETLoader", unet_name="flux-2-klein-9b-fp8.safetensors")
    cfg = having("KSampler", steps=40, cfg=4.0) & having("CFGNorm", pre_cfg=True)
    assert cfg & having("TextEncodeQwenImageEdit")
    assert cfg & having("UNETLoader", unet_name="FireRed-Image-Edit-1.1-transformer.safetensors")
    assert having("RePlanPlanner", template="hypothetical")
    assert having("RePlanPlanner") & having("RePlanRegionEditor") & having("RePlanRegionConditioning")
    for name in ("qwen_image_edit_negative_hints", "firered_image_edit_editor"):
        assert "negative_hint" in json.dumps(prompts[name][planned_by(prompts[name])])


def test_a_guaranteed_background_comes_from_the_loaded_image_outside_the_boxes(nodes):
    found = 0
    for file in FILES:
        prompt = to_prompt(json.loads(file.read_text(encoding="utf-8")), nodes)
        for restore in of_type(prompt, "RePlanRestore").values():
            if "mask" not in restore:
                continue
            found += 1
            ((masks, inputs),) = of_type(prompt, "RePlanRegionMasks").items()
            resize = prompt[restore["transform"][0]]["inputs"]
            assert restore["mask"] == [masks, 2] and inputs["plan"] == resize["plan"]
            assert restore["original"] == resize["image"]
            assert (inputs["width"], inputs["height"], inputs["feather"]) == (0, 0, 0)
    assert found


def test_a_plan_from_another_node_is_read_as_it_was_asked_for(nodes):
    """The question goes to the text node with the picture, its reply and what the boxes count to the plan."""
    prompt = to_prompt(
        json.loads((ROOT / "example_workflows" / "plan_with_text_node.json").read_text(encoding="utf-8")), nodes
    )
    at = {node["class_type"]: key for key, node in prompt.items()}
    asked, told = at["RePlanPlannerPrompt"], prompt[at["RePlanPlanFromText"]]["inputs"]
    text = prompt[at["TextGenerate"]]["inputs"]
    assert (text["prompt"], told["text"], told["coordinates"]) == ([asked, 1], [at["TextGenerate"], 0], [asked, 2])
    assert text["image"] == told["image"] == [at["LoadImage"], 0]
    assert text["max_length"] >= 1000


def test_every_loader_says_where_its_files_come_from(workflow):
    loaders = [node for node in real_nodes(workflow) if "Loader" in node["type"] or node["type"] == "RePlanLoadPlanner"]
    assert len(loaders) >= (3 if edits(workflow) else 1)
    for node in loaders:
        files = [value for value in node["widgets_values"] if str(value).endswith(".safetensors")]
        models = node["properties"]["models"]
        assert [model["name"] for model in models] == files
        for model in models:
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith("/" + model["name"])
            assert model["directory"] in ("diffusion_models", "text_encoders", "vae", "loras")


def test_no_node_lies_on_another_and_groups_have_titles(workflow):
    boxes = []
    for node in workflow["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        plain = [entry for entry in node.get("inputs", []) if "widget" not in entry]
        rows = SOCKET * max(len(plain), len(node.get("outputs", []))) + WIDGET * len(node["widgets_values"])
        if node["type"] not in NOTES:
            assert height >= rows, f"{node['type']} (node {node['id']}) is {height} high and needs {rows}"
        boxes.append((x, y - TITLE, x + width, y + height, node))
    for i, (x1, y1, x2, y2, node) in enumerate(boxes):
        for a1, b1, a2, b2, other in boxes[:i]:
            assert x2 <= a1 or a2 <= x1 or y2 <= b1 or b2 <= y1, (node["type"], other["type"])
        for group in workflow["groups"]:
            left, top, width, height = group["bounding"]
            inside = left <= x1 and top + TITLE <= y1 and x2 <= left + width and y2 <= top + height
            apart = x2 <= left or left + width <= x1 or y2 <= top or top + height <= y1
            assert inside or apart, f"{node['type']} (node {node['id']}) lies across the edge of '{group['title']}'"
    assert all(group["title"] for group in workflow["groups"])


def upload_picture(server, prompt: dict, folder: Path, size: tuple[int, int] | None = None) -> None:
    """Put the photograph that the workflow loads into the server's input folder, at another size if wanted."""
    from skimage import data

    name = next(node["inputs"]["image"] for node in prompt.values() if node["class_type"] == "LoadImage")
    picture = Image.fromarray(getattr(data, Path(name).stem)())
    file = folder / name
    (picture.resize(size) if size else picture).save(file)
    assert server.upload_image(file) == name


def test_the_server_objects_to_missing_model_files_only_and_shows_the_plan(workflow, nodes, server, tmp_path):
    """The branch that needs no model, the preview of the plan, runs all the same."""
    prompt = to_prompt(workflow, nodes)
    upload_picture(server, prompt, tmp_path)
    try:
        answer = server.post("/prompt", {"prompt": prompt})
    except urllib.error.HTTPError as refused:  # nothing at all runs without the planner
        assert by_planner(workflow)
        answer = json.loads(refused.read())
    missing = set()
    for about in answer["node_errors"].values():
        for error in about["errors"]:
            assert error["type"] == "value_not_in_list", (about["class_type"], error)
            missing.add(error["extra_info"]["received_value"])
    assert missing == model_files(workflow)
    if by_planner(workflow):
        return
    result = server.wait(answer["prompt_id"])
    if not edits(workflow):
        # The model's node stands before the plan; what it would be asked is shown without it.
        assert any("polished gold" in str(shown) for shown in result.outputs.values())
        return
    preview = next(key for key, node in prompt.items() if node["class_type"] == "RePlanPlanPreview")
    assert len(server.images(result, preview)) == 1


@pytest.mark.parametrize("name", TINY)
def test_it_runs_with_tiny_models_in_place_of_the_real_ones(name, nodes, server, tmp_path):
    """Flux only: the Qwen one needs a text encoder of 7 G parameters."""
    prompt = to_prompt(json.loads((ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8")), nodes)
    upload_picture(server, prompt, tmp_path, (192, 128))
    use_tiny(prompt, *TINY[name])
    saved = next(key for key, node in prompt.items() if node["class_type"] == "SaveImage")
    result = server.run(prompt)
    assert len(server.images(result, saved)) == 1
    reports = [server.images(result, key) for key in of_type(prompt, "RePlanEditReport")]
    wanted = {"flux_kontext_best_of_four": [4], "flux_kontext_redo_failed_regions": [1, 1]}
    assert [len(images) for images in reports] == wanted.get(name, [])
