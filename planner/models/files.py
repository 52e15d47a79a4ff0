"""Models on disk: what lies in a folder, and whether all of it is there. Reads headers and JSON only, no weights."""

from __future__ import annotations

import contextlib
import json
import re
import struct
from pathlib import Path
from typing import Any

from ..plan import PlanError, shown

WEIGHTS = (".safetensors", ".sft")
_INDEX = "model.safetensors.index.json"
_LONGEST_HEADER = 100_000_000
# The published planner, letters and digits only, and the template that it was trained on
# (replan/pipelines/prompt_template of the published code).
_PUBLISHED = "replanqwen25vl7b"
PUBLISHED_TEMPLATE = "replan.txt"


def models_below(folders: list[str], depth: int = 3) -> dict[str, Path]:
    """Every weights file and every model folder (one with a config.json) below `folders`, by its path from there.

    A folder's own weights are not listed again as files. Of equal names the first counts, as in ComfyUI's lists.
    """
    found: dict[str, Path] = {}

    def look(place: Path, name: str, left: int) -> None:
        try:
            entries = sorted(place.iterdir())
        except OSError:
            return
        if name and any(entry.name == "config.json" for entry in entries):
            found.setdefault(name, place)
            return
        for entry in entries:
            below = f"{name}/{entry.name}" if name else entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if left:
                    look(entry, below, left - 1)
            elif entry.suffix.lower() in WEIGHTS:
                found.setdefault(below, entry)

    for folder in folders:
        look(Path(folder), "", depth)
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json as an object; PlanError when it is missing or broken."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise PlanError(
            f"the folder '{folder.name}' has no config.json; download the whole model folder again"
        ) from None
    except ValueError as error:
        raise PlanError(f"'{folder.name}/config.json' is not JSON ({error}); download it again") from None
    if not isinstance(config, dict):
        raise PlanError(f"'{folder.name}/config.json' is not an object; download it again")
    return config


def weight_files(path: Path) -> list[Path]:
    """The files that hold a model's weights: `path` itself, or the shards of a folder, all of them and all whole.

    Raises PlanError for weights that are missing or cut off, and for a folder with weights of another kind only (files
    that can run code when they are read are never opened).
    """
    if not path.exists():
        raise PlanError(f"there is no '{path.name}' any more; press R to refresh the list and choose another")
    if path.is_file():
        if path.suffix.lower() not in WEIGHTS:
            raise PlanError(
                f"'{path.name}' is no .safetensors file, and other kinds of weights are never read; choose another"
            )
        _check_whole(path)
        return [path]
    names = _shard_names(path)
    files = [path / name for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise PlanError(
            f"{len(missing)} of {len(files)} weights files of '{path.name}' are missing, the first is {missing[0]}; "
            "the download is not complete, fetch the rest"
        )
    for file in files:
        _check_whole(file)
    return files


def _shard_names(folder: Path) -> list[str]:
    index = folder / _INDEX
    if index.is_file():
        try:
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            names = sorted(set(names))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise PlanError(
                f"'{folder.name}/{_INDEX}' cannot be read ({type(error).__name__}); download it again"
            ) from None
        outside = [name for name in names if Path(name).name != name]
        if outside:
            raise PlanError(
                f"'{folder.name}/{_INDEX}' names {shown(outside[0])}, which is no file of this folder; download it "
                "again"
            )
        if names:
            return names
    names = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in WEIGHTS)
    if not names:
        others = sorted(
            file.name for file in folder.iterdir() if file.suffix.lower() in (".bin", ".pt", ".pth", ".gguf")
        )
        raise PlanError(
            f"the folder '{folder.name}' holds no .safetensors weights"
            + (
                f", only {others[0]}, a kind that is never read; take the model as .safetensors"
                if others
                else "; download the whole model folder again"
            )
        )
    return names


def _check_whole(file: Path) -> None:
    """PlanError for a file that ends before its header says (a download that broke off), or that cannot be opened."""
    from safetensors import SafetensorError, safe_open

    again = f"the weights file '{file.name}' is not complete or not a .safetensors file"
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            start = opened.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
                raise PlanError(f"{again}: it has {size} bytes and no readable header; download it again")
            header = json.loads(opened.read(length))
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        whole = 8 + length + max((int(entry["data_offsets"][1]) for entry in entries), default=0)
        if whole > size:
            raise PlanError(f"{again}: it has {size} bytes of {whole}; download it again")
        with safe_open(file, "pt"):  # the rest of what can be wrong with a header
            pass
    except PlanError:
        raise
    except OSError as error:
        raise PlanError(
            f"the weights file '{file.name}' cannot be opened ({error.strerror}); check its permissions"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, SafetensorError):
        raise PlanError(f"{again}: its header cannot be read; download it again") from None


def stamp(path: Path) -> tuple:
    """What changes when a model on disk is replaced: names, sizes and times of its files."""
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file())


def trained_template(path: Path) -> Path | None:
    """Where the template that the model at `path` was trained on would lie beside it, or None if it has none.

    It has one if it is the published planner, by its name (a file's, a folder's, or in the folder's config.json),
    whatever stands before and after it: TainU/RePlan-Qwen2.5-VL-7B, RePlan_Qwen2.5-VL-7B_fp8.safetensors.
    """
    folder = path if path.is_dir() else path.parent
    names = [path.name, folder.name, folder.parent.name, folder.parent.parent.name]
    if path.is_dir():
        with contextlib.suppress(PlanError):
            names.append(str(read_config(path).get("_name_or_path", "")))
    published = any(_PUBLISHED in re.sub(r"[\W_]", "", name).casefold() for name in names)
    return folder / PUBLISHED_TEMPLATE if published else None
