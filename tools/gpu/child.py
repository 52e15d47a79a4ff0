"""The process that has torch and ComfyUI: runs parts one after the other and reports each figure at once.

It writes events, one JSON object a line, which the starting process (`run.py`) collects; so what was measured is kept
when this process dies or is ended.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from gpu.parts import HEADING, Part, part_named

ROOT = Path(__file__).resolve().parents[2]
BROKEN = 70  # exit status: the device answers no more, start anew


class LeftOut(Exception):
    """A case that cannot be run here; the words say why."""


class Check:
    """What a part gets: the device, whether to use small sizes, its time, and where its figures go."""

    def __init__(self, write: Callable[[dict], None], small: bool, deadline: float, work: Path):
        import torch

        self.write, self.work = write, work
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.small = small or self.device.type == "cpu"
        self.deadline = deadline
        self.part = ""
        self._end = deadline

    def begin(self, part: str, seconds: float) -> None:
        self.part = part
        self._end = min(self.deadline, time.time() + seconds)
        print(HEADING + part, flush=True)
        self.write({"event": "begin", "part": part, "seconds": self._end - time.time()})

    def left(self) -> float:
        """Seconds that this part has left."""
        return self._end - time.time()

    def case(self, call: Callable[[], dict | None], **labels) -> None:
        """Run one case and report a row: its labels, what `call` gives, or why it gave nothing."""
        row: dict = dict(labels)
        begun = time.time()
        if self.left() <= 0:
            row["left_out"] = "the part's time was over"
        else:
            try:
                row.update(call() or {})
            except LeftOut as reason:
                row["left_out"] = str(reason)
            except Exception as error:
                row["error"] = f"{type(error).__name__}: {error}"
                row["traceback"] = traceback.format_exc()
        row["took"] = round(time.time() - begun, 2)
        self.row(row)

    def end(self, error: str | None) -> None:
        self.write({"event": "end", "part": self.part, "error": error})

    def row(self, row: dict) -> None:
        self.write({"event": "row", "part": self.part, "row": row})


def device_answers() -> bool:
    """Whether the GPU still works: after some faults every further call fails."""
    import torch

    if not torch.cuda.is_available():
        return True
    try:
        torch.cuda.synchronize()
        return float(torch.ones(4, device="cuda").sum()) == 4.0
    except Exception:
        return False


def set_up(comfyui: Path, part: Part) -> list[str]:
    """Make ComfyUI, as this part needs it, and the pack importable; the names of packages that are placeholders.

    In the order of ComfyUI's main.py, which loads its memory library and chooses CUDA's allocator before torch.
    """
    from gpu import absent

    if part.needs and importlib.util.find_spec(part.needs) is None:
        raise LeftOut(f"{part.needs} is not installed")
    # This order: the checkout has a folder `nodes`, and so has ComfyUI a file.
    sys.path[:0] = [str(comfyui), *(str(ROOT / name) for name in ("tools", "tests", "tests/host"))]
    missing = absent.fill_in()
    if part.dynamic:
        import comfy_aimdo.control

        comfy_aimdo.control.init()
    import comfy.cli_args
    import cuda_malloc  # noqa: F401
    import torch

    args = comfy.cli_args.args
    args.cpu = not torch.cuda.is_available()
    for choice in part.host:
        setattr(args, choice, True)
    if part.dynamic:
        if args.cpu:
            raise LeftOut("ComfyUI uses dynamic VRAM on NVIDIA cards only")
        switch_on_dynamic_vram()
    from bench import import_pack

    import_pack()
    logging.getLogger().setLevel(logging.WARNING)
    return missing


def switch_on_dynamic_vram() -> None:
    """What main.py does on an NVIDIA card once torch is there; RuntimeError where it does not work."""
    import comfy.memory_management
    import comfy.model_management
    import comfy.model_patcher
    import comfy_aimdo.control

    devices = [(device.index, 0) for device in comfy.model_management.get_all_torch_devices()]
    if not comfy_aimdo.control.init_devices(devices):
        raise RuntimeError("comfy-aimdo does not work on this machine, so ComfyUI would not use dynamic VRAM either")
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True


def machine(comfyui: Path, missing: list[str]) -> dict:
    """What the figures depend on."""
    import os
    import platform

    import torch
    from bench import _cpu_name
    from host_setup import comfyui_version

    facts = {
        "gpu": None,
        "cpu": f"{os.cpu_count()} x {_cpu_name()}",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "comfyui": comfyui_version(comfyui),
        "placeholders": missing,
        "packages": _versions(
            "numpy", "transformers", "triton", "xformers", "sageattention", "flash-attn", "comfy-kitchen"
        ),
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts["gpu"] = properties.name
        facts["gpu_memory_mib"] = round(properties.total_memory / 2**20)
        facts["capability"] = ".".join(map(str, torch.cuda.get_device_capability(0)))
        facts["cuda"] = torch.version.cuda
    return facts


def _versions(*names: str) -> dict[str, str | None]:
    from importlib import metadata

    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def main(args: argparse.Namespace) -> int:
    events = args.events.open("a", encoding="utf-8")

    def write(event: dict) -> None:
        events.write(json.dumps(event, default=str) + "\n")
        events.flush()

    parts = [part_named(name) for name in args.parts]
    try:
        missing = set_up(args.comfyui, parts[0])
    except LeftOut as reason:
        for part in parts:
            write({"event": "begin", "part": part.name, "seconds": 0.0})
            write({"event": "row", "part": part.name, "row": {"left_out": str(reason)}})
            write({"event": "end", "part": part.name, "error": None})
        return 0
    write({"event": "machine", "facts": machine(args.comfyui, missing)})
    check = Check(write, args.small, args.deadline, args.work)
    for part in parts:
        check.begin(part.name, part.seconds * args.stretch)
        if not run_part(check, part.function):
            return BROKEN
    return 0


def run_part(check: Check, function: str) -> bool:
    """Run a part and report its end; False when the device is broken after it."""
    module, name = function.split(":")
    error = None
    try:
        getattr(importlib.import_module(f"gpu.{module}"), name)(check)
    except LeftOut as reason:
        check.row({"left_out": str(reason)})
    except Exception:
        error = traceback.format_exc()
    _forget()
    answers = device_answers()
    if not answers:
        error = f"{error or ''}\nthe GPU answered no more after this part".strip()
    check.end(error)
    return answers


def _forget() -> None:
    import gc

    import comfy.model_management

    try:
        comfy.model_management.unload_all_models()
        gc.collect()
        comfy.model_management.soft_empty_cache()
    except Exception:
        logging.exception("models could not be unloaded")
