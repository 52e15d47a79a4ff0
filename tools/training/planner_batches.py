"""What the toy world's planner is shown in training: examples and judged edits as rows of tokens with their images.

Each question is put together by the pack's own code, as RePlan Planner and RePlan Judge put it. The image is most of
what a question costs, so the questions about a scene stand one behind the other after one image; each sees the image
and itself, at the positions that it has when it is alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from replan.evaluation.judge_questions import SCALES, build_questions
from replan.planner.asking.templates import Template, coordinates_in_words, load_template, planner_messages
from replan.planner.models.interface import Message

from ..toyworld.judged import JudgedEdit, training_judged
from ..toyworld.lessons import PLAIN, Example, training_examples
from ..toyworld.naming import Pieces, joined
from ..toyworld.scenes import Scene, random_state
from .data import as_chat
from .planner_model import END, IMAGE, MERGE, PATCH, TURN_END, VISION_END
from .token_contents import contents, covered_samples

QUESTIONS = 4  # about a scene
JUDGED = 0.2  # of the rows: an edit with two questions about it, and the images before and after
IGNORED = -100  # a token that the loss leaves out, by torch's convention


class Turn(NamedTuple):
    """A question with its images, and the right reply. scenes: what each image's tokens show, in the images' order."""

    messages: tuple[Message, ...]
    images: tuple[np.ndarray, ...]
    scenes: tuple[Scene, ...]
    reply: Pieces


class ImageContents(NamedTuple):
    """What the images' tokens show, row by row: shape and colour (-1: background), edges and middle in pixels.

    shape, colour: (n,). edges: (n, 4). middle: (n, 2).
    """

    shape: torch.Tensor
    colour: torch.Tensor
    edges: torch.Tensor
    middle: torch.Tensor

    def to(self, device: str) -> ImageContents:
        return ImageContents(*(value.to(device) for value in self))


class Batch(NamedTuple):
    """tokens, labels: (B, L). positions: (3, B, L), the family's rotary ones. visible: (B, 1, L, L) bool.

    pixels: (patches, values) and grid: (images, 3), as the family's processor gives them. about: (n, 2), row and place
    of each token before one that is written about an object; targets: (n, L), the share of that object in each token
    of its image.
    """

    tokens: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    visible: torch.Tensor
    pixels: torch.Tensor
    grid: torch.Tensor
    contents: ImageContents
    about: torch.Tensor
    targets: torch.Tensor

    def to(self, device: str) -> Batch:
        return Batch(*(value.to(device) for value in self))


def turn_of(example: Example) -> Turn:
    """An example as RePlan Planner asks it."""
    template = Template(PLAIN, "{{instruction}}") if example.template == PLAIN else load_template(example.template)
    coordinates = coordinates_in_words("seen_pixels", (example.scene.size,) * 2)
    messages = planner_messages(template, example.text, coordinates)
    return Turn(messages, (example.scene.pixels,), (example.scene,), example.reply)


def judge_turn(judged: JudgedEdit, name: str) -> Turn:
    """A published question about an edit, as RePlan Judge asks it."""
    before, after = (torch.from_numpy(one.copy())[None] / 255 for one in (judged.task.scene.pixels, judged.after))
    question = next(one for one in build_questions(before, after, judged.text) if one.name == name)
    shown = ((judged.task.scene.pixels, judged.task.scene), (judged.after, judged.made))[-len(question.images) :]
    images, scenes = zip(*shown, strict=True)
    return Turn(question.messages, images, scenes, judged.reply(name))


def conversation(messages: Sequence[Message], processor) -> str:
    """The text up to the reply, with the images' marks in it: as planner/models/folder_model.py has it."""
    return processor.apply_chat_template(as_chat(messages), add_generation_prompt=True, tokenize=False)


def training_batch(run: int, step: int, count: int, size: int, processor) -> Batch:
    """The batch of a step, `count` rows: the same one whenever it is asked for."""
    random = random_state(run, f"run {run}, rows {step}")
    rows = []
    for number in range(step * count, (step + 1) * count):
        if random.random_sample() < JUDGED:
            edit = training_judged(run, number, size)
            names = random.permutation(list(SCALES))[:2]
            rows.append([judge_turn(edit, str(name)) for name in names])
        else:
            rows.append([turn_of(one) for one in training_examples(run, number, QUESTIONS, size)])
    return batch_of(rows, processor)


