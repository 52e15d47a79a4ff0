"""Nodes that bring an image to its working size and back, and turn a plan's regions into masks."""

from __future__ import annotations

from comfy_api.latest import io

from ..planner.pictures.batches import pair_for_restoring, pair_plans, setting
from ..planner.pictures.images import apply_transform, image_size, mask_stack, restore_image
from ..planner.pictures.masks import mask_notice, region_masks
from ..planner.plan import RegionPlan
from ..planner.plans.resize import METHODS, TARGETS, fit_plan, make_transform
from .notices import tell
from .sockets import CATEGORY, PlanSocket, TransformSocket, naming

LARGEST_SIDE = 16384


class RePlanResize(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RePlanResize",
            display_name="RePlan Resize",
            category=f"{CATEGORY}/image",
            description="Brings an image to the size a model family works at and moves the plan with it, so that the "
            "boxes stay on what they mark. RePlan Restore leads back.",
            search_aliases=[
                "resize with plan",
                "kontext scale",
                "scale image to model",
                "resize boxes",
                "working size",
            ],
            is_input_list=True,
            inputs=[
                io.Image.Input("image", tooltip="The image to edit, at any size."),
                PlanSocket.Input(
                    "plan",
                    optional=True,
                    tooltip="A plan for this image, moved along with it. As many plans as the batch has images: each "
                    "goes with its own image, and the batch comes out as a list. Without one an empty plan comes out.",
                ),
                io.Combo.Input(
                    "target",
                    options=list(TARGETS),
                    default="flux_kontext",
                    tooltip="The size to work at. flux_kontext: nearest of the 17 sizes of FLUX.1 Kontext. flux2: one "
                    "megapixel, sides multiples of 16. qwen_image_edit: one megapixel, multiples of 32 (with a VAE "
                    "connected, TextEncodeQwenImageEdit scales its reference once more). qwen_image_edit_plus: a "
                    "size of one megapixel that TextEncodeQwenImageEditPlus leaves as it is. multiple_of: each side "
                    "to the nearest multiple of the number below. none: unchanged; the VAE then crops sides that "
                    "are no multiple of 16.",
                ),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default="stretch",
                    tooltip="What to do with another aspect ratio. stretch: distort it slightly, nothing is lost. "
                    "crop: cut the centre out, as FluxKontextImageScale does; regions are clipped, with a warning. "
                    "pad: keep it whole and fill the rest by repeating its edges.",
                ),
                io.Int.Input(
                    "multiple",
                    default=16,
                    min=1,
                    max=512,
                    optional=True,
                    tooltip="For the target 'multiple_of': both sides become multiples of this many pixels.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", is_output_list=True, tooltip="The image at its working size."),
                PlanSocket.Output(
                    display_name="plan",
                    is_output_list=True,
                    tooltip="The plan for the working image: one for a whole batch, or one for each image of a list.",
                ),
                TransformSocket.Output(
                    display_name="transform", is_output_list=True, tooltip="Which pixel went where, for RePlan Restore."
                ),
            ],
        )

    @classmethod
    def execute(cls, image, target, method, plan=None, multiple=None) -> io.NodeOutput:
        # Every input is a list here: only so can a batch be matched with one plan for each of its images.
        with naming(cls, image=image, plan=plan):
            images, plans = pair_plans(image, [p for p in plan or [] if p is not None], (target, method, multiple))
        outputs, new = ([], [], []), []
        for i, (one, its_plan) in enumerate(zip(images, plans, strict=True)):
            with naming(cls):
                size = image_size(one)
                transform = make_transform(size, setting(target, i), setting(method, i), setting(multiple, i, 16))
                moved = transform.map_plan(RegionPlan(size) if its_plan is None else fit_plan(its_plan, size))
                for output, value in zip(outputs, (apply_transform(one, transform), moved, transform), strict=True):
                    output.append(value)
                new += [notice for notice in moved.notices if its_plan is None or notice not in its_plan.notices]
        tell(cls, new)
        return io.NodeOutput(*outputs)


class RePlanRestore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RePlanRestore",
            display_name="RePlan Restore",
            category=f"{CATEGORY}/image",
            description="Brings an edited image back to the size it had before RePlan Resize and, with a mask, keeps "
            "the original outside it.",
            search_aliases=[
                "resize back",
                "original size",
                "undo resize",
                "uncrop",
                "unpad",
                "paste back",
                "keep background",
            ],
            is_input_list=True,
            inputs=[
                io.Image.Input("image", tooltip="The edited image, at the working size."),
                TransformSocket.Input("transform", tooltip="From the RePlan Resize that made the working image."),
                io.Image.Input(
                    "original",
                    optional=True,
                    tooltip="The image before RePlan Resize. A crop is put back into it; without it the cropped part "
                    "comes out alone, at its original scale.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the edit is taken; everywhere else the original stays untouched, pixel for pixel. "
                    "'combined' of RePlan Region Masks, for example. Its size is the original's or the working one.",
                ),
                io.Int.Input(
                    "feather",
                    default=8,
                    min=0,
                    max=1024,
                    optional=True,
                    tooltip="Width in pixels of the soft edge between edit and original. It lies inside the mask and "
                    "inside the crop.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image",
                    is_output_list=True,
                    tooltip="The edited image at its original size, one for each edited image.",
                )
            ],
        )

    @classmethod
    def execute(cls, image, transform, original=None, mask=None, feather=None) -> io.NodeOutput:
        # Lists, so that a batch of originals finds the images that RePlan Resize made a list of.
        with naming(cls, image=image, transform=transform):
            originals = [one for one in original or [] if one is not None]
            masks = [mask_stack(one) for one in mask or [] if one is not None]
            for one in (*image, *originals):
                image_size(one)
            paired = pair_for_restoring(image, transform, originals, masks, (feather,))
            restored = [restore_image(*each, setting(feather, i, 8)) for i, each in enumerate(paired)]
        return io.NodeOutput(restored)


class RePlanRegionMasks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RePlanRegionMasks",
            display_name="RePlan Region Masks",
            category=f"{CATEGORY}/image",
            description="The regions of a plan as masks: one for each, one of the background, one of all regions.",
            search_aliases=["boxes to masks", "bbox to mask", "plan to mask", "background mask", "region mask"],
            inputs=[
                PlanSocket.Input("plan", tooltip="The plan whose regions become masks."),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=LARGEST_SIDE,
                    tooltip="Width of the masks in pixels; 0: as the plan's image.",
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=LARGEST_SIDE,
                    tooltip="Height of the masks in pixels; 0: as the plan's image.",
                ),
                io.Int.Input(
                    "feather",
                    default=0,
                    min=0,
                    max=1024,
                    tooltip="Width in pixels of a soft edge, inside each region; outside it the mask stays 0.",
                ),
            ],
            outputs=[
                io.Mask.Output(
                    display_name="masks",
                    tooltip="One mask per region, in the plan's order; a single empty mask when the plan has no "
                    "regions.",
                ),
                io.Mask.Output(display_name="background", tooltip="What is in no region: one minus 'combined'."),
                io.Mask.Output(display_name="combined", tooltip="All regions in one mask."),
            ],
        )

    @classmethod
    def execute(cls, plan, width=0, height=0, feather=0) -> io.NodeOutput:
        with naming(cls, plan=plan):
            masks = region_masks(plan, width, height, feather)
            notice = mask_notice(plan, (masks[0].shape[2], masks[0].shape[1]))
            tell(cls, [notice] if notice else [])
        return io.NodeOutput(*masks)


NODES = [RePlanResize, RePlanRestore, RePlanRegionMasks]
