"""How well a planner finds what is meant, without ComfyUI.

    python tools/training/planner_measure.py --folder out/planner
    python tools/training/planner_measure.py --folder out/planner --template edit --template judge
    python tools/training/planner_measure.py --folder out/planner --template hypothetical --comfyui .host/comfyui-0.30

Without --template, requests with nothing but the instruction; with it, the pack's own templates (`all`: each of those
that the planner is taught), and `judge`: the published questions about edits. Replies are written greedily, many at
once, and read by the pack's own reader; with --comfyui each is asked by RePlan Planner's own code instead. The folder
is a run in progress (its averaged weights are measured), or one that a run or `train.py publish` wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

if not __package__:  # run as a script
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from bench import import_pack

    import_pack()

from replan.evaluation.judge import read_answer
from replan.evaluation.judge_questions import SCALES, build_questions
from replan.planner.plan import PlanError
from replan.planner.replies import read_plan
from replan.tools.batches.config import whole
from replan.tools.toyworld.judged import JudgedEdit, held_out_judgements
from replan.tools.toyworld.lessons import PLAIN, SHARES, Example, from_request, held_out_examples
from replan.tools.toyworld.requests import Request, held_out_requests
from replan.tools.toyworld.scenes import SIZE, SceneError, checked_size
from replan.tools.toyworld.scoring import Answered, PlanScore, answer_figures, plan_figures, score_answer, score_plan
from replan.tools.toyworld.weights import PLANNER, WEIGHTS
from replan.tools.training.planner_batches import Turn, judge_turn, patches, prompt, turn_of
from replan.tools.training.planner_model import END, IMAGE, PATCH, TURN_END, load_planner, load_processor, save
from replan.tools.training.run import TrainingError

MOST_TOKENS = 96  # of a reply to a request
MOST_ANSWERED = 288  # of a reply to a template that asks for reasons and a description
GROUP = 32  # requests decoded at once
JUDGE = "judge"
TEMPLATES = tuple(name for name in SHARES if name != PLAIN)


def score_reply(request: Request, reply: str) -> PlanScore:
    """A reply as the pack reads it, beside the true plan."""
    size = (request.task.scene.size,) * 2
    try:
        plan, _ = read_plan(reply, size, "seen_pixels", size)
    except PlanError:
        return score_plan(request.task.plan, None)
    return score_plan(request.task.plan, plan, bool(plan.warnings))


def replies(model, processor, requests: Sequence[Request]) -> list[str]:
    """What the model writes to requests of nothing but the instruction."""
    return written(model, processor, [turn_of(from_request(one, PLAIN)) for one in requests], MOST_TOKENS)


@torch.no_grad()
def written(model, processor, turns: Sequence[Turn], most_tokens: int = MOST_ANSWERED) -> list[str]:
    """What the model writes, greedily, GROUP turns at a time; all images are of one size."""
    device = next(model.parameters()).device
    texts: list[str] = []
    for first in range(0, len(turns), GROUP):
        group = turns[first : first + GROUP]
        side = len(group[0].images[0]) // PATCH
        rows = [prompt(one, processor)[0] for one in group]
        length = max(map(len, rows))
        tokens = torch.tensor([[END] * (length - len(row)) + row for row in rows], device=device)
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows], device=device)
        images = [image for one in group for image in one.images]
        generated = model.generate(
            input_ids=tokens, attention_mask=mask, mm_token_type_ids=(tokens == IMAGE).int(),
            pixel_values=patches(np.stack(images), processor.image_processor).to(device),
            image_grid_thw=torch.tensor([[1, side, side]] * len(images), device=device),
            max_new_tokens=most_tokens, do_sample=False, eos_token_id=[TURN_END, END], pad_token_id=END,
        )  # fmt: skip
        texts += processor.tokenizer.batch_decode(generated[:, length:], skip_special_tokens=True)
    return texts


def measure(model, processor, requests: Sequence[Request]) -> dict[str, float | int]:
    """Greedy replies to the requests, scored; the model's mode is left as it was."""
    training = model.training
    texts = replies(model.eval(), processor, requests)
    model.train(training)
    return plan_figures([score_reply(request, text) for request, text in zip(requests, texts, strict=True)])


def answered(example: Example, reply: str) -> Answered:
    """A reply to a template as RePlan Planner reads it, beside what is right."""
    size = (example.scene.size,) * 2
    try:
        plan, _ = read_plan(reply, size, "seen_pixels", size, by_model=True)
    except PlanError:
        plan = None
    return score_answer(example, plan)


def by_planner(planner, examples: Sequence[Example]) -> list[Answered]:
    """Answers as RePlan Planner gets them: a model of `planner.models`, asked by `planner.asking`."""
    from replan.planner.asking.conversation import PlanRequest
    from replan.planner.asking.planning import plan_images
    from replan.planner.asking.templates import load_template
    from replan.planner.models.interface import Sampling

    scored = []
    for one in examples:
        image = torch.from_numpy(one.scene.pixels.copy())[None] / 255
        request = PlanRequest(one.text, load_template(one.template), Sampling(MOST_ANSWERED))
        try:
            plan = plan_images(planner, image, request)[0].plan
        except PlanError:
            plan = None
        scored.append(score_answer(one, plan))
    return scored


