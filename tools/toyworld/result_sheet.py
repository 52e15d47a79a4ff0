"""Pictures of what methods made of the same scenes, side by side with what was meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from replan.planner.plan import RegionPlan

from .scoring import score
from .tasks import Task

SHOWN, GAP, LINE = 160, 6, 16
INK, FAINT, PAPER = (20, 20, 20), (95, 95, 95), (255, 255, 255)


def writes_pictures(file: Path) -> bool:
    """Whether a file's name ends as a kind of picture that can be written (Pillow reads more kinds than it writes)."""
    return Image.registered_extensions().get(file.suffix.lower()) in Image.SAVE


def enlarged(pixels: np.ndarray, side: int = SHOWN) -> Image.Image:
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)


def with_boxes(task: Task, side: int = SHOWN, plan: RegionPlan | None = None) -> Image.Image:
    """The scene with a plan's boxes on it (default: the true one's)."""
    picture = enlarged(task.scene.pixels, side)
    pen, scale = ImageDraw.Draw(picture), side / task.scene.size
    for region in (plan or task.plan).regions:
        x1, y1, x2, y2 = (edge * scale for edge in region.box)
        pen.rectangle((x1 - 2, y1 - 2, x2 + 1, y2 + 1), outline=(0, 0, 0))
        pen.rectangle((x1 - 1, y1 - 1, x2, y2), outline=(255, 255, 255))
    return picture


def heat(task: Task, result: np.ndarray, side: int = SHOWN) -> Image.Image:
    """Where a result differs from what was meant: black is equal, white half of the range or more."""
    off = np.abs(result.astype(int) - task.wanted.pixels.astype(int)).max(-1)
    level = np.clip(off * 2, 0, 255)
    pixels = np.stack((level, np.clip(level * 2 - 255, 0, 255), np.clip(level * 3 - 510, 0, 255)), -1)
    return enlarged(pixels.astype(np.uint8), side)


def demo_sheet(
    task: Task,
    edits: dict[str, np.ndarray],
    plan: RegionPlan | None = None,
    asked: str = "",
    side: int = 320,
    request: str = "",
) -> Image.Image:
    """One task at length: scene and plan, what is meant, then each edit over the heat map of its error.

    plan: what a planner made of it. asked: a request of the user's own, of which nobody knows the exact target: then
    the sheet shows the edits alone. request: the scene's own, that the planner read (default: the hints).
    """
    large, small = ImageFont.load_default(16), ImageFont.load_default(13)
    columns, top, rows = 1 + len(edits), LINE + 10, 1 if asked else 2
    page = Image.new("RGB", (columns * (side + GAP) + GAP, rows * (side + top + LINE) + 3 * LINE), PAPER)
    pen = ImageDraw.Draw(page)

    def put(column: int, row: int, title: str, said: str, picture: Image.Image) -> None:
        x, y = GAP + column * (side + GAP), GAP + row * (side + top + LINE)
        pen.text((x, y), title, INK, large)
        page.paste(picture, (x, y + top - GAP))
        pen.text((x, y + top + side - 4), said, FAINT, small)

    put(0, 0, "scene and plan", "", with_boxes(task, side, plan))
    if not asked:
        put(0, 1, "what is meant", "", enlarged(task.wanted.pixels, side))
    for column, (name, pixels) in enumerate(edits.items(), 1):
        if asked:
            put(column, 0, name, "", enlarged(pixels, side))
            continue
        one = score(task, pixels)
        put(column, 0, name, f"Target {one.target:.2f}  Effect {one.effect:.2f}", enlarged(pixels, side))
        put(
            column,
            1,
            f"{name}: error",
            f"{one.spilled}, {one.consistency_psnr:.1f} dB outside",
            heat(task, pixels, side),
        )
    words = (
        f'"{asked or request}"'
        if asked or request
        else "; ".join(f'"{instruction.text}"' for _, instruction in task.asked)
    )
    pen.text((GAP, page.height - 2 * LINE), words, INK, large)
    return page


def result_sheet(
    rows: list[list[tuple[str, Task, np.ndarray]]], plans: Sequence[RegionPlan | None] = ()
) -> Image.Image:
    """One row per scene: its plan, what is meant, and each method's result with its scores.

    plans: what a planner made of each scene, shown in place of the true plan; none where it made none.
    """
    small = ImageFont.load_default(11)
    columns = 2 + max(len(row) for row in rows)
    height = SHOWN + 4 * LINE + GAP
    page = Image.new("RGB", (columns * (SHOWN + GAP) + GAP, len(rows) * height + GAP), PAPER)
    pen = ImageDraw.Draw(page)
    for number, row in enumerate(rows):
        task, y = row[0][1], GAP + number * height
        drawn = with_boxes(task, plan=plans[number] or task.plan.with_regions(())) if plans else with_boxes(task)
        panels = [("scene and plan", "", drawn), ("meant", "", enlarged(task.wanted.pixels))]
        for name, own, pixels in row:
            one = score(own, pixels)
            said = f"T {one.target:.2f} E {one.effect:.2f} {one.consistency_psnr:.0f} dB"
            panels.append((name, said, enlarged(pixels)))
        for place, (name, said, picture) in enumerate(panels):
            x = GAP + place * (SHOWN + GAP)
            pen.text((x, y), name, INK, small)
            page.paste(picture, (x, y + LINE))
            pen.text((x, y + LINE + SHOWN), said, FAINT, small)
        words = "; ".join(instruction.text for _, instruction in task.asked)
        pen.text((GAP, y + 2 * LINE + SHOWN), words, INK, small)
    return page
