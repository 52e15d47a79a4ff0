"""Whole edits as a user runs them: a graph of real nodes through ComfyUI's own executor, with tiny checkpoints.

VAE, text encoder, loader, sampler are ComfyUI's; text is encoded by a real CLIP-L. What comes out is noise; what
counts is that it runs on this device with the types that ComfyUI chooses, and that regions change it.
"""

from __future__ import annotations

import asyncio
import types
import uuid
from pathlib import Path

import numpy as np
from gpu.child import ROOT, Check
from PIL import Image

FAMILIES = ("flux1", "flux2")


def edits(check: Check) -> None:
    import folder_paths
    from gpu.guests import use_tiny_models

    import nodes

    comfyui = Path(nodes.__file__).parent
    use_tiny_models(check, "flux1", "flux2", "clip_l", "vae_flux1", "taef2_encoder", "taef2_decoder", "lora_flux1")
    for name in ("input", "output", "temp"):
        (check.work / name).mkdir(exist_ok=True)
        getattr(folder_paths, f"set_{name}_directory")(str(check.work / name))
    for name in ("nodes_flux", "nodes_edit_model"):
        asyncio.run(nodes.load_custom_node(str(comfyui / "comfy_extras" / f"{name}.py"), module_parent="comfy_extras"))
    if not asyncio.run(nodes.load_custom_node(str(ROOT))):
        raise RuntimeError("ComfyUI could not load the pack as a custom node; run.log says why")
    for family in FAMILIES:
        plain: dict = {}
        check.case(lambda f=family, p=plain: _edit(check, f, None, p), family=family, regions=0)
        for preset in ("replan", "isolated_regions"):
            check.case(
                lambda f=family, x=preset, p=plain: _edit(check, f, x, p), family=family, regions=2, preset=preset
            )
        check.case(
            lambda f=family, p=plain: _edit(check, f, "replan", p, lora=f == "flux1", cfg=3.0, sampler="heun"),
            family=family, regions=2, preset="replan", cfg=3.0, lora=family == "flux1",
        )  # fmt: skip


def _edit(check: Check, family: str, preset: str | None, plain: dict, **changes) -> dict:
    from graphs import SIZE, edit, plan_text

    plan = None
    if preset is not None:
        plan = plan_text(((16, 16, 80, 96), "a red door"), ((96, 32, 180, 120), "a blue window"))
    graph, saved = edit("", plan, family, preset, **changes)
    for node in graph.prompt.values():
        if node["class_type"] == "LoadImage":  # it opens files with a video library, which may be a placeholder here
            width, height = SIZE
            node["class_type"] = "EmptyImage"
            node["inputs"] = {"width": width, "height": height, "batch_size": 1, "color": 0x6080A0}
    picture = execute(graph.prompt, saved.id)
    row = {"ok": bool(picture.std() > 0), "mean": float(picture.mean())}
    if preset is None:
        plain["picture"] = picture
    elif "picture" in plain and not changes:
        row["changed"] = float(np.abs(picture - plain["picture"]).mean())
        row["ok"] = row["ok"] and row["changed"] > 0.5
    return row


def execute(prompt: dict, output: str) -> np.ndarray:
    """Run a prompt in this process and give the first image that node `output` saved: (H, W, 3), 0..255."""
    import execution
    import folder_paths

    server = types.SimpleNamespace(client_id=None, last_node_id=None, send_sync=lambda *_: None)
    executor = execution.PromptExecutor(
        server, cache_type=execution.CacheType.CLASSIC, cache_args={"lru": 0, "ram": 0, "ram_inactive": 0}
    )
    executor.execute(prompt, uuid.uuid4().hex, {}, [output])
    if not executor.success:
        said = [data for event, data in executor.status_messages if event == "execution_error"]
        problem = said[-1] if said else {}
        raise RuntimeError(f"{problem.get('node_type')}: {problem.get('exception_message')}")
    (image,) = executor.history_result["outputs"][output]["images"]
    file = Path(folder_paths.get_output_directory()) / image["subfolder"] / image["filename"]
    return np.asarray(Image.open(file).convert("RGB")).astype(int)
