"""Nodes that load a vision-language model and let it plan. The work is in `planner.asking` and `planner.models`."""

from collections.abc import Sequence

from comfy_api.latest import io

from ..planner.asking.conversation import Planned, PlanRequest
from ..planner.asking.planning import MOST_VOTES, plan_images
from ..planner.asking.templates import LAYOUTS
from ..planner.models.choose import DEVICES, DTYPES, READERS, load_planner
from ..planner.models.files import stamp
from ..planner.models.interface import Sampling
from ..planner.plan import PlanError
from ..planner.plans.lint import SERIOUS
from ..planner.replies import COORDINATES
from .folders import AUTO, model_names, model_path, template_for, template_names, template_stamp
from .notices import show_progress, tell
from .sockets import CATEGORY, PlannerSocket, PlanSocket, naming

_CATEGORY = f"{CATEGORY}/planner"


class RePlanLoadPlanner(io.ComfyNode):
    """A model that plans, from a file or a folder."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RePlanLoadPlanner",
            display_name="RePlan Load Planner",
            category=_CATEGORY,
            description="Loads a vision-language model that plans: a Qwen2.5-VL or Qwen3-VL by ComfyUI itself, any "
            "other one by the Python package transformers. Nothing is downloaded.",
            search_aliases=[
                "vlm loader",
                "qwen vl loader",
                "load vision language model",
                "qwen2.5-vl",
                "qwen3-vl",
                "llm loader",
                "load planner",
            ],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=model_names(),
                    tooltip="A .safetensors file, or a folder with config.json, below models/text_encoders, models/LLM "
                    "or models/VLM. Folders come first.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(DTYPES),
                    default="default",
                    tooltip="What the weights are held in and the model computes in. default: weights as they are "
                    "saved, quantised ones included, computed as ComfyUI prefers. fp8: weights in half the memory of "
                    "bf16, a little less exact, for what ComfyUI reads. fp32 is exact, slow and large.",
                ),
                io.Combo.Input(
                    "device",
                    options=list(DEVICES),
                    default="default",
                    optional=True,
                    tooltip="default: where ComfyUI puts its models, given back when another model needs the room. "
                    "cpu: slow, but takes no GPU memory. spread: over GPU and main memory by the package accelerate, "
                    "for a folder too large for the GPU.",
                ),
                io.Combo.Input(
                    "reader",
                    options=list(READERS),
                    default="auto",
                    optional=True,
                    tooltip="auto: ComfyUI for the Qwen-VL sizes it knows (2.5: 7B, 3: 4B and 8B), transformers for "
                    "other folders. Choose one to compare them.",
                ),
            ],
            outputs=[
                PlannerSocket.Output("planner", tooltip="The model, for RePlan Planner. Several nodes share one load.")
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, model_name, **others):
        try:
            return stamp(model_path(model_name))
        except (PlanError, OSError):
            return "missing"

    @classmethod
    def execute(cls, model_name, dtype="default", device="default", reader="auto") -> io.NodeOutput:
        with naming(cls):
            return io.NodeOutput(load_planner(model_path(model_name), dtype, device, reader))


class RePlanPlannerFromCLIP(io.ComfyNode):
    """The model that plans in a text encoder that is loaded already."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RePlanPlannerFromCLIP",
            display_name="RePlan Planner from CLIP",
            category=_CATEGORY,
            description="Plans with a vision-language text encoder that the workflow already has, so nothing is loaded "
            "twice: the Qwen2.5-VL of Qwen-Image-Edit, or a Qwen3-VL.",
            search_aliases=[
                "text encoder as planner",
                "vlm from clip",
                "qwen image text encoder",
                "clip to planner",
                "share text encoder",
            ],
            inputs=[
                io.Clip.Input(
                    "clip",
                    tooltip="A text encoder of ComfyUI that is a Qwen2.5-VL 7B or Qwen3-VL 4B or 8B. Of a Qwen2.5-VL "
                    "the output head is read from its file (1 GB), which text encoders leave out.",
                ),
            ],
            outputs=[PlannerSocket.Output("planner", tooltip="The model, for RePlan Planner.")],
        )

    @classmethod
    def execute(cls, clip) -> io.NodeOutput:
        with naming(cls):
            if clip is None:
                raise PlanError("no text encoder arrived; the checkpoint holds none, connect Load CLIP")
            from ..planner.models import host

            return io.NodeOutput(host.from_clip(clip))


