"""Training in the toy world: exactly resumable, refuses what it cannot resume, exports what ComfyUI loads."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from replan.tools.toyworld.scenes import TRAINING_SEEDS
from replan.tools.training import editor, latents
from replan.tools.training.codec import CHANNELS, FLUX_SCALE, FLUX_SHIFT, Codec, comfyui_weights
from replan.tools.training.editor import TEXT_WIDTH, Size, make_editor
from replan.tools.training.model_trainings import load_encoder, newest_comfyui, train_codec, train_editor
from replan.tools.training.run import CHECKPOINT, CURVE, Run, Settings, TrainingError, curve
from replan.tools.training.samples import ImageBatches, in_order, sample
from replan.tools.training.text_encoder import EncodedText, TextLayers
from replan.tools.training.train import STOPPED, main
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
SHORT = Settings("codec", seed=3, steps=4, batch=2, size=64, crop=32, rate=1e-3)


def quiet(_):
    pass


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def after(steps):
    """Says stop at the end of step number `steps` of one call."""
    left = iter(range(steps - 1))
    return lambda: next(left, None) is None


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_training_ends_with_the_same_bytes(tmp_path, workers):
    whole = train_codec(tmp_path / "whole", SHORT, say=quiet)
    assert train_codec(tmp_path / "parts", SHORT, workers=workers, stop=after(1), say=quiet) is None
    assert train_codec(tmp_path / "parts", SHORT, stop=after(2), say=quiet) is None
    parts = train_codec(tmp_path / "parts", SHORT, say=quiet)
    assert parts.read_bytes() == whole.read_bytes()
    runs = [Run(tmp_path / name, SHORT, Codec()) for name in ("whole", "parts")]
    assert runs[0].step == runs[1].step == SHORT.steps
    assert runs[0].history == runs[1].history
    for one, two in zip(runs[0].model.state_dict().values(), runs[1].model.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_training_changes_the_weights_and_another_seed_gives_others(tmp_path):
    file = train_codec(tmp_path / "a", SHORT, say=quiet)
    other = train_codec(tmp_path / "b", dataclasses.replace(SHORT, seed=4), say=quiet)
    torch.manual_seed(SHORT.seed)
    fresh = comfyui_weights(Codec().state_dict())
    trained = load_file(file)
    assert any(not torch.equal(trained[key], fresh[key]) for key in fresh)
    assert file.read_bytes() != other.read_bytes()


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(latents, "SHARD", 4)


class AnyTexts:
    """Any features will do here: whether they are ComfyUI's is asked in tests/host."""

    def encode_programs(self, programs):
        rows = [[len(text) % 7 for text in texts] + [0] * (3 - len(texts)) for texts in programs]
        features = torch.tensor(rows).float()[..., None].expand(-1, -1, TEXT_WIDTH) / 7
        return EncodedText(features, torch.ones(features.shape[:2]))


@pytest.fixture
def small_editor(monkeypatch):
    monkeypatch.setattr(editor, "make_editor", lambda seed: make_editor(seed, Size(1, 1, 2)))


def test_an_interrupted_training_of_the_editor_ends_with_the_same_bytes(tmp_path, small_shards, small_editor):
    codec = train_codec(tmp_path / "codec", SHORT, say=quiet)
    settings = dataclasses.replace(SHORT, kind="editor", crop=64)

    def train(name, **options):
        return train_editor(tmp_path / name, settings, codec, AnyTexts(), shards=5, say=quiet, **options)

    whole = train("whole")
    assert train("parts", stop=after(1)) is None
    (tmp_path / "parts" / "latents" / "shard_001.safetensors").unlink()
    parts = train("parts")
    assert parts.read_bytes() == whole.read_bytes()
    exported = load_file(whole)
    assert {value.dtype for value in exported.values()} == {torch.float16}
    assert not exported["vector_in.in_layer.weight"].any()  # the pooled vector stays without effect
    assert exported["final_layer.linear.weight"].any()


@pytest.mark.parametrize("content", [b"", b"x" * 64, None])
def test_the_editor_wants_a_trained_codec(tmp_path, content):
    file = tmp_path / "codec.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(TrainingError, match="is no trained codec .*train it first"):
        load_encoder(file, "cpu", False)


