"""What region rules put on a model: wrappers around a run, its memory estimate and each of its model calls.

`add_region_rules` clones a model and adds wrappers under one key. At every model call the first of them takes the
hints out of the call's arguments, joins them to the text, and installs an attention override for that call only; it
calls the override it found. Nothing global is changed, and without regions the call goes on as it came.

It wraps `apply_model`, not the diffusion model: that has one signature for all models, lies outside a
compiled module, and leaves the arguments of the diffusion model in the shape that other packs read by position.
"""

from __future__ import annotations

import inspect
import logging
import math
import threading
from collections import OrderedDict

import torch
from comfy.patcher_extension import WrappersMP

from .call import inactive_regions, step_of, with_hints
from .families import family_of, patch_size
from .grid import Grid, check_aspect
from .override import NODE, OVERRIDE_KEY, STATE_KEY, CallState, naming, region_attention
from .payload import PAYLOAD_KEY, HintCond, HintPayload, RegionError
from .rules import Rules
from .schedules import CallTokens, Schedules

log = logging.getLogger(__name__)

WRAPPER_KEY = "replan_region_rules"
_KEPT_RUNS = 64


def add_region_rules(model, rules: Rules, edited_reference: int):
    """A clone of a ModelPatcher under region rules.

    edited_reference: which reference image the regions lie on, counted from 1; 0: none. Raises RegionError when
    the model is of no supported family. Rules put on earlier are replaced.
    """
    with naming():
        rules = rules.for_family(family_of(model.model).name)
        if edited_reference < 0:
            raise RegionError(
                f"edited_reference is {edited_reference}; count reference images from 1, or give 0 for none of them"
            )
    model = model.clone()
    regions = RegionRules(rules, edited_reference)
    for kind, wrapper in (
        (WrappersMP.OUTER_SAMPLE, regions.check_sampling),
        (WrappersMP.PREPARE_SAMPLING, regions.account_memory),
        (WrappersMP.APPLY_MODEL, regions.apply_model),
    ):
        model.remove_wrappers_with_key(kind, WRAPPER_KEY)
        model.add_wrapper_with_key(kind, WRAPPER_KEY, wrapper)
    return model


