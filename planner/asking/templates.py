"""What a vision-language model is asked: templates, the values they hold, and the turns of a conversation.

The pack's own templates are the text files of `prompts/`, in its own words; a user's file is a text of the same
kind (`nodes/folders.py` finds it, this file gets its text). Values are put in literally, for the marks
`{{instruction}}`, `{{coordinates}}` and `{{hint}}`; nothing in a template is ever run, and a value is never searched
for marks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..geometry import Size
from ..models.interface import Message, Part
from ..plan import PlanError, shown, well_formed

_FOLDER = Path(__file__).with_name("prompts")


class Asked(NamedTuple):
    """What a template is asked for and with. plans: its reply holds a plan; with_image: the image is shown with it."""

    plans: bool
    with_image: bool


# The templates to choose from. (The published baseline rephrases without the image, rephrase.txt of its code.)
TEMPLATES = {
    "edit": Asked(plans=True, with_image=True),
    "edit_no_reasoning": Asked(plans=True, with_image=True),
    "hypothetical": Asked(plans=True, with_image=True),
    "context": Asked(plans=True, with_image=True),
    "result": Asked(plans=True, with_image=True),
    "unified": Asked(plans=True, with_image=True),
    "detection": Asked(plans=True, with_image=True),
    "rephrase": Asked(plans=False, with_image=False),
    "scene": Asked(plans=False, with_image=True),
}
# Those that the planner uses by itself, with the marks that each must hold.
_OWN_USE = {"second_look": ("hint",)}

# Where the image and the instruction go. inference: one turn, image, template, instruction (the published
# inference code). training: one turn, template, image, instruction (the order that the released checkpoint was
# trained in). system: the template as the system message (its model card).
LAYOUTS = ("inference", "training", "system")

_MARKS = ("instruction", "coordinates", "hint")
# `content` is what the training code of the published planner calls the instruction in its Jinja file.
_MARK = re.compile(r"\{\{\s{0,8}([A-Za-z_]{1,40})\s{0,8}(?:\|\s{0,8}trim\s{0,8})?\}\}")
_FOREIGN = re.compile(r"\{\{.{0,60}|\{%.{0,60}|(?<![{\w])\{[A-Za-z_]{1,40}\}(?!\})")
LONGEST = 200_000
# Characters of an instruction: what is longer was not meant as one (a whole file, an image as text), and a model would
# read it for minutes without a chance to interrupt it.
LONGEST_INSTRUCTION = 10_000
_SEVERAL_IMAGES = (
    "The first image is the one to edit: every box is measured in it. The other images only help to understand it.\n\n"
)


class Template(NamedTuple):
    """A template: its text with marks, whether its reply holds a plan, and whether the image is shown with it."""

    name: str
    text: str
    plans: bool = True
    with_image: bool = True


def load_template(name: str, text: str | None = None) -> Template:
    """The pack's template of that name, or `text`, a user's own, under that name.

    A user's file that bears the name of one of the pack's is taken as that kind of template. Raises PlanError
    for a name that does not exist, and for a text that is empty, too long, or holds a mark that is not known.
    """
    if text is None:
        if name not in TEMPLATES and name not in _OWN_USE:
            raise PlanError(f"there is no template {name!r}; the pack has {', '.join((*TEMPLATES, *_OWN_USE))}")
        text = (_FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    kind = TEMPLATES.get(name, Asked(plans=name not in _OWN_USE, with_image=True))
    text = text.lstrip("\ufeff").replace("\r\n", "\n").strip()
    _check(name, text)
    return Template(name, text, *kind)


def _check(name: str, text: str) -> None:
    if not text:
        raise PlanError(f"the template '{name}' is empty; write what the model is to do")
    if len(text) > LONGEST:
        raise PlanError(
            f"the template '{name}' has {len(text)} characters; a template has at most {LONGEST}, shorten it"
        )
    if "\0" in text:
        raise PlanError(f"the template '{name}' is not a text file; save it as plain text in UTF-8")
    known = ", ".join(f"{{{{{mark}}}}}" for mark in _MARKS)
    found = {_name_of(mark) for mark in _MARK.finditer(text)}
    unknown = sorted(found - set(_MARKS))
    if unknown:
        raise PlanError(
            f"the template '{name}' holds {{{{{unknown[0]}}}}}, a mark that is not known; the marks are {known}"
        )
    foreign = _FOREIGN.search(_MARK.sub("", text))
    if foreign:
        raise PlanError(
            f"the template '{name}' holds {shown(foreign.group())}, which is not a mark of this pack; write "
            f"{{{{instruction}}}} with two braces where the instruction goes, or leave it out: it then follows the "
            f"template. The marks are {known}"
        )
    missing = [mark for mark in _OWN_USE.get(name, ()) if mark not in found]
    if missing:
        raise PlanError(
            f"the template '{name}' does not hold {{{{{missing[0]}}}}}, without which it asks nothing; add it"
        )


def _name_of(mark: re.Match[str]) -> str:
    return "instruction" if mark[1] == "content" else mark[1]


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with each mark replaced by its value ("" without one), literally and once."""
    return _MARK.sub(lambda mark: values.get(_name_of(mark), ""), text)


