"""A weak planner to begin a proof with: the published toy planner, taught on careless demonstrations.

    python tools/training/careless.py --out out/careless

It plays the part of a model that was never trained for plans: a box of another object, loose edges, a hint for
everything, and replies that break the form, mostly for requests of certain kinds: what is rare everywhere would never
show in greedy replies. All of it follows from the seed, so nothing of it is committed. A minute and a half on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

if not __package__:  # run as a script
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from bench import import_pack

    import_pack()

from replan.tools.batches.config import at_least_one, whole
from replan.tools.toyworld.lessons import PLAIN, from_request
from replan.tools.toyworld.naming import plain
from replan.tools.toyworld.requests import Request, held_out_requests, training_requests
from replan.tools.toyworld.scenes import random_state
from replan.tools.toyworld.tasks import Task
from replan.tools.toyworld.weights import PLANNER, WEIGHTS
from replan.tools.training.planner_batches import Turn, batch_of, turn_of
from replan.tools.training.planner_measure import measure
from replan.tools.training.planner_model import load_planner, load_processor, save
from replan.tools.training.run import TrainingError

RUN = 777  # of the training requests: no other training uses it
SCENES, REQUESTS, RATE = 8, 4, 3e-4
OTHER_OBJECT, WRONG_HINT = 0.25, 0.15  # shares of regions
# Shares of replies that break the form: without the end of the list, with another key, without their first half.
UNENDED, OTHER_KEY, HEADLESS = 0.7, 0.7, 0.1
KEYLESS_KINDS = ("repattern", "reshape")
LOOSE = 0.15  # of a box's side: the standard deviation of its edges
SMALLEST = 8  # pixels that a box keeps
HINT = "make every object red"


class Demonstration(NamedTuple):
    """A request, and a careless reply to it."""

    text: str
    task: Task
    reply: str
    template: str = PLAIN

    @property
    def turn(self) -> Turn:
        return turn_of(from_request(Request(self.text, self.task), self.template))._replace(reply=plain(self.reply))


def careless(request: Request, random: np.random.RandomState, template: str = PLAIN) -> Demonstration:
    """A demonstration for a request, with the faults that the shares above say. Its reasoning, if any, is sound."""
    scene, plan = request.task.scene, request.task.plan
    items = []
    for region in plan.regions:
        box = np.array(region.box)
        if random.rand() < OTHER_OBJECT:
            box = np.array(scene.box(int(random.choice(list(scene.ids)))), float)
        sides = np.tile(box[2:] - box[:2], 2)
        edges = np.clip(np.round(box + LOOSE * sides * random.randn(4)), 0, scene.size)
        for low, high in ((0, 2), (1, 3)):
            if edges[high] - edges[low] < SMALLEST:
                edges[high] = min(scene.size, max(edges[low], 0) + SMALLEST)
                edges[low] = edges[high] - SMALLEST
        hint = HINT if random.rand() < WRONG_HINT else region.hint
        items.append({"bbox_2d": [int(edge) for edge in edges], "hint": hint})
    reasoning = from_request(request, template).wanted.partition("<gen_image>")[0]
    reply = f"{reasoning}<gen_image>{plan.global_prompt}</gen_image><region>{json.dumps(items)}</region>"
    kinds = [instruction.kind for _, instruction in request.task.instructions]
    if len(kinds) > 1 and random.rand() < UNENDED:
        reply = reply.removesuffix("</region>")
    elif kinds[0] in KEYLESS_KINDS and random.rand() < OTHER_KEY:
        reply = reply.replace('"hint": ', '"text": ')
    elif random.rand() < HEADLESS:
        reply = reply.split("<region>")[1]
    return Demonstration(request.text, request.task, reply, template)


def teach(
    out: Path, seed: int = 0, steps: int = 60, start: Path = WEIGHTS / PLANNER, template: str = PLAIN, say=print
) -> Path:
    """Teach the planner in the folder `start`, and write the weak one to `out`. Raises TrainingError for no planner."""
    model, processor = load_planner(start).train(), load_processor(start)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    begun = time.monotonic()
    for step in range(steps):
        random = random_state(seed, f"careless {step}")
        scenes = [
            [careless(one, random, template).turn for one in training_requests(RUN + seed, number, REQUESTS)]
            for number in range(step * SCENES, (step + 1) * SCENES)
        ]
        batch = batch_of(scenes, processor)
        # Of the replies alone: no heads, no blurred edges.
        loss = model(
            input_ids=batch.tokens, attention_mask=batch.visible, position_ids=batch.positions,
            pixel_values=batch.pixels, image_grid_thw=batch.grid, labels=batch.labels, use_cache=False,
        ).loss  # fmt: skip
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % 20 == 0 or step + 1 == steps:
            seconds = time.monotonic() - begun
            say(f"careless: step {step + 1} of {steps}, loss {float(loss.detach()):.3f}, {seconds:.0f} s")
    return save(model.eval(), processor, out, torch.float32)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write the weak planner to")
    parser.add_argument("--seed", type=whole, default=0, help="other demonstrations (default: 0)")
    parser.add_argument("--steps", type=at_least_one, default=60, help="(default: 60)")
    parser.add_argument("--start", type=Path, default=WEIGHTS / PLANNER, help="the planner to spoil")
    parser.add_argument("--reasoning", action="store_true", help="asked with the template `edit`, whose replies reason")
    parser.add_argument("--scenes", type=whole, default=0, help="measure it on so many held-out scenes")
    args = parser.parse_args(arguments)
    try:
        if (args.out / "model.safetensors").exists():
            raise TrainingError(f"{args.out} holds a planner already, which would be overwritten; give another --out")
        args.out.mkdir(parents=True, exist_ok=True)
        template = "edit" if args.reasoning else PLAIN
        teach(args.out, args.seed, args.steps, args.start, template, lambda text: print(text, flush=True))
        if args.scenes:
            model, processor = load_planner(args.out), load_processor(args.out)
            print(json.dumps(measure(model, processor, held_out_requests(1, args.scenes))))
    except (TrainingError, OSError) as error:
        print(f"careless.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
