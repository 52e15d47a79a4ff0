"""Train the toy world's models: `python tools/toyworld/train.py codec --folder out/codec`.

Interrupt it whenever you like; the same command goes on where it stopped. The folder gets a checkpoint, a picture of
the loss, and at the end the weights in safetensors (fp16), which ComfyUI's own loaders take. Needs torch, no ComfyUI.
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
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

if not __package__:  # run as a script
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from bench import import_pack

    import_pack()

from replan.tools.toyworld.codec import CELL, Codec, codec_loss, host_weights
from replan.tools.toyworld.samples import Pictures, in_order
from replan.tools.toyworld.scenes import SIZE, SceneError, checked_size
from replan.tools.toyworld.training import Run, Settings, TrainingError

CODEC_FILE = "toyworld_codec.safetensors"


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
    run = Run(folder, settings, Codec().to(device))
    batches = Pictures(settings.seed, settings.batch, settings.size, settings.crop, run.step, settings.steps)

    def loss_of(batch: torch.Tensor, step: int) -> tuple[torch.Tensor, float]:
        generator = torch.Generator().manual_seed(settings.seed * 2**32 + step)
        loss = codec_loss(run.model, batch.to(device).float() / 255, generator)
        return loss.total, loss.psnr

    if not run.train(in_order(batches, workers), loss_of, say, stop=stop):
        say(f"stopped at step {run.step} of {settings.steps}; the same command goes on from there")
        return None
    file = folder / CODEC_FILE
    _export(file, host_weights(run.average), settings)
    say(f"{file}: {file.stat().st_size / 2**20:.1f} MiB, SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()}")
    return file


def _export(file: Path, weights: dict[str, torch.Tensor], settings: Settings) -> None:
    unfinished = file.with_name(f"{file.name}.part")
    # One entry: safetensors writes several in any order, and the file's hash would be another each time.
    save_file(weights, unfinished, metadata={"settings": json.dumps(vars(settings))})
    os.replace(unfinished, file)


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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("codec",))
    parser.add_argument("--folder", type=Path, required=True, help="where checkpoint, curve and weights go")
    parser.add_argument("--steps", type=int, default=20_000, help="(default: 20000)")
    parser.add_argument("--batch", type=int, default=16, help="pictures a step, an even number (default: 16)")
    parser.add_argument("--size", type=int, default=SIZE, help=f"pixels along a scene's side (default: {SIZE})")
    parser.add_argument("--crop", type=int, help="train on random pieces with this side, a multiple of 8: faster on a CPU")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate (default: 0.001)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, scenes and noise (default: 0)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw scenes ahead; 8 or so for a GPU")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long, to go on another time")
    args = parser.parse_args(arguments)
    if args.steps < 1 or args.batch < 2 or args.batch % 2:
        parser.error("give at least one step, and an even batch of at least 2")
    crop = args.size if args.crop is None else args.crop
    if not 0 < crop <= args.size or crop % CELL:
        parser.error(f"a crop is a multiple of {CELL} up to the scene's {args.size} pixels, not {crop}")
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        settings = Settings("codec", args.seed, args.steps, args.batch, checked_size(args.size), crop, args.rate)
        train_codec(args.folder, settings, args.device, args.workers, _Stop(args.seconds))
    except (SceneError, TrainingError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
