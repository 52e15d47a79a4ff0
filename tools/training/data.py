"""What a planner is trained on: `python tools/training/data.py SOURCE --out FOLDER` says what would be taken.

SOURCE is what tools/iv_edit reads (IV-Edit's parquet files, VisionReasoner's, a table, a folder of images with a text
beside each). Every record becomes a conversation as RePlan Planner asks it, an image, the name of its task, and the
answer that the reward compares with. What is left out is counted and said.

Examples:  python tools/training/data.py iv_edit/data --split train --out runs/data --processor models/qwen
           python tools/training/data.py my_photos --out runs/mine --task edit_region_planning
           python tools/training/data.py vision_reasoner/data --out runs/found --task detection
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

TOOLS = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path.insert(0, str(TOOLS))
    from bench import import_pack

    import_pack()

from PIL import Image  # noqa: E402
from replan.planner.asking.templates import (  # noqa: E402
    LAYOUTS,
    Template,
    coordinates_in_words,
    load_template,
    planner_messages,
)
from replan.planner.geometry import Size  # noqa: E402
from replan.planner.models.interface import QWEN25_VL, SPECS, Message, Part, VlmSpec, spec_of  # noqa: E402
from replan.planner.plan import PlanError  # noqa: E402
from replan.tools.batches.config import at_least_one, print_anything  # noqa: E402
from replan.tools.batches.items import BatchError, short  # noqa: E402
from replan.tools.batches.results import write_whole  # noqa: E402
from replan.tools.iv_edit.image_files import read_rgb  # noqa: E402
from replan.tools.iv_edit.records import MARKED_FILTERED, Record, Source, add_source_options, source_of  # noqa: E402
from replan.tools.toyworld.requests import Request  # noqa: E402
from replan.tools.training.rewards import TASKS, UnknownTask, detection_reward  # noqa: E402

# The pack's template for each task.
TEMPLATE_OF = {
    "text_refinement": "unified", "text_refinement_edit": "edit", "text_refinement_edit_nothink": "edit_no_reasoning",
    "detection": "detection", "edit_region_planning": "edit", "edit_region_planning_nothink": "edit_no_reasoning",
}  # fmt: skip
LONGEST_PROMPT = 2048  # tokens, the image's among them: the published limit
MOST_PIXELS = 1_003_520
FILTERED, TOO_LONG, UNUSABLE = "marked as filtered", "with a prompt that is too long", "that cannot be used"


class TrainingRecord(NamedTuple):
    """One prompt to plan for.

    number: its place among those taken; rewards are kept by it. messages: as TRL and chat templates take them, with
    {"type": "image"} where the image goes. image: its file, or itself. counts_in: the (width, height) that boxes of the
    reply count in: the size that the model sees, or 1000 x 1000. answer: what the reward compares with, for detection a
    JSON list whose boxes count the same. request: of the toy world, what it asks for.
    """

    number: int
    id: str
    task_name: str
    messages: list[dict[str, Any]]
    image: Path | Image.Image
    counts_in: Size
    answer: str = ""
    instruction: str = ""
    referring: str = ""
    request: Request | None = None

    def opened(self) -> Image.Image:
        """The image upright and in colours."""
        return self.image if isinstance(self.image, Image.Image) else read_rgb(self.image)

    def row(self) -> dict[str, Any]:
        """Columns of a dataset for TRL's trainer; cast `image` to datasets.Image, which opens it upright."""
        row = self._asdict()
        del row["request"]
        image = self.image if isinstance(self.image, Image.Image) else str(self.image)
        return {"prompt": row.pop("messages"), **row, "image": image}

    def reward_input(self, reply: str) -> dict[str, Any]:
        """What `compute_score_unified` takes."""
        extra = {
            "image_size": tuple(self.counts_in),
            "instruction_details": {"editing_instruction": self.instruction, "referring_expression": self.referring},
        }
        return {"task_name": self.task_name, "response": reply, "ground_truth": self.answer, "extra_info": extra}


class Refused(NamedTuple):
    """A record that is left out. kind: FILTERED, TOO_LONG or UNUSABLE."""

    row: int
    name: str
    kind: str
    why: str


