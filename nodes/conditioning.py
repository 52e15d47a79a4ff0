"""The node that adds a plan's hints to any conditioning."""

from comfy_api.latest import io

from ..attention.hints import USES, attach_hints
from ..attention.payload import HINT_PADDINGS
from .sockets import CATEGORY, PlanSocket, naming

ENCODERS = ("auto", "edit", "plus")


class RegionConditioning(io.ComfyNode):
    """Encode each region's hint on its own and attach it beside a conditioning's text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        picture = "Qwen-Image-Edit only: {} picture that the text encoder of this conditioning was given. Hints are read with it in context."
        return io.Schema(
            node_id="RePlanRegionConditioning",
            display_name="RePlan Region Conditioning",
            category=f"{CATEGORY}/conditioning",
            description="Adds the hints of a plan to a conditioning: each hint is encoded on its own and rides beside the global "
            "prompt until RePlan Apply Region Rules shows it to its own region only. Guidance, reference latents, ControlNet and "
            "masks in the conditioning stay. An empty plan changes nothing. Hints take the host's prompt syntax: (word:1.2) and "
            "embedding:name do what they do in CLIP Text Encode.",
            search_aliases=[
                "regional prompt",
                "region prompt",
                "regional conditioning",
                "area prompt",
                "box prompt",
                "hints",
                "replan",
            ],
            inputs=[
                io.Conditioning.Input(
                    "conditioning",
                    tooltip="The encoded global prompt, with whatever guidance and reference latents it carries.",
                ),
                io.Clip.Input(
                    "clip", tooltip="The text encoder that made this conditioning, with the same LoRA and hooks."
                ),
                PlanSocket.Input("plan", tooltip="The regions whose hints are added."),
                io.Combo.Input(
                    "encoder",
                    options=list(ENCODERS),
                    default="auto",
                    tooltip="Qwen-Image-Edit only: the node that encoded the global prompt, TextEncodeQwenImageEdit (edit) or its Plus form (plus). auto finds out.",
                ),
                io.Combo.Input(
                    "use",
                    options=list(USES),
                    default="hint",
                    tooltip="hint for the positive conditioning; negative_hint puts the regions' negative hints on the negative one (regions without are left out).",
                ),
                io.Combo.Input(
                    "hint_padding",
                    options=list(HINT_PADDINGS),
                    default="host",
                    tooltip="host: padded as this text encoder pads any prompt. trim: only the hint's own tokens, faster and further from what the model was "
                    "trained on. reference: 512 T5 tokens a hint as in the published code (Flux.1; other encoders as host).",
                ),
                io.Image.Input("image", optional=True, tooltip=picture.format("the first")),
                io.Image.Input("image2", optional=True, tooltip=picture.format("the second")),
                io.Image.Input("image3", optional=True, tooltip=picture.format("the third")),
            ],
            outputs=[
                io.Conditioning.Output(
                    tooltip="The same conditioning with the hints beside it; it needs a model with region rules."
                )
            ],
        )

    @classmethod
    def execute(
        cls, conditioning, clip, plan, encoder, use, hint_padding, image=None, image2=None, image3=None
    ) -> io.NodeOutput:
        with naming(cls):
            attached = attach_hints(
                conditioning, clip, plan, use=use, padding=hint_padding, encoder=encoder, images=(image, image2, image3)
            )
        return io.NodeOutput(attached)


NODES = [RegionConditioning]
