"""The toy world's dual encoder: an image tower and text layers that learn together which text is of which image.

The tower is a CLIP vision model with transformers' (and ComfyUI's) names, the text layers are those of the editor's
text encoder, taught descriptions instead of instructions. Symmetric InfoNCE as in Region in Context: of region crops
and their descriptions, of whole scenes and the mean of their objects', and of regions fused with their scenes.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from replan.evaluation.fusion import GatedFusion
from torch.nn.functional import interpolate, log_softmax, normalize

from ..toyworld.clip_l import MEANING_WIDTH
from ..toyworld.descriptions import NOTHING, TEXTS, object_text
from ..toyworld.dual_encoder import CONFIG, GRID, IMAGE_MEAN, IMAGE_STD
from ..toyworld.edits import KEEP, KINDS, SHRINK, edited, random_program
from ..toyworld.scenes import TRAINING_SEEDS, Scene, random_state, training_scene
from .text_encoder import TextLayers, TokenVectors

CROPS = 3  # of each image
TEXT_STEPS = 100  # after which the texts stay as they are: a step takes half the time then
FUSED_WIDTH, FUSED_HEADS = 64, 4
POOL = 600  # scenes with an edit, which all steps draw from
SCALE = 2.7  # logarithm of what cosines are multiplied with, at the beginning


class DualEncoder(torch.nn.Module):
    """Tower, text layers and fusion, with the scale of their cosines."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            kept = {key: value for key, value in CONFIG.items() if key != "model_type"}
            self.vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**{**kept, "projection_dim": MEANING_WIDTH}))
            self.fusion = GatedFusion(CONFIG["hidden_size"], FUSED_WIDTH, MEANING_WIDTH, FUSED_HEADS, 1)
        self.texts = TextLayers(seed)
        self.scale = torch.nn.Parameter(torch.tensor(SCALE))


class Pairs(NamedTuple):
    """wholes: (B, 3, S, S) and crops: (B * CROPS, 3, S, S), as the tower takes them; a whole's crops are neighbours.

    scenes: (B, TEXTS) how often each text is in a scene, adding up to 1. regions: (B * CROPS,) which text is a crop's.
    """

    wholes: torch.Tensor
    crops: torch.Tensor
    scenes: torch.Tensor
    regions: torch.Tensor


@functools.cache
def _numbers() -> dict[str, int]:
    return {text: number for number, text in enumerate(TEXTS)}


def text_vectors(vectors_of: TokenVectors) -> tuple[torch.Tensor, torch.Tensor]:
    """All texts as `TextLayers` takes them, without padding (TEXTS, L, WIDTH), and where each ends, (TEXTS,)."""
    vectors, ends = zip(*((vectors_of(text)[0], vectors_of.length(text) - 1) for text in TEXTS), strict=True)
    padded = torch.nn.utils.rnn.pad_sequence(vectors, batch_first=True)
    return padded[:, : max(ends) + 1], torch.tensor(ends)


def prepared(pixels: np.ndarray) -> torch.Tensor:
    """(h, w, 3) uint8 to (3, S, S) for the tower: ComfyUI's clip_preprocess without its cut."""
    side = CONFIG["image_size"]
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    if image.shape[-2:] != (side, side):
        image = interpolate(image, size=(side, side), mode="bicubic", antialias=True)
    image = torch.clip(255 * image, 0, 255).round() / 255
    return ((image - torch.tensor(IMAGE_MEAN).view(3, 1, 1)) / torch.tensor(IMAGE_STD).view(3, 1, 1))[0]


