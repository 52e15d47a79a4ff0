"""What the pack adds to the start of ComfyUI, for tools/bench.py: each measurement is a process of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

_CODE = """
import sys, json, time, asyncio, importlib.util
root, comfyui = sys.argv[1:]
sys.path.insert(0, comfyui)
import comfy.cli_args
comfy.cli_args.args.cpu = True
begun = time.process_time()
import nodes, comfy_api.latest, comfy_extras.nodes_custom_sampler  # loaded before any custom node
host = time.process_time() - begun
before = set(sys.modules)
begun = time.process_time()
spec = importlib.util.spec_from_file_location("replan", root + "/__init__.py", submodule_search_locations=[root])
module = importlib.util.module_from_spec(spec)
sys.modules["replan"] = module
spec.loader.exec_module(module)
async def load():
    return await (await module.comfy_entrypoint()).get_node_list()
found = asyncio.run(load())
seconds = time.process_time() - begun
print(json.dumps([len(found), seconds, host, sorted(set(sys.modules) - before)]))
"""


class Import(NamedTuple):
    """nodes: how many there are. seconds, comfyui: CPU time of the pack's import and of ComfyUI's before it.
    modules: what the pack's import loaded."""

    nodes: int
    seconds: float
    comfyui: float
    modules: list[str]


def import_once(comfyui: Path) -> Import:
    """Import ComfyUI and then the pack with all its nodes in a new process. Raises RuntimeError with its output."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(ROOT), str(comfyui)],
        capture_output=True, text=True, encoding="utf-8", timeout=300, env=environment,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"importing the pack failed:\n{done.stderr[-3000:]}")
    return Import(*json.loads(done.stdout.splitlines()[-1]))


def measure(comfyui: Path, rounds: int) -> list[dict]:
    """Medians over `rounds` processes, after one that may have to compile the files."""
    import_once(comfyui)
    found = [import_once(comfyui) for _ in range(rounds)]
    seconds = [one.seconds for one in found]
    return [
        {
            "nodes": found[0].nodes,
            "seconds": statistics.median(seconds),
            "least": min(seconds),
            "most": max(seconds),
            "comfyui": statistics.median(one.comfyui for one in found),
            "rounds": rounds,
        }
    ]
