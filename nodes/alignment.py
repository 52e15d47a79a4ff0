"""The node that compares an edit with descriptions of what it should show, by ComfyUI's image and text encoders."""

from __future__ import annotations

from comfy_api.latest import io

from ..planner.pictures.batches import for_each, setting, single_images
from ..planner.plan import PlanError
from .folders import fusion_names, fusion_path, fusion_stamp
from .notices import tell
from .sockets import CATEGORY, PlanSocket, ScoresSocket, naming

MEAN = "mean"


class RePlanAlignment(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RePlanAlignment",
            display_name="RePlan Alignment",
            category=f"{CATEGORY}/evaluation",
            description="Compares an edited image with what it should show: each region in the context of its scene, "
            "and the whole image, by CLIP. With a reference also image with image (CLIP-I, DINO). For RePlan Pick "
            "Best, and to compare settings.",
            search_aliases=["clip score", "clip similarity", "region in context", "dino score", "score edit", "rank"],
            is_input_list=True,
            inputs=[
                io.Image.Input("after", tooltip="The edited image. Each image of a batch or list gets its own scores."),
                PlanSocket.Input(
                    "plan",
                    tooltip="The plan of the edit. Its texts say what each region should show: the description after "
                    "the edit that the template 'result' asks for, else the hint.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    tooltip="The image encoder. A CLIP for scores with texts; with a DINO or SigLIP images are "
                    "compared with the reference only.",
                ),
                io.Clip.Input(
                    "clip",
                    tooltip="The text encoder that belongs to the image encoder, such as clip_l for CLIP ViT-L. Not "
                    "used with a DINO or SigLIP.",
                ),
                io.String.Input(
                    "scene",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="What the whole image should show after the edit; several lines are averaged. Empty: the "
                    "plan's description of the scene after the edit, else its global prompt.",
                ),
                io.Image.Input(
                    "reference",
                    optional=True,
                    tooltip="An image to compare with, whole and region by region: the wanted result, or the image "
                    "before the edit. Adds clip_i, or dino with a DINO.",
                ),
                io.Image.Input(
                    "before",
                    optional=True,
                    tooltip="The image before the edit. Adds 'closer' to each region, from 0 (no nearer to its text "
                    "than before) to 1, which RePlan Failed Regions compares with its threshold.",
                ),
                io.Combo.Input(
                    "fusion",
                    options=[MEAN, *fusion_names()],
                    default=MEAN,
                    optional=True,
                    tooltip="How a region and its scene become one. mean: of their features. Or trained weights of a "
                    "gated fusion, from models/replan_fusion.",
                ),
            ],
            outputs=[
                ScoresSocket.Output(
                    display_name="scores",
                    is_output_list=True,
                    tooltip="The scores of each image; higher is better. 'alignment' is the mean of scene and regions.",
                ),
                io.String.Output(
                    display_name="report",
                    is_output_list=True,
                    tooltip="Every score with the text it belongs to, and how it was made.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, fusion=(MEAN,), **others):
        try:
            return " ".join(fusion_stamp(name) for name in fusion if name != MEAN)
        except (PlanError, OSError):
            return "missing"

    @classmethod
    def execute(
        cls, after, plan, clip_vision, clip, scene=None, reference=None, before=None, fusion=None
    ) -> io.NodeOutput:
        from ..evaluation.alignment import Aligner
        from ..evaluation.encoders import ImageEncoder, TextEncoder
        from ..evaluation.fusion import load_fusion

        scores, reports = [], []
        with naming(cls, after=after, plan=plan, clip_vision=clip_vision, clip=clip):
            images = single_images(after)
            plans = for_each(plan, len(images), "plan", "edited image")
            references, befores = (
                for_each(given, len(images), what, "edited image") if given else [None] * len(images)
                for given, what in (
                    (single_images(reference or ()), "reference"),
                    (single_images(before or ()), "image before the edit"),
                )
            )
            chosen = setting(fusion, 0, MEAN)
            align = Aligner(
                ImageEncoder(clip_vision[0]),
                TextEncoder(clip[0]),
                None if chosen == MEAN else load_fusion(fusion_path(chosen)),
            )
            for index, (image, its_plan) in enumerate(zip(images, plans, strict=True)):
                text = setting(scene, index, "")
                found = align(image, its_plan, text, references[index], befores[index])
                tell(cls, found.notices)
                scores.append(found.scores)
                reports.append(found.report)
        return io.NodeOutput(scores, reports)


NODES = [RePlanAlignment]
