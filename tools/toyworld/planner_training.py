"""Teaching the toy world's planner: a scene with several requests in, their plans out, by the likelihood of their tokens.

What the model reads is what RePlan Planner gives it with a template that holds nothing but the instruction
(`TEMPLATE`): one turn, the picture first. Its own tokenizer knows some seven hundred pieces, so the pack's long
templates would cost it more tokens than everything else.

The picture is most of what a request costs. So the requests of a scene stand one behind the other after one picture;
each sees the picture and itself, at the places that it has when it is alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from .planner_model import END, IMAGE, MERGE, MOST, NUMBERS, PATCH, TURN_END, VISION_END, WORDS
from .planner_requests import Request, training_requests
from .planner_sight import HEADS, LOOKING, PLACES, Shown, Sight, astray, shown_together

TEMPLATE = "{{instruction}}"
ASKED = 4  # requests of a scene
IGNORED = -100  # a token that the loss leaves out, by torch's convention
BLUR = 1.5  # pixels: an edge that is off by one is nearly right, and says so to its neighbours
SHORT = MOST + 1  # numbers of one kind
EDGES = 4  # of a box, a number each


class Batch(NamedTuple):
    """tokens, labels: (B, L). places: (3, B, L) for the family's rotary positions. seen: (B, 1, L, L) bool.

    pixels: (patches, values) and grid: (B, 3), as the family's processor gives them. shown: what lies in each token
    of the pictures. B is the number of scenes.
    """

    tokens: torch.Tensor
    labels: torch.Tensor
    places: torch.Tensor
    seen: torch.Tensor
    pixels: torch.Tensor
    grid: torch.Tensor
    shown: Shown

    def to(self, device: str) -> Batch:
        return Batch(*(value.to(device) for value in self))


def conversation(request: Request, processor) -> str:
    """The text up to the reply, with the picture's mark in it."""
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
    places = [np.pad(row[3], ((0, 0), (0, length - len(row[0])))) for row in rows]
    return Batch(
        padded(0, END),
        padded(1, IGNORED),
        torch.from_numpy(np.stack(places, 1)),
        (same & torch.ones(length, length, dtype=torch.bool).tril())[:, None],
        patches(np.stack([requests[0].task.scene.pixels for requests in scenes]), processor.image_processor),
        torch.tensor([[1, side * MERGE, side * MERGE]] * len(scenes)),
        shown_together([[one.task for one in requests] for requests in scenes], PATCH * MERGE),
    )


