"""Small models of the three families in this process, regional conditionings for them, and one sampling run.

The models are the host's own classes with random weights, sampled by the host's own samplers. Text is random too:
what is tested here is what the model does with it.
"""

import comfy.model_patcher
import comfy.sample
import comfy.supported_models
import torch
from replan.attention.payload import PAYLOAD_KEY, HintCond, HintText
from replan.planner.plan import Region, RegionPlan
from replan.tools.tiny_models import HIDDEN, TEXT, flux1, flux2, randomise

SIZES = {
    "flux": dict(
        image_model="flux", in_channels=16, out_channels=16, vec_in_dim=TEXT, context_in_dim=TEXT, hidden_size=HIDDEN,
        mlp_ratio=4.0, num_heads=HIDDEN // 128, depth=2, depth_single_blocks=2, axes_dim=[16, 56, 56], theta=10000,
        patch_size=2, qkv_bias=True, guidance_embed=True, txt_ids_dims=[],
    ),
    "flux2": dict(
        image_model="flux2", in_channels=128, out_channels=128, vec_in_dim=None, context_in_dim=TEXT,
        hidden_size=HIDDEN,
        mlp_ratio=3.0, num_heads=HIDDEN // 128, depth=2, depth_single_blocks=2, axes_dim=[32, 32, 32, 32], theta=2000,
        patch_size=1, qkv_bias=False, guidance_embed=False, txt_ids_dims=[3], global_modulation=True, mlp_silu_act=True,
        ops_bias=False, default_ref_method="index", ref_index_scale=10.0,
    ),
    "qwen": dict(
        image_model="qwen_image", in_channels=64, num_layers=2, attention_head_dim=64, num_attention_heads=4,
        joint_attention_dim=TEXT, axes_dims_rope=(16, 24, 24),
    ),
}  # fmt: skip
CONFIGS = {
    "flux": comfy.supported_models.Flux,
    "flux2": comfy.supported_models.Flux2,
    "qwen": comfy.supported_models.QwenImage,
}
FAMILIES = tuple(SIZES)
_built: dict = {}


def build(family: str, device="cpu", dtype=torch.float32, **changes) -> comfy.model_patcher.ModelPatcher:
    """A fresh ModelPatcher of a family. Those of the same sizes are clones of one, as from a loader node, so the host
    takes one's patches off before it puts another's on. device: where it computes; it is kept on the CPU."""
    key = (family, str(device), dtype, repr(sorted(changes.items())))
    if key not in _built:
        sizes = {**SIZES[family], **changes}
        config = CONFIGS[family](dict(sizes))
        config.set_inference_dtype(dtype, None)
        model = config.get_model({}, "")
        if changes or family == "qwen":
            weights = randomise(model.diffusion_model.state_dict(), 7)
        else:
            weights = {"flux": flux1, "flux2": flux2}[family]()
        model.diffusion_model.load_state_dict(weights)
        _built[key] = comfy.model_patcher.ModelPatcher(model.eval(), torch.device(device), torch.device("cpu"))
    return _built[key].clone()


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def latent_shape(family: str, rows: int, cols: int, batch: int = 1) -> tuple[int, ...]:
    """The shape of a latent of rows x cols patches."""
    if family == "flux2":
        return (batch, 128, rows, cols)
    frames = (1,) if family == "qwen" else ()
    return (batch, 16, *frames, 2 * rows, 2 * cols)


def plan_of(boxes, size=(96, 96), **changes) -> RegionPlan:
    return RegionPlan(size, "keep", [Region(f"r{i + 1}", box, f"hint {i}", **changes) for i, box in enumerate(boxes)])


def conditioning(tokens=20, references=(), seed=1, **extra):
    """A conditioning of one entry with random text (1, tokens, TEXT), as a text encode node returns it."""
    values = {"pooled_output": seeded(1, TEXT, seed=seed + 100), "guidance": 2.5, **extra}
    if references:
        values["reference_latents"] = list(references)
    return [[seeded(1, tokens, TEXT, seed=seed), values]]


def with_hints(entries, plan, lengths, seed=50, spans=(), padding="host"):
    """The same conditioning carrying random hints of the given lengths."""
    hints = tuple(seeded(1, n, TEXT, seed=seed + i) for i, n in enumerate(lengths))
    out = []
    for text, values in entries:
        carried = HintText(plan, hints, text.shape[1], float(text.norm()), spans, padding)
        model_conds = {**values.get("model_conds", {}), PAYLOAD_KEY: HintCond(carried)}
        out.append([text, {**values, "model_conds": model_conds}])
    return out


def sample(model, positive, negative, shape, *, steps=2, cfg=1.0, sampler="euler", seed=3, denoise=1.0, **kwargs):
    """Run the host's KSampler on an empty latent; returns the latent."""
    latent = torch.zeros(shape)
    noise = seeded(*shape, seed=seed)
    return comfy.sample.sample(
        model, noise, steps, cfg, sampler, "simple", positive, negative or conditioning(seed=2), latent,
        denoise=denoise, disable_pbar=True,
        seed=seed, **kwargs,
    )  # fmt: skip
