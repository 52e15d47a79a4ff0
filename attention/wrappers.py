"""What region rules put on a model: wrappers around a run, its memory estimate and each of its model calls.

`add_region_rules` clones a model and adds wrappers under one key. The one around a model call takes the hints out of
the call's arguments, joins them to the text, and installs an attention override for that call only, which calls the
override of another pack where there is one. Nothing global is changed. A call without hints and the preset `off` go on
as they came.

It wraps `apply_model`, not the diffusion model: `apply_model` has one signature for all models, lies outside a compiled
module, and leaves the arguments of the diffusion model in the shape that other packs read by position.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable

import torch
from comfy.patcher_extension import WrappersMP

from . import call, checks
from .families import Family, family_of, patch_size
from .grid import Grid, check_aspect, check_size
from .override import NODE, OVERRIDE_KEY, STATE_KEY, CallState, Side, naming, region_attention
from .payload import NO_HINTS, PAYLOAD_KEY, HintCond, HintPayload, RegionError
from .rules import Rules
from .run import RUN_KEY, Run
from .schedules import CallTokens

log = logging.getLogger(__name__)

WRAPPER_KEY = "replan_region_rules"
Tell = Callable[[str], None]


def add_region_rules(model, rules: Rules, edited_reference: int, tell: Tell | None = None):
    """A clone of a ModelPatcher under region rules.

    edited_reference: which reference image the regions lie on, counted from 1; 0: none. tell: called with each
    warning of a run, once a run, without the node's name and the last full stop; without it they go to the log.
    Raises RegionError when the model is of no supported family. Rules put on earlier are replaced.
    """
    with naming():
        rules = rules.for_family(family_of(model.model).name)
        if edited_reference < 0:
            raise RegionError(
                f"edited_reference is {edited_reference}; count reference images from 1, or give 0 for none of them"
            )
    model = model.clone()
    regions = RegionRules(rules, edited_reference, tell)
    for kind, wrapper in (
        (WrappersMP.OUTER_SAMPLE, regions.outer_sample),
        (WrappersMP.PREPARE_SAMPLING, regions.account_memory),
        (WrappersMP.APPLY_MODEL, regions.apply_model),
    ):
        model.remove_wrappers_with_key(kind, WRAPPER_KEY)
        model.add_wrapper_with_key(kind, WRAPPER_KEY, wrapper)
    return model


class RegionRules:
    """The wrappers of one Apply Region Rules node. What a run must remember is in its `Run`, nothing is here."""

    def __init__(self, rules: Rules, edited_reference: int, tell: Tell | None = None):
        self.rules = rules
        self.edited_reference = edited_reference
        self._tell = tell or (lambda text: log.warning("%s: %s.", NODE, text))

    def outer_sample(self, executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
        """Around a run: begin a Run, and say what would otherwise pass in silence."""
        guider = executor.class_obj
        if self.rules.off:
            # Without the payload ComfyUI batches these conditionings as it would without the pack.
            guider.conds = {name: [_without_hints(cond) for cond in cs or ()] for name, cs in guider.conds.items()}
            return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        patcher = guider.model_patcher
        family = family_of(patcher.model)
        run = Run(self.rules, self._tell, tuple(noise.shape[-2:]))
        for text in checks.conditioning_warnings(guider, family):
            run.warn(text)
        ruled = checks.ruled_entries(guider.conds)
        if any(ruled.values()):
            sampling = patcher.get_model_object("model_sampling")
            for text in checks.switch_warnings(self.rules, sampling, sigmas, noise):
                run.warn(text)
            if not checks.skips_negative(guider) and len(guider.conds) > 1:
                run.pairs = family.output_patches and checks.patches_output(guider)
                if run.pairs or sum(map(bool, ruled.values())) > 1:
                    guider.conds = _joined(guider.conds, everyone=run.pairs)
            # The guider's own copy, for this run.
            guider.model_options.setdefault("transformer_options", {})[RUN_KEY] = run
        return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)

    def account_memory(self, executor, model, noise_shape, conds, *args, **kwargs):
        """Tell ComfyUI's memory estimate about the hints: as many more latent cells as their tokens stand for.

        ComfyUI estimates from latents and references only. Hints cost what as many image tokens cost. One more copy
        of q, k, v and output is 4 x 3072 values of 2 bytes a token in Flux, 25 kB, where ComfyUI counts 0.25 MB
        (4 latent cells of 0.02 MB times memory_usage_factor 3.1, model_base.BaseModel.memory_required): an eighth
        is added.
        """
        entries = [cond for group in conds.values() for cond in group or ()]
        family = family_of(model.model)
        tokens = max((_hint_tokens(cond, family) for cond in entries), default=0)
        if tokens and not self.rules.off:
            height, width = noise_shape[-2:]
            images = height * width + max(_reference_cells(cond) for cond in entries)
            cells = tokens * patch_size(model.model) ** 2 + images // 8
            noise_shape = [*noise_shape[:-1], width + -(-cells // height)]
        return executor(model, noise_shape, conds, *args, **kwargs)

    def apply_model(self, executor, *args, **kwargs):
        """One model call: join hints to the text and run it under the rules."""
        payload = kwargs.pop(PAYLOAD_KEY, None)
        if payload is None or self.rules.off:
            return executor(*args, **kwargs)
        bound = inspect.signature(executor.original).bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = bound.arguments
        options = dict(arguments["transformer_options"])
        run = options.get(RUN_KEY) or Run(self.rules, self._tell)
        if run.pairs and not {0, 1} <= set(options.get("cond_or_uncond", ())):
            run.warn(
                "a node patches the result of attention (as Normalized Attention Guidance does) and needs positive and "
                "negative in one model call, but ComfyUI ran them apart, so in these calls it does nothing. Their "
                "texts differ in length, or memory is short: give both texts the same length, or free memory"
            )
        if not payload.regions:
            return executor(*args, **kwargs)
        with naming():
            state = self._prepare(run, executor.class_obj, payload, arguments, options)
        options[STATE_KEY] = state
        options[OVERRIDE_KEY] = region_attention
        arguments["transformer_options"] = options
        result = executor(*bound.args, **bound.kwargs)
        _verify(state, options, _block_count(executor.class_obj))
        return result

    def _prepare(self, run: Run, base_model, payload: HintPayload, arguments: dict, options: dict) -> CallState:
        """Join hints and their mask into the arguments, and make ready what the override needs."""
        family, extra = family_of(base_model), arguments["kwargs"]
        latent, context = arguments["x"], arguments["c_crossattn"]
        if context is None:
            raise RegionError("the model was called without any text conditioning; encode the global prompt")
        _check_latent(run, payload, latent, context, options)
        patch = patch_size(base_model)
        noise = family.grid(latent, patch, "the latent")
        references = tuple(
            family.grid(image, patch, f"reference image {number}")
            for number, image in enumerate(extra.get("ref_latents") or (), start=1)
        )
        edited = self._edited(references)
        hints = self._hints(run, payload, family, context)
        counts = [tuple(hint.shape[1] for hint in own) for own in hints]
        longest = max(map(sum, counts))
        sides: list[Side] = []
        at = 0
        for number, (part, lengths) in enumerate(zip(payload.parts, counts, strict=True)):
            plan = part.text.plan
            if plan.regions:
                self._check_sizes(run, plan.image_size, noise, references[edited - 1] if edited else None)
            tokens = CallTokens(
                text=part.text,
                layout=part.text.layout,
                main=context.shape[1],
                hints=lengths,
                padding=longest - sum(lengths),
                noise=noise,
                references=references,
                edited=edited,
                phase=call.phase_of(self.rules, base_model.model_sampling, options),
                inactive=call.inactive_regions(plan.regions, base_model.model_sampling.percent_to_sigma, options),
            )
            if not sides or sides[-1].tokens != tokens:
                sides.append(Side(at, at, tokens, first=number))
            at += part.batch
            sides[-1].end, sides[-1].last = at, number + 1
        if len(sides) > 1:
            for side in sides:
                side.options = {
                    key: options[key][side.first : side.last]
                    for key in ("cond_or_uncond", "uuids")
                    if len(options.get(key) or ()) == len(payload.parts)
                }
        rows = context.split([part.batch for part in payload.parts])
        arguments["c_crossattn"] = torch.cat(
            [_with_room(text, own, longest) for text, own in zip(rows, hints, strict=True)]
        )
        mask = extra.get("attention_mask")
        if mask is not None:
            image_tokens = sides[0].tokens.image_tokens
            extra["attention_mask"] = call.mask_with_hints(mask, context.shape[1], longest, image_tokens)

        patches = options.get("patches", {})
        others = patches.get("post_input", [])
        state = CallState(sides, bool(others), options.get(OVERRIDE_KEY), run)
        if others:  # they may change the number of tokens; the schedules are made when they have run
            options["patches"] = {**patches, "post_input": [*others, torch.compiler.disable(state.read_lengths)]}
        else:
            tokens = state.tokens.text_tokens + state.tokens.image_tokens
            state.prepare(tokens, 0, latent.device)  # where the model will compute; the text may lie elsewhere yet
        return state

    def _hints(self, run: Run, payload: HintPayload, family: Family, context: torch.Tensor) -> list[list[torch.Tensor]]:
        """The hints of each part as the model gets them, (batch, L_i, C) each.

        They follow what happened to the text since they were attached: a conditioning that was zeroed out has zero
        hints.
        """
        texts = context.split([part.batch for part in payload.parts])
        norms = torch.stack([text.float().norm() / math.sqrt(len(text)) for text in texts]).tolist()
        found = []
        for part, text, norm in zip(payload.parts, texts, norms, strict=True):
            was, added = part.text.text_norm, text.shape[1] - part.text.text_tokens
            if added < 0:
                raise RegionError(
                    f"the text has {text.shape[1]} tokens at the model, but had {part.text.text_tokens} when RePlan "
                    "Region Conditioning saw it; a node between them cut it. Put RePlan Region Conditioning after it"
                )
            hints = [family.prepare(hint, part.text) for hint in part.hints_like(context)]
            if was and not norm:
                hints = [torch.zeros_like(hint) for hint in hints]
            elif was and abs(norm / was - 1) > 0.05 and not text[:, :added].any():
                run.warn(
                    "the text was changed after RePlan Region Conditioning (averaged or multiplied); the hints were "
                    "not. Put RePlan Region Conditioning behind the node that changes it"
                )
            found.append(hints)
        return found

    def _edited(self, references: tuple[Grid, ...]) -> int:
        """The number of the edited reference, from 1; 0 without one."""
        if self.edited_reference == 0 or (self.edited_reference == 1 and not references):
            return 0  # regions without any reference are fine: text to image, or a fill model
        if self.edited_reference > len(references):
            raise RegionError(
                f"edited_reference is {self.edited_reference}, but the conditioning has "
                f"{len(references)} reference image{'s' * (len(references) != 1)}; set it to the number of the image "
                "that the boxes are drawn on, counted from 1, or 0 for none"
            )
        return self.edited_reference

    def _check_sizes(self, run: Run, image_size: tuple[int, int], noise: Grid, edited: Grid | None) -> None:
        for what, grid in (("the latent", noise), (f"reference image {self.edited_reference}", edited)):
            warning = check_aspect(image_size, grid, what) if grid is not None else None
            if warning:
                run.warn(warning)
        warning = check_size(image_size, noise)
        if warning:
            run.warn(warning)


def _check_latent(run: Run, payload: HintPayload, latent: torch.Tensor, context: torch.Tensor, options: dict) -> None:
    """Refuse a call that holds a part of the run's latent: a box could not be placed in it."""
    if "context_window" in options:
        raise RegionError(
            "the model samples in context windows, which cut the latent so that boxes cannot be placed; "
            "remove the context windows node or the regions"
        )
    height, width = latent.shape[-2:]
    if run.latent is not None and (height, width) != run.latent:
        raise RegionError(
            f"the model was called with a latent of {width}x{height} cells, but this run samples one of "
            f"{run.latent[1]}x{run.latent[0]}: a node cuts it into tiles (Tiled Diffusion, say), and a box cannot be "
            "placed in a tile. Remove that node, or run its pass without RePlan Region Conditioning"
        )
    if not payload.batch == len(latent) == len(context):
        raise RegionError(
            f"the model was called with {len(latent)} latents and {len(context)} texts where the sampler had "
            f"{payload.batch}: a node splits or stacks them (tiles in one batch, say), and regions cannot follow. "
            "Remove that node, or run its pass without RePlan Region Conditioning"
        )


