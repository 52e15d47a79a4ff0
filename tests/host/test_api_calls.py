"""The programs of docs/batches.md that call one edit, run as they stand there against a real ComfyUI."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from replan.tests.host.graphs import TINY, use_tiny
from replan.tools.host_server import free_port, taken
from replan.tools.own_environment import ensure_environment

ROOT = Path(__file__).resolve().parents[2]
SDK = ("comfy-sdk==0.5.0", "comfy-api-proxy==0.1.6")
PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "batches.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def folder(tmp_path, tiny) -> Path:
    """A checkout as the programs see it: the API-format file with small checkpoints, the client, an image."""
    from skimage import data

    name = "docs/api/flux_kontext_plan_api.json"
    prompt = json.loads((ROOT / name).read_text(encoding="utf-8"))
    use_tiny(prompt, *TINY["flux_kontext_plan"])
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(json.dumps(prompt), encoding="utf-8")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "host_server.py").write_bytes((ROOT / "tools" / "host_server.py").read_bytes())
    Image.fromarray(data.chelsea()).save(tmp_path / "cat.png")
    return tmp_path


def edited(folder: Path, python: Path | str, program: str) -> tuple[int, int]:
    """Run a program in the folder; the size of the image it wrote."""
    done = subprocess.run(
        [str(python), "-c", program], cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=120
    )
    assert done.returncode == 0, done.stderr
    with Image.open(folder / "edited.png") as image:
        return image.size


def test_one_edit_by_the_packs_own_client(server, folder):
    (program,) = [one for one in PROGRAMS if "host_server" in one]
    assert edited(folder, sys.executable, program.replace("http://127.0.0.1:8188", server.url)) == (451, 300)


@pytest.mark.full
def test_one_edit_by_comfyuis_sdk(server, folder):
    python = ensure_environment("comfy-sdk", SDK)
    if isinstance(python, str):
        pytest.skip(python)
    (program,) = [one for one in PROGRAMS if "comfy_sdk" in one]
    port = free_port()
    command = [str(python), "-m", "comfy_api_proxy.cli", "run", "--comfyui", server.url, "--port", str(port)]
    proxy = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not taken(port) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert edited(folder, python, program.replace("127.0.0.1:8189", f"127.0.0.1:{port}")) == (451, 300)
    finally:
        proxy.terminate()
        proxy.wait()
