"""What is remembered of one sampling run between its model calls.

A Run is made when a sampler node starts and rides in that run's transformer_options, so it ends with the run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from .rules import Rules
from .schedules import Schedules

RUN_KEY = "replan_run"


class Run:
    """One run of one sampler node; shared by ComfyUI's device threads.

    latent: (height, width) of the run's latent in cells, None for a model call outside a sampler; pairs: whether
    positive and negative must share a model call, because a patch compares them.
    """

    def __init__(self, rules: Rules, tell: Callable[[str], None], latent: tuple[int, int] | None = None):
        self.latent = latent
        self.pairs = False
        self.schedules = Schedules(rules, self.warn)
        self._tell = tell
        self._told: set[str] = set()
        self._seen: set[object] = set()
        self._lock = threading.Lock()

    def warn(self, text: str) -> None:
        """Tell the user, once a run."""
        with self._lock:
            first = text not in self._told
            self._told.add(text)
        if first:
            self._tell(text)

    def first_call_of(self, conditionings: Iterable[object]) -> bool:
        """Whether one of these conditionings comes to the model for the first time (their ids in ComfyUI)."""
        with self._lock:
            new = set(conditionings) - self._seen
            self._seen |= new
        return bool(new)
