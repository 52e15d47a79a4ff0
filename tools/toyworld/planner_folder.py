"""A planner's folder: written from weights, read back from a run or a published folder, and told when it is not one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from .planner_model import make_model
from .training import CHECKPOINT, TrainingError, weights_of

WEIGHTS_FILE = "model.safetensors"  # of a folder that transformers wrote
WORDS = "model.embed_tokens.weight"
PUPIL = "planner."  # what a training calls them
HEAD = "lm_head.weight"  # the family ties it to the words, so a file leaves it out


def planner_weights(place: Path, average: bool = False) -> dict[str, torch.Tensor]:
    """The planner's weights in fp32: of a run's folder (`average`: the ones it would publish) or of a written one.

    Raises TrainingError for a folder that is neither, or whose weights are cut off or of another model.
    """
    model = make_model()
    if (place / CHECKPOINT).is_file():
        found = of_planner(weights_of(place, average))
    else:
        try:
            written = load((place / WEIGHTS_FILE).read_bytes())
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"{place} holds no planner ({type(error).__name__}: {error}); "
                f"name a run's folder with {CHECKPOINT}, or a planner's with {WEIGHTS_FILE}"
            ) from None
        head = {HEAD: written[WORDS]} if WORDS in written else {}
        found = {_inner(name): value.float() for name, value in {**head, **written}.items()}
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    given = {name: getattr(value, "shape", None) for name, value in found.items()}
    if wanted != given:
        name = next(name for name in {**wanted, **given} if wanted.get(name) != given.get(name))
        raise TrainingError(
            f"{place} is of another model than planner_model.py makes: {name} is {_spelled(given.get(name))}, wanted {_spelled(wanted.get(name))}"
        )
    return found


def of_planner(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The planner's own weights out of those of a training, which has heads besides."""
    return {name.removeprefix(PUPIL): value for name, value in weights.items() if name.startswith(PUPIL)}


def load_planner(place: Path):
    """The model with the weights that a run would publish, or has published; ready to plan."""
    model = make_model()
    model.load_state_dict(planner_weights(place, average=True))
    return model.eval()


def _inner(name: str) -> str:
    """What the model itself calls a weight; transformers writes the names of the family's published files."""
    if name.startswith("model."):
        return name.replace("model.", "model.language_model.", 1)
    return f"model.{name}" if name.startswith("visual.") else name


def _spelled(shape) -> str:
    return "not there" if shape is None else " x ".join(map(str, shape))
