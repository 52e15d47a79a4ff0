"""One stage of training, from a base to a trained planner: TRL's GRPOTrainer with the rewards of this folder."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from replan.tools.batches.items import BatchError
from replan.tools.batches.results import is_full
from replan.tools.training.data import processor_of
from safetensors import SafetensorError

from .held_out import greedy_replies, measured
from .options import LOWEST_OF_TRL, StageError, StageOptions, check_numbers, check_types
from .records import check_base, dataset_of, training_and_held_out
from .stage_rewards import StageRewards
from .watching import BEST, Progress, Watch
from .worlds import world_of

SETTINGS, DONE = "stage.json", "done.json"
STATE = "trainer_state.json"
_LITTLE = 32 * 2**20  # bytes free: less than the next part of a checkpoint


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a stage as the arguments and the YAML say; the exit status."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # TRL's, not the user's
    try:
        train(*parsed(arguments))
    except StageError as error:
        print(f"grpo.py: {error}", file=sys.stderr)
        return 2
    return 0


def parsed(arguments: Sequence[str] | None) -> tuple:
    """The options and TRL's configuration. Raises StageError for a YAML file or values that cannot be used."""
    from trl import GRPOConfig, TrlParser
    from yaml import YAMLError

    try:
        options, config = TrlParser((StageOptions, GRPOConfig)).parse_args_and_config(arguments)
    except OSError as error:
        raise StageError(f"--config {error.filename} cannot be read: {error.strerror}") from None
    except IndexError:
        raise StageError("--config is followed by the YAML file of a stage") from None
    except (ValueError, TypeError, ArithmeticError, YAMLError) as error:  # also text that is no UTF-8
        why = " ".join(str(error).split())
        raise StageError(
            f"the settings cannot be used: {why}; mend them in the YAML file or on the command line"
        ) from None
    check_types(config, (bool, int, float))
    check_numbers(config, LOWEST_OF_TRL)
    return options, config


def train(options: StageOptions, config) -> Path:
    """Run a stage, or go on with it; the folder of the trained planner.

    Raises StageError for what cannot begin or go on.
    """
    check_base(options)
    out = Path(config.output_dir)
    check_folder(out, options.model)
    first = config.process_index == 0
    say = (lambda text: print(text, flush=True)) if first else (lambda _: None)
    if (out / DONE).is_file():
        say(f"{out} is done; give another --output_dir, or delete {DONE} there to train it on")
        return out
    checkpoint = resumed_from(out, config.world_size)
    _compare(out, options, config, bool(checkpoint), first)
    if options.threads:
        torch.set_num_threads(options.threads)
    with config.main_process_first(local=False, desc="records"):
        prompts, held_out = training_and_held_out(options, out)
    world = world_of(options, out, config.seed, say) if options.comfyui else None
    rewards = StageRewards([*prompts, *held_out], options, world)
    trainer = _trainer(options, config, rewards, prompts)
    groups = config.generation_batch_size // config.num_generations

    def answer():
        from trl.models.utils import unwrap_model_for_generation

        with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model:
            replies = greedy_replies(model, trainer.processing_class, held_out, config.max_completion_length)
        return measured(rewards, held_out, replies)

    def save(folder: Path) -> None:
        trainer.save_model(str(folder))

    trainer.add_callback(Progress(out, groups, say))
    watch = Watch(out, answer, save, options.measure_every, options.stop_after, options.pictures_every, say)
    if held_out:
        trainer.add_callback(watch)
    if checkpoint:
        say(f"going on from {checkpoint}")
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if watch.stopped and (out / BEST).is_dir():
            if first:
                shutil.copytree(out / BEST, out, dirs_exist_ok=True)
        else:
            save(out)
        if options.lora and first:
            _merge(options, out)
    except Exception as error:
        if not is_full(error):
            raise
        raise StageError(_full_text(out)) from None
    if first:
        (out / DONE).write_text(json.dumps({"step": trainer.state.global_step}), encoding="utf-8")
    return out


