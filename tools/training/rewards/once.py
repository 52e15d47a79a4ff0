"""One judgement for each reply: several reward functions of a step, and equal replies of a group, share it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Once(Generic[Value]):
    """`score(number, text)`, computed once for each pair among the last `most`; for any thread.

    number: of the record; text: of the reply. What raises is not kept.
    """

    def __init__(self, score: Callable[[Hashable, str], Value], most: int = 4096) -> None:
        self._score, self._most, self._lock = score, most, Lock()
        self._kept: OrderedDict[tuple[Hashable, str], Value] = OrderedDict()

    def __call__(self, number: Hashable, text: str) -> Value:
        key = (number, text)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        value = self._score(number, text)
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return value
