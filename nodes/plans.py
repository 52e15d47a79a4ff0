"""Nodes that make plans, write them as text, and change them. The work is in `planner`.

A batch of images has one size, so one text is one plan, for every image of it: a list of equal plans would only
make ComfyUI sample the whole batch again for each. A list of texts (a planner's replies, one for each image)
gives a list of plans, because ComfyUI runs a node once for each member of a list. Boxes can differ from image
to image of a batch: there the plan is a list.
"""

import torch
from comfy_api.latest import io

from ..planner.pictures.images import image_size
from ..planner.plan import KEEP_UNCHANGED, PlanError, RegionPlan
from ..planner.plans.change import EXPAND_MODES, expand_regions, merge_plans
from ..planner.plans.inputs import plan_from_masks, plans_from_boxes
from ..planner.plans.lint import SERIOUS, lint
from ..planner.plans.plan_json import plan_to_json
from ..planner.plans.report import describe_plan
from ..planner.plans.tags import write_tags
from ..planner.replies import COORDINATES, read_plan
from .notices import tell
from .sockets import CATEGORY, PlanSocket, naming

_MAX_SIDE = 65536
_CATEGORY = f"{CATEGORY}/plan"


class RePlanPlanFromText(io.ComfyNode):
    """A plan out of a text that a person or any language model wrote."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RePlanPlanFromText",
            display_name="RePlan Plan from Text",
            category=_CATEGORY,
            description="Reads a plan from JSON, from RePlan's tags (<think>, <gen_image>, <region>), or from a list "
            "of regions. What had to be repaired or dropped is in the report.",
            search_aliases=[
                "region plan",
                "parse plan",
                "json to regions",
                "bounding boxes from text",
                "bbox json",
                "vlm grounding",
            ],
            inputs=[
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="The plan as JSON, the answer of a planner with its tags, or a list of regions, "
                    "each with bbox_2d [x1, y1, x2, y2] and hint. One text is one plan for all images of a batch.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The image to edit; only its size is used. Not needed for a text that names its image "
                    "size.",
                ),
                io.Combo.Input(
                    "coordinates",
                    options=list(COORDINATES),
                    default="auto",
                    optional=True,
                    tooltip="What the numbers of the boxes count; a text that names its image size is in its pixels. "
                    "auto: 0..1, percent or 0..1000 where most boxes show it, else pixels of the image as Qwen2.5-VL "
                    "sees it. pixels: of the connected image (what the published code does). relative_1000: Qwen3-VL, "
                    "Qwen2-VL, GLM-4V. relative_1000_y_first: Gemini, Gemma (top edge first). relative_100: percent.",
                ),
                io.Int.Input(
                    "seen_width",
                    default=0,
                    min=0,
                    max=_MAX_SIDE,
                    optional=True,
                    tooltip="Width of the image that the model saw, in pixels; 0: as Qwen2.5-VL resizes the "
                    "connected image.",
                ),
                io.Int.Input(
                    "seen_height",
                    default=0,
                    min=0,
                    max=_MAX_SIDE,
                    optional=True,
                    tooltip="Height of the image that the model saw, in pixels; 0: as Qwen2.5-VL resizes the "
                    "connected image.",
                ),
            ],
            outputs=_plan_outputs(),
        )

    @classmethod
    def execute(cls, text, image=None, coordinates="auto", seen_width=0, seen_height=0) -> io.NodeOutput:
        with naming(cls):
            plan, note = read_plan(
                text, None if image is None else image_size(image), coordinates, (seen_width, seen_height)
            )
        return io.NodeOutput(*_answer(cls, plan, note))


class RePlanPlanToText(io.ComfyNode):
    """A plan as a text to keep, edit by hand, or give to another tool."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RePlanPlanToText",
            display_name="RePlan Plan to Text",
            category=_CATEGORY,
            description="Writes a plan as JSON (all of it, exactly) or as RePlan's tags (boxes in whole pixels).",
            search_aliases=["region plan to json", "save plan", "export regions", "regions to text"],
            inputs=[
                PlanSocket.Input("plan", tooltip="The plan to write."),
                io.Combo.Input(
                    "format",
                    options=["json", "tags"],
                    default="json",
                    optional=True,
                    tooltip="json: keeps all of the plan. tags: what the published RePlan reads and writes, with "
                    "boxes as whole pixels of the plan's image.",
                ),
            ],
            outputs=[io.String.Output("text", tooltip="The plan; RePlan Plan from Text reads both forms.")],
        )

    @classmethod
    def execute(cls, plan, format="json") -> io.NodeOutput:
        with naming(cls, plan=plan):
            return io.NodeOutput(write_tags(plan) if format == "tags" else plan_to_json(plan))


