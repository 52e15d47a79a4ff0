"""Training the toy world's planner: a scene with several requests in, their plans out, by their tokens' likelihood.

The model reads what RePlan Planner gives it with a template that holds nothing but the instruction (`TEMPLATE`): one
turn, the image first. Its own tokenizer knows some seven hundred pieces, so the pack's long templates would cost it
more tokens than everything else.

The image is most of what a request costs. So the requests of a scene stand one behind the other after one image; each
sees the image and itself, at the positions that it has when it is alone.

Besides, heads say what the image's tokens show (`token_contents.py`), and where an edge of a box is about to be
written, two heads of attention are taught to attend to the tokens of the object that is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from ..toyworld.requests import Request, training_requests
from ..toyworld.tasks import Task
from .planner_model import (
    END,
    IMAGE,
    LARGEST_NUMBER,
    MERGE,
    NUMBERS,
    PATCH,
    PIECES,
    TURN_END,
    VISION_END,
)
from .token_contents import CONTENT_WIDTH, content_loss, contents, covered_samples

TEMPLATE = "{{instruction}}"
REQUESTS = 4  # of a scene
IGNORED = -100  # a token that the loss leaves out, by torch's convention
BLUR = 1.5  # pixels: an edge that is off by one is nearly right, and its neighbours in the loss show it
KIND = LARGEST_NUMBER + 1  # numbers of one kind
EDGES = 4  # of a box, a number each
CLOSE = 4  # pixels: an edge that is off by so much counts as right in the measure
POSITION_LAYERS = 2  # layers of the language model that come before its states are asked for positions
ATTENTION_LAYER, ATTENTION_HEADS = 3, (0, 2)  # whose attention is taught; each of these heads has keys of its own


class ImageContents(NamedTuple):
    """What the images' tokens show, row by row: shape and colour (-1: background), edges and middle in pixels.

    shape, colour: (n,). edges: (n, 4). middle: (n, 2). targets: (boxes, tokens of an image), for each box of the
    replies in their order the share of its object in each token.
    """

    shape: torch.Tensor
    colour: torch.Tensor
    edges: torch.Tensor
    middle: torch.Tensor
    targets: torch.Tensor

    def to(self, device: str) -> ImageContents:
        return ImageContents(*(value.to(device) for value in self))


def image_contents(tasks: Sequence[Sequence[Task]], cell: int) -> ImageContents:
    """The contents of several scenes' images in squares of `cell` pixels, with the tasks about each."""
    columns = zip(*(contents(one[0].scene, cell) for one in tasks), strict=True)
    shape, colour, edges, middle = (torch.from_numpy(np.concatenate(column)) for column in columns)
    covered = [
        covered_samples(task.scene, cell)[task.scene.ids.index(identity)]
        for one in tasks
        for task in one
        for identity in task.meant
    ]
    targets = np.stack(covered) / np.sum(covered, 1, keepdims=True)
    return ImageContents(shape, colour, edges.float(), middle.float(), torch.from_numpy(targets).float())


class Batch(NamedTuple):
    """tokens, labels: (B, L). positions: (3, B, L), the family's rotary ones. visible: (B, 1, L, L) bool.

    pixels: (patches, values) and grid: (B, 3), as the family's processor gives them. B is the number of scenes.
    """

    tokens: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    visible: torch.Tensor
    pixels: torch.Tensor
    grid: torch.Tensor
    contents: ImageContents

    def to(self, device: str) -> Batch:
        return Batch(*(value.to(device) for value in self))


def conversation(request: Request, processor) -> str:
    """The text up to the reply, with the image's mark in it."""
    parts = [{"type": "image"}, {"type": "text", "text": request.text}]
    return processor.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
    )