def training_pairs(run: int, step: int, count: int, size: int) -> Pairs:
    """The images of a step, always the same ones: `count` scenes, half of them edits of the other half."""
    random = random_state(run, f"run {run}, pairs {step}")
    wholes, crops, scenes, regions = [], [], [], []
    for _ in range(count // 2):
        source, after, shrunk, changed = _edited(run, int(random.randint(POOL)), size)
        # The first crop is of what the edit changes, in both images: they differ in that alone.
        picks = [(changed or source.ids)[random.randint(len(changed or source.ids))]] + [
            source.ids[random.randint(len(source.ids))] for _ in range(CROPS - 1)
        ]
        room = random.uniform(0, 0.25, (CROPS, 4))
        for scene, small in ((source, frozenset()), (after, shrunk)):
            wholes.append(prepared(scene.pixels))
            texts = [object_text(thing, thing.id in small) for thing in scene.objects] or [NOTHING]
            counts = torch.zeros(len(TEXTS))
            for text in texts:
                counts[_numbers()[text]] += 1 / len(texts)
            scenes.append(counts)
            for pick, margins in zip(picks, room, strict=True):
                left, top, right, bottom = _grown(_box(pick, source, after), margins, size)
                crops.append(prepared(scene.pixels[top:bottom, left:right]))
                thing = scene.object(pick) if pick in scene.ids else None
                regions.append(_numbers()[object_text(thing, pick in small)])
    return Pairs(torch.stack(wholes), torch.stack(crops), torch.stack(scenes), torch.tensor(regions))


@functools.lru_cache(maxsize=POOL)
def _edited(run: int, number: int, size: int) -> tuple[Scene, Scene, frozenset[int], tuple[int, ...]]:
    """A scene of the pool and an edit of it; which objects that has shrunk, and which it changed at all."""
    seed = int(random_state(run, f"run {run}, pair {number}").randint(len(TRAINING_SEEDS)))
    source = training_scene(seed, size)
    program = random_program(source, seed, 2, 0.0, [kind for kind in KINDS if kind != KEEP])
    named = [(one.kind, identity) for one in program for identity in one.named(source)]
    shrunk = frozenset(identity for kind, identity in named if kind == SHRINK)
    return source, edited(source, program), shrunk, tuple(sorted({identity for _, identity in named}))


def _box(identity: int, *states: Scene) -> np.ndarray:
    boxes = np.array([state.box(identity) for state in states if identity in state.ids])
    return np.concatenate((boxes.min(0)[:2], boxes.max(0)[2:]))


def _grown(box: np.ndarray, margins: np.ndarray, size: int) -> tuple[int, int, int, int]:
    width, height = box[2] - box[0], box[3] - box[1]
    grown = box + margins * (-width, -height, width, height)
    return tuple(int(edge) for edge in np.clip(np.round(grown), 0, size))


def text_table(layers: TextLayers, vectors: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """The features of all texts, at length 1: (TEXTS, MEANING_WIDTH)."""
    return normalize(layers(vectors)[torch.arange(len(ends)), ends, -MEANING_WIDTH:], dim=-1)


def dual_loss(model: DualEncoder, pairs: Pairs, texts: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The mean of the three InfoNCE losses; also the share of crops whose nearest text is theirs.

    texts: as `text_table` gives them.
    """
    seen = model.vision(torch.cat((pairs.wholes, pairs.crops)))
    count = len(pairs.wholes)
    pooled = normalize(seen.image_embeds, dim=-1)
    tokens = seen.last_hidden_state[:, 1:]
    fused = normalize(
        model.fusion(tokens[count:], tokens[:count].repeat_interleave(CROPS, 0), (GRID, GRID), (GRID, GRID)), dim=-1
    )
    scale = model.scale.clamp(max=4.6).exp()
    scenes = normalize(pairs.scenes @ texts, dim=-1)
    logits = scale * pooled[count:] @ texts.T
    loss = (
        region_loss(logits, pairs.regions)
        + region_loss(scale * fused @ texts.T, pairs.regions)
        + scene_loss(scale * pooled[:count] @ scenes.T)
    )
    return loss / 3, float((logits.argmax(1) == pairs.regions).float().mean())


def region_loss(logits: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """Crops against all texts there are, and each text that is there against all crops. logits: (crops, TEXTS)."""
    to_text = torch.nn.functional.cross_entropy(logits, regions)
    own = torch.nn.functional.one_hot(regions, logits.shape[1]).to(logits)
    there = own.sum(0) > 0
    share = (own / own.sum(0).clamp(min=1))[:, there]
    to_image = -(share * log_softmax(logits[:, there], 0)).sum(0).mean()
    return (to_text + to_image) / 2


def scene_loss(logits: torch.Tensor) -> torch.Tensor:
    """Scenes against the texts of all scenes, both ways. logits: (scenes, scenes)."""
    right = torch.arange(len(logits), device=logits.device)
    entropy = torch.nn.functional.cross_entropy
    return (entropy(logits, right) + entropy(logits.T, right)) / 2
