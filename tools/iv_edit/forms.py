"""How published sets of edits name their fields: one entry of `FORMS` for each, and how a form is told by its columns.

A place is a column, or a path into one that holds JSON ("extra_info.image_id"); "a+b" joins two. Of several places the
first that holds something counts. `verified` says where the names were read, `unverified` what no source said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from replan.tools.batches.items import IMAGES

# What a record has besides its id, as its table names it.
FIELDS = (
    "id", "image", "instruction", "referring", "answer", "referring_type", "task_type", "mask", "boxes", "target",
    "caption_after",
)  # fmt: skip

# In a row that cannot be read: why. No column is called so.
FAULT = "\0fault"


class Form(NamedTuple):
    """One way to write records. signs: columns that together tell it. fields: places of each field, best first."""

    signs: tuple[str, ...]
    fields: Mapping[str, tuple[str, ...]]
    verified: str
    unverified: str = ""


FORMS: dict[str, Form] = {
    "records": Form(
        ("image", "instruction", "name"),
        {name: (name,) for name in FIELDS},
        "the form that `records.py` itself writes",
    ),
    "iv_edit": Form(
        ("image", "prompt", "extra_info"),
        {
            "id": ("extra_info.image_id", "image_id"),
            "image": ("image",),
            "instruction": ("prompt", "extra_info.instruction_details.editing_instruction"),
            "referring": (
                "extra_info.referring_expression", "extra_info.instruction_details.referring_expression"
            ),
            "answer": ("answer",),
            "referring_type": ("extra_info.referring_type", "extra_info.instruction_details.referring_type"),
            "task_type": ("extra_info.task_type", "extra_info.instruction_details.task_type"),
            "boxes": ("extra_info.qwen_targets",),
            "status": ("status", "extra_info.status"),
        },
        "columns: dataset card of TainU/IV-Edit; image_id, referring_expression, status: RePlan's evaluation code",
        "referring_type, task_type and qwen_targets are guesses: give yours by --field task_type=extra_info.NAME",
    ),
    "magicbrush": Form(
        ("source_img", "instruction", "target_img"),
        {
            "id": ("img_id+turn_index", "img_id"),
            "image": ("source_img",),
            "instruction": ("instruction",),
            "mask": ("mask_img",),
            "target": ("target_img",),
        },
        "dataset card of osunlp/MagicBrush: all columns; the mask is white where the edit may be",
        "the layout of the test set's archive, which is not on the hub",
    ),
    "emu_edit": Form(
        ("instruction", "output_caption", "task", "image"),
        {
            "id": ("idx", "hash"),
            "image": ("image",),
            "instruction": ("instruction",),
            "task_type": ("task",),
            "caption_after": ("output_caption",),
        },
        "dataset card of facebook/emu_edit_test_set_generations; its edited_image is Emu Edit's own, so no target",
        "that emu_edit_test_set itself has the same columns but for edited_image and model",
    ),
    "humanedit": Form(
        ("INPUT_IMG", "EDITING_INSTRUCTION"),
        {
            "id": ("IMAGE_ID",),
            "image": ("INPUT_IMG",),
            "instruction": ("EDITING_INSTRUCTION",),
            "task_type": ("EDITING_TYPE",),
            "mask": ("MASK_IMG",),
            "target": ("OUTPUT_IMG",),
            "caption_after": ("OUTPUT_DESCRIPTION", "OUTPUT_CAPTION_BY_LLAMA"),
        },
        "dataset card of BryanW/HumanEdit: all columns",
        "which side of the mask is edited (the card says its format may need to be adjusted), that IMAGE_ID is unique",
    ),
    "editworld": Form(
        ("original_img_path", "target_img_path"),
        {
            "id": ("key",),
            "image": ("original_img_path",),
            "instruction": ("instuction", "instruction"),
            "target": ("target_img_path",),
            "caption_after": ("target_cation", "target_caption"),
        },
        "EditWorld's t2i_branch_base.py and tools/obtain_datasetjson.py, which write 'instuction'; a list, or an "
        "object by sample name",
        "the evaluation set editworld_test, and captions beside its images",
    ),
    "reason50k": Form(
        ("src_image", "tgt_image", "instruction"),
        {
            "id": ("id",),
            "image": ("src_image",),
            "instruction": ("instruction",),
            "task_type": ("category",),
            "target": ("tgt_image",),
            "caption_after": ("target_caption",),
        },
        "the JSON lines of a public reproduction of ReasonBrain",
        "the published set, of which no public copy was found",
    ),
    "vision_reasoner": Form(
        ("image", "problem", "solution"),
        {"id": ("id",), "image": ("image",), "instruction": ("problem",), "answer": ("solution",)},
        "keys: RePlan's configuration for VisionReasoner_multi_object_7k_840; the answer is a list of objects to find",
        "a record of that set itself",
    ),
    "photos": Form(
        ("image", "instruction"),
        {name: (name,) for name in FIELDS},
        "a folder of images, NAME.txt beside each is its instruction; or a table of one's own with these columns",
    ),
    "reasonedit": Form(
        ("_reasonedit", "id", "instruction"),
        {
            "id": ("id",),
            "image": ("image",),
            "instruction": ("instruction",),
            "task_type": ("category",),
            "mask": ("mask",),
            "caption_after": ("clip_text",),
        },
        "SmartEdit's test/metrics_evaluation.py: folders of *.png and *_mask.jpg in order of their names, and a text "
        "file with a line for each: instruction, 'CLIP: ', what the result shows",
    ),
}  # fmt: skip


def form_of(columns: Iterable[str]) -> str:
    """The name of the form with the most signs among those whose signs are all there, "" for none."""
    there = set(columns)
    fitting = [name for name, form in FORMS.items() if there.issuperset(form.signs)]
    return max(fitting, key=lambda name: len(FORMS[name].signs), default="")


def value_at(row: Mapping[str, Any], places: Iterable[str]) -> Any:
    """What a row holds at the first of these places that holds something, else None."""
    for place in places:
        parts = [_at(row, part) for part in place.split("+")]
        if all(part is not None for part in parts):
            return parts[0] if len(parts) == 1 else "-".join(str(part) for part in parts)
    return None


def _at(row: Mapping[str, Any], place: str) -> Any:
    found: Any = row
    for name in place.split("."):
        if isinstance(found, str):
            try:
                found = json.loads(found)
            except (ValueError, RecursionError):
                return None
        found = found.get(name) if isinstance(found, Mapping) else None
    return None if found is None or (isinstance(found, str) and not found.strip()) else found


def photo_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The images of a folder by name, with the text beside each."""
    for file in sorted(one for one in folder.iterdir() if one.suffix.lower() in IMAGES and one.is_file()):
        row = {"id": file.name, "image": file.name}
        try:
            yield {**row, "instruction": file.with_suffix(".txt").read_text("utf-8-sig", "replace").strip()}
        except OSError:
            yield {**row, FAULT: f"{file.with_suffix('.txt').name}, its instruction, is not there"}


