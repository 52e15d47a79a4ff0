"""The host's own text encoders of Flux, Flux.2 and Qwen-Image at reduced size, with seeded weights.

Tokenizers, templates and all code are the host's; only widths and depths are smaller. Qwen's vision tower has
fixed sizes in the host (0.6 G parameters), so its constructor is replaced while a tiny one is built.
"""

from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import comfy.sd
import comfy.text_encoders.flux
import comfy.text_encoders.llama
import comfy.text_encoders.qwen_image
import torch
from comfy.sd1_clip import SD1Tokenizer, SDTokenizer
from transformers import Qwen2Tokenizer

QWEN = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
# Klein stacks the states after layers 9, 18 and 27.
QWEN3 = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 28,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
}
T5 = {"d_model": 64, "d_ff": 64, "d_kv": 16, "num_heads": 4, "num_layers": 2}
# FLUX.2 dev stacks the states after layers 10, 20 and 30. The words are Qwen's: Mistral's come with its checkpoint.
MISTRAL = {**QWEN3, "num_hidden_layers": 31, "vocab_size": 152064}
CLIP_L = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}


def build(model, tokenizer, **configs) -> comfy.sd.CLIP:
    options = {f"{name}_model_config": config for name, config in configs.items()}
    target = SimpleNamespace(params={}, clip=model, tokenizer=tokenizer)
    clip = comfy.sd.CLIP(target, model_options={**options, "dtype": torch.float32})
    seeded = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in clip.cond_stage_model.named_parameters():
            if weight.ndim < 2:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
            else:
                spread = 1.0 if "embed_tokens" in name or "shared" in name else weight[0].numel() ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=seeded) * spread)
    return clip


def flux_clip() -> comfy.sd.CLIP:
    flux = comfy.text_encoders.flux
    return build(flux.flux_clip(dtype_t5=torch.float32), flux.FluxTokenizer, t5xxl=T5, clip_l=CLIP_L)


def klein_clip() -> comfy.sd.CLIP:
    flux = comfy.text_encoders.flux
    return build(flux.klein_te(), flux.KleinTokenizer, qwen3_4b=QWEN3)


class _Flux2Tokenizer(comfy.text_encoders.flux.Flux2Tokenizer):
    """ComfyUI's, padding as Mistral3Tokenizer does, over Qwen's words."""

    def __init__(self, embedding_directory=None, tokenizer_data=None):
        def words(embedding_directory=None, tokenizer_data=None):
            path = Path(comfy.text_encoders.flux.__file__).parent / "qwen25_tokenizer"
            return SDTokenizer(
                str(path), pad_with_end=False, embedding_directory=embedding_directory, embedding_size=32,
                embedding_key="mistral3_24b", tokenizer_class=Qwen2Tokenizer, has_end_token=False,
                pad_to_max_length=False,
                pad_token=11, start_token=1, max_length=99999999, min_length=1, pad_left=True, disable_weights=True,
            )  # fmt: skip

        SD1Tokenizer.__init__(self, embedding_directory, tokenizer_data or {}, name="mistral3_24b", tokenizer=words)
        self.llama_template = "[SYSTEM_PROMPT]You reason about images.[/SYSTEM_PROMPT][INST]{}[/INST]"


def flux2_clip() -> comfy.sd.CLIP:
    return build(comfy.text_encoders.flux.flux2_te(), _Flux2Tokenizer, mistral3_24b=MISTRAL)


def qwen_clip() -> comfy.sd.CLIP:
    qwen = comfy.text_encoders.qwen_image
    vision = comfy.text_encoders.llama.qwen_vl.Qwen2VLVisionTransformer

    def small(**sizes):
        return vision(**{**sizes, "hidden_size": 64, "intermediate_size": 64, "num_heads": 2, "num_layers": 2})

    with mock.patch.object(comfy.text_encoders.llama.qwen_vl, "Qwen2VLVisionTransformer", small):
        return build(qwen.QwenImageTEModel, qwen.QwenImageTokenizer, qwen25_7b=QWEN)
