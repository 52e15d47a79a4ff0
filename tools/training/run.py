"""A training that can be interrupted at any moment and goes on as if it had not been.

All chance follows from the run's seed and the step's number, so a checkpoint is the weights, their running average,
the optimizer and the step. It is written beside the old one and put in its place in one move.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from PIL import Image, ImageDraw, ImageFont

from .muon import Muon

CHECKPOINT = "checkpoint.pt"
CURVE = "loss.png"
LOCK = "in_use.lock"
ROW = 50  # steps in a row of the history


class TrainingError(RuntimeError):
    """A run that cannot be started or resumed; the message says what to do."""


@dataclass(frozen=True)
class Settings:
    """What a run is made of; a run resumes only under the same. `kind` names what is trained."""

    kind: str
    seed: int
    steps: int
    batch: int
    size: int
    crop: int  # the side of the pieces trained on; `size` for whole scenes
    rate: float  # the highest learning rate
    average: float = 0.999  # decay of the running average of the weights, which is what gets published
    warm_up: int = 100
    muon: bool = False  # for the matrices inside a transformer's blocks: learns more from a step than AdamW
    start: str = ""  # the run whose weights this one began with, and their hash
    data: str = ""  # what the samples depend on besides the seed: other files, and how many samples
    half: bool = False  # bfloat16 where torch's autocast finds it safe: twice as fast on a CPU that has it

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: a short rise, then half a cosine down to a hundredth."""
        rise = min(1.0, (step + 1) / self.warm_up)
        return self.rate * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / self.steps)))


def ensure_folder(folder: Path) -> Path:
    """The folder, created if need be. Raises TrainingError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder} cannot be created ({error.strerror}); name another one") from None
    return folder


class Run:
    """One training in one folder. `average` holds the weights to publish, `history` rows of (step, loss, measure)."""

    def __init__(self, folder: Path, settings: Settings, model: torch.nn.Module) -> None:
        """Take up the folder's checkpoint, or begin. `model`: freshly made from the settings' seed, on its device."""
        self.folder, self.settings, self.model = folder, settings, model
        self.optimizers = _optimizers(model, settings)
        self.average = {key: value.detach().clone() for key, value in model.state_dict().items()}
        self.step = 0
        self.history: list[tuple[int, float, float]] = []
        self.recent: list[tuple[float, float]] = []  # since the last row of the history
        ensure_folder(folder)
        if self.file.exists():
            self._resume()

    @property
    def file(self) -> Path:
        return self.folder / CHECKPOINT

    def _resume(self) -> None:
        try:
            state = torch.load(self.file, map_location="cpu", weights_only=True)
            found = json.loads(state["settings"])
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
            raise TrainingError(
                f"{self.file} cannot be read ({type(error).__name__}); "
                "move it away to begin anew, or put an earlier copy in its place"
            ) from error
        wanted = vars(self.settings)
        if different := [
            f"{key} {found.get(key)!r}, now {wanted[key]!r}" for key in wanted if found.get(key) != wanted[key]
        ]:
            raise TrainingError(
                f"{self.file} is of a run with other settings ({'; '.join(different)}); "
                "give the same ones to resume it, or another folder to begin anew"
            )
        try:
            self.model.load_state_dict(state["model"])
            for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)
            for key, value in state["average"].items():
                self.average[key].copy_(value)
            self.step = state["step"]
            self.history, self.recent = (
                [tuple(row) for row in json.loads(state[key])] for key in ("history", "recent")
            )
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise TrainingError(
                f"{self.file} is of an older training than this code's ({type(error).__name__}); "
                "begin anew in another folder, with --start and the weights it exported"
            ) from error

    def save(self) -> None:
        """Write the checkpoint and the curve; an interruption leaves the old ones whole."""
        state = {
            "settings": json.dumps(vars(self.settings)),
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "history": json.dumps(self.history),
            "recent": json.dumps(self.recent),
        }
        unfinished = self.file.with_name(f"{CHECKPOINT}.part")
        try:
            with open(unfinished, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, self.file)
            curve(self.history, self.settings.kind).save(self.folder / CURVE)
        except (OSError, RuntimeError) as error:  # a full disk: torch's own words for it are a RuntimeError
            unfinished.unlink(missing_ok=True)
            raise TrainingError(f"{self.file} cannot be written ({error}); an earlier one is still whole") from error

    def train(
        self,
        batches: Iterable,
        loss_of: Callable[[object, int], tuple[torch.Tensor, float]],
        say: Callable[[str], None],
        save_every: float = 120.0,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train on the batches from this run's step on; whether it reached its last step.

        loss_of: (batch, step) -> loss and a measure for people. save_every: seconds between checkpoints, the most
        that a crash or a power cut can cost. stop: asked after every step; when it says so, the run is saved.
        """
        try:
            with FileLock(self.folder / LOCK, timeout=0):
                return self._train(batches, loss_of, say, save_every, stop)
        except Timeout:
            raise TrainingError(
                f"another training is at work in {self.folder}; wait for it, or name another folder"
            ) from None

    def _train(
        self,
        batches: Iterable,
        loss_of: Callable[[object, int], tuple[torch.Tensor, float]],
        say: Callable[[str], None],
        save_every: float,
        stop: Callable[[], bool],
    ) -> bool:
        began = saved = time.monotonic()
        reported = -math.inf
        first = self.step
        for batch in batches:
            loss, measure = self._update(batch, loss_of)
            self.recent.append((loss, measure))
            now, done = time.monotonic(), self.step >= self.settings.steps
            if self.step % ROW == 0 or done:
                self.history.append((self.step, *(sum(v) / len(v) for v in zip(*self.recent, strict=True))))
                self.recent = []
                if now - reported > 5 or done:
                    reported = now
                    say(self._progress((now - began) / (self.step - first)))
            if done or stop():
                break
            if now - saved > save_every:
                self.save()
                saved = now
        self.save()
        return self.step >= self.settings.steps

    def _update(
        self, batch: object, loss_of: Callable[[object, int], tuple[torch.Tensor, float]]
    ) -> tuple[float, float]:
        """One step; its loss and measure. A loss that is not finite changes nothing and is an error."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.settings.rate_at(self.step)
        device = next(self.model.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.settings.half):
            loss, measure = loss_of(batch, self.step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"the loss is {value} at step {self.step}; begin anew with a lower rate")
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self._update_average()
        self.step += 1
        return value, measure

    def _update_average(self) -> None:
        decay = min(self.settings.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for key, value in self.model.state_dict().items():
                self.average[key].lerp_(value, 1 - decay)

    def _progress(self, pace: float) -> str:
        step, loss, measure = self.history[-1]
        left = (self.settings.steps - step) * pace
        return (
            f"{self.settings.kind}: step {step} of {self.settings.steps}, loss {loss:.4f}, measure {measure:.2f}, "
            f"{pace:.2f} s a step, {left / 60:.0f} min left"
        )


_BLOCK = re.compile(r"\b(\w*blocks|layers)\.\d")  # where a transformer's blocks are, by the names of its weights


def _optimizers(model: torch.nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """AdamW; with `muon`, Muon for the matrices of blocks, its steps scaled to the size of AdamW's."""
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    hidden = [name for name, value in trained.items() if settings.muon and value.ndim == 2 and _BLOCK.search(name)]
    matrices = [trained.pop(name) for name in hidden]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(trained.values(), settings.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    ]
    if matrices:
        optimizers.append(Muon(matrices, settings.rate, half=settings.half))
    return optimizers


