"""One judgement for each reply: several reward functions of a step, and equal replies of a group, share it.

A key is (number of the record, text of the reply). What raises is not kept.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")
MOST = 4096


class Once(Generic[Value]):
    """`score(number, text)`, computed once for each pair among the last `most`; for any thread."""

    def __init__(self, score: Callable[[Hashable, str], Value], most: int = MOST) -> None:
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
            _keep(self._kept, key, value, self._most)
        return value


class OnceAsync(Generic[Value]):
    """The same for `await score(number, text)`: a second call while the first runs waits for it.

    For one event loop. None, a judgement that failed, is given to those who wait and then forgotten.
    """

    def __init__(self, score: Callable[[Hashable, str], Awaitable[Value]], most: int = MOST) -> None:
        self._score, self._most = score, most
        self._kept: OrderedDict[tuple[Hashable, str], asyncio.Future[Value]] = OrderedDict()

    async def __call__(self, number: Hashable, text: str) -> Value:
        key = (number, text)
        task = self._kept.get(key)
        if task is None:
            task = asyncio.ensure_future(self._score(number, text))
            task.add_done_callback(lambda done: self._forget(key, done))
            _keep(self._kept, key, task, self._most)
        self._kept.move_to_end(key)
        return await asyncio.shield(task)  # one caller that is cancelled leaves the others their answer

    def _forget(self, key: tuple[Hashable, str], done: asyncio.Future[Value]) -> None:
        failed = done.cancelled() or done.exception() is not None or done.result() is None
        if failed and self._kept.get(key) is done:
            del self._kept[key]


def _keep(kept: OrderedDict, key: Hashable, value: object, most: int) -> None:
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)