class RePlanPlanner(io.ComfyNode):
    """A plan out of an image and an instruction, by a model."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RePlanPlanner",
            display_name="RePlan Planner",
            category=_CATEGORY,
            description="Lets a vision-language model read the image and an instruction, think, and write a plan: "
            "boxes with hints and a global prompt. A batch of images gives a plan for each; an image whose reply holds "
            "no plan gets an empty one and a notice.",
            search_aliases=[
                "plan edit",
                "vlm planner",
                "region planner",
                "grounding",
                "auto regions",
                "ai plan",
                "instruction to regions",
            ],
            inputs=[
                PlannerSocket.Input("planner", tooltip="The model: RePlan Load Planner or RePlan Planner from CLIP."),
                io.Image.Input(
                    "image",
                    tooltip="The image to edit. Boxes come back in its pixels, at whatever size the model saw it.",
                ),
                io.String.Input(
                    "instruction",
                    multiline=True,
                    default="",
                    tooltip="What should change, as you would say it to a person: 'make the cup on the left blue', "
                    "'what if it rained?'.",
                ),
                io.Combo.Input(
                    "template",
                    options=[AUTO, *template_names()],
                    default=AUTO,
                    tooltip="What the model is asked for; your own files lie in models/replan_templates. auto: edit, "
                    "or for the published planner its own replan.txt, if that is there. edit: a plan with reasoning. "
                    "edit_no_reasoning: without, faster and weaker. hypothetical: for what-if instructions. context: "
                    "describes the scene first. result: also how scene and regions look afterwards, for a judge. "
                    "unified: generates, edits or answers. detection: finds things. rephrase: short commands as "
                    "global prompt. scene: a description as global prompt.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=False,
                    tooltip="For a temperature above 0 and for votes: the same seed gives the same plan. At "
                    "temperature 0 with one vote it changes nothing.",
                ),
                io.Int.Input(
                    "max_tokens",
                    default=2048,
                    min=16,
                    max=32768,
                    tooltip="The longest reply. A plan that was cut off says so; reasoning takes most of it.",
                ),
                io.Float.Input(
                    "temperature",
                    default=0.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    optional=True,
                    tooltip="How much the reply may vary with the seed. 0: always the likeliest reply.",
                ),
                io.Combo.Input(
                    "layout",
                    options=list(LAYOUTS),
                    default="inference",
                    optional=True,
                    tooltip="Order of template, image and instruction. inference: image first, as the published code "
                    "asks. training: image between them, as the released checkpoint was trained. system: the template "
                    "as system message.",
                ),
                io.Combo.Input(
                    "coordinates",
                    options=list(COORDINATES),
                    default="auto",
                    optional=True,
                    tooltip="What the model's boxes count. auto: what its kind was trained on (Qwen2.5-VL pixels as "
                    "seen, Qwen3-VL 0..1000). Change it for a fine-tuned model that writes others.",
                ),
                io.Float.Input(
                    "max_megapixels",
                    default=1.0,
                    min=0.05,
                    max=12.8,
                    step=0.05,
                    optional=True,
                    tooltip="Area at which the model sees the image. More shows smaller things and costs time and "
                    "memory.",
                ),
                io.Boolean.Input(
                    "ask_again",
                    default=False,
                    optional=True,
                    tooltip="Ask once more, with what was wrong, when the reply holds no plan or one with serious "
                    "findings. One more reply then.",
                ),
                io.Boolean.Input(
                    "second_look",
                    default=False,
                    optional=True,
                    tooltip="Show each region enlarged and ask for a tighter box, and whether it is the thing that was "
                    "meant. One more reply for each region.",
                ),
                io.Int.Input(
                    "votes",
                    default=1,
                    min=1,
                    max=MOST_VOTES,
                    optional=True,
                    tooltip="Ask for so many replies and keep the regions that most of them agree on. Each costs as "
                    "much as the first.",
                ),
                io.Image.Input(
                    "more_images",
                    optional=True,
                    tooltip="Further images that the model sees behind the image to edit, such as the same one with "
                    "marks or a reference; boxes are those of the first. For a batch of images: one for all, or one "
                    "for each.",
                ),
            ],
            outputs=[
                PlanSocket.Output("plan", is_output_list=True, tooltip="The plan, in pixels of the image."),
                io.String.Output(
                    "global_prompt",
                    is_output_list=True,
                    tooltip="The text for the whole image: connect it to the text encoder.",
                ),
                io.String.Output(
                    "reasoning", is_output_list=True, tooltip="What the model thought before it wrote the plan."
                ),
                io.String.Output("reply", is_output_list=True, tooltip="What the model wrote, as it wrote it."),
                io.String.Output(
                    "report",
                    is_output_list=True,
                    tooltip="The plan in words, what to check, how boxes were read, and the cost.",
                ),
                io.String.Output(
                    "answer",
                    is_output_list=True,
                    tooltip="The model's answer, where the template asks for one (unified, detection).",
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
        cls,
        planner,
        image,
        instruction,
        template,
        seed,
        max_tokens,
        temperature=0.0,
        layout="inference",
        coordinates="auto",
        max_megapixels=1.0,
        ask_again=False,
        second_look=False,
        votes=1,
        more_images=None,
    ) -> io.NodeOutput:
        with naming(cls, planner=planner, image=image):
            chosen, notices = template_for(template, planner)
            request = PlanRequest(
                instruction,
                chosen,
                Sampling(max_tokens, temperature, seed),
                layout,
                coordinates,
                round(max_megapixels * 1_003_520),
                ask_again,
                second_look,
                votes,
                notices,
            )
            results = plan_images(planner, image, request, more_images, show_progress)
        for number, planned in enumerate(results, 1):
            which = f"image {number} of {len(results)}: " if len(results) > 1 else ""
            told = [*planned.plan.notices, *(found for found in planned.findings if found.code in SERIOUS)]
            tell(cls, [str(notice) if planned.failed else f"{which}{notice}" for notice in told])
        show_progress(_outcome(results))
        rows = [
            (made.plan, made.plan.global_prompt, made.plan.reasoning, made.reply, made.report, _answer(made))
            for made in results
        ]
        return io.NodeOutput(*(list(column) for column in zip(*rows, strict=True)))


def _answer(planned: Planned) -> str:
    answer = planned.plan.extra.get("answer")
    return answer if isinstance(answer, str) else ""


def _outcome(results: Sequence[Planned]) -> str:
    if len(results) > 1:
        return f"{sum(not planned.failed for planned in results)} of {len(results)} images planned"
    count = len(results[0].plan.active.regions)
    return f"{count} region{'s' * (count != 1)}"


NODES = [RePlanLoadPlanner, RePlanPlannerFromCLIP, RePlanPlanner]
