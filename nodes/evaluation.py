"""Nodes that say what an edit is worth, and choose by it: the edit report, the best of several, the regions to redo."""

from __future__ import annotations

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..evaluation.choose import failed_regions, pick_best
from ..evaluation.metrics import MOST_PSNR, VISIBLE
from ..evaluation.report import edit_report
from ..planner.pictures.batches import for_each, pair_for_judging, setting, single_images
from ..planner.plan import PlanError
from .notices import tell
from .sockets import CATEGORY, PlanSocket, ScoresSocket, naming

_CATEGORY = f"{CATEGORY}/evaluation"


class RePlanEditReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RePlanEditReport",
            display_name="RePlan Edit Report",
            category=_CATEGORY,
            description="Measures what an edit changed inside each region, at their borders and outside, and shows it: "
            "before, after and a heat map. Needs no model.",
            search_aliases=[
                "compare images",
                "difference map",
                "psnr",
                "ssim",
                "what changed",
                "before after",
                "image metrics",
            ],
            is_output_node=True,
            is_input_list=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                io.Image.Input(
                    "before",
                    tooltip="The image before the edit: one for all edits, or one for each.",
                ),
                io.Image.Input(
                    "after",
                    tooltip="The edited image, of the same size (RePlan Restore gives it that). At another size of the "
                    "same shape it is resized, with a warning. Each image of a batch gets a report of its own.",
                ),
                PlanSocket.Input(
                    "plan",
                    optional=True,
                    tooltip="The plan that was edited by, for either image, at any size; regions that are off do not "
                    "count. Without one all figures are of the whole image.",
                ),
                io.Float.Input(
                    "threshold",
                    default=VISIBLE,
                    min=0.0,
                    max=0.99,
                    step=0.01,
                    optional=True,
                    tooltip="A pixel counts as changed when one of its colours differs by more than this, from 0 to 1. "
                    "The default is about 13 of 255 levels, which a viewer sees; a VAE changes most pixels by less.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="heat_map",
                    is_output_list=True,
                    tooltip="Before, after and what changed side by side, with the regions' outlines, one for each "
                    "edit.",
                ),
                io.String.Output(
                    display_name="report",
                    is_output_list=True,
                    tooltip="The figures in words: each region, the borders, the outside.",
                ),
                io.Float.Output(
                    display_name="outside_psnr",
                    is_output_list=True,
                    tooltip="Peak signal to noise ratio of what lies outside the regions, in dB; "
                    f"{MOST_PSNR:g} where nothing changed to the bit.",
                ),
                io.Float.Output(
                    display_name="outside_changed",
                    is_output_list=True,
                    tooltip="Share of the pixels outside the regions that changed, 0 to 1.",
                ),
                ScoresSocket.Output(
                    display_name="scores",
                    is_output_list=True,
                    tooltip="All figures, for RePlan Pick Best and RePlan Failed Regions, one set for each edit.",
                ),
            ],
        )

    @classmethod
    def execute(cls, before, after, plan=None, threshold=None) -> io.NodeOutput:
        # Lists: only so can a batch be matched with one plan for each of its images.
        rows, told = [], []
        with naming(cls, before=before, after=after, plan=plan):
            plans = [one for one in plan or [] if one is not None]
            for i, (first, second, its_plan) in enumerate(pair_for_judging(before, after, plans, (threshold,))):
                made = edit_report(first, second, its_plan, setting(threshold, i, VISIBLE))
                told += made.notices
                image = torch.from_numpy(np.asarray(made.image, np.float32)[None] / 255.0)
                psnr = made.scores.image.get("outside_psnr", MOST_PSNR)
                rows.append((image, made.text, psnr, made.scores.image.get("outside_changed", 0.0), made.scores))
        tell(cls, told)
        outputs = [list(column) for column in zip(*rows, strict=True)]
        files = [file for image in outputs[0] for file in ui.PreviewImage(image, cls=cls).as_dict()["images"]]
        return io.NodeOutput(*outputs, ui={"images": files, "animated": (False,), "text": outputs[1]})


class RePlanPickBest(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RePlanPickBest",
            display_name="RePlan Pick Best",
            category=_CATEGORY,
            description="Keeps the best of several edits by any of their scores, and says what all of them scored.",
            search_aliases=["best of n", "choose image", "rank images", "select by score", "keep best"],
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="The edits to choose from, as a batch or a list, of any sizes."),
                ScoresSocket.Input(
                    "scores",
                    tooltip="One set for each image, in the same order: from RePlan Edit Report, RePlan Judge or "
                    "RePlan Alignment.",
                ),
                io.String.Input(
                    "by",
                    default="",
                    tooltip="The score to choose by, such as outside_psnr or weighted; the report lists all. Empty: "
                    "the main one: edited_and_kept of the edit report, weighted of the judge, alignment of RePlan "
                    "Alignment.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The best edit; of equally good ones the first."),
                io.Int.Output(display_name="index", tooltip="Which it is, counted from 0, as ImageFromBatch counts."),
                io.String.Output(
                    display_name="report", tooltip="Which was taken, ties, and every score of every edit."
                ),
            ],
        )

    @classmethod
    def execute(cls, images, scores, by=None) -> io.NodeOutput:
        with naming(cls, images=images, scores=scores):
            edits = single_images(images)
            if len(scores) != len(edits):
                raise PlanError(
                    f"found {len(edits)} image{'s' * (len(edits) != 1)} and {len(scores)} "
                    f"set{'s' * (len(scores) != 1)} of scores; connect the images that were scored, in the same order"
                )
            choice = pick_best(scores, setting(by, 0, "").strip())
        return io.NodeOutput(edits[choice.index], choice.index, choice.report)


class RePlanFailedRegions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RePlanFailedRegions",
            display_name="RePlan Failed Regions",
            category=_CATEGORY,
            description="The plan of the regions that a first edit left undone, for a second edit of its result.",
            search_aliases=["redo regions", "retry edit", "second pass", "undone regions", "fix failed edit"],
            is_input_list=True,
            inputs=[
                PlanSocket.Input("plan", tooltip="The plan that was edited by: the one that gave the scores."),
                ScoresSocket.Input(
                    "scores",
                    tooltip="What says which regions are done: RePlan Judge with per_region, RePlan Alignment with "
                    "before, or RePlan Edit Report, which only sees whether a region changed.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Regions that score below this failed. Regions without an answer do not, with a warning.",
                ),
            ],
            outputs=[
                PlanSocket.Output(
                    display_name="plan",
                    is_output_list=True,
                    tooltip="The failed regions alone, for the same image size, one plan for each set of scores.",
                ),
                io.Int.Output(display_name="count", is_output_list=True, tooltip="How many regions failed."),
                io.String.Output(
                    display_name="report", is_output_list=True, tooltip="Each region, its score, and whether it failed."
                ),
            ],
        )

    @classmethod
    def execute(cls, plan, scores, threshold=None) -> io.NodeOutput:
        with naming(cls, plan=plan, scores=scores):
            pairs = zip(for_each(plan, len(scores), "plan", "scored edit"), scores, strict=True)
            found = [failed_regions(*pair, setting(threshold, i, 0.5)) for i, pair in enumerate(pairs)]
        known = {notice for one in plan for notice in one.notices}
        tell(cls, [notice for failed in found for notice in failed.plan.notices], known)
        return io.NodeOutput(*(list(column) for column in zip(*found, strict=True)))


NODES = [RePlanEditReport, RePlanPickBest, RePlanFailedRegions]
