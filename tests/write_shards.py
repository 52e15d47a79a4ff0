"""Writes checkpoints as trainers do, by real processes over gloo: `write_shards.py FOLDER small|planner`.

small: two layers with a buffer, on 2 ranks (`two`) and on a 2 x 2 mesh of ddp and fsdp (`four`). planner: the model of
the folder PLANNER on 2 ranks. Each with the shards of verl (`model_world_size_W_rank_R.pt`) and, as accelerate writes
them, in `pytorch_model_fsdp_0`.
"""

import multiprocessing
import sys
from pathlib import Path

import torch
import torch._dynamo  # once, instead of in each process
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def small():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.Linear(7, 3))


def write(rank: int, folder: Path, mesh_shape: tuple[int, ...], model, layers) -> None:
    world = torch.Size(mesh_shape).numel()
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    mesh = init_device_mesh("cpu", mesh_shape, mesh_dim_names=("ddp", "fsdp")[-len(mesh_shape) :])
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    state = model.state_dict()
    torch.save(state, folder / f"model_world_size_{world}_rank_{rank}.pt")
    dcp.save({"model": state}, checkpoint_id=folder / "sharded" / "pytorch_model_fsdp_0")
    dist.barrier()
    dist.destroy_process_group()


def write_all(folder: Path, mesh_shape: tuple[int, ...], model, layers) -> None:
    """The processes are forked, so that each has the libraries and the model already."""
    folder.mkdir(parents=True)
    torch.save(model.state_dict(), folder / "whole.pt")
    fork = multiprocessing.get_context("fork")
    ranks = range(torch.Size(mesh_shape).numel())
    running = [fork.Process(target=write, args=(rank, folder, mesh_shape, model, layers)) for rank in ranks]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert all(process.exitcode == 0 for process in running), [process.exitcode for process in running]


def main(folder: Path, what: str, planner: str = "") -> None:
    torch.set_num_threads(1)
    if what == "small":
        write_all(folder / "two", (2,), model := small(), [model[0], model[2]])
        write_all(folder / "four", (2, 2), model := small(), [model[0], model[2]])
        return
    from transformers import Qwen2_5_VLForConditionalGeneration

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(planner, dtype=torch.float32)
    write_all(folder / "planner", (2,), model, list(model.model.language_model.layers))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
