"""The toy world's dual encoder: its pairs, its losses, and a training that resumes and is published."""

import math

import pytest
import torch
from replan.tools.toyworld.descriptions import NOTHING, TEXTS
from replan.tools.toyworld.dual_encoder import CONFIG, DUAL
from replan.tools.training.dual_encoder import (
    CROPS,
    DualEncoder,
    dual_loss,
    region_loss,
    scene_loss,
    text_table,
    text_vectors,
    training_pairs,
)  # fmt: skip
from replan.tools.training.exported import dual_weights
from replan.tools.training.model_trainings import newest_comfyui, vectors_by
from replan.tools.training.run import TrainingError
from replan.tools.training.train import STOPPED, main


def test_pairs_are_the_same_each_time_and_an_edit_differs_where_it_was_made():
    one, again = (training_pairs(0, 4, 8, 128) for _ in range(2))
    assert all(torch.equal(value, other) for value, other in zip(one, again, strict=True))
    side = CONFIG["image_size"]
    assert one.wholes.shape == (8, 3, side, side)
    assert one.crops.shape == (8 * CROPS, 3, side, side)
    assert one.scenes.sum(1) == pytest.approx(1)
    assert not torch.equal(training_pairs(1, 4, 8, 128).regions, one.regions)
    first = one.regions.reshape(4, 2, CROPS)[:, :, 0]  # of the source and of its edit
    assert (first[:, 0] != first[:, 1]).sum() >= 3  # "make it plain" may be said of what is plain
    assert TEXTS[0] == NOTHING
    assert TEXTS.index(NOTHING) not in first[:, 0]


def test_the_losses_vanish_where_each_text_is_nearest_to_its_own_image():
    regions = torch.tensor([2, 0, 2, 3])  # one text belongs to two crops, one to none
    own = torch.nn.functional.one_hot(regions, 5).float()
    # Both crops of the same text are right for it: half of the text's share each.
    assert float(region_loss(50 * own, regions)) == pytest.approx(math.log(2) / 3 / 2, abs=1e-4)
    assert float(region_loss(50 * own.flip(0), regions)) > 5
    assert float(scene_loss(50 * torch.eye(4))) == pytest.approx(0, abs=1e-4)
    assert float(scene_loss(torch.zeros(4, 4))) == pytest.approx(math.log(4))


def test_every_part_learns():
    model = DualEncoder(0)
    vectors, ends = text_vectors(vectors_by(newest_comfyui()))
    loss, _ = dual_loss(model, training_pairs(0, 0, 4, 128), text_table(model.texts, vectors, ends))
    loss.backward()
    silent = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    # A layer's last entries of query and key are fixed; keys have no say where a softmax shifts them all alike.
    assert [name for name in silent if not name.endswith(("k.bias", "k_proj.bias"))] == []


def test_it_is_trained_resumed_and_checked_by_one_command(tmp_path, capsys):
    def train(folder, *more):
        words = ["dual", "--folder", str(folder), "--steps", "2", "--batch", "4", "--threads", "1", *more]
        return main(words)

    assert train(tmp_path / "one") == 0
    assert train(tmp_path / "two", "--seconds", "0") == STOPPED
    assert train(tmp_path / "two") == 0
    one, two = ((tmp_path / name / DUAL).read_bytes() for name in ("one", "two"))
    assert one == two
    assert len(one) < 2**20 * 2
    assert set(dual_weights(tmp_path / "one" / DUAL)) == set(DualEncoder(0).state_dict())
    (tmp_path / DUAL).write_bytes(one[:5000])
    with pytest.raises(TrainingError, match="is no trained dual encoder"):
        dual_weights(tmp_path / DUAL)