class Loaded(NamedTuple):
    """Records of a source, and those of it that were left out."""

    source: str
    records: list[TrainingRecord]
    refused: list[Refused]

    def __str__(self) -> str:
        counts = Counter(one.kind for one in self.refused)
        left_out = "; ".join(f"{count} {kind}" for kind, count in counts.items())
        lines = [f"{len(self.records)} records of {self.source}; left out: {left_out or 'none'}"]
        shown = [one for one in self.refused if one.kind != FILTERED]
        lines += [f"  row {one.row}, {short(one.name)}: {one.why}" for one in shown[:10]]
        return "\n".join(lines + [f"  and {len(shown) - 10} more"] * (len(shown) > 10))


class Asking(NamedTuple):
    """How prompts are written. template None: the pack's for the task. spec, most_pixels: how the model sees images."""

    template: Template | None = None
    layout: str = "inference"
    spec: VlmSpec = QWEN25_VL
    most_pixels: int = MOST_PIXELS


def load_training(
    source: Iterable[Record],
    task_name: str,
    asking: Asking = Asking(),  # noqa: B008  a NamedTuple is immutable
    *,
    count_tokens: Callable[[TrainingRecord], int] | None = None,
    longest: int = LONGEST_PROMPT,
    limit: int | None = None,
) -> Loaded:
    """The records of a source that can be trained on, as `task_name`.

    source: a `Source`, or its records. count_tokens: says how many tokens a prompt has with its image
        (`token_counter`); records of more than `longest` are left out, as in the published training. limit: no more
        records than that.

    Raises UnknownTask for a task that no reward knows, BatchError for an unknown layout and when no record can be used.
    """
    if task_name not in TASKS:
        raise UnknownTask(f"task_name {task_name!r} has no reward; known are {', '.join(TASKS)}")
    if asking.layout not in LAYOUTS:
        raise BatchError(f"the layout is one of {', '.join(LAYOUTS)}, found {asking.layout!r}")
    template = asking.template or load_template(TEMPLATE_OF[task_name])
    loaded = Loaded(str(getattr(source, "path", "the source")), [], [])
    for one in source:
        if limit is not None and len(loaded.records) >= limit:
            break
        try:
            record = _training_record(one, len(loaded.records), task_name, template, asking)
        except _Unusable as error:
            loaded.refused.append(Refused(one.row, one.name, error.kind, str(error)))
            continue
        tokens = count_tokens(record) if count_tokens else 0
        if tokens > longest:
            why = f"its prompt has {tokens} tokens with the image, more than {longest}"
            loaded.refused.append(Refused(one.row, one.name, TOO_LONG, why))
            continue
        loaded.records.append(record)
    if not loaded.records:
        raise BatchError(f"nothing to train on: {loaded}")
    return loaded


def processor_of(folder: Path | str, **options) -> Any:
    """The processor of a model's folder. Raises BatchError for a folder that has none."""
    from transformers import AutoProcessor

    try:
        if not Path(folder).is_dir():  # transformers would take it for a name on the hub
            raise FileNotFoundError("there is no such folder")
        processor = AutoProcessor.from_pretrained(str(folder), local_files_only=True, **options)
        if not hasattr(processor, "image_processor"):
            raise ValueError("it has a tokenizer and no image processor")
    except Exception as error:  # transformers and tokenizers raise whatever the broken file leads to
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise BatchError(
            f"{folder} has no processor that can be loaded ({why}); name the folder of a planner, as transformers "
            "keeps it: tokenizer, preprocessor_config.json and chat template in it"
        ) from None
    return processor


def token_counter(processor: Any) -> Callable[[TrainingRecord], int]:
    """Counts the tokens of prompts, those of the image among them, as a model's processor (transformers) does."""

    def count(record: TrainingRecord) -> int:
        text = processor.apply_chat_template(record.messages, add_generation_prompt=True, tokenize=False)
        return len(processor(text=[text], images=[record.opened()])["input_ids"][0])

    return count


# ---- one record ------------------------------------------------------------------------------------------------------


class _Unusable(ValueError):
    def __init__(self, why: str, kind: str = UNUSABLE) -> None:
        super().__init__(why)
        self.kind = kind


