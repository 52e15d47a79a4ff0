"""Any vision-language model that the library transformers reads, from a local folder: no download, no code from it.

The library is imported when a model is loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy.model_patcher
import torch

from ..plan import PlanError, shown
from .files import read_config, trained_template, weight_files
from .folder_model import FolderModel
from .interface import TORCH_DTYPES, VlmSpec, spec_of
from .memory import memory_is_full
from .spread import need_accelerate

log = logging.getLogger(__name__)

_LONGEST_SIDE = 16384


class _Held(torch.nn.Module):
    """A model of the library inside a module that ComfyUI may write its own marks on, moved by the library's own `to`:
    of quantised weights not all is in parameters and buffers."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def to(self, *args: Any, **kwargs: Any) -> _Held:
        self.network.to(*args, **kwargs)
        return self


def load(path: Path, dtype: str, device: str) -> FolderModel:
    """The model of a folder with config.json, tokenizer, processor and .safetensors weights.

    dtype: `default` (as saved), bf16, fp16, fp32. device: `default` (ComfyUI's), `cpu`, or `spread` (GPU and main
    memory, by accelerate). Raises PlanError when something is missing, for a model that needs code of its own, and
    when the library cannot read it.
    """
    try:
        import transformers
    except ImportError as error:
        raise PlanError(
            f"'{path.name}' is read by the Python package transformers, which cannot be imported ({error}); install it "
            "with pip, or choose a Qwen2.5-VL or Qwen3-VL file, which ComfyUI reads itself"
        ) from error
    config = read_config(path)
    if "auto_map" in config and not _in_library(transformers, config):
        raise PlanError(
            f"'{path.name}' needs program code out of its folder, which is never run; take a model that transformers "
            "knows itself"
        )
    quantised = bool(config.get("quantization_config"))
    if quantised and dtype != "default":
        raise PlanError(f"'{path.name}' is quantised and keeps its own numbers; set dtype to 'default'")
    weight_files(path)
    place = torch.device("cpu") if device == "cpu" else management.get_torch_device()
    if device == "spread":
        need_accelerate()
    local = {"local_files_only": True, "trust_remote_code": False}
    with _reading(path):
        processor = transformers.AutoProcessor.from_pretrained(str(path), **local)
        numbers = {_dtype_word(transformers): TORCH_DTYPES.get(dtype, "auto")}
        read = partial(
            transformers.AutoModelForImageTextToText.from_pretrained,
            str(path),
            use_safetensors=True,
            output_loading_info=True,
            **local,
            **numbers,
        )
        network, loading = _with_flash(read) if _wants_flash(transformers, config, dtype, place) else read()
    _check_weights(loading["missing_keys"], path)
    _check_processor(processor, path)
    network.eval().requires_grad_(False)
    spec = _with_limits(spec_of(str(config.get("model_type", "unknown"))), processor)
    patcher = None
    if device != "spread":
        if quantised:
            _check_movable(network, path)
        patcher = comfy.model_patcher.ModelPatcher(
            _Held(network), load_device=place, offload_device=torch.device("cpu")
        )
    label = f"{spec.name} '{path.name}' by transformers {transformers.__version__}"
    return FolderModel(network, processor, spec, label, patcher, trained_template(path))


def _check_movable(network: torch.nn.Module, path: Path) -> None:
    """Take quantised weights off the GPU, where some kinds are put while read; PlanError for a kind that stays."""
    try:
        network.to("cpu")
    except Exception as error:  # each quantiser has errors of its own
        raise PlanError(
            f"'{path.name}' is quantised in a way that keeps its weights on the GPU, so ComfyUI could not make room "
            f"for the diffusion model ({shown(str(error).strip(), 300)}); update that quantiser's package, or take the "
            "unquantised folder: as a Qwen2.5-VL 7B or Qwen3-VL 4B or 8B ComfyUI reads it in 8 bits (dtype 'fp8')"
        ) from error


@contextmanager
def _reading(path: Path):
    """Say in our words, with the library's first line, what it could not read."""
    try:
        yield
    except Exception as error:  # a file may be wrong in any way, and each part of the library has its own errors
        if memory_is_full(error):
            raise
        raise PlanError(
            f"transformers cannot read '{path.name}': {type(error).__name__}: {shown(str(error).strip(), 300)}; check "
            "that the folder is complete, that it is a vision-language model, and that transformers is new enough for "
            "it"
        ) from error


def _dtype_word(transformers: Any) -> str:
    """What the library calls the numbers of the weights: it was renamed in 4.56."""
    major, minor = (int(part) for part in transformers.__version__.split(".")[:2])
    return "dtype" if (major, minor) >= (4, 56) else "torch_dtype"


def _in_library(transformers: Any, config: dict[str, Any]) -> bool:
    return config.get("model_type") in getattr(transformers, "CONFIG_MAPPING", {})


def _check_weights(missing: Iterable[str], path: Path) -> None:
    """PlanError when weights of the model are in none of its files: the library fills them with chance and goes on."""
    names = sorted(missing)
    if names:
        raise PlanError(
            f"{len(names)} weights of the model are not in '{path.name}', the first is {names[0]}; the folder is "
            "incomplete or of another version of the model, download it again"
        )


def _check_processor(processor: Any, path: Path) -> None:
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise PlanError(
            f"'{path.name}' is not a vision-language model: its processor takes no images; choose another folder"
        )
    if not getattr(processor, "chat_template", None) and not getattr(processor.tokenizer, "chat_template", None):
        raise PlanError(
            f"'{path.name}' has no chat template (chat_template.jinja), so it is no model that answers; take the "
            "instruction-tuned version"
        )


def _wants_flash(transformers: Any, config: dict[str, Any], dtype: str, place: torch.device) -> bool:
    """Whether flash-attention is installed and the device and numbers suit it."""
    saved = config.get("dtype") or config.get("torch_dtype") or ""
    half = dtype in ("bf16", "fp16") or dtype == "default" and str(saved) in ("bfloat16", "float16")
    present = getattr(transformers.utils, "is_flash_attn_2_available", lambda: False)
    return half and place.type == "cuda" and present()


def _with_flash(read: Callable[..., Any]) -> Any:
    """What `read` gives with flash-attention; without it for a model that the library has no such code for."""
    try:
        return read(attn_implementation="flash_attention_2")
    except (ValueError, ImportError) as error:
        log.info("without flash-attention: %s", shown(str(error), 200))
        return read()


def _with_limits(spec: VlmSpec, processor: Any) -> VlmSpec:
    """The spec with what this folder's own image processor says of sizes."""
    images = processor.image_processor
    patch, merge = getattr(images, "patch_size", None), getattr(images, "merge_size", None)
    if not isinstance(patch, int) or not isinstance(merge, int):
        return spec
    size = getattr(images, "size", None) or {}
    least = _entry(size, "shortest_edge") or spec.min_pixels
    most = _entry(size, "longest_edge") or 0
    # By these names the Qwen kind means areas, others mean sides; no model sees less than a few hundred pixels a side.
    most = most if most > _LONGEST_SIDE else spec.max_pixels
    return spec._replace(factor=patch * merge, min_pixels=least, max_pixels=max(least, most))


def _entry(size: Any, key: str) -> int | None:
    value = size.get(key) if hasattr(size, "get") else getattr(size, key, None)
    return value if isinstance(value, int) and value > 0 else None
