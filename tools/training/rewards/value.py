"""A reward as a value, and the text of what a model completed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reward:
    """What one reply earns.

    total: None where it cannot be known, because the judge or the renderer failed; TRL leaves such a reply out of its
        group's mean and spread.
    parts: what it is made of, by name, before weighting: format, content, region; accuracy, non_repeat; stage1, image,
        target, effect, consistency.
    renders: whether stage 2 carries the plan out to have its image judged (the gate).
    """

    total: float | None
    parts: Mapping[str, float] = field(default_factory=dict)
    renders: bool = False

    def named(self, prefix: str = "") -> dict[str, float]:
        """For a log, by the published names: `overall` (left out where it is not known), then PREFIX_PART."""
        overall = {} if self.total is None else {"overall": self.total}
        return overall | {f"{prefix}_{name}" if prefix else name: value for name, value in self.parts.items()}


def reply_text(completion: Any) -> str:
    """The text of a completion: a text, or TRL's list of messages, of which the last counts; "" for anything else."""
    if isinstance(completion, list) and completion:
        completion = completion[-1]
    if isinstance(completion, Mapping):
        completion = completion.get("content")
    if isinstance(completion, list):
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in completion]
        completion = "".join(text for text in texts if isinstance(text, str))
    return completion if isinstance(completion, str) else ""


def plain_values(value: Any) -> Any:
    """A value in lists and numbers of Python's own: columns of parquet come as arrays of numpy, others as tuples."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, (list, tuple)):
        return [plain_values(one) for one in value]
    if isinstance(value, Mapping):
        return {key: plain_values(one) for key, one in value.items()}
    return value


def extra_of(given: Any) -> Mapping[str, Any]:
    """The `extra_info` of a record, also where it is kept as JSON. Raises ValueError for what is no mapping."""
    found = given
    if isinstance(given, str):
        try:
            found = json.loads(given or "{}")
        except (ValueError, RecursionError):
            found = given
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ValueError(
            f"extra_info is a mapping such as {{'image_size': [width, height]}}, found {str(given)[:80]!r}"
        )
    return found
