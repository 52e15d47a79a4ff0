"""One image and one instruction with one model: what is asked, what is made of the replies, and what it cost.

One question is the ordinary case. A second question with what was wrong, a second look at each region and a vote over
several replies are choices. One of these that fails spoils nothing that is there already; it is told in the plan.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from ..geometry import Size
from ..models.interface import Answer, Message, PlannerModel, Sampling
from ..pictures.images import image_size, in_colours, resize_pixels
from ..plan import Notice, PlanError, Region, RegionPlan, shown
from ..plans.lint import lint
from ..plans.report import describe_plan
from ..replies import ReplyError, read_plan, read_words
from .follow_up import ask_again, points
from .second_look import apply_second_look, cut_around, read_second_look
from .templates import Template, coordinates_in_words, load_template, planner_messages, second_look_messages
from .vote import vote

log = logging.getLogger(__name__)

# What a vote draws its replies with when the likeliest reply is asked for: equal replies need no vote.
_VOTING_TEMPERATURE = 0.7
# A cut-out is shown at this area at least, in pixels: a small thing is easier to see enlarged.
_LEAST_CUT = 448 * 448


class PlanRequest(NamedTuple):
    """What to ask, and how.

    coordinates: what the reply's boxes count; `auto` is the model's own convention. most_pixels: area at which the
    model sees an image. ask_again: once more, with what was wrong. second_look: at each region. votes: replies.
    notices: what the user should know of the request itself; every plan carries them.
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
    notices: tuple[Notice, ...] = ()


class Planned(NamedTuple):
    """What came of one image.

    plan: without regions, and with the notice `not_planned`, where there is none. reply: what the model wrote, numbered
    when that is several replies. report: the plan in words, findings and cost. findings: of the linter.
    """

    plan: RegionPlan
    reply: str
    report: str
    findings: tuple[Notice, ...] = ()

    @property
    def failed(self) -> bool:
        return any(notice.code == "not_planned" for notice in self.plan.notices)


class _Read(NamedTuple):
    """A reply with the plan in it, or why there is none. note: how its boxes were read."""

    answer: Answer
    plan: RegionPlan | None
    note: str = ""
    error: str = ""
    notices: tuple[Notice, ...] = ()


