"""What does redo gain? `python tools/toyworld/redo_benchmark.py --scenes 60`.

Held-out scenes of several regions are edited by the real ComfyUI under the region rules. The regions that failed, by
the exact scorer or by RePlan Alignment's `closer`, go through RePlan Failed Regions into a second edit of the first
result. Beside it: all regions again on the first result, and a second try on the original. Printed: the exact scores of
each, the gain scene by scene, and what became of the failed regions.

Rendered images stay in --folder, so that the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

TOOLS = Path(__file__).resolve().parents[1]
sys.path.append(str(TOOLS))

from host_setup import ROOT  # noqa: E402
from toyworld.kept_edits import options_for, run, say  # noqa: E402

MEASURES = ("target", "effect", "consistency", "weighted")
# Rows of the table: name, edits it takes, what it is. Of two images the second is taken only where it scores higher.
ROWS = {
    "first": (1, "the first edit"),
    "redo_exact": (2, "regions that failed by the exact scorer, on the first result"),
    "redo_exact_kept": (2, "the same, where its share of regions done rose"),
    "best_of_two_exact": (2, "second try on the original, where its share of regions done is higher"),
    "redo_closer": (2, "regions that failed by `closer`, on the first result"),
    "redo_closer_kept": (2, "the same, where its mean `closer` rose"),
    "best_of_two_closer": (2, "second try on the original, where its mean `closer` is higher"),
    "redo_all": (2, "all regions, on the first result"),
    "patch_exact": (2, "boxes that failed by the exact scorer, cut out of the second try into the first result"),
    "patch_closer": (2, "the same for boxes that failed by `closer`"),
    "second_try": (2, "second try on the original, always taken"),
}
PAIRS = (
    ("redo_exact", "best_of_two_exact"),
    ("redo_exact", "patch_exact"),
    ("redo_exact", "redo_all"),
    ("redo_closer", "best_of_two_closer"),
    ("redo_closer", "patch_closer"),
    ("redo_closer", "redo_all"),
    ("redo_closer_kept", "best_of_two_closer"),
)


def main(arguments: list[str] | None = None) -> int:
    parser = options_for(__doc__, 60, "redo")
    parser.add_argument("--regions", type=int, choices=(1, 2, 4, 8), default=4, help="of each scene (default: 4)")
    return run(__file__, parser, arguments, _render, _score, tables)


def _render(args: argparse.Namespace) -> int:
    """Render what is missing; how many scenes there are to score."""
    from replan.tools.host_server import HostServer
    from replan.tools.toyworld import weights
    from replan.tools.toyworld.dual_encoder import ensure_dual_encoder
    from replan.tools.toyworld.editing import Editing
    from replan.tools.toyworld.redo_edits import method_of, render, rendered

    print_of = weights.fingerprint(args.weights or weights.WEIGHTS)
    args.folder = args.folder / f"regions{args.regions}_seed{args.seed}_steps{args.steps}_{print_of}"
    missing = any(rendered(args.folder, index) is None for index in range(args.scenes))
    if missing and args.seconds > 0:
        models, own = ROOT / ".host" / "models", [args.weights] if args.weights else []
        weights.ensure(models, *own)
        ensure_dual_encoder(models, *own)
        end = time.monotonic() + args.seconds
        with (
            tempfile.TemporaryDirectory(prefix="replan_redo_") as base,
            HostServer(
                args.comfyui, base=Path(base), pack=ROOT, models=models,
                extra_nodes={"toyworld_nodes": TOOLS / "toyworld" / "comfyui_nodes"},
                flags=("--cpu", "--cache-lru", "64"),  # loaded encoders stay, also for prompts without them in between
            ) as server,
        ):  # fmt: skip
            editing = Editing(server, Path(base), args.steps)
            try:
                render(
                    editing, args.folder, method_of(args.regions), args.seed, args.scenes, say,
                    lambda: time.monotonic() > end,
                )  # fmt: skip
            except KeyboardInterrupt:
                say("stopped")
    return next((index for index in range(args.scenes) if rendered(args.folder, index) is None), args.scenes)


def _score(args: argparse.Namespace, count: int) -> list[dict]:
    """Of each scene, every edit: the exact scores, and of each region whether it is done and its `closer`."""
    import torch
    from replan.evaluation.choose import failed_regions
    from replan.evaluation.scores import Scores
    from replan.tools.toyworld import scoring
    from replan.tools.toyworld.alignment_benchmark import load_aligners
    from replan.tools.toyworld.descriptions import described_plan
    from replan.tools.toyworld.editing import Editing
    from replan.tools.toyworld.redo_edits import method_of, rendered, told_file

    align, _ = load_aligners(args.comfyui, args.weights)

    def tensor(pixels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(pixels.copy())[None].float() / 255

    rows = []
    for index in range(count):
        task = Editing.task(method_of(args.regions), args.seed, index)
        plan, before = described_plan(task), tensor(task.scene.pixels)
        told = Scores.from_json(told_file(args.folder, index).read_text(encoding="utf-8"))
        failed = {region.id for region in failed_regions(plan, told).plan.regions}
        images = rendered(args.folder, index)
        done = [one.reached for one in scoring.outcomes(task, images["first"])]
        undone = {region.id for region, reached in zip(plan.regions, done, strict=True) if not reached}
        for name, which in (("patch_exact", undone), ("patch_closer", failed)):
            boxes = [region.box for region in plan.regions if region.id in which]
            images[name] = patched(images["first"], images["second_try"], boxes)
        edits = {}
        for name, pixels in images.items():
            exact = scoring.score(task, pixels)
            closer = align(tensor(pixels), plan, before=before).scores.regions
            edits[name] = {
                "target": exact.target,
                "effect": exact.effect,
                "consistency": exact.consistency,
                "weighted": exact.weighted,
                "done": [bool(one.reached) for one in scoring.outcomes(task, pixels)],
                "closer": [closer[region.id]["closer"] for region in plan.regions],
            }
        rows.append({"scene": index, "edits": edits, "failed_closer": [region.id in failed for region in plan.regions]})
    return rows


def patched(first: np.ndarray, second: np.ndarray, boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """The first image with boxes of the second: both (size, size, 3)."""
    image = first.copy()
    for box in boxes:
        left, top, right, bottom = (int(edge) for edge in box)
        image[top:bottom, left:right] = second[top:bottom, left:right]
    return image


def tables(rows: Sequence[Mapping]) -> str:
    """The figures in Markdown."""
    regions = sum(len(row["failed_closer"]) for row in rows)
    lines = [f"{len(rows)} scenes, {regions} regions", "", *_means(rows), "", *_differences(rows), "", *_fates(rows)]
    return "\n".join(lines)


def taken(row: Mapping, name: str) -> Mapping:
    """The edit of a scene that a row of the table takes."""
    edits = row["edits"]
    if name in edits:
        return edits[name]
    by = "done" if "exact" in name else "closer"
    other = edits["second_try" if name.startswith("best") else name.removesuffix("_kept")]
    first = edits["first"]
    return other if sum(other[by]) > sum(first[by]) + 1e-6 else first


def _means(rows: Sequence[Mapping]) -> list[str]:
    from replan.tools.toyworld.alignment_benchmark import mean_and_error

    heads = [measure.capitalize() for measure in MEASURES]
    lines = ["| " + " | ".join(["image", "edits", *heads, "Weighted minus first"]) + " |", "|---" * 7 + "|"]
    for name, (edits, what) in ROWS.items():
        found = [taken(row, name) for row in rows]
        cells = [mean_and_error([one[measure] for one in found]) for measure in MEASURES]
        gain = mean_and_error(_gain(rows, name, "first", "weighted"), "+") if name != "first" else ""
        lines.append("| " + " | ".join([f"{name}: {what}", str(edits), *cells, gain]) + " |")
    return lines


def _differences(rows: Sequence[Mapping]) -> list[str]:
    from replan.tools.toyworld.alignment_benchmark import mean_and_error

    lines = ["| scene by scene | Effect | Weighted |", "|---|---|---|"]
    for one, other in PAIRS:
        cells = [mean_and_error(_gain(rows, one, other, measure), "+") for measure in ("effect", "weighted")]
        lines.append(f"| {one} minus {other} | {cells[0]} | {cells[1]} |")
    return lines


def _gain(rows: Sequence[Mapping], one: str, other: str, measure: str) -> list[float]:
    return [taken(row, one)[measure] - taken(row, other)[measure] for row in rows]


def _fates(rows: Sequence[Mapping]) -> list[str]:
    """Regions, by what they were after the first edit: how many were given up as failed, and were done afterwards."""
    lines = [
        "| after the first edit | regions | failed by `closer` | done after redo_exact | redo_closer | redo_all "
        "| second_try |",
        "|---" * 7 + "|",
    ]
    each = [
        (
            row["edits"]["first"]["done"][i],
            failed,
            *(row["edits"][name]["done"][i] for name in ("redo_exact", "redo_closer", "redo_all", "second_try")),
        )
        for row in rows
        for i, failed in enumerate(row["failed_closer"])
    ]
    for state, what in ((True, "done"), (False, "failed")):
        own = [one for one in each if one[0] == state]
        cells = [str(sum(one[column] for one in own)) for column in range(1, 6)]
        lines.append("| " + " | ".join([what, str(len(own)), *cells]) + " |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
