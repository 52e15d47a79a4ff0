"""Train the toy world's models: `python tools/toyworld/train.py codec --folder out/codec`, then `editor`.

Interrupt it whenever you like; the same command goes on where it stopped. The folder gets a checkpoint, a picture of
the loss, and at the end the weights in safetensors (fp16), which ComfyUI's own loaders take. Texts and editor need
a ComfyUI for its tokenizer. Exit status 3: stopped before the last step.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

if not __package__:  # run as a script
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from bench import import_pack

    import_pack()

from replan.tools.toyworld import editor
from replan.tools.toyworld.codec import CELL, Codec, codec_loss, host_weights
from replan.tools.toyworld.editor_training import Pupil, editor_loss, of_editor
from replan.tools.toyworld.latents import SHARD, Batch, Latents
from replan.tools.toyworld.planner_folder import of_planner, planner_weights
from replan.tools.toyworld.planner_model import make_model, make_processor, save
from replan.tools.toyworld.planner_training import Batch as PlannerBatch
from replan.tools.toyworld.planner_training import Pupil as PlannerPupil
from replan.tools.toyworld.planner_training import planner_loss, training_batch
from replan.tools.toyworld.samples import Pictures, in_order
from replan.tools.toyworld.scenes import SIZE, SceneError, checked_size
from replan.tools.toyworld.text_training import Sentences, sentences, text_loss
from replan.tools.toyworld.texts import Encoded, Reader, TextEncoder, Words
from replan.tools.toyworld.trained import codec_weights, editor_weights, grown, publish_folder, text_weights
from replan.tools.toyworld.training import Run, Settings, TrainingError, weights_of
from replan.tools.toyworld.weights import CODEC as CODEC_FILE
from replan.tools.toyworld.weights import EDITOR as EDITOR_FILE
from replan.tools.toyworld.weights import PLANNER, TEXTS, WEIGHTS, WeightsError, checked

ROOT = Path(__file__).resolve().parents[2]
STOPPED = 3  # exit status of a training that was told to leave the rest for another time


def train_codec(
    folder: Path,
    settings: Settings,
    device: str = "cpu",
    workers: int = 0,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Train, or go on training, the codec; the exported file once it has reached its last step, else None.

    stop: asked after every step whether to save and leave the rest for another time.
    """
    torch.manual_seed(settings.seed)
    run = Run(folder, settings, Codec().to(device, memory_format=torch.channels_last))
    batches = Pictures(settings.seed, settings.batch, settings.size, settings.crop, run.step, settings.steps)

    def loss_of(batch: torch.Tensor, step: int) -> tuple[torch.Tensor, float]:
        generator = torch.Generator().manual_seed(settings.seed * 2**32 + step)
        pictures = batch.to(device, memory_format=torch.channels_last).float() / 255
        loss = codec_loss(run.model, pictures, generator)
        return loss.total, loss.psnr

    if not run.train(in_order(batches, workers), loss_of, say, stop=stop):
        say(f"stopped at step {run.step} of {settings.steps}; the same command goes on from there")
        return None
    return _finished(folder / CODEC_FILE, host_weights(run.average), settings, say)


