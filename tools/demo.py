"""One command from a clean checkout to an edited photograph: `python tools/demo.py`.

Sets up ComfyUI below the checkout, starts its server with this pack, and runs an edit by regions over the HTTP
API: photograph and plan in; plan overlay, result and both side by side out, in `out/`. The model is a tiny
Flux.1 with random weights, so the result is noise: what it shows is that the whole path runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from host_server import Graph, HostServer, Node, PromptError, ServerError
from host_setup import ROOT, Host, add_arguments, host_from

PHOTOGRAPH = "coffee.png"  # scikit-image, skimage.data.coffee: 600 x 400
CREDIT = "'coffee' from scikit-image, photograph by Rachel Michetti, CC0"
EXAMPLE = "replan_demo"  # the name of the pack that holds the demo's own template
MODELS = {
    "UNETLoader": "tiny_flux1.safetensors",
    "CLIPLoader": "tiny_clip_l.safetensors",
    "VAELoader": "tiny_vae_flux1.safetensors",
}
PLAN = {
    "version": 1,
    "image_size": [600, 400],
    "global_prompt": "A cup of coffee on a wooden table in warm light. Keep everything else as it is.",
    "reasoning": "",
    "regions": [
        {"id": "r1", "bbox_2d": [200, 94, 374, 196], "hint": "a leaf of white milk foam on the coffee"},
        {"id": "r2", "bbox_2d": [324, 66, 426, 328], "hint": "turn the spoon to gold"},
        {"id": "r3", "bbox_2d": [470, 8, 596, 150], "hint": "put a small yellow flower on the table"},
    ],
}


def edit(photograph: str, steps: int) -> tuple[Graph, dict[str, Node]]:
    """The prompt, and the nodes that save each picture by the name of its file."""
    graph = Graph()
    loaded = graph.add("LoadImage", image=photograph)
    plan = graph.add("RePlanPlanFromText", text=json.dumps(PLAN), image=loaded, coordinates="auto")
    resized = graph.add("RePlanResize", image=loaded, plan=plan, target="multiple_of", method="stretch")
    image, plan, global_prompt = resized[0], resized[1], plan[1]

    model = graph.add("UNETLoader", unet_name=MODELS["UNETLoader"], weight_dtype="default")
    clip = graph.add("CLIPLoader", clip_name=MODELS["CLIPLoader"], type="stable_diffusion")
    vae = graph.add("VAELoader", vae_name=MODELS["VAELoader"])
    latent = graph.add("VAEEncode", pixels=image, vae=vae)

    text = graph.add("CLIPTextEncode", clip=clip, text=global_prompt)
    text = graph.add("ReferenceLatent", conditioning=text, latent=latent)
    text = graph.add("FluxGuidance", conditioning=text, guidance=2.5)
    positive = graph.add(
        "RePlanRegionConditioning", conditioning=text, clip=clip, plan=plan,
        encoder="auto", use="hint", hint_padding="host",
    )  # fmt: skip
    negative = graph.add("ConditioningZeroOut", conditioning=text)
    ruled = graph.add("RePlanApplyRegionRules", model=model)
    sampled = graph.add(
        "KSampler", model=ruled, positive=positive, negative=negative, latent_image=latent, seed=1, steps=steps,
        cfg=1.0, sampler_name="euler", scheduler="simple", denoise=1.0,
    )  # fmt: skip
    result = graph.add("VAEDecode", samples=sampled, vae=vae)
    overlay = graph.add("RePlanPlanPreview", plan=plan, image=image)

    def beside(left, right) -> Node:
        return graph.add(
            "ImageStitch", image1=left, image2=right, direction="right", match_image_size=True,
            spacing_width=8, spacing_color="white",
        )  # fmt: skip

    pictures = {"input": image, "plan": overlay, "result": result, "demo": beside(beside(image, overlay), result)}
    return graph, {
        name: graph.add("SaveImage", images=picture, filename_prefix=name) for name, picture in pictures.items()
    }


def prepare(host: Host) -> Path:
    """Write the tiny checkpoints that are missing; the photograph's path inside scikit-image."""
    tools = Path(__file__).resolve().parent
    names = ("flux1", "clip_l", "vae_flux1")
    made = subprocess.run(
        [host.python, tools / "tiny_models.py", "--comfyui", host.comfyui, "--models", host.models, *names],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if made.returncode:
        sys.exit(f"the tiny checkpoints could not be written:\n{made.stdout[-2000:]}")
    code = "import importlib.util as u; print(u.find_spec('skimage').submodule_search_locations[0])"
    package = subprocess.run([host.python, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return Path(package) / "data" / PHOTOGRAPH


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--out", type=Path, default=ROOT / "out", help="where the pictures go (default: out/)")
    parser.add_argument("--steps", type=int, default=8, help="sampling steps (default: 8)")
    parser.add_argument("--serve", action="store_true", help="leave the server up, for the browser")
    parser.add_argument("--port", type=int, help="the server's port (default: a free one)")
    args = parser.parse_args()

    host = host_from(args, extras=("tools",))
    photograph = prepare(host)
    args.out.mkdir(parents=True, exist_ok=True)
    server = HostServer(
        host.comfyui, base=args.out / "comfyui", pack=ROOT, models=host.models, python=host.python, port=args.port
    )
    example = write_example(server.base / "example") if args.serve else None
    if example:
        server.nodes[EXAMPLE] = server.base / "example"
    begun = time.monotonic()
    print(f"Starting ComfyUI {host.version} ...", flush=True)
    try:
        with server:
            print(f"ComfyUI answers at {server.url} after {time.monotonic() - begun:.0f} s", flush=True)
            graph, saved = edit(server.upload_image(photograph), args.steps)
            result = server.run(graph)
            for name, node in saved.items():
                (args.out / f"{name}.png").write_bytes(server.images(result, node)[0])
            print(f"Photograph: {CREDIT}")
            print(f"{len(PLAN['regions'])} regions, {args.steps} steps, {result.seconds:.1f} s")
            print("The weights are tiny and random, so the result is noise; the path is the one real models take.")
            print(f"Wrote {args.out / 'demo.png'} (input, plan, result), and each alone beside it")
            if args.serve:
                serve(server, example)
    except PromptError as error:
        sys.exit(f"the edit failed: {error}\n{error.traceback}")
    except ServerError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("\nstopped")
    return 0


def write_example(folder: Path) -> str | None:
    """A pack of one template: the pack's first Flux example on the tiny checkpoints. Its name, or None without one."""
    found = sorted((ROOT / "example_workflows").glob("*.json"), key=lambda file: "kontext" not in file.name.lower())
    if not found:
        return None
    workflow = json.loads(found[0].read_text(encoding="utf-8"))
    for nodes in (workflow["nodes"], *(one["nodes"] for one in workflow.get("definitions", {}).get("subgraphs", []))):
        for node in nodes:
            use_tiny_models(node)
    (folder / "example_workflows").mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    (folder / "example_workflows" / found[0].name).write_text(json.dumps(workflow), encoding="utf-8")
    return found[0].stem


def use_tiny_models(node: dict) -> None:
    """Point one node of a saved workflow at what the demo has."""
    kind, values = node["type"], node.get("widgets_values")
    text_encoder = [MODELS["CLIPLoader"], "stable_diffusion", "default"]
    replaced = {
        "UNETLoader": [MODELS["UNETLoader"], "default"],
        "CLIPLoader": text_encoder,
        "DualCLIPLoader": text_encoder,
        "VAELoader": [MODELS["VAELoader"]],
        "LoadImage": [PHOTOGRAPH, "image"],
    }.get(kind)
    if kind == "DualCLIPLoader":  # one tiny CLIP-L stands for both text encoders
        node["type"], node["inputs"] = "CLIPLoader", []
        node["properties"] = {"Node name for S&R": "CLIPLoader"}
    if kind == "RePlanPlanFromText":
        replaced = [json.dumps(PLAN, indent=1), *values[1:]]
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
    raise ServerError(f"ComfyUI stopped.\n{server.log_end()}")


if __name__ == "__main__":
    sys.exit(main())
