"""Whether an edit shows the text it was asked for, letter by letter: `python tools/iv_edit/read_text.py RUN`.

Of records whose instruction or plan quotes a text to show ("change the sign to 'OPEN'"), rapidocr reads the region's
cut-out of RUN/<method>/<id>/final_result.png. What it read, what was wanted and whether they are the same go to
text.json beside the image; report.py shows the share. Case, white space and the width of letters make no difference,
all else does. rapidocr comes into an environment of its own below .host/ on first use, with its networks.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

TOOLS = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path.insert(0, str(TOOLS))
    from bench import import_pack

    import_pack(needs="PIL")

from PIL import Image  # noqa: E402
from replan.evaluation.quoted import quoted_texts  # noqa: E402
from replan.planner.asking.second_look import cut_around  # noqa: E402
from replan.planner.geometry import Box, Size  # noqa: E402
from replan.planner.plan import PlanError, RegionPlan  # noqa: E402
from replan.planner.plans.resize import fit_plan  # noqa: E402
from replan.planner.replies.notices import COORDINATES  # noqa: E402
from replan.tools.batches.config import print_anything  # noqa: E402
from replan.tools.batches.items import BatchError  # noqa: E402
from replan.tools.batches.results import write_whole  # noqa: E402
from replan.tools.iv_edit.image_files import read_rgb  # noqa: E402
from replan.tools.iv_edit.methods import plan_of_result, recorded_plan  # noqa: E402
from replan.tools.iv_edit.records import Record, read_records  # noqa: E402
from replan.tools.iv_edit.report import IMAGE, TEXT, methods_of  # noqa: E402
from replan.tools.own_environment import run_there  # noqa: E402

PACKAGES = ("rapidocr==3.10.0", "onnxruntime==1.32.0")
MARGIN = 0.1  # room around a region as a share of its side, as the judge has for texts

# Reads the texts of an image, from its top to its bottom.
Reader = Callable[[Image.Image], list[str]]


class Wanted(NamedTuple):
    """A text to show and where it may stand. region: the id of the only one, or ""; boxes: () for the whole image."""

    text: str
    region: str
    boxes: tuple[Box, ...]


def wanted_texts(instruction: str, plan: RegionPlan | None) -> list[Wanted]:
    """The texts that a record asks for: those that a region's hint quotes in that region, the others in any region."""
    regions = plan.active.regions if plan else ()
    found = [
        Wanted(text, region.id, (region.box,))
        for region in regions
        if region.hint.strip() != instruction.strip()
        for text in quoted_texts(region.hint)
    ]
    known = {same(one.text) for one in found}
    boxes = tuple(region.box for region in regions)
    return found + [Wanted(text, "", boxes) for text in quoted_texts(instruction) if same(text) not in known]


def same(text: str) -> str:
    """A text without what makes no difference. Readers often lose the spaces between words."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def is_read(text: str, lines: Sequence[str]) -> bool:
    """Whether a text is one of the lines, or several of them one after another."""
    sought, texts = same(text), [same(line) for line in lines]
    return any(
        "".join(texts[start:end]) == sought
        for start in range(len(texts))
        for end in range(start + 1, len(texts) + 1)
    )  # fmt: skip


def check(image: Image.Image, wanted: Sequence[Wanted], read: Reader) -> list[dict]:
    """What was read for each wanted text: `region`, `text_wanted`, `text_read` (lines), `text_exact`."""
    known: dict[Box | None, list[str]] = {}

    def lines(box: Box | None) -> list[str]:
        if box not in known:
            cut = image.crop(cut_around(box, image.size, MARGIN)) if box else image
            known[box] = read(cut)
        return known[box]

    rows = []
    for one in wanted:
        texts = [lines(box) for box in one.boxes or (None,)]
        right = next((found for found in texts if is_read(one.text, found)), None)
        read_there = [line for found in texts for line in found] if right is None else right
        rows.append(
            {"region": one.region, "text_wanted": one.text, "text_read": read_there, "text_exact": right is not None}
        )
    return rows


def plan_for(record: Record, folder: Path, size: Size, coordinates: str = "auto") -> RegionPlan | None:
    """The record's own plan, so that all methods are read at the same places, else that of the result; at `size`.

    None where there is none, or none of an image of this shape.
    """
    for planned in (lambda: recorded_plan(record, coordinates), lambda: plan_of_result(folder)):
        try:
            return fit_plan(planned(), size)
        except (PlanError, OSError):
            continue
    return None


def rapidocr() -> tuple[Reader, str]:
    """The reader, and what it is. Its networks come with the package: nothing is downloaded."""
    import logging

    import numpy as np
    from rapidocr import RapidOCR

    engine = RapidOCR()
    logging.getLogger("RapidOCR").setLevel(logging.WARNING)

    def read(image: Image.Image) -> list[str]:
        pixels = np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])  # as OpenCV has them
        return list(engine(pixels).txts or ())

    return read, f"rapidocr {importlib.metadata.version('rapidocr')}"


def main(arguments: list[str] | None = None) -> int:
    print_anything()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--results", action="append", default=[], metavar="NAME=FOLDER", help="results from elsewhere")
    parser.add_argument(
        "--coordinates", choices=COORDINATES, default="auto", help="what boxes of the records' answers count (auto)"
    )
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        args = parser.parse_args(arguments)
        if importlib.util.find_spec("rapidocr") is None:
            return run_there(__file__, arguments, "ocr", PACKAGES)
        records, folders = read_records(args.run), methods_of(args.run, args.results)
        read, by = rapidocr()
        failed = [_method(name, folder, records, args.coordinates, read, by) for name, folder in folders.items()]
        return int(sum(failed) > 0)
    except (BatchError, OSError) as error:
        print(f"read_text.py: {error}", file=sys.stderr)
        return 2


def _method(name: str, folder: Path, records: Sequence[Record], coordinates: str, read: Reader, by: str) -> int:
    """Read the texts of one method's results; how many images cannot be read."""
    exact = asked = failed = 0
    for record in records:
        place = folder / record.id
        if not (place / IMAGE).is_file():
            continue
        try:
            contents = (place / IMAGE).read_bytes()
            image = read_rgb(place / IMAGE)
            wanted = wanted_texts(record.instruction, plan_for(record, place, image.size, coordinates))
        except (OSError, ValueError, PlanError) as error:
            print(f"{name}/{record.id}: {error}")
            failed += 1
            continue
        if not wanted:
            continue
        rows = check(image, wanted, read)
        told = {
            "id": record.name, "method": name, "by": by, "text_exact": all(row["text_exact"] for row in rows),
            "texts": rows, "image_sha256": hashlib.sha256(contents).hexdigest(),
        }  # fmt: skip
        text = json.dumps(told, indent=1, ensure_ascii=False)
        write_whole(place / TEXT, text.encode("utf-8", "backslashreplace"))
        asked, exact = asked + 1, exact + told["text_exact"]
    print(f"{name}: {exact} of {asked} records that ask for a text show it exactly", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
