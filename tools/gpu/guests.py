"""Region rules beside what else runs on a GPU: LoRA, fp8 weights, weights that stay in RAM, interruption, compiling.

Each is the plain reduced model of `compare`, changed as a user would change it, with ComfyUI's own loader nodes where
there are any.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

import region_models as models
import torch
from gpu.child import Check
from gpu.compare import Setting, compare
from replan.attention.wrappers import add_region_rules

import nodes  # ComfyUI's

# The families that have a tiny checkpoint which ComfyUI's loader accepts (tools/tiny_models.py).
FILES = {"flux": "flux1", "flux2": "flux2"}
FP8 = ("fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")


def guests(check: Check) -> None:
    use_tiny_models(check, *FILES.values(), "lora_flux1")
    for dtype in (torch.float32, torch.bfloat16):
        check.case(lambda dtype=dtype: lora(check, dtype), what="LoRA", type=str(dtype).removeprefix("torch."))
    for family in FILES:
        for weights in FP8:
            check.case(lambda f=family, w=weights: fp8(f, w), what="weights", type=weights, family=family)
    for family in models.FAMILIES:
        check.case(lambda f=family: streamed(check, f), what="no weights on the GPU", family=family)
    check.case(lambda: partly(check), what="half of the weights on the GPU", family="flux")


def use_tiny_models(check: Check, *names: str) -> None:
    """Write tiny checkpoints where ComfyUI's loader nodes find them."""
    import folder_paths
    from replan.tools.tiny_models import ensure_models

    folder = check.work / "models"
    ensure_models(names, folder)
    for name in ("diffusion_models", "text_encoders", "vae", "vae_approx", "loras"):
        folder_paths.add_model_folder_path(name, str(folder / name), is_default=True)
    # Lists made before are kept for a while.
    folder_paths.filename_list_cache.clear()


def lora(check: Check, dtype: torch.dtype) -> dict:
    setting = Setting("flux", dtype)

    def make():
        plain = models.build("flux", device=check.device, dtype=dtype)
        (patched,) = nodes.LoraLoaderModelOnly().load_lora_model_only(plain, "tiny_lora_flux1.safetensors", 1.0)
        if not patched.patches:
            raise AssertionError("the LoRA matched no weight")
        return patched

    # Both orders in a graph: the rules after the LoRA (compared), and before it.
    ruled = add_region_rules(models.build("flux", device=check.device, dtype=dtype), setting.rules(), 1)
    (after,) = nodes.LoraLoaderModelOnly().load_lora_model_only(ruled, "tiny_lora_flux1.safetensors", 1.0)
    row = compare(setting, make)
    other = setting.sample(after, setting.positive())
    row["same_in_both_orders"] = torch.equal(
        setting.sample(add_region_rules(make(), setting.rules(), 1), setting.positive()), other
    )
    return row


def load(family: str, weights: str = "default"):
    (model,) = nodes.UNETLoader().load_unet(f"tiny_{FILES[family]}.safetensors", weights)
    return model


def fp8(family: str, weights: str) -> dict:
    loaded = load(family, weights)
    types = {str(p.dtype) for p in loaded.model.diffusion_model.parameters() if p.ndim > 1}
    computes = loaded.model.manual_cast_dtype or loaded.model.get_dtype()
    row = compare(Setting(family, computes), loaded.clone)
    return {**row, "weights_are": sorted(types), "computes_in": str(computes).removeprefix("torch.")}


# Weights that stay in RAM


@contextmanager
def _memory(**values):
    """ComfyUI's choices about memory, as its command line sets them (--novram, --reserve-vram), for a while."""
    import comfy.model_management as management

    before = {name: getattr(management, name) for name in values}
    management.unload_all_models()
    for name, value in values.items():
        setattr(management, name, value)
    try:
        yield
    finally:
        management.unload_all_models()
        for name, value in before.items():
            setattr(management, name, value)


def streamed(check: Check, family: str) -> dict:
    """--novram: every weight comes over when its layer runs."""
    import comfy.model_management as management

    make = functools.partial(models.build, family, device=check.device, dtype=torch.bfloat16)
    with _memory(vram_state=management.VRAMState.NO_VRAM):
        return _offloaded(Setting(family, torch.bfloat16), make)