class RePlanPlanFromBoxes(io.ComfyNode):
    """Boxes that a detector found or a person drew, with a hint each."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RePlanPlanFromBoxes",
            display_name="RePlan Plan from Boxes",
            category=_CATEGORY,
            description="Makes a plan from bounding boxes and one hint a line. Boxes found separately in each image of "
            "a batch give a list of plans, one for each image.",
            search_aliases=["bounding boxes to regions", "bbox", "detections", "region plan", "elements"],
            inputs=[
                io.MultiType.Input(
                    "boxes",
                    [io.BoundingBox, io.Array, io.String, io.Custom("BBOX"), io.Custom("JSON")],
                    tooltip="Bounding boxes (x, y, width, height in pixels), the elements of Create Bounding Boxes, "
                    "BBOX or JSON of a detector ([x1, y1, x2, y2] in pixels, perhaps with labels), or a JSON text of "
                    "any of them.",
                ),
                io.Image.Input("image", tooltip="The image that the boxes are on; only its size is used."),
                io.String.Input(
                    "hints",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="One hint a line, in the order of the boxes. Empty: descriptions and labels are the hints.",
                ),
                _global_prompt_input(),
            ],
            outputs=_plan_outputs(as_list=True),
        )

    @classmethod
    def execute(cls, boxes, image, hints="", global_prompt=KEEP_UNCHANGED) -> io.NodeOutput:
        with naming(cls, boxes=boxes, image=image):
            plans = plans_from_boxes(boxes, image_size(image), hints, global_prompt, images=image.shape[0])
        answers = [_answer(cls, plan) for plan in plans]
        return io.NodeOutput(*(list(column) for column in zip(*answers, strict=True)))


class RePlanPlanFromMasks(io.ComfyNode):
    """Painted or segmented masks, with a hint each."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RePlanPlanFromMasks",
            display_name="RePlan Plan from Masks",
            category=_CATEGORY,
            description="Makes a plan with one region for each mask of a batch: its tight box, and inside it only the "
            "patches that the mask touches.",
            search_aliases=["mask to region", "segmentation to regions", "region plan", "masks to boxes"],
            inputs=[
                io.Mask.Input(
                    "masks",
                    tooltip="A batch of masks as large as the image to edit, one for each region (inside is above "
                    "0.5).",
                ),
                io.String.Input(
                    "hints",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="One hint a line, in the order of the masks.",
                ),
                _global_prompt_input(),
            ],
            outputs=_plan_outputs(),
        )

    @classmethod
    def execute(cls, masks, hints="", global_prompt=KEEP_UNCHANGED) -> io.NodeOutput:
        with naming(cls, masks=masks):
            plan = plan_from_masks(masks.detach().to("cpu", torch.float32).numpy(), hints, global_prompt)
        return io.NodeOutput(*_answer(cls, plan))