class Conversation:
    """One image with one model; counts what its questions cost."""

    def __init__(
        self,
        model: PlannerModel,
        image: torch.Tensor,
        beside: Sequence[torch.Tensor],
        request: PlanRequest,
        which: str,
        on_question: Callable[[str], None],
    ) -> None:
        self.model, self.image, self.beside, self.request = model, in_colours(image), beside, request
        self.which, self.on_question = which, on_question
        self.size = image_size(image)
        self.coordinates = model.spec.coordinates if request.coordinates == "auto" else request.coordinates
        self.seen: Size = (0, 0)
        self.answers: list[Answer] = []
        self.notes: list[str] = []
        self.notices: list[Notice] = list(request.notices)
        self._linted: dict[tuple, tuple[Notice, ...]] = {}

    def planned(self) -> Planned:
        """The plan. Raises PlanError for an image that cannot be seen, and when no reply holds a plan."""
        request = self.request
        self.seen = self.model.spec.seen_size(self.size, request.most_pixels)
        images = []
        if request.template.with_image:
            images = [self._as_seen(self.image), *(self._as_seen(in_colours(image)) for image in self.beside)]
        elif self.beside:
            self._tell(
                "images_unused", f"the template '{request.template.name}' shows no image; more_images was not used"
            )
        messages = planner_messages(
            request.template, request.instruction, self._in_words(self.size, self.seen), request.layout, len(images)
        )
        if not request.template.plans:
            return self._global_prompt(messages, images)
        reads = self._replies(messages, images)
        read = [one for one in reads if one.plan is not None]
        if not read:
            raise PlanError(self._no_plan(reads[-1]))
        plan = vote([one.plan for one in read])
        if len(read) < len(reads):
            self._tell("vote_lost", f"{len(reads) - len(read)} of {len(reads)} replies held no plan and had no vote")
        if not any(one.answer.finished for one in read):
            self._tell_cut_off()
        if request.second_look:
            plan = plan.with_regions(self._looked_at(region) if region.enabled else region for region in plan.regions)
        plan = plan.with_notices(*self.notices)
        findings = self._findings(plan)
        notes = [self._planned_by(), read[0].note, *self.notes]
        if not plan.active.regions and not findings:
            notes.append("The edit is of the whole image: the global prompt says all of it")
        report = self._report(plan, *notes, findings=findings)
        return Planned(plan, _numbered([one.answer for one in reads]), report, findings)

    def failed(self, error: PlanError) -> Planned:
        """What stands for the plan of an image that got none: nothing to edit, and said so."""
        notice = Notice(
            "not_planned",
            f"{self.which}no plan was made ({error})",
            "its image passes unedited; plan it alone, or leave it out",
        )
        plan = RegionPlan(self.size, notices=(*self.notices, notice))
        return Planned(plan, _numbered(self.answers), self._report(plan, *self.notes))

    # ---- questions ------------------------------------------------------------------------------------------

    def _ask(
        self, what: str, messages: Sequence[Message], images: Sequence[torch.Tensor], sampling: Sampling
    ) -> Answer:
        self.on_question(f"{self.which}{what}")
        answer = self.model.answer(messages, images, sampling)
        self.answers.append(answer)
        log.debug("%s: %s", self.model.label, answer.text)
        return answer

    def _replies(self, messages: Sequence[Message], images: Sequence[torch.Tensor]) -> list[_Read]:
        """The reply, or one for each vote. Raises PlanError where none can be had."""
        votes, sampling = self.request.votes, self.request.sampling
        if votes > 1 and sampling.temperature <= 0:
            sampling = sampling._replace(temperature=_VOTING_TEMPERATURE)
            self.notes.append(
                f"The vote drew its replies at temperature {_VOTING_TEMPERATURE}: without chance they would all be "
                "equal"
            )
        reads, errors = [], []
        for number in range(votes):
            what = f"reply {number + 1} of {votes}" if votes > 1 else "planning"
            try:
                reads.append(self._reply(what, messages, images, sampling._replace(seed=sampling.seed + number)))
            except PlanError as error:
                errors.append(error)
        if not reads:
            raise errors[0]
        for error in errors:
            self._tell("vote_failed", f"one of {votes} replies could not be had ({error})")
        return reads

    def _reply(
        self, what: str, messages: Sequence[Message], images: Sequence[torch.Tensor], sampling: Sampling
    ) -> _Read:
        """One reply, and a second one if there is something to put right and that is wanted."""
        first = self._read(self._ask(what, messages, images, sampling))
        wrong = self._wrong(first) if self.request.ask_again else ()
        if not wrong:
            return first
        try:
            again = ask_again(messages, first.answer.text, wrong)
            second = self._read(self._ask(f"{what}, asked again", again, images, sampling))
        except PlanError as error:
            self._tell("ask_again_failed", f"asking again failed ({error})", "the first reply was used")
            return first
        better = second.plan is not None and (first.plan is None or len(self._wrong(second)) < len(wrong))
        listed = "\n".join(f"- {point}" for point in wrong)
        self.notes.append(f"Asked again, because of:\n{listed}\nThe {'second' if better else 'first'} reply was used")
        return second if better else first

    def _read(self, answer: Answer) -> _Read:
        try:
            plan, note = read_plan(answer.text, self.size, self.coordinates, self.seen, by_model=True)
        except ReplyError as error:
            found = "it is empty" if error.code == "empty" else str(error)
            return _Read(answer, None, "", found, (Notice(error.code, found), *error.notices))
        except PlanError as error:
            return _Read(answer, None, "", str(error), (Notice("no_plan", str(error)),))
        return _Read(answer, plan, note, "", plan.notices)

    def _wrong(self, read: _Read) -> tuple[str, ...]:
        """What to tell the model about its reply."""
        cut_off = () if read.answer.finished else (Notice("cut_off", "the reply was cut off"),)
        findings = () if read.plan is None else self._findings(read.plan)
        return points((*findings, *cut_off, *read.notices), read.plan)

    def _findings(self, plan: RegionPlan) -> tuple[Notice, ...]:
        """Of the linter, which looks at a plan once; none about a reply that answers a question instead of planning."""
        if any(notice.code == "answer_only" for notice in plan.notices):
            return ()
        key = (plan.global_prompt, plan.regions)
        if key not in self._linted:
            self._linted[key] = lint(plan, self.request.instruction)
        return self._linted[key]

    def _looked_at(self, region: Region) -> Region:
        """The region after a second look at it."""
        spec, most = self.model.spec, self.request.most_pixels
        cut = cut_around(region.box, self.size)
        closer = spec._replace(min_pixels=max(spec.min_pixels, min(most, spec.max_pixels, _LEAST_CUT)))
        seen = closer.seen_size(cut.size, most)
        piece = resize_pixels(self.image[:, cut.top : cut.bottom, cut.left : cut.right], seen)
        messages = second_look_messages(
            load_template("second_look"), region.hint, self.request.instruction, self._in_words(cut.size, seen)
        )
        try:
            answer = self._ask(f"a second look at region '{region.id}'", messages, [piece], self.request.sampling)
        except PlanError as error:
            self._tell(
                "second_look_failed",
                f"region '{region.id}': a second look failed ({error})",
                "its box stays as it was",
                region.id,
            )
            return region
        look = read_second_look(answer.text, cut, self.coordinates, seen)
        region, notice = apply_second_look(region, look, cut)
        if notice:
            self.notices.append(notice)
        return region

    def _global_prompt(self, messages: Sequence[Message], images: Sequence[torch.Tensor]) -> Planned:
        """The reply to a template that asks for words: they are the global prompt of a plan without regions."""
        request, name = self.request, self.request.template.name
        answer = self._ask("asking", messages, images, request.sampling)
        words, reasoning = read_words(answer.text)
        if not words and reasoning:
            raise PlanError(f"{self.model.label} wrote nothing but reasoning; raise max_tokens, or try another model")
        if not words:
            raise PlanError(
                f"{self.model.label} gave an empty reply; try another seed with a temperature above 0, or another model"
            )
        choices = {"ask_again": request.ask_again, "second_look": request.second_look, "votes": request.votes > 1}
        unused = ", ".join(choice for choice, chosen in choices.items() if chosen)
        if unused:
            self._tell("settings_unused", f"the template '{name}' asks for a text, not for regions; not used: {unused}")
        if not answer.finished:
            self._tell_cut_off()
        plan = RegionPlan(self.size, words, reasoning=reasoning, notices=tuple(self.notices))
        note = f"The template '{name}' asks for a text, which is the global prompt here; the plan has no regions"
        return Planned(plan, answer.text, self._report(plan, self._planned_by(), note))

    # ---- words ----------------------------------------------------------------------------------------------

    def _as_seen(self, image: torch.Tensor) -> torch.Tensor:
        return resize_pixels(image, self.model.spec.seen_size(image_size(image), self.request.most_pixels))

    def _in_words(self, size: Size, seen: Size) -> str:
        """What the numbers of boxes count, for the model, on an image of `size` that it sees at `seen`."""
        return coordinates_in_words(self.coordinates, size if self.coordinates == "pixels" else seen)

    def _tell(self, code: str, text: str, remedy: str = "", *regions: str) -> None:
        self.notices.append(Notice(code, text, remedy, regions))

    def _tell_cut_off(self) -> None:
        self._tell(
            "cut_off",
            f"the reply was cut off at max_tokens {self.request.sampling.max_tokens}",
            "raise it if something is missing from the plan",
        )

    def _no_plan(self, read: _Read) -> str:
        cut = "" if read.answer.finished else f" It stopped at max_tokens {self.request.sampling.max_tokens}: raise it."
        again = "It was asked again already: choose" if self.request.ask_again else "Turn ask_again on, or choose"
        return (
            f"the reply of {self.model.label} holds no plan: {read.error}.{cut} It wrote {read.answer.tokens} tokens: "
            f"{shown(read.answer.text, 300)}. {again} another template or a larger model"
        )

    def _planned_by(self) -> str:
        template = self.request.template
        by = f"Planned by {self.model.label} with the template '{template.name}'"
        more = f", and {len(self.beside)} more" if self.beside else ""
        return by + (f", which saw the image at {self.seen[0]}x{self.seen[1]}{more}" if template.with_image else "")

    def _report(self, plan: RegionPlan, *notes: str, findings: Sequence[Notice] = ()) -> str:
        told = list(notes)
        if plan.regions and not self.model.spec.known and self.request.coordinates == "auto":
            told.append(
                f"What the boxes of a '{self.model.spec.name}' count is not known and was guessed: look at the "
                "preview, and choose coordinates if they are off"
            )
        replies = f"{len(self.answers)} repl{'y' if len(self.answers) == 1 else 'ies'}"
        asked, written = sum(one.asked for one in self.answers), sum(one.tokens for one in self.answers)
        told.append(f"Cost: {replies}, {asked} tokens read and {written} written")
        return describe_plan(plan, *told, findings=findings)


def _numbered(answers: Sequence[Answer]) -> str:
    if len(answers) == 1:
        return answers[0].text
    return "\n\n".join(f"--- reply {number} ---\n{answer.text}" for number, answer in enumerate(answers, 1))
