"""The region editor: a plan drawn, corrected and kept on the canvas. Its page is `web/js/editor`.

The stored value is all the node needs: a prompt over the API gives the same plan without a browser.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..planner.pictures.batches import pair_plans
from ..planner.pictures.draw import draw_plan
from ..planner.pictures.images import image_size, in_colours, resize_pixels
from ..planner.pictures.masks import MOST_CELLS, region_masks
from ..planner.plan import PlanError
from ..planner.plans.editor_value import FOLLOW, Choice, choose_plan, remember_plan
from ..planner.plans.plan_json import encode_json, plan_to_json
from .notices import show_output, tell
from .sockets import CATEGORY, PlanSocket, naming

# The longest side in pixels of the image that the page shows behind the boxes, and of the drawn preview.
_SHOWN_SIDE = 1536
_REGIONS_WIDGET = 1  # place of `regions` among the node's widgets
_NO_PAGE = (
    "the page sent an empty text as 'regions': its script did not load, so there is no editor and nothing can be "
    "drawn. Reload the page without its cache (Ctrl+Shift+R) and let the browser load scripts from /extensions, or "
    "write a plan's JSON into the text field"
)


class RePlanRegionEditor(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RePlanRegionEditor",
            display_name="RePlan Region Editor",
            category=f"{CATEGORY}/plan",
            description="Draw, correct and keep a plan on its image: boxes, hints, global prompt. The plan from "
            "upstream shows until you edit it; then yours stays and a changed one is offered.",
            search_aliases=[
                "draw boxes",
                "bounding box editor",
                "bbox editor",
                "edit regions",
                "region prompt",
                "regional prompter",
                "annotate image",
            ],
            is_output_node=True,
            is_input_list=True,
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The image to edit, shown behind the boxes; they count its pixels.",
                ),
                PlanSocket.Input(
                    "plan",
                    optional=True,
                    tooltip="A plan to start from, of a planner or any other node; without one you draw.",
                ),
                io.Combo.Input(
                    "follow_upstream",
                    options=list(FOLLOW),
                    default="until_edited",
                    optional=True,
                    tooltip="until_edited: the plan from upstream is shown and used until you edit it; then yours "
                    "stays and a changed one is offered. always: the plan from upstream, never yours. never: yours; "
                    "upstream is only offered.",
                ),
                io.String.Input(
                    "regions",
                    default="",
                    multiline=True,
                    optional=True,
                    socketless=True,
                    tooltip="The plan as JSON, drawn by the editor and saved in the workflow. Over the API it may be "
                    "any plan's JSON. If you see a text field, the editor's page script did not load: reload the page.",
                ),
            ],
            outputs=[
                PlanSocket.Output(
                    "plan", is_output_list=True, tooltip="The plan as the editor shows it, in pixels of the image."
                ),
                io.String.Output(
                    "global_prompt", is_output_list=True, tooltip="The plan's global prompt, for the text encoder."
                ),
                io.Image.Output(
                    "preview",
                    is_output_list=True,
                    tooltip="The plan drawn over each image, at most 1536 pixels a side.",
                ),
                io.Mask.Output(
                    "masks",
                    is_output_list=True,
                    tooltip="One mask per region that is on, at the image's size, in the plan's order; a single empty "
                    "mask without regions. With very many regions on a very large image the masks are smaller.",
                ),
                io.BoundingBox.Output(
                    "boxes",
                    is_output_list=True,
                    tooltip="The boxes in whole pixels (x, y, width, height), each with its hint as description.",
                ),
            ],
        )

    @classmethod
    def execute(cls, image, plan=None, follow_upstream=None, regions=None) -> io.NodeOutput:
        # Lists: only so can a batch be matched with one plan for each of its images.
        follow, stored = (follow_upstream or ["until_edited"])[0], (regions or [""])[0]
        page: dict[str, list] = {"replan_background": [], "replan_editor": []}
        outputs = []
        with naming(cls, image=image, plan=plan):
            if cls.hidden.extra_pnginfo and not stored.strip():  # the page's own script always sends something
                raise PlanError(_NO_PAGE)
            images, plans = pair_plans(image, [one for one in plan or [] if one is not None])
            for one, upstream in zip(images, plans, strict=True):
                choice = choose_plan(stored, upstream, follow, image_size(one))
                if choice.source == "stored" and len(set(plans)) > 1:
                    raise PlanError(
                        f"{len(plans)} plans came in, and the one plan that is stored here would replace them all; "
                        "give each image an editor of its own (ComfyUI's ImageFromBatch takes one out), or set "
                        "follow_upstream to 'always'"
                    )
                chosen = choice.plan
                known = upstream.notices if upstream is not None else ()
                tell(cls, chosen.notices, known, page=False)  # the editor says them
                shown = in_colours(resize_pixels(one[:1], _shown_size(image_size(one)))).float()
                page["replan_background"] += ui.PreviewImage(shown, cls=None).as_dict()["images"]
                page["replan_editor"].append(encode_json(_for_page(choice, image_size(one))))
                if choice.question:
                    show_output(page)  # the page gets the image that it asks about
                    raise PlanError(f"{choice.question}; nothing was edited")
                outputs.append((chosen, chosen.global_prompt, _preview(one, chosen), _masks(chosen), _boxes(chosen)))
        if choice.source == "upstream" and len(plans) == 1 and cls.hidden.extra_pnginfo:
            value = {**json.loads(plan_to_json(choice.upstream)), "editor": {"edited": False, "origin": "upstream"}}
            workflow = cls.hidden.extra_pnginfo.get("workflow")
            remember_plan(workflow, str(cls.hidden.unique_id), _REGIONS_WIDGET, encode_json(value))
        return io.NodeOutput(*map(list, zip(*outputs, strict=True)), ui=page)


def _for_page(choice: Choice, size: tuple[int, int]) -> dict:
    """What the page is told of an image of `size` (width, height) and its plan."""
    return {
        "image_size": list(size),
        "source": choice.source,
        "upstream": None if choice.upstream is None else json.loads(plan_to_json(choice.upstream)),
        "warnings": list(choice.plan.warnings),
    }


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, _SHOWN_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _preview(image, plan) -> torch.Tensor:
    small = resize_pixels(in_colours(image), _shown_size(image_size(image)))
    drawn = [np.asarray(draw_plan(one.float().cpu().numpy(), plan)) for one in small]
    return torch.from_numpy(np.stack(drawn).astype(np.float32) / 255.0)


def _masks(plan) -> torch.Tensor:
    plan = plan.active
    width, height = plan.image_size
    # A quarter of what RePlan Region Masks gives on request, because here the masks come unasked.
    while max(1, len(plan.regions)) * width * height > MOST_CELLS // 4:
        width, height = max(1, round(width / 2)), max(1, round(height / 2))
    return region_masks(plan, width, height)[0]


def _boxes(plan) -> list:
    """One frame of ComfyUI's bounding boxes; none at all without regions, as its own node gives them."""
    frame = []
    for region in plan.active.regions:
        left, top, right, bottom = (round(edge) for edge in region.box)
        words = {"type": "obj", "text": "", "desc": region.hint, "palette": []}
        frame.append(
            {
                "x": left,
                "y": top,
                "width": max(1, right - left),
                "height": max(1, bottom - top),
                "metadata": words,
            }
        )
    return [frame] if frame else []


NODES = [RePlanRegionEditor]
