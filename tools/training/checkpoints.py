"""The weights in a trainer's checkpoint, whole and exact: shards of verl and EasyR1, of accelerate (FSDP), or files of
transformers.

No pickle is run: shards are read with `weights_only`, for which torch allows the classes of its DTensors, and the
index of a distributed checkpoint by an unpickler that knows a dozen classes.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
import torch.distributed.tensor  # makes its classes known to torch.load
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemReader, filesystem, metadata
from torch.distributed.checkpoint import load as load_distributed
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.serialization import get_safe_globals, get_unsafe_globals_in_checkpoint

Weights = dict[str, torch.Tensor]

_SHARD = re.compile(r"model_world_size_(\d+)_rank_(\d+)\.pt")
_INDEX = ".metadata"
_MOST_NAMED = 5
# What wrappers add to the names of a model's weights.
_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
_LORA = re.compile(r"(?:^|\.)(?:lora_[AB]|lora_embedding_[AB]|base_layer)\.")
_OF_INDEX = {
    **{("torch.distributed.checkpoint.metadata", name): getattr(metadata, name) for name in (
        "Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata", "TensorProperties",
        "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING",
    )},
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"): filesystem._StorageInfo,
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,
    ("torch", "Size"): torch.Size,
    **{("pathlib", name): PurePosixPath for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")},
}  # fmt: skip


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read whole; the message says what was found and what to do."""


def read_weights(folder: Path, world_size: int | None = None) -> tuple[Weights, str]:
    """The weights in a checkpoint's folder by the model's own names, and in words what they were read from.

    folder: one with `model_world_size_W_rank_R.pt` (verl, EasyR1), with `.metadata` (torch.distributed.checkpoint), or
    with safetensors of transformers; or the folder above it, as trainers make them. world_size: which shards to take
    where there are several sets. Raises CheckpointError.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder")
    places = [folder, *(folder / name for name in ("actor", "pytorch_model_fsdp_0", "pytorch_model_fsdp"))]
    for place in places:
        if shards := _shards_of(place):
            weights, words = _of_shards(place, shards, world_size)
        elif (place / _INDEX).is_file():
            weights, words = _of_distributed(place)
        elif files := _whole_files(place):
            weights, words = _of_files(files)
        else:
            continue
        return _own_names(weights, place), words
    if (folder / "adapter_model.safetensors").is_file():
        raise CheckpointError(_lora_words(folder))
    raise CheckpointError(
        f"{folder} holds no checkpoint that is known here: no model_world_size_W_rank_R.pt (verl, EasyR1), no "
        f"{_INDEX} (FSDP), no model.safetensors; it holds {_some(sorted(one.name for one in folder.iterdir()))}"
    )


def _own_names(weights: Weights, place: Path) -> Weights:
    """The weights without what wrappers put before their names."""
    if any(_LORA.search(name) for name in weights):
        raise CheckpointError(_lora_words(place))
    named = {}
    for name, value in weights.items():
        own = name
        for wrapper in _WRAPPERS:
            own = own.replace(wrapper, "")
        if own in named:
            raise CheckpointError(f"{place}: two weights are called {own}; the checkpoint mixes two models")
        named[own] = value
    return named


def _lora_words(place: Path) -> str:
    return (
        f"{place} holds the weights of a LoRA; merge them into their model first (peft: "
        "PeftModel.from_pretrained(model, folder).merge_and_unload().save_pretrained(out)), then give that folder"
    )


# ---- verl and EasyR1 -------------------------------------------------------------------------------------------------


def _shards_of(folder: Path) -> dict[int, dict[int, Path]]:
    """The files of each world size, by rank."""
    found: dict[int, dict[int, Path]] = {}
    for file in folder.glob("model_world_size_*_rank_*.pt"):
        if match := _SHARD.fullmatch(file.name):
            found.setdefault(int(match[1]), {})[int(match[2])] = file
    return found


def _of_shards(folder: Path, found: dict[int, dict[int, Path]], world_size: int | None) -> tuple[Weights, str]:
    if world_size is None and len(found) > 1:
        raise CheckpointError(f"{folder} holds shards of the world sizes {sorted(found)}; choose one: --world-size N")
    world_size = next(iter(found)) if world_size is None else world_size
    files = found.get(world_size, {})
    if missing := [rank for rank in range(world_size) if rank not in files]:
        raise CheckpointError(
            f"{folder}: of world size {world_size} the shards of {len(missing)} ranks are missing: {_some(missing)}; "
            "copy them from the machines that wrote them"
        )
    if more := [rank for rank in sorted(files) if rank >= world_size]:
        raise CheckpointError(f"{folder}: world size {world_size} has no rank {_some(more)}; the folder mixes two runs")
    ranks = [_load(files[rank]) for rank in range(world_size)]
    names = list(ranks[0])
    for rank, state in enumerate(ranks):
        if state.keys() != ranks[0].keys():
            lacking, extra = sorted(ranks[0].keys() - state.keys()), sorted(state.keys() - ranks[0].keys())
            raise CheckpointError(
                f"{files[rank].name} and {files[0].name} hold different weights: rank {rank} lacks {_some(lacking)} "
                f"and has {_some(extra)} besides; the shards are of two runs, or one broke off"
            )
    weights = {name: merged(name, [state[name] for state in ranks]) for name in names}
    return weights, f"{world_size} shards of verl or EasyR1"


def _load(file: Path) -> Weights:
    """The tensors of a .pt file, read without running anything in it."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {_unknown_classes(file) or error}") from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str)
        and isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and not value.is_meta
        for name, value in state.items()
    ):
        raise CheckpointError(f"{file} holds no weights by name; is it another part of the checkpoint?")
    return state


