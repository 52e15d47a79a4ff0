"""A trainer's checkpoint to a folder that RePlan Load Planner reads: `python tools/training/convert.py CHECKPOINT OUT`.

CHECKPOINT is verl's or EasyR1's `global_step_N/actor` (shards `model_world_size_W_rank_R.pt`), a checkpoint of TRL or
accelerate with whole or FSDP-sharded weights, or any of transformers. Weights are joined exactly; the result is loaded
once, and a weight that the model lacks or does not know is an error. Nothing in the checkpoint is run.

Examples:  python tools/training/convert.py ckpt/easy_r1/stage2/global_step_40/actor models/my_planner --bf16
           python tools/training/convert.py out/checkpoint-40 models/my_planner --config-from Qwen2.5-VL-7B-Instruct
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path.insert(0, str(TOOLS))
    from bench import import_pack

    import_pack()

import torch  # noqa: E402
from replan.tools.batches.config import at_least_one  # noqa: E402
from replan.tools.batches.results import is_full  # noqa: E402
from replan.tools.training.checkpoints import CheckpointError, Weights, read_weights, same_bits  # noqa: E402
from safetensors import SafetensorError  # noqa: E402

EMBEDDING, OUTPUT = "embed_tokens.weight", "lm_head.weight"
# What a planner's folder needs besides weights. Of each kind the checkpoint's own files are taken, else those of
# --config-from; never a mix, and never program code.
KINDS: Mapping[str, tuple[str, ...]] = {
    "configuration": ("config.json", "generation_config.json"),
    "tokenizer": (
        "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt",
        "special_tokens_map.json", "added_tokens.json",
    ),
    "processor": ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
    "chat template": ("chat_template.jinja", "chat_template.json"),
}  # fmt: skip
_NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NEEDED = ("configuration", "tokenizer", "processor")


def convert(
    checkpoint: Path,
    out: Path,
    *,
    config_from: Path | None = None,
    dtype: torch.dtype | None = None,
    world_size: int | None = None,
    say=print,
) -> Path:
    """Write the planner of a checkpoint to the new folder `out`.

    config_from: where configuration, tokenizer and processor come from if the checkpoint has none. dtype: numbers of
    the weights, None to keep them. world_size: of several sets of shards. `out` appears when everything is in it.

    Raises CheckpointError for a checkpoint that is not whole, for weights that are missing, unexpected or of another
    shape, and when `out` exists.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    if out.exists() or out.is_symlink():
        raise CheckpointError(f"{out} exists already; choose a new folder")
    for folder in filter(None, (checkpoint, config_from)):
        if not Path(folder).is_dir():
            raise CheckpointError(f"{folder}: there is no such folder")
    beside = _files_beside(checkpoint, config_from)
    weights, words = read_weights(checkpoint, world_size)
    _check_numbers(weights)
    weights = _untied(weights, _configuration(beside["config.json"]))
    say(f"{checkpoint}: {len(weights)} weights, {_billions(weights)}, from {words}")
    if dtype is not None:
        weights = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write(part, weights, beside)
        del weights
        _check(part)
        os.replace(part, out)
    except (OSError, SafetensorError) as error:
        why = "the disk is full; make room and run it again" if is_full(error) else str(error)
        raise CheckpointError(f"{out} cannot be written: {why}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    say(f"{out}: put it below ComfyUI's models/LLM, and RePlan Load Planner lists it")
    return out


def _files_beside(checkpoint: Path, config_from: Path | None) -> dict[str, Path]:
    """The files of each kind, by name."""
    places = [checkpoint / "huggingface", checkpoint / "actor" / "huggingface", checkpoint]
    places += [Path(config_from)] if config_from else []
    found: dict[str, Path] = {}
    lacking = []
    for kind, names in KINDS.items():
        sets = [{name: place / name for name in names if (place / name).is_file()} for place in places]
        files = next((files for files in sets if files and (kind != "configuration" or names[0] in files)), {})
        lacking += [kind] * (kind in _NEEDED and not files)
        found |= files
    if lacking:
        looked = ", ".join(map(str, places))
        raise CheckpointError(
            f"no {' and no '.join(lacking)} was found in {looked}; give the folder of the model that the training "
            "began with: --config-from FOLDER"
        )
    return found


def _configuration(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} holds no configuration but {str(found)[:60]}")
    return found


def _check_numbers(weights: Weights) -> None:
    """Raises CheckpointError for no weights at all, for quantized ones, and for NaN and infinity."""
    if not weights:
        raise CheckpointError("the checkpoint holds no weights; the trainer did not write them to its end")
    other = [name for name, value in weights.items() if name.endswith(".weight") and value.dtype not in _NUMBERS]
    if other:
        kind = str(weights[other[0]].dtype).removeprefix("torch.")
        raise CheckpointError(f"{other[0]} is of {kind}; quantized weights cannot be converted, save them unquantized")
    wrong = [name for name, value in weights.items() if value.dtype in _NUMBERS and not torch.isfinite(value).all()]
    if wrong:
        raise CheckpointError(
            f"{len(wrong)} weights hold NaN or infinity, such as {wrong[0]}: the training went wrong before this "
            "checkpoint; take an earlier one"
        )


def _untied(weights: Weights, config: Mapping) -> Weights:
    """Without the output head where the configuration says that it is the embedding; they must be equal then."""
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else {}
    if OUTPUT not in weights or not config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)):
        return weights
    embedding = next((name for name in weights if name.endswith(EMBEDDING)), None)
    if embedding is not None and not same_bits(weights[embedding], weights[OUTPUT]):
        raise CheckpointError(
            f"the configuration ties {OUTPUT} to {embedding}, but they differ; it is of another model than the weights"
        )
    return {name: value for name, value in weights.items() if name != OUTPUT}