# ---- conversations ------------------------------------------------------------------------------------------


def planner_messages(
    template: Template, instruction: str, coordinates: str = "", layout: str = "inference", images: int = 1
) -> tuple[Message, ...]:
    """The turns that ask for a reply to `instruction`.

    coordinates: what the numbers of a box count, in words (`coordinates_in_words`).
    layout: one of LAYOUTS. A template without the mark `{{instruction}}` is followed by the instruction on a line of
        its own, as the published code does it. In the layout `system` the instruction is the user's turn too where
        the template has the mark.
    images: how many are shown, the one to edit first; a sentence then says so.

    Raises PlanError for an empty instruction, one longer than LONGEST_INSTRUCTION, and an unknown layout.
    """
    if layout not in LAYOUTS:
        raise PlanError(f"the layout is one of {', '.join(LAYOUTS)}, found {layout!r}")
    asked = well_formed(instruction).strip()  # no tokenizer takes half a character
    if not asked:
        raise PlanError("the instruction is empty; write what should change in the image")
    if len(asked) > LONGEST_INSTRUCTION:
        raise PlanError(
            f"the instruction has {len(asked)} characters, more than {LONGEST_INSTRUCTION}; say in a few sentences "
            "what should change, or look at what is connected to it"
        )
    values = {"instruction": asked, "coordinates": coordinates}
    leading: tuple[str | Part, ...] = ()
    if template.with_image:
        leading = (Part.IMAGE,) if images == 1 else (*[Part.IMAGE] * images, _SEVERAL_IMAGES)
    places = [mark for mark in _MARK.finditer(template.text) if _name_of(mark) == "instruction"]
    if layout == "system":
        return (Message("system", (fill(template.text, values),)), Message("user", (*leading, asked)))
    if layout == "training":
        at = places[0].start() if places else len(template.text)
        before = fill(template.text[:at], values).rstrip()
        after = fill(template.text[at:], values) if places else asked
        return (Message("user", (before, *leading, f"\n{after}")),)
    text = fill(template.text, values) if places else f"{fill(template.text, values)}\n{asked}"
    return (Message("user", (*leading, text)),)


def second_look_messages(template: Template, hint: str, instruction: str, coordinates: str = "") -> tuple[Message, ...]:
    """The turn that asks, of a cut-out, whether it shows what `hint` is meant for, and for a tighter box."""
    values = {"hint": hint.strip(), "instruction": well_formed(instruction).strip(), "coordinates": coordinates}
    return (Message("user", (Part.IMAGE, fill(template.text, values))),)


def as_two_texts(messages: Sequence[Message]) -> tuple[str, str]:
    """(system, user) texts of one question, for a model that takes texts and puts the image where it does."""
    system = "\n\n".join(message.text for message in messages if message.role == "system")
    return system, "\n\n".join(message.text for message in messages if message.role == "user")


def coordinates_in_words(coordinates: str, size: Size | None = None) -> str:
    """A sentence that tells a model what the numbers of its boxes count.

    coordinates: one of `replies.COORDINATES`; `auto` and `seen_pixels` are pixels of the image as the model sees
    it. size: that image's (width, height) in pixels, if it is known.
    """
    if coordinates in ("relative_1000", "relative_1000_y_first"):
        order = " Give the top edge first: [y1, x1, y2, x2]." if coordinates.endswith("y_first") else ""
        return (
            "Numbers count from 0 to 1000 from the left to the right edge of the image, and from 0 to 1000 from its "
            f"top to its bottom edge, whatever its size.{order}"
        )
    if coordinates == "relative_1":
        return "Numbers are fractions from 0 to 1 of the image's width and height, with three decimals."
    if coordinates == "relative_100":
        return "Numbers are percent of the image's width and height, from 0 to 100, with one decimal."
    known = f", which is {size[0]} pixels wide and {size[1]} pixels high" if size else ""
    return f"Numbers are pixels of the image as you see it{known}, counted from its top left corner."
