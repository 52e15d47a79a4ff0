"""Which reader takes a model on disk, and that each is loaded once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from ..plan import PlanError
from .files import read_config, stamp
from .interface import PlannerModel

READERS = ("auto", "comfyui", "transformers")
DTYPES = ("default", "bf16", "fp16", "fp32", "fp8")
DEVICES = ("default", "cpu", "spread")

# Two loader nodes with the same choice share one model for as long as one of them is held; nothing is kept alive here.
_loaded: WeakValueDictionary[tuple, Any] = WeakValueDictionary()
_lock = threading.Lock()


def load_planner(path: Path, dtype: str = "default", device: str = "default", reader: str = "auto") -> PlannerModel:
    """The model at `path`, loaded or shared.

    dtype, device, reader: of DTYPES, DEVICES, READERS. Raises PlanError for whatever is wrong with it or with the
    choices.
    """
    from .memory import explaining_full_memory

    key = (str(path), stamp(path), dtype, device, reader)
    with _lock, explaining_full_memory(f"loading '{path.name}'"):
        model = _loaded.get(key)
        if model is None:
            model = _loaded[key] = _load(path, dtype, device, reader)
        return model


def _load(path: Path, dtype: str, device: str, reader: str) -> PlannerModel:
    by_host = path.is_file() if reader == "auto" else reader == "comfyui"
    if reader == "transformers" and path.is_file():
        raise PlanError(
            f"'{path.name}' is a single file; transformers reads whole folders with config.json, so set reader to "
            "'auto'"
        )
    if path.is_dir() and reader == "auto" and device != "spread":
        from .host_weights import host_takes

        by_host = host_takes(read_config(path))
    if not by_host:
        if dtype == "fp8":
            raise PlanError(
                f"'{path.name}' is read by transformers, which takes 8 bits only where a folder has them already; set "
                "dtype to 'bf16', or take a Qwen2.5-VL 7B or Qwen3-VL 4B or 8B, which ComfyUI reads"
            )
        from . import folder

        return folder.load(path, dtype, device)
    if device == "spread":
        raise PlanError(
            "device 'spread' is for folders that transformers reads; ComfyUI spreads its own models by itself, set "
            "'default'"
        )
    from . import host

    return host.load(path, dtype, device)
