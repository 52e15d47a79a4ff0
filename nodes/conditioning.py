"""The node that adds a plan's hints to any conditioning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from comfy_api.latest import io

from ..attention.hints import ENCODERS, USES, attach_hints
from ..attention.payload import HINT_PADDINGS
from ..planner.pictures.batches import for_each, setting
from .notices import tell
from .sockets import CATEGORY, PlanSocket, naming


class RePlanRegionConditioning(io.ComfyNode):
    """Encode each region's hint on its own and attach it beside a conditioning's text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        image = (
            "Qwen-Image-Edit only: the {} image that the text encoder of this conditioning was given. Hints are read "
            "with it in context."
        )
        return io.Schema(
            node_id="RePlanRegionConditioning",
            display_name="RePlan Region Conditioning",
            category=f"{CATEGORY}/conditioning",
            description="Encodes each hint of a plan on its own and attaches it to a conditioning; RePlan Apply Region "
            "Rules then shows it to its own region only. Guidance, reference latents, ControlNet and masks in the "
            "conditioning stay. A plan without regions changes nothing.",
            search_aliases=[
                "regional prompt",
                "region prompt",
                "regional conditioning",
                "area prompt",
                "box prompt",
                "hints",
                "replan",
            ],
            is_input_list=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            inputs=[
                io.Conditioning.Input(
                    "conditioning",
                    tooltip="The encoded global prompt, with whatever guidance and reference latents it carries.",
                ),
                io.Clip.Input(
                    "clip", tooltip="The text encoder that made this conditioning, with the same LoRA and hooks."
                ),
                PlanSocket.Input(
                    "plan",
                    tooltip="The regions whose hints are added. A planner's hint is plain text. A hint that a person "
                    "typed or changed takes the prompt syntax of CLIP Text Encode: embedding:name, on Flux.1 also "
                    "(word:1.2); \\( and \\) are parentheses.",
                ),
                io.Combo.Input(
                    "encoder",
                    options=list(ENCODERS),
                    default="auto",
                    tooltip="Qwen-Image-Edit only: the node that encoded the global prompt. edit: "
                    "TextEncodeQwenImageEdit. plus: TextEncodeQwenImageEditPlus. auto: finds out, and refuses images "
                    "that are not in the conditioning; edit and plus accept them, with a warning.",
                ),
                io.Combo.Input(
                    "use",
                    options=list(USES),
                    default="hint",
                    tooltip="hint: for the positive conditioning. negative_hint: for a second node like this one on "
                    "the negative conditioning; regions without a negative hint are left out there.",
                ),
                io.Combo.Input(
                    "hint_padding",
                    options=list(HINT_PADDINGS),
                    default="host",
                    tooltip="host: padded as ComfyUI pads any prompt for this text encoder. trim: only the hint's "
                    "own tokens, faster and further from what the model was trained on. reference: 512 T5 tokens a "
                    "hint as in the published code (Flux.1; other encoders as host).",
                ),
                io.Image.Input("image", optional=True, tooltip=image.format("first")),
                io.Image.Input("image2", optional=True, tooltip=image.format("second")),
                io.Image.Input("image3", optional=True, tooltip=image.format("third")),
            ],
            outputs=[
                io.Conditioning.Output(
                    is_output_list=True,
                    tooltip="The same conditioning with the hints beside it; it needs a model with region rules.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, conditioning, clip, plan, encoder, use, hint_padding, image=None, image2=None, image3=None
    ) -> io.NodeOutput:
        # A script may call the node with single values, and then gets a single conditioning.
        if not isinstance(plan, list):
            single = (conditioning, clip, plan, encoder, use, hint_padding, image, image2, image3)
            return io.NodeOutput(cls.execute(*([value] for value in single)).args[0][0])
        # Lists: ComfyUI would give the whole of a batch of images to every plan of a list.
        lists = {"conditioning": conditioning, "plan": plan, "text encoder": clip}
        lists |= {"image": image or [None], "image2": image2 or [None], "image3": image3 or [None]}
        most = max(lists, key=lambda name: len(lists[name]))
        with naming(cls, conditioning=conditioning, plan=plan):
            columns = [for_each(values, len(lists[most]), name, most) for name, values in lists.items()]
        settings = [(setting(use, i), setting(hint_padding, i), setting(encoder, i)) for i in range(len(columns[0]))]
        return io.NodeOutput([cls._attach(*one, *of) for *one, of in zip(*columns, settings, strict=True)])

    @classmethod
    def _attach(cls, conditioning, plan, clip, image, image2, image3, use, padding, encoder):
        told = []
        with naming(cls):
            attached = attach_hints(
                conditioning,
                clip,
                plan,
                use=use,
                padding=padding,
                encoder=encoder,
                images=(image, image2, image3),
                tell=told.append,
            )
        if attached is not conditioning:
            prompt, own_id = (cls.hidden.prompt or {}, cls.hidden.unique_id) if cls.hidden else ({}, None)
            told += _lost_regions(prompt, own_id)
        tell(cls, told)
        return attached


def _lost_regions(prompt: Mapping[str, Any], own_id: str | None) -> Iterator[str]:
    """A warning for each node of this run that drops what this node attached: it keeps its first input's only."""
    if not prompt:
        return
    from nodes import NODE_CLASS_MAPPINGS

    def is_conditioning(link: Any) -> bool:
        """Whether an input's value is a link to a conditioning, not a widget's value."""
        if not (isinstance(link, list) and len(link) == 2 and isinstance(link[0], str) and link[0] in prompt):
            return False
        types = getattr(NODE_CLASS_MAPPINGS.get(prompt[link[0]]["class_type"]), "RETURN_TYPES", ())
        return link[0] == own_id or list(types[link[1] : link[1] + 1]) == ["CONDITIONING"]

    links = [
        (link[0], node_id, name)
        for node_id, node in prompt.items()
        for name, link in node["inputs"].items()
        if is_conditioning(link)
    ]
    reached, fresh = set(), {own_id}
    while fresh:
        reached |= fresh
        dropping = [node_id for origin, node_id, name in links if origin in fresh and name == "conditioning_from"]
        for node in (prompt[node_id] for node_id in dropping):
            title = node.get("_meta", {}).get("title") or node["class_type"]
            yield (
                f"'{title}' ({node['class_type']}) gets these regions at its second input, conditioning_from, and "
                "drops them; connect this conditioning to conditioning_to, or put RePlan Region Conditioning behind "
                "that node"
            )
        fresh = {
            node_id for origin, node_id, name in links if origin in fresh and name != "conditioning_from"
        } - reached


NODES = [RePlanRegionConditioning]