def _unknown_classes(file: Path) -> str:
    """In words, the classes that a file needs and torch does not allow; "" if that is not what is wrong."""
    try:
        needed = get_unsafe_globals_in_checkpoint(file)
    except Exception:  # the file is broken in another way, which the caller says
        return ""
    known = {f"{one.__module__}.{one.__qualname__}" for one in get_safe_globals() if not isinstance(one, tuple)}
    unknown = [name for name in needed if name not in known]
    return unknown and (
        f"it needs {_some(unknown)}, which would run code out of the file; write the checkpoint again with a torch as "
        f"new as this one ({torch.__version__}), or let the trainer save a Hugging Face folder"
    )


def merged(name: str, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """One weight out of what each rank has of it, in order of the ranks.

    Sharded ones are joined along their dimension, replicated ones (also of a mesh of two dimensions, ddp x fsdp) must
    be equal to the bit on every rank, and so must plain tensors (buffers). Raises CheckpointError for anything else.
    """
    first = parts[0]
    if not any(isinstance(part, DTensor) for part in parts):
        return _equal(name, parts)
    if not all(isinstance(part, DTensor) for part in parts):
        raise CheckpointError(f"{name} is sharded on some ranks and whole on others; the shards are of two runs")
    layout = (first.placements, first.device_mesh.mesh.tolist(), first.shape, first.dtype)
    for rank, part in enumerate(parts):
        if (part.placements, part.device_mesh.mesh.tolist(), part.shape, part.dtype) != layout:
            raise CheckpointError(
                f"{name}: rank {rank} has {tuple(part.shape)} as {part.placements} on {part.device_mesh}, rank 0 "
                f"{tuple(first.shape)} as {first.placements} on {first.device_mesh}; the shards are of two runs"
            )
    mesh = first.device_mesh.mesh.numpy()
    if sorted(mesh.ravel().tolist()) != list(range(len(parts))):
        raise CheckpointError(
            f"{name} lies on the ranks {mesh.tolist()} of {len(parts)}; shards of tensor or pipeline parallelism "
            "cannot be joined here, use the trainer's own merger"
        )
    grid = np.empty(mesh.shape, dtype=object)
    for place, rank in np.ndenumerate(mesh):
        grid[place] = parts[rank].to_local().detach()
    for placement in reversed(first.placements):
        lines = np.empty(grid.shape[:-1], dtype=object)
        for place in np.ndindex(lines.shape):
            lines[place] = _joined(name, placement, list(grid[place]))
        grid = lines
    whole = grid.item()
    if whole.shape != first.shape:
        raise CheckpointError(f"{name}: its shards join to {tuple(whole.shape)}, but it has {tuple(first.shape)}")
    return whole


def _joined(name: str, placement: object, parts: list[torch.Tensor]) -> torch.Tensor:
    if type(placement) is Shard:
        return torch.cat(parts, dim=placement.dim).contiguous()
    if type(placement) is Replicate:
        return _equal(name, parts)
    raise CheckpointError(f"{name} is placed as {placement}; only sharded and replicated weights can be joined")


def _equal(name: str, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    for rank, part in enumerate(parts):
        if not same_bits(part, parts[0]):
            raise CheckpointError(
                f"{name} is kept whole and differs between copy 0 and copy {rank}; the shards are of two runs or steps"
            )
    return parts[0]


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are of one shape and type and equal to the bit, so that NaN equals itself."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(*(each.detach().contiguous().reshape(-1).view(torch.uint8) for each in (one, other)))


# ---- torch.distributed.checkpoint ------------------------------------------------------------------------------------


class _Index(pickle.Unpickler):
    """Reads the index of a distributed checkpoint, and nothing else."""

    def find_class(self, module: str, name: str):
        if (module, name) in _OF_INDEX:
            return _OF_INDEX[module, name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise pickle.UnpicklingError(f"it needs {module}.{name}, which no index has")


class _Reader(FileSystemReader):
    """torch's own reader, whose index is not read with a pickle that may run code."""

    def read_metadata(self, *args, **kwargs) -> metadata.Metadata:
        with (Path(self.path) / _INDEX).open("rb") as file:
            found = _Index(file).load()
        if not isinstance(found, metadata.Metadata):
            raise pickle.UnpicklingError("it is no index")
        for piece in found.storage_data.values():
            if Path(piece.relative_path).name != piece.relative_path:
                raise pickle.UnpicklingError(f"it names the file {piece.relative_path!r}, which lies elsewhere")
        found.storage_meta = found.storage_meta or metadata.StorageMeta()
        found.storage_meta.load_id = self.load_id
        return found


def _of_distributed(folder: Path) -> tuple[Weights, str]:
    """The model's weights of what `torch.distributed.checkpoint.save` wrote, as accelerate does for sharded FSDP."""
    reader = _Reader(folder)
    try:
        index = reader.read_metadata()
        tensors = {
            key: one
            for key, one in index.state_dict_metadata.items()
            if isinstance(one, metadata.TensorStorageMetadata)
        }
        for key, one in tensors.items():
            if sum(chunk.sizes.numel() for chunk in one.chunks) != one.size.numel():
                raise CheckpointError(f"{folder}: of {key} some pieces are missing; a rank did not write its part")
        state = {key: torch.empty(one.size, dtype=one.properties.dtype) for key, one in tensors.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that this is one process, as it should be
            load_distributed(state, storage_reader=reader, no_dist=True)
    except CheckpointException as error:  # no Exception, and its text is a traceback
        why = "; ".join(str(failure[0]) for failure in error.failures.values())
        raise CheckpointError(f"{folder} cannot be read as a distributed checkpoint: {why}") from None
    except (pickle.UnpicklingError, OSError, ValueError, TypeError, KeyError, AttributeError, EOFError) as error:
        raise CheckpointError(f"{folder} cannot be read as a distributed checkpoint: {error}") from None
    paths = {key: (index.planner_data or {}).get(key, (key,)) for key in state}
    # accelerate puts the model's weights under "model", and an optimizer's, where there is one, elsewhere.
    inside = {key for key, path in paths.items() if len(path) > 1 and path[0] == "model"}
    chosen = {key: path[1:] if inside else path for key, path in paths.items() if key in (inside or state)}
    weights = {".".join(map(str, path)): state[key] for key, path in chosen.items()}
    return weights, "a distributed checkpoint (FSDP)"


# ---- files of transformers -------------------------------------------------------------------------------------------


def _whole_files(folder: Path) -> list[Path]:
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if index.is_file():
            try:
                names = sorted(set(map(Path, json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())))
                names = [str(one) for one in names]
            except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
                raise CheckpointError(f"{index} is no index of weights: {error}") from None
            outside = [one for one in names if Path(one).name != one]
            missing = [one for one in names if not (folder / one).is_file()]
            if outside or missing:
                raise CheckpointError(f"{index} names files that are not there: {_some(outside or missing)}")
            return [folder / one for one in names]
        if (folder / name).is_file():
            return [folder / name]
    return []


def _of_files(files: Sequence[Path]) -> tuple[Weights, str]:
    weights: Weights = {}
    for file in files:
        try:
            more = load_file(file) if file.suffix == ".safetensors" else _load(file)
            if twice := weights.keys() & more.keys():
                raise CheckpointError(
                    f"{file} and a file before it both hold {_some(sorted(twice))}; keep the right one"
                )
            weights |= more
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} cannot be read: {error}") from None
    return weights, f"{len(files)} file{'s' * (len(files) > 1)} of transformers"


def _some(names: Sequence[object]) -> str:
    shown = ", ".join(map(str, names[:_MOST_NAMED])) or "none"
    return f"{shown} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else shown
