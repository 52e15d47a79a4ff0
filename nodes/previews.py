"""Nodes that draw a plan."""

from __future__ import annotations

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..planner.pictures.batches import pair_plans, setting
from ..planner.pictures.draw import draw_plan
from ..planner.pictures.images import image_size
from ..planner.plans.resize import shape_notice
from .notices import tell
from .sockets import CATEGORY, PlanSocket, naming


class RePlanPlanPreview(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RePlanPlanPreview",
            display_name="RePlan Plan Preview",
            category=f"{CATEGORY}/plan",
            description="Draws a plan over its image: boxes, hints and masks, and the patches each region covers.",
            search_aliases=["show plan", "draw boxes", "visualize regions", "bounding box preview", "bbox overlay"],
            is_output_node=True,
            is_input_list=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                PlanSocket.Input("plan", tooltip="The plan to draw."),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The image the plan is for, at any size; without one the plan is drawn on grey. With as "
                    "many plans as a batch has images, each is drawn on its own.",
                ),
                io.Int.Input(
                    "patch",
                    default=0,
                    min=0,
                    max=256,
                    optional=True,
                    tooltip="Also show the patches each region covers, of this many pixels of the plan's image: 16 for "
                    "Flux and Qwen-Image. 0 shows none.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="preview",
                    is_output_list=True,
                    tooltip="The drawing, one per image; a small image comes enlarged so that the hints can be read.",
                )
            ],
        )

    @classmethod
    def execute(cls, plan, image=None, patch=None) -> io.NodeOutput:
        # Lists: only so can a batch be matched with one plan for each of its images.
        previews, told = [], []
        with naming(cls, plan=plan):
            images, plans = pair_plans([one for one in image or [] if one is not None] or [None], plan, (patch,))
            for i, (one, its_plan) in enumerate(zip(images, plans, strict=True)):
                misfit = None if one is None else shape_notice(its_plan, image_size(one))
                tell(cls, [misfit] if misfit else [])
                # The plan's own notices are in the log already; here they stand beside the image they are about.
                told += [*its_plan.notices, *([misfit] if misfit else [])]
                pixels = [None] if one is None else [each.float().cpu().numpy() for each in one]
                drawn = [np.asarray(draw_plan(each, its_plan, setting(patch, i, 0))) for each in pixels]
                previews.append(torch.from_numpy(np.stack(drawn).astype(np.float32) / 255.0))
        files = [file for preview in previews for file in ui.PreviewImage(preview, cls=cls).as_dict()["images"]]
        shown = {"images": files, "animated": (False,)}
        text = [f"Warning: {notice}" for notice in dict.fromkeys(told)]
        return io.NodeOutput(previews, ui={**shown, "text": text} if text else shown)


NODES = [RePlanPlanPreview]
