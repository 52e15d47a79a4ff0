"""What a stage is told besides TRL's own settings (GRPOConfig); a YAML file or the command line."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from types import NoneType
from typing import Any, get_args, get_type_hints

TOY, EXACT = "toy", "exact"


class StageError(RuntimeError):
    """A stage that cannot begin or go on; the message says what was found and what to do."""


def _option(default, text: str):
    return field(default=default, metadata={"help": text})


MOST_RANK = 1024  # of a LoRA: as wide as a small model's layers
_LOWEST = {
    ("limit", "held_out", "measure_every", "stop_after", "pictures_every", "lora", "lora_alpha", "threads"): 0,
    ("held_out_seed", "toy_run", "sharp"): 0,
    ("most_pixels", "think_length", "render_steps", "workers"): 1,
    ("render_timeout", "patience", "judge_timeout"): 0.001,
}
LOWEST_OF_TRL = {
    ("learning_rate", "beta", "weight_decay", "max_grad_norm", "seed", "epsilon", "epsilon_high", "delta"): 0,
    ("per_device_train_batch_size", "gradient_accumulation_steps", "max_completion_length", "num_iterations"): 1,
    ("temperature",): 1e-4,
    ("max_steps",): -1,
    ("save_steps", "logging_steps"): 1e-4,
}
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def check_types(settings: Any, checked: Collection[type] = (bool, int, float, str)) -> None:
    """Raises StageError for a value that is not of its field's type: a YAML file's are taken as they are.

    checked: the types to look at. TRL and transformers put other things into some of their fields for text.
    """
    hints = get_type_hints(type(settings))
    for one in fields(settings):
        kinds = set(get_args(hints[one.name]) or (hints[one.name],))
        value = getattr(settings, one.name)
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if not kinds <= {*checked, NoneType} or value == default:
            continue  # a field of another kind is TRL's to look at
        fine = (*kinds, int) if float in kinds else tuple(kinds)
        if not isinstance(value, fine) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(words for kind, words in _KINDS.items() if kind in kinds)
            raise StageError(f"{one.name} is {wanted}, found {str(value)[:60]!r}; mend it in the YAML file of --config")


def check_numbers(settings: Any, lowest: Mapping[tuple[str, ...], float]) -> None:
    """Raises StageError for numbers below the lowest that their fields may have, and for NaN and infinity."""
    for name, low in ((name, low) for names, low in lowest.items() for name in names):
        value = getattr(settings, name)
        if value is not None and not low <= value < math.inf:
            raise StageError(f"--{name} is {value}; give a number from {low:g}")


@dataclass
class StageOptions:
    """Options of one stage."""

    model: str = _option("", "the planner to begin with: a folder as transformers keeps a model")
    records: str = _option(TOY, "'toy', or what tools/training/data.py reads; several with commas between them")
    task: str = _option("text_refinement_edit_nothink", "the task_name of the records, or one for each source")
    split: str = _option("train", "of IV-Edit's parquet files")
    limit: int = _option(0, "no more records than that (0: all; of the toy world 2000)")
    toy_run: int = _option(900, "which requests of the toy world")
    most_pixels: int = _option(1_003_520, "of an image that the model sees")
    published: bool = _option(False, "the published rewards, quirks included")
    think_length: int = _option(50, "characters of reasoning that earn all there is for it")
    shuffled: bool = _option(False, "a control: the rewards of a batch are shuffled, so nothing can be learnt")

    comfyui: str = _option("", "stage 2: addresses of ComfyUI servers that render, separated by commas")
    workflow: str = _option(TOY, "stage 2: the workflow that edits by a plan, in API format; 'toy': the toy editor's")
    render_steps: int = _option(8, "sampling steps of the toy editor's workflow")
    render_timeout: float = _option(300.0, "seconds for one image")
    patience: float = _option(600.0, "seconds without any ComfyUI before the stage ends")
    judge: str = _option(EXACT, "stage 2: 'exact' (toy world), or the address of an OpenAI-compatible server")
    judge_model: str = _option("", "the judge's name there")
    judge_timeout: float = _option(180.0, "seconds for one reply of the judge")
    sharp: float = _option(4.0, "a judge's score counts 1 from here on; 0: the plain branch")
    in_turns: bool = _option(False, "stage 2 on one GPU: render all, let ComfyUI free its memory, then judge all")
    workers: int = _option(8, "images that are judged at once")

    held_out: int = _option(32, "records that are not trained on, answered greedily while it trains")
    held_out_seed: int = _option(1, "which ones, of the toy world")
    measure_every: int = _option(10, "steps from one such measurement to the next (0: never)")
    stop_after: int = _option(0, "end after so many measurements in a row without a better one (0: never)")
    pictures_every: int = _option(10, "steps from one sheet of plans to the next (0: none)")

    lora: int = _option(0, "train a LoRA of this rank in place of all weights")
    lora_alpha: int = _option(0, "its alpha (0: twice the rank)")
    threads: int = _option(0, "CPU threads (0: torch's own choice)")

    def __post_init__(self) -> None:
        check_types(self)
        if not self.model:
            raise StageError("no --model: give the folder of the planner to begin with")
        check_numbers(self, _LOWEST)
        if self.lora > MOST_RANK:
            raise StageError(f"--lora is {self.lora}; give a rank up to {MOST_RANK}, or 0 to train all weights")

    def decisive(self) -> dict:
        """The options that decide what is learnt; a run goes on only under the same. Where it runs is none of them."""
        where = ("comfyui", "render_timeout", "patience", "judge_timeout", "workers", "threads", "pictures_every")
        return {name: value for name, value in asdict(self).items() if name not in where}
