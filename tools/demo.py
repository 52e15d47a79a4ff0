"""One command from a clean checkout to an edit by regions: `python tools/demo.py`.

Sets up ComfyUI below the checkout, starts its server with this pack, and asks for an edit of a scene of the toy world:
its tiny trained planner reads image and request and writes the plan, its tiny trained editor edits, once by the plan
under the region rules and once by the plain words, which also name look-alikes. `out/demo.png` shows the scene with
the plan, both edits and where they differ from what was meant; the scores are measured against the exact target.

    --seed N       another scene and request
    --ask TEXT     your own request for that scene, such as "make the leftmost red circle blue" (without scores)

Without the planner's weights the plan is made by hand, and the demo says so.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from host_setup import ROOT, add_arguments, call, host_from

if TYPE_CHECKING:
    from replan.planner.plan import RegionPlan
    from replan.tools.host_server import HostServer
    from replan.tools.toyworld.editing import Editing
    from replan.tools.toyworld.requests import Request
    from replan.tools.toyworld.tasks import Task

EXAMPLE = "replan_demo"  # the name of the pack that holds the demo's own template
SEED = 2  # one of 45 that were tried: the plain words change a look-alike there too, and the editor recolours well
SCENE = "toyworld_scene.png"
METHODS = ("plain", "replan")


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--out", type=Path, default=ROOT / "out", help="where the images go (default: out/)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"which held-out scene (default: {SEED})")
    parser.add_argument(
        "--ask", metavar="TEXT", help="what to change in the scene, for the planner (default: the scene's own request)"
    )
    parser.add_argument(
        "--planner", type=Path, metavar="DIR", help="a planner's folder (default: the one in tools/toyworld/weights)"
    )
    parser.add_argument("--steps", type=int, default=20, help="sampling steps (default: 20)")
    parser.add_argument("--serve", action="store_true", help="leave the server up, for the browser")
    parser.add_argument("--port", type=int, help="the server's port (default: a free one)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.steps < 1:
        parser.error(f"give at least one sampling step, not {args.steps}")
    if args.port is not None and not 0 < args.port < 2**16:
        parser.error(f"a port is a number from 1 to {2**16 - 1}, not {args.port}")
    if args.ask is not None and not args.ask.strip():
        parser.error("--ask needs words; leave it out for the scene's own request")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {args.out} cannot be made: {error.strerror}")
    if not args.here:
        host = host_from(args, extras=())
        where = ["--comfyui", str(host.comfyui)] if not args.comfyui else []
        return call([str(host.python), __file__, "--here", *arguments, *where], host)
    from bench import import_pack

    import_pack()
    return demonstrate(args)


def demonstrate(args: argparse.Namespace) -> int:
    """The part that needs the pack and its environment."""
    from replan.tools.host_server import HostServer, PromptError, ServerError
    from replan.tools.toyworld import weights
    from replan.tools.toyworld.editing import Editing
    from replan.tools.toyworld.methods import METHODS as ALL
    from replan.tools.toyworld.sheets import demo_sheet

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    begun = time.monotonic()
    try:
        models = ROOT / ".host" / "models"
        weights.ensure(models)
        names = planner_names(models, args.planner)
        if args.ask and not names:
            sys.exit("demo.py: --ask needs the planner, and its weights are not there")
        server = HostServer(args.comfyui, base=args.out / "comfyui", pack=ROOT, models=models, port=args.port)
        editing = Editing(server, args.out, args.steps)
        request = requested(args.seed, args.ask) if names else None
        task = (
            request.task if request else editing.task(ALL["replan"], args.seed, 1)
        )  # scene 1 of a seed has two regions
        example = write_example(server.base / "example", task, request, names) if args.serve else None
        if example:
            server.nodes[EXAMPLE] = server.base / "example"
        print("Starting ComfyUI ...", flush=True)
        with server:
            print(f"ComfyUI answers at {server.url} after {time.monotonic() - begun:.0f} s", flush=True)
            plan, edits = edit(editing, task, request, names, bool(args.ask))
            demo_sheet(task, edits, plan, own_request=args.ask or "", request=request.text if request else "").save(
                args.out / "demo.png"
            )
            print_scores(task, edits, plan, scored=not args.ask)
            print(f"{len(edits)} edits of {args.steps} steps; {time.monotonic() - begun:.0f} s in all")
            print(
                f"Wrote {args.out / 'demo.png'}: scene and plan, both edits"
                + ("" if args.ask else ", what is meant, and where each is off")
            )
            if args.serve:
                editing.upload(task, SCENE)
                serve(server, example)
    except (PromptError, ServerError, weights.WeightsError) as error:
        sys.exit(f"demo.py: {error}")
    except KeyboardInterrupt:
        print("\nstopped")
    return 0


def planner_names(models: Path, folder: Path | None) -> tuple[str, str] | None:
    """What the nodes list the planner and its template by; None, said plainly, when there is no planner."""
    from replan.tools.toyworld import weights

    if folder or weights.planner_published():
        return weights.ensure_planner(models, folder)
    print(
        f"There is no trained planner ({weights.WEIGHTS / weights.PLANNER} is missing): the plan below is "
        "made by hand. `python tools/training/train.py planner` trains one (tools/training/README.md)."
    )
    return None


def requested(seed: int, text: str | None) -> Request:
    """The request of a seed's scene, in these words if there are some."""
    from replan.tools.toyworld.requests import held_out_request
    from replan.tools.toyworld.scenes import held_out_seed

    request = held_out_request(held_out_seed(seed, 1))
    return request._replace(text=text) if text else request


