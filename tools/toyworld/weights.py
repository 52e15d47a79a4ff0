"""The toy world's checkpoints where ComfyUI's loaders look: the trained ones checked and copied, the CLIP-L written.

The trained weights lie in `weights/` with their model card; `weights/hashes.json` says what each file must be.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

WEIGHTS = Path(__file__).resolve().parent / "weights"
HASHES = "hashes.json"
EDITOR, CODEC, TEXT_ENCODER = "toyworld_editor.safetensors", "toyworld_codec.safetensors", "toyworld_clip_l.safetensors"
PLANNER = "toyworld_planner"  # a folder, as transformers keeps a model
FOLDERS = {EDITOR: "diffusion_models", CODEC: "vae", TEXT_ENCODER: "text_encoders"}


class WeightsError(RuntimeError):
    """Weights that are missing or not what they should be; the message says which and what to do."""


def checked(name: str, weights: Path = WEIGHTS) -> Path:
    """The path of a trained file, once its hash is right. Raises WeightsError."""
    file = weights / name
    try:
        wanted = json.loads((weights / HASHES).read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{weights / HASHES} does not say what {name} must be ({type(error).__name__}); restore it from the repository"
        ) from None
    if not file.is_file():
        raise WeightsError(f"{file} is missing; restore it from the repository, or train it (tools/toyworld/README.md)")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != wanted:
        raise WeightsError(
            f"{file} has the SHA-256 {found[:12]}..., expected {wanted[:12]}...: it was cut off or changed "
            f"({file.stat().st_size} bytes). Restore it from the repository; after a training of your own, "
            f"run `python tools/toyworld/train.py publish`"
        )
    return file


def ensure(models: Path, weights: Path = WEIGHTS) -> dict[str, Path]:
    """Put all three checkpoints below a models folder laid out as ComfyUI's; the path of each."""
    paths = {name: models / folder / name for name, folder in FOLDERS.items()}
    for name in (EDITOR, CODEC):
        source, target = checked(name, weights), paths[name]
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            _put(target, lambda part, source=source: shutil.copyfile(source, part))
    _ensure_text_encoder(paths[TEXT_ENCODER])
    return paths


def _ensure_text_encoder(target: Path) -> None:
    """Write the CLIP-L unless it is there already, of this recipe and whole."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    from . import texts

    recipe = f"{texts.RECIPE} {texts.SEED} {texts.ORDERED} {texts.PLACE}"
    try:
        with safe_open(target, "pt") as file:
            if (file.metadata() or {}).get("recipe") == recipe:
                return
    except (OSError, SafetensorError):
        pass  # missing or cut off
    _put(target, lambda part: save_file(texts.host_weights(), part, metadata={"recipe": recipe}))


def _put(target: Path, write) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        write(part)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def publish(files: Iterable[Path], weights: Path = WEIGHTS) -> None:
    """Copy trained files into the repository and note their hashes."""
    weights.mkdir(exist_ok=True)
    known = weights / HASHES
    hashes = json.loads(known.read_text(encoding="utf-8")) if known.exists() else {}
    for file in files:
        shutil.copyfile(file, weights / file.name)
        hashes[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    known.write_text(json.dumps(hashes, indent=1, sort_keys=True) + "\n", encoding="utf-8")
