"""Training the toy world's planner: replies to questions about scenes and edits, by their tokens' likelihood.

Besides, heads say what the images' tokens show (`token_contents.py`), and where a word or an edge of a box is about to
be written, two heads of attention are taught to attend to the tokens of the object that it is about.
"""

from __future__ import annotations

import torch

from .planner_batches import IGNORED, Batch, ImageContents
from .planner_model import IMAGE, LARGEST_NUMBER, NUMBERS, PIECES
from .token_contents import CONTENT_WIDTH, content_loss

BLUR = 1.5  # pixels: an edge that is off by one is nearly right, and its neighbours in the loss show it
KIND = LARGEST_NUMBER + 1  # numbers of one kind
EDGES = 4  # of a box, a number each
CLOSE = 4  # pixels: an edge that is off by so much counts as right in the measure
POSITION_LAYERS = 2  # layers of the language model that come before its states are asked for positions
ATTENTION_LAYER, ATTENTION_HEADS = 3, (0, 2)  # whose attention is taught; each of these heads has keys of its own


class TokenHeads(torch.nn.Module):
    """What is asked of the image's tokens. width: of the language model.

    Behind the vision tower: what a token shows. Behind the first layers of the language model, which alone knows
    positions: where the object's edges are in the image.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.content = torch.nn.Linear(width, CONTENT_WIDTH)
        self.edges = torch.nn.Linear(width, EDGES)

    def loss(self, vision: torch.Tensor, language: torch.Tensor, known: ImageContents) -> torch.Tensor:
        """vision, language: (n, width), the tokens behind the vision tower and behind the first layers."""
        offsets = (known.edges - known.middle.repeat(1, 2)) / 16
        loss = content_loss(self.content(vision.float()), known.shape, known.colour, offsets)
        there = known.shape >= 0
        if not there.any():
            return loss
        return loss + (self.edges(language.float())[there] - (known.edges[there] / 32 - 2)).abs().mean()


def attention_loss(attention: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """How far attention is from the object that is meant.

    attention: (n, heads, tokens), adding up to 1. targets: (n, tokens), the object's share in each.
    """
    return -(targets[:, None] * torch.log(attention.clamp(min=1e-6))).sum(2).mean()


class PlannerWithHeads(torch.nn.Module):
    """A planner and the heads that are trained with it and not published."""

    def __init__(self, planner: torch.nn.Module, seed: int = 0) -> None:
        super().__init__()
        self.planner = planner
        planner.model.language_model.config._attn_implementation = "eager"  # which returns its attention
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.heads = TokenHeads(planner.config.text_config.hidden_size)


def planner_loss(model: PlannerWithHeads, batch: Batch) -> tuple[torch.Tensor, float]:
    """Cross-entropy of the replies' words, plus that of their numbers, plus the losses of heads and attention.

    Also the share of numbers that are off by `CLOSE` at most, each told those before it.
    """
    planner = model.planner
    image = torch.cat(planner.model.get_image_features(batch.pixels, batch.grid, return_dict=True).pooler_output)
    image_tokens = batch.tokens == IMAGE
    embedded = planner.get_input_embeddings()(batch.tokens)
    mask = torch.zeros(batch.visible.shape, device=embedded.device)
    mask = mask.masked_fill(~batch.visible, torch.finfo(embedded.dtype).min)
    result = planner.model.language_model(
        inputs_embeds=embedded.masked_scatter(image_tokens[..., None], image.to(embedded.dtype)), attention_mask=mask,
        position_ids=batch.positions, use_cache=False, output_hidden_states=True, output_attentions=True,
    )  # fmt: skip
    rows, places = batch.about.unbind(1)
    attention = result.attentions[ATTENTION_LAYER][rows, :, places][:, ATTENTION_HEADS]
    heads_loss = model.heads.loss(image, result.hidden_states[POSITION_LAYERS][image_tokens], batch.contents)
    if len(rows):
        heads_loss = heads_loss + attention_loss(attention, batch.targets)
    learnt = batch.labels[:, 1:] != IGNORED
    labels = batch.labels[:, 1:][learnt]
    log_chances = torch.log_softmax(planner.lm_head(result.last_hidden_state[:, :-1][learnt]).float(), -1)
    number = (labels >= PIECES) & (labels < PIECES + len(NUMBERS))
    words_loss = -log_chances[~number].gather(1, labels[~number][:, None]).mean()
    if not number.any():
        return words_loss + heads_loss, float("nan")
    wanted = labels[number] - PIECES
    log_chances = log_chances[number, PIECES : PIECES + len(NUMBERS)]
    loss = words_loss - (_blurred(wanted) * log_chances).sum(1).mean()
    likeliest = log_chances.detach().argmax(1)
    right = (likeliest // KIND == wanted // KIND) & ((likeliest - wanted).abs() <= CLOSE)
    return loss + heads_loss, float(right.float().mean())


def _blurred(wanted: torch.Tensor) -> torch.Tensor:
    """A bell around each number, among those of its kind: (N, numbers)."""
    every = torch.arange(len(NUMBERS), device=wanted.device)
    apart = (every - wanted[:, None]).float() / BLUR
    bell = torch.exp(-0.5 * apart**2) * (every // KIND == wanted[:, None] // KIND)
    return bell / bell.sum(1, keepdim=True)
