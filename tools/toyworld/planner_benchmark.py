"""Instruction -> plan -> edit in a running ComfyUI: the toy world's planner by the pack's own nodes, then the edit.

A request ("make the leftmost red circle blue") is asked of the planner. Its plan is measured against the true one, and
the edit by its plan against the edit by the true plan.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from replan.planner.plan import RegionPlan
from replan.planner.plans.plan_json import plan_from_json
from replan.tools.host_server import Graph, HostServer, Node, PromptError

from . import scoring
from .editing import Edit, Editing
from .methods import METHODS
from .requests import Request, held_out_request
from .scenes import SIZE, held_out_seed
from .weights import ensure, ensure_planner, fingerprint

ROWS = ("planned", "true plan")
RULES = METHODS["replan"]
MOST_TOKENS = 128  # of a reply; the longest true one has some forty
SHEET_ROWS = 8
MEGAPIXELS = 0.05  # at most: a scene is seen at its own size


class Answer(NamedTuple):
    """plan: None when the reply holds none. reply, report: as the node gives them. error: why there is no plan."""

    plan: RegionPlan | None
    reply: str
    report: str
    error: str
    seconds: float

    @property
    def repaired(self) -> bool:
        return "\nWarning: " in self.report


class Planning:
    """Questions to the planner of a server, and edits by what it answers.

    model, template: names that the nodes list them by (`weights.ensure_planner`).
    """

    def __init__(self, editing: Editing, model: str, template: str) -> None:
        self.editing, self.server, self.model, self.template = editing, editing.server, model, template

    def planner(self, graph: Graph, image: Node, text: str) -> Node:
        """Add the pack's nodes that plan; the node whose first output is the plan."""
        loaded = graph.add("RePlanLoadPlanner", model_name=self.model, dtype="fp32")
        return graph.add(
            "RePlanPlanner", planner=loaded, image=image, instruction=text, template=self.template, seed=0,
            max_tokens=MOST_TOKENS, max_megapixels=MEGAPIXELS,
        )  # fmt: skip

    def plan(self, request: Request) -> Answer:
        """Ask for a plan. Raises PromptError for whatever is wrong beside the reply itself."""
        graph = Graph()
        image = graph.add("LoadImage", image=self.editing.upload(request.task))
        planned = self.planner(graph, image, request.text)
        written = graph.add("RePlanPlanToText", plan=planned, format="json")
        shown = [graph.add("PreviewAny", source=source) for source in (written, planned[3], planned[4])]
        begun = time.monotonic()
        try:
            result = self.server.run(graph)
        except PromptError as error:
            if "holds no plan" not in str(error):
                raise
            return Answer(None, "", "", str(error), time.monotonic() - begun)
        plan, reply, report = (result.outputs[node.id]["text"][0] for node in shown)
        return Answer(plan_from_json(plan), reply, report, "", result.seconds)

    def edit(self, request: Request) -> Edit:
        """The edit under the region rules, by the plan that the planner gives."""
        return self.editing.run(RULES, request.task, lambda graph, image: self.planner(graph, image, request.text))


def score_answer(request: Request, answer: Answer) -> scoring.PlanScore:
    """An answer beside the true plan."""
    return scoring.score_plan(request.task.plan, answer.plan, answer.repaired)


def measure(args: argparse.Namespace, base: Path, root: Path) -> tuple[dict, tuple]:
    """Ask, edit and score on a server of its own; the figures for `--json`, and what `result_sheet` draws."""
    models, weights = root / ".host" / "models", [args.weights] if args.weights else []
    ensure(models, *weights)
    names = ensure_planner(models, args.planner if isinstance(args.planner, Path) else None, *weights)
    with HostServer(args.comfyui, base=base, pack=root, models=models) as server:
        planning = Planning(Editing(server, base, args.steps), *names)
        planning.editing.warm_up(RULES)
        results, rows = measure_scenes(planning, args.scenes, args.seed)
    return {**results, "weights": fingerprint(*weights)}, rows


def measure_scenes(planning: Planning, scenes: int, seed: int) -> tuple[dict, tuple]:
    """The figures of so many held-out scenes. A request without a plan leaves its scene as it is."""
    plan_scores, answers, rows = [], [], []
    scores: dict[str, list[scoring.Scores]] = {name: [] for name in ROWS}
    begun = time.monotonic()
    for index in range(scenes):
        request = held_out_request(held_out_seed(seed, index), SIZE)
        answer = planning.plan(request)
        plan_scores.append(score_answer(request, answer))
        answers.append((request, answer, plan_scores[-1]))
        edits = {
            "planned": planning.edit(request) if answer.plan else Edit(request.task.scene.pixels, 0.0),
            "true plan": planning.editing.run(RULES, request.task),
        }
        for name, edit in edits.items():
            scores[name].append(scoring.score(request.task, edit.pixels))
        rows.append([(name, request.task, edit.pixels) for name, edit in edits.items()])
        passed = time.monotonic() - begun
        left = passed / (index + 1) * (scenes - index - 1)
        print(
            f"\rscene {index + 1} of {scenes}, {passed:.0f} s, {left:.0f} s left ", end="", file=sys.stderr, flush=True
        )
    print(file=sys.stderr)
    seconds = statistics.median(answer.seconds for _, answer, _ in answers)
    results = {
        "scenes": scenes, "seed": seed, "steps": planning.editing.steps,
        "planner": {**scoring.plan_figures(plan_scores), "iou_from": scoring.GOOD_IOU, "seconds": round(seconds, 3)},
        "methods": {name: _figures(scores[name]) for name in ROWS},
        "replies": [
            {"asked": request.text, "wanted": request.reply, "reply": answer.reply or answer.error, "state": one.state,
             "ious": [round(value, 3) for value in one.ious]}
            for request, answer, one in answers
        ],
    }  # fmt: skip
    return results, (rows[:SHEET_ROWS], [answer.plan for _, answer, _ in answers[:SHEET_ROWS]])


def _figures(scores: list[scoring.Scores]) -> dict[str, float | list[float] | None]:
    figures = {key: round(value, 4) for key, value in asdict(scoring.mean(scores)).items()}
    shown = {key: None if np.isnan(value) else value for key, value in figures.items()}
    return {**shown, "effect_by_scene": [round(one.effect, 4) for one in scores]}


def in_words(results: dict) -> str:
    """The planner's figures in words."""
    one = results["planner"]
    return (
        f"{one['scenes_found']:.0%} of {one['scenes']} scenes and {one['objects_found']:.0%} of "
        f"{one['objects']} objects with IoU >= {one['iou_from']:g}; mean IoU {one['mean_iou']:.2f}; "
        f"{one['hints_right']:.0%} of the hints as meant; {one['replies_repaired']} replies needed repair, "
        f"{one['replies_failed']} held no plan; {one['seconds']:.1f} s a plan"
    )