def train_texts(
    folder: Path,
    settings: Settings,
    words: Words,
    device: str = "cpu",
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Train, or go on training, the text encoder on sentences; as `train_codec`. A minute, 0.8 MB."""
    run = Run(folder, settings, Reader(settings.seed).to(device))

    def loss_of(batch: Sentences, step: int) -> tuple[torch.Tensor, float]:
        return text_loss(run.model, batch.to(device))

    steps = range(run.step, settings.steps)
    batches = (sentences(settings.seed, step, settings.batch, words) for step in steps)
    if not run.train(batches, loss_of, say, stop=stop):
        say(f"stopped at step {run.step} of {settings.steps}; the same command goes on from there")
        return None
    weights = {name: value.half().cpu().contiguous() for name, value in run.average.items()}
    return _finished(folder / TEXTS, weights, settings, say)


def train_editor(
    folder: Path,
    settings: Settings,
    codec: Path,
    texts: TextEncoder,
    device: str = "cpu",
    shards: int = 40,
    start: Mapping[str, torch.Tensor] | None = None,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Train, or go on training, the editor on the latents of a trained codec's file; as `train_codec`.

    texts: gives features for instructions. shards: of samples in all (`latents.SHARD` each); a run draws from more
    and more of them. start: weights to begin with (default: fresh ones from the seed).
    """
    encode, key = load_encoder(codec, device, settings.half)
    pool = Latents(
        folder / "latents",
        settings.seed,
        settings.size,
        shards,
        max(1, settings.steps // 2 // shards),
        encode,
        key,
    )
    model = editor.make_editor(settings.seed)
    if start is not None:
        model.load_state_dict(grown(model, start))
    run = Run(folder, settings, Pupil(model, settings.seed).to(device))

    def loss_of(batch: Batch, step: int) -> tuple[torch.Tensor, float]:
        generator = torch.Generator().manual_seed(settings.seed * 2**32 + step)
        encoded = Encoded(*(value.to(device) for value in texts.together(batch.texts)))
        return editor_loss(run.model, batch.to(device), encoded, generator)

    batches = (pool.batch(step, settings.batch) for step in range(run.step, settings.steps))
    if not run.train(batches, loss_of, say, stop=stop):
        say(f"stopped at step {run.step} of {settings.steps}; the same command goes on from there")
        return None
    return _finished(folder / EDITOR_FILE, editor.host_weights(of_editor(run.average)), settings, say)


def train_planner(
    folder: Path,
    settings: Settings,
    device: str = "cpu",
    start: Mapping[str, torch.Tensor] | None = None,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Train, or go on training, the planner; the folder that RePlan Load Planner reads once it is done, else None.

    The measure is the share of box edges that are off by four pixels at most, each told the ones before it.
    """
    processor = make_processor()
    model = make_model(settings.seed)
    if start is not None:
        model.load_state_dict(start)
    run = Run(folder, settings, PlannerPupil(model, settings.seed).train().to(device))

    def loss_of(batch: PlannerBatch, step: int) -> tuple[torch.Tensor, float]:
        return planner_loss(run.model, batch.to(device))

    steps = range(run.step, settings.steps)
    batches = (training_batch(settings.seed, step, settings.batch, settings.size, processor) for step in steps)
    if not run.train(batches, loss_of, say, stop=stop):
        say(f"stopped at step {run.step} of {settings.steps}; the same command goes on from there")
        return None
    model = make_model(settings.seed)
    model.load_state_dict(of_planner(run.average))
    made = save(model, processor, folder / PLANNER)
    say(f"{made}: {sum(file.stat().st_size for file in made.iterdir()) / 2**20:.1f} MiB")
    return made


def load_encoder(file: Path, device: str, half: bool) -> tuple[Callable[[torch.Tensor], torch.Tensor], str]:
    """The encoder of an exported codec, and the file's hash. Raises TrainingError when the file is no codec's."""
    codec = Codec()
    codec.load_state_dict(codec_weights(file))
    codec.to(device, memory_format=torch.channels_last)

    def encode(pictures: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=half):
            return codec.encode(pictures.to(device, memory_format=torch.channels_last)).float()

    return encode, hashlib.sha256(file.read_bytes()).hexdigest()


def load_texts(file: Path, comfyui: Path) -> TextEncoder:
    """The text encoder of an exported file. Raises TrainingError when the file or the ComfyUI is none."""
    weights = text_weights(file)
    _words(comfyui)
    return TextEncoder(comfyui, weights)


def _finished(
    file: Path, weights: dict[str, torch.Tensor], settings: Settings, say: Callable[[str], None]
) -> Path:
    _export(file, weights, settings)
    say(
        f"{file}: {file.stat().st_size / 2**20:.1f} MiB, SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()}"
    )
    return file


def _export(file: Path, weights: dict[str, torch.Tensor], settings: Settings) -> None:
    unfinished = file.with_name(f"{file.name}.part")
    # One entry: safetensors writes several in any order, and the file's hash would be another each time.
    save_file(weights, unfinished, metadata={"settings": json.dumps(vars(settings))})
    os.replace(unfinished, file)


def newest_comfyui() -> Path:
    """The ComfyUI that set-up put below the checkout."""
    found = sorted((ROOT / ".host").glob("comfyui-*.*"), key=lambda folder: [int(n) for n in folder.name.split("-")[1].split(".")])
    if not found:
        raise TrainingError(
            "no ComfyUI below .host: run `python tools/host_setup.py` first, or give one with --comfyui"
        )
    return found[-1]


def _start(place: Path) -> dict[str, torch.Tensor]:
    """Weights to begin with: of a run's folder, or of a published file."""
    if place.is_dir():
        weights = of_editor(weights_of(place))
        if not weights:
            raise TrainingError(f"{place} cannot be started from: its checkpoint is of another model or an older training; give the weights it exported")
        return weights
    return editor_weights(_own(place))


def _own(file: Path) -> Path:
    """A file to read. One that is published must be what its hash says."""
    published = file.parent.resolve() == WEIGHTS and file.name in (CODEC_FILE, EDITOR_FILE, TEXTS)
    return checked(file.name) if published else file


def _words(comfyui: Path) -> Words:
    try:
        return Words(comfyui)
    except OSError as error:
        raise TrainingError(f"{comfyui} is no ComfyUI ({str(error).splitlines()[0]}); give its folder with --comfyui") from None


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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("codec", "texts", "editor", "planner", "publish"))
    parser.add_argument("--folder", type=Path, required=True, help="where checkpoint, curve and weights go")
    parser.add_argument("--steps", type=int, default=20_000, help="(default: 20000)")
    parser.add_argument(
        "--batch", type=int, default=16, help="pictures a step, an even number; for the planner scenes (default: 16)"
    )
    parser.add_argument(
        "--size", type=int, default=SIZE, help=f"pixels along a scene's side (default: {SIZE})"
    )
    parser.add_argument(
        "--crop", type=int, help="train on random pieces with this side, a multiple of 8: faster on a CPU"
    )
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate (default: 0.001)")
    parser.add_argument(
        "--half", action="store_true", help="compute in bfloat16, where the CPU or GPU is fast at it"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, scenes and noise (default: 0)")
    parser.add_argument(
        "--codec", type=Path, default=WEIGHTS / CODEC_FILE, help="for the editor"
    )
    parser.add_argument("--texts", type=Path, default=WEIGHTS / TEXTS, help="for the editor: a trained text encoder")
    parser.add_argument("--muon", action="store_true", help="for editor and planner: Muon for the matrices of its blocks")
    parser.add_argument(
        "--start", type=Path, help="for editor and planner: weights to begin with, a run's folder or what was published"
    )
    parser.add_argument(
        "--shards", type=int, default=40, help=f"for the editor: how many times {SHARD} samples to encode (default: 40)"
    )
    parser.add_argument(
        "--comfyui", type=Path, help="for the editor: a ComfyUI, whose tokenizer numbers the words"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    parser.add_argument(
        "--workers", type=int, default=0, help="for the codec: processes that draw scenes ahead; 8 or so for a GPU"
    )
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="stop after so long, to go on another time"
    )
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
        start = (planner_weights if args.what == "planner" else _start)(args.start)
        settings = replace(settings, start=f"{args.start.name} {_hash(start)}")
    if args.what == "codec":
        return train_codec(args.folder, settings, args.device, args.workers, stop)
    if args.what == "planner":
        return train_planner(args.folder, settings, args.device, start, stop)
    comfyui = args.comfyui or newest_comfyui()
    if args.what == "texts":
        return train_texts(args.folder, settings, _words(comfyui), args.device, stop)
    codec, texts = _own(args.codec), _own(args.texts)
    learnt = load_texts(texts, comfyui)
    codec_weights(codec)
    files = (f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()[:12]}" for file in (codec, texts))
    settings = replace(settings, data=", ".join((*files, f"{args.shards} shards")))
    return train_editor(args.folder, settings, codec, learnt, args.device, args.shards, start, stop)


if __name__ == "__main__":
    sys.exit(main())