def partly(check: Check) -> dict:
    """--reserve-vram so large that about half of a wider model fits."""
    import comfy.model_management as management

    sizes = {} if check.device.type == "cpu" else dict(hidden_size=1024, num_heads=8, depth=4, depth_single_blocks=8)
    make = functools.partial(models.build, "flux", device=check.device, dtype=torch.bfloat16, **sizes)
    management.unload_all_models()
    management.soft_empty_cache()
    reserve = max(0, management.get_free_memory(check.device) - int(0.8 * 2**30) - make().model_size() // 2)
    with _memory(EXTRA_RESERVED_VRAM=reserve):
        return _offloaded(Setting("flux", torch.bfloat16), make)


def _offloaded(setting: Setting, make: Callable[[], object]) -> dict:
    model = add_region_rules(make(), setting.rules(), 1)
    row = compare(setting, make, model)
    setting.sample(model, setting.positive())
    share = model.loaded_size() / model.model_size()
    if str(model.load_device) == "cpu":
        return {**row, "share_loaded": share, "note": "on a CPU nothing is offloaded"}
    return {**row, "share_loaded": share, "ok": row["ok"] and share < 0.9}


# Interruption


def interruption(check: Check) -> None:
    for family in models.FAMILIES:
        check.case(lambda f=family: interrupted(check, f), family=family)


def interrupted(check: Check, family: str) -> dict:
    """Stopped from another thread in a long run: how soon, and whether the next run is as if nothing had been."""
    import comfy.model_management as management

    setting = Setting(family, torch.bfloat16)
    model = add_region_rules(models.build(family, device=check.device, dtype=torch.bfloat16), setting.rules(), 1)
    positive = setting.positive()
    before = setting.sample(model, positive)
    asked: list[float] = []

    def ask() -> None:
        time.sleep(0.5)
        asked.append(time.perf_counter())
        management.interrupt_current_processing(True)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        models.sample(model, positive, None, setting.shape, steps=5000)
        raise AssertionError("the run was not interrupted")
    except management.InterruptProcessingException:
        took = time.perf_counter() - asked[0]
    finally:
        thread.join()
        management.interrupt_current_processing(False)
    same = torch.equal(setting.sample(model, positive), before)
    return {"stopped_after_seconds": took, "same_afterwards": same, "ok": took < 2.0 and same}


# Compiling


def compiled(check: Check) -> None:
    """ComfyUI's own node, backend inductor, after and before the rules, with a switch in mid-run.

    Models of one block of each kind: every block would be compiled anew.
    """
    for after in (True,) if check.small else (True, False):
        for family in models.FAMILIES[: 1 if check.small else None]:
            check.case(lambda f=family, a=after: _compiled(check, f, a), family=family, compiled_after_rules=after)


def _compiled(check: Check, family: str, after: bool) -> dict:
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    setting = Setting(family, torch.float32, "local_first", steps=4)
    torch._dynamo.reset()
    one = {key: 1 for key in ("depth", "depth_single_blocks", "num_layers") if key in models.SIZES[family]}
    make = functools.partial(models.build, family, device=check.device, **one)
    plain = make()
    if after:
        (model,) = TorchCompileModel.execute(add_region_rules(plain, setting.rules(), 1), "inductor")
    else:
        model = add_region_rules(TorchCompileModel.execute(plain, "inductor")[0], setting.rules(), 1)
    begun = time.perf_counter()
    row = compare(setting, make, model)
    return {**row, "first_run_seconds": time.perf_counter() - begun}


# Dynamic VRAM


def dynamic(check: Check) -> None:
    """ComfyUI's default on NVIDIA cards: weights page in as they are used. Its loader gives another ModelPatcher."""
    use_tiny_models(check, *FILES.values(), "lora_flux1")
    for family in FILES:
        for weights in ("default", "fp8_e4m3fn"):
            check.case(lambda f=family, w=weights: _dynamic(f, w), family=family, type=weights)
    check.case(lambda: _dynamic("flux", "default", lora=True), family="flux", type="default", what="LoRA")


def _dynamic(family: str, weights: str, lora: bool = False) -> dict:
    loaded = load(family, weights)
    if lora:
        (loaded,) = nodes.LoraLoaderModelOnly().load_lora_model_only(loaded, "tiny_lora_flux1.safetensors", 1.0)
    computes = loaded.model.manual_cast_dtype or loaded.model.get_dtype()
    row = compare(Setting(family, computes), loaded.clone)
    return {**row, "patcher": type(loaded).__name__, "ok": row["ok"] and loaded.is_dynamic()}
