"""A judge's reply to its score: read tolerantly, and never guessed.

A reply counts where it clearly says one value that its question knows: in JSON, fenced, repaired or in a text of an
envelope, or in words. A refusal, a number off the scale and two values that contradict each other are no answer, with
the reason; nothing stands in for one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ..planner.plan import shown
from ..planner.replies.json_texts import CUT_OFF
from ..planner.replies.notices import Notices
from ..planner.replies.segments import split
from ..planner.replies.vocabulary import CORRECTION, ENVELOPES, REASONING, plain, words
from .judge_questions import SCALES, Question, Verdict
from .judge_words import REFUSAL, number_of, numbers_in, yes_or_no, yes_or_no_in
from .quoted import is_shown, texts_in_quotes

# Under which a value may stand besides its own key.
_ANY_KEY = words(
    "score", "rating", "grade", "final_score", "final_rating", "value", "answer", "final_answer", "result", "verdict",
    "points", "stars", "\u8bc4\u5206", "\u5206\u6570", "\u5f97\u5206", "\u7b54\u6848", "\u7ed3\u679c",
)  # fmt: skip
_TEXT_KEY = words("texts", "text", "transcription", "transcript", "content", "lines", "ocr", "answer", "result")
# What the question itself gives as an example.
_EXAMPLES = ({"the first text", "the second text"}, {"text"})
# A word of correction that is an answer here.
_NO = re.compile(r"\bno\b", re.IGNORECASE)
# Characters; a judge answers in some hundred, and a reply that repeats itself for a megabyte takes seconds to read.
LONGEST_REPLY = 100_000
# A program's answer may hold the reply as a text, which may hold another.
_DEEPEST = 2


class _Piece(NamedTuple):
    """What a reply says in one object. own: under the question's key, any: under another that may hold it, reasoning;
    corrects: words in front of it say that it takes the place of what was before."""

    own: list[Any]
    any: list[Any]
    reasoning: str
    corrects: bool


class _Reply:
    """The parts of a reply: objects in order, words outside of them, and its reasoning."""

    def __init__(self, question: Question, text: str) -> None:
        self.question = question
        self.pieces: list[_Piece] = []
        self.words, self.thoughts, self.objects = "", "", ""
        self.is_cut = False
        self._add(text, 0)

    @property
    def reasoning(self) -> str:
        """Of the last object that gives one, else what was thought before the reply."""
        return next((piece.reasoning for piece in reversed(self.pieces) if piece.reasoning), self.thoughts.strip())

    def _add(self, text: str, depth: int) -> None:
        ahead = ""
        for segment in split(text, Notices()):
            if segment.part == "think":
                self.thoughts += f"{segment.text}\n"
            elif segment.part in ("json", "region"):
                self.objects += f"{segment.text}\n"
                self.is_cut = self.is_cut or CUT_OFF in segment.repairs
                corrects = bool(CORRECTION.search(_NO.sub(" ", ahead)))
                for value in segment.values:
                    self._add_value(value, corrects, depth)
                self.pieces += [_Piece([said], [], "", False) for said in _said_twice(segment.text, self.question.key)]
                if not any(isinstance(value, dict) and value for value in segment.values):
                    self.words += segment.text
                ahead = ""
            elif segment.part == "words":
                ahead += segment.text
                self.words += segment.text
            elif depth < _DEEPEST:
                self._add(segment.text, depth + 1)
            if segment.part not in ("words", "json"):
                self.words += "\n"

    def _add_value(self, value: Any, corrects: bool, depth: int) -> None:
        piece, inner, name = _Piece([], [], "", corrects), [], plain(self.question.name)
        for key, said, place in _fields(value):
            if isinstance(said, str) and key in REASONING and not piece.reasoning:
                piece = piece._replace(reasoning=said.strip())
            elif isinstance(said, str) and "{" in said and depth < _DEEPEST:
                inner.append(said)
            elif (key == plain(self.question.key) or place == name and key in _ANY_KEY) and not isinstance(said, dict):
                piece.own.append(said)
            elif not place and (key == name or key in (_TEXT_KEY if self.question.texts else _ANY_KEY)):
                piece.any.append(said)
            elif isinstance(said, str) and key in ENVELOPES and depth < _DEEPEST:
                inner.append(said)
        if isinstance(value, list) and self.question.texts and all(isinstance(one, str) for one in value):
            piece.any.append(value)
        self.pieces.append(piece)
        for text in inner[:8]:
            self._add(text, depth + 1)


def read_answer(question: Question, text: str) -> Verdict:
    """What a reply says to its question, in JSON, fenced or not, or in clear words; it raises nothing.

    Verdict.value is None, and Verdict.why says why, for an empty reply, a refusal, a value off the question's scale,
    values that contradict each other, reasoning without an end, and more than LONGEST_REPLY characters.
    """
    if len(text) > LONGEST_REPLY:
        return Verdict(None, f"the reply has {len(text)} characters, more than the {LONGEST_REPLY} that are read")
    if not text.strip():
        return Verdict(None, "the reply is empty")
    reply = _Reply(question, text)
    if not (reply.words.strip() or reply.pieces):
        return Verdict(None, "the reply is reasoning without an answer", reply.reasoning)
    read = _texts if question.texts else _score if question.scale else _yes
    return read(reply)._replace(reasoning=reply.reasoning)


def _score(reply: _Reply) -> Verdict:
    question = reply.question
    found, odd = _settled(reply.pieces, number_of)
    stated = numbers_in(reply.words, [name for name in SCALES if name != question.name])
    if found:
        found = _with_words(found, [value for value in stated if value in question.scale], reply)
    else:
        # In a broken object, behind its key.
        found = stated or ([] if odd else numbers_in(reply.objects, label=question.key))
    if len(set(found)) > 1:
        return Verdict(None, f"it gives several scores: {', '.join(f'{value:g}' for value in dict.fromkeys(found))}")
    if not found:
        return Verdict(None, f"{question.key} is {shown(odd[0])}" if odd else _silent(reply, "score"))
    (value,) = set(found)
    if value not in question.scale:
        told = f"is {value:g}" if math.isfinite(value) else "counts on another scale"
        return Verdict(None, f"its score {told}, where the scale is {', '.join(map(str, question.scale))}")
    return Verdict(float(value))


def _yes(reply: _Reply) -> Verdict:
    found, odd = _settled(reply.pieces, yes_or_no)
    stated = yes_or_no_in(reply.words, reply.question.key)
    found = _with_words(found, stated, reply) if found else stated
    if len(set(found)) > 1:
        return Verdict(None, "it says both yes and no")
    if not found:
        return Verdict(None, f"{reply.question.key} is {shown(odd[0])}" if odd else _silent(reply, "yes or no"))
    return Verdict(1.0 if found[0] else 0.0)


def _texts(reply: _Reply) -> Verdict:
    """Whether all the texts that are wanted are among those that were read."""
    wanted = reply.question.texts
    given = [piece.own or piece.any for piece in reply.pieces if piece.own or piece.any]
    seen = [text for value in (given[-1] if given else ()) for text in _strings(value)]
    if given and {text.lower() for text in seen} in _EXAMPLES:
        return Verdict(None, "it repeats the example of the question")
    if not given:
        if REFUSAL.search(reply.words):
            return Verdict(None, _silent(reply, "text"))
        seen = list(texts_in_quotes(reply.words)) or reply.words.strip().splitlines()
    right = all(is_shown(text, seen) for text in wanted)
    if not right and reply.is_cut:
        return Verdict(None, "its list of texts is cut off")
    if not right and not given and not texts_in_quotes(reply.words):
        return Verdict(None, _silent(reply, "text"))
    return Verdict(1.0 if right else 0.0, read="; ".join(" ".join(text.split()) for text in seen))


def _settled(pieces: Sequence[_Piece], read: Callable[[Any], Any]) -> tuple[list[Any], list[Any]]:
    """The values that count in objects, and what stands under the question's own key without being one.

    The question's own key goes before others; an object that corrects takes the place of those before it.
    """
    odd = [said for piece in pieces for said in piece.own if read(said) is None]
    for which in ("own", "any"):
        found: list[Any] = []
        for piece in pieces:
            values = [value for said in getattr(piece, which) if (value := read(said)) is not None]
            found = values if values and piece.corrects else [*found, *values]
        if found:
            return found, odd
        if odd:
            break
    return [], odd


def _with_words(found: list[Any], stated: list[Any], reply: _Reply) -> list[Any]:
    """What an object says, and what the words around it say where that is one thing; not where the object corrects."""
    corrects = any(piece.corrects for piece in reply.pieces)
    return found if corrects or len(set(stated)) != 1 else [*found, *stated]


def _fields(value: Any, place: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every key of the objects in a value, plainly, what stands there, and the question whose part it is in, or ""."""
    if isinstance(value, list):
        for entry in value:
            yield from _fields(entry, place)
    elif isinstance(value, dict):
        for key, said in value.items():
            yield plain(str(key)), said, place
            if isinstance(said, (dict, list)):
                part = plain(str(key)).removesuffix("score")
                yield from _fields(said, part if part in SCALES else place)


def _said_twice(text: str, key: str) -> list[Any]:
    """What stands under a key that comes more than once in proper JSON, of which reading keeps the last."""
    found = []
    if text.count(f'"{key}"') > 1:
        try:
            json.loads(text, object_pairs_hook=lambda pairs: found.extend(said for name, said in pairs if name == key))
        except (ValueError, RecursionError):
            return []
    return found


def _strings(value: Any) -> list[str]:
    """The texts in a value, in order: of lists, and of objects in them."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, dict):
        value = [said for key, said in value.items() if plain(str(key)) in _TEXT_KEY]
    return [text for entry in value for text in _strings(entry)] if isinstance(value, list) else []


def _silent(reply: _Reply, what: str) -> str:
    refuses = "it refuses" if REFUSAL.search(reply.words) else f"it gives no {what}"
    said = " ".join((reply.words.strip() or reply.objects.strip()).split())
    return f"{refuses}: {shown(said, 120)}" if said else refuses
