"""How far an editor has come, without ComfyUI's server: `python tools/training/editor_measure.py --folder out/editor`.

The first step, at full noise, decides what becomes of an object. So it is asked of held-out tasks, of every kind as
many, which share of the wanted change is still wrong then (squared error in latents, over the cells that should
change), and how many objects are below a quarter: about those that `scoring.py` would count as reached. Also how well
the codec alone gives the scenes back. The folder is a run in progress, or `tools/toyworld/weights`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

if not __package__:  # run as a script
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from bench import import_pack

    import_pack()

from replan.tools.toyworld.scenes import SIZE, held_out_seed
from replan.tools.toyworld.tasks import CHANGES, Task, held_out_task
from replan.tools.toyworld.weights import CODEC, EDITOR, TEXTS, WEIGHTS, WeightsError, checked
from replan.tools.training import editor
from replan.tools.training.codec import Codec, psnr
from replan.tools.training.editor_training import CHANGED
from replan.tools.training.exported import codec_weights, editor_weights, with_new_blocks
from replan.tools.training.model_trainings import load_texts, newest_comfyui
from replan.tools.training.run import CHECKPOINT, TrainingError, submodule_weights, weights_of
from replan.tools.training.text_encoder import TextEncoder

QUARTER = 0.25  # of the squared distance: half of the way


def tasks_of(kind: str, count: int, seed: int) -> list[Task]:
    """Held-out tasks of one kind whose words name one object alone."""
    return [held_out_task(held_out_seed(seed, index), SIZE, kind, ambiguous=False) for index in range(count)]


@torch.no_grad()
def wrong_shares(
    model: torch.nn.Module, codec: Codec, texts: TextEncoder, tasks: Sequence[Task], seed: int
) -> torch.Tensor:
    """For each task the share of its change that is wrong in the first step: (N,)."""
    before, after = (
        latents(codec, [pixels(task) for task in tasks])
        for pixels in (lambda t: t.scene.pixels, lambda t: t.wanted.pixels)
    )
    words = texts.encode_programs([[task.instructions[0][1].text] for task in tasks])
    noise = torch.randn(after.shape, generator=torch.Generator().manual_seed(seed))
    velocity, _ = editor.outputs(model, noise, before, words.features, torch.ones(len(tasks)), words.counts)
    changed = (before - after).abs().amax(1, keepdim=True) > CHANGED
    off, whole = ((one.square() * changed).sum((1, 2, 3)) for one in (noise - velocity - after, before - after))
    return off / whole


@torch.no_grad()
def latents(codec: Codec, images: Sequence[np.ndarray]) -> torch.Tensor:
    return codec.encode(torch.from_numpy(np.stack(images)).movedim(-1, 1).float() / 255)


@torch.no_grad()
def codec_psnr(codec: Codec, images: Sequence[np.ndarray]) -> list[float]:
    """How well each picture comes back, in dB."""
    found = codec.decode(latents(codec, images)).clamp(0, 1)
    wanted = torch.from_numpy(np.stack(images)).movedim(-1, 1).float() / 255
    return [psnr(float(one)) for one in (found - wanted).square().mean((1, 2, 3))]


def load_codec(file: Path) -> Codec:
    codec = Codec()
    codec.load_state_dict(codec_weights(file))
    return codec.eval()


def load_editor(place: Path) -> torch.nn.Module:
    """The editor of a run's folder (the weights it would publish) or of one with a published file."""
    if (place / CHECKPOINT).is_file():
        weights = submodule_weights(weights_of(place, average=True), "editor")
    else:
        weights = editor_weights(checked(EDITOR) if place.resolve() == WEIGHTS else place / EDITOR)
    model = editor.make_editor(0)
    try:
        model.load_state_dict(with_new_blocks(model, weights))  # blocks that an older editor lacks change nothing
    except TrainingError as error:
        raise TrainingError(f"{place}: {error}") from None
    return model.eval()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder",
        type=Path,
        default=WEIGHTS,
        help="a run's folder, or one with the editor's file (default: the published one)",
    )
    parser.add_argument("--tasks", type=int, default=30, help="of each kind (default: 30)")
    parser.add_argument("--seed", type=int, default=77, help="other tasks, all held out (default: 77)")
    parser.add_argument("--comfyui", type=Path, help="a ComfyUI, whose tokenizer numbers the words")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args(arguments)
    if args.tasks < 1:
        parser.error("give at least one task of each kind")
    try:
        model, codec = load_editor(args.folder), load_codec(checked(CODEC))
        texts = load_texts(checked(TEXTS), args.comfyui or newest_comfyui())
    except (TrainingError, WeightsError) as error:
        print(f"editor_measure.py: {error}", file=sys.stderr)
        return 1
    figures: dict[str, dict[str, float]] = {}
    scenes: list[np.ndarray] = []
    for kind in CHANGES:
        tasks = tasks_of(kind, args.tasks, args.seed)
        wrong = wrong_shares(model, codec, texts, tasks, args.seed)
        figures[kind] = {"wrong": float(wrong.mean()), "below_a_quarter": float((wrong < QUARTER).float().mean())}
        if len(wrong) > 1:  # of one task there is none, and JSON has no NaN
            figures[kind]["standard_error"] = float(wrong.std()) / len(wrong) ** 0.5
        scenes += [task.wanted.pixels for task in tasks]
    decibels = codec_psnr(codec, scenes)
    figures["codec"] = {"psnr": float(np.mean(decibels)), "worst": min(decibels), "scenes": len(scenes)}
    if args.json:
        print(json.dumps({name: {key: round(value, 4) for key, value in row.items()} for name, row in figures.items()}))
    else:
        print(
            "\n".join(
                f"{name:10} " + ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in row.items())
                for name, row in figures.items()
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
