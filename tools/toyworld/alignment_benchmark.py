"""Do alignment scores know good edits? `python tools/toyworld/alignment_benchmark.py --scenes 200`.

Held-out scenes are edited by the real ComfyUI, four times under the region rules and once by the plain instruction;
beside these stand exact edits: none, the wanted one, what the words alone ask for, a wrong object, a wrong value. Each
gets alignment scores, by the toy world's dual encoder in ComfyUI's own classes, and the exact scorer's. Printed: how
both rank the edits, and what is gained by keeping the best of four.

Rendered images stay in --folder, so that the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
sys.path.append(str(TOOLS))

from host_setup import ROOT  # noqa: E402
from toyworld.kept_edits import options_for, run, say  # noqa: E402

# Scores that are compared: name, what it is.
SCORES = {
    "alignment": "mean of scene and regions; a region in context by the mean of its features and its scene's",
    "alignment_fused": "the same with the trained fusion",
    "scene": "whole image with the scene's text",
    "crops": "mean of the regions' crops alone with their texts (CLIP-T)",
    "fused": "mean of the regions fused with their scene",
}


def main(arguments: list[str] | None = None) -> int:
    return run(__file__, options_for(__doc__, 200, "alignment"), arguments, _render, _score, tables)


def _render(args: argparse.Namespace) -> int:
    """Render what is missing; how many scenes there are to score."""
    from replan.tools.host_server import HostServer
    from replan.tools.toyworld import weights
    from replan.tools.toyworld.alignment_edits import render, rendered
    from replan.tools.toyworld.editing import Editing

    folder = args.folder / f"seed{args.seed}_steps{args.steps}_{weights.fingerprint(args.weights or weights.WEIGHTS)}"
    args.folder = folder
    missing = any(rendered(folder, index) is None for index in range(args.scenes))
    if missing and args.seconds > 0:
        models = ROOT / ".host" / "models"
        weights.ensure(models, *([args.weights] if args.weights else []))
        end = time.monotonic() + args.seconds
        with (
            tempfile.TemporaryDirectory(prefix="replan_alignment_") as base,
            HostServer(args.comfyui, base=Path(base), pack=ROOT, models=models) as server,
        ):
            editing = Editing(server, Path(base), args.steps)
            try:
                render(editing, folder, args.seed, args.scenes, say, lambda: time.monotonic() > end)
            except KeyboardInterrupt:
                say("stopped")
    return next((index for index in range(args.scenes) if rendered(folder, index) is None), args.scenes)


def _score(args: argparse.Namespace, count: int) -> list[dict]:
    """Of each scene and edit: the exact scores, and those of SCORES. Also each region, by whether it was reached."""
    import numpy as np
    import torch

    align, fused = load_aligners(args.comfyui, args.weights)
    from replan.tools.toyworld import scoring
    from replan.tools.toyworld.alignment_edits import drawn, rendered, task_of
    from replan.tools.toyworld.descriptions import described_plan

    def tensor(pixels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(pixels.copy())[None].float() / 255

    rows = []
    for index in range(count):
        task = task_of(args.seed, index)
        plan, before = described_plan(task), tensor(task.scene.pixels)
        for name, pixels in {**rendered(args.folder, index), **drawn(task)}.items():
            plain = align(tensor(pixels), plan, before=before).scores
            in_context = fused(tensor(pixels), plan).scores
            outcomes = scoring.outcomes(task, pixels)
            rows.append(
                {
                    "scene": index,
                    "edit": name,
                    "weighted": scoring.score(task, pixels).weighted,
                    "alignment": plain.image["alignment"],
                    "alignment_fused": in_context.image["alignment"],
                    "scene_score": plain.image["scene"],
                    "crops": float(np.mean([values["clip_t"] for values in plain.regions.values()])),
                    "fused": in_context.image["regions"],
                    "regions": [
                        [bool(outcome.reached), values["closer"]]
                        for outcome, values in zip(outcomes, plain.regions.values(), strict=True)
                    ],
                }
            )
        say(f"scored scene {index + 1} of {count}")
    return rows


def load_aligners(comfyui: Path, weights: Path | None = None) -> tuple:
    """Two `Aligner`s with the toy world's dual encoder, in this process: without and with its fusion."""
    sys.path.insert(0, str(comfyui))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import comfy.sd
    from replan.evaluation.alignment import Aligner
    from replan.evaluation.encoders import ImageEncoder, TextEncoder
    from replan.evaluation.fusion import load_fusion
    from replan.tools.toyworld.comfyui_nodes import load
    from replan.tools.toyworld.dual_encoder import FUSION, TEXTS, VISION, ensure_dual_encoder

    paths = ensure_dual_encoder(ROOT / ".host" / "models", *([weights] if weights else []))
    clip = comfy.sd.load_clip([str(paths[TEXTS])], clip_type=comfy.sd.CLIPType.STABLE_DIFFUSION)
    images, texts = ImageEncoder(load(paths[VISION])), TextEncoder(clip)
    return Aligner(images, texts), Aligner(images, texts, load_fusion(paths[FUSION]))


