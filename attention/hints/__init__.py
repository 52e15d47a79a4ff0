"""Hints: from a plan's texts to a conditioning that carries them. Only this folder knows ComfyUI's text encoders.

`attach` adds the hints of a plan to any conditioning; `recipes` says how one hint becomes tokens and what is kept of
its encoding; each kind of encoder that sees images beside the text has a file of its own (`qwen_edit`).
"""

from .attach import USES, attach_hints
from .qwen_edit import ENCODERS

__all__ = ["ENCODERS", "USES", "attach_hints"]
