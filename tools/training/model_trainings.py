"""The five trainings: codec, texts, editor, planner and dual encoder, each a function that goes on where it stopped.

`train.py` is their command line. After them, what they learn from: the codec's encoder, the text encoder, and the
ComfyUI whose tokenizer numbers the words.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..toyworld.dual_encoder import DUAL
from ..toyworld.weights import CODEC, EDITOR, PLANNER, TEXTS, replace_file
from . import editor
from .codec import Codec, codec_loss, comfyui_weights
from .dual_encoder import TEXT_STEPS, DualEncoder, Pairs, dual_loss, text_table, text_vectors, training_pairs
from .editor_training import EditorWithHeads, editor_loss
from .exported import codec_weights, text_weights, with_new_blocks
from .latents import Batch, Latents
from .planner_batches import Batch as PlannerBatch
from .planner_batches import training_batch
from .planner_model import lesson_processor, lesson_sizes, make_model, save
from .planner_training import PlannerWithHeads, planner_loss
from .run import Run, Settings, TrainingError, submodule_weights
from .samples import ImageBatches, in_order
from .text_encoder import EncodedText, Sentences, TextEncoder, TextLayers, TokenVectors, text_loss, training_sentences

ROOT = Path(__file__).resolve().parents[2]


def train_codec(
    folder: Path,
    settings: Settings,
    device: str = "cpu",
    workers: int = 0,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Train, or go on training, the codec; the exported file once it has reached its last step, else None.

    stop: asked after every step whether to save and leave the rest for another time.
    """
    torch.manual_seed(settings.seed)
    run = Run(folder, settings, Codec().to(device, memory_format=torch.channels_last))
    batches = ImageBatches(settings.seed, settings.batch, settings.size, settings.crop, run.step, settings.steps)

    def loss_of(batch: torch.Tensor, step: int) -> tuple[torch.Tensor, float]:
        generator = torch.Generator().manual_seed(settings.seed * 2**32 + step)
        images = batch.to(device, memory_format=torch.channels_last).float() / 255
        loss = codec_loss(run.model, images, generator)
        return loss.total, loss.psnr

    if not _run_to_end(run, in_order(batches, workers), loss_of, say, stop):
        return None
    return _exported(folder / CODEC, comfyui_weights(run.average), settings, say)


