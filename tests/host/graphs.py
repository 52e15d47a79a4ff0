"""Prompts in ComfyUI's API format for the tests that run on a server: one edit, with what a test wants to vary."""

from __future__ import annotations

import io
import json
from typing import NamedTuple

import numpy as np
from PIL import Image
from replan.tools.host_server import Graph, HostServer, Node, Result

SIZE = (192, 128)  # of the picture `photograph` gives, in pixels


class Family(NamedTuple):
    """The tiny checkpoints that stand for one model family (`tools/tiny_models.py`); text None is a stand-in."""

    model: str
    text: str | None
    vae: str
    lora: str | None = None


FAMILIES = {
    "flux1": Family(
        "tiny_flux1.safetensors", "tiny_clip_l.safetensors", "tiny_vae_flux1.safetensors", "tiny_lora_flux1.safetensors"
    ),
    "flux2": Family("tiny_flux2.safetensors", "tiny_clip_l.safetensors", "taef2"),
    "qwen": Family("tiny_qwen_image.safetensors", None, "tiny_vae_qwen.safetensors"),
}

TINY = {  # example workflows, and the small checkpoints (model, VAE) in place of theirs
    "flux_kontext_plan": ("tiny_flux1.safetensors", "tiny_vae_flux1.safetensors"),
    "flux_kontext_editor": ("tiny_flux1.safetensors", "tiny_vae_flux1.safetensors"),
    "flux_kontext_best_of_four": ("tiny_flux1.safetensors", "tiny_vae_flux1.safetensors"),
    "flux_kontext_redo_failed_regions": ("tiny_flux1.safetensors", "tiny_vae_flux1.safetensors"),
    "flux2_klein_4b_plan": ("tiny_flux2.safetensors", "taef2"),
}


def plan_text(*regions: tuple, size: tuple[int, int] = SIZE, global_prompt: str = "a calm street") -> str:
    """A plan as JSON text; each region is (box, hint) or (box, hint, more keys)."""
    listed = [
        {"id": f"r{number}", "bbox_2d": list(box), "hint": hint, **(more[0] if more else {})}
        for number, (box, hint, *more) in enumerate(regions, 1)
    ]
    return json.dumps({"version": 1, "image_size": list(size), "global_prompt": global_prompt, "regions": listed})


def edit(
    photograph: str,
    plan: str | None,
    family: str = "flux1",
    preset: str | None = None,
    switch: float = -1.0,
    lora: bool = False,
    apply_rules: bool = True,
    steps: int = 2,
    cfg: float = 1.0,
    sampler: str = "euler",
    global_prompt: str = "a calm street",
) -> tuple[Graph, Node]:
    """An edit of an uploaded picture, and the node that saves it. `plan` None: the same graph without this pack."""
    made = FAMILIES[family]
    graph = Graph()
    image = graph.add("LoadImage", image=photograph)
    vae = graph.add("VAELoader", vae_name=made.vae)
    latent = graph.add("VAEEncode", pixels=image, vae=vae)
    model = graph.add("UNETLoader", unet_name=made.model, weight_dtype="default")
    if lora:
        model = graph.add("LoraLoaderModelOnly", model=model, lora_name=made.lora, strength_model=1.0)
    if made.text:
        clip = graph.add("CLIPLoader", clip_name=made.text, type="stable_diffusion")
    else:
        clip = graph.add("TestStandInTextEncoder")

    def encode(text: str) -> Node:
        encoded = graph.add("CLIPTextEncode", clip=clip, text=text)
        encoded = graph.add("ReferenceLatent", conditioning=encoded, latent=latent)
        return encoded if family == "qwen" else graph.add("FluxGuidance", conditioning=encoded, guidance=2.5)

    positive, negative = encode(global_prompt), encode("")
    if plan is not None:
        planned = graph.add("RePlanPlanFromText", text=plan, image=image)
        positive = graph.add(
            "RePlanRegionConditioning", conditioning=positive, clip=clip, plan=planned,
            encoder="auto", use="hint", hint_padding="host",
        )  # fmt: skip
        if preset:
            rules = graph.add("RePlanRules", preset=preset, switch=switch, switch_step=-1, family="auto")
            model = graph.add("RePlanApplyRegionRules", model=model, rules=rules)
        elif apply_rules:
            model = graph.add("RePlanApplyRegionRules", model=model)
    sampled = graph.add(
        "KSampler", model=model, positive=positive, negative=negative, latent_image=latent, seed=3, steps=steps,
        cfg=cfg, sampler_name=sampler, scheduler="simple", denoise=1.0,
    )  # fmt: skip
    decoded = graph.add("VAEDecode", samples=sampled, vae=vae)
    return graph, graph.add("SaveImage", images=decoded, filename_prefix="test")


def pixels(server: HostServer, result: Result, node: Node) -> np.ndarray:
    """The first saved picture of a node: (height, width, 3), 0..255."""
    return np.asarray(Image.open(io.BytesIO(server.images(result, node)[0])).convert("RGB")).astype(int)


def run_edit(server: HostServer, *args, **kwargs) -> np.ndarray:
    """Run `edit` and give its picture."""
    graph, saved = edit(*args, **kwargs)
    return pixels(server, server.run(graph), saved)


def use_tiny(prompt: dict, model: str, vae: str) -> None:
    """Put small checkpoints in place of the real ones, at the image's own size, with two steps."""
    for node in prompt.values():
        inputs = node["inputs"]
        if node["class_type"] == "UNETLoader":
            inputs["unet_name"] = model
        elif node["class_type"] == "VAELoader":
            inputs["vae_name"] = vae
        elif "CLIPLoader" in node["class_type"]:
            node["class_type"], node["inputs"] = (
                "CLIPLoader",
                {"clip_name": "tiny_clip_l.safetensors", "type": "stable_diffusion"},
            )
        elif node["class_type"] == "RePlanResize":
            inputs["target"] = "multiple_of"
        elif "steps" in inputs:
            inputs["steps"] = 2
