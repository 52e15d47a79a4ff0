"""Sheets of images: what a scene's methods made of it, and what the toy world looks like.

    python tools/toyworld/sheets.py --seed 1 --out out/toyworld.png

The command draws held-out tasks (the scene with the plan's region, what the words ask for, what is meant, and where the
two change the scene), then programs of several instructions on training scenes: scene, target and where they differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if not __package__:  # run as a script
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from bench import import_pack

    import_pack()

from replan.planner.plan import RegionPlan
from replan.tools.toyworld.edits import KEEP, KINDS, difference, edited, random_program
from replan.tools.toyworld.scenes import (
    SIZE,
    TRAINING_SEEDS,
    Scene,
    SceneError,
    checked_size,
    held_out_seed,
    random_state,
    training_scene,
)
from replan.tools.toyworld.scoring import score
from replan.tools.toyworld.tasks import Task, held_out_task

SIDE, GAP, LINE = 160, 6, 16  # pixels: of a scene on a sheet of results, between scenes, of a line of text
INK, FAINT, PAPER = (20, 20, 20), (95, 95, 95), (255, 255, 255)
WORLD_SIDE, WORLD_GAP, WORLD_LINE = 224, 8, 19  # on the sheet of the world
MEANT, OTHER = (255, 255, 255), (255, 140, 0)  # in the images of what changes

Panel = tuple[str, Image.Image]


def is_image_file(file: Path) -> bool:
    """Whether Pillow can write a file of this name's ending (it reads more kinds than it writes)."""
    return Image.registered_extensions().get(file.suffix.lower()) in Image.SAVE


def enlarged(pixels: np.ndarray, side: int = SIDE) -> Image.Image:
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)


def with_boxes(task: Task, side: int = SIDE, plan: RegionPlan | None = None) -> Image.Image:
    """The scene with a plan's boxes on it (default: the true one's)."""
    image = enlarged(task.scene.pixels, side)
    pen, scale = ImageDraw.Draw(image), side / task.scene.size
    for region in (plan or task.plan).regions:
        x1, y1, x2, y2 = (edge * scale for edge in region.box)
        pen.rectangle((x1 - 2, y1 - 2, x2 + 1, y2 + 1), outline=(0, 0, 0))
        pen.rectangle((x1 - 1, y1 - 1, x2, y2), outline=(255, 255, 255))
    return image


def heat(task: Task, result: np.ndarray, side: int = SIDE) -> Image.Image:
    """Where a result differs from what was meant: black is equal, white half of the range or more."""
    off = np.abs(result.astype(int) - task.wanted.pixels.astype(int)).max(-1)
    level = np.clip(off * 2, 0, 255)
    pixels = np.stack((level, np.clip(level * 2 - 255, 0, 255), np.clip(level * 3 - 510, 0, 255)), -1)
    return enlarged(pixels.astype(np.uint8), side)


