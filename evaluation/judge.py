"""A judge looks at an edit and says what it is worth; how a model is called is the caller's.

`build_questions` gives the questions, `read_answer` what a reply to one of them says, `assemble` the scores of all;
`judge` does the three around a function that asks, and `judge_edits` asks a planner model about several edits. A model
over HTTP is asked with the same three (tools/iv_edit).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from ..planner.models.interface import Answer, PlannerModel, Sampling, VlmSpec
from ..planner.pictures.images import image_size
from ..planner.plan import PlanError, RegionPlan, shown
from ..planner.plans.resize import same_aspect
from .judge_questions import ANY_MODEL, DONE, MOST_PIXELS, SCALES, Question, Verdict, build_questions
from .judge_replies import read_answer
from .scores import Scores, overall, weighted

__all__ = [
    "Edit", "Judgement", "Question", "Verdict", "assemble", "build_questions", "judge", "judge_edits", "read_answer",
    "read_model_answer",
]  # fmt: skip


def read_model_answer(question: Question, answer: Answer) -> Verdict:
    """As `read_answer`; where a reply gives no score because it was cut off, `why` says that too."""
    verdict = read_answer(question, answer.text)
    if verdict.value is None and not answer.finished:
        return verdict._replace(why=f"{verdict.why}; the reply was cut off after {answer.tokens} tokens, allow more")
    return verdict


class Judgement(NamedTuple):
    """What a judge says of one edit: the scores, and them in words with the reasons and what all replies cost."""

    scores: Scores
    report: str


class Edit(NamedTuple):
    """What is judged at once: arguments of `build_questions`."""

    before: torch.Tensor
    after: torch.Tensor
    instruction: str
    plan: RegionPlan | None = None
    referring: str = ""


def assemble(verdicts: Iterable[tuple[Question, Verdict]]) -> Scores:
    """The scores of one edit out of what was read for each question.

    image: the four published scores, and where all of them were answered `overall`, `weighted` (published code) and
    `weighted_paper` (published text). regions: by id `done`, `kept` and `text_right`, 1.0 for yes and 0.0 for no; an id
    without an answer is there, and empty. Questions without an answer are in `missing` by name.
    """
    image: dict[str, float] = {}
    regions: dict[str, dict[str, float]] = {}
    missing = []
    for question, verdict in verdicts:
        scores = regions.setdefault(question.region, {}) if question.region else image
        if verdict.value is None:
            missing.append(question.name)
        else:
            scores[question.score] = verdict.value
    totals = {"overall": overall(image), "weighted": weighted(image), "weighted_paper": weighted(image, "paper")}
    image |= {name: value for name, value in totals.items() if value is not None}
    return Scores("judge", image, regions, "weighted", DONE if regions else "", missing=tuple(missing))


def judge(
    ask: Callable[[Question], Answer],
    before: torch.Tensor,
    after: torch.Tensor,
    instruction: str,
    plan: RegionPlan | None = None,
    *,
    referring: str = "",
    spec: VlmSpec = ANY_MODEL,
    most_pixels: int = MOST_PIXELS,
    on_question: Callable[[str], None] = lambda _: None,
) -> Judgement:
    """Ask every question of `build_questions` and read the replies; the other arguments are that function's.

    ask: gives the reply to one question; a PlanError of it counts as no answer to that one, with its words as the
    reason. on_question: is told in words what is asked next. Raises PlanError for what cannot be asked, and when no
    question got an answer.
    """
    questions = build_questions(
        before, after, instruction, plan, referring=referring, spec=spec, most_pixels=most_pixels
    )
    verdicts, answers = [], []
    for number, question in enumerate(questions, 1):
        on_question(f"question {number} of {len(questions)}: {question.name}")
        try:
            answer = ask(question)
        except PlanError as error:
            verdicts.append((question, Verdict(None, str(error))))
            continue
        answers.append(answer)
        verdicts.append((question, read_model_answer(question, answer)))
    if all(verdict.value is None for _, verdict in verdicts):
        question, verdict = verdicts[0]
        wrote = f" It wrote {shown(answers[0].text, 300)}." if len(answers) == len(verdicts) and answers[0].text else ""
        raise PlanError(
            f"none of {len(verdicts)} questions got an answer. {question.name}: {verdict.why}.{wrote} Judge with a "
            "larger model, or one that is trained to look at several images"
        )
    scores = _of_regions(assemble(verdicts), plan)
    notes = _notes(before, after, plan, spec, answers)
    return Judgement(scores, _report(scores, verdicts, plan, notes))


def judge_edits(
    model: PlannerModel,
    edits: Sequence[Edit],
    sampling: Sampling,
    most_pixels: int = MOST_PIXELS,
    on_question: Callable[[str], None] = lambda _: None,
) -> list[Judgement]:
    """What a planner model says of each edit; one that cannot be judged leaves the others alone.

    Such a one has every question in `Scores.missing`, and its report says why. Raises PlanError when there is no other.
    """

    def ask(question: Question) -> Answer:
        return model.answer(question.messages, question.images, sampling)

    judged, errors = [], []
    for number, edit in enumerate(edits, 1):
        which = f"image {number} of {len(edits)}: " if len(edits) > 1 else ""
        try:
            one = judge(
                ask,
                edit.before,
                edit.after,
                edit.instruction,
                edit.plan,
                referring=edit.referring,
                spec=model.spec,
                most_pixels=most_pixels,
                on_question=lambda text, which=which: on_question(which + text),
            )
        except PlanError as error:
            errors.append(f"{which}{error}")
            scores = _of_regions(Scores("judge", main="weighted", missing=tuple(SCALES)), edit.plan)
            one = Judgement(scores, f"Not judged: {error}")
        judged.append(one._replace(report=f"Judged by {model.label}\n{one.report}"))
    if len(errors) == len(edits):
        raise PlanError(errors[0] if len(edits) == 1 else f"no edit could be judged; {errors[0]}")
    return judged


def _of_regions(scores: Scores, plan: RegionPlan | None) -> Scores:
    """The scores with every enabled region of the plan, also those that nothing is known of."""
    if plan is None:
        return scores
    regions = {region.id: scores.regions.get(region.id, {}) for region in plan.active.regions}
    return replace(scores, regions=regions, region_main=DONE)


def _notes(
    before: torch.Tensor, after: torch.Tensor, plan: RegionPlan | None, spec: VlmSpec, answers: Sequence[Answer]
) -> list[str]:
    """What to know of the images and of what was not asked, and the cost."""
    notes = []
    sizes = image_size(before), image_size(after)
    if sizes[0] != sizes[1]:
        (width, height), (other_width, other_height) = sizes
        what = "another size" if same_aspect(*sizes) else "another shape, which a judge may take for a side effect"
        notes.append(
            f"Note: the original has {width}x{height} pixels and the edited image {other_width}x{other_height}, {what}"
        )
    if not spec.several_images:
        notes.append("Note: this model takes one image a conversation, so both were shown joined into one")
    if plan is not None and not plan.active.regions:
        notes.append("Note: the plan has no enabled region to ask about")
    idle = [region.id for region in plan.active.regions if not region.hint.strip()] if plan else []
    if idle:
        notes.append(f"Note: not asked about {', '.join(idle)}: no hint")
    asked, written = sum(one.asked for one in answers), sum(one.tokens for one in answers)
    count = len(answers)
    return [*notes, f"Cost: {count} repl{'y' if count == 1 else 'ies'}, {asked} tokens read and {written} written"]


def _report(
    scores: Scores, verdicts: Sequence[tuple[Question, Verdict]], plan: RegionPlan | None, notes: Sequence[str]
) -> str:
    """The scores in words: the totals, each question with its reason, and what got no answer."""
    if "overall" in scores.image:
        lines = [f"Overall {scores.image['overall']:.2f} and Weighted {scores.image['weighted']:.2f}, of 5"]
    else:
        lost = [name for name in scores.missing if name in SCALES]
        lines = [f"No Overall and no Weighted: no answer to {', '.join(lost)}"]
    hints = {region.id: region.hint.strip() for region in plan.regions} if plan else {}
    region = ""
    for question, verdict in verdicts:
        if question.region != region:
            region = question.region
            lines.append(f"Region {region}: {hints.get(region, '')}")
        lines.append(f"{'   ' if region else ''}{question.score.replace('_', ' ')}: {_said(question, verdict)}")
    return "\n".join([*lines, *notes])


def _said(question: Question, verdict: Verdict) -> str:
    if verdict.value is None:
        return f"no answer: {verdict.why}"
    if question.texts:
        wanted = ", ".join(f'"{text}"' for text in question.texts)
        return f"yes, {wanted}" if verdict.value else f'no, wanted {wanted}, the model reads "{verdict.read}"'
    value = f"{verdict.value:g}" if question.scale else "yes" if verdict.value else "no"
    return f"{value} ({' '.join(verdict.reasoning.split())})" if verdict.reasoning else value