def _billions(weights: Weights) -> str:
    numbers = sum(value.numel() for value in weights.values())
    kinds = sorted({str(value.dtype).removeprefix("torch.") for value in weights.values()})
    return f"{numbers / 1e9:.2f} billion numbers ({', '.join(kinds)})"


def _write(folder: Path, weights: Weights, beside: Mapping[str, Path]) -> None:
    from huggingface_hub import save_torch_state_dict

    folder.mkdir(parents=True)
    for name, file in beside.items():
        shutil.copyfile(file, folder / name)
    config = _configuration(folder / "config.json")
    kinds = {value.dtype for value in weights.values() if value.is_floating_point()}
    if len(kinds) == 1:  # so that a loader that keeps the saved numbers does
        word = "torch_dtype" if "torch_dtype" in config else "dtype"
        for part in (config, *(one for one in config.values() if isinstance(one, dict) and word in one)):
            part[word] = str(next(iter(kinds))).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    save_torch_state_dict({name: value.contiguous() for name, value in weights.items()}, folder, max_shard_size="5GB")


def _check(folder: Path) -> None:
    """CheckpointError unless transformers finds each weight that the model has, of its shape, and no other."""
    import transformers

    try:
        transformers.AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        _, told = transformers.AutoModelForImageTextToText.from_pretrained(
            folder, dtype="auto", output_loading_info=True, local_files_only=True, trust_remote_code=False,
            use_safetensors=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
    except Exception as error:  # the library has errors of its own for each thing that can be wrong
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(f"transformers cannot load the result: {' '.join(lines[:3])}") from None
    wrong = {
        "are missing": told["missing_keys"],
        "are not the model's": told["unexpected_keys"],
        "have another shape": [one[0] if isinstance(one, tuple) else one for one in told["mismatched_keys"]],
    }
    found = [f"{len(names)} weights {what}, such as {sorted(names)[0]}" for what, names in wrong.items() if names]
    if found:
        raise CheckpointError(
            f"the checkpoint and its configuration do not belong together: {'; '.join(found)}. Give the model that the "
            "training began with: --config-from FOLDER"
        )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a trainer's folder")
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument(
        "--config-from", type=Path, metavar="FOLDER", help="a model's folder: its configuration, tokenizer, processor"
    )
    parser.add_argument("--bf16", action="store_true", help="write the weights in bfloat16 (default: as they are)")
    parser.add_argument(
        "--world-size", type=at_least_one, metavar="N", help="which shards to take, where there are several sets"
    )
    args = parser.parse_args(arguments)
    dtype = torch.bfloat16 if args.bf16 else None
    try:
        convert(args.checkpoint, args.out, config_from=args.config_from, dtype=dtype, world_size=args.world_size)
    except CheckpointError as error:
        print(f"convert.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
