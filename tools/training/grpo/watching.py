"""What is seen of a stage while it trains: a line, held-out figures with early stop, sheets of plans, a curve."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from replan.planner.pictures.draw import draw_plan
from transformers import TrainerCallback

from .held_out import HeldOut
from .worlds import plan_of

BEST = "best"  # folder of the planner with the best held-out reward
FIGURES, HISTORY = "figures.jsonl", "history.jsonl"
SHEET, ACROSS, SIDE = 8, 4, 256  # plans of a sheet, of a row of it, and pixels of each


class Progress(TrainerCallback):
    """A line for each logged step, the same rows in history.jsonl, and their curve."""

    def __init__(self, out: Path, groups: int, say: Callable[[str], None]) -> None:
        self.out, self.groups, self.say = out, groups, say
        self._begun, self._first = time.monotonic(), 0

    def on_train_begin(self, args, state, control, **_) -> None:
        self._begun, self._first = time.monotonic(), state.global_step
        if state.is_world_process_zero:
            _cut(self.out / HISTORY, state.global_step)

    def on_log(self, args, state, control, logs=None, **_) -> None:
        if not state.is_world_process_zero or "reward" not in (logs or {}):
            return
        row = {"step": state.global_step, **{name: value for name, value in logs.items() if value is not None}}
        with (self.out / HISTORY).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        draw_curve(self.out / HISTORY, self.out / "reward.png")
        pace = (time.monotonic() - self._begun) / max(1, state.global_step - self._first)
        still = round(self.groups * row.get("frac_reward_zero_std", 0.0))
        parts = [f"{name} {row[name]:.2f}" for name in ("format", "region", "renders", "image") if name in row]
        told = [f"step {state.global_step} of {state.max_steps}", f"reward {row['reward']:.3f}", *parts]
        told += [f"{still} of {self.groups} groups without spread"]
        if row.get("excluded"):
            told.append(f"{row['excluded']:.0%} left out")
        if "kl" in row:
            told.append(f"KL {row['kl']:.4f}")
        left = pace * (state.max_steps - state.global_step)
        self.say(", ".join([*told, f"{pace:.1f} s a step", f"{left / 60:.0f} min left"]))


class Watch(TrainerCallback):
    """Greedy held-out replies every n steps: figures.jsonl, the best planner kept in `best`, early stop (`stopped`).

    answer: gives the HeldOut of this moment; every process calls it, the first one's figures count. save: writes the
    planner to a folder.
    """

    def __init__(
        self, out: Path, answer: Callable[[], HeldOut], save: Callable[[Path], None], measure_every: int,
        stop_after: int, pictures_every: int, say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.out, self.answer, self.save, self.say = out, answer, save, say
        self.measure_every, self.stop_after, self.pictures_every = measure_every, stop_after, pictures_every
        self.stopped = False

    def on_train_begin(self, args, state, control, **_) -> None:
        if state.is_world_process_zero:
            _cut(self.out / FIGURES, state.global_step)
        if state.global_step == 0 and (self.measure_every or self.pictures_every):
            self._measure(state, control)

    def on_step_end(self, args, state, control, **_) -> None:
        if any(every and state.global_step % every == 0 for every in (self.measure_every, self.pictures_every)):
            self._measure(state, control)

    def _measure(self, state, control) -> None:
        step, found = state.global_step, self.answer()
        first = state.is_world_process_zero
        if first and self.pictures_every and step % self.pictures_every == 0:
            folder = self.out / "plans"
            folder.mkdir(exist_ok=True)
            sheet(found).save(folder / f"step_{step:04d}.png")
        if not self.measure_every or step % self.measure_every:
            return
        rows = rows_of(self.out / FIGURES) if first else []
        best = max((row["reward"] for row in rows), default=float("-inf"))
        if first:
            rows.append({"step": step, **found.figures})
            with (self.out / FIGURES).open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            told = ", ".join(f"{name} {value:.3f}" for name, value in found.figures.items())
            self.say(f"held out, step {step}: {told}")
        better, stop = found.figures["reward"] > best, False
        if first and self.stop_after and not better:
            since = len(rows) - 1 - max(range(len(rows)), key=lambda place: rows[place]["reward"])
            stop = since >= self.stop_after
        better, stop = _of_first((better, stop))
        if better and step:
            self.save(self.out / BEST)
        self.stopped = stop
        if stop:
            if first:
                self.say(f"no better for {self.stop_after} measurements: the stage ends at step {step}")
            control.should_training_stop = True


def _of_first(value):
    """What the first process says, in all of them."""
    from accelerate.utils import broadcast_object_list

    told = [value]
    broadcast_object_list(told)
    return told[0]


def rows_of(file: Path) -> list[dict]:
    if not file.is_file():
        return []
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):  # a run that was ended in the midst of a line
            row = json.loads(line)
            found += [row] if isinstance(row, dict) and "step" in row else []
    return found


def _cut(file: Path, step: int) -> None:
    """Forget rows behind the step that a run goes on from."""
    kept = [row for row in rows_of(file) if row["step"] <= step] if step else []
    file.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")


def sheet(found: HeldOut) -> Image.Image:
    """The first plans over their images, each with what was asked above it; a reply without a plan as its text."""
    count = min(SHEET, len(found.prompts))
    rows = -(-count // ACROSS)
    page = Image.new("RGB", (ACROSS * SIDE, rows * (SIDE + 32)), (255, 255, 255))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    for place in range(count):
        prompt, text = found.prompts[place], found.replies[place]
        left, top = place % ACROSS * SIDE, place // ACROSS * (SIDE + 32)
        image = prompt.opened()
        plan = plan_of(prompt, text, image.size)
        shown = draw_plan(image, plan, hints=False) if plan else image.convert("L").convert("RGB")
        shown.thumbnail((SIDE - 4, SIDE - 4))
        page.paste(shown, (left + 2, top + 32))
        pen.multiline_text((left + 4, top + 2), _lines(prompt.instruction), (0, 0, 0), font, spacing=1)
        if plan is None:
            pen.multiline_text((left + 8, top + 60), _lines("no plan: " + text, 34, 8), (200, 0, 0), font)
    return page


def _lines(text: str, width: int = 40, most: int = 2) -> str:
    rows = [text[start : start + width] for start in range(0, len(text), width)]
    return "\n".join(rows[:most])


def draw_curve(file: Path, target: Path, names: Sequence[str] = ("reward",)) -> None:
    """A history's columns over its steps."""
    lines = {name: [(row["step"], row[name]) for row in rows_of(file) if name in row] for name in names}
    draw_lines(lines, target, file.parent.name)


