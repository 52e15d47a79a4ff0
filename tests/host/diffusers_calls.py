"""One call of each of diffusers' transformers, as diffusers' own pipelines make it: packing, position ids, shapes.

Each takes (transformer, latents [noise, *references] each (B, C, [1,] H, W), text (B, L, C), pooled (B, C), sigma
(B,), fault) and returns the predicted noise, shaped like the first latent. `fault` names a mistake to make on
purpose: 'reference at another index' or 'text at another position'.
"""

from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
from diffusers import Flux2Pipeline, FluxKontextPipeline, QwenImageEditPipeline

GUIDANCE = 2.5


@contextmanager
def attending(module, mask):
    """Give every attention of diffusers' model the mask; its Qwen processor takes none from outside."""
    if mask is None:
        yield
        return
    original = module.dispatch_attention_fn

    def masked(query, key, value, **options):
        assert query.shape[1] == key.shape[1] == len(mask)
        return original(query, key, value, **{**options, "attn_mask": mask})

    with mock.patch.object(module, "dispatch_attention_fn", masked):
        yield


def flux1(model, latents, text, pooled, sigma, fault):
    pipeline = FluxKontextPipeline
    height, width = latents[0].shape[-2:]
    ids = [
        pipeline._prepare_latent_image_ids(1, x.shape[-2] // 2, x.shape[-1] // 2, "cpu", torch.float32) for x in latents
    ]
    for reference_ids in ids[1:]:
        reference_ids[:, 0] = 2 if fault == "reference at another index" else 1
    packed = [pipeline._pack_latents(x, *x.shape) for x in latents]
    out = model(
        hidden_states=torch.cat(packed, 1),
        encoder_hidden_states=text,
        pooled_projections=pooled,
        timestep=sigma,
        guidance=torch.full_like(sigma, GUIDANCE),
        img_ids=torch.cat(ids),
        txt_ids=torch.full((text.shape[1], 3), float(fault == "text at another position")),
        return_dict=False,
    )[0]
    return pipeline._unpack_latents(out[:, : packed[0].shape[1]], height * 8, width * 8, 8)


def flux2(model, latents, text, pooled, sigma, fault):
    pipeline = Flux2Pipeline
    noise_ids = pipeline._prepare_latent_ids(latents[0])
    ids = [noise_ids[:1]]
    if latents[1:]:
        scale = 20 if fault == "reference at another index" else 10
        ids.append(pipeline._prepare_image_ids([x[:1] for x in latents[1:]], scale))
    text_ids = pipeline._prepare_text_ids(text[:1])
    text_ids[..., 3] += int(fault == "text at another position")
    out = model(
        hidden_states=torch.cat([pipeline._pack_latents(x) for x in latents], 1),
        encoder_hidden_states=text,
        timestep=sigma,
        img_ids=torch.cat(ids, 1),
        txt_ids=text_ids,
        return_dict=False,
    )[0]
    return pipeline._unpack_latents_with_ids(out[:, : noise_ids.shape[1]], noise_ids)


def qwen(model, latents, text, pooled, sigma, fault):
    pipeline = QwenImageEditPipeline
    height, width = latents[0].shape[-2:]
    packed = [pipeline._pack_latents(x, x.shape[0], x.shape[1], *x.shape[-2:]) for x in latents]
    with _shifted_positions(model, fault):
        out = model(
            hidden_states=torch.cat(packed, 1),
            encoder_hidden_states=text,
            timestep=sigma,
            img_shapes=[[(1, x.shape[-2] // 2, x.shape[-1] // 2) for x in latents]] * len(text),
            return_dict=False,
        )[0]
    return pipeline._unpack_latents(out[:, : packed[0].shape[1]], height * 8, width * 8, 8)


def _shifted_positions(model, fault):
    """Qwen-Image makes its positions itself: a reference before the real one, or a token before the text."""
    right = model.pos_embed.forward

    def forward(shapes, max_txt_seq_len, device):
        if fault == "text at another position":
            image, text = right(shapes, max_txt_seq_len=max_txt_seq_len + 1, device=device)
            return image, text[1:]
        (noise, edited, *others), *_ = shapes
        image, text = right([[noise, edited, edited, *others]], max_txt_seq_len=max_txt_seq_len, device=device)
        first, extra = noise[1] * noise[2], edited[1] * edited[2]
        return torch.cat([image[:first], image[first + extra :]]), text

    if fault not in ("text at another position", "reference at another index"):
        return nullcontext()
    return mock.patch.object(model.pos_embed, "forward", forward)