def _with_room(text: torch.Tensor, hints: list[torch.Tensor], tokens: int) -> torch.Tensor:
    """Text (B, T, C) with its hints behind it, filled up with zeros to `tokens` of them."""
    missing = tokens - sum(hint.shape[1] for hint in hints)
    filling = [text.new_zeros(text.shape[0], missing, text.shape[2])] if missing else []
    return torch.cat([text, *hints, *filling], 1)


def _verify(state: CallState, options: dict, blocks: int) -> None:
    """The first call of a run must have reached ComfyUI's attention; later ones may be skipped by a cache.

    Some blocks that did not are reported, not refused: skipping a block is what some nodes are for.
    """
    if not state.run.first_call_of(options.get("uuids") or (None,)):
        return
    if state.joint_calls == 0:
        raise RegionError(
            f"{NODE}: the model ran, but its attention never came through ComfyUI, so the rules had no "
            "effect. Its blocks use an attention of their own (some quantised loaders do) or another node replaced "
            "the attention override in mid-call; load the model with ComfyUI's own loader, or remove that node"
        )
    if state.joint_calls < blocks:
        state.run.warn(
            f"only {state.joint_calls} of the model's {blocks} blocks came through ComfyUI's attention; another node "
            "skips or replaces the rest, and in a replaced block the rules have no effect. Remove that node if hints "
            "do not stay in their boxes"
        )


def _block_count(base_model) -> int:
    """How many blocks with joint attention the model has, by the names of the three families."""
    names = ("double_blocks", "single_blocks", "transformer_blocks")
    return sum(len(getattr(base_model.diffusion_model, name, ())) for name in names)


def _without_hints(cond: dict) -> dict:
    return checks.with_hints(cond, None) if checks.hints_of(cond) else cond


def _joined(conds: checks.Conds, everyone: bool) -> checks.Conds:
    """The conditionings with hints that may share a model call with one another's, and with those that have none."""

    def one(cond: dict) -> dict:
        hints = checks.hints_of(cond)
        if hints is None and not everyone:
            return cond
        return checks.with_hints(cond, HintCond(hints.text if hints else NO_HINTS, joins=True))

    return {name: [one(cond) for cond in entries or ()] for name, entries in conds.items()}


def _hint_tokens(cond: dict, family: Family) -> int:
    hints = checks.hints_of(cond)
    if hints is None:
        return 0
    return sum(family.hint_tokens(hint.shape[1], hints.text.padding) for hint in hints.text.hints)


def _reference_cells(cond: dict) -> int:
    return sum(math.prod(latent.shape[2:]) for latent in cond.get("reference_latents") or ())
