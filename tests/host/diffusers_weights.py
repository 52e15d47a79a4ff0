"""The same tiny weights on both sides: ComfyUI's models and diffusers' transformers built from them.

The names of Flux.1's weights are translated here (diffusers' own conversion has the full model's width built
in), FLUX.2's by diffusers itself, and Qwen-Image has the same names on both sides. Loading is strict: a weight
too many or too few is an error.
"""

import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import torch
from diffusers import Flux2Transformer2DModel, FluxTransformer2DModel, QwenImageTransformer2DModel
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers
from replan.tools.tiny_models import HIDDEN, TEXT, randomise

HEADS = {"attention_head_dim": 128, "num_attention_heads": HIDDEN // 128}
QWEN_TEXT = 96
QWEN_SIZE = {"num_layers": 2, "joint_attention_dim": QWEN_TEXT, **HEADS}

# Flux.1: (name in the published weights, which ComfyUI keeps, name in diffusers); what is split is below.
_TOP = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in": "time_text_embed.timestep_embedder",
    "vector_in": "time_text_embed.text_embedder",
    "guidance_in": "time_text_embed.guidance_embedder",
    "in_layer": "linear_1",
    "out_layer": "linear_2",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
_DOUBLE = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
    "double_blocks": "transformer_blocks",
}
_SINGLE = {
    "modulation.lin": "norm.linear",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
    "linear2": "proj_out",
    "single_blocks": "single_transformer_blocks",
}
_SPLIT = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
}


def _renamed(key: str) -> str:
    table = _DOUBLE if key.startswith("double") else _SINGLE if key.startswith("single") else _TOP
    for old, new in table.items():
        key = key.replace(old, new)
    return key


def _flux1_names(weights: dict) -> dict:
    out = {}
    for key, value in weights.items():
        fused = next((name for name in _SPLIT if f".{name}." in key), None)
        if fused:
            names = _SPLIT[fused]
            sizes = [HIDDEN] * 3 + [len(value) - 3 * HIDDEN] * (len(names) - 3)
            for name, part in zip(names, value.split(sizes), strict=True):
                out[_renamed(key.replace(fused, name))] = part
        elif "adaLN_modulation" in key:  # shift and scale there, scale and shift here
            out[_renamed(key)] = torch.cat(value.chunk(2)[::-1])
        else:
            out[_renamed(key)] = value
    return out


def flux1_of(patcher) -> FluxTransformer2DModel:
    """diffusers' Flux.1 with the weights of a ModelPatcher."""
    size = {
        "num_layers": 2,
        "num_single_layers": 2,
        "joint_attention_dim": TEXT,
        "pooled_projection_dim": TEXT,
    }
    return _loaded(FluxTransformer2DModel(**size, **HEADS, guidance_embeds=True), _flux1_names(_weights(patcher)))


def flux2_of(patcher) -> Flux2Transformer2DModel:
    """diffusers' FLUX.2 with the weights of a ModelPatcher."""
    size = {"num_layers": 2, "num_single_layers": 2, "joint_attention_dim": TEXT, "guidance_embeds": False}
    return _loaded(
        Flux2Transformer2DModel(**size, **HEADS),
        convert_flux2_transformer_checkpoint_to_diffusers(_weights(patcher)),
    )


def qwen_of(patcher) -> QwenImageTransformer2DModel:
    """diffusers' Qwen-Image with the weights of a ModelPatcher from `reduced_qwen`."""
    zero = patcher.model.diffusion_model.default_ref_method == "index_timestep_zero"
    weights = {key: value for key, value in _weights(patcher).items() if key != "__index_timestep_zero__"}
    return _loaded(QwenImageTransformer2DModel(**QWEN_SIZE, zero_cond_t=zero), weights)


def reduced_qwen(reference_method: str = "index") -> comfy.model_patcher.ModelPatcher:
    """ComfyUI's Qwen-Image at a size that its loader never builds: two layers, two heads, text 96 wide.

    reference_method: 'index', or 'index_timestep_zero' as in the 2511 edition.
    """
    config = comfy.supported_models.QwenImage(
        {
            "image_model": "qwen_image",
            **QWEN_SIZE,
            "default_ref_method": reference_method,
            "dtype": torch.float32,
        }
    )
    model = config.get_model({}, device="cpu")
    model.diffusion_model.load_state_dict(randomise(model.diffusion_model.state_dict(), 8))
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))


def _weights(patcher) -> dict:
    return dict(patcher.model.diffusion_model.state_dict())


def _loaded(transformer, weights: dict):
    transformer.load_state_dict(weights, strict=True)
    return transformer.requires_grad_(False).eval()
