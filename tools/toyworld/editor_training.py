"""Teaching the toy world's editor: flow matching on edited scenes, and heads that help it see, which are not kept.

No region goes in: the editor gets a scene, instructions and noise. What a patch shows, whether the instructions change
it and what it shows then is only asked of its tokens, as of the planner's (`planner_sight`): the loss on pixels alone says little about
which of nine objects a word means, and for long the editor changed the wrong ones a little each.
"""

from __future__ import annotations

import math

import torch
from diffusers import FluxTransformer2DModel

from .drawing import COLOURS, SHAPES
from .editor import HEAD, PATCH, outputs
from .latents import Batch
from .texts import Encoded

CHANGED = 4  # how much more a changed cell counts in the loss
VISIBLE = 0.1  # a cell that moved further in any channel is changed
SHIFT = 3  # how much more often high noise is trained: there it is decided what becomes of an object (0.34 of the
# change was still wrong at sigma 1 when 0.03 was at sigma 0.4). Sigmas as in section 5.3.2 of arXiv 2403.03206.
CHOOSING = 3  # single blocks that come before the reference's tokens are asked what changes
SEEING, NAMING, BECOMING = 0.1, 0.5, 0.2  # of the entropies in the loss: what tokens show, whether they change, what they
# show then. The second was the hardest: tokens of the right colour and another shape passed for changed at 0.59 (against
# 0.72 for the right ones) when it weighed 0.1.


class Pupil(torch.nn.Module):
    """An editor and its helping heads. What they read is kept by hooks during each pass."""

    def __init__(self, editor: FluxTransformer2DModel, seed: int = 0) -> None:
        super().__init__()
        self.editor = editor
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.what = torch.nn.Linear(HEAD, 1 + len(SHAPES) + len(COLOURS))
            self.changes = torch.nn.Linear(HEAD, 1)
            self.becomes = torch.nn.Linear(HEAD, 1 + len(SHAPES) + len(COLOURS))
        self.seen: dict[str, torch.Tensor] = {}
        singles = editor.single_transformer_blocks
        self._keep("what", editor.transformer_blocks[-1])
        self._keep("changes", singles[min(CHOOSING, len(singles)) - 1])
        self._keep("becomes", singles[max(0, len(singles) - 2)])  # the last one is left to draw

    def _keep(self, name: str, block: torch.nn.Module) -> None:
        def kept(_module: torch.nn.Module, _inputs: object, out: tuple[torch.Tensor, torch.Tensor]) -> None:
            self.seen[name] = out[1][:, out[1].shape[1] // 2 :]  # of pictures: the second half is the reference

        block.register_forward_hook(kept)

    def help(self, batch: Batch, changed: torch.Tensor) -> torch.Tensor:
        """Weighted mean entropies of what the heads say. changed: (B, 1, h, w) bool, the latent's cells that the edit changes."""
        patches = torch.nn.functional.max_pool2d(changed.float(), PATCH).flatten(1)  # (B, tokens)
        named = _yes_no(self.changes(self.seen["changes"].float())[..., 0], patches)
        seen = _said(self.what(self.seen["what"].float()), batch.shapes[:, 0], batch.colours[:, 0])
        now = patches > 0
        new = self.becomes(self.seen["becomes"].float())[now]
        then = _said(new, batch.shapes[:, 1][now], batch.colours[:, 1][now]) if now.any() else 0.0
        return SEEING * seen + NAMING * named + BECOMING * then


_yes_no = torch.nn.functional.binary_cross_entropy_with_logits


def _said(answers: torch.Tensor, shapes: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """Mean entropies of tokens' answers, whether there is an object, of which shape, of which colour: (..., 1 + 7 + 8)."""
    object_, shape, colour = answers.split([1, len(SHAPES), len(COLOURS)], -1)
    there = shapes >= 0
    loss = _yes_no(object_[..., 0], there.float())
    if not there.any():
        return loss
    entropy = torch.nn.functional.cross_entropy
    return loss + entropy(shape[there], shapes[there]) + entropy(colour[there], colours[there])


def editor_loss(
    pupil: Pupil, batch: Batch, texts: Encoded, generator: torch.Generator
) -> tuple[torch.Tensor, float]:
    """Flow matching: how far the velocity is off. Also the PSNR of the picture it points to, in latents (dB).

    Cells that the edit changes count `CHANGED` times as much: they are few, and all that is to be learnt lies there.
    The reference's tokens, which no noise covers, are to say how the edit changes them: so every step, whatever its
    noise, teaches what the instructions mean. generator: on the CPU, so that a run draws the same on every device.
    """
    sources, targets = batch.sources, batch.targets
    even = torch.rand(len(targets), generator=generator).to(targets)
    sigma = SHIFT * even / (1 + (SHIFT - 1) * even)
    noise = torch.randn(targets.shape, generator=generator).to(targets)
    at = sigma[:, None, None, None]
    noisy = (1 - at) * targets + at * noise
    guess, edit = outputs(pupil.editor, noisy, sources, texts.features, sigma, texts.counts).float()
    changed = (sources - targets).abs().amax(1, keepdim=True) > VISIBLE
    weight = 1 + (CHANGED - 1) * changed
    off = (guess - (noise - targets)).square().mean(1, keepdim=True)
    astray = (edit - (sources - targets)).square().mean(1, keepdim=True)
    picture = float((at.square() * off).detach().mean())
    loss = (weight * (off + astray)).sum() / weight.sum() + pupil.help(batch, changed)
    return loss, -10 * math.log10(max(picture, 1e-12))


def of_editor(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The editor's own weights of a `Pupil`'s."""
    return {key.removeprefix("editor."): value for key, value in weights.items() if key.startswith("editor.")}
