"""Timing and memory for the benchmark: methods taken in turn in one process, medians, and what a call allocates."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

MIN_ROUNDS = 5  # what is left of a case when its share of the time is over


class Rounds(NamedTuple):
    """Seconds of each method, one entry per round; all methods run once in every round."""

    seconds: dict[str, list[float]]

    @property
    def count(self) -> int:
        return min(map(len, self.seconds.values()))

    def median(self, name: str) -> float | None:
        """Median seconds of a method, None when it was not run."""
        return statistics.median(self.seconds[name]) if name in self.seconds else None

    def ratio(self, name: str, other: str) -> float | None:
        """Median over rounds of one method's time over another's in the same round."""
        if name not in self.seconds or other not in self.seconds:
            return None
        return statistics.median(a / b for a, b in zip(self.seconds[name], self.seconds[other], strict=True))


class Clock:
    """Seconds of a call on a device: of the wall, or (`cpu`) of this process on all its threads.

    The second tells little about a GPU, but on a busy machine with one thread it leaves the neighbours out.
    """

    def __init__(self, device: torch.device, kind: str = "wall"):
        self.device = device
        self.now = time.perf_counter if kind == "wall" else time.process_time

    def __call__(self, call: Callable[[], object]) -> float:
        self._wait()
        begun = self.now()
        call()
        self._wait()
        return self.now() - begun

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def take_turns(methods: dict[str, Callable[[], float]], rounds: int, limit: float) -> Rounds:
    """Run every method once to warm up and then `rounds` times, in turn.

    methods: each returns the seconds it took. limit: wall seconds; past it the rounds end, but never before
    MIN_ROUNDS. Every round starts with another method, so that none always follows the same one.
    """
    begun = time.perf_counter()
    names = list(methods)
    for name in names:
        methods[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            if number >= min(MIN_ROUNDS, rounds) and time.perf_counter() - begun > limit:
                break
            for i in range(len(names)):
                name = names[(i + number) % len(names)]
                seconds[name].append(methods[name]())
    finally:
        gc.enable()
    return Rounds(seconds)


def transient_bytes(call: Callable[[], torch.Tensor], device: torch.device) -> int:
    """Peak of what a call has allocated at one time, its result not counted."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before - result.numel() * result.element_size()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as run:
        result = call()
    live = peak = 0
    for event in run.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak - result.numel() * result.element_size()