def weights_of(folder: Path, average: bool = False) -> dict[str, torch.Tensor]:
    """The weights (or their average) of a run's checkpoint, to begin another run with."""
    try:
        state = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
        return state["average" if average else "model"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"{folder / CHECKPOINT} cannot be read ({type(error).__name__}); name the folder of a run"
        ) from error


def submodule_weights(weights: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Of a model's state dict, that of its submodule `name`: an editor without its heads, for one."""
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}


def curve(history: list[tuple[int, float, float]], title: str) -> Image.Image:
    """Loss (on a logarithmic scale) and measure over steps, one above the other."""
    width, height, edge = 720, 260, 60
    page = Image.new("RGB", (width, 2 * height), (255, 255, 255))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for place, (name, column) in enumerate((("loss", 1), ("measure", 2))):
        top = place * height + 30
        bottom = (place + 1) * height - 30
        pen.text((edge, top - 24), f"{title}: {name}" + (" (logarithmic)" if column == 1 else ""), (0, 0, 0), font)
        pen.rectangle((edge, top, width - 20, bottom), outline=(190, 190, 190))
        rows = [(row[0], math.log10(max(row[1], 1e-9)) if column == 1 else row[2]) for row in history]
        rows = [row for row in rows if math.isfinite(row[1])]
        if not rows:
            continue
        low, high = min(v for _, v in rows), max(v for _, v in rows)
        span, last = (high - low) or 1.0, max(step for step, _ in rows)
        for value, y in ((high, top), (low, bottom - 14)):
            pen.text((4, y), f"{10**value if column == 1 else value:.4g}", (90, 90, 90), font)
        pen.text((width - 70, bottom + 4), str(last), (90, 90, 90), font)
        points = [
            (edge + (width - 20 - edge) * step / last, bottom - (bottom - top) * (value - low) / span)
            for step, value in rows
        ]
        pen.line(points if len(points) > 1 else points * 2, fill=(30, 80, 200), width=2)
    return page