def batch_of(scenes: Sequence[Sequence[Request]], processor) -> Batch:
    """A row for each scene, with the requests about it; only the replies and their ends are to be learnt."""
    side = scenes[0][0].task.scene.size // (PATCH * MERGE)
    rows = [_row(requests, side, processor) for requests in scenes]
    length = max(len(row[0]) for row in rows)

    def padded(column: int, fill: int) -> torch.Tensor:
        return torch.tensor([row[column] + [fill] * (length - len(row[column])) for row in rows])

    turn = padded(2, -1)
    same = (turn[:, :, None] == turn[:, None, :]) | (turn[:, None, :] == 0)
    positions = [np.pad(row[3], ((0, 0), (0, length - len(row[0])))) for row in rows]
    return Batch(
        padded(0, END),
        padded(1, IGNORED),
        torch.from_numpy(np.stack(positions, 1)),
        (same & torch.ones(length, length, dtype=torch.bool).tril())[:, None],
        patches(np.stack([requests[0].task.scene.pixels for requests in scenes]), processor.image_processor),
        torch.tensor([[1, side * MERGE, side * MERGE]] * len(scenes)),
        image_contents([[one.task for one in requests] for requests in scenes], PATCH * MERGE),
    )


def _row(requests: Sequence[Request], side: int, processor) -> tuple[list[int], list[int], list[int], np.ndarray]:
    """Tokens, labels, which turn each belongs to (0: the image and what stands before it), and positions (3, L)."""
    tokens: list[int] = []
    for number, request in enumerate(requests, 1):
        prompt = processor.tokenizer(conversation(request, processor))["input_ids"]
        image_end = prompt.index(VISION_END)
        reply = [*processor.tokenizer(request.reply)["input_ids"], TURN_END]
        if not tokens:
            before = image_end - 1  # the mark of the image is one token here
            tokens = [*prompt[:before], *[prompt[before]] * side**2, VISION_END]
            labels, turns = [IGNORED] * len(tokens), [0] * len(tokens)
            across = np.arange(side**2)
            grid = before + np.stack([across * 0, across // side, across % side])
            start = before + side
            positions = [np.arange(before)[None].repeat(3, 0), grid, np.full((3, 1), start)]
        rest = prompt[image_end + 1 :]
        tokens += rest + reply
        labels += [IGNORED] * len(rest) + reply
        turns += [number] * (len(rest) + len(reply))
        positions.append((start + 1 + np.arange(len(rest) + len(reply)))[None].repeat(3, 0))
    return tokens, labels, turns, np.concatenate(positions, 1)


def patches(images: np.ndarray, sizes) -> torch.Tensor:
    """(B, size, size, 3) uint8 -> (patches, values): what the processor makes of them, in a tenth of its time."""
    mean, spread = (torch.tensor(value).view(3, 1, 1) for value in (sizes.image_mean, sizes.image_std))
    values = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / spread
    count, _, height, width = values.shape
    side = PATCH * MERGE
    values = values.view(count, 3, height // side, MERGE, PATCH, width // side, MERGE, PATCH).permute(
        0, 2, 5, 3, 6, 1, 4, 7
    )
    values = values.reshape(-1, 3, 1, PATCH, PATCH).expand(-1, -1, 2, -1, -1)  # a still image counts as two frames
    return values.reshape(len(values), -1)


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

    attention: (edges, heads, tokens), adding up to 1 at most. targets: (edges, tokens).
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
    next_labels = torch.nn.functional.pad(batch.labels[:, 1:], (0, 1), value=IGNORED)
    rows, columns = ((next_labels >= PIECES) & (next_labels < PIECES + len(NUMBERS))).nonzero(as_tuple=True)
    # Images are of one size and at one place in every row.
    attention = result.attentions[ATTENTION_LAYER][rows, :, columns][:, ATTENTION_HEADS][..., image_tokens[0]]
    heads_loss = model.heads.loss(image, result.hidden_states[POSITION_LAYERS][image_tokens], batch.contents)
    heads_loss = heads_loss + attention_loss(attention, batch.contents.targets.repeat_interleave(EDGES, 0))
    learnt = batch.labels[:, 1:] != IGNORED
    labels = batch.labels[:, 1:][learnt]
    log_chances = torch.log_softmax(planner.lm_head(result.last_hidden_state[:, :-1][learnt]).float(), -1)
    number = (labels >= PIECES) & (labels < PIECES + len(NUMBERS))
    words_loss = -log_chances[~number].gather(1, labels[~number][:, None]).mean()
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


def training_batch(run: int, step: int, count: int, size: int, processor) -> Batch:
    """The batch of a step, `count` scenes: the same one whenever it is asked for."""
    first = step * count
    return batch_of([training_requests(run, first + index, REQUESTS, size) for index in range(count)], processor)
