"""The latent codec of the toy world: a TAESD of 16 channels that ComfyUI's VAELoader takes as a Flux VAE.

The layers have the names and shapes of ComfyUI's comfy/taesd/taesd.py, so training needs no ComfyUI. The encoder is
trained to give latents of mean 0 and spread 1 per channel, and `vae_scale` and `vae_shift` are those of Flux's
latent format, which undoes them: what the editor sees is the encoder's output as it is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

CHANNELS = 16
CELL = 8  # pixels along the side of a latent's cell
WIDTH = 64
FLUX_SCALE, FLUX_SHIFT = 0.3611, 0.1159  # comfy.latent_formats.Flux


def _conv(n_in: int, n_out: int, **options) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, padding=1, **options)


class _Clamp(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x / 3) * 3


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = (_conv(WIDTH, WIDTH), nn.ReLU(), _conv(WIDTH, WIDTH), nn.ReLU(), _conv(WIDTH, WIDTH))
        self.conv = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.conv(x) + x)


def _down(blocks: int) -> list[nn.Module]:
    return [_conv(WIDTH, WIDTH, stride=2, bias=False), *(_Block() for _ in range(blocks))]


def _up(blocks: int) -> list[nn.Module]:
    return [*(_Block() for _ in range(blocks)), nn.Upsample(scale_factor=2), _conv(WIDTH, WIDTH, bias=False)]


class Codec(nn.Module):
    """Images (B, 3, H, W) in 0..1 to latents (B, 16, H / 8, W / 8) of spread 1, and back. H, W: multiples of 8."""

    def __init__(self) -> None:
        super().__init__()
        self.taesd_encoder = nn.Sequential(
            _conv(3, WIDTH), _Block(), *_down(3), *_down(3), *_down(3), _conv(WIDTH, CHANNELS)
        )
        self.taesd_decoder = nn.Sequential(
            _Clamp(), _conv(CHANNELS, WIDTH), nn.ReLU(), *_up(3), *_up(3), *_up(3), _Block(), _conv(WIDTH, 3)
        )

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        if height % CELL or width % CELL:
            raise ValueError(f"the codec takes sides that are multiples of {CELL} pixels, not {width} x {height}")
        return self.taesd_encoder(images)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.taesd_decoder(latents)


class Loss(NamedTuple):
    total: torch.Tensor
    psnr: float  # of the clean latent, dB


def codec_loss(codec: Codec, images: torch.Tensor, generator: torch.Generator, noise: float = 0.05) -> Loss:
    """How far decoded images are off, and latents from mean 0 and spread 1.

    Half of the latents are decoded with some noise, as an editor's will be a little off. images: (B, 3, H, W),
    B even. generator: on the CPU, so that a run draws the same on every device.
    """
    latents = codec.encode(images)
    amounts = torch.zeros(len(latents), 1, 1, 1)
    amounts[: len(latents) // 2] = noise
    shaken = latents + (amounts * torch.randn(latents.shape, generator=generator)).to(latents)
    decoded = codec.decode(shaken)
    off = decoded - images
    clean = off[len(latents) // 2 :].detach().clamp(-1, 1).square().mean()
    spread, mean = torch.std_mean(latents, (0, 2, 3))
    regular = mean.square().mean() + (spread - 1).square().mean()
    total = off.abs().mean() + 4 * off.square().mean() + 0.01 * regular
    return Loss(total, psnr(float(clean)))


def psnr(mean_square: float) -> float:
    """Decibels for a mean square error on a scale of 0..1."""
    return float("inf") if mean_square <= 0 else -10 * float(torch.tensor(mean_square).log10())


def comfyui_weights(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The codec's state dict as VAELoader reads it, in fp16."""
    half = {key: value.detach().cpu().to(torch.float16).contiguous() for key, value in weights.items()}
    return {**half, "vae_scale": torch.tensor(FLUX_SCALE), "vae_shift": torch.tensor(FLUX_SHIFT)}
