"""Qwen2.5-VL and Qwen3-VL by ComfyUI's own classes: its memory, offloading, quantised weights and interruption.

What ComfyUI's own text node leaves out is done here (0.27 to 0.30): three-axis positions, an output head of its own,
stop words, the type that is computed in, and a prompt whose words are never read as embeddings or weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.text_encoders.llama as llama
import comfy.text_encoders.qwen3vl as qwen3vl
import comfy.text_encoders.qwen_vl as qwen_vl
import comfy.utils
import torch

from ..plan import PlanError, shown
from .files import trained_template
from .host_weights import check_complete, read_state
from .interface import (
    QWEN3_VL,
    QWEN25_VL,
    TORCH_DTYPES,
    Answer,
    Message,
    Part,
    Sampling,
    VlmSpec,
    without_control_words,
)
from .memory import explaining_full_memory, memory_is_full

# The end of a text and of a turn, and the place of an image, in the tokenizer of both kinds.
_STOP = (151643, 151645)
_IMAGE = 151655
# Without a system message Qwen2.5-VL's chat template adds this one; it was trained with it.
_SYSTEM = "You are a helpful assistant."


class HostModel:
    """A Qwen-VL that ComfyUI holds as a text encoder. See `interface.PlannerModel`.

    clip: ComfyUI's CLIP. encoder: its part that is a Qwen-VL. head: the output head when the text encoder was loaded
    without one (Qwen2.5-VL only), on a patcher of its own. dtype: what the language model computes in; None leaves it
    to ComfyUI, which prefers bf16 where the device does and fp32 elsewhere.
    """

    def __init__(
        self,
        clip: Any,
        encoder: torch.nn.Module,
        spec: VlmSpec,
        label: str,
        head: Any = None,
        dtype: torch.dtype | None = None,
        trained_template: Path | None = None,
    ) -> None:
        self.clip, self.encoder, self.spec, self.label = clip, encoder, spec, label
        self.trained_template = trained_template
        self._head, self._dtype = head, dtype
        self._tokenizer = getattr(clip.tokenizer, clip.tokenizer.clip).tokenizer

    @property
    def patchers(self) -> list[Any]:
        """What ComfyUI loads and unloads for it."""
        return [self.clip.patcher, *([self._head] if self._head else [])]

    def answer(self, messages: Sequence[Message], images: Sequence[torch.Tensor], sampling: Sampling) -> Answer:
        """See `interface.PlannerModel.answer`."""
        management.throw_exception_if_processing_interrupted()
        device = self.clip.patcher.load_device
        tokens = self.tokens(messages, images)
        with explaining_full_memory(self.label):
            management.load_models_gpu(self.patchers, memory_required=self._estimate(tokens, sampling))
            with management.cuda_device_context(device), torch.no_grad():
                embeds, places = self.embeds(tokens, device)
                generator = _Generator(self._model, self._logits)
                written = generator.generate(
                    embeds,
                    do_sample=sampling.temperature > 0,
                    max_length=sampling.max_tokens,
                    temperature=max(sampling.temperature, 1e-3),
                    top_k=0,
                    top_p=sampling.top_p,
                    min_p=0.0,
                    repetition_penalty=1.0,
                    seed=sampling.seed,
                    stop_tokens=list(_STOP),
                    execution_dtype=self._dtype,
                    **places,
                )
        finished = bool(written) and written[-1] in _STOP
        text = self._tokenizer.decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Answer(text.strip(), finished, embeds.shape[1], len(written))

    def tokens(self, messages: Sequence[Message], images: Sequence[torch.Tensor]) -> list[Any]:
        """The conversation as ComfyUI's encoder takes it: ids, and each image where it is shown."""
        ids = self._tokenizer(self.chat(messages), add_special_tokens=False)["input_ids"]
        left = iter(images)
        return [
            {"type": "image", "data": next(left), "original_type": "image"} if token == _IMAGE else token
            for token in ids
        ]

    def chat(self, messages: Sequence[Message]) -> str:
        """The conversation in the chat format of both kinds, up to the model's turn."""
        if self.spec is QWEN25_VL and (not messages or messages[0].role != "system"):
            messages = (Message("system", (_SYSTEM,)), *messages)
        words = self._tokenizer.all_special_tokens
        text = ""
        for message in messages:
            parts = [
                "<|vision_start|><|image_pad|><|vision_end|>"
                if part is Part.IMAGE
                else without_control_words(part, words)
                for part in message.parts
            ]
            text += f"<|im_start|>{message.role}\n{''.join(parts)}<|im_end|>\n"
        return f"{text}<|im_start|>assistant\n"

    def embeds(self, tokens: list[Any], device: torch.device) -> tuple[torch.Tensor, dict[str, Any]]:
        """(1, L, width) of a conversation, and what else the first pass needs: positions, Qwen3-VL's image layers."""
        embeds, _, _, info = self.encoder.process_tokens([tokens], device)
        if self.spec is QWEN3_VL:
            positions, mask, layers = self.encoder.transformer.build_image_inputs(embeds, info)
            return embeds, {"position_ids": positions, "visual_pos_masks": mask, "deepstack_embeds": layers}
        return embeds, {"position_ids": qwen_vl.qwen2vl_mrope_position_ids(info, embeds.shape[1], device)}

    @property
    def _model(self) -> torch.nn.Module:
        return self.encoder.transformer.model

    def _logits(self, states: torch.Tensor) -> torch.Tensor:
        """(1, 1, vocabulary) of the last state of (1, L, width)."""
        if self._head is not None:
            return self._head.model(states[:, -1:])
        head = getattr(self._model, "lm_head", None)
        return self.encoder.transformer.logits(states) if head is None else head(states[:, -1:])

    def _estimate(self, tokens: list[Any], sampling: Sampling) -> float:
        """Bytes that one answer needs besides the weights: ComfyUI itself counts none for a text encoder."""
        config = self._model.config
        images = [token["data"] for token in tokens if isinstance(token, dict)]
        patches = [image.shape[1] * image.shape[2] // (self.spec.factor // 2) ** 2 for image in images]
        length = len(tokens) + sum(patches) // 4
        # Keys and values of every layer.
        each = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
        cache = each * (length + sampling.max_tokens)
        # The widest layer of the first pass twice, its states, and the causal mask; the tower works in fp32, image by
        # image.
        text = length * (2 * config.intermediate_size + 8 * config.hidden_size) * 4 + length * length * 4
        tower = max(patches, default=0) * (2 * 4304 + 10 * 1280) * 4
        return float(cache + max(text, tower))


class _Generator(llama.BaseGenerate):
    """ComfyUI's loop over tokens, on a model that stays as it is, with a head of our choice."""

    def __init__(self, model: torch.nn.Module, head: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.model, self._of_states = model, head

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        return self._of_states(states)


# ---- from disk and from a text encoder ----------------------------------------------------------------------


def load(path: Path, dtype: str, device: str) -> HostModel:
    """The model of a .safetensors file or a folder of shards, held by ComfyUI.

    dtype: see `host_weights.read_state`; bf16, fp16 and fp32 are also what the language model computes in, whatever the
    device prefers. device: `default` (ComfyUI decides and may offload) or `cpu`. Raises PlanError for weights that are
    missing, of another shape or of another model.
    """
    state, spec = read_state(path, dtype)
    options: dict[str, Any] = {"qwen25_7b_model_config": {"lm_head": True}}
    if device == "cpu":
        options["load_device"] = options["offload_device"] = torch.device("cpu")
    given = {key.replace("model.language_model.", "model.").replace("model.visual.", "visual.") for key in state}
    given = {f"model.{key}" if key.startswith("lm_head.") else key for key in given}
    try:
        clip = comfy.sd.load_text_encoder_state_dicts(
            [state], clip_type=comfy.sd.CLIPType.QWEN_IMAGE, model_options=options
        )
    except RuntimeError as error:  # torch's for a tensor of another shape
        if memory_is_full(error):
            raise
        raise PlanError(
            f"ComfyUI cannot load '{path.name}' as a {spec.name}: {shown(' '.join(str(error).split()), 300)}; the file "
            "is broken or of another version of the model, download it again"
        ) from error
    encoder, _ = _vision_encoder(clip, path.name)
    check_complete(set(encoder.transformer.state_dict()), given, path.name)
    label = f"{spec.name} '{path.name}' by ComfyUI"
    return HostModel(clip, encoder, spec, label, None, TORCH_DTYPES.get(dtype), trained_template(path))


def from_clip(clip: Any) -> HostModel:
    """The planner in a text encoder that is loaded already; nothing is loaded twice.

    A Qwen2.5-VL loaded as a text encoder left its output head in the file: only that is read again. Raises PlanError
    for a text encoder that is no Qwen-VL or has no head anywhere.
    """
    encoder, spec = _vision_encoder(clip, "this text encoder")
    label = f"{spec.name}, the connected text encoder"
    head = None
    if spec is QWEN25_VL and not hasattr(encoder.transformer.model, "lm_head"):
        head = _head_of(clip, encoder)
    template = next(filter(None, (trained_template(Path(file)) for file in _files_of(clip))), None)
    return HostModel(clip, encoder, spec, label, head, trained_template=template)


def _vision_encoder(clip: Any, name: str) -> tuple[torch.nn.Module, VlmSpec]:
    """The Qwen-VL in a text encoder of ComfyUI, and its spec."""
    found = type(clip.cond_stage_model).__name__
    for part in clip.cond_stage_model.children():
        transformer = getattr(part, "transformer", None)
        if isinstance(transformer, qwen3vl.Qwen3VL):
            return part, QWEN3_VL
        if isinstance(transformer, llama.Qwen25_7BVLI):
            return part, QWEN25_VL
        found = type(transformer).__name__ if transformer is not None else found
    raise PlanError(
        f"{name} is a {found}, which cannot plan; connect a Qwen2.5-VL or Qwen3-VL (4B, 8B), or use RePlan Load Planner"
    )


def _files_of(clip: Any) -> list[str]:
    """The files that a text encoder was loaded from, as far as ComfyUI knows."""
    made = getattr(clip.patcher, "cached_patcher_init", None) or (None, ([],))
    return [str(file) for file in made[1][0]] if isinstance(made[1][0], (list, tuple)) else []


def _head_of(clip: Any, encoder: torch.nn.Module) -> Any:
    """The output head out of the file that the text encoder came from, on a patcher of its own."""
    weight = next((found for file in _files_of(clip) if (found := _read_head(file)) is not None), None)
    if weight is None:
        raise PlanError(
            "this text encoder was loaded without its output head, and its file has none (lm_head.weight), so it can "
            "encode but not answer; choose a complete Qwen2.5-VL on RePlan Load Planner"
        )
    wanted = (encoder.transformer.model.config.vocab_size, encoder.transformer.model.config.hidden_size)
    if tuple(weight.shape) != wanted:
        raise PlanError(
            f"the output head in this text encoder's file has the shape {tuple(weight.shape)}, not {wanted}; take "
            "another file"
        )
    head = comfy.ops.manual_cast.Linear(wanted[1], wanted[0], bias=False, device="meta", dtype=weight.dtype)
    head.weight = torch.nn.Parameter(weight, requires_grad=False)
    # ComfyUI names weights from a module down, so the head is not the root itself.
    return comfy.model_patcher.CoreModelPatcher(
        torch.nn.Sequential(head),
        load_device=clip.patcher.load_device,
        offload_device=clip.patcher.offload_device,
    )


def _read_head(file: str) -> torch.Tensor | None:
    """lm_head.weight of a .safetensors file alone, as plain numbers; None if it has none."""
    from safetensors import safe_open

    if not file.endswith((".safetensors", ".sft")):
        return None
    with safe_open(file, framework="pt") as opened:
        names = set(opened.keys())
        key = next((key for key in ("lm_head.weight", "model.lm_head.weight") if key in names), None)
        if key is None:
            return None
        weight = opened.get_tensor(key)
        scale = next(
            (f"{key[:-7]}.{name}" for name in ("weight_scale", "scale_weight") if f"{key[:-7]}.{name}" in names),
            None,
        )
        if weight.dtype.itemsize > 1:
            return weight
        factor = opened.get_tensor(scale).to(torch.bfloat16) if scale else 1.0
        return weight.to(torch.bfloat16) * factor if weight.is_floating_point() else None