def test_two_trainings_in_one_folder_are_one_too_many(tmp_path):
    second = Run(tmp_path, SHORT, torch.nn.Linear(2, 2))

    def says(*_):
        with pytest.raises(TrainingError, match="another training is at work in .*name another folder"):
            second.train([None], lambda *_: (second.model.weight.sum(), 0.0), quiet)
        return True

    train_codec(tmp_path, SHORT, stop=says, say=quiet)
    assert second.step == 0 and Run(tmp_path, SHORT, Codec()).step == 1


@pytest.mark.parametrize("change", [lambda state: state.pop("optimizers"), lambda state: state["model"].popitem()])
def test_a_checkpoint_of_an_older_training_is_refused_and_left_alone(tmp_path, change):
    train_codec(tmp_path, SHORT, stop=after(1), say=quiet)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    change(state)
    torch.save(state, tmp_path / CHECKPOINT)
    kept = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(TrainingError, match="older training .*another folder"):
        train_codec(tmp_path, SHORT, say=quiet)
    assert (tmp_path / CHECKPOINT).read_bytes() == kept


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--size", "100"], "a multiple of 16 of at least 64"),
        (["--threads", "-1"], "one thread"),
        (["--workers", "-1"], "workers"),
        (["--rate", "nan"], "learning rate"),
        (["--seed", "4294967296"], "seed"),
        (["--device", "foo"], "--device foo cannot be used"),
        (["--start", "somewhere"], "for editor and planner"),
    ],
)
def test_options_that_cannot_be_are_refused_in_words(tmp_path, capsys, options, said):
    with pytest.raises(SystemExit, match="2"):
        main(["codec", "--folder", str(tmp_path), *options])
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_that_cannot_be_is_refused_in_words(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    assert main(["codec", "--folder", str(tmp_path / "file" / "run"), "--steps", "1"]) == 1
    assert "cannot be created" in capsys.readouterr().err


def test_other_files_make_another_run_of_the_editor(tmp_path, capsys, monkeypatch):
    """Latents of another codec, or more samples, would quietly change what a run learns from."""
    seen = []
    monkeypatch.setattr("replan.tools.training.train.train_editor", lambda folder, settings, *_: seen.append(settings))
    other = train_codec(tmp_path, SHORT, say=quiet)
    for options in ([], ["--shards", "9"], ["--codec", str(other)]):
        main(["editor", "--folder", str(tmp_path / "e"), *options])
    assert len({settings.data for settings in seen}) == 3


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_saves_the_run_after_a_whole_step(tmp_path):
    comfyui = os.environ.get("REPLAN_COMFYUI") or str(newest_comfyui())
    command = [sys.executable, "tools/training/train.py", "texts", "--folder", str(tmp_path), "--comfyui", comfyui]
    process = subprocess.Popen(
        [*command, "--threads", "1", "--steps", "1000000", "--batch", "2"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        encoding="utf-8", env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert "texts: step" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == STOPPED  # so that `train && publish` does not go on
    assert "goes on from there" in rest
    settings = Settings("texts", seed=0, steps=1_000_000, batch=2, size=128, crop=128, rate=1e-3)
    assert Run(tmp_path, settings, TextLayers(0)).step >= 50


def test_a_half_written_checkpoint_leaves_the_old_one_whole(tmp_path):
    train_codec(tmp_path, SHORT, stop=after(2), say=quiet)
    (tmp_path / f"{CHECKPOINT}.part").write_bytes(b"cut")
    assert Run(tmp_path, SHORT, Codec()).step == 2


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 100])
def test_a_damaged_checkpoint_is_refused_by_name_and_left_alone(tmp_path, damage):
    train_codec(tmp_path, SHORT, stop=after(1), say=quiet)
    file = tmp_path / CHECKPOINT
    file.write_bytes(damage(file.read_bytes()))
    damaged = file.read_bytes()
    with pytest.raises(TrainingError, match=r"checkpoint\.pt cannot be read .* move it away"):
        train_codec(tmp_path, SHORT, say=quiet)
    assert file.read_bytes() == damaged


def test_a_run_does_not_resume_under_other_settings(tmp_path):
    train_codec(tmp_path, SHORT, stop=after(1), say=quiet)
    with pytest.raises(TrainingError, match="batch 2, now 4.*another folder"):
        train_codec(tmp_path, dataclasses.replace(SHORT, batch=4), say=quiet)


def test_a_loss_that_is_not_finite_is_an_error_and_is_not_saved(tmp_path):
    run = Run(tmp_path, SHORT, torch.nn.Linear(2, 2))
    with pytest.raises(TrainingError, match="loss is nan at step 0"):
        run.train([None], lambda *_: (run.model.weight.sum() * float("nan"), 0.0), quiet)
    assert not (tmp_path / CHECKPOINT).exists()


def test_the_export_is_what_vae_loader_reads(tmp_path):
    weights = load_file(train_codec(tmp_path, SHORT, say=quiet))
    assert weights["taesd_decoder.1.weight"].shape[1] == CHANNELS  # where ComfyUI reads the number of channels
    assert weights.pop("vae_scale").item() == pytest.approx(FLUX_SCALE)
    assert weights.pop("vae_shift").item() == pytest.approx(FLUX_SHIFT)
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert sum(value.numel() * 2 for value in weights.values()) < 6 * 2**20
    Codec().load_state_dict(weights, strict=True)
    with Image.open(tmp_path / CURVE) as picture:
        assert picture.size == (720, 520)


def test_pictures_keep_their_size_and_other_sizes_are_refused():
    codec = Codec()
    latents = codec.encode(torch.rand(1, 3, 48, 64))
    assert latents.shape == (1, CHANNELS, 6, 8)
    assert codec.decode(latents).shape == (1, 3, 48, 64)
    with pytest.raises(ValueError, match="multiples of 8 pixels, not 60 x 48"):
        codec.encode(torch.rand(1, 3, 48, 60))


def test_batches_are_the_same_wherever_a_run_takes_up_and_with_workers():
    whole = list(in_order(ImageBatches(1, 2, 64, 32, 0, 4), 0))
    assert [batch.shape for batch in whole] == [(2, 3, 32, 32)] * 4
    late = list(in_order(ImageBatches(1, 2, 64, 32, 2, 4), 2))
    assert all(torch.equal(one, two) for one, two in zip(whole[2:], late, strict=True))
    assert not torch.equal(whole[0], whole[1])


def test_a_sample_holds_two_pictures_and_words_and_nothing_else(monkeypatch):
    from replan.tools.training import samples

    seen = []
    real = samples._scene
    monkeypatch.setattr(samples, "_scene", lambda seed, size: seen.append(seed) or real(seed, size))
    drawn = [sample(7, number) for number in range(60)]
    assert drawn[0]._fields == ("source", "target", "texts")
    assert all(seed in TRAINING_SEEDS for seed in seen) and len(set(seen)) == 60
    assert {len(one.texts) for one in drawn} == {1, 2, 3}
    assert 0.05 < sum((one.source == one.target).all() for one in drawn) / 60 < 0.4


def test_the_learning_rate_rises_then_falls():
    settings = dataclasses.replace(SHORT, steps=1000)
    rates = [settings.rate_at(step) for step in range(1000)]
    assert rates[0] < 0.02 * settings.rate
    assert max(rates) == max(rates[90:110]) > 0.95 * settings.rate
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert 0 < rates[-1] < 0.02 * settings.rate


def test_a_curve_can_be_drawn_from_the_first_row_on():
    for history in ([], [(50, 0.5, 20.0)], [(50, 0.5, float("inf")), (100, 0.1, 30.0)]):
        assert curve(history, "codec").size == (720, 520)


@pytest.mark.parametrize(
    "wrong, said",
    [
        (["--batch", "3"], "even batch"),
        (["--steps", "0"], "at least one step"),
        (["--crop", "20"], "multiple of 8"),
        (["--crop", "256"], "up to the scene's 128"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, capsys, wrong, said):
    with pytest.raises(SystemExit):
        main(["codec", "--folder", str(tmp_path), *wrong])
    assert said in capsys.readouterr().err
