"""Teaching the toy world's editor: flow matching on edited scenes, and heads that help it see, which are not kept.

No region goes in: the editor gets a scene, instructions and noise. What a patch shows, whether the instructions change
it and what it shows then is only asked of its tokens, as of the planner's (`sight`): the loss on pixels alone
says little about which of nine objects a word means, and for long the editor changed the wrong ones a little each.
Where the object's edges are is asked too: without that, tokens knew them to four pixels, and a new shape came out a blot.
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
CHOOSING = 3  # single blocks that come before tokens are asked what changes
DRAWING = 4  # single blocks that come after they are asked what they show then: two drew 0.46 of a new shape's change
# wrong in the first step, four 0.36 (editor_measure.py; after 5,000 further steps, with more new shapes asked)
SEEING, NAMING, BECOMING = 0.1, 0.5, 0.2  # of the answers in the loss: what tokens show, whether they change, what they
# show then. The second was the hardest: tokens of the right colour and another shape passed for changed at 0.59 (against
# 0.72 for the right ones) when it weighed 0.1.
PLACING = 4  # of edges (in tokens' sides) in an answer: a pixel counts 0.25
SAID = 1 + len(SHAPES) + len(COLOURS) + 4  # an object or not, its shape, its colour, its edges


class Pupil(torch.nn.Module):
    """An editor and its helping heads. What they read is kept by hooks during each pass.

    Tokens are asked in two halves, each by heads of its own: first those that draw, then the reference's, which no
    noise covers. A half that knows does not tell the other by itself: with the reference's alone asked, these named
    the coming shape in 0.93 of the cases, and the picture showed a blot.
    """

    def __init__(self, editor: FluxTransformer2DModel, seed: int = 0) -> None:
        super().__init__()
        self.editor = editor
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.what = torch.nn.Linear(HEAD, SAID)
            self.changes = torch.nn.ModuleList(torch.nn.Linear(HEAD, 1) for _ in range(2))
            self.becomes = torch.nn.ModuleList(torch.nn.Linear(HEAD, SAID) for _ in range(2))
        self.seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        singles = editor.single_transformer_blocks
        self._keep("what", editor.transformer_blocks[-1])
        self._keep("changes", singles[min(CHOOSING, len(singles)) - 1])
        self._keep("becomes", singles[max(0, len(singles) - 1 - DRAWING)])

    def _keep(self, name: str, block: torch.nn.Module) -> None:
        def kept(_module: torch.nn.Module, _inputs: object, out: tuple[torch.Tensor, torch.Tensor]) -> None:
            self.seen[name] = tuple(half.float() for half in out[1].chunk(2, 1))  # of pictures

        block.register_forward_hook(kept)

    def help(self, batch: Batch, changed: torch.Tensor) -> torch.Tensor:
        """Weighted mean losses of what the heads say. changed: (B, 1, h, w) bool, the latent's cells that the edit changes."""
        patches = torch.nn.functional.max_pool2d(changed.float(), PATCH).flatten(1)  # (B, tokens)
        before, after = batch.shown.unbind(2)
        loss = SEEING * _said(self.what(self.seen["what"][1]), before)
        now = patches > 0
        for half in range(2):
            loss = loss + NAMING / 2 * _yes_no(self.changes[half](self.seen["changes"][half])[..., 0], patches)
            if now.any():
                loss = loss + BECOMING / 2 * _said(self.becomes[half](self.seen["becomes"][half][now]), after[:, now])
        return loss


_yes_no = torch.nn.functional.binary_cross_entropy_with_logits


def _said(answers: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """Mean loss of tokens' answers (..., SAID) about what they show (6, ...), as `Batch.shown` has it."""
    shapes, colours, edges = shown[0].long(), shown[1].long(), shown[2:].movedim(0, -1)
    there = shapes >= 0
    object_, shape, colour, offset = answers.split([1, len(SHAPES), len(COLOURS), 4], -1)
    loss = _yes_no(object_[..., 0], there.float())
    if not there.any():
        return loss
    entropy = torch.nn.functional.cross_entropy
    apart = (offset - edges)[there].abs().mean()
    return loss + entropy(shape[there], shapes[there]) + entropy(colour[there], colours[there]) + PLACING * apart


def editor_loss(pupil: Pupil, batch: Batch, texts: Encoded, generator: torch.Generator) -> tuple[torch.Tensor, float]:
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
