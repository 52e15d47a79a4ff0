"""Train the toy world's models: `python tools/training/train.py codec --folder out/codec`, then `editor`.

Interrupt it whenever you like; the same command goes on where it stopped. The folder gets a checkpoint, a curve of
the loss, and at the end the weights in safetensors (fp16), which ComfyUI's own loaders take. Texts and editor need
a ComfyUI for its tokenizer. Exit status 3: stopped before the last step.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

if not __package__:  # run as a script
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from bench import import_pack

    import_pack()

from replan.tools.toyworld.scenes import SIZE, SceneError, checked_size
from replan.tools.toyworld.weights import CODEC as CODEC_FILE
from replan.tools.toyworld.weights import EDITOR as EDITOR_FILE
from replan.tools.toyworld.weights import TEXTS, WEIGHTS, WeightsError, checked
from replan.tools.training.codec import CELL
from replan.tools.training.exported import codec_weights, editor_weights, publish_folder, text_weights
from replan.tools.training.latents import SHARD
from replan.tools.training.model_trainings import (
    load_texts,
    newest_comfyui,
    train_codec,
    train_dual,
    train_editor,
    train_planner,
    train_texts,
    vectors_by,
)
from replan.tools.training.planner_model import lesson_processor, start_weights
from replan.tools.training.run import Settings, TrainingError, submodule_weights, weights_of

STOPPED = 3  # exit status of a training that was told to leave the rest for another time


def _editor_start(place: Path) -> dict[str, torch.Tensor]:
    """Weights to begin with: of a run's folder, or of a published file."""
    if place.is_dir():
        weights = submodule_weights(weights_of(place), "editor")
        if not weights:
            raise TrainingError(
                f"{place} cannot be started from: its checkpoint is of another model or an older training; "
                "give the weights it exported"
            )
        return weights
    return editor_weights(_checked_file(place))


def _checked_file(file: Path) -> Path:
    """A file to read. One that is published must be what its hash says."""
    published = file.parent.resolve() == WEIGHTS and file.name in (CODEC_FILE, EDITOR_FILE, TEXTS)
    return checked(file.name) if published else file


def _hash(weights: Mapping[str, torch.Tensor]) -> str:
    """A short name for weights: a run that begins with others is another run."""
    total = hashlib.sha256()
    for name in sorted(weights):
        total.update(weights[name].numpy().tobytes())
    return total.hexdigest()[:12]


