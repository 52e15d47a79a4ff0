"""Training the toy world's editor: flow matching on edited scenes, and extra heads on its tokens, which are not kept.

No region goes in: the editor gets a scene, instructions and noise. Its tokens are also asked what a patch shows,
whether the instructions change it and what it shows then (`token_contents.py`): the loss on pixels alone says little
about which of nine objects a word means, and for long the editor changed the wrong ones a little each. Where the
object's edges are is asked too: without that, tokens knew them to four pixels, and a new shape came out a blot.
"""

from __future__ import annotations

import math

import torch
from diffusers import FluxTransformer2DModel

from .editor import HEAD_WIDTH, PATCH, outputs
from .latents import Batch
from .text_encoder import EncodedText
from .token_contents import CONTENT_WIDTH, content_loss

CHANGED_WEIGHT = 4  # how much more a changed cell counts in the loss
CHANGED = 0.1  # a cell that moved further in any channel is changed
NOISE_SHIFT = 3  # how much more often high noise is trained: there it is decided what becomes of an object (0.34 of the
# change was still wrong at sigma 1 when 0.03 was at sigma 0.4). Sigmas as in section 5.3.2 of arXiv 2403.03206.
BEFORE_CHANGE = 3  # single blocks that come before tokens are asked what changes
AFTER_RESULT = 4  # single blocks that come after they are asked what they show then: two drew 0.46 of a new shape's
# change wrong in the first step, four 0.36 (editor_measure.py; after 5,000 further steps, with more new shapes asked)
# Weights in the loss: what tokens show, whether they change, what they show then. The second was the hardest: tokens of
# the right colour and another shape passed for changed at 0.59 (0.72 for the right ones) when it weighed 0.1.
CONTENT_WEIGHT, CHANGE_WEIGHT, RESULT_WEIGHT = 0.1, 0.5, 0.2
EDGE_WEIGHT = 4  # of edges (in tokens' sides) in what a token shows: a pixel counts 0.25


class EditorWithHeads(torch.nn.Module):
    """An editor and the heads that are trained with it; hooks keep the tokens that they read during each pass.

    Tokens come in two halves, each with heads of its own: those that are drawn, then the reference's, which no noise
    covers. One half does not teach the other: with heads on the reference alone, these named the coming shape in 0.93
    of the cases, and the picture showed a blot.
    """

    def __init__(self, editor: FluxTransformer2DModel, seed: int = 0) -> None:
        super().__init__()
        self.editor = editor
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.content = torch.nn.Linear(HEAD_WIDTH, CONTENT_WIDTH)
            self.change = torch.nn.ModuleList(torch.nn.Linear(HEAD_WIDTH, 1) for _ in range(2))
            self.result = torch.nn.ModuleList(torch.nn.Linear(HEAD_WIDTH, CONTENT_WIDTH) for _ in range(2))
        self.tokens: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        singles = editor.single_transformer_blocks
        self._keep("content", editor.transformer_blocks[-1])
        self._keep("change", singles[min(BEFORE_CHANGE, len(singles)) - 1])
        self._keep("result", singles[max(0, len(singles) - 1 - AFTER_RESULT)])

    def _keep(self, name: str, block: torch.nn.Module) -> None:
        def keep(_module: torch.nn.Module, _inputs: object, out: tuple[torch.Tensor, torch.Tensor]) -> None:
            self.tokens[name] = tuple(half.float() for half in out[1].chunk(2, 1))  # image tokens

        block.register_forward_hook(keep)

    def heads_loss(self, batch: Batch, changed: torch.Tensor) -> torch.Tensor:
        """Weighted loss of the heads. changed: (B, 1, h, w) bool, the latent's cells that the edit changes."""
        patches = torch.nn.functional.max_pool2d(changed.float(), PATCH).flatten(1)  # (B, tokens)
        before, after = batch.contents.unbind(2)
        loss = CONTENT_WEIGHT * _packed_loss(self.content(self.tokens["content"][1]), before)
        changes = patches > 0
        for half in range(2):
            says = self.change[half](self.tokens["change"][half])[..., 0]
            loss = loss + CHANGE_WEIGHT / 2 * torch.nn.functional.binary_cross_entropy_with_logits(says, patches)
            if changes.any():
                results = self.result[half](self.tokens["result"][half][changes])
                loss = loss + RESULT_WEIGHT / 2 * _packed_loss(results, after[:, changes])
        return loss


def _packed_loss(said: torch.Tensor, contents: torch.Tensor) -> torch.Tensor:
    """contents: (6, ...), as `Batch.contents` has them."""
    return content_loss(said, contents[0].long(), contents[1].long(), contents[2:].movedim(0, -1), EDGE_WEIGHT)


def editor_loss(
    model: EditorWithHeads, batch: Batch, texts: EncodedText, generator: torch.Generator
) -> tuple[torch.Tensor, float]:
    """Flow matching: how far the velocity is off. Also the PSNR of the image it points to, in latents (dB).

    Cells that the edit changes count `CHANGED_WEIGHT` times as much: they are few, and all that is to be learnt lies
    there. The reference's tokens, which no noise covers, predict how the edit changes them: so every step, whatever its
    noise, teaches what the instructions mean. generator: on the CPU, so that a run draws the same on every device.
    """
    sources, targets = batch.sources, batch.targets
    even = torch.rand(len(targets), generator=generator).to(targets)
    sigma = NOISE_SHIFT * even / (1 + (NOISE_SHIFT - 1) * even)
    noise = torch.randn(targets.shape, generator=generator).to(targets)
    at = sigma[:, None, None, None]
    noisy = (1 - at) * targets + at * noise
    velocity, edit = outputs(model.editor, noisy, sources, texts.features, sigma, texts.counts).float()
    changed = (sources - targets).abs().amax(1, keepdim=True) > CHANGED
    weight = 1 + (CHANGED_WEIGHT - 1) * changed
    velocity_error = (velocity - (noise - targets)).square().mean(1, keepdim=True)
    edit_error = (edit - (sources - targets)).square().mean(1, keepdim=True)
    image_error = float((at.square() * velocity_error).detach().mean())
    loss = (weight * (velocity_error + edit_error)).sum() / weight.sum() + model.heads_loss(batch, changed)
    return loss, -10 * math.log10(max(image_error, 1e-12))
