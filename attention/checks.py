"""What a run would do in silence, found when its sampler node starts: texts for the user, without the node's name.

Looks at ComfyUI's guider (comfy.samplers.CFGGuider) and its conditionings as they are before sampling; nothing here
imports it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator

import torch

from .call import Sampling, starts_at_the_top, steps_before
from .families import Family
from .payload import PAYLOAD_KEY, HintCond
from .rules import Rules

log = logging.getLogger(__name__)

Conds = dict[str, list[dict]]


def hints_of(cond: dict) -> HintCond | None:
    """The hints of one conditioning entry as a guider holds it."""
    return cond.get("model_conds", {}).get(PAYLOAD_KEY)


def with_hints(cond: dict, hints: HintCond | None) -> dict:
    """The entry with these hints instead of its own, or with none; the entry itself is not changed."""
    kept = {key: value for key, value in cond.get("model_conds", {}).items() if key != PAYLOAD_KEY}
    return {**cond, "model_conds": kept if hints is None else {**kept, PAYLOAD_KEY: hints}}


def ruled_entries(conds: Conds) -> Conds:
    """The entries that carry regions, by 'positive', 'negative' or what else the guider has."""
    return {name: [cond for cond in entries or () if hints_of(cond)] for name, entries in conds.items()}


def skips_negative(guider) -> bool:
    """Whether ComfyUI leaves the negative out, as it does at CFG 1 (comfy.samplers.sampling_function)."""
    cfg = getattr(guider, "cfg", None)
    if not isinstance(cfg, int | float) or not math.isclose(cfg, 1.0):
        return False
    return not guider.model_options.get("disable_cfg1_optimization", False)


def patches_output(guider) -> bool:
    """Whether a node patches the result of attention (Normalized Attention Guidance compares positive and negative
    there)."""
    return bool(guider.model_options.get("transformer_options", {}).get("patches", {}).get("attn1_output_patch"))


def conditioning_warnings(guider, family: Family) -> Iterator[str]:
    """Warnings where regions, negative hints or a guidance node do nothing in this run, and why."""
    ruled = ruled_entries(guider.conds)
    dropped = (
        "Connect RePlan Region Conditioning (a plan without regions counts as none); after ConditioningConcat or "
        "ConditioningAverage its conditioning must be the first input, the second one's hints are dropped by those "
        "nodes"
    )
    if not any(ruled.values()):
        yield f"no conditioning of this run carries regions, so the rules have nothing to do. {dropped}"
        return
    if "positive" in ruled and not ruled["positive"]:
        yield f"only the negative conditioning of this run carries regions, the positive has none. {dropped}"
    # A zeroed-out negative (usual with Flux) keeps its hints; nobody meant any by it.
    meant = [cond for cond in ruled.get("negative", ()) if "cross_attn" not in cond or cond["cross_attn"].any()]
    if meant and skips_negative(guider):
        yield (
            "the negative conditioning has regions, but at CFG 1 ComfyUI never evaluates it, so negative hints do "
            "nothing. Raise CFG above 1, or add Normalized Attention Guidance"
        )
    carried = [hints_of(cond).text for cond in meant]
    heard = {region for text in carried if text.use == "negative_hint" for region in text.plan.ids}
    unheard = dict.fromkeys(
        region.id
        for cond in ruled.get("positive", ())
        for region in hints_of(cond).text.plan.regions
        if region.negative_hint.strip() and region.id not in heard
    )
    if unheard:
        names = ", ".join(f"'{name}'" for name in list(unheard)[:8]) + (", ..." if len(unheard) > 8 else "")
        if heard:
            why, remedy = "the negative conditioning was given another plan", "Connect the same plan to both sides"
        elif carried:
            why = "the negative conditioning carries other hints"
            remedy = "Set `use` of its RePlan Region Conditioning to negative_hint"
        else:
            why = "no negative conditioning carries regions"
            remedy = "Put a second RePlan Region Conditioning, its `use` on negative_hint, on the negative conditioning"
        if skips_negative(guider):
            remedy += ", and raise CFG above 1"
        yield f"the negative hints of region {names} do nothing: {why}. {remedy}"
    if patches_output(guider) and not family.output_patches:
        yield (
            "a node patches the result of attention (as Normalized Attention Guidance does), but ComfyUI calls such "
            f"patches in Flux models only, not in a {family.base}: it does nothing here, with and without regions. "
            "Remove it"
        )


def switch_warnings(rules: Rules, sampling: Sampling, sigmas: torch.Tensor, noise: torch.Tensor) -> Iterator[str]:
    """Where the before-rules hold in no step of this sampler node, though they were asked for."""
    wanted = rules.two_phases and (rules.switch if rules.switch_step is None else rules.switch_step)
    if not wanted or len(sigmas) < 2:
        return
    listed = sigmas.tolist()
    steps, before = len(listed) - 1, sum(steps_before(rules, sampling, listed))
    if rules.switch_step is not None:
        said, remedy = f"switch_step is {rules.switch_step}", "Use `switch`, a share of the noise schedule"
    else:
        said, remedy = f"the switch is at {wanted:.3g} of the noise schedule", "Raise `switch`, or set `switch_step`"
    if starts_at_the_top(sampling, listed):
        if rules.switch_step is not None and rules.switch_step > steps:
            yield (
                f"{said}, but this sampler node runs {steps} step{'s' * (steps != 1)}: all of them are before the "
                f"switch, and it is over in a node that goes on from here. {remedy} for a switch in a later node"
            )
        elif not before:
            yield (
                f"{said} and the first of this sampler node's {steps} steps ends beyond it, so no step runs under the "
                f"before-rules. {remedy}"
            )
    elif not before and noise.any():
        yield (
            f"{said}, and this sampler node starts beyond it (denoise below 1, or a scheduler such as ddim_uniform), "
            f"so no step runs under the before-rules. {remedy}"
        )
    elif not before:  # the usual second stage
        log.info("RePlan Apply Region Rules: %s; this sampler node starts beyond it.", said)
