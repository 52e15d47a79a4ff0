"""How hints travel: beside a conditioning's text, from the text encoder to the model call.

A hint rides in the conditioning's `model_conds` under `PAYLOAD_KEY`, never in its text tensor, so nodes that
concatenate, average, mask or schedule the text leave it alone, and a model that pads its text does not put the
padding between text and hints. ComfyUI carries the value to the model call, where `wrappers` takes it out and joins it
to the text. It needs no import from ComfyUI: a conditioning value there is whatever has `process_cond`, `can_concat`,
`concat` and `size` (comfy/conds.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from ..planner.plan import RegionPlan

PAYLOAD_KEY = "replan_hints"

HINT_PADDINGS = ("host", "trim", "reference")


class RegionError(ValueError):
    """Regions that cannot be followed as asked; the message says what was found and what to do."""


# A message that names a node already: this one, one that this one runs, or one in whose output the fault lies.
_NAMED = re.compile(r"RePlan [A-Z][A-Za-z ]*: ")


def name_node(error: ValueError, node: str) -> None:
    """Put the node's display name in front of the error's message, unless that names one."""
    if not _NAMED.match(str(error)):
        error.args = (f"{node}: {error}",)


@dataclass(frozen=True)
class HintText:
    """The encoded hints of one conditioning entry and what is known of the text beside them.

    plan: the regions that have a hint here, in hint order (others are dropped before).
    hints: one tensor per region, (1 or B, L_i, C), as the encoder gave it after `padding`.
    text_tokens: length of the main text when the hints were attached; a longer one at the call is fine
        (concatenation, left padding), a shorter one is an error.
    text_norm: Frobenius norm of one row of the main text then (root mean square over a batch); 0 at the call
        means it was zeroed out since.
    image_spans: half-open token ranges of the main text that are images (Qwen's Image Prompt).
    padding: how the hints were padded, one of HINT_PADDINGS.
    use: which text of the regions the hints are, `hint` or `negative_hint`.
    """

    plan: RegionPlan
    hints: tuple[torch.Tensor, ...]
    text_tokens: int
    text_norm: float
    image_spans: tuple[tuple[int, int], ...] = ()
    padding: str = "host"
    use: str = "hint"

    @property
    def layout(self) -> tuple:
        """What must be equal for two entries to share one model call."""
        lengths = tuple(hint.shape[1:] for hint in self.hints)
        places = tuple((r.id, r.box, r.start, r.end, r.mask) for r in self.plan.regions)
        return (self.plan.image_size, places, lengths, self.text_tokens, self.image_spans, self.padding)


# Of a conditioning without regions.
NO_HINTS = HintText(RegionPlan((1, 1)), (), 0, 0.0)


class HintCond:
    """The hints as one of ComfyUI's conditioning values (the protocol of comfy/conds.py).

    batch: rows of the latent; joins: it may share a model call with any other that `joins`, whatever their layouts,
    because something needs the two in one call (`wrappers`). Without hints it stands beside one that has some.
    """

    def __init__(self, text: HintText, batch: int = 1, joins: bool = False):
        self.text = text
        self.batch = batch
        self.joins = joins

    def process_cond(self, batch_size: int, area=None, **_) -> HintCond:
        """Called by ComfyUI at every step, with the batch of the latent and the area it cropped to."""
        if area is not None and self.text.hints:
            raise RegionError(
                "RePlan Region Conditioning: this conditioning is cropped to an area (ConditioningSetArea, or "
                "ConditioningSetMask with 'mask bounds'), and a box cannot be placed in a cropped latent; remove "
                "the area, or use a mask with 'default' bounds"
            )
        return HintCond(self.text, batch_size, self.joins)

    def can_concat(self, other: HintCond) -> bool:
        if not isinstance(other, HintCond):
            return False
        return (self.joins and other.joins) or self.text.layout == other.text.layout

    def concat(self, others: list[HintCond]) -> HintPayload:
        return HintPayload((self, *others))

    def size(self) -> list[int]:
        """(batch, width, tokens), as ComfyUI asks every conditioning value. It counts references only by it, so the
        hints' memory is told at loading instead (`wrappers.RegionRules.account_memory`)."""
        width = self.text.hints[0].shape[2] if self.text.hints else 0
        return [self.batch, width, sum(hint.shape[1] for hint in self.text.hints)]

    def hints_like(self, like: torch.Tensor) -> list[torch.Tensor]:
        """The hints on the device and in the type of `like`, each (batch, L_i, C); moved once, repeated there."""
        return [_to_batch(hint.to(like), self.batch) for hint in self.text.hints]


class HintPayload:
    """The hints of one model call: those of each entry in it, whose batch rows follow one another.

    Taken out of the call's arguments by `wrappers`. If it is still there when ComfyUI prepares the call, the
    model carries no region rules: ComfyUI then asks every argument for its `dtype`
    (model_base.BaseModel._apply_model), which raises. A guard that rides as a hook would do the same, but
    conditioning hooks make ComfyUI give up its dynamic weight loading for the whole run.
    """

    def __init__(self, parts: tuple[HintCond, ...]):
        self.parts = parts

    @property
    def batch(self) -> int:
        return sum(part.batch for part in self.parts)

    @property
    def regions(self) -> int:
        return max(len(part.text.plan.regions) for part in self.parts)

    @property
    def dtype(self):
        count = self.regions
        raise RegionError(
            f"RePlan Region Conditioning: this conditioning carries {count} region{'s' * (count != 1)}, but the "
            "model has no region rules, so the hints would do nothing. Put RePlan Apply Region Rules between "
            "the model loader and the sampler; to compare with a run without regions, set its rules to the "
            "preset 'off', or bypass both nodes"
        )


def _to_batch(tensor: torch.Tensor, batch: int) -> torch.Tensor:
    """Repeat or cut the first axis to `batch` rows, as ComfyUI does for its own conditionings."""
    rows = tensor.shape[0]
    if rows < batch:
        tensor = tensor.repeat((-(-batch // rows), *[1] * (tensor.ndim - 1)))
    return tensor[:batch]
