"""The planner's nodes on the real server: choices, plans, refusals, caching, interruption, and a plan that edits."""

import asyncio
import io
import json
import shutil
import time
import uuid
from pathlib import Path

import aiohttp
import graphs
import numpy as np
import pytest
import torch
from learned_planner import LEFT, RIGHT, reply, square
from PIL import Image
from replan.tools.host_server import Graph, PromptError
from replan.tools.training.planner_model import make_model, make_processor, save
from test_workflows import to_prompt

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def models(server, learned_planner):
    """Names of a planner that has learnt, an untrained one and a template, as the nodes offer them meanwhile."""
    name = f"test_{uuid.uuid4().hex[:8]}"
    language, templates = server.models / "LLM", server.models / "replan_templates"
    language.mkdir(exist_ok=True)
    templates.mkdir(exist_ok=True)
    learned, untrained = language / f"{name}_learned", language / f"{name}_untrained"
    shutil.copytree(learned_planner, learned)
    save(make_model(), make_processor(), untrained)
    template = templates / f"{name}.txt"
    template.write_text("{{instruction}}", encoding="utf-8")
    yield {"learned": learned.name, "untrained": untrained.name, "ask": template.name}
    shutil.rmtree(learned)
    shutil.rmtree(untrained)
    template.unlink()


@pytest.fixture(scope="module")
def blocks(server, tmp_path_factory):
    """The uploaded pictures with the red block left and right."""
    names = {}
    for side, box in (("left", LEFT), ("right", RIGHT)):
        file = tmp_path_factory.mktemp("blocks") / f"planner_{side}.png"
        Image.fromarray((square(box)[0] * 255).round().to(torch.uint8).numpy()).save(file)
        names[side] = server.upload_image(file)
    return names


def planner_node(graph, models, image, model="learned", instruction="paint it blue", **changes):
    loaded = graph.add("RePlanLoadPlanner", model_name=models[model], dtype="fp32")
    settings = {"template": models["ask"], "seed": 0, "max_tokens": 120, "max_megapixels": 0.05, **changes}
    return graph.add("RePlanPlanner", planner=loaded, image=image, instruction=instruction, **settings)


def texts(server, graph, *nodes):
    result = server.run(graph)
    return [result.outputs[node.id]["text"] for node in nodes], result


def test_the_loader_offers_folders_and_files(server, models):
    offered = server.get("/object_info/RePlanLoadPlanner")["RePlanLoadPlanner"]["input"]["required"]["model_name"][1][
        "options"
    ]
    assert models["learned"] in offered and models["untrained"] in offered
    assert "tiny_clip_l.safetensors" in offered
    assert offered.index(models["learned"]) < offered.index("tiny_clip_l.safetensors")
    assert not any(name.endswith("model.safetensors") for name in offered)


def test_a_batch_gives_a_plan_for_each_image_and_the_preview_shows_it(server, models, blocks):
    graph = Graph()
    left, right = (graph.add("LoadImage", image=blocks[side]) for side in ("left", "right"))
    batch = graph.add("ImageBatch", image1=left, image2=right)
    planned = planner_node(graph, models, batch)
    shown = [graph.add("PreviewAny", source=planned[output]) for output in (1, 2, 3, 4)]
    preview = graph.add("PreviewImage", images=graph.add("RePlanPlanPreview", plan=planned, image=left))
    ((prompts, reasons, replies, reports), result) = texts(server, graph, *shown)
    assert replies == [reply(LEFT), reply(RIGHT)]
    assert prompts == ["keep remaining part of image unchanged."] * 2
    assert reasons == ["a red square"] * 2
    assert "1. r1 [16, 32, 56, 96] blue" in reports[0] and "1. r1 [72, 32, 112, 96] blue" in reports[1]
    assert len(server.images(result, preview)) == 2
    again = server.run(graph)
    assert planned.id in again.cached