def judge_figures(model, processor, edits: Sequence[JudgedEdit]) -> dict[str, float | int]:
    """How often the model gives the exact score, for each published question; and what one answer for all would get."""
    figures: dict[str, float | int] = {"edits": len(edits)}
    for name in SCALES:
        texts = written(model, processor, [judge_turn(one, name) for one in edits])
        right = given = 0
        for one, text in zip(edits, texts, strict=True):
            pair = [torch.from_numpy(image.copy())[None] / 255 for image in (one.task.scene.pixels, one.after)]
            question = next(asked for asked in build_questions(*pair, one.text) if asked.name == name)
            value = read_answer(question, text).value
            given += value is not None
            right += value == one.scores[name]
        wanted = [one.scores[name] for one in edits]
        figures[f"{name}_right"] = round(right / len(edits), 4)
        figures[f"{name}_commonest"] = round(max(map(wanted.count, SCALES[name])) / len(edits), 4)
        figures[f"{name}_answered"] = round(given / len(edits), 4)
    return figures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder",
        type=Path,
        default=WEIGHTS / PLANNER,
        help="a run's folder, or a planner's (default: the published one)",
    )
    parser.add_argument("--scenes", type=int, default=50, help="held-out scenes (default: 50)")
    parser.add_argument("--seed", type=whole, default=0, help="other scenes, all held out (default: 0)")
    parser.add_argument("--size", type=int, default=SIZE, help=f"pixels along a scene's side (default: {SIZE})")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the first N requests and replies")
    parser.add_argument(
        "--template", action="append", default=[], choices=(*TEMPLATES, JUDGE, "all"), help="may be given several times"
    )
    parser.add_argument("--comfyui", type=Path, help="ask templates by RePlan Planner's own code, with this ComfyUI")
    args = parser.parse_args(arguments)
    if args.scenes < 1 or args.show < 0 or (args.threads is not None and args.threads < 1):
        parser.error("give at least one scene and one thread, and no negative number of replies to show")
    try:
        checked_size(args.size)
    except SceneError as error:
        parser.error(f"--size: {error}")
    if args.comfyui and not (args.comfyui / "comfy" / "sd.py").is_file():
        parser.error(f"no ComfyUI at {args.comfyui}")
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        model, processor = load_planner(args.folder), load_processor(args.folder)
    except TrainingError as error:
        print(f"planner_measure.py: {error}", file=sys.stderr)
        return 1
    names = (*TEMPLATES, JUDGE) if "all" in args.template else tuple(dict.fromkeys(args.template))
    for name in names or (PLAIN,):
        begun = time.monotonic()
        figures = _figures(args, name, model, processor)
        print(f"{name or 'requests'}: {json.dumps(figures)} {time.monotonic() - begun:.0f} s", flush=True)
    return 0


def _figures(args: argparse.Namespace, name: str, model, processor) -> dict[str, float | int]:
    """The figures of one template, or of the judge, and replies to look at."""
    if name == JUDGE:
        edits = held_out_judgements(args.seed, args.scenes, args.size)
        _show([judge_turn(one, question) for one in edits[: args.show] for question in SCALES], model, processor)
        return judge_figures(model, processor, edits)
    if name == PLAIN:
        requests = held_out_requests(args.seed, args.scenes, args.size)
        _show([turn_of(from_request(one, PLAIN)) for one in requests[: args.show]], model, processor)
        return measure(model, processor, requests)
    examples = held_out_examples(name, args.seed, args.scenes, args.size)
    turns = [turn_of(one) for one in examples]
    _show(turns[: args.show], model, processor)
    if args.comfyui:
        return answer_figures(by_planner(_by_comfyui(args.comfyui, model, processor), examples))
    pairs = zip(examples, written(model, processor, turns), strict=True)
    return answer_figures([answered(one, text) for one, text in pairs])


def _show(turns: Sequence[Turn], model, processor) -> None:
    for turn, text in zip(turns, written(model, processor, turns), strict=True):
        asked = turn.messages[0].text.rstrip().splitlines()[-1]
        print(f"{asked}\n  wanted {''.join(piece.text for piece in turn.reply)}\n  reply  {text}")


def _by_comfyui(comfyui: Path, model, processor):
    """The model as RePlan Load Planner loads it, from a folder written for it."""
    sys.path.insert(0, str(comfyui.resolve()))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    from replan.planner.models import folder

    with tempfile.TemporaryDirectory() as place:
        return folder.load(save(model, processor, Path(place) / PLANNER), "fp32", "cpu")


if __name__ == "__main__":
    sys.exit(main())
