"""Edits for measuring redo, kept as files: a first one, its failed regions once more on its result, and the controls.

Each second edit has the same other noise, so they differ in nothing but the image they start from and the regions they
take. What they take is up to RePlan Failed Regions, in the prompt.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from replan.evaluation.scores import Scores
from replan.planner.plans.plan_json import plan_to_json
from replan.tools.host_server import Graph, Node

from .descriptions import described_plan
from .dual_encoder import TEXTS, VISION
from .editing import Editing, edit_graph
from .methods import METHODS, Method
from .scoring import outcomes
from .tasks import Task

# On the original, or on the first result: the regions that failed by the exact scorer or by RePlan Alignment, or all.
EDITS = ("first", "second_try", "redo_exact", "redo_closer", "redo_all")
EXACT, CLOSER = "redo_exact", "redo_closer"
SECOND = 1  # the other noise


def method_of(regions: int) -> Method:
    return METHODS[f"regions_{regions}"]


def exact_scores(task: Task, pixels: np.ndarray) -> Scores:
    """Which regions became what was asked, as the value that nodes pass on. pixels: (size, size, 3) uint8."""
    done = {f"o{i}": float(one.reached) for i, one in zip(task.meant, outcomes(task, pixels), strict=True)}
    regions = {name: {"done": value} for name, value in done.items()}
    return Scores("exact scorer", {"done": sum(done.values()) / len(done)}, regions, "done", "done")


def render(
    editing: Editing, folder: Path, method: Method, seed: int, scenes: int, say: Callable[[str], None],
    stop: Callable[[], bool],
) -> None:  # fmt: skip
    """Render what is not in the folder yet, scene by scene."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(scenes):
        task = editing.task(method, seed, index)
        for name in EDITS:
            file = edit_file(folder, index, name)
            if file.exists():
                continue
            if stop():
                return
            if name in ("first", "second_try"):
                pixels = editing.run(method, task, noise=SECOND if name == "second_try" else 0).pixels
            else:
                pixels = _again(editing, method, task, folder, index, name)
            part = file.with_suffix(".part")
            Image.fromarray(pixels).save(part, "PNG")
            part.replace(file)
        say(f"scene {index + 1} of {scenes}")


def edit_file(folder: Path, index: int, name: str) -> Path:
    return folder / f"{index:04}_{name}.png"


def told_file(folder: Path, index: int) -> Path:
    """The scores that RePlan Failed Regions got from RePlan Alignment, as JSON."""
    return folder / f"{index:04}_closer.json"


def rendered(folder: Path, index: int) -> dict[str, np.ndarray] | None:
    """The edits of a scene by name, (size, size, 3) uint8; None when one is missing."""
    files = {name: edit_file(folder, index, name) for name in EDITS}
    if not all(file.is_file() for file in (*files.values(), told_file(folder, index))):
        return None
    return {name: np.asarray(Image.open(file).convert("RGB")) for name, file in files.items()}


def _again(editing: Editing, method: Method, task: Task, folder: Path, index: int, name: str) -> np.ndarray:
    """A second edit of the first result."""
    first = edit_file(folder, index, "first")
    pixels = np.asarray(Image.open(first).convert("RGB"))
    before, after = editing.upload(task), editing.server.upload_image(first)
    graph = Graph()
    nodes: dict[str, Node | list] = {}

    def planned(graph: Graph, loaded: Node) -> Node | list:
        text = plan_to_json(described_plan(task))
        plan = graph.add("RePlanPlanFromText", text=text, image=loaded, coordinates="auto")
        if name == EXACT:
            nodes["scores"] = graph.add("ToyWorldScores", scores=exact_scores(task, pixels).to_json())
        elif name == CLOSER:
            nodes["scores"] = graph.add(
                "RePlanAlignment", after=loaded, plan=plan, before=graph.add("LoadImage", image=before), scene="",
                clip_vision=graph.add("ToyWorldLoadClipVision", clip_name=VISION),
                clip=graph.add("CLIPLoader", clip_name=TEXTS, type="stable_diffusion"), fusion="mean",
            )  # fmt: skip
        if "scores" in nodes:
            plan = graph.add("RePlanFailedRegions", plan=plan, scores=nodes["scores"], threshold=0.5)
        resized = graph.add("RePlanResize", image=loaded, plan=plan, target="none", method="stretch", multiple=16)
        mask = graph.add("RePlanRegionMasks", plan=plan, width=0, height=0, feather=0)
        nodes.update(first=loaded, transform=resized[2], mask=mask[2])
        return resized[1]

    edited = edit_graph(graph, method, task, editing.files, after, editing.steps, planned, noise=SECOND)
    # A soft edge of 8 pixels, as for photographs, would take half of an object here.
    restored = graph.add(
        "RePlanRestore", image=edited, transform=nodes["transform"], original=nodes["first"], mask=nodes["mask"],
        feather=0,
    )  # fmt: skip
    shown = graph.add("PreviewImage", images=restored)
    told = graph.add("PreviewAny", source=nodes["scores"]) if name == CLOSER else None
    result = editing.server.run(graph)
    if told:
        (text,) = result.outputs[told.id]["text"]
        told_file(folder, index).write_text(Scores.from_json(text).to_json() + "\n", encoding="utf-8")
    with Image.open(io.BytesIO(editing.server.images(result, shown)[0])) as image:
        return np.asarray(image.convert("RGB"))
