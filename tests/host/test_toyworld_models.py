"""The toy world's models in ComfyUI: what its loaders make of them is what was trained, and the committed ones edit."""

import numpy as np
import pytest
from replan.tools.toyworld import scoring, weights
from replan.tools.toyworld.editing import Editing
from replan.tools.toyworld.methods import METHODS
from replan.tools.toyworld.tasks import CHANGES
from replan.tools.training import comfyui_check
from replan.tools.training.editor_measure import codec_psnr, load_codec, tasks_of

SEED = 20
SCENES = {"replan": 20, "plain": 8}  # docs/toyworld.md has the figures of 200


@pytest.mark.parametrize("part", ["codec", "editor", "texts", "dual"])
def test_comfyui_gives_what_was_trained(part, comfyui_dir):
    off = {
        "codec": comfyui_check.codec_difference,
        "editor": comfyui_check.editor_difference,
        "texts": lambda: comfyui_check.text_difference(comfyui_dir),
        "dual": lambda: comfyui_check.dual_difference(comfyui_dir),
    }[part]()
    assert off < comfyui_check.TOLERANCE


def test_the_codec_gives_held_out_scenes_back():
    scenes = [task.wanted.pixels for kind in CHANGES for task in tasks_of(kind, 5, 3)]
    assert np.mean(codec_psnr(load_codec(weights.checked(weights.CODEC)), scenes)) >= 32


@pytest.fixture(scope="module")
def edits(server, models_dir, tmp_path_factory):
    """Mean scores of the trained editor over held-out scenes, by method."""
    weights.ensure(models_dir)
    editing = Editing(server, tmp_path_factory.mktemp("toyworld"))
    scores = {}
    for name, count in SCENES.items():
        tasks = [editing.task(METHODS[name], SEED, index) for index in range(count)]
        scores[name] = scoring.mean(scoring.score(task, editing.run(METHODS[name], task).pixels) for task in tasks)
    return scores


def test_region_rules_change_what_is_meant(edits):
    """Hints without effect would leave everything alone; docs/toyworld.md has the figures of more scenes."""
    assert edits["replan"].target >= 0.75
    assert edits["replan"].effect >= 0.5


def test_region_rules_leave_lookalikes_alone(edits):
    assert edits["replan"].lookalikes_changed <= 0.1
    assert edits["plain"].lookalikes_changed >= 0.8


def test_region_rules_keep_what_lies_outside(edits):
    assert edits["replan"].consistency_psnr >= 26
    assert edits["replan"].consistency_psnr >= edits["plain"].consistency_psnr + 6
