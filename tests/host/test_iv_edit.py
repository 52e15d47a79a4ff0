"""IV-Edit's way for real: parquet, ComfyUI, judges over HTTP and on this machine, a lost server, and the same table."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import learned_judge
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from replan.planner.plans.plan_json import plan_to_json
from replan.tools.host_server import HostServer, free_port
from replan.tools.iv_edit.read_text import PACKAGES as OCR
from replan.tools.own_environment import ensure_beside, ensure_environment
from replan.tools.toyworld import judge_server
from replan.tools.toyworld.iv_records import workflow, write_records
from replan.tools.toyworld.requests import held_out_requests
from replan.tools.toyworld.scoring import outcomes
from replan.tools.toyworld.weights import ensure

pytestmark = pytest.mark.full
ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools" / "iv_edit"
SERVE = ("fastapi==0.165.0", "uvicorn==0.54.0", "openai==3.57.0")
COUNT = 12
# A proxy for the outside must not stand between us and our own machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def begin(name: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, str(TOOLS / f"{name}.py"), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")


def run(name: str, *arguments: object) -> str:
    process = begin(name, *arguments)
    said = process.communicate(timeout=1200)[0]
    assert process.returncode == 0, said
    return said


def until(happened, process: subprocess.Popen | None = None, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()[0]
        time.sleep(0.1)


# ---- a model judges: over HTTP, and loaded here


@pytest.fixture(scope="module")
def judge_model(tmp_path_factory) -> Path:
    return learned_judge.teach(tmp_path_factory.mktemp("judge") / "learned", plan=None)


@pytest.fixture(scope="module")
def address(judge_model, tmp_path_factory):
    """`transformers serve` with the learned judge; its address."""
    python = ensure_beside("serve", SERVE)
    assert isinstance(python, Path), python
    port = free_port()
    command = [str(python), "-m", "transformers.cli.transformers", "serve", str(judge_model), "--port", str(port),
               "--host", "127.0.0.1", "--device", "cpu", "--dtype", "float32"]  # fmt: skip
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )

    def answers() -> bool:
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")[-2000:]
        try:
            return _OPENER.open(f"http://127.0.0.1:{port}/health", timeout=5).status == 200
        except OSError:
            return False

    try:
        until(answers)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


def block_run(folder: Path) -> Path:
    """Two records: the block that turned blue, and the one that stayed red."""
    (folder / "records").mkdir(parents=True)
    before = folder / "records" / "before.png"
    image_of(learned_judge.BEFORE).save(before)
    rows = []
    for name, after in (("blue", learned_judge.AFTER), ("red", learned_judge.BEFORE)):
        rows.append(
            {"id": name, "name": name, "row": 1, "image": str(before), "instruction": learned_judge.INSTRUCTION}
        )
        (folder / "plain" / name).mkdir(parents=True)
        image_of(after).save(folder / "plain" / name / "final_result.png")
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "records" / "records.jsonl").write_text(text, encoding="utf-8")
    return folder


def image_of(pixels) -> Image.Image:
    return Image.fromarray((pixels[0] * 255).round().byte().numpy())


def scores(folder: Path) -> dict[str, dict]:
    found = {
        file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("plain/*/judge.json")
    }
    return {name: {**one["scores"]["image"], "missing": one["scores"]["missing"]} for name, one in found.items()}


def test_the_openai_client_judges_with_a_model_behind_transformers_serve(address, judge_model, tmp_path):
    folder = block_run(tmp_path)
    said = run("judge", folder, "--provider", "openai", "--base-url", address, "--model", judge_model,
               "--max-tokens", 40, "--workers", 1)  # fmt: skip
    assert "2 judged" in said
    found = scores(folder)
    assert {name: found["blue"][name] for name in learned_judge.BLUE if name in found["blue"]} == {
        "target": 5, "effect": 5, "consistency": 5, "quality": 4,
    }  # fmt: skip
    assert found["blue"]["overall"] == 4.75 and "quality" in found["red"]["missing"]
    run("report", folder)
    told = json.loads((folder / "report.json").read_text(encoding="utf-8"))["methods"]["plain"]
    assert (told["judged"], told["complete"], told["without_answer"]["quality"]) == (2, 1, 1)


def test_the_same_model_loaded_here_gives_the_same_scores(judge_model, comfyui_dir, tmp_path):
    folder = block_run(tmp_path)
    run("judge", folder, "--provider", "local", "--model", judge_model, "--comfyui", comfyui_dir, "--cpu",
        "--dtype", "fp32", "--max-tokens", 40, "--max-megapixels", 0.05)  # fmt: skip
    found = scores(folder)
    assert found["blue"]["overall"] == 4.75 and "quality" in found["red"]["missing"]


# ---- twelve records, with everything lost once on the way


def exact_judge():
    serving = judge_server.serve(held_out_requests(0, COUNT))
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    return serving


def judged_by(serving, folder: Path, *more: object) -> list[object]:
    return [folder, "--provider", "openai", "--base-url", f"http://127.0.0.1:{serving.server_port}/v1",
            "--model", judge_server.MODEL, *more]  # fmt: skip


def test_a_run_that_lost_its_server_and_its_judge_gives_the_table_of_an_undisturbed_one(comfyui_dir, tmp_path):
    records = write_records(held_out_requests(0, COUNT), tmp_path / "toy")
    for name in ("plain", "plan"):
        (tmp_path / f"{name}_api.json").write_text(json.dumps(workflow(name, 4)), encoding="utf-8")
    ensure(tmp_path / "models")
    methods = (("plain", "plain"), ("plan", "replan_boxes"))
    whole, broken = tmp_path / "whole", tmp_path / "broken"

    def comfyui(name: str) -> HostServer:
        return HostServer(comfyui_dir, tmp_path / name, pack=ROOT, models=tmp_path / "models", timeout=600)

    with comfyui("first") as first:
        for graph, method in methods:
            run("generate", tmp_path / f"{graph}_api.json", records, "--method", method, "--out", whole,
                "--servers", first.url)  # fmt: skip
        arguments = (tmp_path / "plan_api.json", records, "--method", "replan_boxes", "--out", broken, "--servers")
        process = begin("generate", *arguments, first.url, "--patience", 1)
        until(lambda: len(list(broken.glob("replan_boxes/*/final_result.png"))) >= 3, process)
        first.stop()
        said = process.communicate(timeout=600)[0]
    done = len(list(broken.glob("replan_boxes/*/final_result.png")))
    assert process.returncode == 1 and "the same command goes on from here" in said and 3 <= done < COUNT
    with comfyui("second") as second:
        said = run("generate", *arguments, second.url)
        assert f"{COUNT - done} edited, {done} done before, 0 failed" in said
        run("generate", tmp_path / "plain_api.json", records, "--method", "plain", "--out", broken,
            "--servers", second.url)  # fmt: skip

    serving = exact_judge()
    run("judge", *judged_by(serving, whole))
    process = begin("judge", *judged_by(serving, broken, "--retries", 0, "--workers", 1))
    until(lambda: len(list(broken.glob("*/*/judge.json"))) >= 5, process)
    serving.shutdown()
    serving.server_close()
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 2 and "no reply" in said
    assert 5 <= len(list(broken.glob("*/*/judge.json"))) < 2 * COUNT
    serving = exact_judge()
    run("judge", *judged_by(serving, broken))
    serving.shutdown()

    tables = [run("report", folder, "--against", "plain") for folder in (whole, broken)]
    assert tables[0] == tables[1]
    found = json.loads((broken / "report.json").read_text(encoding="utf-8"))
    told = {name: (one["judged"], one["complete"]) for name, one in found["methods"].items()}
    assert told == {"plain": (COUNT, COUNT), "replan_boxes": (COUNT, COUNT)}


def test_openais_and_googles_client_bring_the_exact_answers_of_drawn_results(tmp_path):
    requests = held_out_requests(0, 2)
    records = write_records(requests, tmp_path / "toy", parquet=False)
    folder = tmp_path / "run"
    run("records", records, "--out", folder)
    for number, one in enumerate(requests):
        for method, scene in (("as_wanted", one.task.wanted), ("unchanged", one.task.scene)):
            (folder / method / str(number)).mkdir(parents=True)
            Image.fromarray(scene.pixels).save(folder / method / str(number) / "final_result.png")
    serving = exact_judge()
    address = f"http://127.0.0.1:{serving.server_port}"
    key = {"GEMINI_API_KEY": "a-key-of-nobody"}
    for provider, url in (("openai", f"{address}/v1"), ("google-genai", address)):
        command = [sys.executable, str(TOOLS / "judge.py"), str(folder), "--provider", provider, "--base-url", url]
        subprocess.run([*command, "--model", judge_server.MODEL], env={**os.environ, **key}, check=True)
        for method, wanted in (("as_wanted", (5, 5, 5, 5)), ("unchanged", (1, 1, 5, 5))):
            for file in folder.glob(f"{method}/*/judge.json"):
                told = json.loads(file.read_text(encoding="utf-8"))
                found = told["scores"]["image"]
                assert told["provider"] == provider
                assert tuple(found[name] for name in ("target", "effect", "consistency", "quality")) == wanted
    serving.shutdown()
    written = b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
    assert key["GEMINI_API_KEY"].encode() not in written


def test_questions_about_regions_are_asked_answered_and_stand_in_the_report(tmp_path):
    """The cut-outs, hints and ids of each region reach the judge; of an edit whose first region alone is done, too."""
    requests = [one for one in held_out_requests(0, COUNT) if len(one.task.meant) == 2][:2]
    records = write_records(requests, tmp_path / "toy", parquet=False)
    folder = tmp_path / "run"
    run("records", records, "--out", folder)
    for number, one in enumerate(requests):
        identity, instruction = one.task.instructions[0]
        half = instruction.apply(one.task.scene, (identity,))
        for method, scene in (("as_wanted", one.task.wanted), ("half", half), ("unchanged", one.task.scene)):
            place = folder / method / str(number)
            place.mkdir(parents=True)
            Image.fromarray(scene.pixels).save(place / "final_result.png")
            told = json.dumps({"plan": json.loads(plan_to_json(one.task.plan, None))})
            (place / "result.json").write_text(told, encoding="utf-8")
    serving = judge_server.serve(requests)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    run("judge", *judged_by(serving, folder, "--regions"))
    serving.shutdown()
    for method, done in (("as_wanted", (1, 1)), ("half", (1, 0)), ("unchanged", (0, 0))):
        for number, one in enumerate(requests):
            told = json.loads((folder / method / str(number) / "judge.json").read_text(encoding="utf-8"))
            ids = [region.id for region in one.task.plan.regions]
            wanted = {name: {"done": value, "kept": 1} for name, value in zip(ids, done, strict=True)}
            assert told["scores"]["regions"] == wanted and not told["scores"]["missing"]
    run("report", folder)
    found = json.loads((folder / "report.json").read_text(encoding="utf-8"))["methods"]
    assert {name: one["regions"]["done"]["mean"] for name, one in found.items()} == {
        "as_wanted": 1, "half": 0.5, "unchanged": 0,
    }  # fmt: skip


def test_ray_edits_the_records_of_a_method(comfyui_dir, tmp_path):
    from replan.tools.batches.cluster import PACKAGES

    if isinstance(there := ensure_environment("ray", PACKAGES), str):
        pytest.skip(there)
    requests = held_out_requests(0, 1)
    records = write_records(requests, tmp_path / "toy", parquet=False)
    (tmp_path / "plan_api.json").write_text(json.dumps(workflow("plan", 4)), encoding="utf-8")
    ensure(tmp_path / "models")
    where = ("--comfyui", comfyui_dir, "--python", sys.executable, "--models", tmp_path / "models")
    said = run("generate", tmp_path / "plan_api.json", records, "--method", "sequential", "--out", tmp_path / "run",
               "--ray", *where)  # fmt: skip
    assert said.count("1 edited, 0 done before, 0 failed") == 2, "a batch for each of two regions"
    with Image.open(tmp_path / "run" / "sequential" / "0" / "final_result.png") as image:
        assert all(one.changed for one in outcomes(requests[0].task, np.asarray(image.convert("RGB"))))


# ---- texts


def test_rapidocr_reads_the_text_of_a_region_and_of_no_other_place(tmp_path):
    if isinstance(there := ensure_environment("ocr", OCR), str):
        pytest.skip(there)
    box = (140, 100, 400, 180)
    rows = []
    shown = {"right": "OPEN TODAY", "case": "Open Today", "misspelled": "OPEN TODEY", "gone": "", "no_text_asked": "X"}
    (tmp_path / "records").mkdir()
    for name, text in shown.items():
        image = Image.new("RGB", (512, 384), (90, 120, 140))
        draw = ImageDraw.Draw(image)
        draw.rectangle(box, fill=(240, 240, 220))
        draw.text((20, 320), "OPEN TODAY", "white", ImageFont.load_default(32))  # elsewhere it counts for nothing
        before = tmp_path / "records" / f"{name}.png"
        image.save(before)
        draw.text((155, 120), text, (20, 20, 20), ImageFont.load_default(36))
        (tmp_path / "plain" / name).mkdir(parents=True)
        image.save(tmp_path / "plain" / name / "final_result.png")
        asked = "make it red" if name == "no_text_asked" else "change the sign from 'SHUT' to 'OPEN TODAY'"
        rows.append({"id": name, "name": name, "row": 1, "image": str(before), "instruction": asked, "boxes": [box]})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "records" / "records.jsonl").write_text(text, encoding="utf-8")
    assert "plain: 2 of 4 records that ask for a text show it exactly" in run("read_text", tmp_path)
    found = {
        file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in tmp_path.glob("plain/*/text.json")
    }
    assert {name: one["text_exact"] for name, one in found.items()} == {
        "right": True, "case": True, "misspelled": False, "gone": False,
    }  # fmt: skip
    (read,) = found["misspelled"]["texts"]
    assert read["text_wanted"] == "OPEN TODAY" and "TODEY" in "".join(read["text_read"])
    run("report", tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "read by rapidocr" in text and "| plain | 0.50 ± 0.29 (n = 4) |" in text


# ---- encoders of one's own


def encoders(folder: Path) -> tuple[Path, Path]:
    """A CLIP and a DINOv2 of random weights, as transformers keeps them."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    small = {
        "hidden_size": 32,
        "projection_dim": 16,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    signs = [*"abcdefghijklmnopqrstuvwxyz"]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *signs, *(f"{sign}</w>" for sign in signs)]
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    seen = {**small, "image_size": 32, "patch_size": 8}
    text = {**small, **ids, "vocab_size": len(vocabulary), "max_position_embeddings": 32}
    config = t.CLIPConfig(text_config=text, vision_config=seen, projection_dim=16)
    t.CLIPModel(config).save_pretrained(folder / "clip")
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(vocabulary)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = t.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=32)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    t.CLIPProcessor(t.CLIPImageProcessor(**size), tokenizer).save_pretrained(folder / "clip")
    t.Dinov2Model(t.Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32,
                                 patch_size=8)).save_pretrained(folder / "dino")  # fmt: skip
    t.BitImageProcessor(**size).save_pretrained(folder / "dino")
    return folder / "clip", folder / "dino"