class _Stop:
    """Whether it is time to stop: after some seconds, or at Ctrl-C or a polite request to end (SIGTERM)."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._now)

    def _now(self, *_: object) -> None:
        self.end = -math.inf

    def __call__(self) -> bool:
        return time.monotonic() >= self.end


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("codec", "texts", "editor", "planner", "dual", "publish"))
    parser.add_argument("--folder", type=Path, required=True, help="where checkpoint, curve and weights go")
    parser.add_argument("--steps", type=int, default=20_000, help="(default: 20000)")
    parser.add_argument(
        "--batch",
        type=int,
        default=16,
        help="images a step, an even number; for the planner scenes, for dual scenes and their edits (default: 16)",
    )
    parser.add_argument("--size", type=int, default=SIZE, help=f"pixels along a scene's side (default: {SIZE})")
    parser.add_argument(
        "--crop", type=int, help="train on random pieces with this side, a multiple of 8: faster on a CPU"
    )
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate (default: 0.001)")
    parser.add_argument("--half", action="store_true", help="compute in bfloat16, where the CPU or GPU is fast at it")
    parser.add_argument("--seed", type=int, default=0, help="of weights, scenes and noise (default: 0)")
    parser.add_argument("--codec", type=Path, default=WEIGHTS / CODEC_FILE, help="for the editor")
    parser.add_argument(
        "--texts", type=Path, default=WEIGHTS / TEXTS, help="for editor and dual: a trained text encoder"
    )
    parser.add_argument(
        "--muon", action="store_true", help="for editor, planner and dual: Muon for the matrices of its blocks"
    )
    parser.add_argument(
        "--start", type=Path, help="for editor and planner: weights to begin with, a run's folder or what was published"
    )
    parser.add_argument(
        "--shards", type=int, default=40, help=f"for the editor: how many times {SHARD} samples to encode (default: 40)"
    )
    parser.add_argument(
        "--comfyui", type=Path, help="for texts, editor and dual: a ComfyUI, whose tokenizer numbers the words"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    parser.add_argument(
        "--workers", type=int, default=0, help="for the codec: processes that draw scenes ahead; 8 or so for a GPU"
    )
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long, to go on another time")
    return parser


def _checked(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Settings:
    """The run's settings. What cannot be ends the program with a word on stderr and status 2."""
    if args.steps < 1 or args.batch < 2 or args.batch % 2:
        parser.error("give at least one step, and an even batch of at least 2")
    try:
        checked_size(args.size)
    except SceneError as error:
        parser.error(f"--size: {error}")
    crop = args.size if args.crop is None else args.crop
    if not 0 < crop <= args.size or crop % CELL:
        parser.error(f"a crop is a multiple of {CELL} up to the scene's {args.size} pixels, not {crop}")
    if not 0 < args.rate < 1:
        parser.error(f"a learning rate lies between 0 and 1, not {args.rate}")
    if not 0 <= args.seed < 2**31:
        parser.error(f"a seed is a whole number from 0 to {2**31 - 1}, not {args.seed}")
    if args.shards < 1 or args.workers < 0 or (args.threads is not None and args.threads < 1):
        parser.error("give at least one shard and one thread, and no negative number of workers")
    try:
        torch.zeros(1, device=args.device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f"--device {args.device} cannot be used: {str(error).splitlines()[0]}")
    if args.start and args.what not in ("editor", "planner"):
        parser.error(f"--start is for editor and planner, not for {args.what}")
    return Settings(
        args.what, args.seed, args.steps, args.batch, args.size, crop, args.rate, half=args.half, muon=args.muon
    )


def main(arguments: list[str] | None = None) -> int:
    parser = _options()
    args = parser.parse_args(arguments)
    if args.what == "publish":
        return publish_folder(args.folder)
    settings = _checked(parser, args)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        return 0 if _train(args, settings, _Stop(args.seconds)) else STOPPED
    except (SceneError, TrainingError, WeightsError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1


def _train(args: argparse.Namespace, settings: Settings, stop: _Stop) -> Path | None:
    """Train what the arguments ask for; the exported file once that is done."""
    start = None
    if args.start:
        planner = args.what == "planner"
        start = start_weights(args.start, lesson_processor()) if planner else _editor_start(args.start)
        settings = replace(settings, start=f"{args.start.name} {_hash(start)}")
    if args.what == "codec":
        return train_codec(args.folder, settings, args.device, args.workers, stop)
    if args.what == "planner":
        return train_planner(args.folder, settings, args.device, start, stop)
    comfyui = args.comfyui or newest_comfyui()
    if args.what == "texts":
        return train_texts(args.folder, settings, vectors_by(comfyui), args.device, stop)
    if args.what == "dual":
        texts = _checked_file(args.texts)
        settings = replace(settings, data=f"{texts.name} {hashlib.sha256(texts.read_bytes()).hexdigest()[:12]}")
        return train_dual(args.folder, settings, text_weights(texts), vectors_by(comfyui), args.device, stop)
    codec, texts = _checked_file(args.codec), _checked_file(args.texts)
    encoder = load_texts(texts, comfyui)
    codec_weights(codec)
    files = (f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()[:12]}" for file in (codec, texts))
    settings = replace(settings, data=", ".join((*files, f"{args.shards} shards")))
    return train_editor(args.folder, settings, codec, encoder, args.device, args.shards, start, stop)


if __name__ == "__main__":
    sys.exit(main())
