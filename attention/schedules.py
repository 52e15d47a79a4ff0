"""The schedules of a model call: how its attention is split into groups, and which are kept.

A schedule depends on what tokens the call has and what the rules say of them at its step. `CallTokens` is that, as a
value: equal values share a schedule. Plain numbers and index tensors; nothing here imports ComfyUI.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from .components import build_layout
from .grid import Grid, cover
from .grouped import DeviceSchedule, to_device
from .grouping import schedule_groups
from .payload import HintText
from .rules import Phase, Rules, unknown_cells

# Steps run under a handful of layouts at most: two phases, regions that start and end, cond and uncond.
_KEPT = 16


@dataclass(frozen=True)
class CallTokens:
    """The tokens of some rows of a model call, in the order of `components.Layout`, and the rules' state in it.

    text: the hints' plan and places (`layout` stands for it in comparisons); main: tokens of the main text; hints:
    tokens of each hint, at the model; padding: tokens after them that nobody sees, where other rows of the call have
    more hints; noise, references: the grids of the images; edited: the number of the reference that the regions lie
    on, from 1, or 0; phase, inactive: of this step.
    """

    text: HintText = field(compare=False)
    layout: tuple
    main: int
    hints: tuple[int, ...]
    padding: int
    noise: Grid
    references: tuple[Grid, ...]
    edited: int
    phase: Phase
    inactive: frozenset[int]

    @property
    def text_tokens(self) -> int:
        return self.main + sum(self.hints) + self.padding

    @property
    def reference_tokens(self) -> int:
        return sum(grid.tokens for grid in self.references)

    @property
    def image_tokens(self) -> int:
        return self.noise.tokens + self.reference_tokens


class ScheduleKey(NamedTuple):
    """What a schedule is kept under. queries: of the attention call; lead: tokens that a patch inside the model put
    before the main text; masked: small groups may share masked calls."""

    tokens: CallTokens
    queries: int
    lead: int
    device: torch.device
    masked: bool


class Schedules:
    """The schedules kept for one run under one Rules value, shared by device threads."""

    def __init__(self, rules: Rules, warn: Callable[[str], None]):
        self.rules = rules
        self._warn = warn
        self._kept: OrderedDict[ScheduleKey, DeviceSchedule] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: ScheduleKey) -> DeviceSchedule:
        """The schedule for a key, built when it is first asked for."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        schedule = self._build(key)
        with self._lock:
            self._kept[key] = schedule
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return schedule

    def _build(self, key: ScheduleKey) -> DeviceSchedule:
        tokens, lead = key.tokens, key.lead
        plan = tokens.text.plan
        active = [i not in tokens.inactive for i in range(len(plan.regions))]
        edited = tokens.references[tokens.edited - 1] if tokens.edited else None
        layout = build_layout(
            region_ids=plan.ids,
            main_tokens=tokens.main + lead,
            image_spans=tuple((start + lead, end + lead) for start, end in tokens.text.image_spans),
            hint_tokens=tokens.hints,
            padding_tokens=tokens.padding,
            noise_cover=_only(cover(plan, tokens.noise), active),
            reference_tokens=tuple(grid.tokens for grid in tokens.references),
            edited_reference=tokens.edited,
            edited_cover=None if edited is None else _only(cover(plan, edited), active),
        )
        if plan.regions:
            table = self.rules.table(layout.components, tokens.phase, tokens.inactive)
            unknown = unknown_cells(self.rules, layout.components)
            if unknown:
                self._warn(
                    f"no component of this run matches the rules {', '.join(unknown)}; remove these cells, or name "
                    "regions and references of this run"
                )
        else:  # rows of a conditioning without regions run as without the pack
            table = np.ones((len(layout.components),) * 2, dtype=bool)
        return to_device(schedule_groups(layout, table, key.queries), key.device, key.masked)


def _only(covered: np.ndarray, active: list[bool]) -> np.ndarray:
    covered[[not on for on in active]] = False
    return covered