def train_texts(
    folder: Path,
    settings: Settings,
    vectors_of: TokenVectors,
    device: str = "cpu",
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Train, or go on training, the text encoder on sentences; as `train_codec`. A minute or two, 0.8 MiB."""
    run = Run(folder, settings, TextLayers(settings.seed).to(device))

    def loss_of(batch: Sentences, step: int) -> tuple[torch.Tensor, float]:
        return text_loss(run.model, batch.to(device))

    steps = range(run.step, settings.steps)
    batches = (training_sentences(settings.seed, step, settings.batch, vectors_of) for step in steps)
    if not _run_to_end(run, batches, loss_of, say, stop):
        return None
    weights = {name: value.half().cpu().contiguous() for name, value in run.average.items()}
    return _exported(folder / TEXTS, weights, settings, say)


def train_editor(
    folder: Path,
    settings: Settings,
    codec: Path,
    texts: TextEncoder,
    device: str = "cpu",
    shards: int = 40,
    start: Mapping[str, torch.Tensor] | None = None,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Train, or go on training, the editor on the latents of a trained codec's file; as `train_codec`.

    texts: gives features for instructions. shards: of samples in all (`latents.SHARD` each); a run draws from more
    and more of them. start: weights to begin with, of an editor of as many single blocks or fewer (default: fresh ones
    from the seed). Raises TrainingError for a file that is no codec's, and for weights of another editor.
    """
    encode, key = load_encoder(codec, device, settings.half)
    pool = Latents(
        folder / "latents",
        settings.seed,
        settings.size,
        shards,
        max(1, settings.steps // 2 // shards),
        encode,
        key,
    )
    model = editor.make_editor(settings.seed)
    if start is not None:
        model.load_state_dict(with_new_blocks(model, start))
    run = Run(folder, settings, EditorWithHeads(model, settings.seed).to(device))

    def loss_of(batch: Batch, step: int) -> tuple[torch.Tensor, float]:
        generator = torch.Generator().manual_seed(settings.seed * 2**32 + step)
        encoded = EncodedText(*(value.to(device) for value in texts.encode_programs(batch.texts)))
        return editor_loss(run.model, batch.to(device), encoded, generator)

    batches = (pool.batch(step, settings.batch) for step in range(run.step, settings.steps))
    if not _run_to_end(run, batches, loss_of, say, stop):
        return None
    return _exported(folder / EDITOR, editor.comfyui_weights(submodule_weights(run.average, "editor")), settings, say)


def train_planner(
    folder: Path,
    settings: Settings,
    device: str = "cpu",
    start: Mapping[str, torch.Tensor] | None = None,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Train, or go on training, the planner; the folder that RePlan Load Planner reads once it is done, else None.

    start: weights to begin with, for the tokens of `lesson_processor` (default: fresh ones from the seed). The measure
    is the share of box edges that are off by four pixels at most, each told the ones before it.
    """
    processor = lesson_processor()
    sizes = lesson_sizes(processor.tokenizer)
    # A run goes on only with the tokens it began with, and those follow from the pack's templates.
    tokens = hashlib.sha256(processor.tokenizer.backend_tokenizer.to_str().encode()).hexdigest()[:12]
    settings = replace(settings, data=f"tokens {tokens}")
    model = make_model(settings.seed, sizes)
    if start is not None:
        model.load_state_dict(start)
    run = Run(folder, settings, PlannerWithHeads(model, settings.seed).train().to(device))

    def loss_of(batch: PlannerBatch, step: int) -> tuple[torch.Tensor, float]:
        return planner_loss(run.model, batch.to(device))

    steps = range(run.step, settings.steps)
    batches = (training_batch(settings.seed, step, settings.batch, settings.size, processor) for step in steps)
    if not _run_to_end(run, batches, loss_of, say, stop):
        return None
    model = make_model(settings.seed, sizes)
    model.load_state_dict(submodule_weights(run.average, "planner"))
    written = save(model, processor, folder / PLANNER)
    say(f"{written}: {sum(file.stat().st_size for file in written.iterdir()) / 2**20:.1f} MiB")
    return written


def train_dual(
    folder: Path,
    settings: Settings,
    texts: Mapping[str, torch.Tensor],
    vectors_of: TokenVectors,
    device: str = "cpu",
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Train, or go on training, the dual encoder; as `train_codec`. texts: the editor's text layers, to begin with.

    The measure is the share of crops whose nearest text, of all there are, is theirs.
    """
    model = DualEncoder(settings.seed)
    model.texts.load_state_dict(texts)
    run = Run(folder, settings, model.to(device))
    vectors, ends = (value.to(device) for value in text_vectors(vectors_of))

    @functools.cache
    def kept() -> torch.Tensor:
        with torch.no_grad():
            return text_table(run.model.texts, vectors, ends)

    def loss_of(batch: Pairs, step: int) -> tuple[torch.Tensor, float]:
        table = text_table(run.model.texts, vectors, ends) if step < TEXT_STEPS else kept()
        return dual_loss(run.model, Pairs(*(value.to(device) for value in batch)), table)

    steps = range(run.step, settings.steps)
    batches = (training_pairs(settings.seed, step, settings.batch, settings.size) for step in steps)
    if not _run_to_end(run, batches, loss_of, say, stop):
        return None
    weights = {name: value.half().cpu().contiguous() for name, value in run.average.items()}
    return _exported(folder / DUAL, weights, settings, say)


def load_encoder(file: Path, device: str, half: bool) -> tuple[Callable[[torch.Tensor], torch.Tensor], str]:
    """The encoder of an exported codec, (B, 3, H, W) in 0..1 to (B, 16, H/8, W/8), and the file's SHA-256.

    half: compute in bfloat16. Raises TrainingError when the file is no codec's.
    """
    codec = Codec()
    codec.load_state_dict(codec_weights(file))
    codec.to(device, memory_format=torch.channels_last)

    def encode(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=half):
            return codec.encode(images.to(device, memory_format=torch.channels_last)).float()

    return encode, hashlib.sha256(file.read_bytes()).hexdigest()


def vectors_by(comfyui: Path) -> TokenVectors:
    """The tokenizer of a ComfyUI. Raises TrainingError when the folder has none."""
    try:
        return TokenVectors(comfyui)
    except OSError as error:
        raise TrainingError(
            f"{comfyui} is no ComfyUI ({str(error).splitlines()[0]}); give its folder with --comfyui"
        ) from None


def newest_comfyui() -> Path:
    """The ComfyUI that set-up put below the checkout."""
    found = sorted(
        (ROOT / ".host").glob("comfyui-*.*"), key=lambda folder: [int(n) for n in folder.name.split("-")[1].split(".")]
    )
    if not found:
        raise TrainingError(
            "no ComfyUI below .host: run `python tools/host_setup.py` first, or give one with --comfyui"
        )
    return found[-1]


def load_texts(file: Path, comfyui: Path) -> TextEncoder:
    """The text encoder of an exported file. Raises TrainingError when the file or the ComfyUI is none."""
    weights = text_weights(file)
    vectors_by(comfyui)  # raises for a folder without a tokenizer
    return TextEncoder(comfyui, weights)


def _run_to_end(
    run: Run, batches: Iterable, loss_of: Callable, say: Callable[[str], None], stop: Callable[[], bool]
) -> bool:
    """Whether the run has reached its last step; says so when it has not."""
    done = run.train(batches, loss_of, say, stop=stop)
    if not done:
        say(f"stopped at step {run.step} of {run.settings.steps}; the same command goes on from there")
    return done


def _exported(file: Path, weights: dict[str, torch.Tensor], settings: Settings, say: Callable[[str], None]) -> Path:
    """Write a finished run's weights; their file."""
    # One entry: safetensors writes several in any order, and the file's hash would be another each time.
    metadata = {"settings": json.dumps(vars(settings))}
    replace_file(file, lambda part: save_file(weights, part, metadata=metadata))
    say(f"{file}: {file.stat().st_size / 2**20:.1f} MiB, SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()}")
    return file
