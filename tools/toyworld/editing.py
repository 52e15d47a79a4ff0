"""Edits in a running ComfyUI: a scene is uploaded, a method's prompt is built and queued, the result is fetched."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from replan.planner.plan import KEEP_UNCHANGED
from replan.planner.plans.plan_json import plan_to_json
from replan.tools.host_server import Graph, HostServer, Node

from .methods import Method, plan_of
from .scenes import SIZE, held_out_seed
from .tasks import CHANGES, Task, held_out_task
from .weights import CODEC, EDITOR, TEXT_ENCODER

STEPS = 20


class Edit(NamedTuple):
    """pixels: (size, size, 3) uint8. seconds: the prompt took, once its scene was there."""

    pixels: np.ndarray
    seconds: float


class Editing:
    """Edits on one server. The checkpoints must be where its loaders look (`weights.ensure`)."""

    def __init__(self, server: HostServer, folder: Path, steps: int = STEPS) -> None:
        self.server, self.folder, self.steps = server, folder, steps
        self.files = {"editor": EDITOR, "codec": CODEC, "text_encoder": TEXT_ENCODER}

    @staticmethod
    def task(method: Method, seed: int, index: int, size: int = SIZE) -> Task:
        """The task of scene `index` for a method: the same for all methods that ask for as many regions."""
        kind = CHANGES[index % len(CHANGES)]
        regions = method.regions or 1 + index % 2
        return held_out_task(
            held_out_seed(seed, index), size, kind, method.ambiguous, regions=regions, near=method.near
        )

    def run(
        self, method: Method, task: Task, planned: Callable[[Graph, Node], Node] | None = None, text: str = "",
        noise: int = 0,
    ) -> Edit:  # fmt: skip
        """Edit one task's scene in one prompt. Raises PromptError with the node that failed.

        planned, text, noise: as in `edit_graph`.
        """
        graph = Graph()
        image = edit_graph(graph, method, task, self.files, self.upload(task), self.steps, planned, text, noise)
        shown = graph.add("PreviewImage", images=image)
        result = self.server.run(graph)
        with Image.open(io.BytesIO(self.server.images(result, shown)[0])) as picture:
            return Edit(np.asarray(picture.convert("RGB")), result.seconds)

    def warm_up(self, method: Method) -> None:
        """Load everything once, so that the first figure is no slower than the others."""
        self.run(method, self.task(method, 0, 0))

    def upload(self, task: Task, name: str = "") -> str:
        """Send the scene; the name LoadImage knows it by."""
        file = self.folder / (name or f"scene_{task.scene.seed}_{len(task.scene.objects)}_{task.scene.size}.png")
        Image.fromarray(task.scene.pixels).save(file)
        return self.server.upload_image(file)


def edit_graph(
    graph: Graph, method: Method, task: Task, files: Mapping[str, str], image: str, steps: int = STEPS,
    planned: Callable[[Graph, Node], Node] | None = None, text: str = "", noise: int = 0,
) -> Node:  # fmt: skip
    """Add a method's edit of an uploaded image to a prompt; the node whose first output is the edited image.

    files: names of the checkpoints as the loader nodes list them: editor, codec, text_encoder. image: the name
    LoadImage knows the scene by. planned: adds a node whose first output is the plan, given the image's node (default:
    the task's own plan, as text). text: the plain instruction in other words. noise: another number
    gives other noise.
    """
    loaded = graph.add("LoadImage", image=image)
    model = graph.add("UNETLoader", unet_name=files["editor"], weight_dtype="default")
    clip = graph.add("CLIPLoader", clip_name=files["text_encoder"], type="stable_diffusion")
    vae = graph.add("VAELoader", vae_name=files["codec"])
    latent = graph.add("VAEEncode", pixels=loaded, vae=vae)

    def encoded(*texts: str) -> Node:
        """Each text encoded on its own, as in training, one behind the other, with the scene as reference."""
        nodes = [graph.add("CLIPTextEncode", clip=clip, text=text) for text in texts]
        joined = nodes[0]
        for node in nodes[1:]:
            joined = graph.add("ConditioningConcat", conditioning_to=joined, conditioning_from=node)
        return graph.add("ReferenceLatent", conditioning=joined, latent=latent)

    instructions = [one.text for _, one in task.instructions]
    keep = negative = encoded(KEEP_UNCHANGED)
    if method.kind == "plain":
        positive = encoded(*([text] if text else instructions))
    elif method.kind == "keep":
        positive = keep
    else:
        if planned:
            plan = planned(graph, loaded)
        else:
            written = plan_to_json(plan_of(method, task))
            plan = graph.add("RePlanPlanFromText", text=written, image=loaded, coordinates="auto")
        if method.expand:
            plan = graph.add("RePlanExpandRegions", plan=plan, value=method.expand, mode="ratio")
        if method.kind == "core_masks":
            positive = _masked(graph, plan, [encoded(text) for text in instructions], keep)
        else:
            positive = _hinted(graph, keep, clip, plan, "hint")
            negative = _hinted(graph, keep, clip, plan, "negative_hint") if method.negative else keep
            model = _ruled(graph, method, model, [f"o{identity}" for identity, _ in task.instructions])
    sampled = graph.add(
        "KSampler", model=model, positive=positive, negative=negative, latent_image=latent,
        seed=task.scene.seed + noise, steps=steps, cfg=method.guidance, sampler_name="euler", scheduler="simple",
        denoise=1.0,
    )  # fmt: skip
    return graph.add("VAEDecode", samples=sampled, vae=vae)


def _hinted(graph: Graph, text: Node, clip: Node, plan: Node, use: str) -> Node:
    return graph.add(
        "RePlanRegionConditioning", conditioning=text, clip=clip, plan=plan,
        encoder="auto", use=use, hint_padding="host",
    )  # fmt: skip


def _ruled(graph: Graph, method: Method, model: Node, ids: Sequence[str]) -> Node:
    matrix = json.dumps({"after": method.matrix(ids)}) if method.matrix else ""
    rules = graph.add(
        "RePlanRules", preset=method.preset, switch=method.switch, switch_step=-1, family="auto", matrix=matrix
    )
    return graph.add("RePlanApplyRegionRules", model=model, rules=rules)


def _masked(graph: Graph, plan: Node, texts: Sequence[Node], keep: Node) -> Node:
    """Each text blended in by its region's mask, the keep text everywhere else, with ComfyUI's own nodes."""
    masks = graph.add("RePlanRegionMasks", plan=plan, width=0, height=0, feather=0)
    images = graph.add("MaskToImage", mask=masks)
    joined = graph.add("ConditioningSetMask", conditioning=keep, mask=masks[1], strength=1.0, set_cond_area="default")
    for index, text in enumerate(texts):
        one = graph.add("ImageFromBatch", image=images, batch_index=index, length=1)
        mask = graph.add("ImageToMask", image=one, channel="red")
        part = graph.add("ConditioningSetMask", conditioning=text, mask=mask, strength=1.0, set_cond_area="default")
        joined = graph.add("ConditioningCombine", conditioning_1=joined, conditioning_2=part)
    return joined
