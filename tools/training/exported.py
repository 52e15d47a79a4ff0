"""Trained weights after a run: read back, compared with the model they are for, published into the repository."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from ..toyworld.dual_encoder import DUAL
from ..toyworld.weights import (
    CODEC,
    EDITOR,
    HASHES,
    PLANNER,
    TEXTS,
    WEIGHTS,
    WeightsError,
    planner_folder,
    read_hashes,
    replace_file,
)
from . import editor
from .codec import Codec
from .dual_encoder import DualEncoder
from .planner_model import planner_weights
from .run import TrainingError
from .text_encoder import TextLayers


def codec_weights(file: Path) -> dict[str, torch.Tensor]:
    """An exported codec's state dict in fp32. Raises TrainingError when the file holds something else."""
    weights = {name: value for name, value in _read(file, "codec").items() if not name.startswith("vae_")}
    return _like(Codec(), weights, file, "codec")


def text_weights(file: Path) -> dict[str, torch.Tensor]:
    """The text encoder's trained layers in fp32. Raises TrainingError when the file holds something else."""
    return _like(TextLayers(0), _read(file, "text encoder"), file, "text encoder")


def dual_weights(file: Path) -> dict[str, torch.Tensor]:
    """An exported dual encoder's state dict in fp32. Raises TrainingError when the file holds something else."""
    return _like(DualEncoder(0), _read(file, "dual encoder"), file, "dual encoder")


def editor_weights(file: Path) -> dict[str, torch.Tensor]:
    """An exported editor's state dict in fp32, of any number of blocks.

    Raises TrainingError when the file holds something else.
    """
    try:
        return editor.trained_weights(_read(file, "editor"))
    except ValueError as error:
        raise TrainingError(f"{file}: {error}") from None


def with_new_blocks(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An editor's weights for a model of as many single blocks or more: a new block is the identity, as it begins.

    Raises TrainingError for weights that the model has no place for, or that are missing elsewhere.
    """
    fresh = model.state_dict()
    missing = [name for name in fresh if name not in weights and not name.startswith("single_transformer_blocks.")]
    foreign = [name for name, value in weights.items() if name not in fresh or fresh[name].shape != value.shape]
    if missing or foreign:
        raise TrainingError(
            f"weights of another editor: {(missing + foreign)[0]} is missing, left over or of another shape"
        )
    return {**fresh, **weights}


CHECKS: dict[str, Callable[[Path], object]] = {
    CODEC: codec_weights,
    TEXTS: text_weights,
    EDITOR: lambda file: _like(editor.make_editor(0), editor_weights(file), file, "editor"),
    PLANNER: lambda place: planner_weights(planner_folder(place)),
    DUAL: dual_weights,
}


def _read(file: Path, kind: str) -> dict[str, torch.Tensor]:
    try:
        return {name: value.float() for name, value in load(file.read_bytes()).items()}
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{file} is no trained {kind} ({type(error).__name__}: {error}); train it first (train.py)"
        ) from None


def _like(model: torch.nn.Module, weights: dict[str, torch.Tensor], file: Path, kind: str) -> dict[str, torch.Tensor]:
    """The weights, if they are the model's by name and shape."""
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    if wanted != given:
        name = next(name for name in sorted({*wanted, *given}) if wanted.get(name) != given.get(name))
        raise TrainingError(
            f"{file} is no trained {kind}: {name} is {given.get(name, 'not there')}, "
            f"expected {wanted.get(name, 'not to be there')}; "
            f"train it first (train.py), or name the file of one"
        )
    return weights


def publish_folder(folder: Path, weights: Path = WEIGHTS) -> int:
    """Publish what a run's folder has; the exit status, with what is wrong on stderr."""
    found = [folder / name for name in CHECKS if (folder / name).exists()]
    if not found:
        print(
            f"train.py: {folder} has none of {', '.join(CHECKS)}; finish a training first",
            file=sys.stderr,
        )
        return 1
    try:
        for file in found:
            CHECKS[file.name](file)
        publish(found, weights)
    except (WeightsError, TrainingError) as error:
        print(f"train.py: {error}; nothing was published", file=sys.stderr)
        return 1
    except OSError as error:  # in the middle of copying, a full disk for one
        print(f"train.py: {error}; look at {weights} with git before you go on", file=sys.stderr)
        return 1
    print(f"{', '.join(file.name for file in found)}: now in {weights}; bring the model card up to date")
    return 0


def publish(files: Iterable[Path], weights: Path = WEIGHTS) -> None:
    """Copy trained files and the planner's folder into the repository and write their hashes.

    Each replaces the old one in one move, and `hashes.json` follows last. Raises WeightsError, before anything is
    touched, for what is published already, for a folder that holds folders, and for a file in a folder's place.
    """
    files = list(files)
    weights.mkdir(exist_ok=True)
    hashes = read_hashes(weights) if (weights / HASHES).exists() else {}
    for file in files:
        target = weights / file.name
        if target.exists() and target.samefile(file):
            raise WeightsError(f"{file} is what is published already; name the folder of a training")
        if target.exists() and target.is_dir() != file.is_dir():
            raise WeightsError(f"{target} should be a {'folder' if file.is_dir() else 'file'}; move it away")
        if file.is_dir() and any(not one.is_file() for one in file.iterdir()):
            raise WeightsError(f"{file} holds more than files; a planner's folder has none below it")
    for file in files:
        target, old = weights / file.name, weights / f".{file.name}.old"
        if file.is_dir():
            hashes = {name: value for name, value in hashes.items() if not name.startswith(f"{file.name}/")}
            part = weights / f".{file.name}.part"
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(file, part)
            if target.exists():
                os.replace(target, old)
            os.replace(part, target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            replace_file(target, lambda part, file=file: shutil.copyfile(file, part))
        for one in sorted(target.iterdir()) if target.is_dir() else (target,):
            hashes[one.relative_to(weights).as_posix()] = hashlib.sha256(one.read_bytes()).hexdigest()
    replace_file(
        weights / HASHES,
        lambda part: part.write_text(json.dumps(hashes, indent=1, sort_keys=True) + "\n", encoding="utf-8"),
    )