def _training_record(one: Record, number: int, task_name: str, template: Template, asking: Asking) -> TrainingRecord:
    if one.fault:
        raise _Unusable(one.fault, FILTERED if one.fault == MARKED_FILTERED else UNUSABLE)
    try:
        size = read_rgb(one.image).size  # all of it: a file that breaks off would end a training
        seen = asking.spec.seen_size(size, asking.most_pixels)
        asked = coordinates_in_words(asking.spec.coordinates, seen)
        messages = planner_messages(template, one.instruction, asked, asking.layout)
    except PlanError as error:
        raise _Unusable(str(error)) from None
    counts_in = (1000, 1000) if asking.spec.coordinates.startswith("relative_1000") else seen
    answer = _objects(one.answer, size, counts_in) if TASKS[task_name].form == "detection" else one.answer
    return TrainingRecord(
        number, one.id, task_name, as_chat(messages), Path(one.image), counts_in, answer, one.instruction, one.referring
    )


def as_chat(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """What RePlan Planner sends, as TRL and chat templates take it."""

    def content(part: str | Part) -> dict[str, str]:
        return {"type": "image"} if part is Part.IMAGE else {"type": "text", "text": part}

    return [{"role": one.role, "content": [content(part) for part in one.parts]} for one in messages]


def _objects(answer: str, size: Size, counts_in: Size) -> str:
    """The objects to find, from pixels of the image to what the model's boxes count in.

    The published training compares with pixels of the image as it is, which for most sizes are not those it sees.
    """
    try:
        listed = json.loads(answer)
        scale = [counts_in[axis] / size[axis] for axis in (0, 1)]
        objects = [
            {
                **item,
                **{
                    key: [round(number * scale[place % 2]) for place, number in enumerate(item[key])]
                    for key, count in (("bbox_2d", 4), ("point_2d", 2))
                    if key == "bbox_2d" or isinstance(item.get(key), list) and len(item[key]) == count
                },
            }
            for item in listed
        ]
        detection_reward("", objects)  # a ValueError for boxes that are none, which would end a training
        fine = isinstance(listed, list)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        fine = False
    if not fine:
        raise _Unusable(f"its answer {short(answer)} is no list of objects with bbox_2d")
    return json.dumps(objects)


# ---- command ---------------------------------------------------------------------------------------------------------


def _template(file: Path) -> Template:
    try:
        return load_template(file.stem, file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise BatchError(f"--template {file} cannot be read: {why}") from None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="parquet, a table, or a folder")
    parser.add_argument("--out", type=Path, required=True, help="for the images of parquet files, and records.jsonl")
    parser.add_argument("--task", default="text_refinement_edit", choices=list(TASKS), help="what is rewarded")
    parser.add_argument("--layout", default="inference", choices=LAYOUTS, help="where the image goes in the prompt")
    parser.add_argument("--template", type=Path, metavar="FILE", help="a template of your own")
    parser.add_argument(
        "--model-type", default="qwen2_5_vl", choices=list(SPECS), help="of config.json: how the model sees images"
    )
    parser.add_argument("--most-pixels", type=at_least_one, default=MOST_PIXELS, help="of an image that the model sees")
    parser.add_argument("--processor", type=Path, metavar="FOLDER", help="the model: leave out what is too long for it")
    parser.add_argument(
        "--longest",
        type=at_least_one,
        default=LONGEST_PROMPT,
        help="tokens of a prompt, with --processor (%(default)s)",
    )
    parser.add_argument("--limit", type=at_least_one, metavar="N", help="no more than so many records")
    add_source_options(parser)
    args = parser.parse_args(arguments)
    print_anything()
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        template = _template(args.template) if args.template else None
        asking = Asking(template, args.layout, spec_of(args.model_type), args.most_pixels)
        count = token_counter(processor_of(args.processor)) if args.processor else None
        source: Source = source_of(args, args.out)
        loaded = load_training(
            source, args.task, asking, count_tokens=count, longest=args.longest, limit=args.limit
        )  # fmt: skip
        text = "".join(json.dumps(record.row(), ensure_ascii=False) + "\n" for record in loaded.records)
        write_whole(args.out / "records.jsonl", text.encode("utf-8", "backslashreplace"))
    except (BatchError, PlanError, OSError) as error:
        print(f"data.py: {error}", file=sys.stderr)
        return 2
    print(loaded)
    return 0


if __name__ == "__main__":
    sys.exit(main())
