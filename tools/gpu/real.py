"""Real sizes: time and memory of attention and of whole steps at the widths of Flux.1, FLUX.2 klein and Qwen-Image.

The measuring is the benchmark's own (tools/bench_attention.py, bench_step.py); what is added is the memory of a step
beside what ComfyUI expected it to need. On a CPU the sizes are a few patches, to try the code only.
"""

from __future__ import annotations

import time

import bench_attention
import bench_step
import torch
from bench_timing import Clock
from gpu.child import Check

MIB = 2**20
SIDE = 64  # 1024 x 1024 pixels
ROUNDS = 15


def _shape(check: Check) -> bench_attention.Shape:
    heads, width, dtype = (24, 128, torch.bfloat16) if not check.small else (2, 64, torch.float32)
    return bench_attention.Shape(heads, width, dtype, check.device)


# One attention call


def _cases(check: Check, counts: tuple[int, ...], overlaps: tuple[int, ...] = ()):
    """Cases with the text lengths of each family; 9,216 tokens with 8 hints of 64 is the benchmark's target."""
    side = SIDE if not check.small else 8
    lengths = {family: (text.main, text.hint) for family, text in bench_step.TEXTS.items()} | {"target": (512, 64)}
    for family, (main, hint) in lengths.items():
        for overlap, chosen in ((False, counts), (True, overlaps)):
            for count in chosen:
                yield family, bench_attention.Case(side, count, overlap, hint, main)


def attention(check: Check) -> None:
    counts, overlaps = ((1, 3, 8, 16), (16,)) if not check.small else ((2,), (3,))
    cases = list(_cases(check, counts, overlaps))
    for number, (family, case) in enumerate(cases):
        share = check.left() / (len(cases) - number)
        check.case(lambda c=case, s=share: _attention(check, c, s, others=False), family=family, of="attention")


def alternatives(check: Check) -> None:
    """What needs a compiler, or a kernel that only CUDA has: each family's three regions, and sixteen that overlap."""
    cases = list(_cases(check, (3,), () if check.small else (16,)))
    for number, (family, case) in enumerate(cases):
        # The first compiles for long, the others find most of it done.
        share = check.left() / (2 if number == 0 else len(cases) - number)
        check.case(lambda c=case, s=share: _attention(check, c, s, others=True), family=family, of="attention")


def _attention(check: Check, case: bench_attention.Case, limit: float, others: bool) -> dict:
    shape = _shape(check)
    problem = bench_attention.flex_problem(case.tokens, shape, limit) if others else None
    row = bench_attention.measure(
        case, shape, Clock(check.device), ROUNDS if not check.small else 2, limit, flex=others and problem is None,
        no_masks=not others, varlen=others and check.device.type == "cuda",
    )  # fmt: skip
    note = {"flex_left_out": problem} if problem else {}
    # bf16 keeps 8 bits: an output of some 0.1 to 1 differs in its third digit.
    return {**row, **note, "ok": row["largest_difference"] < (0.05 if shape.dtype is torch.bfloat16 else 1e-5)}


# Whole models


def models(check: Check) -> None:
    bench_step_families = bench_step.FAMILIES
    for number, family in enumerate(bench_step_families):
        limit = check.left() / (len(bench_step_families) - number)
        check.case(lambda f=family, s=limit: _model(check, f, s), family=family, of="model")
        bench_step.forget_models()


def _model(check: Check, family: str, limit: float) -> dict:
    """Make a model at real width, time steps, then measure memory; each figure is a row of its own."""
    real, begun = not check.small, time.perf_counter()
    side, counts = (SIDE, [3, 8]) if real else (8, [2])
    model, layers = bench_step.make_model(family, check.device, real)
    made = time.perf_counter() - begun
    size = sum(p.numel() * p.element_size() for p in model.model.parameters())
    for row in bench_step.measure(
        family, model, layers, counts, side, Clock(check.device), ROUNDS if real else 2, limit / 2
    ):
        check.row({"of": "step", **row})
    for count in counts:
        check.case(lambda c=count: _memory(check, family, model, c, side), of="memory", family=family, regions=count)
    return {"layers": layers, "weights_mib": size / MIB, "made_in_seconds": made}


def _memory(check: Check, family: str, model, count: int, side: int) -> dict:
    """What a step really needs beside the weights, and what ComfyUI expected: plain over the same tokens, and ruled."""
    from replan.attention.rules import Rules
    from replan.attention.wrappers import add_region_rules

    width = bench_step._text_width(model)
    plain, ruled = bench_step.conditionings(family, width, count, side)
    latent = bench_step.latent_of(family, side)
    alone = [[plain[0][0][:, : ruled[0][0].shape[1]], plain[0][1]]]
    # Without hints first: ComfyUI counts no text, so this is how generous its estimate is.
    runs = {
        "without_hints": (model, alone),
        "plain": (model, plain),
        "rules": (add_region_rules(model, Rules(), 1), ruled),
    }
    row: dict = {}
    for name, (chosen, conditioning) in runs.items():
        row[f"{name}_expected_mib"], row[f"{name}_peak_mib"] = _peak(check, chosen, conditioning, latent)
    if row["rules_peak_mib"] is not None:
        more_needed = row["rules_peak_mib"] - row["without_hints_peak_mib"]
        more_expected = row["rules_expected_mib"] - row["without_hints_expected_mib"]
        row |= {"more_needed_mib": more_needed, "more_expected_mib": more_expected}
        row["ok"] = more_expected >= more_needed or row["rules_expected_mib"] >= row["rules_peak_mib"]
    return row


def _peak(check: Check, model, conditioning: list, latent: torch.Tensor) -> tuple[float, float | None]:
    """MiB that ComfyUI expects a run to need beside the weights, and the peak it had (None on a CPU)."""
    import comfy.sample
    import comfy.sampler_helpers
    from comfy.patcher_extension import WrappersMP

    expected: list[float] = []
    peaks: list[float] = []

    def expect(executor, patcher, noise_shape, conds, *args, **kwargs):
        # For one image; ComfyUI would like room for two, positive and negative together.
        _, needed = comfy.sampler_helpers.estimate_memory(patcher, noise_shape, conds)
        expected.append(needed / MIB)
        return executor(patcher, noise_shape, conds, *args, **kwargs)

    def measured(executor, *args, **kwargs):
        if check.device.type == "cpu":
            return executor(*args, **kwargs)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = executor(*args, **kwargs)
        torch.cuda.synchronize()
        peaks.append((torch.cuda.max_memory_allocated() - before) / MIB)
        return result

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "gpu_check", expect)
    model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "gpu_check", measured)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(2))
    negative = [[torch.zeros_like(conditioning[0][0]), {}]]
    comfy.sample.sample(
        model, noise, 1, 1.0, "euler", "simple", conditioning, negative, latent, disable_pbar=True, seed=3
    )
    return expected[0], peaks[0] if peaks else None
