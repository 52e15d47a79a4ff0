"""Tasks put to the editor in a running ComfyUI: pictures up, prompts queued, edited pictures down."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from replan.tools.host_server import Graph, HostServer, Node

from .methods import STEPS, Method, edit_graph
from .scenes import SIZE, held_out_seed
from .tasks import CHANGES, Task, held_out_task
from .weights import CODEC, EDITOR, TEXT_ENCODER


class Edit(NamedTuple):
    """pixels: (size, size, 3) uint8. seconds: the prompt took, once its scene was there."""

    pixels: np.ndarray
    seconds: float


class Editing:
    """Edits on one server. The checkpoints must be where its loaders look (`weights.ensure`)."""

    def __init__(self, server: HostServer, folder: Path, steps: int = STEPS) -> None:
        self.server, self.folder, self.steps = server, folder, steps
        self.files = {"editor": EDITOR, "codec": CODEC, "text_encoder": TEXT_ENCODER}

    def task(self, method: Method, seed: int, index: int, size: int = SIZE) -> Task:
        """The task of scene `index` for a method: the same for all methods that ask for as many regions."""
        kind = CHANGES[index % len(CHANGES)]
        regions = method.regions or 1 + index % 2
        return held_out_task(
            held_out_seed(seed, index), size, kind, method.ambiguous, regions=regions, near=method.near
        )

    def run(
        self, method: Method, task: Task, planned: Callable[[Graph, Node], Node] | None = None, text: str = ""
    ) -> Edit:
        """Edit one task's scene in one prompt. Raises PromptError with the node that failed.

        planned, text: as in `edit_graph`.
        """
        graph = Graph()
        image = edit_graph(graph, method, task, self.files, self.upload(task), self.steps, planned, text)
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
