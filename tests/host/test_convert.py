"""A planner trained on two processes comes back as a folder that RePlan Load Planner reads, exactly."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from replan.planner.models import folder
from replan.tools.training import convert as converting
from replan.tools.training.checkpoints import CheckpointError
from replan.tools.training.convert import convert
from safetensors import SafetensorError
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
PLANNER = ROOT / "tools" / "toyworld" / "weights" / "toyworld_planner"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the shards are written by forked processes")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Checkpoints of the toy world's planner, with what verl puts beside its shards."""
    place = tmp_path_factory.mktemp("trained")
    command = [sys.executable, ROOT / "tests" / "write_shards.py", place, "planner", PLANNER]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
    beside = place / "planner" / "huggingface"
    shutil.copytree(PLANNER, beside, ignore=shutil.ignore_patterns("model.safetensors"))
    return place / "planner"


def loaded(place: Path) -> dict[str, torch.Tensor]:
    """The weights as RePlan Load Planner has them."""
    return folder.load(place, "default", "cpu").network.state_dict()


def test_shards_of_verl_become_the_planner_they_were_made_of(trained, tmp_path):
    out = convert(trained, tmp_path / "out")
    whole, back = torch.load(trained / "whole.pt"), loaded(out)
    assert back.keys() == whole.keys()
    assert all(value.dtype == torch.float32 and torch.equal(back[name], value) for name, value in whole.items())
    assert json.loads((out / "config.json").read_text("utf-8"))["dtype"] == "float32"
    assert {file.name for file in PLANNER.iterdir()} == {file.name for file in out.iterdir()}
    assert not list(tmp_path.glob(".*"))


def test_bf16_and_the_files_of_the_model_that_training_began_with(trained, tmp_path):
    """An FSDP checkpoint of accelerate has nothing but weights beside it."""
    out = convert(trained / "sharded", tmp_path / "out", config_from=PLANNER, dtype=torch.bfloat16)
    whole, back = torch.load(trained / "whole.pt"), loaded(out)
    assert all(torch.equal(back[name], value.bfloat16()) for name, value in whole.items())
    # What transformers saved is a checkpoint too.
    again = convert(out, tmp_path / "again")
    assert load_file(again / "model.safetensors").keys() == load_file(out / "model.safetensors").keys()
    assert all(torch.equal(value, back[name]) for name, value in loaded(again).items())


def other_configuration(trained: Path, tmp_path: Path, **text) -> Path:
    place = shutil.copytree(trained, tmp_path / "other", ignore=shutil.ignore_patterns("meeting", "sharded"))
    file = place / "huggingface" / "config.json"
    config = json.loads(file.read_text("utf-8"))
    (config.get("text_config") or config).update(text)
    file.write_text(json.dumps(config), encoding="utf-8")
    return place


def layers(trained: Path) -> int:
    config = json.loads((trained / "huggingface" / "config.json").read_text("utf-8"))
    return (config.get("text_config") or config)["num_hidden_layers"]


@pytest.mark.parametrize(("more", "said"), [(1, "weights are missing"), (-1, "weights are not the model's")])
def test_a_configuration_of_another_model_is_an_error_and_leaves_nothing(more, said, trained, tmp_path):
    count = layers(trained) + more
    place = other_configuration(trained, tmp_path, num_hidden_layers=count, layer_types=["full_attention"] * count)
    with pytest.raises(CheckpointError, match=f"{said}, such as .*--config-from FOLDER"):
        convert(place, tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["other"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["copying", "safetensors"],
)
def test_a_full_disk_is_told_and_leaves_nothing(error, trained, tmp_path, monkeypatch):
    def no_room(folder, weights, beside):
        folder.mkdir()
        raise error

    monkeypatch.setattr(converting, "_write", no_room)
    with pytest.raises(CheckpointError, match="the disk is full; make room"):
        convert(trained, tmp_path / "out")
    assert not list(tmp_path.iterdir())
