"""What a batch costs by itself: time for each item, and memory that grows or does not."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

WARM = 0.1  # of the items: what is made once (modules, threads) is there by then


class Measured:
    """Passes items on, and takes time and memory after the first tenth and at the end."""

    def __init__(self, items: Iterator, total: int) -> None:
        self._items, self._warm = items, int(total * WARM)
        self.count, self.begun, self.ended = 0, time.perf_counter(), 0.0
        self.memory: list[int | None] = []

    def __iter__(self) -> Iterator:
        return self

    def __next__(self):
        if self.count == self._warm:
            self.memory.append(resident())
        try:
            one = next(self._items)
        except StopIteration:
            self.ended = self.ended or time.perf_counter()
            raise
        self.count += 1
        return one

    def line(self) -> str:
        each = (self.ended - self.begun) / max(self.count, 1)
        text = f"{each * 1000:.2f} ms an item"
        now = resident()
        if now is not None and self.memory and self.memory[0] is not None:
            text += f", {(now - self.memory[0]) / 1e6:+.1f} MB between item {self._warm} and item {self.count}"
        return text


def resident() -> int | None:
    """Bytes of memory that this process holds; None where the system does not say."""
    if tracemalloc.is_tracing():
        return tracemalloc.get_traced_memory()[0]
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError, ValueError):
        return None