class RePlanMergePlans(io.ComfyNode):
    """Several plans for one image as one."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RePlanMergePlans",
            display_name="RePlan Merge Plans",
            category=_CATEGORY,
            description="Puts the regions of several plans for one image into one plan. Global prompts that ask for "
            "something are joined; 'keep ... unchanged' gives way to them.",
            search_aliases=["combine plans", "join regions", "add regions", "region plan"],
            is_input_list=True,
            inputs=[
                io.Autogrow.Input(
                    "plans",
                    io.Autogrow.TemplateNames(
                        PlanSocket.Input("plan", tooltip="A plan; all must be for an image of the same size."),
                        names=[f"plan_{number}" for number in range(1, 33)],
                        min=1,
                    ),
                    tooltip="The plans to put together; a new socket appears with each one connected.",
                ),
            ],
            outputs=[
                PlanSocket.Output(
                    "plan",
                    is_output_list=True,
                    tooltip="One plan with the regions of all, in the order of the sockets. Lists of plans merge one "
                    "by one.",
                )
            ],
        )

    @classmethod
    def execute(cls, plans) -> io.NodeOutput:
        # Lists: ComfyUI would repeat the last plan of a shorter list, which is another image's.
        with naming(cls):
            lists = [each for value in plans.values() if value and (each := [one for one in value if one is not None])]
            runs = max(map(len, lists), default=1)
            for each in lists:
                if len(each) not in (1, runs):
                    raise PlanError(
                        f"one socket has {runs} plans and another {len(each)}, so which belong together is not known; "
                        "connect one plan, or one for each image, to every socket"
                    )
            merged = [merge_plans(*(each[i % len(each)] for each in lists)) for i in range(runs)]
        known = {notice for each in lists for plan in each for notice in plan.notices}
        tell(cls, [notice for plan in merged for notice in plan.notices], known)
        return io.NodeOutput(merged)


class RePlanExpandRegions(io.ComfyNode):
    """Larger or smaller boxes."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RePlanExpandRegions",
            display_name="RePlan Expand Regions",
            category=_CATEGORY,
            description="Moves every side of every box out and clamps it to the image; negative values shrink. Room "
            "around an object lets an edit change its outline.",
            search_aliases=["grow boxes", "pad boxes", "enlarge regions", "shrink regions", "region plan"],
            inputs=[
                PlanSocket.Input("plan", tooltip="The plan whose boxes to expand."),
                io.Float.Input(
                    "value",
                    default=0.15,
                    min=-4096.0,
                    max=4096.0,
                    step=0.01,
                    round=False,
                    optional=True,
                    tooltip="How far each side moves out. ratio 0.15 makes a box 1.3 times as wide and high; the "
                    "published defaults are 0.15 for Flux and 0 for Qwen-Image-Edit. Negative values shrink.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(EXPAND_MODES),
                    default="ratio",
                    optional=True,
                    tooltip="ratio: the value times the box's own width or height. pixels: of the plan's image. "
                    "published: as ratio, with edges cut to whole pixels as the published code cuts them.",
                ),
            ],
            outputs=[
                PlanSocket.Output("plan", tooltip="The plan with other boxes; ids, hints and masks are the same.")
            ],
        )

    @classmethod
    def execute(cls, plan, value=0.15, mode="ratio") -> io.NodeOutput:
        with naming(cls, plan=plan):
            expanded = expand_regions(plan, value, mode)
        tell(cls, expanded.notices, known=plan.notices)
        return io.NodeOutput(expanded)


def _plan_outputs(as_list: bool = False) -> list[io.Output]:
    return [
        PlanSocket.Output("plan", is_output_list=as_list, tooltip="The plan, in pixels of the image."),
        io.String.Output(
            "global_prompt",
            is_output_list=as_list,
            tooltip="The text for the whole image: connect it to the text encoder.",
        ),
        io.String.Output(
            "report",
            is_output_list=as_list,
            tooltip="The plan in words, how its boxes were read, and what to check.",
        ),
    ]


def _global_prompt_input() -> io.String.Input:
    return io.String.Input(
        "global_prompt",
        multiline=True,
        default=KEEP_UNCHANGED,
        optional=True,
        tooltip="What should happen to the image as a whole; the default asks to leave the rest as it is.",
    )


def _answer(node: type[io.ComfyNode], plan: RegionPlan, *notes: str) -> tuple[RegionPlan, str, str]:
    findings = lint(plan)
    tell(node, (*plan.notices, *(finding for finding in findings if finding.code in SERIOUS)))
    return plan, plan.global_prompt, describe_plan(plan, *notes, findings=findings)


NODES = [
    RePlanPlanFromText,
    RePlanPlanToText,
    RePlanPlanFromBoxes,
    RePlanPlanFromMasks,
    RePlanMergePlans,
    RePlanExpandRegions,
]
