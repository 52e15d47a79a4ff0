"""One command from a clean checkout to an edit by regions: `python tools/demo.py`.

Sets up ComfyUI below the checkout, starts its server with this pack, and puts one question to the tiny trained editor
of the toy world, twice: as a plain instruction, whose words also name look-alikes, and as a plan under the region
rules. `out/demo.png` shows the scene with its plan, both edits and where they differ from what was meant; the scores
are measured against the exact target. `--seed N` asks another question.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from host_setup import ROOT, add_arguments, host_from

if TYPE_CHECKING:
    from replan.tools.host_server import HostServer
    from replan.tools.toyworld.tasks import Task

EXAMPLE = "replan_demo"  # the name of the pack that holds the demo's own template
SEED = 1
SCENE = "toyworld_scene.png"
METHODS = ("plain", "replan")


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--out", type=Path, default=ROOT / "out", help="where the pictures go (default: out/)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"which held-out scene (default: {SEED})")
    parser.add_argument("--steps", type=int, default=20, help="sampling steps (default: 20)")
    parser.add_argument("--serve", action="store_true", help="leave the server up, for the browser")
    parser.add_argument("--port", type=int, help="the server's port (default: a free one)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if not args.here:
        host = host_from(args, extras=())
        where = ["--comfyui", str(host.comfyui)] if not args.comfyui else []
        return subprocess.call([str(host.python), __file__, "--here", *arguments, *where], env=host.environment())
    from bench import import_pack

    import_pack()
    return demonstrate(args)


def demonstrate(args: argparse.Namespace) -> int:
    """The part that needs the pack and its environment."""
    from replan.tools.host_server import HostServer, PromptError, ServerError
    from replan.tools.toyworld import weights
    from replan.tools.toyworld.editing import Editing
    from replan.tools.toyworld.methods import METHODS as ALL
    from replan.tools.toyworld.result_sheet import demo_sheet

    args.out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    try:
        models = ROOT / ".host" / "models"
        weights.ensure(models)
        server = HostServer(args.comfyui, base=args.out / "comfyui", pack=ROOT, models=models, port=args.port)
        editing = Editing(server, args.out, args.steps)
        task = editing.task(ALL["replan"], args.seed, 1)  # scene 1 of a seed has two regions
        example = write_example(server.base / "example", task) if args.serve else None
        if example:
            server.nodes[EXAMPLE] = server.base / "example"
        print("Starting ComfyUI ...", flush=True)
        with server:
            print(f"ComfyUI answers at {server.url} after {time.monotonic() - begun:.0f} s", flush=True)
            edits = {name: editing.run(ALL[name], task).pixels for name in METHODS}
            demo_sheet(task, edits).save(args.out / "demo.png")
            tell(task, edits)
            print(f"{len(edits)} edits of {args.steps} steps; {time.monotonic() - begun:.0f} s in all")
            print(f"Wrote {args.out / 'demo.png'}: scene and plan, what is meant, both edits, and where each is off")
            if args.serve:
                editing.upload(task, SCENE)
                serve(server, example)
    except (PromptError, ServerError, weights.WeightsError) as error:
        sys.exit(f"demo.py: {error}")
    except KeyboardInterrupt:
        print("\nstopped")
    return 0


def tell(task: Task, edits: dict) -> None:
    """The question and the scores, in words."""
    from replan.tools.toyworld.scoring import score

    for identity, instruction in task.asked:
        print(f'Object {identity}: "{instruction.text}"')
    print(f"The words also name {len(task.others)} object(s) that are not meant.")
    for name, pixels in edits.items():
        one = score(task, pixels)
        spilled = "changed" if one.lookalikes_changed else "left alone"
        print(
            f"{name:7} Target {one.target:.2f}, Effect {one.effect:.2f}, look-alikes {spilled}, "
            f"{one.consistency_psnr:.1f} dB outside the regions"
        )


def write_example(folder: Path, task: Task) -> str | None:
    """A pack of one template: the pack's Kontext example with the toy world's models. Its name, or None without one."""
    found = sorted((ROOT / "example_workflows").glob("*.json"), key=lambda file: "kontext" not in file.name.lower())
    if not found:
        return None
    workflow = json.loads(found[0].read_text(encoding="utf-8"))
    for nodes in (workflow["nodes"], *(one["nodes"] for one in workflow.get("definitions", {}).get("subgraphs", []))):
        for node in nodes:
            use_toy_world(node, task)
    (folder / "example_workflows").mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    (folder / "example_workflows" / found[0].name).write_text(json.dumps(workflow), encoding="utf-8")
    return found[0].stem


def use_toy_world(node: dict, task: Task) -> None:
    """Point one node of a saved workflow at what the demo has."""
    from replan.planner.plan_json import plan_to_json
    from replan.tools.toyworld.weights import CODEC, EDITOR, TEXT_ENCODER

    kind, values = node["type"], node.get("widgets_values")
    text_encoder = [TEXT_ENCODER, "stable_diffusion", "default"]
    replaced = {
        "UNETLoader": [EDITOR, "default"],
        "CLIPLoader": text_encoder,
        "DualCLIPLoader": text_encoder,
        "VAELoader": [CODEC],
        "LoadImage": [SCENE, "image"],
        "RePlanPlanFromText": [plan_to_json(task.plan), *(values or [])[1:]],
        "RePlanResize": ["multiple_of", *(values or [])[1:]],  # the editor was trained on this size only
    }.get(kind)
    if kind == "DualCLIPLoader":  # the toy world has one text encoder
        node["type"], node["inputs"] = "CLIPLoader", []
        node["properties"] = {"Node name for S&R": "CLIPLoader"}
    if replaced:
        node["widgets_values"] = replaced
        node.get("properties", {}).pop("models", None)


def serve(server: HostServer, example: str | None) -> None:
    """Keep the server up until Ctrl-C."""
    if example:
        print(f"Open {server.url}/?template={example}&source={EXAMPLE} for the example, ready to run")
    else:
        print(f"Open {server.url} and drop the result's picture on the page to see its graph")
    print("Ctrl-C stops the server", flush=True)
    while server.running():
        time.sleep(0.5)
    sys.exit(f"ComfyUI stopped.\n{server.log_end()}")


if __name__ == "__main__":
    sys.exit(main())
