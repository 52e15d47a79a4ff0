"""How well a planner finds what is meant, without ComfyUI.

    python tools/training/planner_measure.py --folder out/planner

Replies are written greedily, many at once, and read by the pack's own reader. The folder is a run in progress (its
averaged weights are measured), or one that a run or `train.py publish` wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

if not __package__:  # run as a script
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from bench import import_pack

    import_pack()

from replan.planner.plan import PlanError
from replan.planner.replies import read_plan
from replan.tools.toyworld.requests import Request, held_out_requests
from replan.tools.toyworld.scenes import SIZE, SceneError, checked_size
from replan.tools.toyworld.scoring import PlanScore, plan_figures, score_plan
from replan.tools.toyworld.weights import PLANNER, WEIGHTS
from replan.tools.training.planner_model import END, IMAGE, MERGE, TURN_END, load_planner, make_processor
from replan.tools.training.planner_training import conversation, patches
from replan.tools.training.run import TrainingError

MOST_TOKENS = 96  # of a reply
GROUP = 32  # requests decoded at once


def score_reply(request: Request, reply: str) -> PlanScore:
    """A reply as the pack reads it, beside the true plan."""
    size = (request.task.scene.size,) * 2
    try:
        plan, _ = read_plan(reply, size, "seen_pixels", size)
    except PlanError:
        return score_plan(request.task.plan, None)
    return score_plan(request.task.plan, plan, bool(plan.warnings))


@torch.no_grad()
def replies(model, processor, requests: Sequence[Request]) -> list[str]:
    """What the model writes, greedily, GROUP requests at a time; all scenes are of one size."""
    device = next(model.parameters()).device
    written: list[str] = []
    for first in range(0, len(requests), GROUP):
        group = requests[first : first + GROUP]
        side = group[0].task.scene.size // MERGE // processor.image_processor.patch_size
        rows = []
        for one in group:
            ids = processor.tokenizer(conversation(one, processor))["input_ids"]
            place = ids.index(IMAGE)
            rows.append(ids[:place] + [IMAGE] * side**2 + ids[place + 1 :])
        length = max(map(len, rows))
        tokens = torch.tensor([[END] * (length - len(row)) + row for row in rows], device=device)
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows], device=device)
        pixels = patches(np.stack([one.task.scene.pixels for one in group]), processor.image_processor)
        generated = model.generate(
            input_ids=tokens, attention_mask=mask, mm_token_type_ids=(tokens == IMAGE).int(),
            pixel_values=pixels.to(device),
            image_grid_thw=torch.tensor([[1, side * MERGE, side * MERGE]] * len(group), device=device),
            max_new_tokens=MOST_TOKENS, do_sample=False, eos_token_id=[TURN_END, END], pad_token_id=END,
        )  # fmt: skip
        written += processor.tokenizer.batch_decode(generated[:, length:], skip_special_tokens=True)
    return written


def measure(model, processor, requests: Sequence[Request]) -> dict[str, float | int]:
    """Greedy replies to the requests, scored; the model's mode is left as it was."""
    training = model.training
    texts = replies(model.eval(), processor, requests)
    model.train(training)
    return plan_figures([score_reply(request, text) for request, text in zip(requests, texts, strict=True)])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder",
        type=Path,
        default=WEIGHTS / PLANNER,
        help="a run's folder, or a planner's (default: the published one)",
    )
    parser.add_argument("--scenes", type=int, default=50, help="held-out scenes (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="other scenes, all held out (default: 0)")
    parser.add_argument("--size", type=int, default=SIZE, help=f"pixels along a scene's side (default: {SIZE})")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the first N requests and replies")
    args = parser.parse_args(arguments)
    if args.scenes < 1 or args.show < 0 or (args.threads is not None and args.threads < 1):
        parser.error("give at least one scene and one thread, and no negative number of replies to show")
    try:
        checked_size(args.size)
    except SceneError as error:
        parser.error(f"--size: {error}")
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        model = load_planner(args.folder)
    except TrainingError as error:
        print(f"planner_measure.py: {error}", file=sys.stderr)
        return 1
    begun = time.monotonic()
    processor, requests = make_processor(), held_out_requests(args.seed, args.scenes, args.size)
    for one, text in zip(
        requests[: args.show], replies(model, processor, requests[: args.show]) if args.show else (), strict=True
    ):
        print(f"{one.text}\n  wanted {one.reply}\n  reply  {text}")
    print(json.dumps(measure(model, processor, requests)), f"{time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