def test_each_image_of_a_batch_comes_back_with_its_own_plan_and_background(server, models, blocks):
    graph = Graph()
    left, right = (graph.add("LoadImage", image=blocks[side]) for side in ("left", "right"))
    batch = graph.add("ImageBatch", image1=left, image2=right)
    planned = planner_node(graph, models, batch)
    resized = graph.add("RePlanResize", image=batch, plan=planned, target="multiple_of", method="stretch", multiple=64)
    masks = graph.add("RePlanRegionMasks", plan=planned, width=0, height=0, feather=0)
    edited = graph.add("ImageInvert", image=resized)
    restored = graph.add("RePlanRestore", image=edited, transform=resized[2], original=batch, mask=masks[2], feather=0)
    saved = graph.add("PreviewImage", images=restored)
    result = server.run(graph)
    found = [
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int) for data in server.images(result, saved)
    ]
    assert len(found) == 2
    for image, box in zip(found, (LEFT, RIGHT), strict=True):
        expected = (square(box)[0] * 255).round().numpy().astype(int)
        x1, y1, x2, y2 = box
        expected[y1:y2, x1:x2] = 255 - expected[y1:y2, x1:x2]
        assert abs(image - expected).max() <= 1


def test_the_plan_edits_an_image(server, models, blocks):
    """Image -> plan -> conditioning -> rules -> sampler, with tiny models and no text of ours in between."""
    graph, saved = graphs.edit(blocks["left"], graphs.plan_text(((0, 0, 64, 64), "x"), size=(128, 128)))
    (place,) = [key for key, node in graph.prompt.items() if node["class_type"] == "RePlanPlanFromText"]
    other = Graph()
    other.prompt = dict(graph.prompt)
    planned = planner_node(
        other,
        models,
        graphs.Node(next(key for key, node in graph.prompt.items() if node["class_type"] == "LoadImage")),
    )
    for node in other.prompt.values():
        node["inputs"] = {
            key: [planned.id, value[1]] if value == [place, 0] else value for key, value in node["inputs"].items()
        }
    del other.prompt[place]
    ruled = graphs.pixels(server, server.run(other), saved)
    plain = graphs.run_edit(server, blocks["left"], None)
    assert ruled.shape == plain.shape and (ruled != plain).any()


@pytest.mark.parametrize(
    "name", ["planner_preview", "flux_kontext_planner", "flux_kontext_hypothetical", "flux2_klein_9b_planner_editor"]
)
def test_an_example_runs_with_small_models_in_place_of_the_real_ones(name, server, models, blocks):
    klein = "klein" in name
    small = {
        "UNETLoader": ("unet_name", "tiny_flux2.safetensors" if klein else "tiny_flux1.safetensors"),
        "VAELoader": ("vae_name", "taef2" if klein else "tiny_vae_flux1.safetensors"),
    }
    # A seed of its own: ComfyUI 0.27 does not show again what it took from its cache.
    changes = {
        "RePlanPlanner": {
            "instruction": "paint it blue",
            "template": models["ask"],
            "max_megapixels": 0.05,
            "seed": len(name),
        },
        "RePlanLoadPlanner": {"model_name": models["learned"], "dtype": "fp32"},
        "LoadImage": {"image": blocks["right"]},
        "RePlanResize": {"target": "none"},
        "KSampler": {"steps": 2},
        "Flux2Scheduler": {"steps": 2},
        **{kind: {key: value} for kind, (key, value) in small.items()},
    }
    file = ROOT / "example_workflows" / f"{name}.json"
    prompt = to_prompt(json.loads(file.read_text(encoding="utf-8")), server.get("/object_info"))
    for node in prompt.values():
        node["inputs"] |= changes.get(node["class_type"], {})
        if "CLIPLoader" in node["class_type"]:
            node["class_type"], node["inputs"] = (
                "CLIPLoader",
                {"clip_name": "tiny_clip_l.safetensors", "type": "stable_diffusion"},
            )
    result = server.run(prompt)
    shown = [text for output in result.outputs.values() for text in output.get("text", [])]
    assert any("1. r1 [72, 32, 112, 96] blue" in text for text in shown)
    (pictures,) = [key for key, node in prompt.items() if node["class_type"] in ("SaveImage", "RePlanPlanPreview")][-1:]
    assert len(server.images(result, pictures)) == 1


