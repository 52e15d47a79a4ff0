"""The environment that trains: TRL beside ComfyUI's own torch and transformers, in `.host/train`."""

from __future__ import annotations

from pathlib import Path

from replan.tools.own_environment import ensure_beside

NAME = "train"
# 305 MB with what they need (pyarrow, pandas); nothing of it is in ComfyUI's environment.
PACKAGES = ("trl==1.16.0", "peft==0.21.2", "datasets==5.2.0", "openai==3.57.0")


def training_python() -> Path | str:
    """The Python that has TRL, made on first use; or in words why there is none."""
    return ensure_beside(NAME, PACKAGES)
