"""What the check runs, in order: the most telling first, what compiles for long last. Imports nothing heavy."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """One part of the run.

    function: module and function in this folder, called with a `Check`. seconds: its wall time in a run of
    MINUTES (other runs shorten or stretch it); after that it is ended.
    host: choices of ComfyUI's command line that it needs; parts with other choices run in other processes, since
    ComfyUI reads them once. dynamic: with ComfyUI's dynamic VRAM switched on, as its own start does on NVIDIA cards.
    needs: a package without which it is left out.
    """

    name: str
    function: str
    seconds: float
    host: tuple[str, ...] = ()
    dynamic: bool = False
    needs: str = ""


MINUTES = 7.5
HEADING = "== part "  # begins a part's lines in run.log
_PYTORCH = ("use_pytorch_cross_attention",)

PARTS = (
    Part("exact", "exact:families", 90, _PYTORCH),
    Part("graph", "graph:edits", 40, _PYTORCH),
    Part("guests", "guests:guests", 60, _PYTORCH),
    Part("interruption", "guests:interruption", 20, _PYTORCH),
    Part("whole models", "real:models", 110, _PYTORCH),
    Part("attention", "real:attention", 60, _PYTORCH),
    Part("dynamic VRAM", "guests:dynamic", 40, dynamic=True),
    Part("xformers", "exact:kernel", 30, needs="xformers"),
    Part("sage", "exact:kernel", 40, ("use_sage_attention",), needs="sageattention"),
    Part("flash", "exact:kernel", 30, ("use_flash_attention",), needs="flash_attn"),
    Part("compile", "guests:compiled", 80, _PYTORCH),
    Part("flex and varlen", "real:alternatives", 70, _PYTORCH),
)
NAMES = tuple(part.name for part in PARTS)


def part_named(name: str) -> Part:
    return PARTS[NAMES.index(name)]
