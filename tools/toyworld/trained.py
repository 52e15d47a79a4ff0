"""Trained weights read back: each file is compared with the model it should be of, before it is used or published."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from . import editor
from .codec import Codec
from .planner_folder import planner_weights
from .texts import Reader
from .training import TrainingError
from .weights import CODEC, EDITOR, PLANNER, TEXTS, WEIGHTS, WeightsError, planner_folder, publish


def publish_folder(folder: Path, weights: Path = WEIGHTS) -> int:
    """Publish what a run's folder has; the exit status, with what is wrong on stderr."""
    found = [folder / name for name in (CODEC, EDITOR, TEXTS, PLANNER) if (folder / name).exists()]
    if not found:
        print(
            f"train.py: {folder} has no {CODEC}, {EDITOR}, {TEXTS} or {PLANNER}; finish a training first",
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


def codec_weights(file: Path) -> dict[str, torch.Tensor]:
    """An exported codec's state dict in fp32. Raises TrainingError when the file is none."""
    weights = {name: value for name, value in _read(file, "codec").items() if not name.startswith("vae_")}
    return _like(Codec(), weights, file, "codec")


def text_weights(file: Path) -> dict[str, torch.Tensor]:
    """A trained text encoder's. Raises TrainingError when the file is none."""
    return _like(Reader(0), _read(file, "text encoder"), file, "text encoder")


def editor_weights(file: Path) -> dict[str, torch.Tensor]:
    """An exported editor's, of any number of blocks. Raises TrainingError when the file is none."""
    try:
        return editor.trained_weights(_read(file, "editor"))
    except ValueError as error:
        raise TrainingError(f"{file}: {error}") from None


def grown(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights to begin with for an editor of more blocks: further ones stay as they were made, which is the identity.

    Raises TrainingError for what is left over, or is missing elsewhere.
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
            f"{file} is no trained {kind}: {name} is {given.get(name, 'not there')}, expected {wanted.get(name, 'not to be there')}; "
            f"train it first (train.py), or name the file of one"
        )
    return weights
