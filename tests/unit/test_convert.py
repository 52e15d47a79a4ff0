"""Checkpoints of trainers read whole: real shards, written by two and four processes, and what is wrong with some."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from replan.tools.training.checkpoints import CheckpointError, read_weights
from replan.tools.training.convert import convert, main
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the shards are written by forked processes")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    command = [sys.executable, ROOT / "tests" / "write_shards.py", folder, "small"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
    return folder


@pytest.fixture
def two(written, tmp_path) -> Path:
    """A copy of the two shards, to break."""
    return shutil.copytree(written / "two", tmp_path / "two", ignore=shutil.ignore_patterns("meeting"))


def same(weights, whole) -> bool:
    return weights.keys() == whole.keys() and all(
        weights[name].dtype == whole[name].dtype and torch.equal(weights[name], whole[name]) for name in whole
    )


@pytest.mark.parametrize("mesh", ["two", "four"])
@pytest.mark.parametrize("kind", ["", "sharded"])
def test_shards_join_to_the_model_that_was_sharded(written, mesh, kind):
    """Uneven ones too: 7 and 3 rows over two ranks; on four ranks each piece is kept twice."""
    weights, words = read_weights(written / mesh / kind)
    assert same(weights, torch.load(written / mesh / "whole.pt"))
    assert ("distributed checkpoint" if kind else f"{2 if mesh == 'two' else 4} shards") in words


def test_ranks_that_are_missing_are_named(two):
    (two / "model_world_size_2_rank_1.pt").unlink()
    with pytest.raises(CheckpointError, match="of world size 2 the shards of 1 ranks are missing: 1;"):
        read_weights(two)
    with pytest.raises(CheckpointError, match="of world size 3 the shards of 3 ranks are missing: 0, 1, 2"):
        read_weights(two, 3)


def test_several_world_sizes_need_a_choice(two, written):
    for file in (written / "four").glob("model_world_size_4_*"):
        shutil.copy(file, two)
    with pytest.raises(CheckpointError, match=r"world sizes \[2, 4\]; choose one: --world-size N"):
        read_weights(two)
    assert same(read_weights(two, 4)[0], torch.load(two / "whole.pt"))


def test_ranks_of_two_runs_are_an_error(two, written):
    shutil.copy(two / "model_world_size_2_rank_0.pt", two / "model_world_size_2_rank_2.pt")
    with pytest.raises(CheckpointError, match="has no rank 2; the folder mixes two runs"):
        read_weights(two)
    (two / "model_world_size_2_rank_2.pt").unlink()
    shutil.copy(written / "four" / "model_world_size_4_rank_1.pt", two / "model_world_size_2_rank_1.pt")
    with pytest.raises(CheckpointError, match="0.weight: rank 1 has .* the shards are of two runs"):
        read_weights(two)


def changed(file: Path, change) -> None:
    """A shard written again after `change` of its weights by name."""
    state = torch.load(file, weights_only=True)
    change(state)
    torch.save(state, file)


def test_a_weight_that_one_rank_lacks_is_named(two):
    changed(two / "model_world_size_2_rank_1.pt", lambda state: state.update(more=state.pop("2.bias")))
    with pytest.raises(CheckpointError, match="rank 1 lacks 2.bias and has more besides"):
        read_weights(two)


def test_copies_that_differ_are_an_error(two, written, tmp_path):
    changed(two / "model_world_size_2_rank_1.pt", lambda state: state["1.running_mean"].add_(1))
    with pytest.raises(CheckpointError, match="1.running_mean is kept whole and differs between copy 0 and copy 1"):
        read_weights(two)
    four = shutil.copytree(written / "four", tmp_path / "four", ignore=shutil.ignore_patterns("meeting"))
    changed(four / "model_world_size_4_rank_3.pt", lambda state: state["0.weight"]._local_tensor.add_(1))
    with pytest.raises(CheckpointError, match="0.weight is kept whole and differs"):
        read_weights(four)


def test_numbers_that_are_none_are_equal_to_themselves(two):
    for rank in (0, 1):
        changed(two / f"model_world_size_2_rank_{rank}.pt", lambda state: state["1.running_mean"].fill_(float("nan")))
    assert read_weights(two)[0]["1.running_mean"].isnan().all()


def test_a_piece_of_another_size_is_an_error(two):
    def cut(state):
        state["0.weight"]._local_tensor = state["0.weight"]._local_tensor[:-1]

    changed(two / "model_world_size_2_rank_1.pt", cut)
    with pytest.raises(CheckpointError, match=r"0.weight: its shards join to \(6, 5\), but it has \(7, 5\)"):
        read_weights(two)


class Evil:
    def __reduce__(self):
        return (print, ("code out of a checkpoint was run",))


def test_code_in_a_checkpoint_is_never_run(two, capfd):
    torch.save({"0.weight": Evil()}, two / "model_world_size_2_rank_1.pt")
    with pytest.raises(CheckpointError, match="rank_1.pt cannot be read: it needs .*print, which would run code"):
        read_weights(two)
    index = two / "sharded" / "pytorch_model_fsdp_0" / ".metadata"
    index.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match="it needs .*print, which no index has"):
        read_weights(two / "sharded")
    assert "was run" not in capfd.readouterr().out


def test_a_distributed_checkpoint_that_is_not_whole_is_an_error(two):
    place = two / "sharded" / "pytorch_model_fsdp_0"
    (place / "__1_0.distcp").unlink()
    with pytest.raises(CheckpointError, match="cannot be read as a distributed checkpoint: .*__1_0.distcp"):
        read_weights(two / "sharded")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda index: index.state_dict_metadata["model.0.weight"].chunks.pop(), "of model.0.weight some pieces are"),
        (
            lambda index: index.storage_data.update(
                {key: type(one)("../../x", one.offset, one.length) for key, one in index.storage_data.items()}
            ),
            "names the file '../../x', which lies elsewhere",
        ),
    ],
    ids=["piece", "path"],
)
def test_an_index_that_is_wrong_is_an_error(change, said, two):
    file = two / "sharded" / "pytorch_model_fsdp_0" / ".metadata"
    index = pickle.loads(file.read_bytes())
    change(index)
    file.write_bytes(pickle.dumps(index))
    with pytest.raises(CheckpointError, match=said):
        read_weights(two / "sharded")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no shard"], ids=["empty", "zip", "text"])
def test_a_shard_that_broke_off_is_named(content, two):
    (two / "model_world_size_2_rank_1.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="rank_1.pt cannot be read"):
        read_weights(two)


def test_folders_that_are_no_checkpoint_say_what_they_hold(tmp_path):
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(CheckpointError, match="no checkpoint that is known here.*it holds notes.txt"):
        read_weights(tmp_path)
    with pytest.raises(CheckpointError, match="there is no such folder"):
        read_weights(tmp_path / "none")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="holds the weights of a LoRA; merge them"):
        read_weights(tmp_path)
    save_file({"base_model.model.x.lora_A.default.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="holds the weights of a LoRA; merge them"):
        read_weights(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"x": "a.safetensors"}}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="names files that are not there: a.safetensors"):
        read_weights(tmp_path)


def test_names_of_wrappers_go(tmp_path):
    save_file(
        {"_orig_mod.model.x": torch.zeros(2), "_fsdp_wrapped_module.y": torch.ones(1)}, tmp_path / "model.safetensors"
    )
    assert set(read_weights(tmp_path)[0]) == {"model.x", "y"}
    save_file({"_orig_mod.y": torch.zeros(2), "y": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="two weights are called y"):
        read_weights(tmp_path)


def test_the_command_says_what_is_missing_in_one_line(two, tmp_path, capsys):
    assert main([str(two), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("convert.py: no configuration and no tokenizer and no processor was found in ")
    assert said.strip().endswith("--config-from FOLDER") and said.count("\n") == 1
    with pytest.raises(CheckpointError, match="exists already; choose a new folder"):
        convert(two, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "is no index of weights"),
        ('{"weight_map": {"a": 5, "b": "x"}}', "is no index of weights"),
        ('{"weight_map": {"a": 5}}', "is no index of weights"),
        ("[" * 100_000, "is no index of weights"),
        ('{"weight_map": {"a": "../x"}}', "names files that are not there"),
    ],
)
def test_an_index_of_another_form_is_an_error(text, said, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=said):
        read_weights(tmp_path)


def test_a_weight_in_two_files_is_an_error(tmp_path):
    for number in (1, 2):
        save_file({"y": torch.full((1,), float(number))}, tmp_path / f"{number}.safetensors")
    index = '{"weight_map": {"x": "1.safetensors", "y": "2.safetensors"}}'
    (tmp_path / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    with pytest.raises(CheckpointError, match="both hold y"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({}, "holds no weights"),
        ({"a.weight": torch.ones(2, dtype=torch.int8)}, "a.weight is of int8; quantized"),
        ({"a.weight": torch.ones(2).to(torch.float8_e4m3fn)}, "is of float8_e4m3fn; quantized"),
        ({"a.weight": torch.tensor([1.0, float("nan")])}, "1 weights hold NaN or infinity, such as a.weight"),
        ({"a.bias": torch.tensor([float("inf")])}, "1 weights hold NaN or infinity"),
    ],
)
def test_weights_that_no_planner_can_have_are_refused(weights, said, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for name in ("config.json", "tokenizer.json", "preprocessor_config.json"):
        (checkpoint / name).write_text("{}", encoding="utf-8")
    save_file(weights, checkpoint / "model.safetensors")
    with pytest.raises(CheckpointError, match=said):
        convert(checkpoint, tmp_path / "out", say=lambda _: None)
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoint"]


def test_a_sparse_shard_and_a_folder_that_is_none_are_errors(tmp_path):
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "model_world_size_1_rank_0.pt")
    with pytest.raises(CheckpointError, match="holds no weights by name"):
        read_weights(tmp_path)
    with pytest.raises(CheckpointError, match="none: there is no such folder"):
        convert(tmp_path / "none", tmp_path / "out")