def draw_lines(lines: dict[str, list[tuple[float, float]]], target: Path, title: str) -> None:
    """Several curves of (x, y) in one picture, with their names."""
    colours = ((30, 80, 200), (220, 60, 40), (40, 150, 60), (150, 60, 170), (230, 150, 30), (90, 90, 90))
    width, height, edge = 720, 360, 54
    page = Image.new("RGB", (width, height), (255, 255, 255))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    points = [point for line in lines.values() for point in line]
    if points:
        far = max(x for x, _ in points) or 1
        low, high = min(y for _, y in points), max(y for _, y in points)
        span = (high - low) or 1.0
        pen.rectangle((edge, 30, width - 16, height - 30), outline=(190, 190, 190))
        pen.text((4, 24), f"{high:.3g}", (90, 90, 90), font)
        pen.text((4, height - 44), f"{low:.3g}", (90, 90, 90), font)
        pen.text((width - 60, height - 26), f"step {far:g}", (90, 90, 90), font)
        for place, (name, line) in enumerate(lines.items()):
            colour = colours[place % len(colours)]
            drawn = [
                (edge + (width - 16 - edge) * x / far, height - 30 - (height - 60) * (y - low) / span) for x, y in line
            ]
            if drawn:
                pen.line(drawn if len(drawn) > 1 else drawn * 2, fill=colour, width=2)
            pen.text((edge + 8 + 110 * (place % 6), height - 26), name, colour, font)
    pen.text((edge, 6), title, (0, 0, 0), font)
    page.save(target)