def edit(
    editing: Editing, task: Task, request: Request | None, names: tuple[str, str] | None, asked: bool = False
) -> tuple[RegionPlan, dict]:
    """The plan (the planner's, or the true one where it has none), and the edits by plain words and by the plan."""
    from replan.tools.toyworld.methods import METHODS as ALL
    from replan.tools.toyworld.planner_benchmark import Planning

    if not request or not names:
        return task.plan, {name: editing.run(ALL[name], task).pixels for name in METHODS}
    planning = Planning(editing, *names)
    print(f'Asked: "{request.text}"', flush=True)
    answer = planning.plan(request)
    if answer.plan is None:
        raise SystemExit(f"demo.py: {answer.error}")
    print(f"The planner's reply, after {answer.seconds:.1f} s: {answer.reply}")
    # The editor knows no "leftmost": beside a plan for the scene's own request it gets the words of the true hints.
    plain = editing.run(ALL["plain"], task, text=request.text if asked else "")
    return answer.plan, {"plain": plain.pixels, "replan": planning.edit(request).pixels}


def print_scores(task: Task, edits: dict, plan: RegionPlan, scored: bool) -> None:
    """The plan, and the scores, in words."""
    from replan.tools.toyworld.scoring import score, score_plan

    for region in plan.regions:
        print(f'Region {[round(edge) for edge in region.box]}: "{region.hint}"')
    if not scored:
        return
    if plan != task.plan:
        print(
            "Overlap (IoU) with what is meant: "
            + ", ".join(f"{value:.2f}" for value in score_plan(task.plan, plan).ious)
        )
    print(f"The words also name {len(task.others)} object(s) that are not meant.")
    for name, pixels in edits.items():
        one = score(task, pixels)
        print(
            f"{name:7} Target {one.target:.2f}, Effect {one.effect:.2f}, {one.spilled}, "
            f"{one.consistency_psnr:.1f} dB outside the regions"
        )


def write_example(folder: Path, task: Task, request: Request | None, names: tuple[str, str] | None) -> str:
    """A pack of one template: one of the pack's Kontext examples with the toy world's models. Its name."""
    found = ROOT / "example_workflows" / ("flux_kontext_planner.json" if request else "flux_kontext_plan.json")
    workflow = json.loads(found.read_text(encoding="utf-8"))
    for nodes in (workflow["nodes"], *(one["nodes"] for one in workflow.get("definitions", {}).get("subgraphs", []))):
        for node in nodes:
            use_toy_world(node, task, request, names)
    (folder / "example_workflows").mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n", encoding="utf-8")
    (folder / "example_workflows" / found.name).write_text(json.dumps(workflow), encoding="utf-8")
    return found.stem


def use_toy_world(node: dict, task: Task, request: Request | None, names: tuple[str, str] | None) -> None:
    """Point one node of a saved workflow at what the demo has."""
    from replan.planner.plans.plan_json import plan_to_json
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
    }
    if request and names:
        replaced["RePlanLoadPlanner"] = [names[0], "fp32", *(values or [])[2:]]
        replaced["RePlanPlanner"] = [request.text, names[1], *(values or [])[2:]]
    replaced = replaced.get(kind)
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
        print(f"Open {server.url} and drop the result's image on the page to see its graph")
    print("Ctrl-C stops the server", flush=True)
    while server.running():
        time.sleep(0.5)
    sys.exit(f"ComfyUI stopped.\n{server.log_end()}")


if __name__ == "__main__":
    sys.exit(main())
