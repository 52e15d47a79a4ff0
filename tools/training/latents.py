"""Training samples of the editor as latents: each shard of samples is encoded once, kept in the run's folder, and
used again and again with fresh noise. Encoding an image costs more than a step of training on it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..toyworld.scenes import random_state
from .run import ensure_folder
from .samples import before_and_after, sample
from .token_contents import packed_contents

SHARD = 512  # samples in a shard
VARIANTS = 2  # programs on each scene, which share the scene's latent
FIRST = 4  # shards to begin with
TOGETHER = 1 + VARIANTS  # images encoded at once: 20 ms each on two cores, 25 in groups of 24
CELL = 16  # pixels along the side of what an editor's token stands for


class Batch(NamedTuple):
    """sources, targets: (B, 16, h, w), the scenes before and after. texts: the instructions of each sample.

    contents: (6, B, 2, tokens), `packed_contents` of the scene before and of the one after.
    """

    sources: torch.Tensor
    targets: torch.Tensor
    texts: list[tuple[str, ...]]
    contents: torch.Tensor

    def to(self, device: str) -> Batch:
        return self._replace(**{name: value.to(device) for name, value in self._asdict().items() if name != "texts"})


class Latents:
    """The pool that steps draw from. It grows by a shard every `every` steps until it has `most`.

    encode: images (B, 3, size, size) in 0..1 to latents. key: what the latents depend on besides the samples (the
    codec's hash); shards made with another key, or of samples as they were drawn once, are made again.
    """

    def __init__(
        self,
        folder: Path,
        run: int,
        size: int,
        most: int,
        every: int,
        encode: Callable[[torch.Tensor], torch.Tensor],
        key: str,
    ) -> None:
        self.folder, self.run, self.size, self.most, self.every, self.encode = (
            folder,
            run,
            size,
            most,
            every,
            encode,
        )
        self.key = f"{key} {run} {size} {SHARD} {VARIANTS} {_samples_hash(run, size)}"
        self._shards: list[Batch] = []
        ensure_folder(folder)

    def batch(self, step: int, count: int) -> Batch:
        """The samples of a step: the same ones whenever it is asked for."""
        shards = min(self.most, FIRST + step // self.every)
        while len(self._shards) < shards:
            self._shards.append(self._shard(len(self._shards)))
        picks = random_state(self.run, f"step {step}").randint(0, shards * SHARD, count)
        rows = [(self._shards[pick // SHARD], pick % SHARD) for pick in picks]
        return Batch(
            torch.stack([shard.sources[row // VARIANTS] for shard, row in rows]).float(),
            torch.stack([shard.targets[row] for shard, row in rows]).float(),
            [shard.texts[row] for shard, row in rows],
            torch.stack([shard.contents[:, row] for shard, row in rows], 1),
        )

    def _shard(self, index: int) -> Batch:
        """Shard `index`, from its file or made anew. What belongs to a scene is there once: SHARD / VARIANTS."""
        file = self.folder / f"shard_{index:03}.safetensors"
        if shard := self._read(file):
            return shard
        shard = self._encoded(index)
        unfinished = file.with_suffix(".part")
        tensors = {name: value.contiguous() for name, value in shard._asdict().items() if name != "texts"}
        save_file(tensors, unfinished, metadata={"key": self.key, "texts": json.dumps(shard.texts)})
        os.replace(unfinished, file)
        return shard

    def _read(self, file: Path) -> Batch | None:
        """A shard from its file; None when that is missing, cut off, or of another key: it can always be made again."""
        try:
            with safe_open(file, "pt") as kept:
                metadata = kept.metadata() or {}
                if metadata.get("key") != self.key:
                    return None
                tensors = {name: kept.get_tensor(name) for name in ("sources", "targets", "contents")}
        except (OSError, SafetensorError):
            return None
        return Batch(**tensors, texts=[tuple(row) for row in json.loads(metadata["texts"])])

    def _encoded(self, index: int) -> Batch:
        images, texts, tokens = [], [], []
        for number in _scene_numbers(index):
            for variant in range(VARIANTS):
                one = sample(self.run, number, self.size, variant)
                images += [one.target] if variant else [one.source, one.target]
                texts.append(one.texts)
                scenes = before_and_after(self.run, number, self.size, variant)
                tokens.append(np.stack([packed_contents(scene, CELL) for scene in scenes], 1))
        encoded = []
        for first in range(0, len(images), TOGETHER):
            some = torch.from_numpy(np.stack(images[first : first + TOGETHER])).movedim(-1, 1)
            encoded.append(self.encode(some.float() / 255).to("cpu", torch.float16))
        latents = torch.cat(encoded).unflatten(0, (-1, 1 + VARIANTS))
        return Batch(latents[:, 0], latents[:, 1:].flatten(0, 1), texts, torch.from_numpy(np.stack(tokens, 1)))


def _samples_hash(run: int, size: int) -> str:
    """A hash of the first few samples, which changes when samples are drawn in another way."""
    total = hashlib.sha256()
    for number in range(3):
        one = sample(run, number, size)
        total.update(one.source.tobytes() + one.target.tobytes() + repr(one.texts).encode())
    return total.hexdigest()[:12]


def _scene_numbers(index: int) -> range:
    """The numbers of a shard's scenes."""
    scenes = SHARD // VARIANTS
    return range(index * scenes, (index + 1) * scenes)
