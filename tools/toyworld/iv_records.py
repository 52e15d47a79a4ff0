"""Toy requests as IV-Edit writes its records: `python tools/toyworld/iv_records.py --out out/toy`.

Held-out scenes with a request that only the image can settle, as a parquet file with IV-Edit's columns (image, prompt,
answer, extra_info, image_id) or, with --jsonl, as JSON lines and PNG files. The workflows that edit them by the toy
editor come with them, in API format. tools/iv_edit does the rest: docs/iv_edit.md.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path.insert(0, str(TOOLS))
    from bench import import_pack

    import_pack(needs="PIL")

from PIL import Image  # noqa: E402
from replan.planner.plan import KEEP_UNCHANGED  # noqa: E402
from replan.tools.host_server import Graph  # noqa: E402
from replan.tools.toyworld.editing import STEPS  # noqa: E402
from replan.tools.toyworld.requests import Request, held_out_requests  # noqa: E402
from replan.tools.toyworld.weights import CODEC, EDITOR, PLANNER, TEMPLATE, TEXT_ENCODER  # noqa: E402

# The toy world's words under IV-Edit's headings.
_TASK_TYPES = {
    "recolour": "Attribute", "repattern": "Attribute", "remove": "Delete", "shrink": "Attribute",
    "reshape": "Replacement",
}  # fmt: skip
_PLACES = ("leftmost", "rightmost", "topmost", "lowest")
_WRITE = """
import base64, json, sys
import pyarrow as pa, pyarrow.parquet
rows = [json.loads(line) for line in sys.stdin]
for row in rows:
    row["image"] = {"bytes": base64.b64decode(row["image"]), "path": None}
pa.parquet.write_table(pa.Table.from_pylist(rows), sys.argv[1])
"""


def record_of(number: int, request: Request) -> dict:
    """A request with IV-Edit's columns; image: the PNG file in base 64."""
    file = io.BytesIO()
    Image.fromarray(request.task.scene.pixels).save(file, "PNG")
    # Boxes are the scene's own pixels; without the size they would be read as a published planner's, of 140 x 140.
    answer = f"<image_size>{[request.task.scene.size] * 2}</image_size>{request.reply}"
    kinds = [_TASK_TYPES.get(one.kind, one.kind) for _, one in request.task.instructions]
    extra = {
        "image_id": number,
        "referring_expression": "",
        "referring_type": "Spatial" if any(word in request.text for word in _PLACES) else "Feature",
        "task_type": kinds[0],
    }
    return {
        "image": base64.b64encode(file.getvalue()).decode(), "prompt": request.text, "answer": answer,
        "extra_info": json.dumps(extra), "image_id": number,
    }  # fmt: skip


def write_records(requests: Sequence[Request], out: Path, parquet: bool = True) -> Path:
    """Records of requests in a folder; the file. Raises ParquetError where there is no pyarrow and none to be had."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [record_of(number, one) for number, one in enumerate(requests)]
    if parquet:
        from replan.tools.iv_edit.parquet import python_with_pyarrow

        text = "".join(json.dumps(row) + "\n" for row in rows)
        file = out / "test-00000-of-00001.parquet"
        subprocess.run([str(python_with_pyarrow()), "-c", _WRITE, str(file)], input=text, encoding="utf-8", check=True)
        return file
    for row in rows:
        name = f"{row['image_id']}.png"
        (out / name).write_bytes(base64.b64decode(row["image"]))
        row["image"] = name
    file = out / "records.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def write_texts(requests: Sequence[Request], out: Path) -> Path:
    """The table for generate.py's `--method rephrased --texts`: each request in the short words that the editor knows.

    They name the thing by shape and colour alone, so they cannot tell look-alikes apart.
    """
    file = out / "rephrased.jsonl"
    rows = [
        {"id": str(number), "instruction": " and ".join(one.text for _, one in request.task.instructions)}
        for number, request in enumerate(requests)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def workflow(method: str, steps: int = STEPS) -> dict:
    """A workflow of the toy editor in API format. method: "plain", "plan" (a plan comes as text) or "planner"."""
    graph = Graph()
    image = graph.add("LoadImage", image="scene.png")
    model = graph.add("UNETLoader", unet_name=EDITOR, weight_dtype="default")
    clip = graph.add("CLIPLoader", clip_name=TEXT_ENCODER, type="stable_diffusion")
    vae = graph.add("VAELoader", vae_name=CODEC)
    latent = graph.add("VAEEncode", pixels=image, vae=vae)

    def encoded(text: str):
        node = graph.add("CLIPTextEncode", clip=clip, text=text)
        return node, graph.add("ReferenceLatent", conditioning=node, latent=latent)

    words, negative = encoded(KEEP_UNCHANGED)
    if method == "plain":
        words, positive = encoded("")
        graph.prompt[words.id]["_meta"] = {"title": "instruction"}
    else:
        if method == "plan":
            plan = graph.add("RePlanPlanFromText", text="", image=image, coordinates="auto")
        else:
            planner = graph.add("RePlanLoadPlanner", model_name=PLANNER, dtype="fp32")
            plan = graph.add(
                "RePlanPlanner", planner=planner, image=image, instruction="", template=TEMPLATE, seed=0,
                max_tokens=128, max_megapixels=0.05,
            )  # fmt: skip
        positive = graph.add(
            "RePlanRegionConditioning", conditioning=negative, clip=clip, plan=plan, encoder="auto", use="hint",
            hint_padding="host",
        )  # fmt: skip
        rules = graph.add("RePlanRules", preset="replan", switch=-1.0, switch_step=-1, family="auto", matrix="")
        model = graph.add("RePlanApplyRegionRules", model=model, rules=rules)
    sampled = graph.add(
        "KSampler", model=model, positive=positive, negative=negative, latent_image=latent, seed=42, steps=steps,
        cfg=1.0, sampler_name="euler", scheduler="simple", denoise=1.0,
    )  # fmt: skip
    graph.add("SaveImage", images=graph.add("VAEDecode", samples=sampled, vae=vae), filename_prefix="toy")
    return graph.prompt


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder for records and workflows")
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="any whole number: other scenes, all held out (0)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"sampling steps of the workflows ({STEPS})")
    parser.add_argument("--jsonl", action="store_true", help="JSON lines and PNG files instead of parquet")
    args = parser.parse_args()
    file = write_records(held_out_requests(args.seed, args.scenes), args.out, not args.jsonl)
    print(file)
    print(write_texts(held_out_requests(args.seed, args.scenes), args.out))
    for method in ("plain", "plan", "planner"):
        target = args.out / f"{method}_api.json"
        target.write_text(json.dumps(workflow(method, args.steps), indent=1), encoding="utf-8")
        print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
