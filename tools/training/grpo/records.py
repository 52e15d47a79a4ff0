"""The prompts of a stage: those of the toy world, or records that tools/training/data.py reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from replan.planner.models.interface import SPECS, spec_of
from replan.planner.plan import PlanError
from replan.tools.batches.items import BatchError
from replan.tools.toyworld.lessons import PLAIN, from_request
from replan.tools.toyworld.requests import Request, held_out_requests, training_requests
from replan.tools.toyworld.scenes import random_state
from replan.tools.toyworld.weights import PLANNER, WEIGHTS
from replan.tools.training.data import Asking, TrainingRecord, as_chat, load_training, processor_of, token_counter
from replan.tools.training.planner_batches import turn_of
from replan.tools.training.rewards import TASKS, UnknownTask

from .options import TOY, StageError, StageOptions

TOY_LIMIT = 2000


def training_and_held_out(options: StageOptions, out: Path) -> tuple[list[TrainingRecord], list[TrainingRecord]]:
    """The prompts to train on, and those to measure with; a number belongs to one prompt of both.

    Raises StageError where there are none.
    """
    if options.records == TOY:
        count = options.limit or TOY_LIMIT
        requests, scene = [], 0
        while len(requests) < count:
            requests += training_requests(options.toy_run, scene, 1)
            scene += 1
        held_out = held_out_requests(options.held_out_seed, options.held_out) if options.held_out else []
        return toy_prompts(requests, options.task), toy_prompts(held_out, options.task, count)
    found = _from_data(options, out)
    if options.held_out >= len(found):
        raise StageError(
            f"{options.records} has {len(found)} records, and --held_out keeps {options.held_out} back; keep fewer"
        )
    cut = len(found) - options.held_out
    return found[:cut], found[cut:]


def toy_prompts(requests: Sequence[Request], task_name: str, first: int = 0) -> list[TrainingRecord]:
    """Requests of the toy world as records with numbers from `first` on.

    Asked with the template `edit` for tasks whose replies reason, else with the image and nothing but the instruction.
    """
    reasons = task_name in TASKS and TASKS[task_name].form == "edit"  # an unknown task is refused by StageRewards
    template = "edit" if reasons else PLAIN
    return [
        TrainingRecord(
            first + place, str(first + place), task_name, as_chat(turn_of(from_request(one, template)).messages),
            Image.fromarray(one.task.scene.pixels), (one.task.scene.size,) * 2, one.reply, one.text, request=one,
        )
        for place, one in enumerate(requests)
    ]  # fmt: skip


def _from_data(options: StageOptions, out: Path) -> list[TrainingRecord]:
    from replan.tools.iv_edit.records import Source

    asking = Asking(spec=spec_of(model_type(options.model)), most_pixels=options.most_pixels)
    try:
        count = token_counter(processor_of(options.model))
        records = []
        for place, (source, task) in enumerate(_sources(options)):
            read = Source(Path(source), split=options.split, unpacked=out / "data" / str(place))
            loaded = load_training(read, task, asking, count_tokens=count, limit=options.limit or None)
            print(loaded, flush=True)
            records += loaded.records
    except (BatchError, PlanError, UnknownTask, OSError) as error:
        raise StageError(f"--records {options.records}: {error}") from None
    random_state(0, "records").shuffle(records)  # the last ones are held out: some of each source
    return [one._replace(number=number) for number, one in enumerate(records)]


def _sources(options: StageOptions) -> list[tuple[str, str]]:
    """Each source of --records with its task."""
    sources, tasks = ([part.strip() for part in text.split(",")] for text in (options.records, options.task))
    tasks = tasks * len(sources) if len(tasks) == 1 else tasks
    if len(tasks) != len(sources):
        raise StageError(f"--records names {len(sources)} sources and --task {len(tasks)} tasks; give one for each")
    return list(zip(sources, tasks, strict=True))


def dataset_of(prompts: Sequence[TrainingRecord]):
    """A dataset with the columns that TRL (prompt, image) and the reward functions (number, task_name) read."""
    from datasets import Dataset
    from datasets import Image as ImageColumn

    return Dataset.from_list([one.row() for one in prompts]).cast_column("image", ImageColumn(mode="RGB"))


def model_type(folder: str) -> str:
    """The family of a planner's folder by its config.json. Raises StageError for what is no planner's folder."""
    try:
        found = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))["model_type"]
        if not isinstance(found, str):
            raise TypeError(f"its model_type is {str(found)[:40]}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StageError(f"--model {folder} is no folder with a planner ({type(error).__name__}: {error})") from None
    if not spec_of(found).known:
        raise StageError(f"--model {folder} is a {found}, no family that plans; known are {', '.join(SPECS)}")
    return found


def check_base(options: StageOptions) -> None:
    """Raises StageError for a base that is no planner, or not one for these records."""
    model_type(options.model)
    if options.records != TOY:
        return
    own, found = (
        json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        for folder in (WEIGHTS / PLANNER, options.model)
    )
    told = [(one["model_type"], _vocabulary(one)) for one in (own, found)]
    if told[0] != told[1]:
        raise StageError(
            f"--model {options.model} is a {told[1][0]} of {told[1][1]} words, the toy world's records need the toy "
            f"planner, a {told[0][0]} of {told[0][1]}; begin with {WEIGHTS / PLANNER}, or give other --records"
        )


def _vocabulary(config: dict) -> int | None:
    """How many tokens a model of that config.json knows."""
    text = config.get("text_config")
    return config.get("vocab_size") or (text.get("vocab_size") if isinstance(text, dict) else None)
