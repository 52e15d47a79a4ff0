"""From picture and instruction to a checked plan: ask a model, read its reply, and whatever makes a weak one better.

One question is the ordinary case. A second question with what was wrong, a second look at each region and a vote over
several replies are choices; each costs replies, and the report counts them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import torch

from ..geometry import Size
from ..models.interface import Answer, PlannerModel, Sampling
from ..pictures.images import image_size, resize_pixels
from ..plan import Notice, PlanError, RegionPlan, shown
from ..plans.lint import lint
from ..plans.report import describe_plan
from ..replies import COORDINATES, read_plan
from .follow_up import ask_again, points
from .second_look import cut_around, merge_look, read_look
from .templates import (
    Message,
    Template,
    coordinates_in_words,
    load_template,
    planner_messages,
    second_look_messages,
)
from .vote import vote

log = logging.getLogger(__name__)

# What a vote draws its replies with when the likeliest reply is asked for: equal replies need no vote.
_VOTING_TEMPERATURE = 0.7
# A cut-out is shown at this area at least, in pixels: a small thing is easier to see enlarged.
_LEAST_CUT = 448 * 448
MOST_VOTES = 9


class Wish(NamedTuple):
    """What to ask, and how.

    coordinates: what the reply's boxes count; `auto` is the model's own convention. most_pixels: area at which the
    model sees the picture. ask_again: once more, with what was wrong. second_look: at each region. votes: replies.
    """

    instruction: str
    template: Template
    sampling: Sampling = Sampling()
    layout: str = "inference"
    coordinates: str = "auto"
    most_pixels: int = 1_003_520
    ask_again: bool = False
    second_look: bool = False
    votes: int = 1


class Planned(NamedTuple):
    """The plan, the replies behind it (numbered when there are several), and the report with findings and cost."""

    plan: RegionPlan
    reply: str
    report: str


class _Read(NamedTuple):
    """A reply with the plan in it, or why there is none."""

    answer: Answer
    plan: RegionPlan | None
    note: str
    error: str


def make_plan(model: PlannerModel, picture: torch.Tensor, wish: Wish) -> Planned:
    """Plan one picture, (1, H, W, C) in 0..1, in colours or grey; alpha is not shown to the model.

    Raises PlanError for an empty instruction, a picture that cannot be seen, and replies that hold no plan.
    """
    colours = picture[..., :3] if picture.shape[-1] >= 3 else picture[..., :1].repeat(1, 1, 1, 3)
    return _Session(model, colours, wish).planned()


class _Session:
    """One picture and one wish with one model; counts what its questions cost."""

    def __init__(self, model: PlannerModel, picture: torch.Tensor, wish: Wish) -> None:
        if not 1 <= wish.votes <= MOST_VOTES:
            raise PlanError(f"votes is a number from 1 to {MOST_VOTES}, found {wish.votes}")
        if wish.coordinates not in COORDINATES:
            raise PlanError(f"coordinates is one of {', '.join(COORDINATES)}, found {wish.coordinates!r}")
        self.model, self.picture, self.wish = model, picture, wish
        self.size = image_size(picture)
        self.coordinates = model.family.coordinates if wish.coordinates == "auto" else wish.coordinates
        self.seen = model.family.seen_size(self.size, wish.most_pixels)
        self.answers: list[Answer] = []
        self.notes: list[str] = []
        sampling = wish.sampling
        if wish.votes > 1 and wish.template.plans and sampling.temperature <= 0:
            sampling = sampling._replace(temperature=_VOTING_TEMPERATURE)
            self.notes.append(
                f"The vote drew its replies at temperature {_VOTING_TEMPERATURE}: without chance they would all be equal"
            )
        self.sampling = sampling

    def planned(self) -> Planned:
        messages = planner_messages(
            self.wish.template, self.wish.instruction, self._in_words(self.size, self.seen), self.wish.layout
        )
        picture = resize_pixels(self.picture, self.seen) if self.wish.template.pictured else None
        if not self.wish.template.plans:
            return self._only_text(messages, picture)
        reads = [
            self._one(messages, picture, self.sampling._replace(seed=self.sampling.seed + number))
            for number in range(self.wish.votes)
        ]
        plans = [read.plan for read in reads if read.plan is not None]
        if not plans:
            raise PlanError(self._no_plan(reads[-1]))
        plan = vote(plans)
        lost = len(reads) - len(plans)
        if lost:
            plan = plan.with_warnings(f"{lost} of {len(reads)} replies held no plan and had no vote")
        if not any(read.answer.finished for read in reads if read.plan is not None):
            plan = plan.with_warnings(
                f"the reply was cut off at max_tokens {self.sampling.max_tokens}; raise it if something is missing from the plan"
            )
        if self.wish.second_look:
            plan = self._looked_at(plan)
        note = next(read.note for read in reads if read.plan is not None)
        return Planned(plan, self._all_replies([read.answer for read in reads]), self._report(plan, note))

    # ---- questions ------------------------------------------------------------------------------------------

    def _ask(self, messages: Sequence[Message], picture: torch.Tensor | None, sampling: Sampling) -> Answer:
        answer = self.model.answer(messages, picture, sampling)
        self.answers.append(answer)
        log.debug("%s: %s", self.model.label, answer.text)
        return answer

    def _one(self, messages: Sequence[Message], picture: torch.Tensor | None, sampling: Sampling) -> _Read:
        """One reply, and a second one if there is something to put right and that is wanted."""
        first = self._read(self._ask(messages, picture, sampling))
        if not self.wish.ask_again:
            return first
        wrong = self._wrong(first)
        if not wrong:
            return first
        second = self._read(self._ask(ask_again(messages, first.answer.text, wrong), picture, sampling))
        better = second.plan is not None and (first.plan is None or len(self._wrong(second)) < len(wrong))
        listed = "\n".join(f"- {point}" for point in wrong)
        self.notes.append(f"Asked again, because of:\n{listed}\nThe {'second' if better else 'first'} reply was used")
        return second if better else first

    def _read(self, answer: Answer) -> _Read:
        if not answer.text:
            return _Read(answer, None, "", "the reply is empty")
        try:
            plan, note = read_plan(answer.text, self.size, self.coordinates, self.seen, by_model=True)
        except PlanError as error:
            return _Read(answer, None, "", str(error))
        return _Read(answer, plan, note, "")

    def _wrong(self, read: _Read) -> tuple[str, ...]:
        """What to tell the model about its reply."""
        cut_off = () if read.answer.finished else (Notice("cut_off", "the reply was cut off"),)
        if read.plan is None:
            return points((*cut_off, Notice("no_plan", read.error)))
        return points((*lint(read.plan, self.wish.instruction), *cut_off, *read.plan.notices), read.plan)

    def _looked_at(self, plan: RegionPlan) -> RegionPlan:
        """The plan after a second look at each region; what it changed is in the warnings."""
        regions, changes = [], []
        template = load_template("second_look")
        family = self.model.family
        closer = family._replace(
            min_pixels=max(family.min_pixels, min(self.wish.most_pixels, family.max_pixels, _LEAST_CUT))
        )
        for region in plan.regions:
            cut = cut_around(region.box, plan.image_size)
            seen = closer.seen_size(cut.size, self.wish.most_pixels)
            piece = resize_pixels(self.picture[:, cut.top : cut.bottom, cut.left : cut.right], seen)
            words = self._in_words(cut.size, seen)
            messages = second_look_messages(template, region.hint, self.wish.instruction, words)
            answer = self._ask(messages, piece, self.wish.sampling)
            merged, change = merge_look(region, read_look(answer.text, cut, self.coordinates, seen), cut)
            regions.append(merged)
            changes.append(change)
        return plan.with_regions(regions).with_warnings(*filter(None, changes))

    def _only_text(self, messages: Sequence[Message], picture: torch.Tensor | None) -> Planned:
        """The reply to a template that asks for words: they are the global prompt of a plan without regions."""
        answer = self._ask(messages, picture, self.wish.sampling)
        if not answer.text:
            raise PlanError(
                f"{self.model.label} gave an empty reply; try another seed with a temperature above 0, or another model"
            )
        plan = RegionPlan(self.size, answer.text)
        choices = {"ask_again": self.wish.ask_again, "second_look": self.wish.second_look, "votes": self.wish.votes > 1}
        unused = [name for name, chosen in choices.items() if chosen]
        if unused:
            plan = plan.with_warnings(
                f"the template '{self.wish.template.name}' asks for a text, not for regions; not used: {', '.join(unused)}"
            )
        if not answer.finished:
            plan = plan.with_warnings(f"the reply was cut off at max_tokens {self.sampling.max_tokens}")
        note = f"The template '{self.wish.template.name}' asks for a text, which is the global prompt here; the plan has no regions"
        return Planned(plan, answer.text, self._report(plan, note))

    # ---- words ----------------------------------------------------------------------------------------------

    def _in_words(self, size: Size, seen: Size) -> str:
        """What the numbers of boxes count, for the model, on a picture of `size` that it sees at `seen`."""
        return coordinates_in_words(self.coordinates, size if self.coordinates == "pixels" else seen)

    def _no_plan(self, read: _Read) -> str:
        cut = "" if read.answer.finished else f" It stopped at max_tokens {self.sampling.max_tokens}: raise it."
        again = "It was asked again already: choose" if self.wish.ask_again else "Turn ask_again on, or choose"
        return (
            f"the reply of {self.model.label} holds no plan: {read.error}.{cut} It wrote {read.answer.tokens} tokens: "
            f"{shown(read.answer.text, 300)}. {again} another template or a larger model"
        )

    def _report(self, plan: RegionPlan, note: str) -> str:
        family = self.model.family
        saw = f", which saw the image at {self.seen[0]}x{self.seen[1]}" if self.wish.template.pictured else ""
        notes = [f"Planned by {self.model.label}{saw}", note]
        if not family.known and self.wish.coordinates == "auto":
            notes.append(
                f"What the boxes of a '{family.name}' count is not known and was guessed: look at the preview, and choose coordinates if they are off"
            )
        replies = len(self.answers)
        asked, written = (
            sum(answer.asked for answer in self.answers),
            sum(answer.tokens for answer in self.answers),
        )
        notes.append(f"Cost: {replies} repl{'y' if replies == 1 else 'ies'}, {asked} tokens read and {written} written")
        findings = lint(plan, self.wish.instruction) if self.wish.template.plans else ()
        return describe_plan(plan, *notes, *self.notes, findings=findings)

    @staticmethod
    def _all_replies(answers: Sequence[Answer]) -> str:
        if len(answers) == 1:
            return answers[0].text
        return "\n\n".join(f"--- reply {number} ---\n{answer.text}" for number, answer in enumerate(answers, 1))
