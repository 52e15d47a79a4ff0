"""The node that lets a model judge an edit. The work is in `evaluation.judge`, loaded by the first run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..planner.models.interface import Sampling
from ..planner.pictures.batches import pair_for_judging, setting
from ..planner.plan import Notice, PlanError
from .notices import show_progress, tell
from .sockets import CATEGORY, PlannerSocket, PlanSocket, ScoresSocket, naming

if TYPE_CHECKING:
    from ..evaluation.judge import Judgement


class RePlanJudge(io.ComfyNode):
    """Scores of an edit by a model that looks at it."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RePlanJudge",
            display_name="RePlan Judge",
            category=f"{CATEGORY}/evaluation",
            description="Lets a vision-language model look at an image before and after an edit and answer four "
            "questions: is it the right thing (Target), is it done (Effect), did the rest stay (Consistency), is it "
            "well made (Quality). With a plan, also for each region. A question without a clear answer counts as "
            "missing, never as 0.",
            search_aliases=[
                "vlm judge",
                "score edit",
                "rate image",
                "evaluate edit",
                "did it work",
                "iv-edit",
                "edit quality",
                "llm as judge",
            ],
            is_input_list=True,
            inputs=[
                PlannerSocket.Input(
                    "planner",
                    tooltip="The model that judges: RePlan Load Planner or RePlan Planner from CLIP. A larger one "
                    "judges better than the one that planned.",
                ),
                io.Image.Input(
                    "before",
                    tooltip="The original image: one for all edited images, or one for each. For regions it must have "
                    "the shape of the edited one.",
                ),
                io.Image.Input(
                    "after", tooltip="The edited image. A batch or a list gives scores for each, in the same order."
                ),
                io.String.Input(
                    "instruction",
                    multiline=True,
                    default="",
                    tooltip="What should have changed: the text that the planner got.",
                ),
                PlanSocket.Input(
                    "plan",
                    optional=True,
                    tooltip="The plan that was edited by, for per_region: one for all edited images, or one for each.",
                ),
                io.Boolean.Input(
                    "per_region",
                    default=False,
                    tooltip="Also ask about each enabled region of the plan, on cut-outs: is its hint done, is the "
                    "rest there as it was, and, where the hint quotes a text, which text is seen. Two or three more "
                    "replies for each region.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=False,
                    tooltip="The judge always gives its likeliest reply, so the same images get the same scores and "
                    "this changes nothing. Another number only makes ComfyUI ask once more.",
                ),
                io.Int.Input(
                    "max_tokens",
                    default=2048,
                    min=16,
                    max=32768,
                    tooltip="The longest reply to one question. A judge that thinks long needs more; one that was cut "
                    "off before its score is told.",
                ),
                io.Float.Input(
                    "max_megapixels",
                    default=1.0,
                    min=0.05,
                    max=12.8,
                    step=0.05,
                    optional=True,
                    tooltip="Area at which the model sees each image. More shows smaller faults and costs time and "
                    "memory.",
                ),
                io.String.Input(
                    "referring_expression",
                    default="",
                    optional=True,
                    tooltip="Words for the thing that is meant, where the instruction only hints at it; the benchmark "
                    "IV-Edit has them. Empty: the judge finds out by itself.",
                ),
            ],
            outputs=[
                ScoresSocket.Output(
                    "scores",
                    is_output_list=True,
                    tooltip="All scores, for RePlan Pick Best and RePlan Failed Regions; what got no answer is named "
                    "in them.",
                ),
                io.Float.Output(
                    "overall",
                    is_output_list=True,
                    tooltip="Mean of the four questions, 1 to 5. nan (not a number) unless all four have an answer.",
                ),
                io.Float.Output(
                    "weighted",
                    is_output_list=True,
                    tooltip="Weighted score of IV-Edit, 0 to 5: what was kept and how well it is made count by as much "
                    "as the edit took effect. nan (not a number) unless all four questions have an answer.",
                ),
                io.String.Output(
                    "report",
                    is_output_list=True,
                    tooltip="Each score with the judge's reason, what got no answer and why, and the cost.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        planner,
        before,
        after,
        instruction,
        seed,
        max_tokens,
        per_region=None,
        plan=None,
        max_megapixels=None,
        referring_expression=None,
    ) -> io.NodeOutput:
        from ..evaluation.judge import Edit, judge_edits
        from ..evaluation.judge_questions import MOST_PIXELS

        with naming(cls, planner=planner, before=before, after=after, plan=plan):
            plans = [one for one in plan or [] if one is not None]
            per_region = bool(setting(per_region, 0, False))
            if per_region and not plans:
                raise PlanError("per_region asks about the regions of a plan; connect the plan, or turn per_region off")
            pairs = pair_for_judging(before, after, plans, (instruction, referring_expression or ()))
            edits = [
                Edit(
                    original,
                    edited,
                    setting(instruction, run, ""),
                    its_plan if per_region else None,
                    setting(referring_expression, run, ""),
                )
                for run, (original, edited, its_plan) in enumerate(pairs)
            ]
            sampling = Sampling(setting(max_tokens, 0), seed=setting(seed, 0))
            most_pixels = round(setting(max_megapixels, 0, 1.0) * MOST_PIXELS)
            judged = judge_edits(planner[0], edits, sampling, most_pixels, show_progress)
        for number, one in enumerate(judged, 1):
            which = f"image {number} of {len(judged)}: " if len(judged) > 1 else ""
            if text := _unanswered(one):
                tell(cls, [Notice("not_answered", f"{which}{text}", "see the report")])
        show_progress(_outcome(judged))
        unused = "\nNote: the plan was not used; turn per_region on to judge its regions"
        return io.NodeOutput(
            [one.scores for one in judged],
            [one.scores.image.get("overall", math.nan) for one in judged],
            [one.scores.image.get("weighted", math.nan) for one in judged],
            [one.report + (unused if plans and not per_region else "") for one in judged],
        )


def _unanswered(judged: Judgement) -> str:
    missing = judged.scores.missing
    return f"the judge gave no answer to {', '.join(missing)}" if missing else ""


def _outcome(judged: list[Judgement]) -> str:
    known = [one.scores.image["weighted"] for one in judged if "weighted" in one.scores.image]
    if len(judged) == 1:
        return f"Weighted {known[0]:.2f} of 5" if known else "no Weighted: an answer is missing"
    return f"{len(known)} of {len(judged)} edits have all four scores"


NODES = [RePlanJudge]
