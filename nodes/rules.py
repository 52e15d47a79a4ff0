"""Nodes that choose the rules, put them on a model, and show them."""

from comfy_api.latest import io

from ..attention.rules import FAMILIES, PRESETS, make_rules
from .sockets import CATEGORY, PlanSocket, RulesSocket, naming


class RePlanRules(io.ComfyNode):
    """Which tokens may see which others, and until when."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RePlanRules",
            display_name="RePlan Rules",
            category=f"{CATEGORY}/rules",
            description=(
                "Choose which tokens may attend to which: hints, regions, background, global prompt. Connect to RePlan "
                "Apply Region Rules; without this node that one uses the preset 'replan'."
            ),
            search_aliases=["attention rules", "attention mask", "region rules", "locality", "regional attention"],
            inputs=[
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default="replan",
                    tooltip="; ".join(f"{p.name}: {p.summary}" for p in PRESETS.values()),
                ),
                io.Float.Input(
                    "switch",
                    default=-1.0,
                    min=-1.0,
                    max=1.0,
                    step=0.05,
                    tooltip=(
                        "Share of the steps that run under the before-rules of a preset that has them ('local_first', or a "
                        "matrix with a 'before' phase). More keeps a change inside its box, less blends it in. -1: the "
                        "family's default (Flux and Flux.2 0.05, Qwen 0.5)."
                    ),
                ),
                io.Int.Input(
                    "switch_step",
                    default=-1,
                    min=-1,
                    max=10000,
                    tooltip="An absolute number of steps under the before-rules instead of a share; -1 uses the share.",
                ),
                io.Combo.Input(
                    "family",
                    options=["auto", *FAMILIES],
                    default="auto",
                    tooltip="Whose default switch to take; 'auto' takes it from the model the rules are applied to.",
                ),
                PlanSocket.Input("plan", optional=True, tooltip="Optional plan: gives the rule matrix its regions."),
                io.String.Input(
                    "matrix",
                    default="",
                    multiline=True,
                    optional=True,
                    socketless=True,
                    tooltip=(
                        'Cells that differ from the preset, as JSON: {"before": {"noise_background|noise:*": false}, "after": '
                        '{"image_prompt|hint:r1": false}}. Rows (queries) come first, columns (keys) second.'
                    ),
                ),
            ],
            outputs=[RulesSocket.Output(display_name="rules", tooltip="For RePlan Apply Region Rules.")],
        )

    @classmethod
    def execute(cls, preset, switch, switch_step, family, plan=None, matrix="") -> io.NodeOutput:
        with naming(cls):
            rules, warnings = make_rules(preset, switch, switch_step, family, matrix)
        return io.NodeOutput(rules, ui={"text": warnings} if warnings else None)


class RePlanApplyRegionRules(io.ComfyNode):
    """Put rules on a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RePlanApplyRegionRules",
            display_name="RePlan Apply Region Rules",
            category=f"{CATEGORY}/rules",
            description=(
                "Let a Flux, Flux.2 or Qwen-Image model follow each region's hint only in its region. Works with any "
                "loader, LoRA and sampler; conditionings without regions are left as they are."
            ),
            search_aliases=["replan", "regional prompt", "region attention", "attention couple", "local edit"],
            inputs=[
                io.Model.Input("model", tooltip="Flux.1 (dev, Kontext, fill), FLUX.2 (dev, klein) or Qwen-Image (Edit, 2509, 2511)."),
                RulesSocket.Input("rules", optional=True, tooltip="From RePlan Rules; without it the preset 'replan'."),
                io.Int.Input(
                    "edited_reference",
                    default=1,
                    min=0,
                    max=64,
                    optional=True,
                    tooltip="Which reference image the boxes are drawn on, counted from 1; 0 if none of them.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model under the rules.")],
        )

    @classmethod
    def execute(cls, model, rules=None, edited_reference=1) -> io.NodeOutput:
        from ..attention.patch import add_region_rules

        if rules is None:
            rules, _ = make_rules("replan")
        return io.NodeOutput(add_region_rules(model, rules, edited_reference))


NODES = [RePlanRules, RePlanApplyRegionRules]
