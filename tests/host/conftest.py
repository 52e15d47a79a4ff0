"""ComfyUI for the tests in this folder: importable in this process, and running as a server.

`tools/test.py` says which ComfyUI by the environment variable REPLAN_COMFYUI; without it the tests use the
copy that set-up puts below the checkout. ComfyUI is put on the path when pytest reads this file, before any
test module, so tests may import `comfy`, `comfy_api`, `folder_paths` and `nodes` (ComfyUI's) at their top.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("REPLAN_COMFYUI") or ROOT / ".host" / "comfyui-0.30").resolve()
MODELS = ROOT / ".host" / "models"

if not (COMFYUI / "comfy" / "sd.py").is_file():
    raise pytest.UsageError(
        f"no ComfyUI at {COMFYUI}: run `python tools/test.py`, which sets one up and starts the tests"
    )

# First on the path: this repository has a folder called `nodes` too.
sys.path.insert(0, str(COMFYUI))

import torch  # noqa: E402

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)

import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True  # read once, when comfy.model_management is imported


@pytest.fixture(scope="session")
def comfyui_dir() -> Path:
    """The folder of the ComfyUI under test."""
    return COMFYUI


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """A models folder laid out as ComfyUI's, with the tiny checkpoints that tests asked for so far."""
    return MODELS


@pytest.fixture(scope="session")
def tiny(models_dir: Path) -> Callable[[str], Path]:
    """`tiny("flux1")` is the path of that tiny checkpoint (names: `tools/tiny_models.py`), written if need be."""
    from replan.tools.tiny_models import ensure_models

    return lambda name: ensure_models([name], models_dir)[name]


@pytest.fixture(scope="session")
def comfy_env(tmp_path_factory, models_dir: Path) -> Path:
    """Point the ComfyUI in this process at the tiny models and at empty input, output and temp folders.

    Its loader nodes (`import nodes; nodes.UNETLoader().load_unet(...)`) then work as in the server.
    """
    import folder_paths

    base = tmp_path_factory.mktemp("comfy")
    for name in ("input", "output", "temp"):
        (base / name).mkdir()
    folder_paths.set_input_directory(str(base / "input"))
    folder_paths.set_output_directory(str(base / "output"))
    folder_paths.set_temp_directory(str(base / "temp"))
    for folder in ("diffusion_models", "text_encoders", "vae", "vae_approx", "loras"):
        folder_paths.add_model_folder_path(folder, str(models_dir / folder), is_default=True)
    return base


@pytest.fixture(scope="session")
def load_tiny(comfy_env, tiny) -> Callable[[str], object]:
    """`load_tiny("flux1")` loads a tiny checkpoint with ComfyUI's own loader: a ModelPatcher, CLIP or VAE.

    Each is loaded once a session and shared: clone a model before you change it.
    """
    loaded = {}

    def load(name: str):
        if name not in loaded:
            import comfy.sd
            import comfy.utils

            if name == "taef2":
                import nodes

                tiny("taef2_encoder"), tiny("taef2_decoder")
                loaded[name] = nodes.VAELoader().load_vae("taef2")[0]
            else:
                path = str(tiny(name))
                if name == "clip_l":
                    kind = comfy.sd.CLIPType.STABLE_DIFFUSION
                    loaded[name] = comfy.sd.load_clip([path], clip_type=kind)
                elif name.startswith("vae_"):
                    loaded[name] = comfy.sd.VAE(sd=comfy.utils.load_torch_file(path))
                else:
                    loaded[name] = comfy.sd.load_diffusion_model(path)
        return loaded[name]

    return load


@pytest.fixture(scope="session")
def learned_planner(tmp_path_factory) -> Path:
    """The folder of a planner that has learnt some answers by heart, see `learned_planner.py`."""
    from filelock import FileLock  # torch needs it too
    from learned_planner import teach

    # Processes of one run share the parent of their folders: one teaches, the others wait.
    several = "PYTEST_XDIST_WORKER" in os.environ
    shared = tmp_path_factory.getbasetemp().parent if several else tmp_path_factory.mktemp("planner")
    with FileLock(shared / "learned.lock"):
        if not (shared / "learned.done").exists():
            teach(shared / "learned")
            (shared / "learned.done").touch()
    return shutil.copytree(shared / "learned", tmp_path_factory.mktemp("planner") / "learned")


@pytest.fixture(scope="session")
def server(tmp_path_factory, models_dir: Path) -> Iterator:
    """A real ComfyUI server with this pack, the tiny models and the stand-ins, one for the whole session."""
    from replan.tools.host_server import HostServer
    from replan.tools.tiny_models import ensure_models

    ensure_models(models=models_dir)
    base = tmp_path_factory.mktemp("server")
    extra = {name: Path(__file__).parent / name for name in ("stand_in_nodes", "detector_nodes")}
    extra["toyworld_nodes"] = ROOT / "tools" / "toyworld" / "comfyui_nodes"
    with HostServer(COMFYUI, base=base, pack=ROOT, models=models_dir, extra_nodes=extra) as running:
        yield running
