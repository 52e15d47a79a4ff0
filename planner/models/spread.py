"""A model over GPU and main memory for one answer, by the library accelerate, which is imported when it is used."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import comfy.model_management as management

from ..plan import PlanError


def need_accelerate() -> Any:
    try:
        import accelerate
    except ImportError as error:
        raise PlanError(
            f"device 'spread' needs the Python package accelerate, which cannot be imported ({error}); install it with "
            "pip, or set device to 'default' or 'cpu'"
        ) from error
    return accelerate


@contextmanager
def spread_out(network: Any, reserve: float):
    """The model over GPU and main memory for one answer, and all of it back in main memory afterwards."""
    accelerate = need_accelerate()
    place = management.get_torch_device()
    size = float(management.module_size(network))
    if place.type == "cpu":
        limits = {"cpu": size * 2}
    else:
        management.free_memory(size + reserve, place)
        room = management.get_free_memory(place) - reserve - management.minimum_inference_memory()
        limits = {place.index or 0: max(0, int(room)), "cpu": int(size * 2)}
    whole = getattr(network, "_no_split_modules", None)
    where = accelerate.infer_auto_device_map(network, max_memory=limits, no_split_module_classes=list(whole or []))
    try:
        accelerate.dispatch_model(network, where, main_device=next(iter(where.values())), force_hooks=True)
        yield place
    finally:
        accelerate.hooks.remove_hook_from_submodules(network)
        # It guards the methods that move a model, once more at each dispatch; without them the class's own are back.
        for method in ("to", "cuda", "npu", "xpu", "mlu", "sdaa", "musa"):
            vars(network).pop(method, None)
        network.to("cpu")
        management.soft_empty_cache()