def is_reasonedit(folder: Path) -> bool:
    return any(_texts(one) for one in _categories(folder))


def reasonedit_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """ReasonEdit's folders as rows. A category whose texts and images differ in number is told in each of its rows."""
    for category in _categories(folder):
        texts = _texts(category)
        if not texts:
            continue
        lines = [line for line in texts[0].read_text("utf-8-sig", "replace").splitlines() if line.strip()]
        images = sorted(file for file in category.glob("*.png") if not file.stem.endswith("_mask"))
        masks = sorted(category.glob("*_mask.*"))
        even = len(images) == len(lines)
        for number, line in enumerate(lines):
            instruction, _, clip_text = line.partition("CLIP:")
            row = {
                "_reasonedit": True,
                "id": f"{category.name}-{number + 1}",
                "instruction": instruction.strip(),
                "clip_text": clip_text.strip(),
                "category": category.name,
            }
            if even:
                row["image"] = images[number].relative_to(folder).as_posix()
            else:
                row[FAULT] = f"{category} holds {len(images)} images and {len(lines)} lines of text"
            if even and len(masks) == len(lines):
                row["mask"] = masks[number].relative_to(folder).as_posix()
            yield row


def _categories(folder: Path) -> list[Path]:
    return [folder, *sorted(one for one in folder.rglob("*") if one.is_dir())]


def _texts(folder: Path) -> list[Path]:
    """The category's text file: *_text.txt, or *_test.txt for the reasoning ones."""
    images = {file.stem for file in folder.iterdir() if file.suffix.lower() in IMAGES}
    texts = sorted([*folder.glob("*_text.txt"), *folder.glob("*_test.txt")])
    return [text for text in texts if text.stem not in images]  # beside an image it is that image's instruction