def tables(rows: Sequence[Mapping]) -> str:
    """The figures in Markdown: rank correlations, best of four, and what `closer` says of regions."""
    scenes = sorted({row["scene"] for row in rows})
    lines = [f"{len(scenes)} scenes, {len(rows)} edits", "", *_correlations(rows, scenes), "", *_best(rows, scenes)]
    return "\n".join([*lines, "", *_regions(rows)])


def _value(row: Mapping, name: str) -> float:
    return row["scene_score" if name == "scene" else name]


def _correlations(rows: Sequence[Mapping], scenes: Sequence[int]) -> list[str]:
    from scipy.stats import spearmanr

    lines = ["| score | rank correlation, all edits | within a scene |", "|---|---|---|"]
    for name in SCORES:
        overall = spearmanr([_value(row, name) for row in rows], [row["weighted"] for row in rows]).statistic
        within = []
        for scene in scenes:
            own = [row for row in rows if row["scene"] == scene]
            if len({row["weighted"] for row in own}) > 1:
                within.append(spearmanr([_value(r, name) for r in own], [r["weighted"] for r in own]).statistic)
        lines.append(f"| {name} | {overall:.3f} | {mean_and_error(within)} |")
    return lines


def _best(rows: Sequence[Mapping], scenes: Sequence[int]) -> list[str]:
    """The best of the edits under the region rules by each score, beside one taken at random and the best there is."""
    from replan.tools.toyworld.alignment_edits import RULES

    four = [[row for row in rows if row["scene"] == scene and row["edit"] in RULES] for scene in scenes]
    chance = [sum(row["weighted"] for row in own) / len(own) for own in four]
    lines = [
        "| best of 4 by | Weighted | minus random, scene by scene |",
        "|---|---|---|",
        f"| random | {mean_and_error(chance)} | |",
    ]
    for name in (*SCORES, "oracle"):
        taken = [max(own, key=lambda row: row["weighted"] if name == "oracle" else _value(row, name)) for own in four]
        found = [row["weighted"] for row in taken]
        gain = [one - other for one, other in zip(found, chance, strict=True)]
        lines.append(f"| {name} | {mean_and_error(found)} | {mean_and_error(gain, '+')} |")
    return lines


def _regions(rows: Sequence[Mapping]) -> list[str]:
    """How well `closer` tells rendered regions that became what was asked from those that did not."""
    from replan.tools.toyworld.alignment_edits import RENDERED

    found = [region for row in rows if row["edit"] in RENDERED for region in row["regions"]]
    done, failed = ([value for reached, value in found if reached == wanted] for wanted in (True, False))
    if not done or not failed:
        return []
    wins = sum((one > other) + (one == other) / 2 for one in done for other in failed) / len(done) / len(failed)
    right = sum((value >= 0.5) == reached for reached, value in found) / len(found)
    return [
        f"`closer` on {len(found)} rendered regions, {len(done)} of which became what was asked: area under the curve "
        f"{wins:.3f}; right at the threshold 0.5: {right:.3f}"
    ]


def mean_and_error(values: Sequence[float], sign: str = "") -> str:
    """Mean and its standard error."""
    from replan.tools.iv_edit.figures import mean_of

    mean = mean_of(values)
    return f"{mean.value:{sign}.3f}" + ("" if mean.error is None else f" ± {mean.error:.3f}")


if __name__ == "__main__":
    sys.exit(main())
