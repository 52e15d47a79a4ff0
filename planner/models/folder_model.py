"""Asking a model of the library transformers: its own chat template and processor, our sampling, ComfyUI's memory.

ComfyUI counts and unloads the model like any other; only a model spread by accelerate is outside its lists, and is
taken off the GPU after each answer instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy.utils
import torch

from ..plan import PlanError, shown
from .interface import Answer, Message, Part, Sampling, VlmSpec, without_control_words
from .memory import explaining_full_memory
from .spread import spread_out


class FolderModel:
    """A model of transformers with its processor. See `interface.PlannerModel`.

    patcher: what ComfyUI loads and unloads; None for a model that is spread by accelerate.
    """

    def __init__(
        self,
        network: Any,
        processor: Any,
        spec: VlmSpec,
        label: str,
        patcher: Any,
        trained_template: Path | None = None,
    ) -> None:
        self.network, self.processor, self.spec, self.label = network, processor, spec, label
        self.patcher, self.trained_template = patcher, trained_template

    def answer(self, messages: Sequence[Message], images: Sequence[torch.Tensor], sampling: Sampling) -> Answer:
        """See `interface.PlannerModel.answer`."""
        management.throw_exception_if_processing_interrupted()
        try:
            given = self.inputs(messages, images)
        except Exception as error:  # a chat template is a program of its folder, and may fail in any way
            raise PlanError(
                f"{self.label} cannot be asked: {type(error).__name__}: {shown(str(error).strip(), 300)}; its chat "
                "template or its processor's settings are broken or of another model, download them again"
            ) from error
        asked = given["input_ids"].shape[1]
        length = asked + sampling.max_tokens
        with explaining_full_memory(self.label), self._in_place(length) as device, torch.no_grad():
            given = {
                key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in given.items()
            }
            written = self.network.generate(**given, **self._settings(sampling, asked))[0, asked:].tolist()
        finished = bool(written) and written[-1] in self._ends
        text = self.processor.tokenizer.decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Answer(text.strip(), finished, asked, len(written))

    def inputs(self, messages: Sequence[Message], images: Sequence[torch.Tensor]) -> dict[str, Any]:
        """What the model takes, by its own chat template and processor."""
        words = self.processor.tokenizer.all_special_tokens
        turns = []
        for message in messages:
            parts = [
                {"type": "image"}
                if part is Part.IMAGE
                else {"type": "text", "text": without_control_words(part, words)}
                for part in message.parts
            ]
            turns.append({"role": message.role, "content": parts})
        text = self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        # The images already have the sizes that they are to be seen at; a model that is fixed to one size still
        # scales them.
        keep = {"images_kwargs": {"do_resize": False}} if images and self._sees_any_size else {}
        pillow = [_to_pillow(image) for image in images] or None
        return dict(self.processor(text=[text], images=pillow, return_tensors="pt", **keep))

    @property
    def _ends(self) -> set[int]:
        """The tokens that end a reply: the generation config's and the tokenizer's; either may be missing."""
        own = self.network.generation_config.eos_token_id
        ends = [*own] if isinstance(own, (list, tuple)) else [own]
        return {token for token in (*ends, self.processor.tokenizer.eos_token_id) if isinstance(token, int)}

    @property
    def _sees_any_size(self) -> bool:
        return hasattr(self.processor.image_processor, "merge_size")

    def _settings(self, sampling: Sampling, asked: int) -> dict[str, Any]:
        """Everything that decides the next token, whatever the folder's own generation config says."""
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        own = self.network.generation_config
        settings = GenerationConfig(
            max_new_tokens=sampling.max_tokens,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            eos_token_id=sorted(self._ends) or None,
            pad_token_id=own.pad_token_id if own.pad_token_id is not None else self.processor.tokenizer.pad_token_id,
        )
        drawing = LogitsProcessorList([_Draw(sampling)] if sampling.temperature > 0 else [])
        watching = StoppingCriteriaList([_Watch(comfy.utils.ProgressBar(sampling.max_tokens), asked)])
        return {"generation_config": settings, "logits_processor": drawing, "stopping_criteria": watching}

    @contextmanager
    def _in_place(self, length: int):
        """The model where it computes, as the device that takes its inputs; spread models are put back afterwards."""
        if self.patcher is not None:
            # Partly loaded works for ComfyUI's own layers only; these are all on the device or none is.
            management.load_models_gpu([self.patcher], memory_required=self._estimate(length), force_full_load=True)
            yield self.patcher.load_device
            return
        with spread_out(self.network, self._estimate(length)) as device:
            yield device

    def _estimate(self, length: int) -> float:
        """Bytes that one answer of `length` tokens in all needs besides the weights, roughly."""
        text = self.network.config.get_text_config()
        width = getattr(text, "hidden_size", 4096)
        return length * (2 * getattr(text, "num_hidden_layers", 32) * width + 24 * width) * 4.0


class _Draw:
    """Draws a token by temperature and top_p from a generator of its own, by making it the likeliest.

    Adding Gumbel noise to logarithms of probabilities and taking the largest draws from those probabilities, so the
    library's own sampling, which uses global randomness, is not needed.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores: (1, vocabulary)."""
        logs = torch.log_softmax(scores.float() / self._sampling.temperature, dim=-1)
        ordered, order = logs.sort(descending=True)
        before = ordered.exp().cumsum(-1) - ordered.exp()
        logs = logs.scatter(-1, order, ordered.masked_fill(before >= self._sampling.top_p, -torch.inf))
        noise = torch.rand(logs.shape, generator=self._generator, dtype=torch.float64).clamp_(1e-12, 1 - 1e-12)
        return logs - torch.log(-torch.log(noise)).to(logs)


class _Watch:
    """Shows the progress on the running node and lets the user interrupt, after each token."""

    def __init__(self, bar: Any, asked: int) -> None:
        self._bar, self._asked = bar, asked

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self._bar.update_absolute(input_ids.shape[1] - self._asked)
        management.throw_exception_if_processing_interrupted()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def _to_pillow(image: torch.Tensor) -> Any:
    """(1, H, W, 3) in 0..1 as an image of whole levels, which processors take."""
    from PIL import Image

    levels = (image[0].float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.cpu().numpy())
