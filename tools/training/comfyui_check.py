"""Whether ComfyUI gives the output that the toy world's models were trained to give.

    python tools/training/comfyui_check.py --comfyui .host/comfyui-0.30

Fresh weights from a seed, exported as training exports them, go through ComfyUI's own loaders; its latents, images
and velocities are held against those of the modules that training uses. Says the largest difference of each.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

if not __package__:  # run as a script
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from bench import import_pack

    import_pack()

from replan.tools.toyworld import clip_l
from replan.tools.toyworld import dual_encoder as dual
from replan.tools.toyworld.descriptions import TEXTS
from replan.tools.training import codec, dual_encoder, editor, text_encoder

TOLERANCE = 1e-4


def codec_difference(seed: int = 0) -> float:
    """ComfyUI's VAE against `Codec`: latents as the editor sees them, and decoded images."""
    import comfy.latent_formats
    import comfy.sd

    weights = codec.comfyui_weights(randomised(codec.Codec(), seed).state_dict())
    ours = codec.Codec()
    ours.load_state_dict({key: value.float() for key, value in weights.items() if not key.startswith("vae_")})
    vae = comfy.sd.VAE(sd=weights)
    vae.throw_exception_if_invalid()
    images = torch.rand(1, 64, 80, 3, generator=torch.Generator().manual_seed(seed))
    theirs = vae.encode(images)
    with torch.no_grad():
        latents = ours.encode(images.movedim(-1, 1))
        decoded = ours.decode(latents).clamp(0, 1).movedim(1, -1)
    seen = comfy.latent_formats.Flux().process_in(theirs)
    return max(_largest(seen, latents), _largest(vae.decode(theirs), decoded))


def editor_difference(seed: int = 0) -> float:
    """ComfyUI's Flux, loaded as UNETLoader loads it, against `outputs`, with a pooled vector that must not matter."""
    import comfy.sd

    ours = randomised(editor.make_editor(seed), seed).eval()
    weights = editor.comfyui_weights(ours.state_dict(), torch.float32)
    patcher = comfy.sd.load_diffusion_model_state_dict(weights, model_options={"dtype": torch.float32})
    theirs = patcher.model.diffusion_model
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, 16, 8, 12), (2, 16, 8, 12), (2, 30, editor.TEXT_WIDTH), (2, editor.TEXT_WIDTH))
    noisy, reference, texts, pooled = (torch.randn(shape, generator=generator) for shape in shapes)
    sigma = torch.tensor([0.9, 0.2])
    with torch.no_grad():
        mine = editor.outputs(ours, noisy, reference, texts, sigma)[0]
        host = theirs(noisy, sigma, texts, pooled, ref_latents=[reference])
    return _largest(mine, host)


SAMPLE_TEXTS = ("", "make the red circle blue", "change the colour of every yellow triangle to purple")


def text_difference(comfyui: Path) -> float:
    """ComfyUI's CLIP, loaded as CLIPLoader loads it, against `TextEncoder`, with its padding written out."""
    import comfy.sd

    layers = {name: value.half() for name, value in randomised(text_encoder.TextLayers(), 0).state_dict().items()}
    kind = comfy.sd.CLIPType.STABLE_DIFFUSION
    clip = comfy.sd.load_text_encoder_state_dicts([clip_l.comfyui_weights(layers)], clip_type=kind)
    ours, off = text_encoder.TextEncoder(comfyui, layers), 0.0
    for text in SAMPLE_TEXTS:
        theirs = clip.encode_from_tokens(clip.tokenize(text))[0]
        one = ours.encode(text)
        off = max(off, _largest(torch.repeat_interleave(one.features, one.counts.long(), 0), theirs))
    return off


def dual_difference(comfyui: Path, seed: int = 0) -> float:
    """RePlan Alignment's encoders, around ComfyUI's, against `DualEncoder`: images, texts and the fusion."""
    import comfy.sd
    from comfy.clip_vision import ClipVisionModel
    from replan.evaluation.encoders import ImageEncoder
    from replan.evaluation.encoders import TextEncoder as AlignmentTexts
    from replan.evaluation.fusion import fusion_of

    ours = randomised(dual_encoder.DualEncoder(seed), seed).eval()
    ours.load_state_dict({key: value.half().float() for key, value in ours.state_dict().items()})
    vision, texts, fusion = dual.parts_of({key: value.half() for key, value in ours.state_dict().items()})
    theirs = ClipVisionModel(dual.CONFIG)
    theirs.load_sd(dual.comfyui_vision(vision))
    clip = comfy.sd.load_text_encoder_state_dicts(
        [dual.comfyui_clip_l(texts)], clip_type=comfy.sd.CLIPType.STABLE_DIFFUSION
    )
    pixels = torch.randint(0, 256, (40, 56, 3), generator=torch.Generator().manual_seed(seed)).byte().numpy()
    found = ImageEncoder(theirs)(torch.from_numpy(pixels)[None] / 255)
    fused = fusion_of(dual.comfyui_fusion(fusion), dual.HEADS)(found.tokens, found.tokens, found.grid, found.grid)
    vectors, ends = dual_encoder.text_vectors(text_encoder.TokenVectors(comfyui))
    said = AlignmentTexts(clip)(TEXTS[-1]).pooled
    with torch.no_grad():
        seen = ours.vision(dual_encoder.prepared(pixels)[None])
        tokens, grid = seen.last_hidden_state[:, 1:], (dual.GRID, dual.GRID)
        image = torch.nn.functional.normalize(seen.image_embeds[0], dim=0)
        wanted = ours.fusion(tokens, tokens, grid, grid)
        table = dual_encoder.text_table(ours.texts, vectors, ends)
    meaning = slice(-clip_l.MEANING_WIDTH, None)
    return max(
        _largest(found.pooled[meaning], image), _largest(fused[:, meaning], wanted), _largest(said[meaning], table[-1])
    )


def randomised(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The model with larger weights, so that text, reference and step all show; the pooled vector's stay zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad and value.ndim > 1:
                value.copy_(torch.randn(value.shape, generator=generator) * value[0].numel() ** -0.5)
    return model


def _largest(one: torch.Tensor, two: torch.Tensor) -> float:
    return float((one.detach().cpu() - two.detach().cpu()).abs().max())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", type=Path, required=True, help="the folder of a ComfyUI")
    args = parser.parse_args(arguments)
    if not (args.comfyui / "comfy" / "sd.py").is_file():
        parser.error(f"no ComfyUI at {args.comfyui}")
    sys.path.insert(0, str(args.comfyui.resolve()))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    off = {
        "codec": codec_difference(),
        "editor": editor_difference(),
        "texts": text_difference(args.comfyui),
        "dual": dual_difference(args.comfyui),
    }
    for name, difference in off.items():
        print(f"{name}: largest difference {difference:.1e} ({'as' if difference < TOLERANCE else 'NOT as'} trained)")
    return int(max(off.values()) >= TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
