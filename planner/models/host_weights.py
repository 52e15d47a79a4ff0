"""Weights of a Qwen-VL model under the names that ComfyUI's own classes load, or a refusal that says what is wrong.

ComfyUI builds a layout that it does not know silently as another text encoder, so everything is checked before.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.text_encoders.llama as llama
import comfy.utils
import torch

from ..plan import PlanError
from .files import weight_files
from .interface import QWEN3_VL, QWEN25_VL, TORCH_DTYPES, VlmSpec

_QUANTISED = (".comfy_quant", ".weight_scale", ".scale_weight", ".input_scale")
_LARGEST = 448.0  # of float8_e4m3fn
_FORMAT = '{"format": "float8_e4m3fn", "full_precision_matrix_mult": true}'  # ComfyUI's word for such a layer

State = dict[str, torch.Tensor]


def host_takes(config: Mapping[str, Any]) -> bool:
    """Whether ComfyUI has a class for the model of this config.json: its kind and its widths."""
    text = config.get("text_config")
    text = text if isinstance(text, Mapping) else config
    if config.get("quantization_config"):
        return False
    size = (text.get("hidden_size"), text.get("num_hidden_layers"))
    return size in {
        "qwen2_5_vl": [_size(llama.Qwen25_7BVLI_Config())],
        "qwen3_vl": [_size(llama.Qwen3VL_4BConfig()), _size(llama.Qwen3VL_8BConfig())],
    }.get(str(config.get("model_type")), [])


def _size(config: Any) -> tuple[int, int]:
    return config.hidden_size, config.num_hidden_layers


def read_state(path: Path, dtype: str = "default") -> tuple[State, VlmSpec]:
    """The weights of a file or folder as one state dict, and its spec.

    dtype: `default` (as they are saved), bf16, fp16, fp32, or fp8 (see `in_fp8`). Raises PlanError for weights that are
    incomplete, of a model ComfyUI has no class for, or quantised with a dtype other than `default`.
    """
    state: State = {}
    metadata = None
    for file in weight_files(path):
        part, metadata = comfy.utils.load_torch_file(str(file), safe_load=True, return_metadata=True)
        state.update(part)
    state, _ = comfy.utils.convert_old_quants(state, model_prefix="", metadata=metadata or {})
    state, spec = arranged(state, path.name)
    if dtype != "default":
        if any(key.endswith(_QUANTISED) for key in state):
            raise PlanError(f"'{path.name}' is quantised and keeps its own numbers; set dtype to 'default'")
        for key, weight in state.items():
            if weight.is_floating_point():
                state[key] = weight.to(TORCH_DTYPES.get(dtype, torch.bfloat16))
    return in_fp8(state) if dtype == "fp8" else state, spec


def in_fp8(state: State) -> State:
    """The layers' matrices and the output head in 8 bits with a scale each, as in ComfyUI's own fp8_scaled files.

    Half the memory of bf16; ComfyUI computes with the numbers that they stand for. Norms, embeddings and the vision
    tower stay as they are.
    """
    out = dict(state)
    for key, weight in state.items():
        layer = key.removesuffix(".weight")
        if weight.ndim != 2 or not (".layers." in key and key.endswith("_proj.weight") or layer.endswith("lm_head")):
            continue
        scale = weight.abs().max().float().clamp(min=1e-12) / _LARGEST
        out[key] = (weight.float() / scale).to(torch.float8_e4m3fn)
        out[f"{layer}.weight_scale"] = scale
        out[f"{layer}.comfy_quant"] = torch.tensor(list(_FORMAT.encode()), dtype=torch.uint8)
    return out


def arranged(state: State, name: str) -> tuple[State, VlmSpec]:
    """The same weights under the names that ComfyUI's loader recognises, and their spec.

    Raises PlanError for another model, and for one without vision tower or output head.
    """
    plain = comfy.utils.state_dict_prefix_replace(
        state,
        {
            "model.language_model.": "model.",
            "language_model.model.": "model.",
            "model.visual.": "visual.",
            "model.lm_head.": "lm_head.",
        },
    )
    first = plain.get("model.layers.0.post_attention_layernorm.weight")
    if first is None:
        some = ", ".join(sorted(state)[:2]) or "nothing"
        raise PlanError(
            f"'{name}' is not a Qwen2.5-VL or Qwen3-VL model (it holds {some}, ...); choose the language model's file, "
            "or a folder with config.json, which transformers reads"
        )
    if "visual.patch_embed.proj.weight" not in plain:
        raise PlanError(
            f"'{name}' holds a language model without its vision tower, so it sees no image; choose a "
            "vision-language (VL) model"
        )
    width = first.shape[0]
    if "visual.deepstack_merger_list.0.norm.weight" in plain:
        _check_width(
            name,
            "Qwen3-VL",
            width,
            {llama.Qwen3VL_4BConfig().hidden_size: "4B", llama.Qwen3VL_8BConfig().hidden_size: "8B"},
        )
        if width == llama.Qwen3VL_8BConfig().hidden_size:
            _check_head(plain, name)
        # Its loader recognises this kind by the makers' names and renames them itself.
        renamed = {"model.": "model.language_model.", "visual.": "model.visual."}
        return comfy.utils.state_dict_prefix_replace(plain, renamed), QWEN3_VL
    if "model.layers.0.self_attn.k_proj.bias" in plain and "visual.merger.mlp.0.weight" in plain:
        _check_width(name, "Qwen2.5-VL", width, {llama.Qwen25_7BVLI_Config().hidden_size: "7B"})
        _check_head(plain, name)
        # The loader moves the head's weight to where its class has it, but not the scale of a quantised one.
        return comfy.utils.state_dict_prefix_replace(plain, {"lm_head.": "model.lm_head."}), QWEN25_VL
    raise PlanError(
        f"'{name}' is a vision-language model that ComfyUI has no class for; put its whole folder with config.json "
        "there, which transformers reads"
    )


def _check_width(name: str, kind: str, width: int, sizes: Mapping[int, str]) -> None:
    if width not in sizes:
        known = " and ".join(f"{size} (width {number})" for number, size in sizes.items())
        raise PlanError(
            f"'{name}' is a {kind} of width {width}; ComfyUI has classes for {known} only. Put its whole folder with "
            "config.json there, which transformers reads"
        )


def _check_head(state: State, name: str) -> None:
    if "lm_head.weight" not in state:
        raise PlanError(
            f"'{name}' has no output head (lm_head.weight), so it can encode but not answer; take a file that has it, "
            "or the model's whole folder"
        )


def check_complete(expected: set[str], state: set[str], name: str) -> None:
    """PlanError when the model has weights that the file has not: ComfyUI would leave them random."""
    missing = sorted(key for key in expected - state if not key.endswith(_QUANTISED))
    if missing:
        raise PlanError(
            f"{len(missing)} of {len(expected)} weights are not in '{name}', the first is {missing[0]}; the file is "
            "incomplete or of another version of the model, download it again"
        )
