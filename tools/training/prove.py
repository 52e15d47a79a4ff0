"""Prove two-stage GRPO in the toy world: `python tools/training/prove.py --out out/proof`, or `--quick`.

A weak planner (careless.py) goes through stage 1 and stage 2. Beside them: both stages with shuffled rewards (control,
control2), stage 2 from the base at once (single), and both stages with replies that reason first, from a weak planner
that does so too (base_reasoning to stage2_reasoning). Each is measured on held-out scenes that no training or early
stop saw: its plans, and their edits in ComfyUI. The same command goes on where it was stopped.

--quick: one seed, stage 1, its control and stage 2, at a greater learning rate.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from bench import import_pack

    import_pack()

import numpy as np
import torch
from replan.tools.batches.config import at_least_one
from replan.tools.batches.results import write_whole
from replan.tools.host_server import HostServer, ServerError
from replan.tools.host_setup import ROOT, SetupError, present_host
from replan.tools.toyworld import scoring
from replan.tools.toyworld.requests import held_out_requests
from replan.tools.toyworld.weights import WeightsError, ensure
from replan.tools.training.grpo.held_out import greedy_replies, is_valid
from replan.tools.training.grpo.options import StageError, StageOptions
from replan.tools.training.grpo.records import toy_prompts
from replan.tools.training.grpo.stage_rewards import StageRewards
from replan.tools.training.grpo.watching import FIGURES, HISTORY, draw_lines, rows_of
from replan.tools.training.grpo.worlds import pixels_of, world_of
from replan.tools.training.planner_measure import score_reply
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging

HERE = Path(__file__).resolve().parent
SCENE_SEED = 2  # of the scenes that everything is measured on; held-out figures while it trains have 1
NAMES = ("format", "found", "iou", "target", "effect", "consistency", "weighted")
MEASURED, OPTIONS = "measured.json", "options.json"
GROUP = 8  # replies to one prompt, num_generations of the YAML files
STAGE1, STAGE2 = "toy_stage1.yaml", "toy_stage2.yaml"
SHUFFLED_STEPS = 12  # a control needs no more: its planner is lost by then
REASONING = "_reasoning"  # how the names of rows end whose replies reason first


class Training(NamedTuple):
    """One row of the proof. start: the row that it begins from, "" for a base."""

    name: str
    start: str = ""
    config: str = ""
    shuffled: bool = False

    @property
    def reasons(self) -> bool:
        """Whether its replies reason first."""
        return self.name.endswith(REASONING)

    @property
    def task(self) -> str:
        name = "edit_region_planning" if self.config == STAGE2 else "text_refinement_edit"
        return name if self.reasons else f"{name}_nothink"

    @property
    def most_tokens(self) -> int:
        return 192 if self.reasons else 64


TRAININGS = (
    Training("base"),
    Training("stage1", "base", STAGE1),
    Training("control", "base", STAGE1, True),
    Training("stage2", "stage1", STAGE2),
    Training("control2", "stage1", STAGE2, True),
    Training("single", "base", STAGE2),
    Training(f"base{REASONING}"),
    Training(f"stage1{REASONING}", f"base{REASONING}", STAGE1),
    Training(f"stage2{REASONING}", f"stage1{REASONING}", STAGE2),
)
QUICK = ("base", "stage1", "control", "stage2")


class ProofError(RuntimeError):
    """The proof cannot go on; the message says why."""


def replies_a_step(text: str) -> int:
    if at_least_one(text) % GROUP:
        raise argparse.ArgumentTypeError(
            f"a multiple of {GROUP} was expected, the replies to one prompt, found {text!r}"
        )
    return int(text)


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/proof"), help="the folder for everything (out/proof)")
    parser.add_argument("--quick", action="store_true", help="one seed, stage 1, its control, stage 2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--seeds", type=at_least_one, help="how many whole proofs (3; --quick: 1)")
    parser.add_argument("--scenes", type=at_least_one, default=100, help="held-out scenes to measure on (100)")
    parser.add_argument("--steps1", type=at_least_one, help="of stage 1 (30; --quick: 20)")
    parser.add_argument("--steps2", type=at_least_one, help="of stage 2 (36; --quick: 16)")
    parser.add_argument("--replies", type=replies_a_step, default=48, help="a step of stage 2, a multiple of 8 (48)")
    parser.add_argument("--render-steps", type=at_least_one, default=8, help="sampling steps of an edit (8)")
    parser.add_argument("--only", metavar="NAME,..", help=f"some of {', '.join(one.name for one in TRAININGS)}")
    parser.add_argument("--jobs", type=at_least_one, default=2, help="trainings at once, and ComfyUIs (2)")
    parser.add_argument("--comfyui", metavar="URL,..", help="ComfyUIs that run already, with the toy world's models")
    return parser


def main(arguments: list[str] | None = None) -> int:
    args = options().parse_args(arguments)
    args.seeds = args.seeds or (1 if args.quick else 3)
    args.steps1 = args.steps1 or (20 if args.quick else 30)
    args.steps2 = args.steps2 or (16 if args.quick else 36)
    args.rates = {STAGE2: 1e-4} if args.quick else {}
    known = [one.name for one in TRAININGS]
    args.names = args.only.split(",") if args.only else QUICK if args.quick else known
    if unknown := [name for name in args.names if name not in known]:
        print(f"prove.py: --only: there is no {', '.join(unknown)}, only {', '.join(known)}", file=sys.stderr)
        return 2
    try:
        check(args)
    except (ProofError, StageError, OSError) as error:
        print(f"prove.py: {error}", file=sys.stderr)
        return 2
    try:
        prove(args)
    except (ProofError, StageError, ServerError, SetupError, WeightsError, OSError) as error:
        print(f"prove.py: {error}", file=sys.stderr)
        return 1
    return 0


def check(args: argparse.Namespace) -> None:
    """Refuse, before anything is trained, files that cannot be written, servers that are down, and other options than
    the folder was begun with: rows of two kinds would stand beside each other."""
    args.out.mkdir(parents=True, exist_ok=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        if args.json.is_dir():
            raise ProofError(f"--json {args.json} is a folder; give a file")
    options = {name: getattr(args, name) for name in ("quick", "steps1", "steps2", "replies", "render_steps")}
    file = args.out / OPTIONS
    try:
        began = read(file) if file.is_file() else options
    except ValueError:
        raise ProofError(f"{file} cannot be read; give another --out") from None
    if began != options:
        other = [f"{name} {began.get(name)!r}, now {value!r}" for name, value in options.items()
                 if began.get(name) != value]  # fmt: skip
        raise ProofError(
            f"{args.out} was begun with other options ({', '.join(other)}); give the same, or another --out"
        )
    if args.comfyui:
        world_of(StageOptions(model="-", comfyui=args.comfyui, render_steps=args.render_steps), args.out, 0)
    write_whole(file, json.dumps(options).encode())


def prove(args: argparse.Namespace) -> None:
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        addresses = args.comfyui or ",".join(servers(args, stack))
        for seed in range(args.seeds):
            folder = args.out / f"seed_{seed}"
            for wave in waves(args.names):
                with ThreadPoolExecutor(args.jobs) as pool:
                    list(pool.map(lambda one, at=folder, n=seed: train(one, at, n, args, addresses), wave))
                for one in wave:
                    measure(one, folder, args, addresses)
                    say(folder, f"{one.name}: {in_words(read(folder / one.name / MEASURED)['figures'])}")
                    report(args)
            curves(folder)
    print(f"{table(args)}\n{time.monotonic() - begun:.0f} s; {args.out}", flush=True)


def say(folder: Path, text: str) -> None:
    print(f"{time.strftime('%H:%M')} {folder.name} {text}", flush=True)


def waves(names: Sequence[str]) -> list[list[Training]]:
    """The trainings in an order in which each finds its start; those of a wave do not need one another."""
    left, done, found = [one for one in TRAININGS if one.name in names], set(), []
    while left:
        wave = [one for one in left if not one.start or one.start in done or one.start not in names]
        left = [one for one in left if one not in wave]
        done |= {one.name for one in wave}
        found.append(wave)
    return found


def servers(args: argparse.Namespace, stack: contextlib.ExitStack) -> list[str]:
    """Addresses of ComfyUIs of our own, that end with the proof."""
    host = present_host()
    ensure(host.models)
    started = [
        HostServer(host.comfyui, args.out / f"comfyui_{number}", ROOT, host.models, host.python, timeout=600)
        for number in range(args.jobs)
    ]
    with ThreadPoolExecutor(len(started)) as pool:
        return [server.url for server in pool.map(stack.enter_context, started)]


# ---- trainings


def train(one: Training, folder: Path, seed: int, args: argparse.Namespace, addresses: str) -> None:
    """Train a row unless it is trained. Raises ProofError with the end of what it said."""
    out = folder / one.name
    if not one.start:
        command = [str(HERE / "careless.py"), "--out", str(out), "--seed", str(seed)]
        command += ["--reasoning"] if one.reasons else []
        if (out / "model.safetensors").is_file():
            return
    else:
        steps = args.steps1 if one.config == STAGE1 else args.steps2
        steps = min(steps, SHUFFLED_STEPS) if one.shuffled else steps
        command = [
            str(HERE / "grpo.py"), "--config", str(HERE / "grpo" / one.config), "--model", str(folder / one.start),
            "--output_dir", str(out), "--seed", str(42 + seed), "--toy_run", str(900 + seed), "--max_steps", str(steps),
            "--task", one.task, "--max_completion_length", str(one.most_tokens),
        ]  # fmt: skip
        if one.config in args.rates:
            command += ["--learning_rate", str(args.rates[one.config])]
        if one.shuffled:
            command += ["--shuffled", "true", "--stop_after", "0"]  # its reward falls at once: it gets every step
        if one.config == STAGE2:
            command += ["--comfyui", addresses, "--per_device_train_batch_size", str(args.replies)]
            command += ["--render_steps", str(args.render_steps)]
            command += ["--held_out", "8"] if args.quick else []  # each of them is an edit
        if (out / "done.json").is_file():
            return
    say(folder, f"{one.name}: training")
    log = folder / f"{one.name}.log"
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "HF_HUB_OFFLINE": "1"}
    with log.open("ab") as file:
        done = subprocess.run([sys.executable, *command], stdout=file, stderr=subprocess.STDOUT, env=environment)
    if done.returncode:
        end = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        raise ProofError(f"{one.name} failed; the end of {log}:\n" + "\n".join(end))


# ---- figures


def measure(one: Training, folder: Path, args: argparse.Namespace, addresses: str) -> None:
    """Plans and edits of held-out scenes by one planner, written beside it."""
    file = folder / one.name / MEASURED
    if file.is_file() and read(file)["scenes"] == args.scenes:
        return
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    place = str(folder / one.name)
    model = AutoModelForImageTextToText.from_pretrained(place, dtype=torch.float32, local_files_only=True)
    processor = AutoProcessor.from_pretrained(place, local_files_only=True)
    # The form is measured as in stage 1, whatever the row was trained on.
    prompts = toy_prompts(held_out_requests(SCENE_SEED, args.scenes), one._replace(config=STAGE1).task)
    replies = greedy_replies(model.eval(), processor, prompts, one.most_tokens)
    how = StageOptions(model=place, comfyui=addresses, render_steps=args.render_steps)
    world = world_of(how, args.out, 0)

    async def edited():
        return await asyncio.gather(*(world.image(*asked) for asked in zip(prompts, replies, strict=True)))

    images = asyncio.run(edited())
    if world.render.excluded:
        raise ProofError(
            f"{one.name}: {world.render.excluded} of {len(prompts)} edits could not be rendered, for the reasons "
            "above; the same command measures it again"
        )
    rewards = StageRewards(prompts, how)
    rows, outcomes = [], []
    for prompt, text, image in zip(prompts, replies, images, strict=True):
        task, plan = prompt.request.task, score_reply(prompt.request, text)
        # A request without a plan leaves its scene as it is.
        pixels = task.scene.pixels if image is None else pixels_of(image)
        score = scoring.score(task, pixels)
        outcomes += scoring.outcomes(task, pixels)
        rows.append(
            {
                "asked": prompt.instruction, "reply": text,
                "format": float(is_valid(rewards.form(prompt.number, text).parts)), "found": float(plan.good),
                "iou": float(np.mean(plan.ious)), "target": score.target, "effect": score.effect,
                "consistency": score.consistency, "weighted": score.weighted,
            }
        )  # fmt: skip
    figures = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in NAMES}
    by_kind = {kind: round(share, 4) for kind, share in scoring.effect_by_kind(outcomes).items()}
    told = {"scenes": args.scenes, "figures": figures, "effect_by_kind": by_kind, "rows": rows}
    write_whole(file, json.dumps(told, indent=1).encode())


def read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def all_measured(args: argparse.Namespace) -> dict[str, dict[int, dict]]:
    """What was measured of each row so far, by seed."""
    found: dict[str, dict[int, dict]] = {}
    for one in TRAININGS:
        for seed in range(args.seeds):
            file = args.out / f"seed_{seed}" / one.name / MEASURED
            if file.is_file() and (measured := read(file))["scenes"] == args.scenes:
                found.setdefault(one.name, {})[seed] = measured
    return found


def report(args: argparse.Namespace) -> None:
    """Write --json and OUT/proof.json as far as there are figures."""
    found = all_measured(args)
    runs = {
        name: {key: round(float(np.mean([one["figures"][key] for one in some.values()])), 4) for key in NAMES}
        for name, some in found.items()
    }
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"runs": runs}, indent=1), encoding="utf-8")
    kinds = {name: [one["effect_by_kind"] for one in some.values()] for name, some in found.items()}
    told = {"runs": runs, "scenes": args.scenes, "gains": gains(found), "effect_by_kind": kinds}
    (args.out / "proof.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


def gains(found: dict[str, dict[int, dict]]) -> dict[str, dict[str, float]]:
    """Each row's gain in Weighted over base and stage 1, with its standard error over scenes.

    Rows that reason are compared with the base and the stage 1 that reason, and with the same row without reasoning.

    Of a scene the mean over the seeds that both rows have counts: all seeds are measured on the same scenes, so a
    scene is no new one for each of them.
    """
    told = {}
    for name, other in [(one, other) for one in found for other in _compared_with(one) if other in found]:
        seeds = sorted(found[name].keys() & found[other].keys())
        if not seeds:
            continue
        mine, its = (
            np.mean([[row["weighted"] for row in found[one][seed]["rows"]] for seed in seeds], axis=0)
            for one in (name, other)
        )
        differences = mine - its
        error = float(np.std(differences, ddof=1) / np.sqrt(len(differences))) if len(differences) > 1 else 0.0
        told[f"{name} - {other}"] = {
            "weighted": round(float(np.mean(differences)), 4), "standard_error": round(error, 4)
        }  # fmt: skip
    return told


def _compared_with(name: str) -> list[str]:
    plain = name.removesuffix(REASONING)
    others = [other + name[len(plain) :] for other in ("base", "stage1")]
    others = others[: others.index(name)] if name in others else others
    return others if plain == name else [*others, plain]


def in_words(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {figures[name]:.3f}" for name in NAMES)


def table(args: argparse.Namespace) -> str:
    """The figures as Markdown, and the gains with their standard errors."""
    report(args)
    found = read(args.out / "proof.json")
    lines = [f"| run | {' | '.join(NAMES)} |", f"|---|{'---|' * len(NAMES)}"]
    lines += [
        f"| {name} | " + " | ".join(f"{row[key]:.3f}" for key in NAMES) + " |" for name, row in found["runs"].items()
    ]
    lines += [
        f"{name}: Weighted {one['weighted']:+.3f} +- {one['standard_error']:.3f}"
        for name, one in found["gains"].items()
    ]
    return "\n".join(lines)


def curves(folder: Path) -> None:
    """Rewards of training and of held-out greedy replies, all rows of a seed in one picture each."""
    for file, column, target in ((HISTORY, "reward", "rewards.png"), (FIGURES, "reward", "held_out.png")):
        lines = {}
        for one in TRAININGS:
            path = folder / one.name / file
            if path.is_file():
                lines[one.name] = [(row["step"], row[column]) for row in rows_of(path)]
        draw_lines(lines, folder / target, f"{folder.name}: {'training' if file == HISTORY else 'held-out'} reward")


if __name__ == "__main__":
    sys.exit(main())
