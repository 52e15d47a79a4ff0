"""Hypothetical instructions of the four kinds, each mapped onto an edit that the toy editor can do.

The instruction names a situation ("the fox took the star"), not the change; what follows from it is common sense of
the toy kind, and stands here beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .drawing import COLOURS, SHAPES
from .edits import RECOLOUR, REMOVE, REPATTERN, RESHAPE, SHRINK, Instruction, Reference, written
from .scenes import Object

PHYSICAL, TEMPORAL, CAUSAL, STORY = HYPOTHETICAL_KINDS = ("physical", "temporal", "causal", "story")
ANY = "any"  # of a situation whose own words give the new colour or shape


class Situation(NamedTuple):
    """kind: of reasoning. edit, value: what follows. why: in words. texts: with {x} for the object, {value} for ANY."""

    kind: str
    edit: str
    value: str
    why: str
    texts: tuple[str, ...]


SITUATIONS = (
    Situation(PHYSICAL, SHRINK, "", "what melts gets smaller", (
        "what if {x} had melted?", "what happens when {x} melts?", "what if {x} were an ice cube and had melted?",
    )),
    Situation(PHYSICAL, SHRINK, "", "without air it gets smaller", (
        "what if the air leaked out of {x}?", "what happens when {x} loses its air?",
    )),
    Situation(PHYSICAL, REMOVE, "", "what dissolves is gone", (
        "what happens when {x} dissolves in water?", "what if {x} had dissolved?",
    )),
    Situation(PHYSICAL, REMOVE, "", "what burns up is gone", (
        "what if {x} burned up?", "what happens when {x} burns?",
    )),
    Situation(PHYSICAL, RECOLOUR, "white", "frost is white", (
        "what if {x} froze over?", "what happens when {x} is covered with frost?",
    )),
    Situation(PHYSICAL, RECOLOUR, "orange", "hot iron glows orange", (
        "what if {x} were iron and glowed with heat?", "what happens when {x} is iron that gets hot?",
    )),
    Situation(PHYSICAL, RESHAPE, "circle", "what is ground round is a circle", (
        "what if {x} were ground until it is round?", "what happens when the waves grind {x} until it is round?",
    )),
    Situation(TEMPORAL, REMOVE, "", "after so long nothing is left", (
        "what is left of {x} after a thousand years?", "how does {x} look when a hundred years have passed?",
    )),
    Situation(TEMPORAL, SHRINK, "", "what dries up gets smaller", (
        "how does {x} look a week later, when it has dried up?", "show {x} after a month in the dry air",
    )),
    Situation(TEMPORAL, RECOLOUR, "red", "a ripe tomato is red", (
        "how does {x} look when it has ripened like a tomato?", "{x} is a tomato: show it when it is ripe",
    )),
    Situation(TEMPORAL, RECOLOUR, "yellow", "a ripe banana is yellow", (
        "how does {x} look when it has ripened like a banana?", "{x} is a banana: show it when it is ripe",
    )),
    Situation(TEMPORAL, RECOLOUR, "white", "in winter the snow is white", (
        "how does {x} look in winter, under the snow?", "show {x} in winter, when snow covers it",
    )),
    Situation(TEMPORAL, RECOLOUR, "green", "in spring the grass is green", (
        "how does {x} look in spring, when grass grows on it?", "show {x} in spring, with grass all over it",
    )),
    Situation(TEMPORAL, RECOLOUR, "orange", "in autumn leaves are orange", (
        "how does {x} look in autumn, as a leaf?", "{x} is a leaf: show it in autumn",
    )),
    Situation(CAUSAL, RECOLOUR, ANY, "paint colours what it falls on", (
        "what if a bucket of {value} paint fell on {x}?", "after the {value} paint spilled on {x}",
        "what does {x} look like after {value} paint was spilled on it?",
    )),
    Situation(CAUSAL, REPATTERN, "striped", "tyres leave stripes", (
        "what if a dirty tyre rolled over {x}?", "after a car with dirty tyres drove over {x}",
    )),
    Situation(CAUSAL, REPATTERN, "plain", "what is washed off is plain", (
        "what if the rain washed the stripes off {x}?", "after the stripes of {x} were washed off",
    )),
    Situation(CAUSAL, REMOVE, "", "what the wind blows away is gone", (
        "what if the wind blew {x} away?", "after a storm has blown {x} away",
    )),
    Situation(CAUSAL, SHRINK, "", "what is washed too hot gets smaller", (
        "what if {x} was washed too hot?", "after {x} was washed too hot",
    )),
    Situation(CAUSAL, RESHAPE, ANY, "a press gives its form", (
        "what if a press stamped {x} into a {value}?", "after a press stamped {x} into a {value}",
    )),
    Situation(STORY, REMOVE, "", "what the fox takes is gone", (
        "the fox took {x}", "what if the fox had taken {x}?", "a fox comes and takes {x} home",
    )),
    Situation(STORY, REMOVE, "", "what a thief steals is gone", (
        "a thief stole {x} in the night", "what if a thief wanted {x}?",
    )),
    Situation(STORY, RESHAPE, ANY, "a wizard can turn it into anything", (
        "a wizard turned {x} into a {value}", "what if a wizard would rather have a {value} than {x}?",
    )),
    Situation(STORY, SHRINK, "", "what a mouse eats of gets smaller", (
        "a mouse has eaten from {x} on all sides", "what if a hungry mouse found {x}?",
    )),
    Situation(STORY, REPATTERN, "striped", "a zebra has stripes", (
        "a zebra lent its coat to {x}", "what if {x} wanted to look like a zebra?",
    )),
    Situation(STORY, RECOLOUR, "blue", "the sky is blue", (
        "the painter wants {x} to match the sky", "what if {x} wanted to hide in the sky?",
    )),
    Situation(STORY, RECOLOUR, ANY, "a child paints in its favourite colour", (
        "a child paints {x} in its favourite colour, {value}", "what if a child who loves {value} had painted {x}?",
    )),
)  # fmt: skip


def fits(situation: Situation, thing: Object) -> bool:
    """Whether the situation changes the object."""
    have: Mapping[str, str] = {RECOLOUR: thing.colour, RESHAPE: thing.shape, REPATTERN: thing.pattern}
    return situation.value == ANY or have.get(situation.edit) != situation.value


def outcome(situation: Situation, thing: Object, words: str, random: np.random.RandomState) -> tuple[str, Instruction]:
    """The situation's text about an object, and the edit that follows. words: that name the object, behind "the"."""
    value = situation.value
    if value == ANY:
        values, own = (tuple(COLOURS), thing.colour) if situation.edit == RECOLOUR else (SHAPES, thing.shape)
        others = [one for one in values if one != own]
        value = others[int(random.randint(len(others)))]
    text = situation.texts[int(random.randint(len(situation.texts)))].format(x=f"the {words}", value=value)
    return text, written(situation.edit, Reference(thing.shape, thing.colour), value)


def situation_for(thing: Object, random: np.random.RandomState, kind: str | None = None) -> Situation:
    """A situation of a kind (default: any, each as likely) that changes the object."""
    kind = kind or HYPOTHETICAL_KINDS[int(random.randint(len(HYPOTHETICAL_KINDS)))]
    able = [one for one in SITUATIONS if one.kind == kind and fits(one, thing)]
    return able[int(random.randint(len(able)))]


def texts() -> list[str]:
    """Every text that the words come from, for a tokenizer."""
    return [text for one in SITUATIONS for text in (one.kind, one.why, *one.texts)]
