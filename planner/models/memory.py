"""What happens when a model does not fit: the error in words that help, and the room given back."""

from __future__ import annotations

from contextlib import contextmanager

import comfy.model_management as management

from ..plan import PlanError


def memory_is_full(error: BaseException) -> bool:
    """Whether an error says that a device or the main memory has no room left (torch has no class for the latter)."""
    return management.is_oom(error) or isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)


@contextmanager
def explaining_full_memory(what: str):
    """Raise a PlanError with the settings that help when `what` runs out of memory inside."""
    try:
        yield
    except Exception as error:
        if not memory_is_full(error):
            raise
        # ComfyUI does this after an error of its own kind, which it does not see in ours.
        management.unload_all_models()
        raise PlanError(
            f"{what} ran out of memory ({str(error).splitlines()[0][:160]}); lower max_megapixels or max_tokens, take "
            "a smaller or quantised model, or set device to 'cpu' on RePlan Load Planner"
        ) from error