def test_the_example_with_another_nodes_text_reads_what_a_model_wrote(server, models, blocks):
    """In the place of the large model's node stands a small model, of which only the text it wrote goes on."""
    file = ROOT / "example_workflows" / "plan_with_text_node.json"
    prompt = to_prompt(json.loads(file.read_text(encoding="utf-8")), server.get("/object_info"))
    at = {node["class_type"]: key for key, node in prompt.items()}
    writer, loader = at["TextGenerate"], at["CLIPLoader"]
    asked = prompt[writer]["inputs"]
    for node in prompt.values():
        node["inputs"] = {key: [writer, 3] if value == [writer, 0] else value for key, value in node["inputs"].items()}
    prompt[at["LoadImage"]]["inputs"]["image"] = blocks["right"]
    # The small model knows this question and counts pixels of the picture.
    prompt[at["RePlanPlannerPrompt"]]["inputs"] |= {
        "instruction": "paint it blue",
        "template": models["ask"],
        "coordinates": "pixels",
        "image": [at["LoadImage"], 0],
    }
    prompt[loader] = {"class_type": "RePlanLoadPlanner", "inputs": {"model_name": models["learned"], "dtype": "fp32"}}
    prompt[writer] = {
        "class_type": "RePlanPlanner",
        "inputs": {
            "planner": [loader, 0],
            "image": asked["image"],
            "instruction": asked["prompt"],
            "template": models["ask"],
            "seed": 1,
            "max_tokens": 120,
            "max_megapixels": 0.05,
        },
    }
    result = server.run(prompt)
    shown = [text for output in result.outputs.values() for text in output.get("text", [])]
    assert reply(RIGHT) in shown
    assert any(
        "Boxes read as pixels of the image, 128x128" in text and "1. r1 [72, 32, 112, 96] blue" in text
        for text in shown
    )
    assert len(server.images(result, at["RePlanPlanPreview"])) == 1


def test_rubbish_is_refused_with_what_was_written(server, models, blocks):
    graph = Graph()
    image = graph.add("LoadImage", image=blocks["left"])
    planned = planner_node(graph, models, image, "untrained", max_tokens=16)
    graph.add("PreviewAny", source=planned)
    said = (
        r"RePlan Planner: the reply of Qwen2.5-VL 'test_\w+_untrained' by transformers .* holds no plan: .* "
        "It stopped at max_tokens 16: raise it"
    )
    with pytest.raises(PromptError, match=said) as caught:
        server.run(graph)
    assert caught.value.node_type == "RePlanPlanner"


def test_of_a_batch_the_image_without_a_plan_passes_unedited_and_is_told(server, models, blocks):
    graph = Graph()
    left = graph.add("LoadImage", image=blocks["left"])
    grey = graph.add("EmptyImage", width=128, height=128, batch_size=1, color=0x808080)
    planned = planner_node(graph, models, graph.add("ImageBatch", image1=left, image2=grey))
    shown = [graph.add("PreviewAny", source=planned[output]) for output in (3, 4)]
    ((replies, reports), _) = texts(server, graph, *shown)
    assert replies == [reply(LEFT), "no"]
    assert "1. r1 [16, 32, 56, 96] blue" in reports[0]
    assert "0 regions" in reports[1] and "Warning: image 2 of 2: no plan was made" in reports[1]


def test_when_no_image_of_a_batch_has_a_plan_the_first_error_is_told(server, models, blocks):
    graph = Graph()
    grey = graph.add("EmptyImage", width=128, height=128, batch_size=2, color=0x808080)
    graph.add("PreviewAny", source=planner_node(graph, models, grey))
    with pytest.raises(PromptError, match="RePlan Planner: no image got a plan; image 1 of 2: the reply of"):
        server.run(graph)


def test_further_images_are_shown_to_the_model(server, models, blocks):
    graph = Graph()
    left, right = (graph.add("LoadImage", image=blocks[side]) for side in ("left", "right"))
    planned = planner_node(graph, models, left, more_images=right)
    ((replies,), _) = texts(server, graph, graph.add("PreviewAny", source=planned[3]))
    assert replies == [reply(LEFT, "green")]


def test_an_answer_comes_out_of_its_own_socket(server, models, blocks):
    graph = Graph()
    planned = planner_node(graph, models, graph.add("LoadImage", image=blocks["left"]), instruction="what is it")
    shown = [graph.add("PreviewAny", source=planned[output]) for output in (4, 5)]
    ((reports, answers), _) = texts(server, graph, *shown)
    assert answers == ["a square"]
    assert "Check: " not in reports[0]