def demo_sheet(
    task: Task,
    edits: dict[str, np.ndarray],
    plan: RegionPlan | None = None,
    own_request: str = "",
    side: int = 320,
    request: str = "",
) -> Image.Image:
    """One task at length: scene and plan, what is meant, then each edit over the heat map of its error.

    plan: what a planner made of it. own_request: one of the user's own, of which nobody knows the exact target: then
    the sheet shows the edits alone. request: the scene's own, that the planner read (default: the hints).
    """
    large, small = ImageFont.load_default(16), ImageFont.load_default(13)
    columns, top, rows = 1 + len(edits), LINE + 10, 1 if own_request else 2
    page = Image.new("RGB", (columns * (side + GAP) + GAP, rows * (side + top + LINE) + 3 * LINE), PAPER)
    pen = ImageDraw.Draw(page)

    def put(column: int, row: int, title: str, caption: str, image: Image.Image) -> None:
        x, y = GAP + column * (side + GAP), GAP + row * (side + top + LINE)
        pen.text((x, y), title, INK, large)
        page.paste(image, (x, y + top - GAP))
        pen.text((x, y + top + side - 4), caption, FAINT, small)

    put(0, 0, "scene and plan", "", with_boxes(task, side, plan))
    if not own_request:
        put(0, 1, "what is meant", "", enlarged(task.wanted.pixels, side))
    for column, (name, pixels) in enumerate(edits.items(), 1):
        if own_request:
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
        f'"{own_request or request}"'
        if own_request or request
        else "; ".join(f'"{instruction.text}"' for _, instruction in task.instructions)
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
    height = SIDE + 4 * LINE + GAP
    page = Image.new("RGB", (columns * (SIDE + GAP) + GAP, len(rows) * height + GAP), PAPER)
    pen = ImageDraw.Draw(page)
    for number, row in enumerate(rows):
        task, y = row[0][1], GAP + number * height
        drawn = with_boxes(task, plan=plans[number] or task.plan.with_regions(())) if plans else with_boxes(task)
        panels = [("scene and plan", "", drawn), ("meant", "", enlarged(task.wanted.pixels))]
        for name, own, pixels in row:
            one = score(own, pixels)
            caption = f"T {one.target:.2f} E {one.effect:.2f} {one.consistency_psnr:.0f} dB"
            panels.append((name, caption, enlarged(pixels)))
        for place, (name, caption, image) in enumerate(panels):
            x = GAP + place * (SIDE + GAP)
            pen.text((x, y), name, INK, small)
            page.paste(image, (x, y + LINE))
            pen.text((x, y + LINE + SIDE), caption, FAINT, small)
        words = "; ".join(instruction.text for _, instruction in task.instructions)
        pen.text((GAP, y + 2 * LINE + SIDE), words, INK, small)
    return page


# The world


def _where(scene: Scene, *layers: tuple[np.ndarray, tuple[int, int, int]]) -> Image.Image:
    """The scene, dark and grey, with masks in colours; the last lies on top."""
    pixels = np.repeat(scene.pixels.mean(-1, keepdims=True), 3, -1).astype(np.uint8) // 3
    for mask, colour in layers:
        pixels[mask] = colour
    return enlarged(pixels, WORLD_SIDE)


def _task_panels(task: Task) -> list[Panel]:
    framed = enlarged(task.scene.pixels, WORLD_SIDE)
    (region,) = task.plan.regions
    scale = WORLD_SIDE / task.scene.size
    x1, y1, x2, y2 = (edge * scale for edge in region.box)
    pen = ImageDraw.Draw(framed)
    pen.rectangle((x1 - 3, y1 - 3, x2 + 2, y2 + 2), outline=(0, 0, 0))
    pen.rectangle((x1 - 2, y1 - 2, x2 + 1, y2 + 1), outline=(255, 255, 255), width=2)
    meant, literal = difference(task.scene, task.wanted), difference(task.scene, task.literal)
    return [
        ("scene and region", framed),
        ("what the words ask for", enlarged(task.literal.pixels, WORLD_SIDE)),
        ("what is meant", enlarged(task.wanted.pixels, WORLD_SIDE)),
        ("changes: white meant, orange not", _where(task.scene, (literal, OTHER), (meant, MEANT))),
    ]


def _program_panels(scene: Scene, target: Scene) -> list[Panel]:
    changes = _where(scene, (difference(scene, target), MEANT))
    return [
        ("scene", enlarged(scene.pixels, WORLD_SIDE)),
        ("target", enlarged(target.pixels, WORLD_SIDE)),
        ("changes", changes),
    ]


