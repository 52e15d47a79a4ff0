"""Tiny random Qwen2.5-VL and Qwen3-VL, as folders of transformers and as what ComfyUI's own loaders accept.

The widths of the host's classes are fixed (7 G parameters), so their configurations are replaced while a tiny model
is loaded; the code that is tested, the tokenizer and the chat format are the host's own. Head width 128 and, for
Qwen2.5-VL, four key heads are what its loader recognises.
"""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import comfy.text_encoders.llama as llama
import comfy.text_encoders.qwen3vl as qwen3vl
import torch

# The vocabulary is the tokenizer's own, so the embeddings are most of it.
TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}
HEADS = {"qwen2_5_vl": (4, 4), "qwen3_vl": (4, 2)}
SEEING = {"qwen2_5_vl": (32, 48, 2, 9), "qwen3_vl": (32, 48, 2, 4)}  # width, inner, heads, layers
WORDS = {"qwen2_5_vl": 152064, "qwen3_vl": 151936}
IMAGE, VIDEO, START, END = 151655, 151656, 151652, 151653


def make(kind: str, seed: int = 0, words: int | None = None, tied: bool = False):
    """A tiny model of transformers in fp32 with spread-out random weights.

    words: of its vocabulary; the tokenizer's own if it is to read or write, a few where it is only loaded. tied: the
    output head is the embeddings, as in Qwen3-VL 4B.
    """
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
    )

    width, inner, heads, depth = SEEING[kind]
    queries, keys = HEADS[kind]
    text = {
        **TEXT,
        "vocab_size": words or WORDS[kind],
        "num_attention_heads": queries,
        "num_key_value_heads": keys,
        "head_dim": 128,
        "rms_norm_eps": 1e-6,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "pad_token_id": None,
        "tie_word_embeddings": tied,
    }
    ids = {
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "vision_start_token_id": START,
        "vision_end_token_id": END,
        "tie_word_embeddings": tied,
    }
    seeing = {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_heads": heads,
        "depth": depth,
        "out_hidden_size": TEXT["hidden_size"],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "qwen2_5_vl":
            text["hidden_size"] = seeing["out_hidden_size"] = queries * 128  # this family has no head width of its own
            rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
            config = Qwen2_5_VLConfig(text_config={**text, "rope_parameters": rope}, vision_config=seeing, **ids)
            model = Qwen2_5_VLForConditionalGeneration(config)
        else:
            rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]}
            seeing |= {
                "deepstack_visual_indexes": [0, 1, 2],
                "num_position_embeddings": 2304,
                "patch_size": 16,
            }
            config = Qwen3VLConfig(text_config={**text, "rope_parameters": rope}, vision_config=seeing, **ids)
            model = Qwen3VLForConditionalGeneration(config)
        spread(model)
    return model.eval().requires_grad_(False)


def spread(model: torch.nn.Module) -> None:
    """Weights so large that every part of the model shows in the logits."""
    for name, value in model.named_parameters():
        if value.ndim < 2:
            value.data.uniform_(-0.3, 0.3).add_(0.0 if name.endswith("bias") else 1.0)
        else:
            most = 3**0.5 * (1.0 if "embed" in name else value[0].numel() ** -0.5)
            value.data.uniform_(-most, most)


@contextlib.contextmanager
def tiny_host(kind: str, words: int | None = None):
    """While this lasts, the host builds the family at the sizes of `make`; 8B is the one with a head of its own."""
    width, inner, heads, depth = SEEING[kind]
    queries, keys = HEADS[kind]
    text = {
        **TEXT,
        "num_attention_heads": queries,
        "num_key_value_heads": keys,
        "vocab_size": words or WORDS[kind],
    }
    with contextlib.ExitStack() as stack:
        if kind == "qwen2_5_vl":
            text["hidden_size"] = queries * 128
            config = functools.partial(llama.Qwen25_7BVLI_Config, **text)
            tower = functools.partial(llama.qwen_vl.Qwen2VLVisionTransformer)

            def small(**sizes):
                return tower(
                    **{
                        **sizes,
                        "hidden_size": width,
                        "intermediate_size": inner,
                        "num_heads": heads,
                        "num_layers": depth,
                    }
                )

            stack.enter_context(mock.patch.object(llama, "Qwen25_7BVLI_Config", config))
            stack.enter_context(mock.patch.object(llama.qwen_vl, "Qwen2VLVisionTransformer", small))
        else:
            seeing = {
                "hidden_size": width,
                "intermediate_size": inner,
                "depth": depth,
                "deepstack_visual_indexes": [0, 1, 2],
            }
            for size in ("4b", "8b"):
                name = f"qwen3vl_{size}"
                config = functools.partial(getattr(llama, f"Qwen3VL_{size.upper()}Config"), **text)
                if size == "8b":
                    stack.enter_context(mock.patch.object(llama, "Qwen3VL_8BConfig", config))
                stack.enter_context(mock.patch.dict(qwen3vl.QWEN3VL_CONFIGS, {name: config}))
                stack.enter_context(mock.patch.dict(qwen3vl.QWEN3VL_VISION, {name: seeing}))
            stack.enter_context(mock.patch.dict(qwen3vl.QWEN3VL_VISION_COMMON, {"num_heads": heads}))
        yield


def save(model, folder: Path, shards: int = 1) -> Path:
    """The model's folder as a download has it; shards: into about so many files."""
    size = sum(value.numel() * value.element_size() for value in model.parameters())
    model.save_pretrained(folder, max_shard_size=f"{max(1, size // shards // 1024)}KB" if shards > 1 else "50GB")
    return folder


def single_file(model, file: Path, without: str = "-") -> Path:
    """All weights in one file under the names that such files have, but for those whose makers' names begin so.

    Files of a Qwen2.5-VL have the older names, which are also the host's; files of a Qwen3-VL the makers' own.
    """
    from safetensors.torch import save_file

    older = type(model).__name__.startswith("Qwen2_5")
    kept = {name: value.contiguous() for name, value in model.state_dict().items() if not name.startswith(without)}
    if older:
        kept = {
            name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): value
            for name, value in kept.items()
        }
    save_file(kept, file)
    return file


def scaled_fp8_file(model, file: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """A file of the kind that ComfyUI's own fp8_scaled text encoders are, and the weights that it stands for.

    The layers' matrices and the output head are in fp8, each with one scale.
    """
    from safetensors.torch import save_file

    kept, meant = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}, {}
    for name, value in model.state_dict().items():
        name = name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")
        value = value.contiguous()
        if value.ndim == 2 and ("_proj.weight" in name and name.startswith("model.layers") or name == "lm_head.weight"):
            scale = value.abs().max() / 448
            value = (value / scale).to(torch.float8_e4m3fn)
            kept[name.replace(".weight", ".scale_weight")] = scale
            meant[name] = value.float() * scale
        kept[name] = value
        meant.setdefault(name, value)
    save_file(kept, file)
    return file, meant


def tied_clip(model):
    """The host's Qwen3-VL 4B, whose head is its embeddings, with this model's weights."""
    import comfy.sd
    import comfy.utils

    target = SimpleNamespace(
        params={}, clip=qwen3vl.te(model_type="qwen3vl_4b"), tokenizer=qwen3vl.tokenizer("qwen3vl_4b")
    )
    names = {"model.language_model.": "model.", "model.visual.": "visual."}
    state = comfy.utils.state_dict_prefix_replace(dict(model.state_dict()), names)
    state.pop("lm_head.weight", None)
    return comfy.sd.CLIP(target, state_dict=[state], model_options={"dtype": torch.float32})
