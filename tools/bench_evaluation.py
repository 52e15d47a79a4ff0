"""What an edit report costs, for tools/bench.py: images of 1024 x 1024 pixels and a plan of three regions."""

from __future__ import annotations

import torch
from bench_timing import Clock, take_turns
from replan.evaluation.report import edit_report
from replan.planner.plan import Region, RegionPlan

SIDE = 1024


def measure(clock: Clock, rounds: int, limit: float) -> list[dict]:
    """Seconds of one report, its image included: outside the regions all as it was, and all changed a little."""
    random = torch.Generator().manual_seed(0)
    before = torch.rand(1, SIDE, SIDE, 3, generator=random)
    boxes = ((64, 64, 448, 448), (512, 128, 960, 384), (256, 576, 768, 960))
    plan = RegionPlan((SIDE, SIDE), regions=tuple(Region(f"r{i}", box, "a red hat") for i, box in enumerate(boxes)))
    kept, edited = before.clone(), (before + 0.02 * torch.randn(before.shape, generator=random)).clamp(0, 1)
    for x1, y1, x2, y2 in boxes:
        kept[:, y1:y2, x1:x2] = edited[:, y1:y2, x1:x2] = 1 - before[:, y1:y2, x1:x2]
    methods = {
        name: lambda after=after: clock(lambda: edit_report(before, after, plan))
        for name, after in (("outside unchanged", kept), ("all changed", edited))
    }
    ran = take_turns(methods, rounds, limit)
    return [{"case": name, "side": SIDE, "seconds": ran.median(name), "rounds": ran.count} for name in methods]
