"""The toy world's checkpoints where the loaders look: the trained ones checked and copied, the CLIP-L written.

The trained weights lie in `weights/` with their model card; `weights/hashes.json` says what each file must be. The
planner is a folder and an extra: everything else works without it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

WEIGHTS = Path(__file__).resolve().parent / "weights"
HASHES = "hashes.json"
EDITOR, CODEC, TEXT_ENCODER = "toyworld_editor.safetensors", "toyworld_codec.safetensors", "toyworld_clip_l.safetensors"
TEXTS = "toyworld_texts.safetensors"  # the trained part of the text encoder, which is written from it and from a seed
PLANNER = "toyworld_planner"  # a folder, as transformers keeps a model
PLANNER_FILES = ("config.json", "model.safetensors", "tokenizer.json")  # without these it is none
TEMPLATE = "toyworld.txt"  # what the planner reads: nothing but the instruction
FOLDERS = {EDITOR: "diffusion_models", CODEC: "vae", TEXT_ENCODER: "text_encoders"}


class WeightsError(RuntimeError):
    """Weights that are missing or not what they should be; the message says which and what to do."""


def checked(name: str, weights: Path = WEIGHTS) -> Path:
    """The path of a trained file, once its hash is right. Raises WeightsError."""
    file, wanted = weights / name, read_hashes(weights).get(name)
    if wanted is None:
        raise WeightsError(f"{weights / HASHES} does not say what {name} must be; restore it from the repository")
    if not file.is_file():
        raise WeightsError(f"{file} is missing; restore it from the repository, or train it (tools/training/README.md)")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != wanted:
        raise WeightsError(
            f"{file} has the SHA-256 {found[:12]}..., expected {wanted[:12]}...: it was cut off or changed "
            f"({file.stat().st_size} bytes). Restore it from the repository; after a training of your own, "
            f"run `python tools/training/train.py publish --folder FOLDER`"
        )
    return file


def fingerprint(weights: Path = WEIGHTS) -> str:
    """Twelve digits that tell one set of editor, codec and text encoder from another. Raises WeightsError."""
    hashes = read_hashes(weights)
    return hashlib.sha256("".join(hashes.get(name, "") for name in (CODEC, EDITOR, TEXTS)).encode()).hexdigest()[:12]


def read_hashes(weights: Path) -> dict[str, str]:
    """What each published file must be. Raises WeightsError."""
    if not weights.is_dir():
        raise WeightsError(f"there is no folder {weights}; give one with {EDITOR}, {CODEC}, {TEXTS} and {HASHES}")
    try:
        hashes = json.loads((weights / HASHES).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{weights / HASHES} cannot be read ({type(error).__name__}); restore it from the repository"
        ) from None
    if not isinstance(hashes, dict) or not all(isinstance(value, str) for value in hashes.values()):
        raise WeightsError(
            f"{weights / HASHES} should hold names with their SHA-256 and does not; restore it from the repository"
        )
    return hashes


def ensure(models: Path, weights: Path = WEIGHTS) -> dict[str, Path]:
    """Put all three checkpoints below a models folder laid out as ComfyUI's; the path of each."""
    paths = {name: models / folder / name for name, folder in FOLDERS.items()}
    for name in (EDITOR, CODEC):
        source, target = checked(name, weights), paths[name]
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            replace_file(target, lambda part, source=source: shutil.copyfile(source, part))
    _ensure_text_encoder(paths[TEXT_ENCODER], checked(TEXTS, weights))
    return paths


def planner_published(weights: Path = WEIGHTS) -> bool:
    """Whether the repository has a planner at all."""
    return (weights / PLANNER).is_dir()


def checked_planner(weights: Path = WEIGHTS) -> Path:
    """The published planner's folder, once every file's hash is right. Raises WeightsError."""
    folder = weights / PLANNER
    if not planner_published(weights):
        raise WeightsError(
            f"{folder} is missing; restore it from the repository, or train it and run "
            "`python tools/training/train.py publish --folder FOLDER` (tools/training/README.md)"
        )
    for name in sorted({*PLANNER_FILES, *_planner_files(read_hashes(weights))}):
        checked(f"{PLANNER}/{name}", weights)
    return folder


def planner_folder(place: Path) -> Path:
    """The planner in a folder of one's own: that folder, or the one that a finished run has in it."""
    for folder in (place, place / PLANNER):
        if all((folder / name).is_file() for name in PLANNER_FILES):
            return folder
    raise WeightsError(
        f"{place} holds no planner ({', '.join(PLANNER_FILES)}); give a folder that "
        "`python tools/training/train.py planner` wrote, once it has finished"
    )


def ensure_planner(models: Path, place: Path | None = None, weights: Path = WEIGHTS) -> tuple[str, str]:
    """Put the planner (of `place`, else the published one) and its template where the pack's nodes look.

    Returns the names that RePlan Load Planner and RePlan Planner list them by.
    """
    source = planner_folder(place) if place else checked_planner(weights)
    target = models / "LLM" / PLANNER
    target.mkdir(parents=True, exist_ok=True)
    files = {file.name: file.read_bytes() for file in sorted(source.iterdir()) if file.is_file()}
    for old in target.iterdir():
        if old.name not in files:
            old.unlink()
    for name, content in files.items():
        if not (target / name).is_file() or (target / name).read_bytes() != content:
            replace_file(target / name, lambda part, content=content: part.write_bytes(content))
    template = models / "replan_templates" / TEMPLATE
    if not template.is_file():
        replace_file(template, lambda part: part.write_text("{{instruction}}", encoding="utf-8"))
    return PLANNER, TEMPLATE


def _planner_files(hashes: dict[str, str]) -> list[str]:
    return [name.removeprefix(f"{PLANNER}/") for name in hashes if name.startswith(f"{PLANNER}/")]


def _ensure_text_encoder(target: Path, trained: Path) -> None:
    """Write the CLIP-L unless it is there already, of this recipe and whole."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file, save_file

    from . import clip_l

    trained_hash = hashlib.sha256(trained.read_bytes()).hexdigest()
    recipe = f"{clip_l.RECIPE} {clip_l.SEED} {clip_l.POSITIONS} {clip_l.POSITION_SCALE} {trained_hash}"
    try:
        with safe_open(target, "pt") as file:
            if (file.metadata() or {}).get("recipe") == recipe:
                return
    except (OSError, SafetensorError):
        pass  # missing or cut off
    replace_file(
        target, lambda part: save_file(clip_l.comfyui_weights(load_file(trained)), part, metadata={"recipe": recipe})
    )


def replace_file(target: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, then move it there: an interruption leaves the old one whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        write(part)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