def test_measures_by_encoders_of_ones_own_are_cosines_and_stand_in_the_report(tmp_path):
    import torch
    import transformers as t

    clip, dino = encoders(tmp_path / "models")
    folder = tmp_path / "run"
    (folder / "records").mkdir(parents=True)
    images = {}
    rows = []
    for number in range(4):
        for name, shade in (("after", 60 * number), ("target", 250 - 60 * number)):
            image = Image.linear_gradient("L").resize((32, 32)).convert("RGB")
            image.paste((shade, 90, 10), (4 * number, 4, 20, 28))
            images[name, number] = image
        place = folder / "plain" / str(number)
        place.mkdir(parents=True)
        images["after", number].save(place / "final_result.png")
        images["target", number].save(folder / "records" / f"{number}.png")
        target = str(folder / "records" / f"{number}.png")
        rows.append({"id": str(number), "name": str(number), "row": number, "image": target, "instruction": "x",
                     "target": target, "caption_after": "a red cup"})  # fmt: skip
    del rows[3]["target"], rows[3]["caption_after"]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "records" / "records.jsonl").write_text(text, encoding="utf-8")
    said = run("metrics", folder, "--clip", clip, "--dino", dino, "--fid", dino)
    assert "plain: 4 edits, measured clip_t of 3, clip_i of 3, dino of 3, fid of 3" in said
    found = json.loads((folder / "plain" / "metrics.json").read_text(encoding="utf-8"))
    assert found["records"]["3"] == {} and set(found["records"]["0"]) == {"clip_t", "clip_i", "dino"}
    model, processor = t.CLIPModel.from_pretrained(clip), t.CLIPProcessor.from_pretrained(clip)
    with torch.inference_mode():
        seen = processor(images=[images["after", 0], images["target", 0]], text=["a red cup"], return_tensors="pt")
        out = model(**seen)
        after, target = torch.nn.functional.normalize(out.image_embeds, dim=-1)
        words = torch.nn.functional.normalize(out.text_embeds, dim=-1)[0]
    assert found["records"]["0"]["clip_i"] == pytest.approx(float(after @ target), abs=1e-5)
    assert found["records"]["0"]["clip_t"] == pytest.approx(max(float(after @ words), 0.0), abs=1e-5)
    assert found["together"]["fid"]["n"] == 3 and found["together"]["fid"]["encoder"] == str(dino)
    for wrong, words in ((("--is", dino), "a classifier of images was expected, found Dinov2Model"),
                         (("--dino", clip), "gives no features of an image alone")):  # fmt: skip
        process = begin("metrics", folder, *wrong)
        assert words in process.communicate(timeout=300)[0] and process.returncode == 2
    run("report", folder)
    assert f"FID ({dino})" in (folder / "report.md").read_text(encoding="utf-8")
