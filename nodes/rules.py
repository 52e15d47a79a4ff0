"""Nodes that choose the rules, put them on a model, and show them."""

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..attention.families import FAMILIES, family_of
from ..attention.rules import ANOTHER, AUTO, PRESETS, describe, foreign_cells, make_rules, warnings_of
from ..attention.rules_page import rules_for_page
from ..planner.plan import Region, RegionPlan
from ..planner.plans.plan_json import encode_json
from .notices import tell, teller
from .sockets import CATEGORY, PlanSocket, RulesSocket, naming


def _preset_lines() -> list[str]:
    """What each preset does, for a tooltip; that of AUTO says which one each family gets."""
    families = ", ".join(f"{family.name} {family.preset}" for family in FAMILIES.values())
    return [f"{AUTO}: the published default of the model's family ({families})"] + [
        f"{preset.name}: {preset.summary}" for preset in PRESETS.values()
    ]


def _switches() -> str:
    return ", ".join(f"{family.name} {family.switch:g}" for family in FAMILIES.values())


class RePlanRules(io.ComfyNode):
    """Which tokens may see which others, and until when."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RePlanRules",
            display_name="RePlan Rules",
            category=f"{CATEGORY}/rules",
            description=(
                "Chooses which tokens see which: global prompt, hints, regions, background. Optional: without it "
                "RePlan Apply Region Rules uses the preset 'auto'."
            ),
            search_aliases=[
                "attention rules",
                "attention mask",
                "region rules",
                "locality",
                "regional attention",
            ],
            inputs=[
                io.Combo.Input(
                    "preset",
                    options=[AUTO, *PRESETS],
                    default=AUTO,
                    tooltip=". ".join(_preset_lines()) + ".",
                ),
                io.Float.Input(
                    "switch",
                    default=-1.0,
                    min=-1.0,
                    max=1.0,
                    step=0.05,
                    tooltip=(
                        "How far down the noise schedule the before-rules hold, where there are any ('local_first', "
                        "or a matrix with a 'before' phase): with the schedulers simple and sgm_uniform a share of "
                        "the steps, with others that noise level. More keeps a change inside "
                        f"its box, less blends it in. -1: the family's default ({_switches()})."
                    ),
                ),
                io.Int.Input(
                    "switch_step",
                    default=-1,
                    min=-1,
                    max=10000,
                    tooltip="A number of steps instead of switch, counted in the first sampler node. -1: use switch.",
                ),
                io.Combo.Input(
                    "family",
                    options=["auto", *FAMILIES],
                    default="auto",
                    tooltip="Whose default switch to take, and whose preset under 'auto'. auto: those of the model "
                    "the rules are applied to.",
                ),
                PlanSocket.Input(
                    "plan",
                    optional=True,
                    tooltip="Gives the rule matrix its regions; cells for a region that the plan lacks are reported.",
                ),
                io.String.Input(
                    "matrix",
                    default="",
                    multiline=True,
                    optional=True,
                    socketless=True,
                    extra_dict={"replan_rules": rules_for_page()},
                    tooltip=(
                        "Cells that differ from the preset, as JSON. The rule matrix writes it; to write it by hand, "
                        "see this node's help page."
                    ),
                ),
            ],
            outputs=[RulesSocket.Output(display_name="rules", tooltip="For RePlan Apply Region Rules.")],
        )

    @classmethod
    def execute(cls, preset, switch, switch_step, family, plan=None, matrix="") -> io.NodeOutput:
        with naming(cls):
            rules, warnings = make_rules(preset, switch, switch_step, family, matrix)
        gone = foreign_cells(rules, plan.active.ids) if plan is not None else []
        if gone:
            warnings.append(f"the plan has no region for the rules {', '.join(gone)}; they wait until it has")
        if plan is not None and ANOTHER in plan.active.ids:
            warnings.append(
                f"a region of the plan is called '{ANOTHER}', which in a rule means any other region; give it another "
                "id to name it in a rule"
            )
        tell(cls, warnings)
        if plan is None:
            return io.NodeOutput(rules, ui=ui.PreviewText("\n".join(warnings)) if warnings else None)
        # The page's rule matrix has rows for each region, named by its hint. ComfyUI joins the dicts of a batch by the
        # first one's keys, so they are the same for every plan.
        regions = encode_json([{"id": region.id, "hint": region.hint} for region in plan.active.regions])
        return io.NodeOutput(rules, ui={"text": ["\n".join(warnings)] if warnings else [], "replan_regions": [regions]})


class RePlanApplyRegionRules(io.ComfyNode):
    """Put rules on a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RePlanApplyRegionRules",
            display_name="RePlan Apply Region Rules",
            category=f"{CATEGORY}/rules",
            description=(
                "Makes a Flux.1, FLUX.2 or Qwen-Image model follow each hint only in its own region. Works with any "
                "loader, LoRA and sampler; a conditioning without regions stays exactly as it is."
            ),
            search_aliases=[
                "replan",
                "regional prompt",
                "region attention",
                "attention couple",
                "local edit",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="Flux.1 (dev, Kontext, fill), FLUX.2 (dev, klein) or Qwen-Image (Edit, 2509, 2511).",
                ),
                RulesSocket.Input("rules", optional=True, tooltip="From RePlan Rules; without it the preset 'auto'."),
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
        from ..attention.wrappers import add_region_rules

        with naming(cls, model=model, rules=rules):
            family = family_of(model.model)
        if rules is None:
            rules, _ = make_rules(AUTO)
        if rules.preset == AUTO:
            rules = rules.for_family(family.name)
            tell(cls, warnings_of(rules))
        return io.NodeOutput(add_region_rules(model, rules, edited_reference, teller(cls)))


class RePlanRulesPreview(io.ComfyNode):
    """Show rules as a table and as a map over the tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RePlanRulesPreview",
            display_name="RePlan Rules Preview",
            category=f"{CATEGORY}/rules",
            description=(
                "Draws the rules: a table of components (rows look, columns are seen; an orange edge differs from the "
                "preset) and a map over the tokens of one edited image of the plan's size."
            ),
            search_aliases=["attention matrix", "attention map", "show rules", "debug regions"],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                PlanSocket.Input(
                    "plan", optional=True, tooltip="The plan; without one, two example regions are shown."
                ),
                RulesSocket.Input("rules", optional=True, tooltip="From RePlan Rules; without it the preset 'auto'."),
                io.Combo.Input(
                    "family",
                    options=list(FAMILIES),
                    default="flux",
                    tooltip="The model family: Qwen has the image in its text, and 'auto' another preset.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="preview", tooltip="Tables and maps, one of each per phase."),
                io.String.Output(display_name="report", tooltip="The same tables as text."),
            ],
        )

    @classmethod
    def execute(cls, family, plan=None, rules=None) -> io.NodeOutput:
        from ..attention.draw_rules import draw_rules, example_layout

        with naming(cls, plan=plan, rules=rules):
            if rules is None:
                rules, _ = make_rules(AUTO)
            if plan is None:
                regions = [
                    Region("r1", (64, 96, 448, 512), "first"),
                    Region("r2", (384, 448, 928, 960), "second"),
                ]
                plan = RegionPlan((1024, 1024), regions=tuple(regions))
            layout = example_layout(plan.active, family)
            picture = draw_rules(layout, rules, family)
        image = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0).unsqueeze(0)
        return io.NodeOutput(image, describe(rules, layout.components, family), ui=ui.PreviewImage(image, cls=cls))


NODES = [RePlanRules, RePlanApplyRegionRules, RePlanRulesPreview]
