"""The node that writes the question for a language model of any other node."""

from comfy_api.latest import io

from ..planner.asking.templates import as_two_texts, coordinates_in_words, planner_messages
from ..planner.pictures.images import image_size
from ..planner.plan import PlanError
from .folders import chosen_template, template_names, template_stamp
from .sockets import CATEGORY, naming

# `auto` is a way of reading, not of asking.
COORDINATES = ("relative_1000", "pixels", "seen_pixels", "relative_1", "relative_1000_y_first")
# A STRING holds no image, so the layout that only moves it is not offered.
LAYOUTS = ("inference", "system")


class RePlanPlannerPrompt(io.ComfyNode):
    """A template and an instruction as texts for any language model node."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RePlanPlannerPrompt",
            display_name="RePlan Planner Prompt",
            category=f"{CATEGORY}/planner",
            description="Writes the prompt that asks a vision-language model for a plan. Connect it and the image to "
            "any node that runs such a model, and the node's answer to RePlan Plan from Text.",
            search_aliases=[
                "vlm prompt",
                "llm prompt",
                "ollama",
                "prompt template",
                "region plan",
                "grounding prompt",
                "planner",
            ],
            inputs=[
                io.String.Input(
                    "instruction",
                    multiline=True,
                    default="",
                    tooltip="What should change, as you would say it to a person: 'make the cup on the left blue', "
                    "'what if it rained?'.",
                ),
                io.Combo.Input(
                    "template",
                    options=template_names(),
                    default="edit",
                    tooltip="What the model is asked for; your own files lie in models/replan_templates. edit: "
                    "reasoning, global prompt and regions. edit_no_reasoning: the same at once, faster and weaker. "
                    "hypothetical: for what-if instructions. context: describes the scene first. result: also how "
                    "scene and regions look afterwards. unified: generates, edits or answers. detection: boxes with "
                    "labels, and an answer. rephrase: short commands without a plan or the image. scene: a description "
                    "of the image.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The image to edit; only its size is used, for coordinates pixels. Show the image itself "
                    "to the language model's node.",
                ),
                io.Combo.Input(
                    "coordinates",
                    options=list(COORDINATES),
                    default="relative_1000",
                    optional=True,
                    tooltip="What the model is to count its boxes in; connect the output of this name to RePlan Plan "
                    "from Text. relative_1000: fits every model, whatever size it sees the image at. seen_pixels: what "
                    "Qwen2.5-VL was trained on. relative_1000_y_first: Gemini and Gemma.",
                ),
                io.Combo.Input(
                    "layout",
                    options=list(LAYOUTS),
                    default="inference",
                    optional=True,
                    tooltip="inference: template and instruction in user, system stays empty. system: the template "
                    "in system, the instruction in user.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "system",
                    tooltip="For a system prompt or instructions socket; empty in the layout inference.",
                ),
                io.String.Output("user", tooltip="For the prompt socket of the language model's node."),
                io.Combo.Output(
                    "coordinates",
                    options=list(COORDINATES),
                    tooltip="What the boxes were asked to count: connect it to coordinates of RePlan Plan from Text.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, template, **others):
        try:
            return template_stamp(template)
        except (PlanError, OSError):
            return "missing"

    @classmethod
    def execute(
        cls, instruction, template, image=None, coordinates="relative_1000", layout="inference"
    ) -> io.NodeOutput:
        with naming(cls):
            if coordinates == "pixels" and image is None:
                raise PlanError("coordinates 'pixels' needs the size of the image: connect it, or choose relative_1000")
            size = image_size(image) if image is not None and coordinates == "pixels" else None
            chosen = chosen_template(template)
            messages = planner_messages(chosen, instruction, coordinates_in_words(coordinates, size), layout)
            return io.NodeOutput(*as_two_texts(messages), coordinates)


NODES = [RePlanPlannerPrompt]
