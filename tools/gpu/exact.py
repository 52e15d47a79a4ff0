"""Exactness: every family in fp32 and bf16, and with the attention kernels that ComfyUI can be started with."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import torch
from gpu.child import Check, LeftOut
from replan.attention.families import FAMILIES

PRESETS = ("replan", "local_first", "isolated_regions")


def families(check: Check, names: Iterable[str] = tuple(FAMILIES), types=(torch.float32, torch.bfloat16)) -> None:
    """All families the pack knows, two types, three presets; few tokens first, then as many as a kernel splits up."""
    from gpu.compare import Setting

    sides = (6,) if check.small else (6, 32)
    settings = [
        Setting(family, dtype, preset, side, steps=4 if preset == "local_first" else 2)
        for side in sides
        for dtype in types
        for family in names
        for preset in (PRESETS if side == 6 else PRESETS[:1])
    ]
    settings += [Setting(family, torch.bfloat16, steps=2, cfg=3.0, batch=2) for family in names]
    if check.small:
        settings = [s for s in settings if s.preset == "replan" and s.cfg == 1.0]
    for setting in settings:
        _one(check, setting)


def _one(check: Check, setting) -> None:
    import region_models
    from gpu.compare import compare, type_name

    def run() -> dict:
        if setting.family not in region_models.SIZES:
            raise LeftOut("the tests have no reduced model of this family (tests/host/region_models.py)")
        return compare(
            setting, functools.partial(region_models.build, setting.family, device=check.device, dtype=setting.dtype)
        )

    check.case(
        run, family=setting.family, type=type_name(setting.dtype), preset=setting.preset, side=setting.side,
        cfg=setting.cfg, batch=setting.batch,
    )  # fmt: skip


def kernel(check: Check) -> None:
    """Every family in bf16 by the kernel that this part's process was started with, where it is installed."""
    from comfy.ldm.modules import attention
    from gpu.compare import Setting

    used = attention.optimized_attention.__name__
    if check.part not in used:
        raise LeftOut(f"ComfyUI uses {used} all the same")
    check.row({"kernel": check.part, "function": used, "ok": True})
    for side in (6, 32):
        for family in FAMILIES:
            _one(check, Setting(family, torch.bfloat16, side=side))
