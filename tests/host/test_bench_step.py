"""The benchmark's model steps run in the host, and the plain one sees as many tokens as the one under rules."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))
import bench_step
from bench_timing import Clock


@pytest.mark.parametrize("family", bench_step.FAMILIES)
def test_both_steps_run_over_the_same_tokens(family, monkeypatch):
    import comfy.ldm.flux.math
    import comfy.ldm.qwen_image.model

    seen = []
    for module, name in (
        (comfy.ldm.flux.math, "optimized_attention"),
        (comfy.ldm.qwen_image.model, "optimized_attention_masked"),
    ):
        attention = getattr(module, name)

        def noted(q, k, *args, attention=attention, **kwargs):
            seen.append(k.shape[2])
            return attention(q, k, *args, **kwargs)

        monkeypatch.setattr(module, name, noted)
    device = torch.device("cpu")
    model, layers = bench_step.make_model(family, device, real=False)
    (row,) = bench_step.measure(family, model, layers, [2], 4, Clock(device), 1, 10.0)
    assert len(seen) == 2 * 4  # warm-up and one round, plain and rules, two layers each
    assert set(seen) == {row["tokens"]}
    assert row["plain"] > 0 and row["rules"] > 0