def _block(panels: list[Panel], lines: list[str], height_of_text: int) -> Image.Image:
    """Panels side by side, each with its caption, over lines of text."""
    width = len(panels) * (WORLD_SIDE + WORLD_GAP) - WORLD_GAP
    block = Image.new("RGB", (width, WORLD_LINE + WORLD_SIDE + height_of_text * WORLD_LINE + WORLD_GAP), PAPER)
    pen = ImageDraw.Draw(block)
    small, large = ImageFont.load_default(13), ImageFont.load_default(16)
    for index, (caption, image) in enumerate(panels):
        block.paste(image, (index * (WORLD_SIDE + WORLD_GAP), WORLD_LINE))
        pen.text((index * (WORLD_SIDE + WORLD_GAP), 1), caption, FAINT, small)
    for index, line in enumerate(lines):
        pen.text((0, WORLD_LINE + WORLD_SIDE + 3 + index * WORLD_LINE), line, INK, large)
    return block


def _grid(blocks: list[Image.Image], columns: int) -> Image.Image:
    rows = [blocks[i : i + columns] for i in range(0, len(blocks), columns)]
    width = max(sum(block.width + 3 * WORLD_GAP for block in row) for row in rows) + 3 * WORLD_GAP
    height = sum(max(block.height for block in row) + WORLD_GAP for row in rows) + WORLD_GAP
    page, y = Image.new("RGB", (width, height), PAPER), WORLD_GAP
    for row in rows:
        x = 3 * WORLD_GAP
        for block in row:
            page.paste(block, (x, y))
            x += block.width + 3 * WORLD_GAP
        y += max(block.height for block in row) + WORLD_GAP
    return page


def world_sheet(seed: int, size: int = SIZE, tasks: int = 10, programs: int = 9) -> Image.Image:
    """The sheet for any seed: `tasks` held-out tasks, kinds in turn, every third unambiguous; `programs` samples."""
    checked_size(size)
    if min(tasks, programs) < 0 or not tasks + programs:
        raise SceneError(f"a sheet of {tasks} tasks and {programs} samples shows nothing; give one of them at least")
    kinds = [kind for kind in KINDS if kind != KEEP]
    blocks = []
    for index in range(tasks):
        kind, ambiguous = kinds[index % len(kinds)], index % 3 != 2
        task = held_out_task(held_out_seed(seed, index), size, kind, ambiguous)
        count = len(task.others)
        note = f"names {count} look-alike{'s' if count > 1 else ''} too" if ambiguous else "unambiguous"
        blocks.append(_block(_task_panels(task), [f'"{task.instructions[0][1].text}"  ({note})'], 1))
    pages = [_grid(blocks, 2)] if blocks else []
    blocks = []
    for index in range(programs):
        number = int(random_state(seed, f"sample {index}").randint(len(TRAINING_SEEDS)))
        scene = training_scene(number, size)
        program = random_program(scene, number, 1 + index % 3)
        lines = [f'{place}. "{instruction.text}"' for place, instruction in enumerate(program, 1)]
        blocks.append(_block(_program_panels(scene, edited(scene, program)), lines, 3))
    pages += [_grid(blocks, 3)] if blocks else []
    whole = Image.new("RGB", (max(page.width for page in pages), sum(page.height for page in pages)), PAPER)
    for index, page in enumerate(pages):
        whole.paste(page, (0, sum(earlier.height for earlier in pages[:index])))
    return whole


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="any whole number (default: 0)")
    parser.add_argument("--size", type=int, default=SIZE, help=f"pixels along a scene's side (default: {SIZE})")
    parser.add_argument("--tasks", type=int, default=10, help="held-out tasks (default: 10)")
    parser.add_argument("--programs", type=int, default=9, help="training samples (default: 9)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the image to write, such as sheet.png")
    args = parser.parse_args(arguments)
    if not is_image_file(args.out):
        parser.error(f"--out {args.out} is no image that can be written; let its name end in .png or .jpg")
    try:
        image = world_sheet(args.seed, args.size, args.tasks, args.programs)
    except SceneError as error:
        parser.error(str(error))
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        image.save(args.out)
    except OSError as error:
        print(f"sheets.py: {args.out} cannot be written: {error.strerror or error}", file=sys.stderr)
        return 1
    print(f"{args.out}: {image.width} x {image.height}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