def _row(requests: Sequence[Request], side: int, processor) -> tuple[list[int], list[int], list[int], np.ndarray]:
    """Tokens, labels, which turn each belongs to (0: the picture and what stands before it), and places (3, L)."""
    tokens: list[int] = []
    for number, request in enumerate(requests, 1):
        asked = processor.tokenizer(conversation(request, processor))["input_ids"]
        picture = asked.index(VISION_END)
        reply = [*processor.tokenizer(request.reply)["input_ids"], TURN_END]
        if not tokens:
            before = picture - 1  # the mark of the picture is one token here
            tokens = [*asked[:before], *[asked[before]] * side**2, VISION_END]
            labels, turns = [IGNORED] * len(tokens), [0] * len(tokens)
            across = np.arange(side**2)
            grid = before + np.stack([across * 0, across // side, across % side])
            start = before + side
            places = [np.arange(before)[None].repeat(3, 0), grid, np.full((3, 1), start)]
        rest = asked[picture + 1 :]
        tokens += rest + reply
        labels += [IGNORED] * len(rest) + reply
        turns += [number] * (len(rest) + len(reply))
        places.append((start + 1 + np.arange(len(rest) + len(reply)))[None].repeat(3, 0))
    return tokens, labels, turns, np.concatenate(places, 1)


def patches(pictures: np.ndarray, sizes) -> torch.Tensor:
    """(B, size, size, 3) uint8 -> (patches, values): what the processor makes of them, in a tenth of its time."""
    mean, spread = (torch.tensor(value).view(3, 1, 1) for value in (sizes.image_mean, sizes.image_std))
    values = (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255 - mean) / spread
    count, _, height, width = values.shape
    side = PATCH * MERGE
    values = values.view(count, 3, height // side, MERGE, PATCH, width // side, MERGE, PATCH).permute(
        0, 2, 5, 3, 6, 1, 4, 7
    )
    values = values.reshape(-1, 3, 1, PATCH, PATCH).expand(-1, -1, 2, -1, -1)  # a still picture counts as two frames
    return values.reshape(len(values), -1)


class Pupil(torch.nn.Module):
    """A planner and the heads that help it learn to see."""

    def __init__(self, planner: torch.nn.Module, seed: int = 0) -> None:
        super().__init__()
        self.planner = planner
        planner.model.language_model.config._attn_implementation = "eager"  # which gives its attention away
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.sight = Sight(planner.config.text_config.hidden_size)


def planner_loss(pupil: Pupil, batch: Batch) -> tuple[torch.Tensor, float]:
    """Mean cross-entropy of the replies' words plus that of their numbers plus what helps to learn (`planner_sight`).

    Also the share of numbers that is off by four pixels at most, each told those before it.
    """
    model = pupil.planner
    picture = torch.cat(model.model.get_image_features(batch.pixels, batch.grid, return_dict=True).pooler_output)
    marks = batch.tokens == IMAGE
    words = model.get_input_embeddings()(batch.tokens)
    hidden = torch.zeros(batch.seen.shape, device=words.device).masked_fill(~batch.seen, torch.finfo(words.dtype).min)
    made = model.model.language_model(
        inputs_embeds=words.masked_scatter(marks[..., None], picture.to(words.dtype)), attention_mask=hidden,
        position_ids=batch.places, use_cache=False, output_hidden_states=True, output_attentions=True,
    )  # fmt: skip
    states = made.last_hidden_state
    edges = torch.nn.functional.pad(batch.labels[:, 1:], (0, 1), value=IGNORED)
    rows, places = ((edges >= WORDS) & (edges < WORDS + len(NUMBERS))).nonzero(as_tuple=True)
    # Pictures are of one size and at one place in every row.
    looks = made.attentions[LOOKING][rows, :, places][:, HEADS][..., marks[0]]
    help_ = pupil.sight.loss(picture, made.hidden_states[PLACES][marks], batch.shown)
    help_ = help_ + astray(looks, batch.shown.meant.repeat_interleave(EDGES, 0))
    learnt = batch.labels[:, 1:] != IGNORED
    labels = batch.labels[:, 1:][learnt]
    chances = torch.log_softmax(model.lm_head(states[:, :-1][learnt]).float(), -1)
    number = (labels >= WORDS) & (labels < WORDS + len(NUMBERS))
    words = -chances[~number].gather(1, labels[~number][:, None]).mean()
    wanted = labels[number] - WORDS
    chances = chances[number, WORDS : WORDS + len(NUMBERS)]
    loss = words - (_blurred(wanted) * chances).sum(1).mean()
    found = chances.detach().argmax(1)
    right = (found // SHORT == wanted // SHORT) & ((found - wanted).abs() <= 4)
    return loss + help_, float(right.float().mean())


def _blurred(wanted: torch.Tensor) -> torch.Tensor:
    """A bell around each number, among those of its kind: (N, numbers)."""
    every = torch.arange(len(NUMBERS), device=wanted.device)
    apart = (every - wanted[:, None]).float() / BLUR
    bell = torch.exp(-0.5 * apart**2) * (every // SHORT == wanted[:, None] // SHORT)
    return bell / bell.sum(1, keepdim=True)


def training_batch(run: int, step: int, count: int, size: int, processor) -> Batch:
    """The batch of a step, `count` scenes: the same one whenever it is asked for."""
    first = step * count
    return batch_of([training_requests(run, first + index, ASKED, size) for index in range(count)], processor)
