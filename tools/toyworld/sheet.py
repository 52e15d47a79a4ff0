"""A contact sheet of the toy world, to look at: `python tools/toyworld/sheet.py --seed 1 --out out/toyworld.png`.

First held-out tasks: the scene with the plan's region, what the words ask for, what is meant, and where the two
change the scene. Then training samples with several instructions: scene, target and where they differ.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if not __package__:  # run as a script
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from bench import import_pack

    import_pack()

from replan.tools.toyworld.edits import (
    KEEP,
    KINDS,
    difference,
    edited,
    random_program,
)
from replan.tools.toyworld.result_sheet import writes_pictures
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
from replan.tools.toyworld.tasks import Task, held_out_task

SHOWN = 224  # pixels along a side of a picture on the sheet
GAP, LINE = 8, 19
PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (95, 95, 95)
MEANT, OTHER = (255, 255, 255), (255, 140, 0)  # in the pictures of what changes

Panel = tuple[str, Image.Image]


def _enlarged(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).resize((SHOWN, SHOWN), Image.Resampling.NEAREST)


def _where(scene: Scene, *layers: tuple[np.ndarray, tuple[int, int, int]]) -> Image.Image:
    """The scene, dark and grey, with masks in colours; the last lies on top."""
    pixels = np.repeat(scene.pixels.mean(-1, keepdims=True), 3, -1).astype(np.uint8) // 3
    for mask, colour in layers:
        pixels[mask] = colour
    return _enlarged(pixels)


def _task_panels(task: Task) -> list[Panel]:
    framed = _enlarged(task.scene.pixels)
    (region,) = task.plan.regions
    scale = SHOWN / task.scene.size
    x1, y1, x2, y2 = (edge * scale for edge in region.box)
    pen = ImageDraw.Draw(framed)
    pen.rectangle((x1 - 3, y1 - 3, x2 + 2, y2 + 2), outline=(0, 0, 0))
    pen.rectangle((x1 - 2, y1 - 2, x2 + 1, y2 + 1), outline=(255, 255, 255), width=2)
    meant, literal = difference(task.scene, task.wanted), difference(task.scene, task.literal)
    return [
        ("scene and region", framed),
        ("what the words ask for", _enlarged(task.literal.pixels)),
        ("what is meant", _enlarged(task.wanted.pixels)),
        ("changes: white meant, orange not", _where(task.scene, (literal, OTHER), (meant, MEANT))),
    ]


def _program_panels(scene: Scene, target: Scene) -> list[Panel]:
    changes = _where(scene, (difference(scene, target), MEANT))
    return [("scene", _enlarged(scene.pixels)), ("target", _enlarged(target.pixels)), ("changes", changes)]


def _block(panels: list[Panel], lines: list[str], height_of_text: int) -> Image.Image:
    """Panels side by side, each with its caption, over lines of text."""
    width = len(panels) * (SHOWN + GAP) - GAP
    block = Image.new("RGB", (width, LINE + SHOWN + height_of_text * LINE + GAP), PAPER)
    pen = ImageDraw.Draw(block)
    small, large = ImageFont.load_default(13), ImageFont.load_default(16)
    for index, (caption, picture) in enumerate(panels):
        block.paste(picture, (index * (SHOWN + GAP), LINE))
        pen.text((index * (SHOWN + GAP), 1), caption, FAINT, small)
    for index, line in enumerate(lines):
        pen.text((0, LINE + SHOWN + 3 + index * LINE), line, INK, large)
    return block


def _grid(blocks: list[Image.Image], columns: int) -> Image.Image:
    rows = [blocks[i : i + columns] for i in range(0, len(blocks), columns)]
    width = max(sum(block.width + 3 * GAP for block in row) for row in rows) + 3 * GAP
    height = sum(max(block.height for block in row) + GAP for row in rows) + GAP
    page, y = Image.new("RGB", (width, height), PAPER), GAP
    for row in rows:
        x = 3 * GAP
        for block in row:
            page.paste(block, (x, y))
            x += block.width + 3 * GAP
        y += max(block.height for block in row) + GAP
    return page


def sheet(seed: int, size: int = SIZE, tasks: int = 10, programs: int = 9) -> Image.Image:
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
        said = f"names {count} look-alike{'s' if count > 1 else ''} too" if ambiguous else "unambiguous"
        blocks.append(_block(_task_panels(task), [f'"{task.asked[0][1].text}"  ({said})'], 1))
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
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the picture to write, such as sheet.png"
    )
    args = parser.parse_args(arguments)
    if not writes_pictures(args.out):
        parser.error(f"--out {args.out} is no kind of picture; let it end in .png or .jpg")
    try:
        picture = sheet(args.seed, args.size, args.tasks, args.programs)
    except SceneError as error:
        parser.error(str(error))
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        picture.save(args.out)
    except OSError as error:
        print(f"sheet.py: {args.out} cannot be written: {error.strerror or error}", file=sys.stderr)
        return 1
    print(f"{args.out}: {picture.width} x {picture.height}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