def _trainer(options: StageOptions, config, rewards: StageRewards, prompts):
    """TRL's trainer of a stage, imported here: only its own environment has TRL."""
    from transformers import PrinterCallback, ProgressCallback
    from trl import GRPOTrainer

    class Trainer(GRPOTrainer):
        """A checkpoint that was not finished is taken away: a run must not go on from half of one."""

        def _save_checkpoint(self, model, trial) -> None:
            try:
                super()._save_checkpoint(model, trial)
            except Exception as error:
                out = Path(self.args.output_dir)
                full = left_no_room(error, out)  # before there is room again
                if self.is_world_process_zero():
                    shutil.rmtree(out / f"checkpoint-{self.state.global_step}", True)
                if full:
                    raise StageError(_full_text(out)) from None
                raise

    try:
        processor = processor_of(options.model, padding_side="left")
    except BatchError as error:
        raise StageError(f"--model {error}") from None
    sizes = processor.image_processor.size
    if "longest_edge" in sizes:
        sizes["longest_edge"] = min(sizes["longest_edge"], options.most_pixels)
    peft_config = None
    if options.lora:
        from peft import LoraConfig

        peft_config = LoraConfig(
            r=options.lora, lora_alpha=options.lora_alpha or 2 * options.lora, target_modules="all-linear",
            task_type="CAUSAL_LM",
        )  # fmt: skip
    try:
        trainer = Trainer(
            model=options.model, reward_funcs=rewards.functions, args=config, train_dataset=dataset_of(prompts),
            processing_class=processor, peft_config=peft_config,
        )  # fmt: skip
    except (OSError, SafetensorError, ValueError) as error:
        why = " ".join(str(error).split())[:300]
        raise StageError(f"--model {options.model} cannot be trained with these settings: {why}") from None
    for says_the_same in (ProgressCallback, PrinterCallback):  # as `Progress`, in more words
        trainer.remove_callback(says_the_same)
    return trainer


def check_folder(out: Path, model: str) -> None:
    """Refuse to write over a planner that no stage of this folder has trained."""
    if out.resolve() == Path(model).resolve() or ((out / "config.json").exists() and not (out / SETTINGS).is_file()):
        raise StageError(f"--output_dir {out} holds a planner already, which would be overwritten; give another folder")


def resumed_from(out: Path, world_size: int) -> Path | None:
    """The last whole checkpoint of a folder, None for none.

    Raises StageError for one that another number of processes wrote: chance and optimizer would not be the same.
    """
    whole = {int(one.name.rpartition("-")[2]): one for one in out.glob("checkpoint-*") if _is_whole(one)}
    if not whole:
        return None
    last = whole[max(whole)]
    wrote = len(list(last.glob("rng_state_*.pth"))) or 1
    if wrote != world_size:
        raise StageError(
            f"{last} was written by {wrote} processes, this run has {world_size}; start as many, or give another "
            "--output_dir with this checkpoint as --model"
        )
    return last


def _is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end: its state comes last."""
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(state, dict) and checkpoint.name.rpartition("-")[2].isdecimal()


def _compare(out: Path, options: StageOptions, config, resumes: bool, first: bool) -> None:
    """Refuse to go on under other settings than the run began with."""
    names = ("learning_rate", "num_generations", "generation_batch_size", "beta", "temperature", "seed", "loss_type")
    settings = {**options.decisive(), **{name: getattr(config, name) for name in names}}
    file = out / SETTINGS
    if resumes and file.is_file():
        try:
            began = dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise StageError(
                f"{file}, the settings of the run, cannot be read ({error}); give another --output_dir, and a "
                "checkpoint of this one as --model"
            ) from None
        other = [
            f"{name} {began.get(name)!r}, now {value!r}" for name, value in settings.items() if began.get(name) != value
        ]
        if other:
            raise StageError(
                f"{out} is of a run with other settings ({'; '.join(other)}); give the same ones to go on, or another "
                "--output_dir to begin anew"
            )
    if first:
        try:
            out.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(settings, indent=1), encoding="utf-8")
        except OSError as error:
            raise StageError(_full_text(out) if is_full(error) else f"{out} cannot be written: {error}") from None


def left_no_room(error: BaseException, out: Path) -> bool:
    """Whether a checkpoint could not be written to a folder because its disk is full.

    torch does not say so, it speaks of positions in the file: the room that is left tells.
    """
    return is_full(error) or shutil.disk_usage(out).free < _LITTLE


def _full_text(out: Path) -> str:
    whole = sorted(filter(_is_whole, out.glob("checkpoint-*")), key=lambda one: int(one.name.rpartition("-")[2]))
    left = f"the last whole checkpoint is {whole[-1]}" if whole else "no checkpoint was written yet"
    return f"the disk of {out} is full, {left}; make room, and the same command goes on from there"


def _merge(options: StageOptions, out: Path) -> None:
    """The LoRA of a folder in its base's weights, as RePlan Load Planner reads a planner: in `merged`."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    base = AutoModelForImageTextToText.from_pretrained(options.model, dtype="auto", local_files_only=True)
    PeftModel.from_pretrained(base, str(out)).merge_and_unload().save_pretrained(out / "merged")
    AutoProcessor.from_pretrained(options.model, local_files_only=True).save_pretrained(out / "merged")