def test_the_node_shows_which_question_is_asked_and_the_progress_of_its_reply(server, models, blocks):
    """As the page hears it, over ComfyUI's own socket."""
    graph = Graph()
    batch = graph.add(
        "ImageBatch",
        image1=graph.add("LoadImage", image=blocks["left"]),
        image2=graph.add("LoadImage", image=blocks["right"]),
    )
    planned = planner_node(graph, models, batch, second_look=True, seed=7)
    graph.add("PreviewAny", source=planned)
    texts, bars = asyncio.run(heard(server, graph, planned.id))
    assert texts[0] == "image 1 of 2: planning"
    assert texts[1] == "image 1 of 2: a second look at region 'r1'"
    assert "image 2 of 2: planning" in texts and texts[-1] == "2 of 2 images planned"
    assert len(bars) > 3


async def heard(server, graph, node) -> tuple[list[str], list[float]]:
    """The texts and the bars that a node shows while the graph runs."""
    texts, bars, client = [], [], uuid.uuid4().hex
    address = f"{server.url.replace('http', 'ws', 1)}/ws?clientId={client}"
    async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
        await asyncio.to_thread(server.post, "/prompt", {"prompt": graph.prompt, "client_id": client})
        while True:
            message = await socket.receive(timeout=120)
            if message.type is aiohttp.WSMsgType.BINARY and message.data[:4] == b"\0\0\0\3":
                length = int.from_bytes(message.data[4:8], "big")
                assert message.data[8 : 8 + length].decode() == node
                texts.append(message.data[8 + length :].decode())
            elif message.type is aiohttp.WSMsgType.TEXT:
                event = json.loads(message.data)
                if event["type"] == "progress" and event["data"]["node"] == node:
                    bars.append(event["data"]["value"])
                if event["type"] in ("execution_success", "execution_error"):
                    assert event["type"] == "execution_success", event
                    return texts, bars


def test_the_published_planner_is_asked_with_its_own_template_once_that_is_there(server, models, blocks):
    """It is known by its name; `models` holds no template of the name that its authors gave theirs."""
    folder = server.models / "LLM" / "RePlan-Qwen2.5-VL-7B"
    file = server.models / "replan_templates" / "replan.txt"
    shutil.copytree(server.models / "LLM" / models["learned"], folder)
    try:
        graph = Graph()
        image = graph.add("LoadImage", image=blocks["left"])
        planned = planner_node(graph, {**models, "own": folder.name}, image, "own", template="auto")
        report = graph.add("PreviewAny", source=planned[4])
        missing = "was trained on the wording of replan.txt, which is neither in models/replan_templates nor beside the"
        with pytest.raises(PromptError, match=missing):
            server.run(graph)
        for place in (file, folder / file.name):
            place.write_text("{{instruction}}", encoding="utf-8")
            (told,) = texts(server, graph, report)[0]
            assert "with the template 'replan.txt'" in told[0] and "1. r1 [16, 32, 56, 96] blue" in told[0]
            place.unlink()
    finally:
        shutil.rmtree(folder)
        file.unlink(missing_ok=True)


def test_a_file_that_cannot_plan_is_refused_at_its_loader(server, models):
    graph = Graph()
    loaded = graph.add("RePlanLoadPlanner", model_name="tiny_clip_l.safetensors", dtype="default")
    graph.add("PreviewAny", source=loaded)
    with pytest.raises(
        PromptError,
        match="RePlan Load Planner: 'tiny_clip_l.safetensors' is not a Qwen2.5-VL or Qwen3-VL model",
    ):
        server.run(graph)
    graph = Graph()
    clip = graph.add("CLIPLoader", clip_name="tiny_clip_l.safetensors", type="stable_diffusion")
    graph.add("PreviewAny", source=graph.add("RePlanPlannerFromCLIP", clip=clip))
    with pytest.raises(
        PromptError, match="RePlan Planner from CLIP: this text encoder is a CLIPTextModel, which cannot plan"
    ):
        server.run(graph)


def test_an_interruption_ends_it_in_the_middle_of_a_reply(server, models, blocks):
    graph = Graph()
    image = graph.add("LoadImage", image=blocks["left"])
    graph.add("PreviewAny", source=planner_node(graph, models, image, "untrained", max_tokens=32768))
    prompt_id = server.queue(graph)
    deadline = time.monotonic() + 60
    while not server.get("/queue")["queue_running"] and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1.5)  # into the reply, which would take minutes
    server.post("/interrupt", {})
    begun = time.monotonic()
    with pytest.raises(PromptError, match="interrupted at RePlanPlanner"):
        server.wait(prompt_id, 60)
    assert time.monotonic() - begun < 20