class RegionRules:
    """The wrappers of one Apply Region Rules node. Shared by clones and by the host's device threads."""

    def __init__(self, rules: Rules, edited_reference: int):
        self.rules = rules
        self.edited_reference = edited_reference
        self._schedules = Schedules(rules, self.warn_once)
        self._runs: OrderedDict[object, None] = OrderedDict()
        self._warned: set[object] = set()
        self._lock = threading.Lock()

    def check_sampling(self, executor, *args, **kwargs):
        """Before a run: say what would otherwise pass in silence."""
        guider = executor.class_obj
        conds = getattr(guider, "conds", {})
        if self.rules.off:
            # Without the payload the host batches these conditionings as it would without the pack.
            guider.conds = {name: [_without_hints(cond) for cond in entries] for name, entries in conds.items()}
            return executor(*args, **kwargs)
        ruled = {name: [cond for cond in entries or () if _hints(cond)] for name, entries in conds.items()}
        if not any(ruled.values()):
            log.warning(
                "%s: no conditioning of this run carries regions, so the rules have nothing to do. Connect "
                "RePlan Region Conditioning (a plan without regions counts as none); after ConditioningConcat or "
                "ConditioningAverage its conditioning must be the first input, the second one's hints are dropped "
                "by those nodes.",
                NODE,
            )
        cfg = getattr(guider, "cfg", None)
        skips = isinstance(cfg, (int, float)) and math.isclose(cfg, 1.0)
        # A zeroed-out negative (usual with Flux) keeps its payload; nobody meant hints by it.
        meant = [cond for cond in ruled.get("negative", ()) if "cross_attn" not in cond or cond["cross_attn"].any()]
        if meant and skips and not guider.model_options.get("disable_cfg1_optimization", False):
            log.warning(
                "%s: the negative conditioning has regions, but at CFG 1 the host never evaluates it, so negative "
                "hints do nothing. Raise CFG above 1.",
                NODE,
            )
        return executor(*args, **kwargs)

    def account_memory(self, executor, model, noise_shape, conds, *args, **kwargs):
        """Tell the host's memory estimate about the hints: as many more latent cells as their tokens stand for.

        The host estimates from latents and references only. Hints cost what as many image tokens cost. One more copy
        of q, k, v and output is 4 x 3072 values of 2 bytes a token in Flux, 25 kB, where the host counts 0.25 MB
        (4 latent cells of 0.02 MB times memory_usage_factor 3.1, model_base.BaseModel.memory_required): an eighth
        is added.
        """
        entries = [cond for group in conds.values() for cond in group or ()]
        tokens = max((_hint_tokens(cond) for cond in entries), default=0)
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
        call = inspect.signature(executor.original).bind(*args, **kwargs)
        call.apply_defaults()
        arguments = call.arguments
        extra = arguments["kwargs"]
        options = dict(arguments["transformer_options"])
        with naming():
            state = self._prepare(executor.class_obj, payload, arguments, extra, options)
        options[STATE_KEY] = state
        options[OVERRIDE_KEY] = region_attention
        arguments["transformer_options"] = options
        result = executor(*call.args, **call.kwargs)
        self._verify(state, options, _block_count(executor.class_obj))
        return result

    def _prepare(self, base_model, payload: HintPayload, arguments: dict, extra: dict, options: dict) -> CallState:
        """Join hints and their mask into the arguments, and describe the call for the override."""
        family = family_of(base_model)
        if "context_window" in options:
            raise RegionError(
                f"{NODE}: the model samples in context windows, which cut the latent so that boxes cannot be placed; "
                "remove the context windows node or the regions"
            )
        text = payload.text
        context = arguments["c_crossattn"]
        if context is None:
            raise RegionError(f"{NODE}: the model was called without any text conditioning; encode the global prompt")
        main_tokens = context.shape[1]
        if main_tokens < text.text_tokens:
            raise RegionError(
                f"{NODE}: the text has {main_tokens} tokens at the model, but had {text.text_tokens} when RePlan "
                "Region Conditioning saw it; a node between them cut it. Put RePlan Region Conditioning after it"
            )
        hints = [family.prepare(hint, text) for hint in payload.hints_like(context)]
        hints = self._as_text(hints, context, payload)
        arguments["c_crossattn"] = torch.cat([context, *hints], 1)
        patch = patch_size(base_model)
        noise = family.grid(arguments["x"], patch, "the latent")
        references = tuple(
            family.grid(latent, patch, f"reference image {number}")
            for number, latent in enumerate(extra.get("ref_latents") or (), start=1)
        )
        edited = self._edited(references)
        self._check_aspects(text.plan.image_size, noise, references[edited - 1] if edited else None)
        step, steps = step_of(options)
        tokens = CallTokens(
            text=text,
            layout=text.layout,
            main=main_tokens,
            hints=tuple(hint.shape[1] for hint in hints),
            noise=noise,
            references=references,
            edited=edited,
            phase=self.rules.phase_at(step, steps, family.name),
            inactive=inactive_regions(text.plan.regions, base_model.model_sampling.percent_to_sigma, options),
        )
        mask = extra.get("attention_mask")
        if mask is not None:
            extra["attention_mask"] = with_hints(mask, main_tokens, sum(tokens.hints), tokens.image_tokens)
        return CallState(
            tokens=tokens,
            may_lead=bool(options.get("patches", {}).get("post_input")),
            previous=options.get(OVERRIDE_KEY),
            schedules=self._schedules,
            warn_once=self.warn_once,
        )

    def _as_text(self, hints: list[torch.Tensor], context: torch.Tensor, payload: HintPayload) -> list[torch.Tensor]:
        """Follow what happened to the text since: a conditioning that was zeroed out has zero hints."""
        texts = context.split([part.batch for part in payload.parts])
        norms = torch.stack([text.float().norm() / math.sqrt(len(text)) for text in texts]).tolist()
        before = [part.text.text_norm for part in payload.parts]
        if any(was and not now for now, was in zip(norms, before, strict=True)):
            keep = torch.cat(
                [torch.full((len(text), 1, 1), float(now > 0)) for text, now in zip(texts, norms, strict=True)]
            )
            return [hint * keep.to(hint) for hint in hints]
        grown = context.shape[1] - payload.text.text_tokens
        padded = grown > 0 and not context[:, :grown].any()
        if grown == 0 or padded:
            changed = [was and abs(now / was - 1) > 0.05 for now, was in zip(norms, before, strict=True)]
            if any(changed):
                self.warn_once(
                    "changed text",
                    "the text was changed after RePlan Region Conditioning (averaged or multiplied); the hints were not",
                )
        return hints

    def _edited(self, references: tuple[Grid, ...]) -> int:
        """The number of the edited reference, from 1; 0 without one."""
        if self.edited_reference == 0 or (self.edited_reference == 1 and not references):
            return 0  # regions without any reference are fine: text to image, or a fill model
        if self.edited_reference > len(references):
            raise RegionError(
                f"{NODE}: edited_reference is {self.edited_reference}, but the conditioning has "
                f"{len(references)} reference image{'s' * (len(references) != 1)}; set it to the number of the image "
                "that the boxes are drawn on, counted from 1, or 0 for none"
            )
        return self.edited_reference

    def _check_aspects(self, image_size: tuple[int, int], noise: Grid, edited: Grid | None) -> None:
        for what, grid in (("the latent", noise), (f"reference image {self.edited_reference}", edited)):
            warning = check_aspect(image_size, grid, what) if grid is not None else None
            if warning:
                self.warn_once((image_size, grid), warning)

    def _verify(self, state: CallState, options: dict, blocks: int) -> None:
        """The first call of a run must have reached the host's attention; later ones may be skipped by a cache.

        Some blocks that did not are reported, not refused: skipping a block is what some nodes are for.
        """
        first = False
        with self._lock:
            for run in options.get("uuids") or (id(options.get("sample_sigmas")),):
                first |= run not in self._runs
                self._runs[run] = None
            while len(self._runs) > _KEPT_RUNS:
                self._runs.popitem(last=False)
        if first and state.joint_calls == 0:
            raise RegionError(
                f"{NODE}: the model ran, but its attention never came through the host, so the rules had no "
                "effect. Its blocks use an attention of their own (some quantised loaders do) or another node replaced "
                "the attention override in mid-call; load the model with the host's own loader, or remove that node"
            )

        if first and state.joint_calls < blocks:
            self.warn_once(
                ("blocks", state.joint_calls),
                f"only {state.joint_calls} of the model's {blocks} blocks came through the host's attention; another node "
                "skips or replaces the rest, and in a replaced block the rules have no effect",
            )

    def warn_once(self, key: object, message: str) -> None:
        """Log a warning the first time `key` comes up in the life of this node's rules."""
        with self._lock:
            first = key not in self._warned
            self._warned.add(key)
        if first:
            log.warning("%s: %s.", NODE, message)


def _block_count(base_model) -> int:
    """How many blocks with joint attention the model has, by the names of the three families."""
    names = ("double_blocks", "single_blocks", "transformer_blocks")
    return sum(len(getattr(base_model.diffusion_model, name, ())) for name in names)


def _hints(cond: dict) -> HintCond | None:
    return cond.get("model_conds", {}).get(PAYLOAD_KEY)


def _without_hints(cond: dict) -> dict:
    if not _hints(cond):
        return cond
    return {**cond, "model_conds": {key: value for key, value in cond["model_conds"].items() if key != PAYLOAD_KEY}}


def _hint_tokens(cond: dict) -> int:
    hints = _hints(cond)
    return 0 if hints is None else hints.size()[2]


def _reference_cells(cond: dict) -> int:
    return sum(math.prod(latent.shape[2:]) for latent in cond.get("reference_latents") or ())
