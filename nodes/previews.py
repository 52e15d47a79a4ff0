"""Nodes that show a plan as a picture."""

from __future__ import annotations

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..planner.pictures.draw import draw_plan
from ..planner.pictures.images import image_size
from ..planner.plans.resize import shape_warning
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
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                PlanSocket.Input("plan", tooltip="The plan to draw."),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The image the plan is for, at any size; without one the plan is drawn on grey.",
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
                    tooltip="The drawing, one per image; a small image comes enlarged so that the hints can be read.",
                )
            ],
        )

    @classmethod
    def execute(cls, plan, image=None, patch=0) -> io.NodeOutput:
        with naming(cls):
            misfit = "" if image is None else shape_warning(plan, image_size(image))
            pictures = [None] if image is None else [one.float().cpu().numpy() for one in image]
            drawn = [draw_plan(picture, plan, patch) for picture in pictures]
        preview = torch.from_numpy(np.stack([np.asarray(one) for one in drawn]).astype(np.float32) / 255.0)
        tell(cls, [misfit])
        # The plan's own warnings are in the log already; here they stand beside the picture they are about.
        said = [f"Warning: {warning}" for warning in (*plan.warnings, misfit) if warning]
        shown = ui.PreviewImage(preview, cls=cls).as_dict()
        return io.NodeOutput(preview, ui={**shown, "text": said} if said else shown)


NODES = [RePlanPlanPreview]
