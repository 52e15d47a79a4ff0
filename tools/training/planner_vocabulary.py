"""What the planner's tokenizer knows beyond the first toy words: words of the lessons, paragraphs of questions.

A paragraph of the pack's templates and of the judge's questions is one token, so a whole template costs a few. They
are read from the pack's own files: where one changes, that paragraph falls back to smaller pieces for a planner that
is trained already, and the next training learns the new one. `moved_weights` carries a planner from one tokenizer to
another, token by token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from replan.evaluation import judge_questions
from replan.evaluation.judge_questions import SCALES
from replan.planner.asking.templates import coordinates_in_words, load_template

from ..toyworld import judged, lessons, naming, situations
from ..toyworld.lessons import PLAIN, SHARES
from ..toyworld.scenes import SIZE

_SPACE = "\u0120"  # how a byte-level vocabulary writes it
_SHORTEST = 12  # characters of a paragraph that is worth a token
_MARK = re.compile(r"\{\{\w+\}\}")
# What stands between the parts of replies.
REPLY_PHRASES = (
    "<think>", "</think>", "</think><kind>", "</kind><outcome>", "</outcome>", "<scene>", "</scene><think>",
    '</think><region>[{"bbox_2d": ', "</think><region>[]</region><answer>", "</think><answer>", "</answer>",
    '], "point_2d": ', '], "label": "', '], "description": "', '", "hint": "', '"}]</region><answer>',
    '{"reasoning": "', *(f'", "{name}_score": ' for name in SCALES),
)  # fmt: skip
_BETWEEN_IMAGES = ("\n\nOriginal image:\n", "\nEdited image:\n")


def words() -> tuple[str, ...]:
    """The words of all lessons in the order of the alphabet, each with a space before it and without."""
    texts = [*naming.texts(), *situations.texts(), *lessons.texts(), *judged.texts()]
    found = {word.strip() for text in texts for word in words_in(re.sub(r"\{\w+\}", "", text))}
    return tuple(spelling for word in sorted(found) for spelling in (f" {word}", word))


def words_in(text: str) -> list[str]:
    """The words of a text, each with the space before it where there is one."""
    return re.findall(r" ?[A-Za-z]+", text)


def phrases() -> tuple[str, ...]:
    """The paragraphs of templates and questions, and what stands between the parts of replies."""
    templates = [load_template(name).text for name in SHARES if name != PLAIN]
    folder = Path(judge_questions.__file__).with_name("questions")
    questions = [(folder / f"{name}.txt").read_text(encoding="utf-8").strip() for name in SCALES]
    found = [paragraph for text in (*templates, *questions) for paragraph in _paragraphs(text)]
    coordinates = coordinates_in_words("seen_pixels", (SIZE, SIZE)).split(str(SIZE))
    return tuple(dict.fromkeys((*REPLY_PHRASES, *_BETWEEN_IMAGES, *coordinates, *found)))


def _paragraphs(text: str) -> list[str]:
    """What stands between marks and empty lines; a paragraph takes the empty line behind it along."""
    parts = [part for piece in _MARK.split(text) for part in re.findall(r".+?(?:\n\n|\Z)", piece, re.DOTALL)]
    return [part for part in parts if len(part) >= _SHORTEST]


def with_more(tokenizer, new_words: Sequence[str], new_phrases: Sequence[str]):
    """A `tokenizers.Tokenizer` with more words and phrases, a token each; the tokens that it had keep their numbers."""
    from tokenizers import Tokenizer

    state = json.loads(tokenizer.to_str())
    model = state["model"]
    vocabulary = dict(model["vocab"])
    for token in state["added_tokens"]:
        vocabulary.setdefault(token["content"], token["id"])
    for text in (*(word.replace(" ", _SPACE) for word in new_words), *new_phrases):
        vocabulary.setdefault(text, len(vocabulary))
    # A word that the vocabulary holds is taken whole; no merge need lead to it.
    state["model"] = {**model, "vocab": vocabulary, "ignore_merges": True}
    known = {token["content"] for token in state["added_tokens"]}
    like = state["added_tokens"][-1]
    state["added_tokens"] += [
        {**like, "id": vocabulary[text], "content": text} for text in new_phrases if text not in known
    ]
    return Tokenizer.from_str(json.dumps(state))


def moved_weights(weights: Mapping[str, torch.Tensor], old, new, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """A planner's weights for another tokenizer: tokens keep their rows by their text, new ones begin at their pieces'.

    The mean of many pieces is nearly the same for all paragraphs, and for words whose pieces were never taught: each
    new row lies to a side of its own from it, as far as the known ones are apart.

    old, new: tokenizers of transformers. names: of the matrices with a row for each token.
    """
    ids = old.get_vocab()
    order = sorted(new.get_vocab().items(), key=lambda pair: pair[1])
    rows = [[ids[text]] if text in ids else old(_readable(text))["input_ids"] for text, _ in order]
    fresh = torch.tensor([text not in ids for text, _ in order])[:, None]
    moved = {}
    for name in names:
        known = weights[name]
        aside = torch.randn(len(rows), known.shape[1], generator=torch.Generator().manual_seed(0)) * known.std(0)
        moved[name] = torch.stack([known[row].mean(0) for row in rows]) + fresh * aside
    return {**weights, **moved}


def _readable(token: str) -> str:
    return token.replace(_SPACE, " ")