def batch_of(rows: Sequence[Sequence[Turn]], processor) -> Batch:
    """A row for each group of turns; only the replies and their ends are to be learnt. All images are of one size."""
    made = [_row(turns, processor) for turns in rows]
    length = max(len(row.tokens) for row in made)

    def padded(lists: Sequence[list[int]], fill: int) -> torch.Tensor:
        return torch.tensor([one + [fill] * (length - len(one)) for one in lists])

    turn = padded([row.turns for row in made], -1)
    same = (turn[:, :, None] == turn[:, None, :]) | (turn[:, None, :] == 0)
    positions = [np.concatenate(row.positions, 1) for row in made]
    positions = [np.pad(one, ((0, 0), (0, length - one.shape[1]))) for one in positions]
    images, scenes = [one for row in made for one in row.images], [one for row in made for one in row.scenes]
    side = scenes[0].size // PATCH
    about = [(number, place - 1) for number, row in enumerate(made) for place, _ in row.about]
    targets = [np.pad(share, (0, length - len(share))) for row in made for _, share in row.about]
    return Batch(
        padded([row.tokens for row in made], END),
        padded([row.labels for row in made], IGNORED),
        torch.from_numpy(np.stack(positions, 1)),
        (same & torch.ones(length, length, dtype=torch.bool).tril())[:, None],
        patches(np.stack(images), processor.image_processor),
        torch.tensor([[1, side, side]] * len(images)),
        image_contents(scenes, PATCH * MERGE),
        torch.tensor(about, dtype=torch.long).reshape(-1, 2),
        torch.from_numpy(np.array(targets, np.float32).reshape(-1, length)),
    )


@dataclass
class _Row:
    """turns: which one each token belongs to, 0 for what all of them see. about: (place, share in each token)."""

    tokens: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    positions: list[np.ndarray] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    about: list[tuple[int, np.ndarray]] = field(default_factory=list)


def _row(turns: Sequence[Turn], processor) -> _Row:
    """Turns about one image share it, with what stands before it; others stand side by side, blind to each other."""
    row = _Row()
    shared = all(len(turn.images) == 1 and turn.images[0] is turns[0].images[0] for turn in turns)
    for number, turn in enumerate(turns, 1):
        asked, positions, places = prompt(turn, processor)
        reply, about = _reply(turn, processor)
        for_all = asked.index(VISION_END) + 1 if shared else 0
        again = for_all if number > 1 else 0  # of the prompt, what the row has already
        begin = 0 if shared else len(row.tokens)
        behind = positions.max() + 1 + np.arange(len(reply))
        row.tokens += [*asked[again:], *reply]
        row.labels += [*[IGNORED] * (len(asked) - again), *reply]
        row.turns += [*[0] * (for_all - again), *[number] * (len(asked) - for_all + len(reply))]
        row.positions += [positions[:, again:], behind[None].repeat(3, 0)]
        if not again:
            row.images += turn.images
            row.scenes += turn.scenes
        for token, identity, image in about:
            share = np.zeros(len(row.tokens), np.float32)
            of_image = _share(turn.scenes[image], identity)
            share[begin + places[image] :][: len(of_image)] = of_image
            row.about.append((len(row.tokens) - len(reply) + token, share))
    return row


def prompt(turn: Turn, processor) -> tuple[list[int], np.ndarray, list[int]]:
    """Tokens up to the reply with those of each image, their positions (3, L), and where images begin."""
    side = len(turn.images[0]) // (PATCH * MERGE)
    tokens: list[int] = []
    positions, places, next_position = [], [], 0
    across = np.arange(side**2)
    for token in processor.tokenizer(conversation(turn.messages, processor))["input_ids"]:
        if token == IMAGE:
            places.append(len(tokens))
            tokens += [IMAGE] * side**2
            positions.append(next_position + np.stack([across * 0, across // side, across % side]))
            next_position += side
        else:
            tokens.append(token)
            positions.append(np.full((3, 1), next_position))
            next_position += 1
    return tokens, np.concatenate(positions, 1), places


def _reply(turn: Turn, processor) -> tuple[list[int], list[tuple[int, int, int]]]:
    """The reply's tokens with its end; and which of them are about an object: (token, object, image)."""
    text = joined(turn.reply)
    read = processor.tokenizer(text, return_offsets_mapping=True)
    owner = [piece for piece in turn.reply for _ in piece.text]
    about = []
    for number, (begin, end) in enumerate(read["offset_mapping"]):
        # A number brings its bracket or comma along, a word its space: the last sign says what a token is about.
        piece = owner[end - 1] if end > begin else None
        if piece is not None and piece.about is not None:
            about.append((number, piece.about, piece.image))
    return [*read["input_ids"], TURN_END], about


def _share(scene: Scene, identity: int) -> np.ndarray:
    """How much of what an object shows is in each token of its image, adding up to 1."""
    covered = covered_samples(scene, PATCH * MERGE)[scene.ids.index(identity)]
    return covered / covered.sum()


def image_contents(scenes: Sequence[Scene], cell: int) -> ImageContents:
    """The contents of several scenes' images in squares of `cell` pixels."""
    columns = zip(*(contents(scene, cell) for scene in scenes), strict=True)
    shape, colour, edges, middle = (torch.from_numpy(np.concatenate(column)) for column in columns)
    return ImageContents(shape, colour, edges.float(), middle.float())


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
